"""candump's log format, parsed in whole arrays.

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

import numpy as np
from numpy.typing import NDArray

from dbc.frames import CANFD_BRS, CANFD_ESI, CANFD_FDF, EFF_FLAG, EFF_MASK, ERR_FLAG, RTR_FLAG, SFF_MASK, FrameBlock, stated_flags
from dbc.logs.lines import fd_flags
from dbc.logs.swar import KEEP, ZEROS, decimal, hex_bytes, hex_number, not_decimal, not_hex, words_of

__all__ = ["LINE", "CandumpParser", "is_candump"]

Bytes = NDArray[np.uint8]
Index = NDArray[np.intp]

LINE = re.compile(
    rb"\s*\((?P<seconds>-?\d{1,12})\.(?P<fraction>\d{1,9})\)\s+(?:(?P<channel>[!-~]{1,64})\s+)?(?P<id>[0-9A-Fa-f]{1,8})"
    rb"#(?:#(?P<flags>[0-9A-Fa-f])|(?P<remote>[Rr])(?P<remote_length>[0-9A-Fa-f]?))?(?P<data>(?:[0-9A-Fa-f]{2}\.?)*)(?:_[0-9A-Fa-f])?(?:\s+[RT])?\s*"
)
SCREEN = re.compile(
    rb"\s*(?:\((?P<seconds>-?\d{1,12})\.(?P<fraction>\d{1,9})\)\s+)?(?P<channel>[!-~]{1,64})\s+"
    rb"(?:[RT]X\s+(?P<switched>-|[BE]{1,2})\s+(?P<passive>-|[BE]{1,2})\s+)?(?P<id>[0-9A-Fa-f]{3}|[0-9A-Fa-f]{8})\s+\[(?P<length>\d{1,2})\]"
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
        padded = b"\n" * BEFORE + text + b"\n" * AFTER
        ends = np.flatnonzero(np.frombuffer(padded, np.uint8)[: BEFORE + len(text)] == ord("\n"))[BEFORE:]
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

    def __init__(self, parser: CandumpParser, text: bytes, ends: Index) -> None:
        """text: with padding around; ends: of its lines."""
        self.parser, self.words = parser, words_of(text)
        padded = self.padded = np.frombuffer(text, np.uint8)
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
        self.flags: NDArray[np.uint8] | None = None  # of CAN FD; None until there is such a frame

    def parse_common(self) -> None:
        """Lines whose stamp is as wide as the first frame's, with six decimals, and whose payload is plain."""
        first = next(filter(None, (LINE.fullmatch(self._text(line)) for line in range(min(len(self.ends), LAYOUT_LINES)))), None)
        if first is None or len(first["fraction"]) != 6 or not 1 <= len(first["seconds"]) <= 10 or first["seconds"].startswith(b"-"):
            return
        close = first.end("fraction")  # column of the ')'
        hashes = np.flatnonzero(self.padded == ord("#"))
        if not len(hashes):
            return
        starts = self.starts
        one_each = len(hashes) == len(starts)  # as a rule
        mark = hashes if one_each else hashes.take(hashes.searchsorted(starts), mode="clip")  # first '#' of the line
        inside = (mark > starts + close) & (mark < self.ends)
        mark = np.where(inside, mark, BEFORE)
        ok = self._stamps(close) & inside
        digits = self._identifiers(mark, ok)
        self._channels(starts + (close + 2), mark - digits - 1, ok)
        self._payloads(mark, ok)
        self.ok = ok

    def _stamps(self, close: int) -> NDArray[np.bool_]:
        """Seconds of `close` - 8 digits, six digits of a fraction. Says which lines have such a stamp and nothing else in its place."""
        words, starts = self.words, self.starts
        width = close - 8
        tail = words[starts + (close - 6)]  # "298000) "
        body = words[starts + (close - 14)]  # "0000820."
        head = words[starts]  # "(1700000"
        few = min(width, 7)
        body_digits = (body ^ ZEROS) << np.uint64(8)
        if few < 7:
            body_digits &= ~KEEP[8 - few]
        tail_digits = (tail ^ ZEROS) << np.uint64(16)
        bad = not_decimal(body_digits ^ ZEROS) | not_decimal(tail_digits ^ ZEROS)
        bad |= (head & KEEP[1]) ^ np.uint64(ord("("))
        bad |= (body >> np.uint64(56)) ^ np.uint64(ord("."))
        bad |= (tail >> np.uint64(48)) ^ np.uint64(ord(")") | ord(" ") << 8)
        second = decimal(body_digits)
        if width > 7:
            more = width - 7
            head_digits = (((head ^ ZEROS) >> np.uint64(8)) & KEEP[more]) << np.uint64(8 * (8 - more))
            bad |= not_decimal(head_digits ^ ZEROS)
            second += decimal(head_digits) * np.uint64(10**7)
        stamp = second * np.uint64(10**9) + decimal(tail_digits) * np.uint64(1000)
        bad |= second // np.uint64(LAST_SECOND + 1)
        self.timestamp_ns[:] = stamp.view(np.int64)
        good: NDArray[np.bool_] = bad == 0
        return good

    def _identifiers(self, mark: Index, ok: NDArray[np.bool_]) -> Index:
        """Fills frame_id; returns the number of digits, 3 or 8."""
        word = self.words[mark - 8]
        standard = (word >> np.uint64(32)) & np.uint64(0xFF) == ord(" ")
        all_standard = bool(standard.all())
        if all_standard:
            word = word & ~KEEP[5] | ZEROS & KEEP[5]
        else:
            ok &= standard | (self.padded.take(mark - 9) == ord(" "))
            word = np.where(standard, word & ~KEEP[5] | ZEROS & KEEP[5], word)
        ok &= not_hex(word) == 0
        identifier = hex_number(word)
        if all_standard:
            ok &= identifier <= SFF_MASK
            self.frame_id[:] = identifier
            return np.full(1, 3)
        error = identifier & np.uint64(ERR_FLAG) != 0
        ok &= identifier <= np.where(standard, np.uint64(SFF_MASK), np.uint64(EFF_MASK | ERR_FLAG))
        identifier |= np.where(standard | error, np.uint64(0), np.uint64(EFF_FLAG))
        self.frame_id[:] = identifier & np.uint64(0xFFFF_FFFF)
        return np.where(standard, 3, 8)

    def _channels(self, begin: Index, end: Index, ok: NDArray[np.bool_]) -> None:
        size = end - begin
        ok &= (size > 0) & (size < NAME)
        size = np.clip(size, 0, NAME)
        first = self.words[begin] & KEEP.take(np.minimum(size, 8))
        second = self.words[begin + 8] & KEEP.take(np.maximum(size - 8, 0)) if int(size.max(initial=0)) > 8 else np.zeros_like(first)
        left = ok.copy()
        while left.any():  # once for every channel in the block
            line = int(left.argmax())
            this = left & (first == first[line]) & (second == second[line]) & (size == size[line])
            text = self.padded[begin[line] : end[line]].tobytes()
            number = self.parser.number_of(text.decode("ascii")) if PRINTABLE.fullmatch(text) else None
            if number is None:
                ok &= ~this
            elif number:
                self.channel[this] = number
            left &= ~this

    def _payloads(self, mark: Index, ok: NDArray[np.bool_]) -> None:
        begin = mark + 1
        tail = self.words[self.ends - 8] >> np.uint64(48)  # the last two characters
        directed = (tail == ord(" ") | ord("R") << 8) | (tail == ord(" ") | ord("T") << 8)
        end = self.ends - 2 * directed
        most: Index | int = 16
        first = self.words[begin]
        fd = first & KEEP[1] == ord("#")
        if fd.any():
            digit = HEX.take((first >> np.uint64(8) & KEEP[1]).astype(np.intp))
            ok &= ~fd | (digit < 16)
            self.flags = np.where(fd, digit & np.uint8(CANFD_BRS | CANFD_ESI) | np.uint8(CANFD_FDF), np.uint8(0))
            begin = mark + np.where(fd, 3, 1)
            first = self.words[begin]
            most = np.where(fd, 128, 16)
        size = end - begin
        ok &= (size >= 0) & (size & 1 == 0) & (size <= most)
        size = np.where(ok, size, 0)
        long = np.flatnonzero(size > 16)
        second = self.words[begin + 8]
        if int(size.min(initial=16)) < 16:  # beyond the payload: zeros
            keep = KEEP.take(np.minimum(size, 8))
            first = first & keep | ZEROS & ~keep
            keep = KEEP.take(np.clip(size - 8, 0, 8))
            second = second & keep | ZEROS & ~keep
        ok &= (not_hex(first) | not_hex(second)) == 0
        payload = hex_bytes(first) | hex_bytes(second) << np.uint64(32)
        self.data[:, :8] = payload.astype("<u8", copy=False).view(np.uint8).reshape(-1, 8)
        if len(long):
            self._widen()
            good = self._long_hex(begin[long], size[long], long)
            ok[long[~good]] = False
        self.length[:] = size >> 1

    def _long_hex(self, begin: Index, size: Index, lines: Index) -> NDArray[np.bool_]:
        """Fills data of the lines from `size` hex digits, up to 64 bytes; says which were hex."""
        nibble = HEX.take(_windows(self.padded, begin, 128))
        nibble[np.arange(128) >= size[:, None]] = 0
        self.data[lines] = nibble[:, 0::2] << np.uint8(4) | nibble[:, 1::2]
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
        flags = 0 if found["flags"] is None else CANFD_FDF | int(found["flags"], 16) & (CANFD_BRS | CANFD_ESI)
        return self._place(line, stamp, identifier, found["channel"] or b"can0", data, length, flags)

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
        flags = 0
        if len(found["length"]) == 2 and not remote:  # [08] is FD, [8] is classic
            marks = found["switched"], found["passive"]
            flags = fd_flags(marks[0] != b"-", marks[1] == b"E")  # not shown: as the second bit rate's, which is nearly every one
        return self._place(line, stamp, identifier, found["channel"], data, min(length, 8) if remote else length, flags)

    def _place(self, line: int, stamp: int, identifier: int, channel: bytes, data: bytes, length: int, flags: int) -> bool:
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
        if flags and self.flags is None:
            self.flags = np.zeros(len(self.ok), np.uint8)
        if self.flags is not None:
            self.flags[line] = flags
        return True

    def _text(self, line: int) -> bytes:
        return self.padded[self.starts[line] : self.ends[line]].tobytes()

    def finish(self, entered_ns: int) -> FrameBlock:
        arrays, flags = (self.timestamp_ns, self.frame_id, self.channel, self.length, self.data), self.flags
        if not self.ok.all():
            arrays = tuple(array[self.ok] for array in arrays)  # type: ignore[assignment]
            flags = None if flags is None else flags[self.ok]
        return FrameBlock(self.parser.channels, *arrays, entered_ns, None if flags is None else stated_flags(flags, arrays[3]))


def _windows(padded: Bytes, begin: Index, width: int) -> Bytes:
    """(m, width) the bytes from each position on, as a copy. Positions must be whole windows within `padded`; others are moved into it."""
    views = np.lib.stride_tricks.sliding_window_view(padded, width)
    windows: Bytes = views[np.minimum(begin, len(views) - 1)]
    return windows
