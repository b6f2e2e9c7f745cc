"""Setting up on a machine that lacks something: one clear line, exit code 2, and no half-made environment that the next run would trust."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import servers

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def setup(checkout: Path, **environment: str) -> tuple[int, list[str]]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "VIRTUAL_ENV", "PYTHON"))}
    run = subprocess.run(
        [checkout / "deploy" / "setup.sh", "run"], capture_output=True, text=True, env=clean | environment, timeout=120, check=False
    )
    return run.returncode, run.stderr.splitlines()


def python_that(tmp_path: Path, refuses: str) -> str:
    """An interpreter like ours that fails on code with `refuses` in it."""
    path = tmp_path / "python3"
    path.write_text(f'#!/bin/sh\ncase "$*" in *"{refuses}"*) exit 1;; esac\nexec {sys.executable} "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_an_interpreter_that_is_not_there(checkout: Path) -> None:
    assert setup(checkout, PYTHON="/none/python3") == (
        2,
        ["cansight: Python 3.11 or newer is needed; /none/python3 is not there. Install one, or name it: make PYTHON=/path/to/python3"],
    )


def test_an_interpreter_that_is_too_old(checkout: Path, tmp_path: Path) -> None:
    code, said = setup(checkout, PYTHON=python_that(tmp_path, "version_info"))
    assert code == 2
    assert len(said) == 1
    assert "Python 3.11 or newer is needed" in said[0]


def test_no_venv_module(checkout: Path, tmp_path: Path) -> None:
    code, said = setup(checkout, PYTHON=python_that(tmp_path, "import venv"))
    assert code == 2
    assert len(said) == 1
    assert "apt install python3-venv" in said[0]


def test_no_network(checkout: Path) -> None:
    nowhere = f"http://127.0.0.1:{servers.free_port()}/simple"
    for _ in range(2):  # the second run must not take the first one's remains for an installation
        code, said = setup(checkout, PYTHON=sys.executable, PIP_CONFIG_FILE=os.devnull, PIP_INDEX_URL=nowhere, PIP_RETRIES="0")
        assert code == 2
        assert len(said) == 1
        assert "is a package index in reach?" in said[0]
