"""What a training's directories say about themselves, and how its result is evaluated."""

from __future__ import annotations

from pathlib import Path

import pytest

from flickbook.errors import RequestError
from flickbook.learn.tuning.adapter import NAME
from flickbook.learn.tuning.record import RECORD, base_of, record, refuse_result


def test_a_model_without_a_record_belongs_to_the_training_around_it(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    assert base_of(model) == base_of(tmp_path) == ""
    record(tmp_path, {"model": "wan-2.1-14b"})
    assert base_of(model) == base_of(tmp_path) == "wan-2.1-14b" and base_of(tmp_path / "clips") == ""
    record(model, {"model": "zeroscope-v2-xl"})
    assert base_of(model) == "zeroscope-v2-xl"
    (model / RECORD).write_text("[]", encoding="utf-8")
    assert base_of(model) == "wan-2.1-14b", "a damaged record is none"


@pytest.mark.parametrize(
    ("base", "result", "message"),
    [
        ("wan-2.1-1.3b", NAME, "holds a LoRA of wan-2.1-1.3b; run `flickbook evaluate wan-2.1-1.3b --lora {}`"),
        ("", NAME, "holds a LoRA; run `flickbook evaluate MODEL --lora {}`"),
        ("builtin", "model/model_index.json", "holds a fine-tuned builtin; run `flickbook evaluate {}/model`"),
        ("builtin", "log.csv", "holds a training of builtin that has not ended; run `flickbook tune` again"),
        ("", "model/model_index.json", ""),
    ],
)
def test_a_result_is_refused_with_the_right_call(base: str, result: str, message: str, tmp_path: Path) -> None:
    if base:
        record(tmp_path, {"model": base})
    (tmp_path / result).parent.mkdir(exist_ok=True)
    (tmp_path / result).touch()
    if not message:
        refuse_result(tmp_path)
        return
    with pytest.raises(RequestError) as refused:
        refuse_result(tmp_path)
    assert message.format(tmp_path) in str(refused.value) and "\n" not in str(refused.value)
