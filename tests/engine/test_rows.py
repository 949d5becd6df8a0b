"""The rows of a batch: three formats that say the same, and whatever bytes, rows or one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flickbook.cli.options import ENCODING, FILM, POLISH
from flickbook.engine.rows import COLUMNS, FILE_BYTES, ROWS, merged, parsed, read
from flickbook.errors import FlickbookError, RequestError

CSV = """prompt,num_frames,guidance_scale,size,lora,steady,image,quality
"a fox, running",8,7.5,128x128,,yes,in/a.png,80
a red circle,,,,cat.safetensors:0.5,,,lossless
"""
JSONL = """{"prompt": "a fox, running", "num_frames": 8, "guidance_scale": 7.5, "size": "128x128", "steady": true,\
 "image": "in/a.png", "quality": 80}

{"prompt": "a red circle", "lora": ["cat.safetensors:0.5"], "quality": "lossless", "seed": null}
"""
TOML = """[[films]]
prompt = "a fox, running"
num_frames = 8
guidance_scale = 7.5
size = "128x128"
steady = true
image = "in/a.png"
quality = 80

[[films]]
prompt = "a red circle"
lora = ["cat.safetensors:0.5"]
quality = "lossless"
"""


def written(directory: Path, name: str, text: str | bytes) -> Path:
    path = directory / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(directory: Path, name: str, text: str | bytes) -> str:
    with pytest.raises(FlickbookError) as caught:
        read(written(directory, name, text))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_columns_are_the_options_of_generate() -> None:
    assert set(COLUMNS) == {"prompt", "name", "width", "height", *FILM, *POLISH, *ENCODING}
    assert len(COLUMNS) == len(set(COLUMNS))


def test_csv_jsonl_and_toml_give_the_same_rows(tmp_path: Path) -> None:
    expected = [
        {
            **{"prompt": "a fox, running", "num_frames": 8, "guidance_scale": 7.5, "size": "128x128", "steady": True},
            **{"image": str(tmp_path / "in/a.png"), "quality": "80"},
        },
        {"prompt": "a red circle", "lora": [str(tmp_path / "cat.safetensors:0.5")], "quality": "lossless"},
    ]
    keys = set()
    for name, text in (("a.csv", CSV), ("a.jsonl", JSONL), ("a.toml", TOML)):
        rows, defaults = read(written(tmp_path, name, text))
        assert [(row.number, row.values) for row in rows] == list(enumerate(expected, 1))
        assert defaults == {}
        keys.add(tuple(row.key for row in rows))
    assert len(keys) == 1


def test_merged_layers_override_and_replace_exclusive_options() -> None:
    weak = {"size": "128x128", "video": "a.mp4", "fps": 8.0}
    assert merged(weak, {"width": 64}) == {"width": 64, "height": 128, "video": "a.mp4", "fps": 8.0}
    assert merged(weak, {"image": "b.png"}) == {"width": 128, "height": 128, "image": "b.png", "fps": 8.0}
    assert merged({"image": "b.png"}, {"video": "a.mp4"}) == {"video": "a.mp4"}
    # Both at once are for `generate` to refuse.
    assert merged({"image": "b.png", "video": "a.mp4"}) == {"image": "b.png", "video": "a.mp4"}
    with pytest.raises(RequestError):
        merged({"size": "1x1", "height": 1})


def test_both_meanings_of_speed_are_merged_separately() -> None:
    def speed(*layers: str | float) -> object:
        return merged(*({"speed": each} for each in layers))["speed"]

    assert speed("balanced", 2.0) == speed(2.0, "balanced") == "balanced,2.0"
    assert speed("balanced,2", "exact") == "exact,2.0" and speed("balanced,2", 0.5) == "balanced,0.5"
    assert speed("balanced", "exact") == "exact" and merged({"speed": 2.0}, {})["speed"] == 2.0


def test_parsing_an_upload_opens_no_path(tmp_path: Path) -> None:
    text = f'{{"prompt": "a fox", "image": "~/a.png", "lora": "{tmp_path}"}}\n{{"prompt": "b"}}'
    rows, _ = parsed("a.jsonl", text.encode())
    assert rows[0].values == {"prompt": "a fox", "image": "~/a.png", "lora": [str(tmp_path)]}
    with pytest.raises(RequestError, match="file=row 2: a batch has at most 1 rows"):
        parsed("a.jsonl", text.encode(), 1)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_of_spreadsheets_is_read(delimiter: str, end: str, tmp_path: Path) -> None:
    lines = [["prompt", "seed"], ["une étoile", "7"], ["", ""], ["a fox", ""]]
    text = "\ufeff" + end.join(delimiter.join(line) for line in lines) + end
    rows, _ = read(written(tmp_path, "a.csv", text))
    assert [row.values for row in rows] == [{"prompt": "une étoile", "seed": 7}, {"prompt": "a fox"}]


def test_defaults_of_a_toml_apply_to_its_rows(tmp_path: Path) -> None:
    text = '[defaults]\nfps = 8\nupscaler = "lanczos"\nvideo = "/abs.mp4"\n[[films]]\nprompt = "x"\n'
    rows, defaults = read(written(tmp_path, "a.toml", text))
    assert defaults == {"fps": 8.0, "upscaler": "lanczos", "video": "/abs.mp4"}
    assert rows[0].values == {"prompt": "x"}


def test_an_upscaler_is_lanczos_or_a_file_beside_the_rows(tmp_path: Path) -> None:
    rows, _ = read(written(tmp_path, "a.csv", "upscaler\nlanczos\nbuiltin\nx4.safetensors\n"))
    found = [row.values["upscaler"] for row in rows]
    assert found == ["lanczos", str(tmp_path / "builtin"), str(tmp_path / "x4.safetensors")]


@pytest.mark.parametrize(
    ("text", "relative"),
    [
        ("style.safetensors", True),
        ("loras/style.safetensors:0.8", True),
        ("./style", True),
        ("owner/name", False),
        ("owner/name:0.5", False),
        ("owner/name/file.safetensors", False),
        ("there/here/style.safetensors", True),
        ("there/here:0.5", True),
    ],
)
def test_a_lora_is_a_path_beside_the_file_or_a_repository(text: str, relative: bool, tmp_path: Path) -> None:
    (tmp_path / "there/here").mkdir(parents=True)
    (tmp_path / "there/here/style.safetensors").touch()
    rows, _ = read(written(tmp_path, "a.jsonl", json.dumps({"lora": text})))
    assert rows[0].values["lora"] == [str(tmp_path / text) if relative and not text.startswith(".") else
                                      f"{tmp_path}/{text}" if relative else text]  # fmt: skip


def test_a_row_key_depends_on_content_and_repetition(tmp_path: Path) -> None:
    def keys(text: str) -> list[str]:
        return [row.key for row in read(written(tmp_path, "a.csv", text))[0]]

    first = keys("prompt,seed\na,\nb,\na,\n")
    assert len(set(first)) == 3
    # What stands beside a row, and the order of columns, change nothing.
    assert keys("seed,prompt\n,new\n,b\n,a\n,a\n")[1:] == [first[1], first[0], first[2]]
    assert keys("prompt,seed\na,7\n")[0] not in first


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "x", "must end in .csv, .jsonl or .toml"),
        ("a.csv", "", "has no rows"),
        ("a.csv", "prompt\n", "has no rows"),
        ("a.csv", "prompt,colour\nx,red\n", "header: column=colour: is not known; known are prompt, "),
        ("a.csv", "prompt,prompt\nx,y\n", "header: column=prompt: is named twice"),
        ("a.csv", "prompt,seed\na fox, running,7\n", "row 1 has 3 cells, but the header has 2"),
        ("a.csv", 'prompt\n"a fox\n', "is not valid CSV: "),
        ("a.csv", "prompt,num_frames\nx,8\nx,many\n", "row 2: num_frames=many: must be a whole number"),
        ("a.csv", "prompt,num_frames\nx,8.5\n", "row 1: num_frames=8.5: must be a whole number"),
        ("a.csv", "prompt,num_frames\nx," + "9" * 5000, "row 1: num_frames=99999"),
        ("a.csv", "prompt,fps\nx,nan\n", "row 1: fps=nan: must be a number"),
        ("a.csv", "prompt,steady\nx,maybe\n", "row 1: steady=maybe: must be true or false"),
        ("a.csv", b"prompt\n\xff\n", "is not UTF-8 at byte 7"),
        ("a.csv", "prompt\nx\0\n", "U+0000"),
        ("a.jsonl", '{"prompt": "x"}\n{"prompt"\n', "file=line 2: is not valid JSON"),
        ("a.jsonl", "[1]", "file=line 1: is not an object"),
        ("a.jsonl", '{"a": 1, "a": 2}', "a name occurs twice"),
        ("a.jsonl", '{"fps": NaN}', "NaN is not a number"),
        ("a.jsonl", '{"fps": 1e999}', "row 1: fps=inf: must be a number"),
        ("a.jsonl", '{"fps": 1' + "0" * 400 + "}", "is too large"),
        ("a.jsonl", '{"prompt": ["x"]}', "row 1: prompt=list: must be one value"),
        ("a.jsonl", '{"lora": [["x"]]}', "row 1: lora=list: must be text"),
        ("a.jsonl", '{"prompt": "\\ud800"}', "remove the lone surrogate"),
        ("a.jsonl", '{"colour": 1}', "row 1: column=colour: is not known"),
        ("a.jsonl", '{"steady": 1}', "row 1: steady=1: must be true or false"),
        ("a.jsonl", '{"num_frames": true}', "row 1: num_frames=True: must be a whole number"),
        ("a.jsonl", "[" * 100_000, "is not valid JSON"),
        ("a.toml", "films = 1", "is not a list of tables"),
        ("a.toml", "x", "a.toml: is not valid TOML"),
        ("a.toml", "[default]\n[[films]]\n", "file=default: is not known; known are [defaults] and [[films]]"),
        ("a.toml", "[defaults]\ncolour=1\n[[films]]\n", "defaults: column=colour: is not known"),
        ("a.toml", "[[films]]\nfps = 1979-05-27\n", "row 1: fps=1979-05-27: must be a number"),
        ("a.toml", "x = " + "[" * 100_000, "is not valid TOML"),
    ],
)
def test_an_error_is_one_line_with_its_row(name: str, text: str | bytes, message: str, tmp_path: Path) -> None:
    assert message in refused(tmp_path, name, text)


def test_a_missing_file_or_a_directory_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path / "a\0.csv"):
        with pytest.raises(RequestError, match="cannot be read"):
            read(path)
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(RequestError, match="cannot be read"):
        read(tmp_path / "d.csv")


def test_rows_and_bytes_are_bounded(tmp_path: Path) -> None:
    lines = ["prompt", *["x"] * ROWS]
    assert len(read(written(tmp_path, "a.csv", "\n".join(lines)))[0]) == ROWS
    assert f"at most {ROWS} rows" in refused(tmp_path, "a.csv", "\n".join([*lines, "x"]))
    assert f"at most {ROWS} rows" in refused(tmp_path, "a.jsonl", "{}\n" * (ROWS + 1))
    assert "larger than 16 MiB" in refused(tmp_path, "a.jsonl", b"\n" * (FILE_BYTES + 1))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def either(path: Path) -> None:
    """Rows that are typed, or an error of one line."""
    try:
        rows, _ = read(path)
    except FlickbookError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
        return
    kinds = {"num_frames": int, "seed": int, "fps": float, "lora": list, "steady": bool, "prompt": str}
    for row in rows:
        assert set(row.values) <= set(COLUMNS)
        assert all(isinstance(row.values[name], kind) for name, kind in kinds.items() if name in row.values)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows")


SUFFIX = st.sampled_from([".csv", ".jsonl", ".toml"])


@given(SUFFIX, st.binary(max_size=200))
@example(".csv", b'prompt\n"\n')
@example(".csv", b"\xef\xbb\xbf\r\r\n,")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_rows_or_an_error(place: Path, suffix: str, data: bytes) -> None:
    either(written(place, f"any{suffix}", data))


@given(st.lists(st.dictionaries(st.sampled_from(COLUMNS), JSON, max_size=4), max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_values_give_rows_or_an_error(place: Path, rows: list[dict[str, Any]]) -> None:
    either(written(place, "any.jsonl", "\n".join(map(json.dumps, rows))))


@given(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=4, unique=True), st.text(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_csv_cells_give_rows_or_an_error(place: Path, names: list[str], cells: str) -> None:
    text = ",".join(names) + "\n" + cells
    either(written(place, "any.csv", text.encode("utf-8", "replace")))


def test_a_misspelt_column_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    assert 'did you mean "prompt"?' in refused(tmp_path, "a.csv", "promt\na red circle\n")
