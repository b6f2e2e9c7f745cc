"""The source on a real SocketCAN: vcan0 and vcan1 of a kernel that has CAN. Run by test_real_kernel.py."""

import errno
import logging
import socket
import struct
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from vcan import Live, ip, paced_sender, sender, sends, set_up, until

from dbc.frames import CANFD_BRS, CANFD_FDF, EFF_FLAG, ERR_FLAG, RTR_FLAG, filled_flags
from edge.errors import SourceError
from edge.sources.can_socket import can_interfaces, open_can
from edge.sources.channel import ASLEEP_S, State
from edge.sources.clock import SteadyClock
from edge.sources.filters import Filter
from edge.sources.python_can import PythonCan
from edge.sources.socketcan import SocketCan


@pytest.fixture(autouse=True)
def _buses_up() -> Iterator[None]:
    yield
    for bus in ("vcan0", "vcan1"):
        set_up(bus, True)


def classic(frame_id: int, payload: bytes) -> bytes:
    return struct.pack("=IB3x8s", frame_id, len(payload), payload)


def test_classic_frames_standard_extended_remote_and_short() -> None:
    frames = [(0x7FF, b"12345678"), (EFF_FLAG | 0x1FFFFFFF, b"\xff" * 8), (RTR_FLAG | 0x10, b""), (0x11, b""), (0x12, b"abc")]
    with Live({"vcan0": ()}) as live, sender("vcan0") as out:
        for frame_id, payload in frames:
            out.send(classic(frame_id, payload))
        until(lambda: len(live) >= len(frames), "the frames")
    assert live.frames == [("vcan0", frame_id, payload) for frame_id, payload in frames]


def test_fd_frames_of_every_length_beside_classic_ones() -> None:
    lengths = [0, 1, 8, 12, 16, 20, 24, 32, 48, 64]
    with Live({"vcan0": ()}) as live, sender("vcan0") as out:
        for length in lengths:
            out.send(struct.pack("=IBB2x64s", length, length, 1, bytes(range(length))))
        out.send(classic(0x100, b"classic"))
        until(lambda: len(live) >= len(lengths) + 1, "the frames")
    assert live.frames == [("vcan0", length, bytes(range(length))) for length in lengths] + [("vcan0", 0x100, b"classic")]
    flags = [flag for block in live.blocks for flag in filled_flags(block.flags, block.length).tolist()]
    assert flags == [CANFD_BRS | CANFD_FDF] * len(lengths) + [0]


def test_two_buses_are_told_apart_and_merged_by_stamp() -> None:
    with Live({"vcan0": (), "vcan1": ()}) as live, sender("vcan0") as zero, sender("vcan1") as one:
        for number in range(200):
            (one if number % 3 else zero).send(classic(number, b""))
        until(lambda: len(live) >= 200, "the frames")
    found = live.frames
    assert sorted(found, key=lambda frame: frame[1]) == [("vcan1" if number % 3 else "vcan0", number, b"") for number in range(200)]
    assert all((np.diff(block.timestamp_ns) >= 0).all() for block in live.blocks)


def test_the_kernel_lets_through_what_is_wanted_and_nothing_else() -> None:
    filters = (Filter(0x100, 0xC00007FF), Filter(EFF_FLAG | 0xF004 << 8, 0xC3FFFF00))
    with Live({"vcan0": filters}) as live, sender("vcan0") as out:
        for frame_id in (
            0x100,
            0x101,
            EFF_FLAG | 0x100,
            EFF_FLAG | 0x0CF00421,
            EFF_FLAG | 0x18F004FE,
            EFF_FLAG | 0x0CF00521,
            RTR_FLAG | 0x100,
        ):
            out.send(classic(frame_id, b""))
        out.send(classic(0x100, b"last"))
        until(lambda: (live.frames or [("", 0, b"")])[-1][2] == b"last", "the last frame")
    assert [frame_id for _, frame_id, _ in live.frames] == [0x100, EFF_FLAG | 0x0CF00421, EFF_FLAG | 0x18F004FE, 0x100]


def test_512_filters_are_taken_and_one_more_is_refused() -> None:
    filters = tuple(Filter(number, 0xC00007FF) for number in range(513))
    open_can("vcan0", filters[:512]).close()
    with pytest.raises(OSError, match="Invalid argument"):
        open_can("vcan0", filters)


