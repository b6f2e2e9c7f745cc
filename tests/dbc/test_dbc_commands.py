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
    assert (info["format"], info["frames"], list(info["channels"])) == ("candump", 87212, ["can0"])
    coverage = info["coverage"]
    # 604 signals come, but the light sensor says for 70 s that it has no data.
    assert (coverage["frames_decoded"], coverage["seen"], coverage["changing"]) == (84058, 603, 108)
    assert sum(frames for _, _, frames in info["unknown"]) == 87212 - 84058
    human = cansight("log", "info", mustang / "mustang_s550.log", "--dbc", mustang / "ford_lincoln_base_pt.dbc")
    assert "603 of 2150 seen, 108 of them changing" in human.stdout


def test_dbc_info_lists_signals(mustang: Path) -> None:
    done = cansight("dbc", "info", f"{mustang / 'ford_lincoln_base_pt.dbc'}@can3", "--json")
    info = json.loads(done.stdout)
    assert info["channels"] == ["can3"]
    assert len(info["signals"]) == info["signal_count"] == 2150
    listed = cansight("dbc", "info", mustang / "ford_lincoln_base_pt.dbc", "--signals")
    assert "PowertrainData_2.EngLoad_Pc_CalcDiag" in listed.stdout


def test_dbc_check_says_what_of_each_file_is_usable(data_dir: Path, mustang: Path) -> None:
    good, repaired = mustang / "ford_lincoln_base_pt.dbc", data_dir / "dbc" / "kona-ev" / "pcan.dbc"
    done = cansight("dbc", "check", repaired, good)
    assert done.returncode == 0
    assert f"{repaired}:3: repaired: NS_ is not followed by BS_" in done.stdout
    assert f"{repaired}: 107 messages, 445 signals; 1 repaired, 0 left out, 0 doubtful" in done.stdout
    assert f"{good}: 331 messages, 2150 signals; 0 repaired" in done.stdout
    strict = cansight("dbc", "check", "--strict", repaired, good)
    assert strict.returncode == 2


def test_dbc_check_as_json_and_its_exit_codes(data_dir: Path, tmp_path: Path) -> None:
    lost, nothing = data_dir / "dbc" / "opendbc" / "toyota_2017_ref_pt.dbc", tmp_path / "none.dbc"
    nothing.write_text("BO_ 1 Engine 8 ECU\n")
    done = cansight("dbc", "check", lost, "--json")
    assert done.returncode == 1
    (entry,) = json.loads(done.stdout)
    assert (entry["file"], entry["format"], entry["messages"], entry["signals"], entry["loads"]) == (str(lost), "dbc", 111, 1040, True)
    assert len(entry["skipped"]) == 32
    assert all(flaw["line"] > 0 and "has more than 29 bits" in flaw["why"] for flaw in entry["skipped"])
    assert not entry["repaired"]
    done = cansight("dbc", "check", lost, nothing, "--json")
    assert done.returncode == 2
    assert [(entry["loads"], entry["line"]) for entry in json.loads(done.stdout)] == [(True, None), (False, 1)]


def test_dbc_check_summary_is_a_table(data_dir: Path) -> None:
    done = cansight("dbc", "check", "--summary", data_dir / "dbc" / "kona-ev" / "pcan.dbc", data_dir / "dbc" / "kona-ev" / "ccan.dbc")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].split() == ["2", "files", "109", "446", "2", "0"]


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
