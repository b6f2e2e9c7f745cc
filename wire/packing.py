"""Bounded compression: u8 mode (0 plain, 1 zstd frame without its magic number) | bytes. The smaller of the two is sent."""

import threading
from typing import Final

import zstandard

from wire.errors import FormatError

LEVEL = 3
_PLAIN, _ZSTD = b"\x00", b"\x01"
_MAGIC = b"\x28\xb5\x2f\xfd"  # RFC 8878, 3.1.1; the mode byte says it already, and 4 bytes are 2 % of a batch


class _Contexts(threading.local):
    """zstd contexts may not be shared between threads, and making one costs more than compressing a batch."""

    def __init__(self) -> None:
        # The content size bounds what a reader makes; a checksum would repeat what GCM's tag says.
        parameters = zstandard.ZstdCompressionParameters.from_level(LEVEL, write_content_size=1, write_checksum=0, write_dict_id=0)
        self.compressor = zstandard.ZstdCompressor(compression_params=parameters)
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 24)


_CONTEXTS: Final = _Contexts()


def compress(plain: bytes) -> bytes:
    """The mode byte and the bytes."""
    packed = _CONTEXTS.compressor.compress(plain)[len(_MAGIC) :]
    return _ZSTD + packed if len(packed) < len(plain) else _PLAIN + plain


def decompress(data: bytes, limit: int) -> bytes:
    """The inverse, never making more than `limit` bytes; FormatError when it would, or when the bytes are not a frame."""
    mode, body = data[:1], data[1:]
    if mode == _PLAIN:
        if len(body) > limit:
            raise FormatError(f"packed bytes: expected at most {limit}, found {len(body)}")
        return bytes(body)
    if mode != _ZSTD:
        raise FormatError(f"packed bytes: expected mode 0 or 1, found {mode.hex() or 'nothing'}")
    frame = _MAGIC + body
    try:
        claimed = zstandard.frame_content_size(frame)
        if not 0 <= claimed <= limit:
            raise FormatError(f"packed bytes: expected at most {limit} when unpacked, the frame claims {claimed}")
        return _CONTEXTS.decompressor.decompress(frame, max_output_size=limit, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FormatError(f"packed bytes: not a zstd frame ({error})") from None