def test_stamps_are_the_kernels_they_rise_and_are_those_of_sending() -> None:
    sent: list[tuple[int, int]] = []
    with Live({"vcan0": ()}) as live, sender("vcan0") as out:

        def send(number: int) -> None:
            before = time.time_ns()
            out.send(classic(number, b""))
            sent.append((before, time.time_ns()))

        # Linux begins to stamp on arrival in a work item, a moment after the first socket has asked for it (net/core/dev.c,
        # net_enable_timestamp); until then a frame's stamp is that of its reading.
        while not sent or not sent[-1][0] <= live.blocks[-1].timestamp_ns[-1] <= sent[-1][1]:
            assert len(sent) < 100
            send(len(sent))
            until(lambda: len(live) >= len(sent), "a frame")
        first = len(sent)
        for number in range(300):
            send(number)
            if number % 50 == 0:
                time.sleep(0.05)
        until(lambda: len(live) >= len(sent), "the frames")
    stamps = np.concatenate([block.timestamp_ns for block in live.blocks])
    assert (np.diff(stamps) >= 0).all()
    assert len(set(stamps.tolist())) > 250  # the kernel's own, not one for each drain
    # A stamp lies within its send call: the kernel's, at the moment of sending. On vcan that is when the frame is received.
    told = zip(stamps.tolist()[first:], sent[first:], strict=True)
    assert not [
        (number, stamp - before, after - stamp) for number, (stamp, (before, after)) in enumerate(told) if not before <= stamp <= after
    ]


def test_error_frames_are_counted_and_bus_off_is_a_state() -> None:
    with Live({"vcan0": (Filter(0x1, 0x7FF),)}) as live, sender("vcan0") as out:
        status = live.source.channels[0].status
        out.send(classic(1, b""))
        out.send(classic(ERR_FLAG | 0x40, bytes(8)))
        until(lambda: status.bus_offs == 1, "the error frame")
        assert (status.state, status.error_frames, status.frames) == (State.BUS_OFF, 1, 1)
        out.send(classic(ERR_FLAG | 0x100, bytes(8)))
        out.send(classic(1, b""))
        until(lambda: status.state is State.AWAKE, "the bus")
    assert len(live) == 2


def test_an_interface_that_goes_down_and_comes_up_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Live({"vcan0": (), "vcan1": ()}) as live:
        states = [channel.status for channel in live.source.channels]
        for round_ in range(2):
            with sender("vcan0") as out:
                out.send(classic(1, b""))
                until(lambda count=3 * round_ + 1: len(live) >= count, "a frame before")
                for number in range(1):
                    out.send(classic(2 + number, b""))
                set_up("vcan0", False)  # what the kernel holds already is not lost
            until(lambda: states[0].state is State.DOWN, "the source to see it")
            with sender("vcan1") as out:
                out.send(classic(3, b""))
            until(lambda count=3 * round_ + 3: len(live) >= count, "the other bus")
            set_up("vcan0", True)
            until(lambda: states[0].state is not State.DOWN, "the source to see it")
    assert [frame_id for _, frame_id, _ in live.frames] == [1, 2, 3] * 2
    assert (states[0].downs, states[1].downs) == (2, 0)
    assert [line for line in caplog.messages if "interface" in line] == [
        "vcan0: the interface is down (Network is down); waiting for it",
        "vcan0: the interface is back",
    ] * 2


def test_an_interface_that_is_pulled_out_and_plugged_in_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    ip("link", "add", "dev", "vcan7", "type", "vcan")
    ip("link", "set", "vcan7", "up")
    try:
        with Live({"vcan7": ()}) as live:
            ip("link", "del", "vcan7")
            until(lambda: live.source.channels[0].status.state is State.DOWN, "the source to see it")
            ip("link", "add", "dev", "vcan7", "type", "vcan")
            ip("link", "set", "vcan7", "up")
            until(lambda: live.source.channels[0].status.state is not State.DOWN, "the source to see it")
            with sender("vcan7") as out:
                out.send(classic(5, b"back"))
            until(lambda: len(live), "the frame")
        assert live.frames == [("vcan7", 5, b"back")]
        assert sum("interface is down" in line for line in caplog.messages) == sum("is back" in line for line in caplog.messages) == 1
    finally:
        ip("link", "del", "vcan7")


