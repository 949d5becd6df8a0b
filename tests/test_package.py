"""What is installed and how: pins, the wheel, the Makefile."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import flickbook

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
PROMPT = """say "hi" $HOME $(touch pwned) `touch pwned` it's $5 \\ #1; touch pwned"""


def requirements() -> list[Requirement]:
    lists = [PROJECT["project"]["dependencies"], PROJECT["build-system"]["requires"], *EXTRAS.values()]
    return [Requirement(text) for texts in lists for text in texts if not text.startswith("flickbook")]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_every_direct_dependency_is_pinned_within_its_range() -> None:
    pinned = pins()
    assert {each.name for each in requirements()} == set(pinned)
    for each in requirements():
        assert len(each.specifier) > 0, f"{each.name} has no range"
        assert each.specifier.contains(pinned[each.name]), each


def test_torch_is_pinned_without_a_build_of_one_machine() -> None:
    assert pins()["torch"] == "2.13.0"


def test_the_extras() -> None:
    assert set(EXTRAS) == {"gen", "finish", "server", "ui", "train", "mongo", "mcp", "cluster", "dev", "all"}
    named = re.search(r"\[(.*)\]", EXTRAS["all"][0])
    assert named is not None
    assert set(named[1].split(",")) == set(EXTRAS) - {"all", "dev"}


def test_what_the_source_imports_is_declared() -> None:
    """A package that is only there because another one brought it along may be gone tomorrow."""
    homes = {"PIL": "pillow", "cv2": "opencv-python-headless", "huggingface_hub": "huggingface-hub"}
    homes |= {
        "argon2": "argon2-cffi",
        "pydantic_settings": "pydantic-settings",
        "prometheus_client": "prometheus-client",
        "bson": "pymongo",
    }
    # torchao is for those who ask for eight bits: it slows every other start, and its absence is an error with a name.
    # The same holds for bitsandbytes and the optimizer of eight bits.
    declared = {each.name for each in requirements()} | {"flickbook", "torchao", "bitsandbytes"}
    for path in Path(flickbook.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for found in {each.partition(".")[0] for each in names} - sys.stdlib_module_names:
                assert homes.get(found, found) in declared, f"{path.name} imports {found}"


def test_the_version_stands_in_one_place() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", flickbook.__version__)
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "src/flickbook/__init__.py"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory with the Makefile, and an environment whose `flickbook` prints its arguments between brackets."""
    for each in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / each).write_bytes((ROOT / each).read_bytes())
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    (tools / "python").symlink_to(sys.executable)
    (tools / "flickbook").write_text('#!/bin/sh\nprintf "[%s]" "$@"\necho\n')
    (tools / "flickbook").chmod(0o755)
    later = time.time() + 5
    for stamp in (".stamp-run", ".stamp-dev"):
        (tmp_path / ".venv" / stamp).touch()
        os.utime(tmp_path / ".venv" / stamp, (later, later))
    return tmp_path


def make(directory: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # Under `make test` an inner make would announce its directory, and take the outer one's flags.
    outer = ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "PROMPT")
    variables = {name: value for name, value in os.environ.items() if name not in outer} | environment
    return subprocess.run(["make", *words], cwd=directory, env=variables, capture_output=True, text=True)


def test_make_run_passes_any_prompt_untouched(checkout: Path) -> None:
    for ran in (make(checkout, "run", f"PROMPT={PROMPT}"), make(checkout, "run", PROMPT=PROMPT)):
        assert ran.stdout == f"[generate][--][{PROMPT}]\n"
    assert not (checkout / "pwned").exists()


def test_make_run_without_a_prompt_says_how(checkout: Path) -> None:
    ran = make(checkout, "run", PROMPT="")
    assert ran.returncode == 2
    assert 'make run PROMPT="' in ran.stderr


def test_make_installs_once_and_again_when_a_pin_changes(checkout: Path) -> None:
    assert "install" not in make(checkout, "-n", "run").stdout
    (checkout / ".venv" / ".stamp-dev").unlink()
    assert "[gen,finish,server,ui,train,mongo,mcp,cluster,dev]" in make(checkout, "-n", "test").stdout
    assert "install" not in make(checkout, "-n", "run").stdout
    later = time.time() + 10
    os.utime(checkout / "constraints.txt", (later, later))
    assert "-e '.[gen,finish,server,ui,train]' -c constraints.txt" in make(checkout, "-n", "run").stdout


def test_a_missing_venv_module_gives_a_hint(checkout: Path) -> None:
    python = checkout / "python-without-venv"
    python.write_text(f'#!/bin/sh\n[ "$1" = -m ] && exit 1\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    ran = make(checkout, "run", "PROMPT=x", f"PYTHON={python}", "VENV=new")
    assert ran.returncode == 2
    assert "python3-venv" in ran.stderr
    assert not (checkout / "new").exists()


def test_an_old_python_is_refused(checkout: Path) -> None:
    python = checkout / "old-python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    ran = make(checkout, "run", "PROMPT=x", f"PYTHON={python}", "VENV=new")
    assert ran.returncode == 2
    assert "3.11" in ran.stderr


@pytest.mark.slow
def test_the_wheel_carries_the_model_and_its_licence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = Path(flickbook.__file__).parent
    expected = {"flickbook/models.toml", "flickbook/builtin/model_index.json", "flickbook/builtin/manifest.json"}
    expected |= {f"flickbook/{path.relative_to(package).as_posix()}" for path in package.rglob("*.safetensors")}
    assert len(expected) >= 6
    assert expected <= names
    assert any(each.endswith("licenses/LICENSE") for each in names)
    assert not any("__pycache__" in each or each.startswith("tests") for each in names)
