"""Interfaces of python-can as a source, on its in-process bus and on multicast over loopback; and which source the settings name."""

import logging
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from can_bus import Collector, frames_of, until

import servers
from cansight import settings
from cansight.errors import UsageError
from dbc.compiler import CompiledDbc, compile_dbc
from dbc.frames import CANFD_BRS, CANFD_FDF, EFF_FLAG, RTR_FLAG, filled_flags
from edge.boot_clock import BootClockFile
from edge.config import EdgeConfig, SourceConfig
from edge.errors import SourceError
from edge.sources.channel import State
from edge.sources.choice import open_source
from edge.sources.clock import SteadyClock, system_instant
from edge.sources.python_can import DriverStamps, PythonCan

can: Any = pytest.importorskip("can")

DBC = 'VERSION ""\n\nBU_: ECU\n\nBO_ 256 Motor: 8 ECU\n SG_ Speed : 0|16@1+ (1,0) [0|0] "rpm" ECU\n'


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    made = threading.Event()
    yield made
    made.set()


def opened(interface: str, options: dict[str, Any], stop: threading.Event) -> PythonCan:
    clock = SteadyClock()
    clock.start()
    source = PythonCan(interface, options, "can0", clock, stop)
    source.open()
    return source


MESSAGES = [
    {"arbitration_id": 0x123, "data": b"12345678", "is_extended_id": False},
    {"arbitration_id": 0x1ABCDEF0, "data": b"", "is_extended_id": True},
    {"arbitration_id": 0x10, "is_remote_frame": True, "dlc": 4, "is_extended_id": False},
    {"arbitration_id": 0x11, "data": bytes(range(64)), "is_fd": True, "is_extended_id": False},
    {"arbitration_id": 0x12, "data": b"abc", "is_extended_id": False},
    {"arbitration_id": 0x13, "data": b"abc", "is_fd": True, "bitrate_switch": True, "is_extended_id": False},
]
FRAMES = [
    ("can0", 0x123, b"12345678"),
    ("can0", EFF_FLAG | 0x1ABCDEF0, b""),
    ("can0", RTR_FLAG | 0x10, b""),
    ("can0", 0x11, bytes(range(64))),
    ("can0", 0x12, b"abc"),
    ("can0", 0x13, b"abc"),
]


@pytest.mark.parametrize("interface", ["virtual", "udp_multicast"])
def test_every_kind_of_frame_comes_with_the_time_of_its_sending(interface: str, stop: threading.Event) -> None:
    options: dict[str, Any] = {"channel": "here"}
    if interface == "udp_multicast":
        pytest.importorskip("msgpack")
        options = {"channel": "239.74.163.2", "port": servers.free_port(), "fd": True}
    try:
        source = opened(interface, options, stop)
    except SourceError as error:
        if interface == "virtual":
            raise
        pytest.skip(f"no multicast here: {error}")
    got = Collector(source.frames(), stop)
    before = time.time_ns()
    with can.Bus(interface=interface, **options) as out:
        for message in MESSAGES:
            out.send(can.Message(**message))
    until(lambda: len(got) >= len(MESSAGES), "the frames")
    got.stop()
    assert frames_of(got.blocks) == FRAMES
    flags = [flag for block in got.blocks for flag in filled_flags(block.flags, block.length).tolist()]
    assert flags == [0, 0, 0, CANFD_FDF, 0, CANFD_FDF | CANFD_BRS]
    stamps = [int(stamp) for block in got.blocks for stamp in block.timestamp_ns]
    assert stamps == sorted(stamps)
    assert before - 1_000_000 <= stamps[0] <= stamps[-1] <= time.time_ns()
    assert source.channels[0].status.frames == len(MESSAGES)


def test_error_frames_are_counted_and_left_out(stop: threading.Event) -> None:
    source = opened("virtual", {"channel": "errors"}, stop)
    got = Collector(source.frames(), stop)
    with can.Bus(interface="virtual", channel="errors") as out:
        out.send(can.Message(is_error_frame=True, arbitration_id=0x40))
        out.send(can.Message(arbitration_id=1, is_extended_id=False))
    got.stop()  # at once: what came before it is handed over
    assert len(got) == 1
    assert (source.channels[0].status.error_frames, source.channels[0].status.bus_offs) == (1, 1)


def test_a_driver_that_counts_from_its_own_start_is_put_on_utc(stop: threading.Event) -> None:
    source = opened("virtual", {"channel": "stamps", "preserve_timestamps": True}, stop)
    got = Collector(source.frames(), stop)
    before = time.time_ns()
    with can.Bus(interface="virtual", channel="stamps", preserve_timestamps=True) as out:
        for at in (17.25, 17.75):
            out.send(can.Message(arbitration_id=1, is_extended_id=False, timestamp=at))
    until(lambda: len(got) == 2, "the frames")
    got.stop()
    first, second = (int(stamp) for block in got.blocks for stamp in block.timestamp_ns)
    assert second - first == 500_000_000
    assert before <= second <= time.time_ns()


