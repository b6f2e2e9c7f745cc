"""Text logs, line by line: what all their parsers share.

A parser takes whole lines and gives frames. A line that is no frame is either *of the format* (a header, a comment, a statistic), and is
left aside, or *broken*, and is counted with its number; nothing is guessed.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dbc.frames import (
    CANFD_BRS,
    CANFD_ESI,
    CANFD_FDF,
    EFF_FLAG,
    EFF_MASK,
    ERR_FLAG,
    RTR_FLAG,
    SFF_MASK,
    FrameBlock,
    filled_flags,
    stated_flags,
)

__all__ = [
    *("LAST_SECOND", "MAX_CHANNELS", "Broken", "Frame", "LineParser", "TextParser"),
    *("fd_flags", "fixed_point_ns", "frame_id", "payload", "whole_number"),
]

MAX_CHANNELS = 255
LAST_SECOND = 2**63 // 10**9 - 1  # that nanoseconds reach in an int64: the year 2262
MAX_BYTES = 64


class Broken(ValueError):
    """A line that should be a frame and is none; the message says why."""


class Frame(NamedTuple):
    timestamp_ns: int
    frame_id: int  # with flags
    channel: str
    data: bytes
    length: int  # of the payload; of a remote frame, the length that it asks for
    flags: int | None = None  # of CAN FD; None = the format does not say


class TextParser(Protocol):
    """Turns whole lines into blocks."""

    lines: int  # parsed so far
    skipped: int  # broken lines
    first_skipped: int | None  # number of the first of them, from 1

    def parse(self, text: bytes, entered_ns: int) -> FrameBlock: ...


class LineParser:
    """A parser that looks at one line at a time. Subclasses give `frame`."""

    def __init__(self) -> None:
        self.channels: tuple[str, ...] = ()
        self.lines = 0
        self.skipped = 0
        self.first_skipped: int | None = None

    def frame(self, line: bytes) -> Frame | None:
        """line: without its end and surrounding blanks, not empty. None where it is of the format, but no frame. Raises Broken."""
        raise NotImplementedError

    def parse(self, text: bytes, entered_ns: int) -> FrameBlock:
        """text: whole lines (the last may lack its end). Returns the frames, in order; none for blank text."""
        lines = text.replace(b"\r\n", b"\n").split(b"\n")
        if not lines[-1]:
            lines.pop()
        frames: list[Frame] = []
        numbers = {name: number for number, name in enumerate(self.channels)}
        for number, line in enumerate(lines, self.lines + 1):
            stripped = line.strip()
            if not stripped:
                continue
            try:
                frame = self.frame(stripped)
                if frame is None:
                    continue
                self._check(frame, numbers)
            except ValueError:  # Broken, or a number that is none
                self.skipped += 1
                if self.first_skipped is None:
                    self.first_skipped = number
                continue
            frames.append(frame)
        self.lines += len(lines)
        return self._block(frames, numbers, entered_ns)

    def _check(self, frame: Frame, numbers: dict[str, int]) -> None:
        if len(frame.data) > MAX_BYTES:
            raise Broken(f"{len(frame.data)} bytes in a frame")
        if not -LAST_SECOND <= frame.timestamp_ns // 1_000_000_000 <= LAST_SECOND:
            raise Broken("a time beyond the year 2262")
        if frame.channel not in numbers:
            if len(numbers) >= MAX_CHANNELS:
                raise Broken("more than 255 channels")
            numbers[frame.channel] = len(numbers)
            self.channels = (*self.channels, frame.channel)

    def _block(self, frames: list[Frame], numbers: dict[str, int], entered_ns: int) -> FrameBlock:
        width = 64 if any(len(frame.data) > 8 for frame in frames) else 8
        n = len(frames)
        payload = b"".join(frame.data.ljust(width, b"\0") for frame in frames)
        return FrameBlock(
            self.channels,
            np.fromiter((frame.timestamp_ns for frame in frames), np.int64, n),
            np.fromiter((frame.frame_id for frame in frames), np.uint32, n),
            np.fromiter((numbers[frame.channel] for frame in frames), np.uint8, n),
            np.fromiter((frame.length for frame in frames), np.uint8, n),
            np.frombuffer(payload, np.uint8).reshape(n, width).copy(),
            entered_ns,
            _flags(frames),
        )


def fd_flags(bit_rate_switch: bool, error_passive: bool) -> int:
    """Flags of a CAN FD frame."""
    return CANFD_FDF | (CANFD_BRS if bit_rate_switch else 0) | (CANFD_ESI if error_passive else 0)


def _flags(frames: list[Frame]) -> NDArray[np.uint8] | None:
    if {frame.flags for frame in frames} <= {None}:
        return None
    length = np.fromiter((frame.length for frame in frames), np.uint8, len(frames))
    default = filled_flags(None, length).tolist()
    said = (usual if frame.flags is None else frame.flags for frame, usual in zip(frames, default, strict=True))
    return stated_flags(np.fromiter(said, np.uint8, len(frames)), length)


def frame_id(identifier: int, extended: bool, *, remote: bool = False, error: bool = False) -> int:
    """The identifier with its flags. Raises Broken where it has too many bits."""
    if error:
        return ERR_FLAG | (identifier & EFF_MASK)
    if not 0 <= identifier <= (EFF_MASK if extended else SFF_MASK):
        raise Broken(f"identifier {identifier:#x}")
    return identifier | (EFF_FLAG if extended else 0) | (RTR_FLAG if remote else 0)


def whole_number(text: bytes, base: int = 16) -> int:
    """An unsigned number, of digits alone: int() would also take "0x", a sign and "_". Raises Broken."""
    if len(text) > 10 or not text.isalnum() or (base == 16 and text[1:2] in b"xX" and len(text) > 1):
        raise Broken(f"number {text!r}")
    return int(text, base)


def payload(words: list[bytes], length: int, base: int = 16) -> bytes:
    """The first `length` of the words as bytes. Raises Broken where there are fewer, or one is no byte."""
    if not 0 <= length <= MAX_BYTES or len(words) < length:
        raise Broken(f"{len(words)} bytes of {length}")
    words = words[:length]
    widths = set(map(len, words))
    if base == 16 and widths <= {2}:  # of the same width together is not enough: "8 006" is damage, not two bytes
        return bytes.fromhex(b"".join(words).decode("ascii"))
    if max(widths, default=0) > (2 if base == 16 else 3) or not all(word.isalnum() for word in words):
        raise Broken("no bytes")
    return bytes(int(word, base) for word in words[:length])  # ValueError beyond 255


def fixed_point_ns(text: bytes, unit_ns: int) -> int:
    """A decimal number of units ("-12.345678") in nanoseconds, exactly; what is below a nanosecond is cut. Raises Broken."""
    sign, digits = (-1, text[1:]) if text[:1] == b"-" else (1, text)
    whole, _, fraction = digits.replace(b",", b".").partition(b".")
    if not whole.isdigit() or len(whole) > 19 or not (fraction.isdigit() or not fraction) or len(fraction) > 19:
        raise Broken(f"time {text!r}")
    return sign * (int(whole) * unit_ns + (int(fraction) * unit_ns // 10 ** len(fraction) if fraction else 0))
