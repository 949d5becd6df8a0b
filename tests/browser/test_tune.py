"""Trainings in the studio: clips are dropped, checked and trained, and the LoRA is used on the tab of films."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.browser.chromium import Seen, jobs

pytestmark = pytest.mark.slow
CLIPS = Path(__file__).parents[2] / "examples" / "clips"


def test_clips_are_checked_and_trained_and_the_lora_is_used(
    seen: Seen, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    panel = seen.backend("Tune")
    lists = tmp_path / "metadata.jsonl"
    lists.write_text(json.dumps({"file_name": "clips/001.mp4", "text": "a red circle"}) + "\n", encoding="utf-8")
    files = [CLIPS / "000.mp4", CLIPS / "000.txt", lists, CLIPS / "001.mp4", CLIPS / "002.mp4"]
    panel.get_by_label("clips and captions").set_input_files(files)
    expect(panel.get_by_text("3 clips, 1 without a caption")).to_be_visible()
    expect(panel.get_by_label("caption of 000.mp4")).to_have_value("a large pink star zigzagging on a blue background")
    expect(panel.get_by_label("caption of 001.mp4")).to_have_value("a red circle")

    seen.expected = ("400",)
    seen.press("Tune")
    expect(panel.get_by_role("alert").filter(visible=True)).to_contain_text("Name of the LoRA: missing")
    panel.get_by_label("Name of the LoRA").fill("zigzag")
    for label, value in (("Updates", "2"), ("Rank", "2")):
        box = panel.get_by_label(f"number input for {label}", exact=True)
        box.fill(value)
        box.press("Tab")
    panel.get_by_role("button", name="More settings").click()
    for label, value in (("Frames of each clip", "4"), ("Clips in each update", "1"), ("Share of clips held out", "0")):
        panel.get_by_label(label).fill(value)
    panel.get_by_label("Prior examples in each update").fill("1")
    panel.get_by_label("Prior prompts, one per line").fill("a red circle\n\n a blue square ")

    seen.press("Check")
    report = panel.locator("flickbook-report")
    report.get_by_text("1 problem in 2 clips").wait_for()
    expect(report.get_by_role("row", name="Trained as")).to_contain_text("128×128, 4 frames (2)")
    expect(report.get_by_role("row", name="002.mp4")).to_contain_text("skipped")
    panel.get_by_label("caption of 002.mp4").fill("a large red circle")
    expect(panel.get_by_text("3 clips", exact=True)).to_be_visible()

    seen.press("Tune")
    panel.get_by_role("button", name="Use it").wait_for()
    (job,) = jobs(seen.url, kind="tune")
    (known,) = tmp_path_factory.getbasetemp().glob("studio[0-9]*/**/prior.txt")
    assert known.read_text(encoding="utf-8").split("\n") == ["a red circle", "a blue square"]
    assert (job["state"], job["lora"]) == ("completed", "zigzag")
    expect(panel.get_by_role("img", name="frames without and with the LoRA zigzag")).to_be_visible()
    seen.press("Use it")
    film = seen.page.get_by_role("tabpanel").filter(visible=True)
    expect(film.get_by_label("LoRAs")).to_have_value("zigzag")
    seen.number("Steps", 2)
    seen.number("Frames", 4)
    seen.press("Make the film")
    for words in ("^[0-9]+ job", "^queue empty$"):
        seen.page.wait_for_function(f"() => /{words}/.test(document.querySelector('flickbook-line').textContent)")
    (made,) = jobs(seen.url, kind="film")
    assert [each["name"] for each in made["plan"]["loras"]] == ["zigzag"]
    seen.tab("Gallery")
    expect(seen.page.get_by_role("button", name="LoRA zigzag:")).to_be_visible()


def test_captions_that_cannot_be_used_are_told(seen: Seen, tmp_path: Path) -> None:
    panel = seen.backend("Tune")
    for name, text in (
        ("metadata.csv", "file_name;text\n000.mp4;a red, round circle\n"),
        ("other.jsonl", json.dumps({"file_name": "000.mp4", "text": ["a red circle", "a circle"]}) + "\n"),
        ("prompts.txt", "a red circle\n"),
        ("000.txt", "a blue star\n"),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
    chosen, alert = panel.get_by_label("clips and captions"), panel.get_by_role("alert").filter(visible=True)
    chosen.set_input_files([CLIPS / "000.mp4", tmp_path / "metadata.csv"])
    expect(panel.get_by_label("caption of 000.mp4")).to_have_value("a red, round circle")
    chosen.set_input_files([tmp_path / "other.jsonl"])
    expect(alert).to_contain_text("other.jsonl has several captions for 000.mp4; keep one")
    chosen.set_input_files([tmp_path / "metadata.csv", tmp_path / "000.txt"])
    expect(alert).to_contain_text("000 has several captions in these files; keep one")
    other = tmp_path / "000.mp4"
    other.write_bytes((CLIPS / "001.mp4").read_bytes())
    chosen.set_input_files([other])
    expect(alert).to_contain_text("There is another clip named 000.mp4 already")
    chosen.set_input_files([tmp_path / "prompts.txt"])
    expect(panel.get_by_text("1 clip; 1 caption without a clip: prompts")).to_be_visible()
    panel.get_by_role("button", name="remove 000.mp4").click()
    expect(panel.get_by_text("No clips yet; 1 caption without a clip: prompts")).to_be_visible()
