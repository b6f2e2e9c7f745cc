"""What every command promises: one line on stderr that says what to do, exit code 2 for input and 1 for work, and never a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cansight import extras

TIMEOUT_S = 120
DEFAULT = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
DBC = "dbc/vehicles/cansight_ev/drive.dbc"
ROOT = Path(__file__).parent.parent.parent


def cansight(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cansight", *arguments]
    return subprocess.run(command, **{**DEFAULT, **options}, text=True, timeout=TIMEOUT_S, check=False)  # type: ignore[call-overload,no-any-return]


def refused(done: subprocess.CompletedProcess[str], code: int) -> str:
    """Its one line."""
    assert done.returncode == code, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("cansight: ")
    return line


@pytest.mark.parametrize("nouns", [[], ["dbc"], ["models"], ["edge"]])
def test_a_noun_alone_shows_what_there_is(nouns: list[str]) -> None:
    done = cansight(*nouns)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Commands:\n" in done.stderr
    assert len(done.stderr.splitlines()) > 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dbc", "info", ""], "names no file; expected FILE or FILE@CHANNEL"),
        (["dbc", "info", "@can1"], "@can1: names no file"),
        (["tickets", "--url", "http://[x", "list"], "--url: expected an address"),
        (["tickets", "--url", "http://127.0.0.1:99999", "list"], "--url: expected an address"),
        (["sim", "drive", "--scenario", "healthy", "-o", "-", "--start", "2500-01-01"], "expected a year from 1971 to 2261"),
        (["sim", "drive", "--scenario", "healthy", "-o", "-", "--start", "1900-01-01"], "expected a year from 1971 to 2261"),
        (["demo", "--dbc", DBC], "give --log LOG too"),
        (["demo", "--seed", "-1"], "-1 is not in the range"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_code_2(arguments: list[str], said: str) -> None:
    assert said in refused(cansight(*arguments), 2)


def test_a_full_disk_is_one_line_and_exit_code_1() -> None:
    with Path("/dev/full").open("w") as full:
        assert refused(cansight("--help", stdout=full), 1) == "cansight: No space left on device"
        drive = ["sim", "drive", "--scenario", "healthy", "--duration", "2s", "-o"]
        assert "-: cannot be written: No space left on device" in refused(cansight(*drive, "-", stdout=full), 1)
    assert "/dev/full: cannot be written: No space left on device" in refused(cansight(*drive, "/dev/full"), 1)


@pytest.mark.parametrize("name", ["decode", "batch", "lines"])
def test_a_benchmark_on_a_recording_of_another_car_is_one_line(tmp_path: Path, name: str) -> None:
    log = tmp_path / "other.log"
    log.write_text("".join(f"({second}.000000) can0 7FE#11\n" for second in range(1, 5)))
    assert f"{log}: " in refused(cansight("bench", name, "--log", str(log), "--dbc", DBC, cwd=ROOT), 2)


def test_a_package_that_is_not_installed_names_the_extra_that_brings_it(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'onnx':\n"
        "            raise ModuleNotFoundError('not here', name=name)\n"
        "sys.meta_path.insert(0, Without())\n"
    )
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))}
    done = cansight("models", "train", str(tmp_path / "table.csv"), "-o", str(tmp_path / "pack"), env=environment)
    assert refused(done, 2) == "cansight: the package onnx is not installed; install cansight[train], which brings it"
    assert not (tmp_path / "pack").exists()


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("can.io", ["cansight[sim]", "cansight[edge]", "cansight[train]"]),
        ("influxdb_client", ["cansight[cloud]"]),
        ("paho.mqtt", ["cansight[edge]", "cansight[cloud]"]),
        ("nonsense", []),
    ],
)
def test_extras_know_what_they_bring(module: str, expected: list[str]) -> None:
    assert extras.bringing(module) == expected


def test_the_demonstration_lacks_nothing_here() -> None:
    assert extras.missing("edge", "cloud", "sim") == []
