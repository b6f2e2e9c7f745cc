"""`cansight sim replay` as its user runs it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import can
import pytest

import servers
from cansight.main import main
from dbc.logs import open_log
from dbc.logs.writers import open_log_writer

HEAD = "(0000001000.{:06d}) {} {}\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Half a second of two channels, 400 frames."""
    path = tmp_path / "drive.log"
    path.write_text("".join(HEAD.format(number * 1250, f"can{number % 2}", f"{number:03X}#{number:016X}") for number in range(400)))
    return path


def run(*arguments: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["sim", "replay", *map(str, arguments)])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


class Listener:
    """Takes every frame of a virtual bus of this process, with the identifier."""

    def __init__(self, channel: str) -> None:
        self._bus = can.Bus(interface="virtual", channel=channel)

    def identifiers(self) -> list[int]:
        found = []
        while (message := self._bus.recv(0)) is not None:
            found.append(message.arbitration_id)
        return found

    def close(self) -> None:
        self._bus.shutdown()


@pytest.fixture
def listeners() -> Iterator[dict[str, Listener]]:
    found = {name: Listener(name) for name in ("replay-a", "replay-b")}
    yield found
    for listener in found.values():
        listener.close()


def test_every_channel_to_one_bus(log: Path, listeners: dict[str, Listener], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(log, "--to", "virtual:replay-a", "--speed", 20, capsys=capsys)
    assert (code, err) == (0, "")
    assert listeners["replay-a"].identifiers() == list(range(400))
    lines = dict(line.split(None, 1) for line in out.splitlines())
    assert lines["sent"] == "virtual:replay-a: 400 frames"
    assert lines["time"].startswith("0.499 s of log in ")
    assert set(lines) == {"sent", "time", "late"}


def test_each_channel_to_a_bus_of_its_own_and_json(log: Path, listeners: dict[str, Listener], capsys: pytest.CaptureFixture[str]) -> None:
    to = ["--to", "can0=virtual:replay-a", "--to", "can1=virtual:replay-b"]
    code, out, _ = run(log, *to, "--fast", "--json", capsys=capsys)
    assert code == 0
    assert listeners["replay-a"].identifiers() == list(range(0, 400, 2))
    assert listeners["replay-b"].identifiers() == list(range(1, 400, 2))
    found = json.loads(out)
    assert found["buses"] == {"virtual:replay-a": 200, "virtual:replay-b": 200}
    assert (found["frames"], found["log_s"], found["lateness_ms"], found["interrupted"]) == (400, 0.49875, None, False)


def test_what_is_not_sent_is_said(log: Path, listeners: dict[str, Listener], capsys: pytest.CaptureFixture[str]) -> None:
    with log.open("a") as more:
        more.write("(0000001000.500000) can0 20000080#0000000000000000\nnonsense\n")
    code, out, err = run(log, "--to", "can0=virtual:replay-a", "--fast", capsys=capsys)
    assert code == 0
    assert "left out      200 frames of channels that no --to names" in out
    assert "left out      1 error frames; --error-frames sends them to a virtual bus" in out
    assert err == f"cansight: {log}: 1 lines are no frames, the first is line 402\n"
    code, out, _ = run(log, "--to", "can0=virtual:replay-a", "--fast", "--error-frames", capsys=capsys)
    assert "virtual:replay-a: 201 frames" in out


@pytest.mark.parametrize("suffix", [".log", ".asc", ".blf", ".mf4"])
def test_every_format_that_is_written(
    log: Path, suffix: str, tmp_path: Path, listeners: dict[str, Listener], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"other{suffix}"
    with open_log_writer(path) as writer:
        for block in open_log(log):
            writer.write(block)
    assert run(path, "--to", "virtual:replay-a", "--fast", capsys=capsys)[0] == 0
    assert listeners["replay-a"].identifiers() == list(range(400))


def test_a_window_and_two_logs(log: Path, tmp_path: Path, listeners: dict[str, Listener], capsys: pytest.CaptureFixture[str]) -> None:
    window = ["--from", "0.1s", "--until", "1970-01-01T00:16:40.2"]
    assert run(log, "--to", "virtual:replay-a", "--fast", *window, capsys=capsys)[0] == 0
    assert listeners["replay-a"].identifiers() == list(range(80, 160))
    other = tmp_path / "other.log"
    other.write_text(HEAD.format(100, "can0", "7FF#"))
    to = ["--to", "virtual:replay-a", "--to", "2/can0=virtual:replay-b"]
    assert run(log, other, *to, "--fast", capsys=capsys)[0] == 0
    assert listeners["replay-b"].identifiers() == [0x7FF]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--to", "virtual:x", "--speed", "0"], "--speed: expected a number above 0, found 0"),
        (["--to", "virtual:x", "--speed", "-2"], "--speed: expected a number above 0, found -2"),
        (["--to", "virtual:x", "--speed", "nan"], "--speed: expected a number above 0, found nan"),
        (["--to", "virtual:x", "--speed", "2", "--fast"], "--speed and --fast: give one of them"),
        (["--to", "virtual:x", "--from", "9"], "no frame between --from and --until; as far as it was read the log has 0.499 s from 1970"),
        (["--to", "virtual:x", "--from", "2", "--until", "1"], "--until: expected a time after --from"),
        (["--to", "virtual:x", "--until", "0"], "no frame between --from and --until"),
        (["--to", "virtual:x", "--from", "noon"], "expected seconds from the log's first frame (12.5, 90s, 2m) or a time like"),
        (["--to", "can7=virtual:x"], "drive.log: no channel can7, which --to names; there are can0, can1"),
        (["--to", "can0=virtual:x", "--to", "can7=virtual:y"], "drive.log: no channel can7, which --to names"),
        (["--to", "nonsense:x"], "--to nonsense:x: no such interface; there are canalystii, "),
        (["--to", "socketcan:nosuch0"], "--to socketcan:nosuch0: no such network interface; "),
        (["--to", "pcan:PCAN_USBBUS1"], "pcan is an interface to hardware: recorded frames could move something; on a bench, add --i-am"),
        (["--to", "slcan:/dev/null", "--i-am-on-a-bench", "--error-frames"], "--error-frames: slcan:/dev/null is no virtual bus"),
        (["--to", "virtual"], "--to virtual: expected INTERFACE:CHANNEL"),
        ([], "Missing option '--to'"),
    ],
)
def test_wrong_input_is_one_line(log: Path, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(log, *arguments, capsys=capsys)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert expected in err


@pytest.mark.parametrize(("text", "expected"), [("", "is empty"), ("hello\n", "is not a log that can be read"), (None, "No such file")])
def test_a_log_that_cannot_be_played(tmp_path: Path, text: str | None, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.log"
    if text is not None:
        path.write_text(text)
    code, _, err = run(path, "--to", "virtual:x", capsys=capsys)
    assert (code, err.count("\n")) == (2, 1)
    assert expected in err


def test_standard_input_cannot_be_looped(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-", "--to", "virtual:x", "--loop", capsys=capsys)[::2] == (
        2,
        "cansight: --loop: standard input cannot be read again; give a file\n",
    )


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "cansight", "sim", "replay", *map(str, arguments)]


GROUP = "239.74.163.77"
PORT = 40_000 + os.getpid() % 20_000  # tests run in several processes at once, and each hears only its own


@pytest.fixture
def multicast() -> Iterator[Any]:
    """The other end of a bus that other processes can send to."""
    try:
        bus = can.Bus(interface="udp_multicast", channel=GROUP, port=PORT)
    except (OSError, can.CanError) as error:
        servers.leave_out(f"no multicast on this machine: {error}")
    yield bus
    bus.shutdown()


def test_from_a_pipe_to_another_process(log: Path, multicast: Any) -> None:
    with subprocess.Popen(
        command("-", "--to", f"udp_multicast:{GROUP},port={PORT}"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as replay:
        assert replay.stdin is not None
        replay.stdin.write(log.read_bytes())
        replay.stdin.close()
        found = [multicast.recv(30) for _ in range(400)]
    assert [message.arbitration_id for message in found] == list(range(400))
    assert [int.from_bytes(message.data) for message in found] == list(range(400))
    assert replay.returncode == 0


@pytest.mark.parametrize(("options", "code"), [(["--loop"], 0), (["--loop", "--fast"], 0), (["--speed", "0.001"], 130)])
def test_ctrl_c_ends_it_with_the_summary(log: Path, options: list[str], code: int, multicast: Any) -> None:
    line = command(log, "--to", f"udp_multicast:{GROUP},port={PORT}", "--json", *options)
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as replay:
        assert multicast.recv(30) is not None
        replay.send_signal(signal.SIGINT)
        out, err = replay.communicate(timeout=30)
    assert (replay.returncode, err) == (code, "")
    found = json.loads(out)
    assert found["interrupted"] is True
    assert found["frames"] >= 1
