"""candump's log format, parsed and written in whole arrays.

    (1700000820.298000) can0 085#7C33800047E07C7F          classic frame: 3 hex digits standard, 8 hex digits extended identifier
    (1700000820.298000) can0 12345678##1A0B0C               FD frame: a flags digit after the second '#'
    (1700000820.298000) can0 085#R4                         remote frame, with its length
    (1700000820.298000) can0 20000080#0000000000000000      error frame: identifier with ERR_FLAG
    (1700000820.298000) can0 085#7C T                       a direction may follow
    (1700000820.298000) 085#7C                              without an interface it is can0
     can0  085   [8]  7C 33 80 00 47 E0 7C 7F               as on the screen, with or without a stamp in front; without, it has the last one

Source: can-utils, lib.h and asc2log.c. Lines of the common shapes are parsed together by NumPy (ten times faster than line by line); the
others (remote frames, dotted payloads, stamps of another width than the block's first) one by one with a regular expression.
"""

from __future__ import annotations

import re
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from dbc.frames import EFF_FLAG, EFF_MASK, ERR_FLAG, RTR_FLAG, SFF_MASK, FrameBlock

__all__ = ["LINE", "CandumpParser", "is_candump", "write_candump"]

Bytes = NDArray[np.uint8]
Index = NDArray[np.intp]

LINE = re.compile(
    rb"\s*\((?P<seconds>-?\d{1,12})\.(?P<fraction>\d{1,9})\)\s+(?:(?P<channel>[!-~]{1,64})\s+)?(?P<id>[0-9A-Fa-f]{1,8})"
    rb"#(?:#(?P<flags>[0-9A-Fa-f])|(?P<remote>[Rr])(?P<remote_length>[0-9A-Fa-f]?))?(?P<data>(?:[0-9A-Fa-f]{2}\.?)*)(?:_[0-9A-Fa-f])?(?:\s+[RT])?\s*"
)
SCREEN = re.compile(
    rb"\s*(?:\((?P<seconds>-?\d{1,12})\.(?P<fraction>\d{1,9})\)\s+)?(?P<channel>[!-~]{1,64})\s+"
    rb"(?:[RT]X\s+(?:-|[BE]{1,2})\s+(?:-|[BE]{1,2})\s+)?(?P<id>[0-9A-Fa-f]{3}|[0-9A-Fa-f]{8})\s+\[(?P<length>\d{1,2})\]"
    rb"(?:\s+(?P<remote>remote request)|(?P<data>(?:\s+[0-9A-Fa-f]{2})*))(?:\s+'.*')?(?:\s+ERRORFRAME.*)?\s*"
)
COMMENT = (b"#", b";", b"//")
PRINTABLE = re.compile(rb"[!-~]+")
BEFORE, AFTER = 32, 160  # padding around the text, so that no window leaves it
NAME = 16  # longest interface name and its end (IFNAMSIZ)
BAD = 0xFF
HEX = np.full(256, BAD, np.uint8)
HEX[list(b"0123456789")] = range(10)
HEX[list(b"abcdef")] = HEX[list(b"ABCDEF")] = range(10, 16)
DIGITS = np.frombuffer(b"0123456789ABCDEF", np.uint8)
ID_WEIGHTS = 16.0 ** np.arange(7, -1, -1)
MAX_CHANNELS = 255
LAST_SECOND = 2**63 // 10**9 - 1  # that nanoseconds reach in an int64: the year 2262
LAYOUT_LINES = 20  # lines to look at for the first that is a frame: logs begin in the middle of a line, or with a terminal's header


def is_candump(lines: list[bytes]) -> bool:
    return any(LINE.fullmatch(line) or SCREEN.fullmatch(line) for line in lines)


class CandumpParser:
    """Turns whole lines into frame blocks. Lines that are no frame are skipped and counted, never guessed."""

    def __init__(self) -> None:
        self.channels: tuple[str, ...] = ()
        self.lines = 0  # parsed so far
        self.last_ns = 0  # stamp of the last frame
        self.skipped = 0  # lines, other than blank ones, that are no frame
        self.first_skipped: int | None = None  # number of the first of them, from 1

    def parse(self, text: bytes, entered_ns: int) -> FrameBlock:
        """text: whole lines (the last may lack its end). Returns the frames, in order; none for blank text."""
        if not text.endswith(b"\n"):
            text += b"\n"
        padded = np.frombuffer(b"\n" * BEFORE + text + b"\n" * AFTER, np.uint8)
        ends = np.flatnonzero(padded[: BEFORE + len(text)] == ord("\n"))[BEFORE:]
        block = _Lines(self, padded, ends)
        block.parse_common()
        block.parse_others()
        self.lines += len(ends)
        frames = block.finish(entered_ns)
        if len(frames):
            self.last_ns = int(frames.timestamp_ns[-1])
        return frames

    def number_of(self, name: str) -> int | None:
        """The number of a channel, new names included; None when there are too many."""
        if name in self.channels:
            return self.channels.index(name)
        if len(self.channels) >= MAX_CHANNELS:
            return None
        self.channels = (*self.channels, name)
        return len(self.channels) - 1