@pytest.mark.parametrize("drift", [-50e-6, 0.0, 50e-6])
@pytest.mark.parametrize("start_s", [0.0, 1.7e9])
def test_stamps_stay_with_the_computers_clock_for_weeks_and_when_it_is_set(drift: float, start_s: float) -> None:
    """An interface that counts by a crystal of its own, from its start or from UTC as it was then; after five days UTC is learnt."""
    stamps, ages = DriverStamps(), []
    for up_s in range(0, 10 * 86_400, 100):
        real_s = 1.7e9 + up_s + (2e7 if up_s >= 5 * 86_400 else 0.0)
        own_s = start_s + up_s * (1 + drift)
        found = stamps.utc(np.array([int((own_s - 0.05) * 1e9), int(own_s * 1e9)]), int(real_s * 1e9))
        assert abs(int(found[1] - found[0]) - 50_000_000) < 1000
        ages.append((int(real_s * 1e9) - int(found[1])) / 1e9)
    assert min(ages) >= 0.0
    assert max(ages) < 0.25, "43 s, or eight months"


class Breaking:
    """A bus whose hardware goes after a frame."""

    def __init__(self) -> None:
        self.received: queue.Queue[Any] = queue.Queue()

    def recv(self, timeout: float) -> Any:
        try:
            item = self.received.get(timeout=max(timeout, 0.001))
        except queue.Empty:
            return None
        if isinstance(item, Exception):
            raise item
        return item

    def shutdown(self) -> None:
        raise OSError("already gone")


def test_an_interface_that_goes_is_waited_for(
    stop: threading.Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    buses: list[Breaking] = []

    def make(**_: Any) -> Breaking:
        if len(buses) == 1:
            buses.append(Breaking())
            raise can.CanInitializationError("not plugged in")
        buses.append(Breaking())
        return buses[-1]

    monkeypatch.setattr(can, "Bus", make)
    source = opened("pcan", {}, stop)
    got = Collector(source.frames(), stop)
    buses[0].received.put(can.Message(arbitration_id=1, is_extended_id=False, timestamp=time.time()))
    buses[0].received.put(can.CanOperationError("pulled out"))
    until(lambda: len(buses) == 3, "another try")
    until(lambda: source.channels[0].status.state is not State.DOWN, "the interface")
    buses[2].received.put(can.Message(arbitration_id=2, is_extended_id=False, timestamp=time.time()))
    until(lambda: len(got) == 2, "both frames")
    got.stop()
    assert [line for line in caplog.messages if "interface" in line] == [
        "can0: the interface is down (pulled out); waiting for it",
        "can0: the interface is back",
    ]


@pytest.mark.parametrize("interface", ["no_such_thing", "pcan"])
def test_an_interface_that_cannot_be_opened_is_one_line(interface: str, stop: threading.Event) -> None:
    with pytest.raises(SourceError, match=rf"^source\.interface: {interface}: cannot be opened: [^\n]+$"):
        opened(interface, {}, stop)


@pytest.mark.parametrize("first", ["", "import edge.poller\n"])
def test_python_can_comes_without_pandas(first: str) -> None:
    code = (
        f"import sys, threading\n{first}from edge.sources.python_can import PythonCan\nfrom edge.sources.clock import SteadyClock\n"
        "PythonCan('virtual', {'channel': 'x'}, 'can0', SteadyClock(), threading.Event()).open()\n"
        "print(sorted({'can', 'cantools', 'pandas', 'asammdf', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent.parent.parent, check=True)
    assert done.stdout.strip() == "['can']"


# Which source the settings name


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ({}, "exactly one of log, socketcan and interface, got none"),
        ({"log": "x.log", "socketcan": ["can0"]}, "exactly one of log, socketcan and interface, got log and socketcan"),
        ({"socketcan": ["can0"], "speed": 1.0}, "speed with a log only"),
        ({"log": "x", "channel": "y"}, "channel and options with interface only"),
        ({"socketcan": ["can0", "can0"]}, "each interface once"),
        ({"socketcan": ["a-name-that-is-too-long"]}, "length <= 15"),
        ({"socketcan": "can0"}, "Expected `array`"),
    ],
)
def test_a_source_is_named_once_and_well(source: dict[str, Any], complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=complaint):
        msgspec.convert(source, SourceConfig)


def test_a_wrong_source_in_the_settings_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    path.write_text('vehicle = "0123456789abcdef"\nstate = "s"\n[source]\nlog = "a"\ninterface = "pcan"\n')
    with pytest.raises(
        UsageError, match=r"edge\.toml: source: expected exactly one of log, socketcan and interface, found log and interface"
    ):
        settings.load(path, EdgeConfig)


@pytest.fixture
def compiled(tmp_path: Path) -> CompiledDbc:
    (tmp_path / "a.dbc").write_text(DBC)
    return compile_dbc([str(tmp_path / "a.dbc")])


@pytest.fixture
def boot_clock(tmp_path: Path) -> BootClockFile:
    return BootClockFile(tmp_path, "system", 0, system_instant)


def test_a_bus_takes_the_name_of_the_only_dbc_channel(compiled: CompiledDbc, stop: threading.Event, boot_clock: BootClockFile) -> None:
    source = open_source(SourceConfig(interface="virtual", channel="PCAN_USBBUS1"), compiled, stop, boot_clock)
    assert [channel.name for channel in source.channels] == ["can0"]
    assert source.clock is not None
    assert source.clock.source == "system"
    assert source.live is not None
    assert abs(source.clock.utc_ms - time.time_ns() // 1_000_000) < 60_000
    stop.set()
    assert list(source.frames) == []


def test_a_channel_that_no_dbc_is_for_is_refused(compiled: CompiledDbc, stop: threading.Event, boot_clock: BootClockFile) -> None:
    with pytest.raises(SourceError, match=r"^source\.socketcan: no DBC is for can1; dbc\.files names can0 \(FILE@CHANNEL\)$"):
        open_source(SourceConfig(socketcan=["can1"]), compiled, stop, boot_clock)
