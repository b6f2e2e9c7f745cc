"""`cansight demo` as its user runs it: to the end, through kills, interrupted at any moment, and with wrong input."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import processes
import servers
from cansight.main import main

MARK = "CANSIGHT_TEST_MARK"


class Demo:
    """One `cansight demo`; its processes carry a mark in their environment, its temporary files a folder of their own."""

    def __init__(self, tmp_path: Path, *arguments: str) -> None:
        self.mark = uuid.uuid4().hex
        self.temporary = tmp_path / "temporary"
        self.temporary.mkdir()
        self.folder = tmp_path / "demo"
        self.port = servers.free_port()
        self.out, self.err = tmp_path / "out", tmp_path / "err"
        command = [sys.executable, "-m", "cansight", "demo", "--once", "--json", "--port", str(self.port), *arguments]
        environment = os.environ | {MARK: self.mark, "TMPDIR": str(self.temporary)}
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment)

    def left(self) -> list[psutil.Process]:
        """Processes that carry the mark and are alive."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def child(self, *words: str) -> psutil.Process | None:
        """The process whose command line ends in these words first."""
        for process in self.left():
            with contextlib.suppress(psutil.Error):
                line = process.cmdline()
                if any(line[start : start + len(words)] == list(words) for start in range(len(line))):
                    return process
        return None

    def words(self) -> str:
        return self.err.read_text()

    def finish(self, wait_s: float = 200) -> tuple[int, dict[str, Any]]:
        code = self.process.wait(wait_s)
        text = self.out.read_text()
        return code, json.loads(text) if text else {}

    def receipted(self) -> int:
        """Batches with a receipt so far, by what the agents say."""
        return sum(status["batches_receipted"] for status in self._statuses())

    def drained(self) -> bool:
        """Whether everything that was driven has its receipt."""
        statuses = self._statuses()
        return bool(statuses) and all(status["drained"] for status in statuses)

    def _statuses(self) -> list[dict[str, Any]]:
        found = []
        for status in self.folder.glob("*/status.json"):
            with contextlib.suppress(ValueError, OSError):
                found.append(json.loads(status.read_text()))
        return found


@contextlib.contextmanager
def demo(tmp_path: Path, *arguments: str) -> Iterator[Demo]:
    run = Demo(tmp_path, *arguments)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()
        for process in run.left():
            with contextlib.suppress(psutil.Error):
                process.kill()


def assert_a_leak_and_nothing_lost(run: Demo, code: int, report: dict[str, Any]) -> None:
    assert code == 0, (run.words(), report)
    assert report["problems"] == []
    assert report["lost"] == report["ticks_extra"] == 0
    assert report["batches_recorded"] == report["batches_receipted"] > 0
    leaking = [ticket for ticket in report["tickets"] if ticket["fault_code"] == "coolant_leak"]
    assert [ticket["vehicle"] for ticket in leaking] == report["tickets_expected"]
    assert leaking[0]["tier"] == "unrated"
    evidence = leaking[0]["evidence"]
    assert evidence["score"] > evidence["threshold"]
    assert all({"signal", "unit", "expected", "seen"} <= item.keys() for item in evidence["contributions"])
    assert run.left() == []


def kills(run: Demo, *victims: tuple[str, ...]) -> int:
    """Kills them one after the other, each once there are receipts again, as long as there is something to drive; how many."""
    for number, victim in enumerate(victims):
        before = run.receipted()
        processes.until(lambda b=before: run.receipted() > b + 10 or run.drained() or run.process.poll() is not None, "some receipts")
        if number and run.drained():  # a machine on which a start takes longer than the drive
            return number
        process = run.child(*victim)
        assert process is not None, run.words()
        process.kill()
    return len(victims)


@pytest.mark.timeout(300)
def test_killing_the_aggregator_and_the_broker_loses_nothing(tmp_path: Path) -> None:
    with demo(tmp_path, "--folder", str(tmp_path / "demo"), "--speed", "20") as run:
        killed = kills(run, ("cloud", "run"), ("cloud", "broker"), ("cloud", "run"))
        code, report = run.finish()
        assert_a_leak_and_nothing_lost(run, code, report)
        assert report["restarts"] == killed


@pytest.mark.timeout(300)
def test_the_demonstration_on_mosquitto_and_influxdb_survives_the_broker_and_the_aggregator_being_killed(tmp_path: Path) -> None:
    broker = servers.program("mosquitto", "mosquitto")
    servers.program("influxd", "influxdb")
    arguments = ["--folder", str(tmp_path / "demo"), "--speed", "20", "--broker", "mosquitto", "--influx", "influxd"]
    with demo(tmp_path, *arguments) as run:
        killed = kills(run, (broker,), ("cloud", "run"))
        code, report = run.finish()
        assert_a_leak_and_nothing_lost(run, code, report)
        assert report["restarts"] == killed


