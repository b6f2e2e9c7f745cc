"""`cansight sim drive`, as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest

from cansight.commands.sim_times import duration, seconds
from dbc.frames import FrameBlock
from dbc.logs import open_log

COMMAND = [sys.executable, "-m", "cansight", "sim", "drive"]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)


def test_the_same_seed_gives_the_same_bytes_and_a_truth(tmp_path: Path) -> None:
    one, two, truth, early = tmp_path / "one.log", tmp_path / "two.log", tmp_path / "truth.json", tmp_path / "early.toml"
    early.write_text('words = "an early leak"\n[[faults]]\ncode = "coolant_leak"\nonset = "3s"\ndevelopment = "4s"\n')
    done = run("--scenario", early, "--seed", "4", "--duration", "8s", "-o", one, "--truth", truth, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["seconds"] == 8
    assert run("--scenario", early, "--seed", "4", "--duration", "8s", "-o", two).returncode == 0
    assert one.read_bytes() == two.read_bytes()
    assert json.loads(truth.read_text())["faults"][0]["fault_code"] == "coolant_leak"
    assert sum(len(block) for block in open_log(one)) == summary["frames"] == one.read_bytes().count(b"\n")


def test_a_drive_can_be_read_through_a_fifo(tmp_path: Path) -> None:
    fifo = tmp_path / "bus"
    os.mkfifo(fifo)
    process = subprocess.Popen([*COMMAND, "--scenario", "healthy", "--duration", "5s", "-o", str(fifo)], stdout=subprocess.DEVNULL)
    try:
        assert sum(len(block) for block in open_log(fifo)) > 5 * 1000
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_a_reader_that_leaves_ends_the_drive_quietly() -> None:
    process = subprocess.Popen(
        [*COMMAND, "--scenario", "healthy", "--duration", "1h", "-o", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith(b"(1767600000.")
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


def test_ctrl_c_ends_a_paced_drive_quietly() -> None:
    command = [*COMMAND, "--scenario", "healthy", "--duration", "1h", "--speed", "1", "-o", "-"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline()  # it runs
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert complaint == b""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--scenario", "helthy", "-o", "-"), "did you mean healthy? there are: attacks"),
        (("--scenario", "nope.toml", "-o", "-"), "nope.toml: cannot be read: No such file"),
        (("--scenario", "healthy", "--vehicle", "1", "-o", "-"), "--vehicle: expected a number from 0 to 0, found 1"),
        (("--scenario", "twin", "-o", "-"), "say how much of it, like --duration 1d"),
        (
            (
                "--scenario",
                "healthy",
            ),
            "-o: is missing",
        ),
        (("--scenario", "healthy", "-o", "x.txt"), "x.txt: is no kind of log that can be written"),
        (("--scenario", "healthy", "-o", "-", "--plot", "x.gif"), "x.gif: is no picture's name"),
        (("--scenario", "healthy", "-o", "/nonexistent/x.blf"), "cannot be written"),
        (("--scenario", "healthy", "--seed", "-1", "-o", "-"), "seed: expected 0 or more"),
        (("--scenario", "healthy", "--duration", "3x", "-o", "-"), "expected a duration"),
        (("--scenario", "healthy", "--start", "soon", "-o", "-"), "expected `now`"),
        (("--scenario", "healthy", "--speed", "0", "-o", "-"), "speed"),
        (("--scenario", "healthy", "-o", "/nonexistent/x.log"), "cannot be written"),
        (("--scenario", "healthy", "-o", "-", "--truth", "/nonexistent/x.json"), "cannot be written"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_two(arguments: tuple[str, ...], complaint: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("cansight: ")
    assert complaint in done.stderr


@pytest.mark.parametrize("suffix", [".asc", ".blf", ".mf4"])
def test_a_drive_in_another_format_has_the_same_frames(tmp_path: Path, suffix: str) -> None:
    text, other = tmp_path / "drive.log", tmp_path / f"drive{suffix}"
    for path in (text, other):
        done = run("--scenario", "healthy", "--duration", "2s", "-o", path)
        assert done.returncode == 0, done.stderr
    one, two = ([(tuple(block.frame_id.tolist()), block.length.sum()) for block in [whole(path)]] for path in (text, other))
    if suffix == ".mf4":  # a group each for long and short frames: their order is by time within a microsecond
        assert (sorted(one[0][0]), one[0][1]) == (sorted(two[0][0]), two[0][1])
    else:
        assert one == two


def whole(path: Path) -> FrameBlock:
    blocks = list(open_log(path))
    parts = [np.concatenate([getattr(block, name) for block in blocks]) for name in ("timestamp_ns", "frame_id", "channel", "length")]
    return FrameBlock(blocks[-1].channels, *parts, np.zeros((0, 8), np.uint8), 0)


def test_a_picture_alone_needs_no_frames_and_a_log_can_begin_later(tmp_path: Path) -> None:
    picture, log, truth = tmp_path / "leak.png", tmp_path / "late.log", tmp_path / "late.json"
    done = run("--scenario", "coolant_leak", "--duration", "130s", "--plot", picture)
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
    done = run("--scenario", "coolant_leak", "--after", "4m", "--duration", "2s", "-o", log, "--truth", truth, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["seconds"] == 2
    first_ns = int(next(open_log(log)).timestamp_ns[0])
    assert first_ns // 10**9 == json.loads(truth.read_text())["start_ns"] // 10**9 + 240


def test_the_truth_of_an_attack_says_which_frames_were_touched(tmp_path: Path) -> None:
    scenario, log, truth = tmp_path / "mine.toml", tmp_path / "mine.log", tmp_path / "mine.json"
    scenario.write_text(
        'words = "a silent brake"\n[[faults]]\ncode = "control_unit_silent"\nmessage = "ESP_Brake"\nonset = "1s"\nfor = "1s"\n'
    )
    done = run("--scenario", scenario, "--duration", "3s", "-o", log, "--truth", truth)
    assert done.returncode == 0, done.stderr
    (fault,) = json.loads(truth.read_text())["faults"]
    assert fault["frames"]["removed"] > 10
    assert fault["messages"][0]["name"] == "ESP_Brake"


def test_scenarios_are_listed_and_described() -> None:
    command = [*COMMAND[:-1], "scenario"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "\nhealthy " in listed
    assert "\nhealth_manager " in listed
    described = subprocess.run([*command, "health_manager", "--seed", "2"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert "fault         vehicle 1: brake_pad_worn at front_right from 2 days, developed at 37 days" in described
    assert subprocess.run([*command, "health_manager", "--seed", "2"], capture_output=True, text=True, check=True).stdout == described


def test_every_command_reads_times_alike() -> None:
    assert [seconds(text) for text in ("0s", "200ms", "12.5s", "2m", "1.15h", "7d")] == [0.0, 0.2, 12.5, 120.0, 4140.0, 604_800.0]
    assert [duration(text) for text in ("90s", "30m", "1.5m", "1000ms", "2h", "7d")] == [90, 1800, 90, 1, 7200, 604_800]
    for text in ("", "5", "0s", "1.5s", "500ms", "3x", "-1s", "1e3s", "1 h"):
        with pytest.raises(click.BadParameter, match="expected a duration like"):
            duration(text)