class _Lines:
    """m lines on their way to frames; `ok` says which have become one."""

    def __init__(self, parser: CandumpParser, padded: Bytes, ends: Index) -> None:
        self.parser, self.padded = parser, padded
        m = len(ends)
        self.starts = np.empty(m, np.intp)
        self.starts[:1] = BEFORE
        self.starts[1:] = ends[:-1] + 1
        self.ends = ends - (padded[ends - 1] == ord("\r"))
        self.timestamp_ns = np.zeros(m, np.int64)
        self.frame_id = np.zeros(m, np.uint32)
        self.channel = np.zeros(m, np.uint8)
        self.length = np.zeros(m, np.uint8)
        self.data = np.zeros((m, 8), np.uint8)
        self.ok = np.zeros(m, np.bool_)

    def parse_common(self) -> None:
        """Lines whose stamp is as wide as the first frame's, with six decimals, and whose payload is plain."""
        first = next(filter(None, (LINE.fullmatch(self._text(line)) for line in range(min(len(self.ends), LAYOUT_LINES)))), None)
        if first is None or len(first["fraction"]) != 6 or not 1 <= len(first["seconds"]) <= 10 or first["seconds"].startswith(b"-"):
            return
        padded, starts = self.padded, self.starts
        close = first.end("fraction")  # column of the ')'
        hashes = np.flatnonzero(padded == ord("#"))
        if not len(hashes):
            return
        mark = hashes.take(hashes.searchsorted(starts), mode="clip")  # first '#' of the line
        ok = (mark > starts + close) & (mark < self.ends)
        mark = np.where(ok, mark, BEFORE)
        ok &= padded.take(starts) == ord("(")
        ok &= padded.take(starts + close, mode="clip") == ord(")")
        ok &= padded.take(starts + close + 1, mode="clip") == ord(" ")
        self._stamps(starts, close, ok)
        digits = self._identifiers(mark, ok)
        self._channels(starts + close + 2, mark - digits - 1, ok)
        self._payloads(mark, ok)
        self.ok = ok

    def _stamps(self, starts: Index, close: int, ok: NDArray[np.bool_]) -> None:
        """Microseconds as one product: 16 digits are below 2**53 until the year 2255, so that float64 is exact."""
        window = _windows(self.padded, starts, close) - np.uint8(ord("0"))
        point = close - 7
        ok &= window[:, point] == (ord(".") - ord("0")) % 256
        weights = np.zeros(close)
        weights[1:point] = 10.0 ** np.arange(point + 4, 5, -1)
        weights[point + 1 :] = 10.0 ** np.arange(5, -1, -1)
        window[:, 0] = window[:, point] = 0
        ok &= (window <= 9).all(axis=1)
        stamp = window.astype(np.float64) @ weights
        ok &= stamp < 2.0**53
        self.timestamp_ns[:] = stamp.astype(np.int64) * 1000

    def _identifiers(self, mark: Index, ok: NDArray[np.bool_]) -> Index:
        """Fills frame_id; returns the number of digits, 3 or 8."""
        standard = self.padded.take(mark - 4) == ord(" ")
        ok &= standard | (self.padded.take(mark - 9) == ord(" "))
        nibble = HEX.take(_windows(self.padded, mark - 8, 8))
        nibble[standard, :5] = 0
        ok &= (nibble < 16).all(axis=1)
        identifier = (nibble.astype(np.float64) @ ID_WEIGHTS).astype(np.int64)
        error = identifier & ERR_FLAG != 0
        ok &= np.where(standard, identifier <= SFF_MASK, identifier <= EFF_MASK | ERR_FLAG)
        identifier |= np.where(standard | error, 0, EFF_FLAG)
        self.frame_id[:] = identifier.astype(np.uint32)
        return np.where(standard, 3, 8)

    def _channels(self, begin: Index, end: Index, ok: NDArray[np.bool_]) -> None:
        size = end - begin
        ok &= (size > 0) & (size < NAME)
        size = np.clip(size, 0, NAME)
        name = _windows(self.padded, begin, NAME)
        name[np.arange(NAME) >= size[:, None]] = 0
        words = name.view(np.uint64)
        first, second = words[:, 0], words[:, 1]
        left = ok.copy()
        while left.any():  # once for every channel in the block
            line = int(left.argmax())
            this = left & (first == first[line]) & (second == second[line]) & (size == size[line])
            text = name[line, : size[line]].tobytes()
            number = self.parser.number_of(text.decode("ascii")) if PRINTABLE.fullmatch(text) else None
            if number is None:
                ok &= ~this
            else:
                self.channel[this] = number
            left &= ~this

    def _payloads(self, mark: Index, ok: NDArray[np.bool_]) -> None:
        fd = self.padded.take(mark + 1) == ord("#")
        begin = mark + np.where(fd, 3, 1)
        end = self.ends - 2 * (self.padded.take(self.ends - 2) == ord(" "))  # " R" or " T"
        size = end - begin
        direction = self.padded.take(self.ends - 1)
        ok &= (end == self.ends) | (direction == ord("R")) | (direction == ord("T"))
        ok &= (size >= 0) & (size % 2 == 0) & (size <= np.where(fd, 128, 16))
        if fd.any():
            ok &= ~fd | (HEX.take(self.padded.take(mark + 2)) < 16)
        size = np.where(ok, size, 0)
        long = np.flatnonzero(size > 16)
        ok &= self._hex(begin, np.minimum(size, 16), None)
        if len(long):
            self._widen()
            good = self._hex(begin[long], size[long], long)
            ok[long[~good]] = False
        self.length[:] = size // 2

    def _hex(self, begin: Index, size: Index, lines: Index | None) -> NDArray[np.bool_]:
        """Fills data of the lines (None = all, up to 8 bytes) from `size` hex digits; says which were hex."""
        width = 16 if lines is None else 128
        nibble = HEX.take(_windows(self.padded, begin, width))
        if int(size.min(initial=width)) < width:
            nibble[np.arange(width) >= size[:, None]] = 0
        high = nibble[:, 0::2] << np.uint8(4)
        if lines is None:
            np.bitwise_or(high, nibble[:, 1::2], out=self.data[:, :8])
        else:
            self.data[lines] = high | nibble[:, 1::2]
        good: NDArray[np.bool_] = nibble.max(axis=1) < 16
        return good

    def _widen(self) -> None:
        if self.data.shape[1] == 8:
            self.data = np.concatenate([self.data, np.zeros((len(self.data), 56), np.uint8)], axis=1)

    def parse_others(self) -> None:
        """What is left, line by line."""
        for line in np.flatnonzero(~self.ok):
            text = self._text(int(line))
            if self._parse_line(int(line), text):
                self.ok[line] = True
            elif text.strip() and not text.lstrip().startswith(COMMENT):
                self.parser.skipped += 1
                if self.parser.first_skipped is None:
                    self.parser.first_skipped = self.parser.lines + int(line) + 1

    def _parse_line(self, line: int, text: bytes) -> bool:
        found = LINE.fullmatch(text)
        if found is None:
            return self._parse_screen(line, text)
        identifier, data = int(found["id"], 16), bytes.fromhex(found["data"].replace(b".", b"").decode())
        extended = len(found["id"]) > 3
        error = bool(extended and identifier & ERR_FLAG)
        if identifier > ((EFF_MASK | ERR_FLAG) if extended else SFF_MASK) or len(data) > (8 if found["flags"] is None else 64):
            return False
        remote = found["remote"] is not None
        seconds, fraction = int(found["seconds"]), int(found["fraction"].ljust(9, b"0"))
        if (remote and data) or abs(seconds) > LAST_SECOND:
            return False
        stamp = seconds * 1_000_000_000 + (-fraction if found["seconds"].startswith(b"-") else fraction)
        identifier |= (EFF_FLAG if extended and not error else 0) | (RTR_FLAG if remote else 0)
        length = min(int(found["remote_length"] or b"0", 16), 8) if remote else len(data)
        return self._place(line, stamp, identifier, found["channel"] or b"can0", data, length)

    def _parse_screen(self, line: int, text: bytes) -> bool:
        """What candump prints on a screen."""
        found = SCREEN.fullmatch(text)
        if found is None:
            return False
        identifier, length = int(found["id"], 16), int(found["length"])
        data = bytes.fromhex((found["data"] or b"").decode())
        remote, extended = found["remote"] is not None, len(found["id"]) > 3
        error = bool(extended and identifier & ERR_FLAG)
        if identifier > ((EFF_MASK | ERR_FLAG) if extended else SFF_MASK) or length > 64 or (len(data) != length and not remote):
            return False
        before = line - 1
        while before >= 0 and not self.ok[before]:
            before -= 1
        stamp = int(self.timestamp_ns[before]) if before >= 0 else self.parser.last_ns
        if found["seconds"] is not None:
            seconds, fraction = int(found["seconds"]), int(found["fraction"].ljust(9, b"0"))
            if abs(seconds) > LAST_SECOND:
                return False
            stamp = seconds * 1_000_000_000 + (-fraction if found["seconds"].startswith(b"-") else fraction)
        identifier |= (EFF_FLAG if extended and not error else 0) | (RTR_FLAG if remote else 0)
        return self._place(line, stamp, identifier, found["channel"], data, min(length, 8) if remote else length)

    def _place(self, line: int, stamp: int, identifier: int, channel: bytes, data: bytes, length: int) -> bool:
        number = self.parser.number_of(channel.decode("ascii"))
        if number is None:
            return False
        if len(data) > 8:
            self._widen()
        self.timestamp_ns[line] = stamp
        self.frame_id[line] = identifier
        self.channel[line] = number
        self.length[line] = length
        self.data[line] = 0
        self.data[line, : len(data)] = list(data)
        return True

    def _text(self, line: int) -> bytes:
        return self.padded[self.starts[line] : self.ends[line]].tobytes()

    def finish(self, entered_ns: int) -> FrameBlock:
        arrays = self.timestamp_ns, self.frame_id, self.channel, self.length, self.data
        if not self.ok.all():
            arrays = tuple(array[self.ok] for array in arrays)  # type: ignore[assignment]
        return FrameBlock(self.parser.channels, *arrays, entered_ns)


