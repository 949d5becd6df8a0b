"""Layouts: each of the four is recognised, and every file or line that cannot be used is reported."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.learn.tuning.data.clips import text

from flickbook.errors import RequestError
from flickbook.learn.tuning.data import entries, layouts
from flickbook.learn.tuning.data.entries import MAX_CAPTION_BYTES, Listing
from flickbook.learn.tuning.data.layouts import listing


def listed(found: Listing) -> list[tuple[str, str]]:
    return [(found.name(entry.path), entry.caption) for entry in found.entries]


def told(found: Listing) -> list[str]:
    return [str(problem) for problem in found.problems]


def files(directory: Path, *names: str) -> None:
    """Files that are clips by their names; no layout opens them."""
    for name in names:
        text(directory / name, "pixels")


def test_pairs_are_found_in_subdirectories_and_hidden_files_are_not(tmp_path: Path) -> None:
    files(tmp_path, "a.mp4", "deep/b.MOV", "._a.mp4", ".cache/c.mp4")
    text(tmp_path / "a.txt", b"\xef\xbb\xbfa red circle,\r\n  sks style\r\n")
    text(tmp_path / "deep/b.caption", "a blue square")
    found = listing(tmp_path)
    assert found.layout == "pairs"
    assert listed(found) == [("a.mp4", "a red circle, sks style"), ("deep/b.MOV", "a blue square")]
    assert told(found) == []


def test_every_file_of_pairs_that_is_not_used_is_told(tmp_path: Path) -> None:
    files(tmp_path, "alone.mp4", "both.mp4", "both.png", "latin.mp4", "long.mp4")
    text(tmp_path / "both.txt", "a film and its picture")
    text(tmp_path / "latin.txt", "caf\xe9".encode("latin-1"))
    text(tmp_path / "long.txt", "x" * (MAX_CAPTION_BYTES + 1))
    text(tmp_path / "notes.txt", "buy milk")
    found = listing(tmp_path)
    assert listed(found) == [("both.mp4", "a film and its picture"), ("both.png", "a film and its picture")]
    assert told(found) == [
        "alone.mp4: has no caption file alone.txt or alone.caption: skipped",
        "both.txt: the caption of both.mp4 and both.png: used with each",
        "latin.txt: not UTF-8 at byte 3; save it as UTF-8: its clip is skipped",
        "long.txt: larger than the limit of 65536 bytes: its clip is skipped",
        "notes.txt: a text without a clip of this name: ignored",
    ]


@pytest.mark.parametrize("column", ["text", "caption", "prompt"])
def test_metadata_of_hugging_face_names_clips_relative_to_itself(tmp_path: Path, column: str) -> None:
    files(tmp_path, "data/train/a.mp4", "data/train/more/b.png", "outside.mp4")
    rows = [("a.mp4", "first"), ("more/b.png", "second"), ("../../outside.mp4", "third")]
    lines = [json.dumps({"file_name": name, column: caption}) for name, caption in rows]
    text(tmp_path / "data/train/metadata.jsonl", "\r\n".join(lines))
    found = listing(tmp_path / "data")
    assert found.layout == "metadata"
    assert [(entry.path, entry.caption) for entry in found.entries] == [
        (tmp_path / "data/train/a.mp4", "first"),
        (tmp_path / "data/train/more/b.png", "second"),
        (tmp_path / "outside.mp4", "third"),
    ]


def test_metadata_as_csv_may_hold_separators_and_line_ends(tmp_path: Path) -> None:
    files(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    text(tmp_path / "metadata.csv", '\ufefffile_name;text\r\na.mp4;"red; then\nblue"\r\nb.mp4;two;three\r\nc.mp4;"open')
    found = listing(tmp_path)
    assert listed(found) == [("a.mp4", "red; then blue")]
    assert told(found) == [
        "metadata.csv line 4: 3 values for 2 columns; quote a caption that holds ';': skipped",
        "metadata.csv line 5: not a row of CSV (unexpected end of data): skipped",
        "b.mp4: this clip and 1 more are not listed in metadata.csv: ignored",
    ]


def test_lines_of_json_that_cannot_be_used_are_told_by_their_number(tmp_path: Path) -> None:
    files(tmp_path, "a.mp4", "folder/b.mp4")
    rows = [
        '{"file_name": "a.mp4", "text": ["one", "two"]}',
        '{"file_name": "a.mp4", "text"',
        "[" * 100_000,
        '{"name": "a.mp4"}',
        '{"file_name": "a.mp4", "text": 5}',
        '{"file_name": "https://example.org/a.mp4", "text": "far"}',
        '{"file_name": "folder", "text": "several"}',
        '{"file_name": "folder\\\\b.mp4", "text": "from Windows"}',
        '{"file_name": "gone.mp4", "text": "gone"}',
        '{"file_name": "a.mp4", "text": "\\ud800"}',
        '{"file_name": "a\\u0000.mp4", "text": "nul"}',
    ]
    text(tmp_path / "metadata.jsonl", "\n".join(rows) + "\n\n")
    found = listing(tmp_path)
    assert listed(found) == [("a.mp4", "one"), ("a.mp4", "two"), ("folder/b.mp4", "from Windows")]
    reasons = {int(problem.where.split()[2].rstrip(",")): problem.reason for problem in found.problems}
    assert list(reasons) == [2, 3, 4, 5, 6, 7, 9, 10, 11]
    assert reasons[2] == reasons[3] == 'not a JSON object, such as {"file_name": "a.mp4", "text": "a caption"}'
    assert reasons[4].startswith("has none of file_name, video_path")
    assert reasons[5] == "its path or its caption is not a text"
    assert reasons[6] == "an address, and nothing is downloaded; download it and list the file"
    assert reasons[7] == "a directory, not a file; list a video or a picture in it"
    assert reasons[9] == "no such file"
    assert reasons[10] == "the caption holds half of a surrogate pair; write the character itself"
    assert reasons[11] == "not a file name"
    assert {problem.rule for problem in found.problems} == {"skipped"}


def test_metadata_without_a_caption_column_is_told_once(tmp_path: Path) -> None:
    files(tmp_path, "a.mp4")
    text(tmp_path / "metadata.csv", "file_name,label\na.mp4,3\n")
    assert told(listing(tmp_path)) == [
        "metadata.csv: its first line names no column caption, text or prompt: skipped",
    ]


def test_of_two_metadata_files_one_is_used(tmp_path: Path) -> None:
    files(tmp_path, "a.mp4")
    text(tmp_path / "metadata.csv", "file_name,text\na.mp4,from CSV\n")
    text(tmp_path / "metadata.jsonl", '{"file_name": "a.mp4", "text": "from JSON"}\n')
    found = listing(tmp_path)
    assert listed(found) == [("a.mp4", "from JSON")]
    assert told(found) == ["metadata.csv: metadata.jsonl lists the clips of this directory: ignored"]


def test_musubi_lists_are_found_under_any_name_with_paths_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path, "set/a.mp4", "set/b.png", "elsewhere/c.mp4")
    text(tmp_path / "set/films.jsonl", '{"video_path": "a.mp4", "caption": "beside"}\n')
    rows = [{"image_path": str(tmp_path / "set/b.png"), "caption": "absolute"}]
    rows.append({"video_path": "elsewhere/c.mp4", "caption": "here"})
    text(tmp_path / "set/more.jsonl", "\n".join(map(json.dumps, rows)))
    text(tmp_path / "set/log.jsonl", '{"step": 1}\n')
    monkeypatch.chdir(tmp_path)
    found = listing(tmp_path / "set")
    assert found.layout == "musubi"
    assert [entry.caption for entry in found.entries] == ["beside", "absolute", "here"]
    assert told(found) == []


def test_metadata_with_paths_of_musubi_is_named_so(tmp_path: Path) -> None:
    files(tmp_path, "a.mp4")
    text(tmp_path / "metadata.jsonl", '{"video_path": "a.mp4", "caption": "x"}')
    assert listing(tmp_path).layout == "musubi"


def test_lists_pair_lines(tmp_path: Path) -> None:
    files(tmp_path, "videos/0.mp4", "videos/1.mp4", "videos/2.mp4")
    text(tmp_path / "videos.txt", "videos/0.mp4\nvideos/1.mp4\n\nvideos/2.mp4\n\n")
    text(tmp_path / "prompt.txt", "zero\n\nnobody\ntwo\n")
    found = listing(tmp_path)
    assert found.layout == "lists"
    assert listed(found) == [("videos/0.mp4", "zero"), ("videos/1.mp4", ""), ("videos/2.mp4", "two")]
    assert told(found) == ["videos.txt line 3: empty, and prompt.txt has a caption in this line: skipped"]


@pytest.mark.parametrize(
    ("names", "limit"),
    [
        ({"videos.txt": "a.mp4\nb.mp4", "prompts.txt": "one"}, "videos.txt has 2 lines, and prompts.txt has 1"),
        ({"videos.txt": "a.mp4"}, "holds videos.txt and no captions"),
        ({"videos.txt": "a.mp4", "images.txt": "b.png", "prompts.txt": "x"}, "holds videos.txt and images.txt"),
        ({"videos.txt": b"\xff", "prompts.txt": "x"}, "videos.txt: not UTF-8 at byte 0; save it as UTF-8"),
        ({"README.md": "nothing"}, "holds no dataset"),
    ],
)
def test_lists_that_do_not_match_and_directories_without_clips_are_refused(
    tmp_path: Path, names: dict[str, str | bytes], limit: str
) -> None:
    for name, content in names.items():
        text(tmp_path / name, content)
    with pytest.raises(RequestError) as caught:
        listing(tmp_path)
    assert (caught.value.field, caught.value.limit) == ("dir", limit)


def test_a_video_called_video_is_a_pair(tmp_path: Path) -> None:
    files(tmp_path, "video.mp4")
    text(tmp_path / "video.txt", "a caption")
    assert listed(listing(tmp_path)) == [("video.mp4", "a caption")]


def test_a_directory_of_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "MAX_FILES", 3)
    files(tmp_path, "a.mp4", "b.mp4", "c.mp4", "d.mp4")
    with pytest.raises(RequestError, match="holds more than 3 files; name the directory of one dataset"):
        listing(tmp_path)
    text(tmp_path / "more/metadata.jsonl", '{"file_name": "../a.mp4", "text": "x"}\n' * 4)
    with pytest.raises(RequestError, match="lists more than 3 clips; split the dataset"):
        listing(tmp_path / "more")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_no_caption(tmp_path: Path) -> None:
    files(tmp_path, "a.mp4")
    os.mkfifo(tmp_path / "a.txt")
    assert told(listing(tmp_path)) == ["a.txt: cannot be read (not a regular file): its clip is skipped"]


def test_a_problem_is_one_printable_line(tmp_path: Path) -> None:
    found = Listing(tmp_path)
    found.tell("a\x1b[31m" + "x" * 1000, "two\nlines")
    (problem,) = found.problems
    assert str(problem).isprintable() and len(str(problem)) < 300
    assert entries.caption_of(" a\n b\t c ") == "a b c"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


_LINES = st.lists(
    st.sampled_from(
        ['{"file_name": "a.mp4"', '"text": ["x", 1]}', "a.mp4,x", "file_name,text", '"', "{}", "\ud800", "/", ".."]
    )
    | st.text(max_size=8)
)


@pytest.mark.slow
@given(st.sampled_from(["metadata.jsonl", "metadata.csv", "prompts.txt"]), _LINES, st.sampled_from(["\n", "\r\n", ","]))
def test_no_text_is_more_than_a_problem(scratch: Path, name: str, lines: list[str], end: str) -> None:
    content = end.join(lines).encode("utf-8", "surrogatepass")
    directory = scratch / name
    files(directory, "a.mp4")
    text(directory / name, content)
    text(directory / "videos.txt", "a.mp4\n")
    with suppress(RequestError):
        found = listing(directory)
        assert all(str(problem).isprintable() for problem in found.problems)
        assert all(entry.path.exists() for entry in found.entries)


def test_lists_of_an_uploaded_dataset_name_its_own_files_only(tmp_path: Path) -> None:
    files(tmp_path / "secret", "a.mp4", "b.mp4")
    files(tmp_path / "clips", "a.mp4")
    rows = [str(tmp_path / "secret/a.mp4"), "..\\secret\\a.mp4", "../secret/b.mp4", "..", "https://example.com/a.mp4"]
    lines = "".join(json.dumps({"video_path": name, "text": "a circle"}) + "\n" for name in rows)
    text(tmp_path / "clips/list.jsonl", lines)
    found = listing(tmp_path / "clips", only_inside=True)
    assert {entry.path for entry in found.entries} == {tmp_path / "clips/a.mp4"} and len(found.entries) == 2
    assert [problem.reason.partition(",")[0] for problem in found.problems] == [
        *("no such file", "a directory", "an address"),
    ]
