"""ISO-TP as it is overheard: against a real implementation on a virtual bus, and with what a listener loses."""

import itertools
from collections.abc import Iterator

import can
import isotp
import pytest
from bus_frames import isotp_frames
from hypothesis import given
from hypothesis import strategies as st

from dbc.frames import EFF_FLAG
from dbc.protocols.isotp import IsoTp

ECU = 0x7EC
MS = 1_000_000


@given(st.binary(min_size=1, max_size=4095), st.sampled_from([b"", b"\x12"]))
def test_any_payload_comes_back(payload: bytes, address: bytes) -> None:
    listener = IsoTp()
    heard = [listener.feed(0, ECU, 0, frame, extended=bool(address)) for frame in isotp_frames(payload, address)]
    assert heard == [None] * (len(heard) - 1) + [payload]
    assert listener.held_bytes == 0


@pytest.mark.parametrize("missing", range(1, 20))
def test_a_lost_consecutive_frame_drops_the_message_and_no_other(missing: int) -> None:
    listener = IsoTp()
    frames = isotp_frames(bytes(range(130)))
    del frames[missing % len(frames) or 1]
    heard = [listener.feed(0, ECU, 0, frame) for frame in [*frames, *isotp_frames(b"next" * 10)]]
    assert [whole for whole in heard if whole is not None] == [b"next" * 10]
    assert listener.counts.dropped == 1
    assert listener.counts.messages == 1


def test_sixteen_lost_frames_do_not_pass_for_none() -> None:
    """The sequence number repeats after 16; the length then does not come out until the next message begins."""
    listener = IsoTp()
    frames = isotp_frames(bytes(200))
    del frames[3:19]
    assert not any(listener.feed(0, ECU, 0, frame) for frame in frames)
    listener.finish()
    assert listener.counts.lost == 1


def test_frames_in_another_order_are_no_message() -> None:
    listener = IsoTp()
    frames = isotp_frames(bytes(range(40)))
    frames[2], frames[3] = frames[3], frames[2]
    assert not any(listener.feed(0, ECU, 0, frame) for frame in frames)
    assert (listener.counts.lost, listener.counts.messages) == (1, 0)


def test_a_lost_first_frame_leaves_orphans() -> None:
    listener = IsoTp()
    assert [listener.feed(0, ECU, 0, frame) for frame in isotp_frames(bytes(30))[1:]] == [None] * 4
    assert (listener.counts.orphans, listener.counts.dropped) == (4, 0)


def test_streams_interleave_by_identifier_channel_and_address() -> None:
    streams = {
        (channel, identifier, address): bytes([number]) * 50
        for number, (channel, identifier, address) in enumerate(
            itertools.product((0, 1), (ECU, 0x7ED, 0x18DAF110 | EFF_FLAG), (b"\x01", b"\x02"))
        )
    }
    listener = IsoTp()
    rows = zip(*([(key, frame) for frame in isotp_frames(payload, key[2])] for key, payload in streams.items()), strict=True)
    heard = {}
    for row in rows:
        for (channel, identifier, address), frame in row:
            whole = listener.feed(channel, identifier, 0, frame, extended=True)
            if whole is not None:
                heard[channel, identifier, address] = whole
    assert heard == streams


@pytest.mark.parametrize(("gap_ms", "in_time"), [(999, True), (1001, False), (-1001, False)])
def test_time_is_the_frames_own(gap_ms: int, in_time: bool) -> None:
    listener = IsoTp()
    first, second = isotp_frames(bytes(12))
    listener.feed(0, ECU, 0, first)
    assert (listener.feed(0, ECU, gap_ms * MS, second) is not None) == in_time
    assert listener.counts.timed_out == (0 if in_time else 1)


def test_a_new_message_ends_the_one_under_way() -> None:
    for begins in (isotp_frames(b"single"), isotp_frames(bytes(20))):
        listener = IsoTp()
        listener.feed(0, ECU, 0, isotp_frames(bytes(50))[0])
        heard = [listener.feed(0, ECU, 0, frame) for frame in begins]
        assert heard[-1] is not None
        assert (listener.counts.aborted, listener.counts.messages) == (1, 1)


