"""`cansight sim drive`, as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dbc.logs import open_log

COMMAND = [sys.executable, "-m", "cansight", "sim", "drive"]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)


def test_the_same_seed_gives_the_same_bytes_and_a_truth(tmp_path: Path) -> None:
    one, two, truth = tmp_path / "one.log", tmp_path / "two.log", tmp_path / "truth.json"
    done = run("--scenario", "coolant_leak", "--seed", "4", "--duration", "130s", "-o", one, "--truth", truth, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["seconds"] == 130
    assert run("--scenario", "coolant_leak", "--seed", "4", "--duration", "130s", "-o", two).returncode == 0
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
        (("--scenario", "nope", "-o", "-"), "there are: healthy, coolant_leak"),
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