def _windows(padded: Bytes, begin: Index, width: int) -> Bytes:
    """(m, width) the bytes from each position on, as a copy. Positions must be whole windows within `padded`; others are moved into it."""
    views = np.lib.stride_tricks.sliding_window_view(padded, width)
    windows: Bytes = views[np.minimum(begin, len(views) - 1)]
    return windows


def write_candump(stream: BinaryIO, block: FrameBlock) -> None:
    """Write the block as candump log lines. Stamps are cut to microseconds, as the format has them.

    FD frames are those longer than 8 bytes: a block does not say it of shorter ones.
    """
    n = len(block)
    if n == 0:
        return
    lines = np.empty(n, object)
    # Frames of one shape have lines of one width: build each shape as a matrix of characters.
    extended = (block.frame_id & np.uint32(EFF_FLAG | ERR_FLAG)) != 0
    remote = (block.frame_id & RTR_FLAG) != 0
    seconds, nanoseconds = np.divmod(np.abs(block.timestamp_ns), 1_000_000_000)
    shape = (block.channel.astype(np.int64) << 10) | (extended.astype(np.int64) << 9) | (remote.astype(np.int64) << 8) | block.length
    for code in np.unique(shape):
        these = np.flatnonzero(shape == code)
        length, name = int(code & 0xFF), block.channels[int(code >> 10)].encode("latin-1")
        is_extended, is_remote = bool(code & 0x200), bool(code & 0x100)
        digits = 8 if is_extended else 3
        mark = b"#R" + b"%X" % min(length, 8) if is_remote else b"##0" if length > 8 else b"#"
        payload = 0 if is_remote else 2 * length
        head = b"(SSSSSSSSSS.UUUUUU) " + name + b" " + b"I" * digits + mark
        text = np.empty((len(these), len(head) + payload + 1), np.uint8)
        text[:, : len(head)] = np.frombuffer(head, np.uint8)
        text[:, -1] = ord("\n")
        _digits(text[:, 1:11], seconds[these], 10)
        text[block.timestamp_ns[these] < 0, 1] = ord("-")
        _digits(text[:, 12:18], nanoseconds[these] // 1000, 10)
        at = 20 + len(name) + 1
        identifier = block.frame_id[these] & np.uint32(EFF_MASK | ERR_FLAG)
        _digits(text[:, at : at + digits], identifier.astype(np.int64), 16)
        if payload:
            data = block.data[these, :length]
            text[:, len(head) : -1 : 2] = DIGITS[data >> 4]
            text[:, len(head) + 1 : -1 : 2] = DIGITS[data & 15]
        width = text.shape[1]
        flat = text.tobytes()
        lines[these] = [flat[place : place + width] for place in range(0, len(flat), width)]
    stream.write(b"".join(lines))


def _digits(text: Bytes, number: NDArray[np.int64], base: int) -> None:
    """Write numbers right-aligned, zero-padded, into the columns of `text`."""
    for column in range(text.shape[1] - 1, -1, -1):
        number, digit = np.divmod(number, base)
        text[:, column] = DIGITS[digit]
