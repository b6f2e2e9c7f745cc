"""The clear header of everything that travels up: 29 bytes, and the associated data of its encryption.

u8 version | 8 bytes vehicle | 16 bytes stream | u32 sequence      (big-endian)
"""

import struct
from typing import Self

import msgspec

from wire.errors import FormatError, Unsupported
from wire.topics import check_vehicle

VERSION = 1
HEADER_BYTES = 29
STREAM_BYTES = 16
MAX_SEQUENCE = 0xFFFF_FFFF
_LAYOUT = struct.Struct(">B8s16sI")


class Header(msgspec.Struct, frozen=True, gc=False):
    """Who sent it, in which stream, and at which place: the dedupe key and the receipt key are (stream, sequence).

    vehicle: 16 lower-case hexadecimal digits (8 random bytes). stream: 16 random bytes. sequence: 0 is the announcement.
    """

    vehicle: str
    stream: bytes
    sequence: int
    version: int = VERSION

    def pack(self) -> bytes:
        """The 29 bytes; FormatError when a field does not fit."""
        if len(self.stream) != STREAM_BYTES:
            raise FormatError(f"header.stream: expected {STREAM_BYTES} bytes, found {len(self.stream)}")
        if not 0 <= self.sequence <= MAX_SEQUENCE:
            raise FormatError(f"header.sequence: expected 0 to {MAX_SEQUENCE}, found {self.sequence}")
        return _LAYOUT.pack(self.version, bytes.fromhex(check_vehicle(self.vehicle)), self.stream, self.sequence)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Reads the header at the start of `data`; FormatError when short, Unsupported when of another version."""
        if len(data) < HEADER_BYTES:
            raise FormatError(f"header: expected {HEADER_BYTES} bytes, found {len(data)}")
        version, vehicle, stream, sequence = _LAYOUT.unpack_from(data)
        if version != VERSION:
            raise Unsupported(f"header.version: expected {VERSION}, found {version}")
        return cls(vehicle.hex(), stream, sequence, version)
