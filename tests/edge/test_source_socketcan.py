"""Raw CAN sockets as a source: every frame in order with the kernel's stamp, states, counters. On socket pairs; tests/live has a bus."""

import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from can_bus import Collector, PairBus, classic, fd, frames_of, until

from dbc.compiler import compile_dbc
from dbc.frames import CANFD_BRS, CANFD_ESI, CANFD_FDF, EFF_FLAG, ERR_FLAG, RTR_FLAG, filled_flags
from edge.boot_clock import BootClockFile
from edge.config import SourceConfig
from edge.errors import SourceError
from edge.sources import choice
from edge.sources.channel import ASLEEP_S, Channel, State
from edge.sources.clock import Instant, SteadyClock, system_instant
from edge.sources.filters import MOST_FILTERS, TRANSPORT_GROUPS, Filter, wanted
from edge.sources.receive_buffer import ReceiveBuffer
from edge.sources.socketcan import CAPACITY, SocketCan

S = 1_000_000_000


@pytest.fixture
def bus() -> Iterator[PairBus]:
    made = PairBus()
    yield made
    made.close()


Start = Callable[..., tuple[SocketCan, Collector]]


@pytest.fixture
def start(bus: PairBus) -> Iterator[Start]:
    running: list[Collector] = []

    def make(*channels: str) -> tuple[SocketCan, Collector]:
        stop, clock = threading.Event(), SteadyClock()
        clock.start()
        source = SocketCan([(channel, ()) for channel in channels], clock, stop, bus.open)
        source.open()
        running.append(Collector(source.frames(), stop))
        return source, running[-1]

    yield make
    for collector in running:
        collector.stop()


def test_every_frame_comes_in_order_with_its_payload(bus: PairBus, start: Start) -> None:
    _, got = start("can0")
    sent = [(number % 0x800, number.to_bytes(4, "little")[: number % 5]) for number in range(1000)]
    bus.send("can0", *[classic(frame_id, payload) for frame_id, payload in sent])
    until(lambda: len(got) >= 1000, "the frames")
    assert frames_of(got.blocks) == [("can0", frame_id, payload) for frame_id, payload in sent]
    assert all(block.data.shape[1] == 8 and block.data.flags.c_contiguous for block in got.blocks)


def test_a_burst_of_more_than_a_block_is_whole(bus: PairBus, start: Start) -> None:
    source, got = start("can0")
    total = 3 * CAPACITY + 17
    bus.send("can0", *[classic(0x123, number.to_bytes(8, "big")) for number in range(total)])
    until(lambda: len(got) >= total, "the burst")
    assert [int.from_bytes(payload, "big") for _, _, payload in frames_of(got.blocks)] == list(range(total))
    assert source.channels[0].status.frames == total
    assert source.channels[0].status.frames_dropped == 0


def test_classic_and_fd_frames_extended_and_remote_ones(bus: PairBus, start: Start) -> None:
    _, got = start("can0")
    frames = [
        (0x7FF, b"\1\2\3"),
        (EFF_FLAG | 0x1ABCDEF0, b"12345678"),
        (0x10, bytes(range(64))),
        (0x11, b""),
        (RTR_FLAG | 0x12, b""),
        (EFF_FLAG | 0x13, b"x" * 12),
    ]
    bus.send("can0", *[(fd if len(payload) > 8 else classic)(frame_id, payload) for frame_id, payload in frames])
    until(lambda: len(got) >= len(frames), "the frames")
    assert frames_of(got.blocks) == [("can0", frame_id, payload) for frame_id, payload in frames]


def test_short_fd_frames_and_their_bit_rate_are_told_and_classic_buses_pay_nothing(bus: PairBus, start: Start) -> None:
    _, got = start("can0", "can1")
    long = struct.pack("=IBB2x64s", 0x20, 64, CANFD_BRS | CANFD_FDF, bytes(64))
    bus.send("can0", classic(1, b"abc"), long)
    until(lambda: len(got) >= 2, "the frames")
    assert all(block.flags is None for block in got.blocks)
    before = len(got.blocks)
    flags = [0, 0, CANFD_BRS, CANFD_ESI | CANFD_FDF, 0]
    sizes = [3, 3, 8, 0, 64]
    sent = [struct.pack("=IBB2x64s", 2, size, flag, bytes(64)) for size, flag in zip(sizes[1:], flags[1:], strict=True)]
    bus.send("can0", classic(2, b"abc"))
    bus.send("can1", classic(9, b""))
    bus.send("can0", *sent)
    until(lambda: len(got) >= 8, "the frames")
    found = [
        flag
        for block in got.blocks[before:]
        for flag, identifier in zip(filled_flags(block.flags, block.length).tolist(), block.frame_id.tolist(), strict=True)
        if identifier == 2
    ]
    assert found == [0, *(flag | CANFD_FDF for flag in flags[1:])]