@pytest.mark.parametrize(
    "frame",
    ["00", "0801020304050607", "05010203", "10", "1005010203040506", "100000000007aaaa", "f000000000000000", ""],
)
def test_what_the_standard_forbids_is_counted(frame: str) -> None:
    listener = IsoTp()
    assert listener.feed(0, ECU, 0, bytes.fromhex(frame)) is None
    assert listener.counts.malformed == 1
    assert listener.open == 0


def test_a_short_frame_in_the_middle_does_not_shift_what_follows() -> None:
    listener = IsoTp()
    first, second, third, *_ = isotp_frames(bytes(40))
    heard = [listener.feed(0, ECU, 0, frame) for frame in (first, second[:5], third)]
    assert heard == [None] * 3
    assert listener.counts.lost == 1


def test_lengths_that_no_value_has_are_refused() -> None:
    listener = IsoTp()
    listener.feed(0, ECU, 0, bytes.fromhex("1000ffffffff0000"))
    assert (listener.counts.refused, listener.held_bytes) == (1, 0)


def test_can_fd_frames() -> None:
    listener = IsoTp()
    assert listener.feed(0, ECU, 0, bytes([0, 20]) + bytes(range(20)) + bytes(2)) == bytes(range(20))
    payload = bytes(number & 0xFF for number in range(100))
    assert listener.feed(0, ECU, 0, bytes([0x10, 100]) + payload[:62]) is None
    assert listener.feed(0, ECU, 0, (b"\x21" + payload[62:]).ljust(48, b"\xaa")) == payload


@pytest.fixture
def buses() -> Iterator[tuple[can.BusABC, can.BusABC, can.BusABC]]:
    """A tester's, an ECU's and a listener's end of one virtual bus."""
    ends = [can.Bus("overheard", interface="virtual") for _ in range(3)]
    yield ends[0], ends[1], ends[2]
    for end in ends:
        end.shutdown()


MODES = {
    "normal, 11 bit": (isotp.AddressingMode.Normal_11bits, {"rxid": 0x7E0, "txid": 0x7E8}),
    "normal, 29 bit": (isotp.AddressingMode.Normal_29bits, {"rxid": 0x18DA10F1, "txid": 0x18DAF110}),
    "normal fixed, 29 bit": (isotp.AddressingMode.NormalFixed_29bits, {"source_address": 0x10, "target_address": 0xF1}),
    "extended, 11 bit": (
        isotp.AddressingMode.Extended_11bits,
        {"rxid": 0x6F1, "txid": 0x612, "source_address": 0x12, "target_address": 0xF1},
    ),
    "extended, 29 bit": (
        isotp.AddressingMode.Extended_29bits,
        {"rxid": 0x1F1, "txid": 0x112, "source_address": 0x12, "target_address": 0xF1},
    ),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [1, 6, 7, 8, 62, 500])
def test_a_real_sender_is_overheard(buses: tuple[can.BusABC, can.BusABC, can.BusABC], mode: str, size: int) -> None:
    tester_bus, ecu_bus, listener_bus = buses
    addressing, arguments = MODES[mode]
    swapped = {"rxid": "txid", "txid": "rxid", "source_address": "target_address", "target_address": "source_address"}
    ecu = isotp.CanStack(ecu_bus, address=isotp.Address(addressing, **arguments), params={"stmin": 0})
    tester = isotp.CanStack(
        tester_bus, address=isotp.Address(addressing, **{swapped[name]: value for name, value in arguments.items()}), params={"stmin": 0}
    )
    payload = bytes(number & 0xFF for number in range(size))
    ecu.send(payload)
    for _ in range(1000):
        ecu.process()
        tester.process()
        if tester.available():
            break
    assert tester.recv() == payload
    listener, heard = IsoTp(), []
    while (message := listener_bus.recv(0)) is not None:
        identifier = message.arbitration_id | (EFF_FLAG if message.is_extended_id else 0)
        heard.append(listener.feed(0, identifier, 0, bytes(message.data), extended="extended" in mode))
    assert [whole for whole in heard if whole is not None] == [payload]
    assert listener.counts.dropped == 0
