"""The window in this process, on a true queue and on a true service: and that it never stops to answer."""

from __future__ import annotations

import time
import tkinter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.desktop.conftest import QUICK, until
from tests.server.live import live
from tests.server.tuning.uploads import CLIPS
from tests.server.working import working

from flickbook.desktop.sources.local import Local
from flickbook.desktop.sources.remote import Remote
from flickbook.desktop.sources.source import Entry, Source
from flickbook.desktop.stage import Stage
from flickbook.desktop.window import SMALLEST, Window
from flickbook.jobs.backend import Backend
from flickbook.jobs.create import tuning
from flickbook.resolution import resolve
from flickbook.spec import Request

Open = Callable[[Source], Any]


@pytest.fixture
def window(root: Any, place: Path) -> Iterator[Open]:
    """A window on a source, once that is open."""
    made: list[Window] = []

    def opened(source: Source) -> Window:
        made.append(Window(root, source, lambda: Local(workers=0)))
        until(
            lambda: made[0].message.cget("text") not in ("Opening…", f"Connecting to {source.title}…"),
            lambda: round_(root),
        )
        return made[0]

    yield opened
    for each in made:
        each.close()
        until(lambda: _gone(root), lambda: _gone(root) or round_(root))


def round_(root: Any) -> None:
    """Have Tk do what there is to do, and leave some of the processor to those who make the film."""
    root.update()
    time.sleep(0.01)


def _gone(root: Any) -> bool:
    try:
        return not root.winfo_exists()
    except tkinter.TclError:
        return True


def say(window: Window, prompt: str = "a red circle moving left", **numbers: str) -> None:
    window.form.say(prompt)
    for name, text in {**QUICK, **numbers}.items():
        window.form.fields[name].delete(0, "end")
        window.form.fields[name].insert(0, text)


def played(window: Window) -> bool:
    entry = window.stage.entry
    return entry is not None and entry.made and window.stage.player.playing


def pause(window: Window, root: Any) -> Entry:
    """Pause what is on the stage, in the middle of its steps, and return how it was shown before."""
    stage = window.stage
    until(
        lambda: stage.entry is not None and stage.entry.phase in ("train", "denoise") and stage.entry.index > 2,
        lambda: round_(root),
    )
    before: Entry = stage.entry
    stage.pause.invoke()
    until(lambda: stage.entry.over, lambda: round_(root))
    assert stage.entry.state == "paused" and not stage.pause.master.winfo_manager()
    assert [name for name, each in stage.buttons.items() if each.winfo_manager()] == ["resume", "cancel", "again"]
    root.geometry("{}x{}".format(*SMALLEST))
    until(lambda: root.winfo_width() == SMALLEST[0], lambda: round_(root))
    round_(root)
    assert cut_off(stage) == []
    return before


def cut_off(stage: Stage) -> list[str]:
    """The buttons of which a part lies outside the stage."""
    shown = {name: each for name, each in stage.buttons.items() if each.winfo_ismapped()}
    edge = stage.winfo_rootx() + stage.winfo_width()
    return [name for name, each in shown.items() if each.winfo_rootx() + each.winfo_reqwidth() > edge]


def resume(window: Window, root: Any, phase: str) -> list[int]:
    """Resume it, follow it until it plays, and return its steps of this phase as they were shown."""
    for _ in range(2):  # who presses twice is not told that it is resumed already
        window.stage.buttons["resume"].invoke()
    steps: list[int] = []

    def look() -> bool:
        entry = window.stage.entry
        if entry.state == "running" and entry.phase == phase and entry.index:
            steps.append(entry.index)
        return played(window)

    until(look, lambda: round_(root))
    assert window.message.cget("text") == ""
    return steps


@contextmanager
def counted(root: Any) -> Iterator[list[int]]:
    """How often Tk came round, while the block lasts."""
    count, on = [0], [True]

    def again() -> None:
        count[0] += 1
        if on:
            root.after(10, again)

    again()
    yield count
    on.clear()


@pytest.mark.slow
@pytest.mark.model
def test_a_film_is_made_and_played_and_the_window_answers_meanwhile(window: Open, root: Any) -> None:
    shown = window(Local())
    say(shown, num_inference_steps="20", num_frames="8")
    with counted(root) as ticks:
        shown.make()
        until(lambda: shown.stage.entry is not None and shown.stage.entry.fraction > 0.1, lambda: round_(root))
        began, steps, seen = ticks[0], set[int](), set[str]()

        def look() -> bool:
            steps.add(shown.stage.entry.index)
            seen.add(shown.stage.phase.cget("text"))
            return played(shown)

        until(look, lambda: round_(root))
        # It came round between any two of the steps that it showed, and the rest of the time as well.
        assert ticks[0] - began > 2 * len(steps)
    assert any(text.startswith("Denoising, step ") for text in seen)
    assert len(shown.stage.player.frame_buffer.frames) == 8
    assert shown.message.cget("text") == ""
    first = shown.stage.player.index
    until(lambda: shown.stage.player.index != first, lambda: round_(root))
    (entry,) = shown.history.entries
    assert entry.made and entry.plan.seed == 7