def test_an_interface_that_is_down_at_the_start_is_waited_for_and_one_that_is_not_there_is_refused() -> None:
    assert can_interfaces() == ["vcan0", "vcan1"]
    with pytest.raises(SourceError, match=r"^source\.socketcan: can9: there is no such interface; CAN interfaces here: vcan0, vcan1$"):
        SocketCan([("can9", ())], SteadyClock(), threading.Event()).open()
    set_up("vcan0", False)
    with Live({"vcan0": ()}) as live:
        until(lambda: live.source.channels[0].status.state is State.DOWN, "the source to see it")
        set_up("vcan0", True)
        until(lambda: live.source.channels[0].status.state is not State.DOWN, "the source to see it")
        with sender("vcan0") as out:
            out.send(classic(1, b""))
        until(lambda: len(live), "the frame")


def test_a_bus_that_falls_silent_is_asleep_after_five_seconds_and_wakes_with_a_frame() -> None:
    with Live({"vcan0": ()}) as live, sender("vcan0") as out:
        status = live.source.channels[0].status
        out.send(classic(1, b""))
        until(lambda: status.state is State.AWAKE, "the frame")
        woken = time.monotonic()
        until(lambda: status.state is State.ASLEEP, "the bus to fall asleep")
        assert time.monotonic() - woken >= ASLEEP_S - 0.5
        out.send(classic(2, b""))
        until(lambda: status.state is State.AWAKE, "the bus to wake")
        assert status.downs == 0
    assert len(live) == 2


def test_2000_frames_a_second_are_received_without_loss() -> None:
    total = 8000
    with Live({"vcan0": ()}) as live, paced_sender("vcan0", 2000, total) as process:
        took_s = float(process.communicate(timeout=60)[0])
        until(lambda: len(live) >= total, "the frames")
        status = live.source.channels[0].status
    assert [struct.unpack("=Q", payload)[0] for _, _, payload in live.frames] == list(range(total))
    assert (status.frames, status.frames_dropped) == (total, 0)
    print(f"{total / took_s:.0f} frames/s")


def test_the_drop_count_is_exact_when_the_agent_is_late() -> None:
    def small(channel: str, filters: tuple[Filter, ...]) -> socket.socket:
        made = open_can(channel, filters)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20_000)
        return made

    live = Live({"vcan0": ()}, small)  # open, and not yet reading
    with sender("vcan0") as out:
        for number in range(3000):
            sends(out, classic(0x1, struct.pack("=Q", number)))
        with live:
            until(lambda: len(live), "what the buffer held")
            held = len(live)
            assert 0 < held < 3000
            out.send(classic(0x2, b""))  # the kernel says the count with the next frame that it keeps
            until(lambda: len(live) > held, "the frame after")
    status = live.source.channels[0].status
    assert status.frames_dropped == 3000 - held
    assert status.frames + status.frames_dropped == 3001
    assert [struct.unpack("=Q", payload)[0] for _, frame_id, payload in live.frames if frame_id == 1] == list(range(held))


def test_the_large_buffer_holds_five_seconds_of_a_bus() -> None:
    live = Live({"vcan0": ()})
    with sender("vcan0") as out:
        for _ in range(10_000):
            sends(out, classic(0x1, bytes(8)))
        with live:
            until(lambda: len(live) >= 10_000, "the frames")
    assert live.source.channels[0].status.frames_dropped == 0


def test_python_can_reads_the_same_bus() -> None:
    stop, clock = threading.Event(), SteadyClock()
    clock.start()
    source = PythonCan("socketcan", {"channel": "vcan1"}, "can1", clock, stop)
    source.open()
    with sender("vcan1") as out:
        before = time.time_ns()
        out.send(classic(EFF_FLAG | 0x123456, b"hello"))
        block = next(source.frames())
    source.close()
    assert (block.channels, block.frame_id.tolist(), block.data[0].tobytes()) == (("can1",), [EFF_FLAG | 0x123456], b"hello\0\0\0")
    assert before - 1_000_000 <= block.timestamp_ns[0] <= time.time_ns()


def test_a_socket_of_a_bus_that_is_down_says_so_once() -> None:
    """What the source relies on: the kernel reports the loss before what it holds, and then is silent."""
    with open_can("vcan0", ()) as made, sender("vcan0") as out:
        out.send(classic(1, b""))
        set_up("vcan0", False)
        with pytest.raises(OSError) as caught:  # noqa: PT011 - which one is the next line
            made.recv(16, socket.MSG_DONTWAIT)
        assert caught.value.errno == errno.ENETDOWN
        assert made.recv(16, socket.MSG_DONTWAIT) == classic(1, b"")
        with pytest.raises(BlockingIOError):
            made.recv(16, socket.MSG_DONTWAIT)
