"""What arrives at the other end of a bus is what stood in the log."""

import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import can
import numpy as np
import pytest

from dbc.frames import CANFD_BRS, CANFD_ESI, CANFD_FDF, EFF_FLAG, ERR_FLAG, RTR_FLAG
from simulator.can_links import ARPHRD_CAN, Link, can_links, find_link
from simulator.errors import ReplayError, ReplayFailed
from simulator.replay_routes import Target
from simulator.replay_sinks import PythonCan, RawCan, is_virtual, make_sink
from simulator.replay_timetable import Timed

EVERY_KIND = [
    (0x7FF, bytes(range(8))),
    (0x000, b""),
    (EFF_FLAG | 0x1FFF_FFFF, b"\xff" * 8),
    (RTR_FLAG | 0x123, b"\0\0\0\0"),
    (ERR_FLAG | 0x80, bytes(8)),
    (0x100, b"abc"),
]


def timed(frames: list[tuple[int, bytes]]) -> Timed:
    """Frames of (identifier with flags, payload), all due at once. A remote frame's payload only says its length."""
    n = len(frames)
    width = 64 if any(len(payload) > 8 for _, payload in frames) else 8
    data = np.frombuffer(b"".join(payload.ljust(width, b"\0") for _, payload in frames), np.uint8).reshape(n, width)
    length = np.array([len(payload) for _, payload in frames], np.uint8)
    return Timed(np.zeros(n, np.int64), np.zeros(n, np.uint8), np.array([number for number, _ in frames], np.uint32), length, data)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A socket to send struct can_frame to, and its other end."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    theirs.setblocking(False)
    with mine, theirs:
        yield mine, theirs


