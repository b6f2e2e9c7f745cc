"""Messages, header, topics and receipts: what one side writes the other reads, and hostile bytes are one error."""

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.errors import FormatError, Unsupported, WireError
from wire.header import Header
from wire.messages import (
    Announcement,
    Clock,
    Contribution,
    FindingMessage,
    Gap,
    Kind,
    Message,
    StatusMessage,
    Window,
    decode_message,
    encode_message,
    pack_columns,
    unpack_columns,
)
from wire.packing import compress, decompress
from wire.receipts import (
    MAX_ENTRIES,
    AnnouncementRequest,
    Entry,
    Receipt,
    Status,
    decode_downlink,
    encode_receipt,
    encode_request,
    receipt_key,
    receipt_tag,
    tag_for,
)
from wire.topics import UP_FILTER, down, up, vehicle_of

VEHICLE = "0123456789abcdef"
STREAM = bytes(range(16))
WINDOW = Window(tick_ms=[1000, 2000], signals=["score", "A.b"], values=[[0.5, 1.5], [None, 3.0]])
MESSAGES: list[Message] = [
    Announcement(
        boot_id=STREAM,
        clock=Clock(boot_ms=0, utc_ms=1_700_000_000_000, source="system"),
        schema_id=STREAM,
        consent_class="technical",
        columns=b"\x05",
        pack_ids=["coolant"],
        campaign_id="default",
        agent="cansight 0.1.0",
        baseline=b"",
    ),
    FindingMessage(
        finding_id=STREAM,
        state="active",
        pack_id="coolant",
        fault_code="CE-COOL-01",
        tick_ms=2000,
        since_ms=1000,
        score=1.5,
        threshold=1.0,
        p_value=None,
        contributions=[Contribution(signal="A.b", unit="l/min", expected=2.0, seen=3.0, share=1.0)],
        window=WINDOW,
        level="seen",
    ),
    Gap(stream=STREAM, first=3, last=9, reason="the outbox was full"),
    StatusMessage(tick_ms=1, state="running", counters={"frames": 12.0}),
    Clock(boot_ms=-5, utc_ms=7, source="log"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_comes_back(message: Message) -> None:
    kind, body = encode_message(message)
    assert decode_message(kind, body) == message


def changed(message: Message, **fields: object) -> Message:
    return msgspec.structs.replace(message, **fields)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (changed(MESSAGES[0], boot_id=b"short"), "boot_id"),
        (changed(MESSAGES[0], columns=bytes(10_000)), "columns"),
        (changed(MESSAGES[0], clock=Clock(boot_ms=1 << 60, utc_ms=0, source="log")), "boot_ms"),
        (changed(MESSAGES[1], state="maybe"), "state"),
        (changed(MESSAGES[1], contributions=[Contribution(signal="x" * 300, unit="", expected=None, seen=None, share=0.0)]), "signal"),
        (changed(MESSAGES[2], last=1 << 32), "last"),
        (changed(MESSAGES[3], counters={str(number): 0.0 for number in range(300)}), "counters"),
    ],
)
def test_what_no_reader_would_accept_is_not_sealed(message: Message, field: str) -> None:
    with pytest.raises(FormatError, match=field) as caught:
        encode_message(message)
    assert "\n" not in str(caught.value)


def test_a_window_fits_its_ticks_and_numbers_are_finite() -> None:
    for values in ([[0.5, 1.5]], [[0.5], [1.0]], [[0.5, 1.5], [math.nan, 1.0]]):
        with pytest.raises(FormatError, match="window"):
            Window(tick_ms=[1000, 2000], signals=["score", "A.b"], values=values)
    with pytest.raises(FormatError, match="at least"):
        Gap(stream=STREAM, first=3, last=2, reason="")
    for fields in ({"score": math.nan}, {"threshold": -math.inf}, {"p_value": math.inf}):
        with pytest.raises(FormatError, match="finite"):
            changed(MESSAGES[1], **fields)


def test_unknown_fields_and_rows_are_refused() -> None:
    with pytest.raises(FormatError, match="unknown field"):
        decode_message(Kind.CLOCK, compress(msgspec.msgpack.encode({"boot_ms": 0, "utc_ms": 0, "source": "log", "vin": "x"})))
    with pytest.raises(FormatError, match="decode_rows"):
        decode_message(Kind.ROWS, b"\0")


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from([kind for kind in Kind if kind is not Kind.ROWS]),
    data=st.binary(max_size=200),
    edits=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=4),
)
def test_hostile_bodies_are_a_wire_error(kind: Kind, data: bytes, edits: list[tuple[int, int]]) -> None:
    bodies = [data, b"\0" + data, compress(data), b"\1" + data]
    for message in MESSAGES:
        own, body = encode_message(message)
        if own is kind:
            for altered in (bytearray(body), bytearray(b"\0" + decompress(body, 1 << 20))):
                for at, byte in edits:
                    altered[at % len(altered)] = byte
                bodies.append(bytes(altered))
    for body in bodies:
        try:
            decoded = decode_message(kind, body)
        except WireError:
            continue
        encode_message(decoded)