def film_is_paused_and_resumed(shown: Window, root: Any) -> None:
    """Make a film, pause it in the middle, and resume it to its end."""
    say(shown, num_inference_steps="60")
    shown.make()
    before = pause(shown, root)
    assert min(resume(shown, root, "denoise")) > before.index
    assert any("resumed from step" in note for note in shown.stage.entry.notes)


@pytest.mark.slow
@pytest.mark.model
def test_a_film_is_paused_and_resumed(window: Open, root: Any) -> None:
    film_is_paused_and_resumed(window(Local()), root)


@pytest.mark.slow
@pytest.mark.model
def test_a_training_is_paused_and_resumed(window: Open, root: Any, backend: Backend, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("000.mp4", "000.txt", "001.mp4", "001.txt"):
        (clips / name).write_bytes((CLIPS / name).read_bytes())
    request = Request.of(prompt="a red circle", num_frames=3, num_inference_steps=1, seed=1)
    config = {"iterations": 40, "batch": 1, "rank": 2, "validation": 0.0, "warmup": 1}
    how = {"clips": str(clips), "name": "zigzag", "config": config, "sample_every": 0}
    backend.ask(backend.queue.submit([tuning(resolve(request), request, how)]))
    shown = window(Local())
    before = pause(shown, root)
    assert before.kind == "tune" and min(resume(shown, root, "train")) > before.index


@pytest.mark.slow
@pytest.mark.model
def test_a_picture_is_made(window: Open, root: Any) -> None:
    shown = window(Local())
    shown.form.fields["picture"].invoke()
    assert shown.form.make.cget("text") == "Make the picture"
    say(shown)
    shown.make()
    until(lambda: shown.stage.player.frame_buffer is not None and shown.stage.entry.made, lambda: round_(root))
    assert shown.stage.entry.kind == "picture" and len(shown.stage.player.frame_buffer.frames) == 1


@pytest.mark.slow
def test_what_the_model_cannot_do_is_one_line_at_its_field(window: Open, root: Any) -> None:
    shown = window(Local(workers=0))
    for field, text, message in (
        ("num_frames", "999", "Frames 999: must be 1 to 256; ask for 256 frames or fewer"),
        ("num_frames", "1", "Frames 1: must be 2 to 256; choose Picture for a single image"),
        ("num_frames", "many", "Frames many: must be a whole number; write for example 16"),
        ("seed", "-1", "Seed -1: must be 0 to "),
    ):
        say(shown, **{field: text})
        shown.make()
        until(lambda: not shown.message.cget("text").startswith("Submitting"), lambda: round_(root))
        assert shown.message.cget("text").startswith(message)
        assert str(shown.form.fields[field].focus_get()) == str(shown.form.fields[field])
    say(shown, prompt="")
    shown.make()
    until(lambda: shown.message.cget("text").startswith("Prompt: is empty"), lambda: round_(root))
    assert shown.stage.entry is None and shown.history.entries == []


@pytest.mark.slow
def test_what_waits_is_cancelled_at_once_and_asked_for_again(window: Open, root: Any) -> None:
    shown = window(Local(workers=0))
    say(shown, "a green square growing", num_frames="5")
    shown.make()
    until(lambda: shown.stage.entry is not None and shown.stage.entry.state == "queued", lambda: round_(root))
    assert shown.stage.phase.cget("text") == "Waiting in the queue"
    shown.stage.cancel.invoke()
    until(lambda: shown.stage.entry.state == "cancelled", lambda: round_(root))
    say(shown, "something else", num_frames="9", seed="1")
    shown.stage.buttons["again"].invoke()
    assert len(shown.history.entries) == 1
    # Who is faster than the connection is not forgotten.
    shown.move(None)
    shown.make()
    until(lambda: len(shown.history.entries) == 2, lambda: round_(root))
    request = shown.form.request()
    assert (request.prompt, request.num_frames, request.seed) == ("a green square growing", 5, 7)


@pytest.mark.slow
def test_a_film_that_waits_stays_on_the_stage_and_the_next_one_follows(window: Open, root: Any) -> None:
    shown = window(Local(workers=0))
    for seed in ("7", "8"):
        say(shown, seed=seed)
        shown.make()
        until(lambda seed=seed: len(shown.history.entries) == int(seed) - 6, lambda: round_(root))  # type: ignore[misc]
    assert shown.stage.entry.plan.seed == 7 and shown.message.cget("text") == "Added to the queue."
    shown.stage.cancel.invoke()
    until(lambda: shown.stage.entry.plan.seed == 8, lambda: round_(root))


@pytest.mark.slow
def test_words_that_the_model_never_learned_are_named_while_one_types(window: Open, root: Any) -> None:
    shown = window(Local(workers=0))
    shown.form.say("a red circl")
    until(lambda: 'did not learn "circl" (nearest: "circle")' in shown.form.notes.cget("text"), lambda: round_(root))
    assert shown.form.notes.winfo_manager()
    shown.form.say("a red circle")
    until(lambda: not shown.form.notes.winfo_manager(), lambda: round_(root))


@pytest.mark.slow
@pytest.mark.model
def test_a_film_is_saved_and_one_of_the_history_opened(window: Open, root: Any, tmp_path: Path) -> None:
    shown = window(Local())
    for seed in ("7", "8"):
        say(shown, seed=seed)
        shown.make()
        until(lambda seed=seed: played(shown) and shown.stage.entry.plan.seed == int(seed), lambda: round_(root))  # type: ignore[misc]
    newest, first = shown.history.entries
    shown.history.tree.selection_set(first.id)
    until(lambda: shown.stage.entry.id == first.id and played(shown), lambda: round_(root))
    shown.save(shown.stage.entry, tmp_path / "kept.gif")
    until(lambda: "the film is a .mp4 file" in shown.message.cget("text"), lambda: round_(root))
    shown.save(shown.stage.entry, tmp_path / "kept.mp4")
    until(lambda: shown.message.cget("text") == f"Saved {tmp_path / 'kept.mp4'}", lambda: round_(root))
    assert (tmp_path / "kept.mp4").read_bytes() == shown.source.film(first).read_bytes()


@pytest.mark.slow
@pytest.mark.model
def test_a_service_makes_the_film(window: Open, root: Any, tmp_path: Path) -> None:
    with working(tmp_path / "service") as service:
        shown = window(Remote(service.live.url))
        assert shown.place.cget("text") == service.live.url.removeprefix("http://")
        say(shown, num_inference_steps="12")
        shown.make()
        until(lambda: played(shown), lambda: round_(root))
        assert len(shown.stage.player.frame_buffer.frames) == 4
        assert "folder" not in [name for name, each in shown.stage.buttons.items() if each.winfo_manager()]
        (body,) = service.http.get("/api/v1/jobs").json()["data"]
        assert (body["state"], body["prompt"]) == ("completed", "a red circle moving left")
        # Back to this computer, where there is nothing.
        shown.move(None)
        until(
            lambda: shown.place.cget("text") == "This computer" and shown.message.cget("text") == "",
            lambda: round_(root),
        )
        assert shown.history.entries == [] and shown.stage.entry is None


@pytest.mark.slow
@pytest.mark.model
def test_a_film_of_a_service_is_paused_and_resumed(window: Open, root: Any, tmp_path: Path) -> None:
    with working(tmp_path / "service") as service:
        film_is_paused_and_resumed(window(Remote(service.live.url)), root)


@pytest.mark.slow
def test_a_wrong_key_is_one_line_and_another_is_taken(window: Open, root: Any, tmp_path: Path) -> None:
    with live(tmp_path / "service") as service:
        _, headers = service.key("me", "create", "read")
        shown = window(Remote(service.url, "fb_wrong"))
        text = shown.message.cget("text")
        assert "refuses: invalid API key; enter its address and a key" in text and "\n" not in text
        assert shown.form.make.instate(["disabled"])
        shown.move(Remote(service.url, headers["authorization"].removeprefix("Bearer ")))
        until(lambda: shown.message.cget("text") == "", lambda: round_(root))
        assert shown.form.make.instate(["!disabled"]) and shown.form.model.name == "builtin"


def test_a_service_that_is_away_is_one_line_and_tried_again(window: Open, root: Any) -> None:
    shown = window(Remote("http://127.0.0.1:9"))
    assert shown.message.cget("text").startswith("127.0.0.1:9: cannot be reached (Connection refused); check")
    shown._retry.invoke()
    assert shown.message.cget("text") == "Connecting to 127.0.0.1:9…"
    until(lambda: "cannot be reached" in shown.message.cget("text"), lambda: round_(root))
