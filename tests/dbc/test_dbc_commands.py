"""`cansight dbc` and `cansight log`, as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def cansight(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "cansight", *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture
def mustang(data_dir: Path) -> Path:
    return data_dir / "logs" / "mustang_s550"


def test_log_info_says_how_much_of_the_log_a_dbc_explains(mustang: Path) -> None:
    done = cansight("log", "info", mustang / "mustang_s550.log", "--dbc", mustang / "ford_lincoln_base_pt.dbc", "--json")
    assert done.returncode == 0, done.stderr
    (info,) = json.loads(done.stdout)
    assert (info["format"], info["frames"], info["channels"]) == ("candump", 87212, {"can0": 87212})
    coverage = info["coverage"]
    assert (coverage["frames_decoded"], coverage["seen"], coverage["changing"]) == (84058, 604, 108)
    assert sum(frames for _, _, frames in info["unknown"]) == 87212 - 84058
    human = cansight("log", "info", mustang / "mustang_s550.log", "--dbc", mustang / "ford_lincoln_base_pt.dbc")
    assert "604 of 2150 seen, 108 of them changing" in human.stdout


def test_dbc_info_lists_signals(mustang: Path) -> None:
    done = cansight("dbc", "info", f"{mustang / 'ford_lincoln_base_pt.dbc'}@can3", "--json")
    info = json.loads(done.stdout)
    assert info["channels"] == ["can3"]
    assert len(info["signals"]) == info["signal_count"] == 2150
    listed = cansight("dbc", "info", mustang / "ford_lincoln_base_pt.dbc", "--signals")
    assert "PowertrainData_2.EngLoad_Pc_CalcDiag" in listed.stdout


def test_dbc_check_looks_at_every_file_and_fails_when_one_does_not_load(data_dir: Path, mustang: Path) -> None:
    good, bad = mustang / "ford_lincoln_base_pt.dbc", data_dir / "dbc" / "kona-ev" / "pcan.dbc"
    done = cansight("dbc", "check", bad, good)
    assert done.returncode == 2
    assert f"{bad}:6:9: invalid syntax" in done.stdout
    assert f"{good}: loads" in done.stdout
    assert cansight("dbc", "check", good).returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("log", "info", "/none.log"),
        ("log", "info", "/"),
        ("log", "info", __file__),
        ("dbc", "info", "/none.dbc"),
        ("dbc", "info", __file__),
        ("log", "info"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments: tuple[str, ...]) -> None:
    done = cansight(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("cansight: ")
    assert done.stderr.count("\n") == 1