def test_what_stands_behind_the_payload_is_zero_and_a_wild_length_is_bounded(bus: PairBus, start: Start) -> None:
    _, got = start("can0")
    bus.send("can0", classic(1, b"\xff" * 8, length=3), classic(2, b"\xff" * 8, length=255), fd(3, b"\xff" * 64)[:4] + b"\xff" * 68)
    until(lambda: len(got) >= 3, "the frames")
    data = np.concatenate([np.pad(block.data, ((0, 0), (0, 64 - block.data.shape[1]))) for block in got.blocks])
    assert [row[:8].tobytes() for row in data] == [b"\xff" * 3 + bytes(5), b"\xff" * 8, b"\xff" * 8]
    assert np.concatenate([block.length for block in got.blocks]).tolist() == [3, 8, 64]


def test_what_is_no_frame_is_counted_and_left_out(bus: PairBus, start: Start) -> None:
    source, got = start("can0")
    bus.send("can0", b"too short", classic(1, b"1"), b"x" * 40, b"y" * 200, classic(2, b"2"))
    until(lambda: len(got) >= 2, "the frames")
    assert [frame_id for _, frame_id, _ in frames_of(got.blocks)] == [1, 2]
    assert (source.channels[0].status.frames, source.channels[0].status.frames_damaged) == (2, 3)


def test_stamps_are_the_kernels_of_the_moment_of_sending(bus: PairBus, start: Start) -> None:
    _, got = start("can0")
    instants = []
    for number in range(50):
        before = time.time_ns()
        bus.send("can0", classic(number, b""))
        instants.append((before, time.time_ns()))
    until(lambda: len(got) >= 50, "the frames")
    stamps = np.concatenate([block.timestamp_ns for block in got.blocks])
    assert (np.diff(stamps) >= 0).all()
    for stamp, (before, after) in zip(stamps.tolist(), instants, strict=True):
        assert before - 1000 <= stamp <= after + 1000
    assert all(instants[0][0] <= block.entered_ns for block in got.blocks)


def test_channels_are_told_apart_and_blocks_are_in_the_order_of_stamps(bus: PairBus, start: Start) -> None:
    source, got = start("can0", "can1", "can2")
    sent = [(f"can{number * 7 % 3}", number) for number in range(900)]
    for channel, number in sent:
        bus.send(channel, classic(number, b""))
    until(lambda: len(got) >= 900, "the frames")
    found = [(channel, frame_id) for channel, frame_id, _ in frames_of(got.blocks)]
    assert sorted(found, key=lambda pair: pair[1]) == sent
    for block in got.blocks:
        assert block.channels == ("can0", "can1", "can2")
        assert (np.diff(block.timestamp_ns) >= 0).all()
    assert [channel.status.frames for channel in source.channels] == [300, 300, 300]