def test_deep_nesting_is_a_wire_error() -> None:
    for opening in (b"\x91", b"\x81\xa1a"):
        with pytest.raises(FormatError):
            decode_message(Kind.FINDING, b"\0" + opening * 100_000)


def test_columns_are_a_bitmap_least_significant_bit_first() -> None:
    import numpy as np

    recorded = np.zeros(20, np.bool_)
    recorded[[0, 3, 19]] = True
    assert pack_columns(recorded) == bytes([0b1001, 0, 0b1000])
    assert unpack_columns(pack_columns(recorded)).tolist() == [0, 3, 19]
    assert unpack_columns(b"").tolist() == []


def test_a_header_is_29_bytes_in_network_order() -> None:
    header = Header(VEHICLE, STREAM, 258)
    assert header.pack() == b"\x01" + bytes.fromhex(VEHICLE) + STREAM + b"\x00\x00\x01\x02"
    assert Header.unpack(header.pack() + b"more") == header
    with pytest.raises(FormatError, match="29 bytes"):
        Header.unpack(header.pack()[:-1])
    with pytest.raises(Unsupported, match="version"):
        Header.unpack(b"\x02" + header.pack()[1:])
    for wrong in (Header("X" * 16, STREAM, 1), Header(VEHICLE, b"", 1), Header(VEHICLE, STREAM, 1 << 32), Header(VEHICLE, STREAM, -1)):
        with pytest.raises(FormatError):
            wrong.pack()


def test_topics_carry_the_vehicle() -> None:
    assert (up(VEHICLE), down(VEHICLE)) == (f"cansight/1/{VEHICLE}/up", f"cansight/1/{VEHICLE}/down")
    assert vehicle_of(up(VEHICLE)) == VEHICLE
    assert UP_FILTER == "cansight/1/+/up"
    for topic in (down(VEHICLE), "", "cansight/1//up", up(VEHICLE) + "\n", up(VEHICLE).upper(), "cansight/2/" + VEHICLE + "/up"):
        with pytest.raises(FormatError):
            vehicle_of(topic)
    for vehicle in ("+", "#", "aggregator", VEHICLE + "/x", VEHICLE.upper(), ""):
        with pytest.raises(FormatError):
            up(vehicle)


def test_receipts_and_requests_come_back() -> None:
    entries = [(0, Status.STORED, bytes(16)), (4_294_967_295, Status.REFUSED, b"t" * 16)]
    assert decode_downlink(encode_receipt(STREAM, entries)) == Receipt(STREAM, tuple(Entry(*entry) for entry in entries))
    assert decode_downlink(encode_request(STREAM)) == AnnouncementRequest(STREAM)
    for bad in ([], [(1, Status.STORED, b"short")], [(1 << 32, Status.STORED, bytes(16))], entries * MAX_ENTRIES):
        with pytest.raises(FormatError):
            encode_receipt(STREAM, bad)
    with pytest.raises(FormatError):
        encode_request(b"short")


def test_a_tag_depends_on_key_header_and_status() -> None:
    header, other = Header(VEHICLE, STREAM, 1).pack(), Header(VEHICLE, STREAM, 2).pack()
    key = bytes(32)
    tags = {receipt_tag(key, head, status) for head in (header, other) for status in Status}
    tags |= {receipt_tag(b"\1" * 32, header, status) for status in Status}
    assert len(tags) == 9
    assert receipt_tag(key, header, Status.STORED) == tag_for(receipt_key(key), header, Status.STORED)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=80), edits=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=3))
def test_hostile_downlinks_are_a_wire_error(data: bytes, edits: list[tuple[int, int]]) -> None:
    altered = bytearray(encode_receipt(STREAM, [(1, Status.STORED, bytes(16)), (2, Status.STORED, bytes(16))]))
    for at, byte in edits:
        altered[at % len(altered)] = byte
    for candidate in (data, b"\x01\x01" + data, b"\x01\x02" + data, bytes(altered), bytes(altered[:-1])):
        try:
            decode_downlink(candidate)
        except WireError:
            continue
