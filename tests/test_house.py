"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import flickbook

ROOT = Path(__file__).parents[1]
PACKAGE = Path(flickbook.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
EVERYTHING = sorted(
    [*SOURCES, *(path for each in ("tests", "bench", "spaces") for path in (ROOT / each).rglob("*.py"))]
)
HEAVY = {"torch", "numpy", "av", "PIL", "matplotlib", "diffusers", "transformers", "accelerate", "gradio", "tkinter"}
#: Folders of tests that mirror no folder of the package.
OTHERS = ("contract", "crash", "browser", "spaces", "examples")
#: What the world, the networks and the training loop may need beside the standard library.
TRAINING = {"torch", "numpy", "PIL", "safetensors", "tokenizers", "flickbook"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT if path.is_relative_to(ROOT) else PACKAGE))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module named by an import statement, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def python(program: str) -> str:
    """What a fresh interpreter prints for this program."""
    path = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r})\n"
    return subprocess.run([sys.executable, "-c", path + program], capture_output=True, text=True, check=True).stdout


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 20


def test_files_stay_under_400_lines_and_functions_under_60() -> None:
    long = []
    for path in EVERYTHING:
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) >= 400:
            long.append(f"{name(path)} has {lines} lines")
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length >= 60:
                    long.append(f"{node.name} in {name(path)} has {length} lines")
    assert long == []


def test_a_folder_has_at_most_15_modules() -> None:
    modules = Counter(path.parent for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
    assert {name(folder): count for folder, count in modules.items() if count > 15} == {}


def test_nothing_is_called_utils_common_or_helpers() -> None:
    words = {"util", "utils", "common", "helper", "helpers", "misc"}
    paths = [path for path in PACKAGE.rglob("*") if "__pycache__" not in path.parts]
    assert [name(path) for path in paths if words & set(path.stem.lower().split("_"))] == []


@pytest.mark.slow
def test_only_settings_reads_the_environment() -> None:
    readers = {
        name(path)
        for path in SOURCES
        for node in ast.walk(parsed(path))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "getenvb"))
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {"environ", "getenv"} & {a.name for a in node.names}
        )
    }
    assert readers <= {name(PACKAGE / "settings.py")}


def test_no_pickle_is_ever_opened() -> None:
    for path in SOURCES:
        tree = parsed(path)
        assert {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve"}.isdisjoint(imports(tree)), name(path)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in ("load", "save") and isinstance(node.value, ast.Name):
                assert node.value.id != "torch", f"{name(path)}:{node.lineno}"
            assert not (isinstance(node, ast.keyword) and node.arg == "allow_pickle" and _true(node.value)), name(path)
            assert not (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec")
            )


def _true(node: ast.expr) -> bool:
    return not (isinstance(node, ast.Constant) and node.value is False)


def _fields_read(path: Path, of: str) -> set[str]:
    """The names read as attributes of a variable called `of`."""
    return {
        node.attr
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == of
    }


def test_every_field_of_request_is_read_where_plans_are_made() -> None:
    from flickbook.spec import Request

    modules = ("resolution.py", "conditioning.py", "sizes.py", "engine/shots/plan.py")
    read = set[str]().union(*(_fields_read(PACKAGE / each, "request") for each in modules))
    assert set(Request.model_fields) - read == set()


def test_every_field_of_settings_is_read_outside_its_definition() -> None:
    from flickbook.settings import Settings

    read = {
        node.attr
        for path in SOURCES
        if path.name != "settings.py"
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute) and _is_settings(node.value)
    }
    assert set(Settings.model_fields) - read == set()


