"""The coverage curve of several reports."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from flickbook.errors import MediaError
from flickbook.learn.evaluation.coverage import main, table


def report(path: Path, coverage: float, seen: float, unseen: float) -> Path:
    groups = {
        group: {"all correct": {"share": share, "low": share - 0.1, "high": share + 0.1, "total": 100}}
        for group, share in (("core", seen), ("core held out", unseen))
    }
    path.write_text(json.dumps({"model": path.stem, "coverage": coverage, "groups": groups}), encoding="utf-8")
    return path


def test_the_curve_is_drawn_by_coverage(tmp_path: Path) -> None:
    half, quarter = report(tmp_path / "half.json", 0.5, 0.9, 0.7), report(tmp_path / "quarter.json", 0.25, 0.8, 0.3)
    points = main([half, quarter], tmp_path / "out")
    assert [each["model"] for each in points] == ["quarter", "half"]
    assert points[0]["unseen"]["share"] == pytest.approx(0.7) and points[0]["unseen"]["low"] == pytest.approx(0.6)
    text = (tmp_path / "out/coverage.md").read_text(encoding="utf-8")
    assert text == table(points)
    assert "| quarter | 25.0 % | 20.0 % (10.0 % to 30.0 %; 100) | 70.0 % (60.0 % to 80.0 %; 100) |" in text
    assert "| 6 of 60 | 3.0 % | 67.0 % |" in text, "the study to compare with"
    picture = ElementTree.parse(tmp_path / "out/coverage.svg").getroot()
    assert len(picture.findall(".//{*}polyline")) == 3 and len(picture.findall(".//{*}circle")) == 7


@pytest.mark.parametrize(
    "content", ["", "[]", '{"groups": {}}', '{"model": "m", "coverage": 1, "groups": {"core": 1}}']
)
def test_what_is_no_report_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(MediaError, match="is no report"):
        main([path], tmp_path / "out")
    with pytest.raises(MediaError, match="No such file"):
        main([tmp_path / "absent.json"])
    assert not (tmp_path / "out").exists()
