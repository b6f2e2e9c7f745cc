"""What travels down: receipts, and requests for an announcement.

    receipt   u8 version=1 | u8 type=1 | 16 bytes stream | u16 count | count x (u32 sequence | u8 status | 16 bytes tag)
    request   u8 version=1 | u8 type=2 | 16 bytes stream

A tag is HMAC-SHA256 under a key derived from the content key, so only who opened the stream can make one: neither the
broker nor its operator can make a vehicle delete what was not stored.
"""

import hashlib
import hmac
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from wire.errors import FormatError, Unsupported
from wire.header import MAX_SEQUENCE, STREAM_BYTES

DOWNLINK_VERSION = 1
TAG_BYTES = 16
MAX_ENTRIES = 1000  # 21 kB: far below every broker's packet limit
_RECEIPT, _REQUEST = 1, 2
_HEAD = struct.Struct(">BB16s")
_COUNT = struct.Struct(">H")
_ENTRY = struct.Struct(">IB16s")


class Status(IntEnum):
    """The cloud's word on one batch. All three let the vehicle delete it."""

    STORED = 1  # durably in the landing log
    QUARANTINED = 2  # durably kept, but not readable as data; the reason is with the operator
    REFUSED = 3  # not wanted (a deleted stream, a vehicle that is not known)


@dataclass(frozen=True, slots=True)
class Entry:
    sequence: int
    status: Status
    tag: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    stream: bytes
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class AnnouncementRequest:
    """The cloud has batches of this stream but not its sequence 0."""

    stream: bytes


def receipt_key(key: bytes) -> bytes:
    """The 32-byte tag key of the stream whose content key is `key`."""
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"receipt").derive(key)


def tag_for(tag_key: bytes, header_bytes: bytes, status: Status) -> bytes:
    """The tag of one batch under `receipt_key(key)`; 16 bytes."""
    return hmac.digest(tag_key, header_bytes + bytes((status,)), hashlib.sha256)[:TAG_BYTES]


def receipt_tag(key: bytes, header_bytes: bytes, status: Status) -> bytes:
    """The tag of one batch under the content key; 16 bytes. For many batches derive `receipt_key` once and use `tag_for`."""
    return tag_for(receipt_key(key), header_bytes, status)


def tags_match(expected: bytes, found: bytes) -> bool:
    """Compares two tags without telling by its duration where they differ."""
    return hmac.compare_digest(expected, found)


def encode_receipt(stream: bytes, entries: Sequence[tuple[int, Status, bytes]]) -> bytes:
    """One receipt of up to MAX_ENTRIES (sequence, status, tag); FormatError when a field does not fit."""
    if not 1 <= len(entries) <= MAX_ENTRIES:
        raise FormatError(f"receipt.entries: expected 1 to {MAX_ENTRIES}, found {len(entries)}")
    parts = [_head(_RECEIPT, stream), _COUNT.pack(len(entries))]
    for sequence, status, tag in entries:
        if not 0 <= sequence <= MAX_SEQUENCE or len(tag) != TAG_BYTES:
            raise FormatError(f"receipt entry {sequence}: expected a 32-bit sequence and a {TAG_BYTES}-byte tag, found {len(tag)} bytes")
        parts.append(_ENTRY.pack(sequence, Status(status), tag))
    return b"".join(parts)


def encode_request(stream: bytes) -> bytes:
    """Asks the vehicle to send sequence 0 of `stream` again."""
    return _head(_REQUEST, stream)


def decode_downlink(data: bytes) -> Receipt | AnnouncementRequest:
    """Reads one message of a down topic; FormatError when it is not exactly one, Unsupported for a later version or type."""
    if len(data) < _HEAD.size:
        raise FormatError(f"downlink: expected at least {_HEAD.size} bytes, found {len(data)}")
    version, kind, stream = _HEAD.unpack_from(data)
    if version != DOWNLINK_VERSION or kind not in (_RECEIPT, _REQUEST):
        raise Unsupported(f"downlink: expected version {DOWNLINK_VERSION} and type 1 or 2, found version {version} and type {kind}")
    if kind == _REQUEST:
        if len(data) != _HEAD.size:
            raise FormatError(f"announcement request: expected {_HEAD.size} bytes, found {len(data)}")
        return AnnouncementRequest(stream)
    body = data[_HEAD.size :]
    count = _COUNT.unpack_from(body)[0] if len(body) >= _COUNT.size else 0
    if not 1 <= count <= MAX_ENTRIES or len(body) != _COUNT.size + count * _ENTRY.size:
        raise FormatError(f"receipt: expected 1 to {MAX_ENTRIES} entries of {_ENTRY.size} bytes, found count {count} and {len(body)} bytes")
    return Receipt(stream, tuple(_entry(fields) for fields in _ENTRY.iter_unpack(body[_COUNT.size :])))


def _entry(fields: tuple[int, int, bytes]) -> Entry:
    sequence, status, tag = fields
    try:
        return Entry(sequence, Status(status), tag)
    except ValueError:
        raise FormatError(f"receipt entry {sequence}: status {status} is not 1, 2 or 3") from None


def _head(kind: int, stream: bytes) -> bytes:
    if len(stream) != STREAM_BYTES:
        raise FormatError(f"downlink stream: expected {STREAM_BYTES} bytes, found {len(stream)}")
    return _HEAD.pack(DOWNLINK_VERSION, kind, stream)