def _is_settings(node: ast.expr) -> bool:
    """`chosen.x`, `settings.load().x`, `service.settings.x`: the ways in which this code holds settings."""
    if isinstance(node, ast.Call):
        node = node.func
        return isinstance(node, ast.Attribute) and node.attr == "load" and _is_settings(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr == "settings"
    return isinstance(node, ast.Name) and node.id in ("chosen", "settings")


def test_all_is_the_door() -> None:
    assert dir(flickbook) == sorted(flickbook.__all__)
    for each in flickbook.__all__:
        assert getattr(flickbook, each) is not None
    assert 8 <= len(flickbook.__all__) <= 14
    with pytest.raises(AttributeError):
        flickbook.nothing  # noqa: B018


def test_the_door_and_help_load_nothing_heavy() -> None:
    ask = f"import sys; print(sorted({HEAVY!r} & set(sys.modules)))"
    assert python(f"import flickbook\n{ask}").strip() == "[]"
    program = f"from flickbook.cli.app import run\nassert run(['--help']) == 0\n{ask}"
    assert python(program).strip().splitlines()[-1] == "[]"
    program = f"from flickbook.cli.app import run\nassert run(['generate', '--help']) == 0\n{ask}"
    assert python(program).strip().splitlines()[-1] == "[]"


def test_listing_models_loads_no_torch() -> None:
    program = "from flickbook.cli.app import run\nrun(['models', 'list'])\nimport sys; print('torch' in sys.modules)"
    assert python(program).splitlines()[-1] == "False"


def _outside(path: Path) -> set[str]:
    return {module.partition(".")[0] for module in imports(parsed(path))} - sys.stdlib_module_names


@pytest.mark.parametrize("floor", ["world", "diffusion", "learn/train.py"])
def test_what_trains_needs_only_five_packages(floor: str) -> None:
    place = PACKAGE / floor
    paths = [place] if place.is_file() else sorted(place.rglob("*.py"))
    assert paths
    for path in paths:
        # accelerate is asked for inside a function, when there are several GPUs.
        assert _outside(path) <= TRAINING | ({"accelerate"} if floor.startswith("learn") else set()), name(path)


def test_the_world_knows_no_torch() -> None:
    for path in (PACKAGE / "world").rglob("*.py"):
        assert _outside(path) <= {"numpy", "PIL", "safetensors", "flickbook"}, name(path)


@pytest.mark.slow
def test_the_training_loop_runs_where_nothing_else_is_installed() -> None:
    """A GPU machine has torch and little else: block the rest and import what trains."""
    program = """
class Absent:
    names = {"accelerate", "av", "diffusers", "matplotlib", "pandas", "platformdirs", "psutil", "pydantic",
             "pydantic_settings", "rich", "transformers", "typer"}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)
sys.meta_path.insert(0, Absent())
import flickbook.learn.train, flickbook.world.render, flickbook.world.detect
print("fine")
"""
    assert python(program).strip() == "fine"


def test_matplotlib_opencv_and_pyav_are_imported_in_one_place() -> None:
    users: dict[str, set[str]] = {"matplotlib": set(), "av": set(), "cv2": set()}
    for path in SOURCES:
        for module in {each.partition(".")[0] for each in imports(parsed(path))} & set(users):
            users[module].add(name(path))
    figures = {name(path) for path in (PACKAGE / "explain/figures").glob("*.py")}
    assert users["matplotlib"] <= {name(PACKAGE / "media/plot.py")} | figures
    assert users["cv2"] <= {name(PACKAGE / "media/finishing" / each) for each in ("flow.py", "edges.py")}
    # The doctor asks which codecs there are.
    sound = ("media/sound/encoder.py", "media/sound/resample.py", "media/untrusted/decode_sound.py")
    assert users["av"] <= {
        name(PACKAGE / each) for each in ("media/untrusted/decode.py", "media/encode.py", "cli/doctor.py", *sound)
    }


def test_a_test_module_lies_in_a_folder_named_as_the_folder_it_tests() -> None:
    """Folders only: a test module may test several modules of its folder."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        folder = PACKAGE / path.parent.relative_to(ROOT / "tests")
        assert folder.is_dir() or path.parent.name in OTHERS, name(path)