@pytest.mark.timeout(200)
@pytest.mark.parametrize("moment", ["at once", "starting", "compiling", "flowing", "twice", "two at once"])
def test_an_interrupt_at_any_moment_leaves_nothing_behind(tmp_path: Path, moment: str) -> None:
    with demo(tmp_path) as run:
        if moment == "at once":
            processes.until(lambda: any(run.temporary.iterdir()) or run.process.poll() is not None, "the temporary folder")
        elif moment == "starting":
            processes.until(lambda: run.child("cloud", "run") is not None, "the aggregator's process")
        elif moment == "compiling":
            processes.until(
                lambda: run.child("-m", "dbc.compiler") is not None, "a DBC's compiler, a process of the aggregator or an agent"
            )
        else:
            processes.until(lambda: run.child("sim", "drive") is not None and "batches receipted" in run.words(), "frames")
        run.process.send_signal(signal.SIGTERM if moment in ("starting", "two at once") else signal.SIGINT)
        if moment == "two at once":
            run.process.send_signal(signal.SIGINT)
        if moment == "twice":
            time.sleep(0.05)  # an impatient person, not a wait for a state
            run.process.send_signal(signal.SIGINT)
        assert run.process.wait(30) == 130, run.words()
        assert run.left() == []
        assert list(run.temporary.iterdir()) == []
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", run.port))
        assert "Traceback" not in run.words()


@pytest.mark.timeout(200)
def test_a_recorded_log_takes_the_same_way(tmp_path: Path, data_dir: Path) -> None:
    folder = data_dir / "logs" / "mustang_s550"
    arguments = ["--log", str(folder / "mustang_s550.log"), "--dbc", str(folder / "ford_lincoln_base_pt.dbc"), "--speed", "20"]
    with demo(tmp_path, *arguments) as run:
        code, report = run.finish()
        assert code == 0, (run.words(), report)
        assert report["problems"] == []
        assert (report["frames"], report["signals_seen"], report["ticks"]) == (87_212, 604, 71)
        assert report["tickets"] == []
        assert run.left() == []


@pytest.mark.timeout(200)
def test_seconds_of_a_log_that_hold_no_known_frame_are_not_called_lost(tmp_path: Path) -> None:
    dbc, log = tmp_path / "car.dbc", tmp_path / "drive.log"
    dbc.write_text('VERSION ""\n\nBU_: ECU\n\nBO_ 133 Motor: 8 ECU\n SG_ Speed : 0|16@1+ (1,0) [0|0] "[/rpm]" ECU\n')
    lines = []
    for tenth in range(100):
        lines.append(f"({1_700_000_000 + tenth / 10:.6f}) can0 300#00\n")
        if tenth >= 40:
            lines.append(f"({1_700_000_000.001 + tenth / 10:.6f}) can0 085#{tenth:02X}00\n")
    log.write_text("".join(lines))
    with demo(tmp_path, "--log", str(log), "--dbc", str(dbc)) as run:
        code, report = run.finish()
        assert code == 0, (run.words(), report)
        assert (report["ticks"], report["samples"], report["ticks_missing"]) == (10, 6, 0)


def test_wrong_input_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.dbc"
    broken.write_text('VERSION ""\n\nBO_ 100 Motor: 8 ECU\n SG_ Speed 0|16@1+ (1,0) [0|0] "rpm" ECU\n')
    good = tmp_path / "good.dbc"
    good.write_text('VERSION ""\n\nBU_: ECU\n\nBO_ 100 Motor: 8 ECU\n SG_ Speed : 0|16@1+ (1,0) [0|0] "rpm" ECU\n')
    log = tmp_path / "drive.log"
    log.write_text("(1700000820.298000) can0 085#7C33800047E07C7F\n")
    other = tmp_path / "other.log"
    other.write_bytes(b"\x7fELF" + bytes(range(256)) * 4)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        cases = [
            (["--log", str(tmp_path / "none.log"), "--dbc", str(good)], str(tmp_path / "none.log")),
            (["--log", str(log), "--dbc", str(broken)], f"{broken}"),
            (["--log", str(log), "--dbc", str(tmp_path / "none.dbc")], str(tmp_path / "none.dbc")),
            (["--log", str(other), "--dbc", str(good)], str(other)),
            (["--log", str(log)], "--dbc"),
            (["--port", str(port)], f"port {port}"),
            (["--broker", "mqtt://localhost"], "mqtts://"),
            (["--broker", "mqtts://localhost:1", "--pki", str(tmp_path / "no-pki")], "no-pki"),
            (["--broker", "mqtts://[::1"], "mqtts://HOST:PORT"),
            (["--broker", "mqtts://localhost:99999"], "mqtts://HOST:PORT"),
            (["--influx", "localhost:8086"], "http://"),
            (["--influx", "http://localhost:port"], "http://HOST:PORT"),
            (["--influx", "http://a..b"], "nobody listens"),
            (["--influx", f"http://127.0.0.1:{servers.free_port()}"], "nobody listens"),
            (["--speed", "fast"], "fast"),
        ]
        temporary = tmp_path / "temporary"
        temporary.mkdir()
        command = [sys.executable, "-m", "cansight", "demo", "--once", *cases[0][0]]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | {"TMPDIR": str(temporary)}, check=False)
        assert_one_line(run.returncode, run.stderr, *cases[0])
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        for case in cases[1:]:
            with pytest.raises(SystemExit) as ended:
                main(["demo", "--once", *case[0]])
            assert_one_line(ended.value.code, capsys.readouterr().err, *case)
        assert list(temporary.iterdir()) == []


def assert_one_line(code: object, err: str, arguments: list[str], named: str) -> None:
    complaint = [line for line in err.splitlines() if line]
    assert code == 2, (arguments, err)
    assert len(complaint) == 1, (arguments, err)
    assert complaint[0].startswith("cansight: "), complaint
    assert named in complaint[0], (arguments, complaint)
