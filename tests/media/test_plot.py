"""Figures: they show the frames and rows they were given, repeat byte for byte, and never leave half a file."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import flickbook
from flickbook.errors import MediaError, OutputError, RequestError
from flickbook.media.plot import sequence_sheet, steps_sheet, training_plot


def previews(steps: int, frames: int = 4) -> list[np.ndarray]:
    """Flat films; red says the step, green the frame."""
    films = np.zeros((steps, frames, 32, 32, 3), np.uint8)
    films[..., 0] = np.linspace(60, 240, steps)[:, None, None, None]
    films[..., 1] = np.linspace(60, 240, frames)[:, None, None]
    return list(films)


def colours(path: Path) -> dict[tuple[int, ...], int]:
    """How many pixels each colour of a picture has."""
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    found, counts = np.unique(pixels, axis=0, return_counts=True)
    return {tuple(map(int, colour)): int(count) for colour, count in zip(found, counts, strict=True)}


def write_run(run: Path, rows: int = 300, adherence: bool = True, bands: int = 8, stages: int = 2) -> Path:
    run.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    names = [f"loss_{i}" for i in range(bands)]
    lines = [",".join(["step", "stage", "clips", "loss", *names, "lr"])]
    for step in range(rows):
        cells = [f"{rng.uniform(0.1, 1):.4f}" if rng.random() < 0.6 else "" for _ in names]
        stage = f"stage{step * stages // rows}"
        lines.append(",".join([str(step), stage, str(step * 32), f"{1 / (1 + step / 50):.4f}", *cells, "0.001"]))
    (run / "log.csv").write_text("\n".join(lines) + "\n")
    if adherence:
        (run / "adherence.csv").write_text(
            "step,clips,colour,motion\n100,3200,0.5,0.25\n200,6400,0.9,\n300,9600,1,0.5\n"
        )
    return run


def test_the_sheet_shows_the_chosen_steps_and_frames(tmp_path: Path) -> None:
    films = previews(20, frames=5)
    path = steps_sheet(
        films, range(1, 21), np.linspace(1, 0, 20).tolist(), tmp_path / "s.png", title="x", rows=3, columns=2
    )
    found = colours(path)
    shown = {tuple(map(int, films[step][frame][0, 0])) for step in (0, 10, 19) for frame in (0, 4)}
    flat = {colour for colour, count in found.items() if count > 5000 and colour != (255, 255, 255)}
    assert flat == shown
    areas = [found[colour] for colour in shown]
    assert max(areas) - min(areas) < 0.05 * max(areas), "all frames are drawn at one size"


def test_frames_are_in_reading_order(tmp_path: Path) -> None:
    films = previews(3, frames=2)
    path = steps_sheet(films, [1, 2, 3], [1, 0.5, 0], tmp_path / "s.png", title="x")
    pixels = np.asarray(Image.open(path).convert("RGB"))
    centres = []
    for step in range(3):
        for frame in range(2):
            where = np.argwhere((pixels == films[step][frame][0, 0]).all(axis=2))
            centres.append(where.mean(axis=0))
    rows, columns = np.array(centres)[:, 0].reshape(3, 2), np.array(centres)[:, 1].reshape(3, 2)
    assert (np.diff(rows, axis=0) > 50).all() and (np.diff(columns, axis=1) > 50).all()


def test_each_step_has_a_row_of_x_t_above_its_x0(tmp_path: Path) -> None:
    films = previews(4, frames=2)
    path = steps_sheet(films[:2], [1, 2], [1, 0.5], tmp_path / "s.png", title="x", noisy=films[2:])
    pixels = np.asarray(Image.open(path).convert("RGB"))
    tops = [np.argwhere((pixels == film[0][0, 0]).all(axis=2)).mean(axis=0)[0] for film in films]
    assert tops[2] < tops[0] < tops[3] < tops[1]
    with pytest.raises(RequestError, match="1 noisy"):
        steps_sheet(films[:2], [1, 2], [1, 0.5], tmp_path / "n.png", title="x", noisy=films[2:3])


def test_titles_of_any_kind_are_drawn(tmp_path: Path) -> None:
    for number, title in enumerate(["from $5 to $9", "$\\frac{$", "long " * 100, "", "scène 雪 \n two lines"]):
        path = steps_sheet(previews(1), [1], [0.3], tmp_path / f"{number}.png", title=title)
        assert Image.open(path).size == Image.open(tmp_path / "0.png").size


def test_one_frame_gives_a_sheet(tmp_path: Path) -> None:
    path = steps_sheet(previews(2, frames=1), [1, 2], [1.0, 0.0], tmp_path / "s.png", title="a still")
    assert Image.open(path).format == "PNG"


def test_mismatched_previews_and_steps_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.png"
    with pytest.raises(RequestError, match="^previews=2 previews, 0 noisy, 1 steps"):
        steps_sheet(previews(2), [1], [1, 0], path, title="")
    with pytest.raises(RequestError, match="^previews=0"):
        steps_sheet([], [], [], path, title="")
    with pytest.raises(RequestError, match="one shape"):
        steps_sheet([previews(1)[0], previews(1, frames=2)[0]], [1, 2], [1, 0], path, title="")
    with pytest.raises(RequestError, match="^frames="):
        steps_sheet([np.zeros((2, 8, 8, 3))], [1], [1], path, title="")
    assert list(tmp_path.iterdir()) == []


def test_a_sheet_is_not_overwritten_by_default(tmp_path: Path) -> None:
    (tmp_path / "s.png").write_text("precious")
    with pytest.raises(OutputError, match="exists already"):
        steps_sheet(previews(1), [1], [0], tmp_path / "s.png", title="")
    assert (tmp_path / "s.png").read_text() == "precious"
    steps_sheet(previews(1), [1], [0], tmp_path / "s.png", title="", overwrite=True)
    assert Image.open(tmp_path / "s.png").format == "PNG" and os.listdir(tmp_path) == ["s.png"]


def sequence(frames: int) -> np.ndarray:
    """Flat frames; red says which."""
    film = np.zeros((frames, 32, 32, 3), np.uint8)
    film[..., 0] = np.linspace(60, 240, frames).round()[:, None, None]
    film[..., 2] = 90
    return film


def test_the_sequence_sheet_has_frames_in_reading_order(tmp_path: Path) -> None:
    film = sequence(30)
    path = sequence_sheet(
        film, [(0, "a"), (29, "b")], [0.9] * 29, tmp_path / "s.png", title="a → b", cells=6, columns=3
    )
    pixels = np.asarray(Image.open(path).convert("RGB"))
    shown = [0, 6, 12, 17, 23, 29]
    centres = np.array([np.argwhere((pixels == film[frame][0, 0]).all(axis=2)).mean(axis=0) for frame in shown])
    rows, columns = centres[:, 0].reshape(2, 3), centres[:, 1].reshape(2, 3)
    assert (rows[1] - rows[0] > 50).all() and (np.diff(columns, axis=1) > 50).all()
    others = [frame for frame in range(30) if frame not in shown]
    assert not any((pixels == film[frame][0, 0]).all(axis=2).sum() > 1000 for frame in others)


def test_the_sequence_curve_depends_on_its_values_and_is_repeatable(tmp_path: Path) -> None:
    film, turns, likeness = sequence(5), [(0, "one"), (4, "two")], [0.9, 0.5, 0.7, 0.95]
    first, same, other = (
        sequence_sheet(film, turns, each, tmp_path / f"{name}.png", title="t").read_bytes()
        for name, each in {"a": likeness, "b": likeness, "c": likeness[::-1]}.items()
    )
    assert first == same != other


@pytest.mark.slow
@pytest.mark.parametrize("frames", [2, 3, 7, 12, 13, 200])
def test_sequences_of_any_length_and_prompt_have_a_sheet(tmp_path: Path, frames: int) -> None:
    turns = [(0, "from $5 to $9 " * 20), (frames - 1, "scène 雪 \n x")]
    path = sequence_sheet(sequence(frames), turns, [0.4] * (frames - 1), tmp_path / "s.png", title="long " * 80)
    with Image.open(path) as image:
        assert image.format == "PNG" and max(image.size) < 2000


def test_mismatched_sequence_data_is_refused(tmp_path: Path) -> None:
    for film, turns, likeness in (
        (sequence(1), [(0, "a")], []),
        (sequence(3), [(0, "a")], [1.0]),
        (sequence(3), [], [1.0, 1.0]),
    ):
        with pytest.raises(RequestError, match="^frames="):
            sequence_sheet(film, turns, likeness, tmp_path / "s.png", title="")
    (tmp_path / "s.png").write_text("precious")
    with pytest.raises(OutputError, match="exists already"):
        sequence_sheet(sequence(3), [(0, "a")], [1.0, 1.0], tmp_path / "s.png", title="")
    assert (tmp_path / "s.png").read_text() == "precious"


def test_the_plot_has_a_panel_for_every_logged_series(tmp_path: Path) -> None:
    heights = []
    for bands, adherence in ((0, False), (8, False), (8, True)):
        run = write_run(tmp_path / f"run-{bands}-{adherence}", bands=bands, adherence=adherence)
        heights.append(Image.open(training_plot(run, run / "training.png")).height)
    assert heights[0] < heights[1] < heights[2]


def test_the_plot_depends_on_its_values_and_is_repeatable(tmp_path: Path) -> None:
    first = training_plot(write_run(tmp_path / "a"), tmp_path / "a.png").read_bytes()
    assert training_plot(write_run(tmp_path / "a"), tmp_path / "a.png").read_bytes() == first
    log = tmp_path / "a" / "log.csv"
    for old, new in (("stage1", "stage2"), ("0.9,\n", "0.1,\n")):
        for path in (log, tmp_path / "a" / "adherence.csv"):
            path.write_text(path.read_text().replace(old, new))
        changed = training_plot(tmp_path / "a", tmp_path / "a.png").read_bytes()
        assert changed != first
        first = changed


def test_damaged_lines_of_a_log_are_skipped(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    whole = training_plot(run, tmp_path / "whole.png").read_bytes()
    with open(run / "log.csv", "ab") as file:
        file.write(b"300,stage1,\n\xff\xfe\0,,,\nnan,nan,nan,nan\n")
    with open(run / "adherence.csv", "a") as file:
        file.write("400,")
    assert training_plot(run, tmp_path / "damaged.png").read_bytes() == whole


@pytest.mark.parametrize("rows", [1, 2, 3, 5000])
def test_runs_of_any_length_are_plotted(tmp_path: Path, rows: int) -> None:
    run = write_run(tmp_path / "run", rows=rows)
    assert Image.open(training_plot(run, tmp_path / "plot.png")).format == "PNG"


@pytest.mark.parametrize("text", [None, "", "step,clips,loss\n", "step,loss\n1,2\n", "clips,loss\n1,\n"])
def test_a_run_without_rows_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "log.csv").write_text(text)
    with pytest.raises(MediaError, match=r"log\.csv: holds no rows"):
        training_plot(tmp_path, tmp_path / "plot.png")
    assert not (tmp_path / "plot.png").exists()


def test_media_works_without_matplotlib_and_codecs(tmp_path: Path) -> None:
    """A machine that only trains has neither: sheets work, figures name the extra to install, nothing is written."""
    script = """
        import sys
        sys.modules.update({"matplotlib": None, "av": None})
        import numpy as np
        from flickbook.errors import MissingExtra
        from flickbook.media.plot import steps_sheet
        from flickbook.media.sheet import contact_sheet
        film = np.zeros((2, 8, 8, 3), np.uint8)
        contact_sheet([film], ["x"])
        try:
            steps_sheet([film], [1], [0.5], "s.png", title="x")
        except MissingExtra as error:
            print(error)
        """
    environment = {**os.environ, "PYTHONPATH": str(Path(flickbook.__path__[0]).parent)}
    words = [sys.executable, "-c", textwrap.dedent(script)]
    result = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert result.stdout == 'matplotlib: not installed; run `pip install "flickbook[gen]"`\n', result.stderr
    assert list(tmp_path.iterdir()) == []