def test_error_frames_are_counted_and_bus_off_is_a_state(bus: PairBus, start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    source, got = start("can0")
    status = source.channels[0].status
    bus.send("can0", classic(1, b"1"), classic(ERR_FLAG | 0x04, bytes(8)), classic(ERR_FLAG | 0x40, bytes(8)))
    until(lambda: status.error_frames == 2, "the error frames")
    assert status.bus_offs == 1
    bus.send("can0", classic(ERR_FLAG | 0x100, bytes(8)), classic(2, b"2"))
    until(lambda: len(got) >= 2, "the frames")
    assert [frame_id for _, frame_id, _ in frames_of(got.blocks)] == [1, 2]
    until(lambda: status.state is State.AWAKE, "the bus")
    assert (status.error_frames, status.bus_offs, status.frames) == (3, 1, 2)
    assert sum("bus-off" in line for line in caplog.messages) == 1


def test_an_interface_that_is_down_is_waited_for(bus: PairBus, start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bus.down.add("can1")
    source, got = start("can0", "can1")
    bus.send("can0", classic(1, b""))
    until(lambda: len(got) == 1, "the other bus")
    assert [channel.status.state for channel in source.channels] == [State.AWAKE, State.DOWN]
    bus.down.clear()
    until(lambda: source.channels[1].status.state is State.ASLEEP, "the interface")
    bus.send("can1", classic(2, b""))
    until(lambda: len(got) == 2, "its frame")
    assert [line for line in caplog.messages if "interface" in line] == [
        "can1: the interface is down (Network is down); waiting for it",
        "can1: the interface is back",
    ]


def test_an_interface_that_is_not_there_is_refused_at_the_start() -> None:
    source = SocketCan([("can77", ())], SteadyClock(), threading.Event())
    with pytest.raises(SourceError, match=r"^source\.socketcan: can77: (there is no such interface|this kernel has no CAN)"):
        source.open()


def test_a_bus_without_frames_for_five_seconds_is_asleep_and_not_before(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    channel = Channel("can0")
    channel.opened(100.0)
    channel.heard(0, 101.0)
    assert channel.status.state is State.ASLEEP
    channel.heard(3, 102.0)
    for at, state in ((102.0 + ASLEEP_S - 0.01, State.AWAKE), (102.0 + ASLEEP_S, State.ASLEEP), (200.0, State.ASLEEP)):
        channel.heard(0, at)
        assert channel.status.state is state
    channel.heard(1, 201.0)
    assert channel.status.state is State.AWAKE
    assert caplog.messages == ["can0: the bus is awake", "can0: the bus is asleep", "can0: the bus is awake"]


def test_the_kernels_drop_counter_is_summed_over_sockets_and_its_wrap() -> None:
    channel = Channel("can0")
    channel.opened(0.0)
    for count in (5, 5, 9, 2**32 - 1, 3):
        channel.dropped(count)
    assert channel.status.frames_dropped == 2**32 + 3
    channel.lost("down")
    channel.opened(1.0)  # another socket counts from zero
    channel.dropped(2)
    assert channel.status.frames_dropped == 2**32 + 5


def test_a_buffer_reads_stamp_and_drops_from_the_control_messages() -> None:
    buffer = ReceiveBuffer(4)
    buffer._frames["id"][:3] = [1, 2, 3]
    buffer._lengths[:3] = 16
    controls = buffer._controls
    stamp, drop = (np.array([socket.SOL_SOCKET, kind], np.int32).view(np.uint64)[0] for kind in (35, 40))
    controls["stamp"][:2], controls["seconds"][:2], controls["nanoseconds"][:2] = stamp, [10, 11], [5, 6]
    controls["drop"][1], controls["drops"][1] = drop, 77
    buffer.used = 3
    received = buffer.take(99)
    assert received.timestamp_ns.tolist() == [10 * S + 5, 11 * S + 6, 99]
    assert received.damaged is None
    assert received.drops is not None
    assert [part.tolist() for part in received.drops] == [[1], [77]]
    assert buffer.used == 0


# The time axis


class Time:
    def __init__(self) -> None:
        self.boot, self.real = 1000 * S, 1_700_000_000 * S

    def __call__(self) -> Instant:
        return Instant(self.boot, self.real)

    def passes(self, seconds: float) -> None:
        self.boot += round(seconds * S)
        self.real += round(seconds * S)


def test_stamps_stay_as_the_kernel_wrote_them_while_nobody_sets_the_clock() -> None:
    now = Time()
    clock = SteadyClock(now)
    clock.start()
    for _ in range(5):
        now.passes(0.1)
        now.real += 40_000  # the two are not read in the same instant
        stamps = np.array([now.real - 50_000_000, now.real - 1])
        np.testing.assert_array_equal(clock.place(stamps), stamps)


@pytest.mark.parametrize("step_s", [-3600.0, -1.0, 0.5, 86400.0 * 365])
def test_when_the_clock_is_set_ticks_go_on_evenly(step_s: float, caplog: pytest.LogCaptureFixture) -> None:
    now = Time()
    clock = SteadyClock(now)
    origin = clock.start()
    true, placed = [], []
    for number in range(100):  # a frame each 10 ms; the clock is set in the middle of a block
        now.passes(0.01)
        true.append(origin + (number + 1) * S // 100)
        if number == 44:
            now.real += round(step_s * S)
        placed.append(now.real)
        if number % 10 == 9:
            found = clock.place(np.array(placed[-10:]))
            np.testing.assert_allclose(found, true[-10:], atol=60_000_000 if number == 49 else 1000)
            assert (np.diff(found) >= 0).all()
    assert len(caplog.messages) == 1
    assert clock.now_ns() == true[-1]


# Filters


def test_filters_are_the_identifiers_of_the_channels_messages(tmp_path: Path) -> None:
    head = 'VERSION ""\n\nBU_: ECU\n\n'
    message = 'BO_ {} M{}: 8 ECU\n SG_ S : 0|8@1+ (1,0) [0|0] "" ECU\n\n'
    (tmp_path / "a.dbc").write_text(head + message.format(0x100, 1) + message.format(0x1ABCDEF0 | EFF_FLAG, 2))
    (tmp_path / "b.dbc").write_text(head + message.format(0x200, 1))
    (tmp_path / "many.dbc").write_text(head + "".join(message.format(number, number) for number in range(MOST_FILTERS + 1)))
    compiled = compile_dbc([f"{tmp_path}/a.dbc@can0", f"{tmp_path}/b.dbc@can1", f"{tmp_path}/many.dbc@can2"])
    found = {(one.frame_id, one.mask) for one in wanted(compiled, "can0")}
    assert found == {(0x100, 0xC00007FF), (0x9ABCDEF0, 0xDFFFFFFF)}
    assert [one.frame_id for one in wanted(compiled, "can1")] == [0x200]
    assert wanted(compiled, "can2") == ()
    assert wanted(compiled, "can3") == ()


def test_the_answers_of_polling_are_let_through_though_no_dbc_knows_them(tmp_path: Path) -> None:
    text = 'VERSION ""\n\nBU_: ECU\n\nBO_ 256 M: 8 ECU\n SG_ S : 0|8@1+ (1,0) [0|0] "" ECU\n\n'
    (tmp_path / "a.dbc").write_text(text)
    compiled = compile_dbc([f"{tmp_path}/a.dbc@can0"])
    found = {(one.frame_id, one.mask) for one in wanted(compiled, "can0", (0x7E8, EFF_FLAG | 0x18DAF110))}
    assert found == {(0x100, 0xC00007FF), (0x7E8, 0xC00007FF), (EFF_FLAG | 0x18DAF110, 0xDFFFFFFF)}
    assert wanted(compiled, "can1", (0x7E8,)) == ()  # everything comes through


def test_a_polled_channel_is_opened_with_a_filter_for_the_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'VERSION ""\n\nBU_: ECU\n\nBO_ 256 M: 8 ECU\n SG_ S : 0|8@1+ (1,0) [0|0] "" ECU\n\n'
    (tmp_path / "a.dbc").write_text(text)
    made: dict[str, tuple[Filter, ...]] = {}

    class Kept(SocketCan):
        def open(self) -> None:
            made.update({port.channel.name: port._filters for port in self._ports})

    monkeypatch.setattr(choice, "SocketCan", Kept)  # this machine's kernel may have no CAN
    compiled = compile_dbc([f"{tmp_path}/a.dbc@can0", f"{tmp_path}/a.dbc@can1"])
    choice.open_source(
        SourceConfig(socketcan=["can0", "can1"]),
        compiled,
        threading.Event(),
        BootClockFile(tmp_path, "auto", 0, system_instant),
        {"can1": 0x7E8},
    )
    assert [[one.frame_id for one in made[name]] for name in ("can0", "can1")] == [[0x100], [0x7E8, 0x100]]


def test_a_parameter_group_is_let_through_whatever_its_priority_and_source(tmp_path: Path) -> None:
    text = (
        'VERSION ""\n\nBU_: ECU\n\nBO_ 2364540158 EEC1: 8 ECU\n SG_ S : 0|8@1+ (1,0) [0|0] "" ECU\n\n'  # PGN 61444 as PDU2
        'BO_ 2566848254 TSC1: 8 ECU\n SG_ T : 0|8@1+ (1,0) [0|0] "" ECU\n\n'
        'BA_DEF_ BO_ "VFrameFormat" ENUM "StandardCAN","ExtendedCAN","reserved","J1939PG";\nBA_DEF_DEF_ "VFrameFormat" "J1939PG";\n'
        'BA_ "VFrameFormat" BO_ 2364540158 3;\nBA_ "VFrameFormat" BO_ 2566848254 3;\n'
    )
    (tmp_path / "truck.dbc").write_text(text)
    filters = wanted(compile_dbc([f"{tmp_path}/truck.dbc"]), "can0")

    def passes(frame_id: int) -> bool:
        return any(frame_id & one.mask == one.frame_id & one.mask for one in filters)

    assert passes(EFF_FLAG | 0x0CF00400) and passes(EFF_FLAG | 0x18F004FE)  # noqa: PT018
    assert not passes(EFF_FLAG | 0x0CF00500)
    assert not passes(0x400)
    for group in TRANSPORT_GROUPS:
        assert passes(EFF_FLAG | 0x18000000 | group << 8 | 0xFF00 | 0x21)


def test_struct_sizes_are_the_kernels() -> None:
    assert len(classic(1, b"")) == struct.calcsize("=IBBBB8s") == 16
    assert len(fd(1, b"")) == 72
