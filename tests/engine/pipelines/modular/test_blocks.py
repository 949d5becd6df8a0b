"""Steps of modular pipelines are reported from within their loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.tiny import h3, ltx25

from flickbook.engine.pipelines.modular.blocks import BLOCKS, reporting


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parts", "call"),
    [
        ("MiniMaxH3ModularPipeline", lambda: h3().pipe, {"num_frames": 124, "num_inference_steps": 3}),
        ("LTX25ModularPipeline", ltx25, {"num_frames": 9, "num_inference_steps": 2, "max_sequence_length": 16}),
    ],
)
def test_each_step_is_reported_and_the_blocks_are_left_as_they_were(
    name: str, parts: Callable[[], Any], call: dict[str, int]
) -> None:
    torch.manual_seed(0)
    made, steps = BLOCKS[name]().init_pipeline(), list[int]()
    known = {each.name for each in made.blocks.expected_components}
    made.update_components(
        **{key: part for key, part in parts().components.items() if part is not None and key in known}
    )
    made.set_progress_bar_config(disable=True)
    before = str(made._blocks)
    with reporting(made._blocks, lambda: steps.append(1)):
        made(prompt="a cat", height=32, width=32, output=["videos"], output_type="np", **call)
    assert len(steps) == 2
    assert str(made._blocks) == before


def test_ltx_2_5_is_decoded_by_its_autoencoder() -> None:
    """Its diffusion decoder would need kernels that are downloaded as code."""
    parts = {each.name for each in BLOCKS["LTX25ModularPipeline"]().expected_components}
    assert "vae" in parts
    assert not parts & {"diffusion_decoder", "prompt_enhancer", "processor", "duration_head"}