def received(theirs: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(theirs.recv(100))
        except BlockingIOError:
            return found


def test_every_kind_of_classic_frame(pair: tuple[socket.socket, socket.socket]) -> None:
    with RawCan("socketcan:x", lambda: pair[0]) as sink:
        sink.load(timed(EVERY_KIND))
        assert sink.send(0, len(EVERY_KIND)) == len(EVERY_KIND)
    assert received(pair[1]) == [struct.pack("=IB3x8s", number, len(payload), payload) for number, payload in EVERY_KIND]


def test_fd_frames_of_every_length_beside_classic_ones(pair: tuple[socket.socket, socket.socket]) -> None:
    lengths = [8, 12, 16, 20, 24, 32, 48, 64, 2]
    with RawCan("socketcan:x", lambda: pair[0]) as sink:
        sink.load(timed([(length, bytes(range(length))) for length in lengths]))
        assert sink.send(0, 9) == 9
    assert received(pair[1]) == [
        struct.pack("=IBB2x64s", length, length, 1, bytes(range(length)))
        if length > 8
        else struct.pack("=IB3x8s", length, length, bytes(range(length)))
        for length in lengths
    ]


def test_short_fd_frames_and_their_bit_rate(pair: tuple[socket.socket, socket.socket]) -> None:
    flags = [0, CANFD_FDF, CANFD_FDF | CANFD_BRS, CANFD_FDF | CANFD_ESI, CANFD_FDF]
    frames = replace(timed([(1, b"abc")] * 4 + [(1, bytes(64))]), flags=np.array(flags, np.uint8))
    with RawCan("socketcan:vcan0", lambda: pair[0]) as sink:
        sink.load(frames)
        assert sink.send(0, 5) == 5
    raw = [pair[1].recv(100) for _ in range(5)]
    assert [len(one) for one in raw] == [16, 72, 72, 72, 72]
    assert [one[4:6] for one in raw] == [bytes([length, flag & 3]) for length, flag in zip((3, 3, 3, 3, 64), flags, strict=True)]

    with closing_bus(channel="replay-fd") as bus, PythonCan(Target("virtual", "replay-fd")) as python_can:
        python_can.load(frames)
        assert python_can.send(0, 5) == 5
        found = [bus.recv(5) for _ in range(5)]
    assert [
        CANFD_FDF * message.is_fd | CANFD_BRS * message.bitrate_switch | CANFD_ESI * message.error_state_indicator
        for message in found
        if message is not None
    ] == flags


def test_a_length_that_no_frame_has_is_filled_with_zeros_to_the_next(pair: tuple[socket.socket, socket.socket]) -> None:
    with RawCan("socketcan:x", lambda: pair[0]) as sink:
        sink.load(timed([(0x10, b"x" * 64)]))
        sink.load(timed([(0x10, b"y" * 13)]))
        sink.send(0, 1)
    assert received(pair[1]) == [struct.pack("=IBB2x64s", 0x10, 16, 1, b"y" * 13)]


def test_an_identifier_that_11_bits_cannot_hold_was_one_of_29(pair: tuple[socket.socket, socket.socket]) -> None:
    with RawCan("socketcan:x", lambda: pair[0]) as sink:
        sink.load(timed([(0x800, b""), (0x7FF, b"")]))
        sink.send(0, 2)
    assert [struct.unpack_from("=I", frame)[0] for frame in received(pair[1])] == [EFF_FLAG | 0x800, 0x7FF]


def test_a_part_of_a_block_after_a_larger_block(pair: tuple[socket.socket, socket.socket]) -> None:
    with RawCan("socketcan:x", lambda: pair[0]) as sink:
        sink.load(timed([(0x700, b"\xff" * 64)] * 50))
        sink.load(timed([(number, bytes([number])) for number in range(30)]))
        assert sink.send(5, 12) == 7
    assert received(pair[1]) == [struct.pack("=IB3x8s", number, 1, bytes([number])) for number in range(5, 12)]


def test_a_full_queue_takes_what_it_has_room_for_and_goes_on_later(pair: tuple[socket.socket, socket.socket]) -> None:
    frames = [(number, b"12345678") for number in range(2000)]
    found: list[bytes] = []
    with RawCan("socketcan:x", lambda: pair[0]) as sink:
        pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        sink.load(timed(frames))
        at, rounds = 0, 0
        while at < len(frames):
            at += sink.send(at, len(frames))
            found += received(pair[1])
            rounds += 1
        assert rounds > 10
        assert sink.why == "Resource temporarily unavailable"
    assert [struct.unpack_from("=I", frame)[0] for frame in found] == list(range(2000))


def test_a_bus_that_is_gone_ends_the_replay(pair: tuple[socket.socket, socket.socket]) -> None:
    with RawCan("socketcan:x", lambda: pair[0]) as sink:
        sink.load(timed([(1, b"")]))
        pair[1].close()
        with pytest.raises(ReplayFailed, match="socketcan:x: Connection refused"):
            sink.send(0, 1)


def test_fd_frames_for_an_interface_without_fd(pair: tuple[socket.socket, socket.socket]) -> None:
    with RawCan("socketcan:vcan0", lambda: pair[0], fd=False) as sink:
        sink.load(timed([(1, b"12345678")]))
        with pytest.raises(ReplayFailed, match="the interface takes none: ip link set vcan0 mtu 72"):
            sink.load(timed([(1, b"123456789abc")]))


def test_a_socket_that_cannot_be_opened() -> None:
    def refuse() -> socket.socket:
        raise PermissionError(1, "Operation not permitted")

    with pytest.raises(ReplayError, match="--to socketcan:x: Operation not permitted"), RawCan("socketcan:x", refuse):
        pass


@pytest.mark.parametrize("channel", ["", "replay-test"])
def test_every_kind_of_frame_through_python_can(channel: str) -> None:
    frames = [*EVERY_KIND, (0x200, bytes(range(64)))]
    target = Target("virtual", channel)
    with closing_bus(**({"channel": channel} if channel else {})) as bus, PythonCan(target) as sink:
        sink.load(timed(frames))
        assert sink.send(0, 3) == 3
        assert sink.send(3, len(frames)) == len(frames) - 3
        found = [bus.recv(5) for _ in frames]
    for message, (number, payload) in zip(found, frames, strict=True):
        assert message is not None
        assert message.arbitration_id == number & 0x1FFF_FFFF
        assert (message.is_extended_id, message.is_remote_frame) == (bool(number & EFF_FLAG), bool(number & RTR_FLAG))
        assert (message.is_error_frame, message.is_fd) == (bool(number & ERR_FLAG), len(payload) > 8)
        assert message.dlc == len(payload)
        assert bytes(message.data) == (b"" if message.is_remote_frame else payload)


def test_a_full_queue_of_python_can_takes_what_it_has_room_for() -> None:
    with closing_bus(channel="replay-full", rx_queue_size=2) as bus, PythonCan(Target("virtual", "replay-full")) as sink:
        sink.load(timed([(number, b"") for number in range(3)]))
        assert sink.send(0, 3) == 2
        assert sink.why == "Could not send message to one or more recipients"
        assert [message.arbitration_id for message in (bus.recv(1), bus.recv(1)) if message] == [0, 1]
        assert sink.send(2, 3) == 1


def closing_bus(**options: object) -> closing[can.BusABC]:  # type: ignore[type-arg]
    class Closing(closing):  # type: ignore[type-arg]
        def __exit__(self, *_: object) -> None:
            self.thing.shutdown()

    return Closing(can.Bus(interface="virtual", **options))  # type: ignore[arg-type]


def test_an_interface_that_cannot_be_opened_says_why() -> None:
    with pytest.raises(ReplayError, match="--to udp_multicast:nowhere: cannot be opened: "), PythonCan(Target("udp_multicast", "nowhere")):
        pass


@pytest.mark.parametrize("name", ["pcan", "kvaser", "slcan", "socketcand", "gs_usb", "vector"])
def test_interfaces_with_hardware_are_refused_without_being_opened(name: str) -> None:
    with pytest.raises(ReplayError, match=f"--to {name}:0: {name} is an interface to hardware.*--i-am-on-a-bench") as refused:
        make_sink(Target(name, "0"))
    assert refused.value.exit_code == 2
    assert isinstance(make_sink(Target(name, "0"), on_a_bench=True), PythonCan)


def test_an_interface_that_python_can_does_not_know() -> None:
    with pytest.raises(ReplayError, match="--to vitual:x: no such interface; did you mean virtual"):
        make_sink(Target("vitual", "x"), on_a_bench=True)


def test_network_interfaces_that_are_no_bus() -> None:
    with pytest.raises(ReplayError, match="--to socketcan:lo: lo is no CAN interface"):
        make_sink(Target("socketcan", "lo"), on_a_bench=True)
    with pytest.raises(ReplayError, match="--to socketcan:nosuch0: no such network interface"):
        make_sink(Target("socketcan", "nosuch0"))


def test_the_kernel_knows_its_interfaces() -> None:
    loopback = find_link("lo")
    assert loopback is not None
    assert (loopback.arp_type, loopback.is_can, loopback.is_virtual) == (772, False, False)
    assert find_link("nosuch0") is None
    assert all(link.is_can for link in can_links())
    assert {name for _, name in socket.if_nameindex()} >= {"lo"}


@pytest.mark.parametrize(
    ("kind", "device", "expected"),
    [("vcan", False, True), ("vxcan", False, True), ("can", True, False), ("can", False, False), ("", False, False), ("vcan", True, False)],
)
def test_which_links_are_virtual(kind: str, device: bool, expected: bool) -> None:
    assert Link("vcan0", ARPHRD_CAN, True, 72, kind, device).is_virtual is expected
    assert not Link("vcan0", 1, True, 72, kind, device).is_virtual


def test_virtual_interfaces() -> None:
    assert is_virtual(Target("virtual", "x"))
    assert is_virtual(Target("udp_multicast", "239.0.0.1"))
    assert not is_virtual(Target("slcan", "/dev/ttyUSB0"))
