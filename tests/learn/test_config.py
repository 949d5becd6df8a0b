"""What a training is: the shipped file, what is refused, and the plan of steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flickbook
from flickbook.errors import RequestError
from flickbook.learn.config import TrainConfig, from_dict, read
from flickbook.learn.session import Session

BUILTIN = Path(flickbook.__file__).parent / "learn" / "builtin.toml"


def test_the_shipped_configuration_is_read() -> None:
    config = read(BUILTIN)
    assert config.steps == sum(stage.steps for stage in config.stages) > 0
    assert all(isinstance(length, int) for stage in config.stages for length in stage.frames)
    assert config.publish_decay in config.ema_decays


def test_plain_values_and_back_through_json(values: dict[str, Any]) -> None:
    config = from_dict(values)
    assert from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert from_dict(config.to_dict()) == config


def test_every_step_belongs_to_a_stage(values: dict[str, Any]) -> None:
    config = from_dict(values)
    found = [(stage.name, place) for stage, place in map(config.stage_at, range(config.steps))]
    assert found == [("stills", i) for i in range(4)] + [("films", i) for i in range(8)]
    with pytest.raises(IndexError):
        config.stage_at(config.steps)


def test_the_learning_rate_warms_up_stays_and_falls(values: dict[str, Any]) -> None:
    config = from_dict(values)
    rates = [config.learning_rate(step) for step in range(config.steps)]
    assert rates[:4] == pytest.approx([0.5e-3, 1e-3, 1e-3, 1e-3])
    assert rates[4:] == pytest.approx([1e-3 * (1 - place / 8) for place in range(8)])


def changed(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """`values` with another value at a dotted path."""
    *parents, last = path.split(".")
    table: Any = values
    for name in parents:
        table = table[int(name)] if name.isdigit() else table[name]
    table[last] = value
    return values


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("sead", 1),
        ("stages.1.step", 1),
        ("autoencoder.croop", 1),
        ("unet.block_out_chanels", [32]),
        ("text_encoder.width", 16),
        ("seed", "one"),
        ("seed", True),
        ("seed", 1.5),
        ("world", {"core": 0}),
        ("world", {"cars": 3}),
        ("world", {}),
        ("autoencoder.world", {"core": "many"}),
        ("autoencoder.frames_per_film", 0),
        ("autoencoder", 3),
        ("betas", [0.9]),
        ("ema_decays", [0.5, "0.9"]),
        ("noise_focus", [0.5, 0.4]),
        ("publish_decay", 0.123),
        ("coverage", 0.1),
        ("coverage", 1.5),
        ("first_film", -1),
        ("first_film", 40_000_000),
        ("emphasis", {"spinning": 0}),
        ("emphasis", {"spinning": "often"}),
        ("stages", []),
        ("stages.0", "stills"),
        ("stages.0.steps", 0),
        ("stages.0.lr", "fast"),
    ],
)
def test_a_wrong_field_is_named(values: dict[str, Any], path: str, value: Any) -> None:
    if path == "stages.0":
        values["stages"][0], where = value, path
    else:
        values, where = changed(values, path, value), path
    with pytest.raises(RequestError) as caught:
        from_dict(values)
    # A stage of no steps is a fault of the stages together.
    assert caught.value.field == ("stages" if path == "stages.0.steps" else where)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


@pytest.mark.parametrize("frames", [{}, {"0": 1.0}, {"17": 1.0}, {"x": 1.0}, {"4": 0.0}, {"4": "half"}])
def test_a_clip_length_is_one_to_sixteen(values: dict[str, Any], frames: dict[str, Any]) -> None:
    values["stages"][0]["frames"] = frames
    with pytest.raises(RequestError, match=r"^stages\.frames=.*1 to 16"):
        from_dict(values)


@pytest.mark.parametrize("name", ["name", "steps", "lr", "frames"])
def test_a_missing_field_of_a_stage_is_named(values: dict[str, Any], name: str) -> None:
    del values["stages"][0][name]
    with pytest.raises(RequestError, match=rf"^stages\.0\.{name}=: missing"):
        from_dict(values)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("unet.act_fn", "gelu"),
        ("unet.norm_num_groups", 7),
        ("text_encoder.hidden_act", "relu"),
        ("scheduler.beta_schedule", "cosine"),
        ("autoencoder.network.block_out_channels", [8]),
    ],
)
def test_a_network_refuses_its_own_table(values: dict[str, Any], path: str, value: Any) -> None:
    with pytest.raises(RequestError) as caught:
        from_dict(changed(values, path, value))
    assert caught.value.field == path.rpartition(".")[0]


@pytest.mark.parametrize("content", [None, b"seed = ", b"\xff\xfe", b"seed = 1\nseed = 2\n"])
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "run.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RequestError, match=r"^config=run\.toml: cannot be read"):
        read(path)


FIELDS = st.sampled_from([*TrainConfig.__dataclass_fields__, "frames", "steps", "network", "block_out_channels", "lr"])
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-40, 40) | st.floats() | st.text(max_size=4) | st.just(1.0),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(FIELDS | st.text(max_size=8), PLAIN, max_size=6))
def test_any_table_is_read_or_refused_by_name(table: dict[str, Any]) -> None:
    try:
        config = from_dict(table)
    except RequestError as error:
        assert error.field is not None
    else:
        assert config.steps > 0


@pytest.mark.slow
def test_the_published_configuration_fits_its_vocabulary(tmp_path: Path) -> None:
    """More words in the world's captions need a larger table in the text encoder."""
    config = read(BUILTIN)
    tokenizer = Session(config, tmp_path).tokenizer()
    ids = {name: config.text_encoder[name] for name in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")}
    size = tokenizer.vocab_size
    assert ids == {"vocab_size": size, "bos_token_id": size - 2, "eos_token_id": size - 1, "pad_token_id": size - 1}
    assert {"panda", "surfing", "crimson", "three"} <= {*(tmp_path / "tokenizer/words.txt").read_text().split()}
