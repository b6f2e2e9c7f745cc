"""Logs -> which frame is due on which bus, and when: several logs merged by time, cut to a window, over and over if asked.

log -> blocks -> SteadyStamps -> merge -> window -> Timed, a block at a time, so that memory does not grow with the log
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dbc.frames import ERR_FLAG, joined_flags
from dbc.logs import LogReader, open_log
from simulator.errors import ReplayError
from simulator.replay_stamps import SteadyStamps

__all__ = ["FAST_FRAMES", "NO_BUS", "PACED_FRAMES", "Instant", "LogNotes", "Route", "Timed", "Timetable", "channels_of"]

NO_BUS = 255
LOOK_FRAMES = 100_000
PACED_FRAMES, FAST_FRAMES = 512, 8192  # of a block: small ones are parsed between two frames, large ones in less time

Route = Callable[[int, str], int]  # (number of the log from 0, its channel) -> number of the bus, or NO_BUS


@dataclass(frozen=True, slots=True)
class Instant:
    """A time in a log: an instant of UTC, or counted from the log's first frame."""

    ns: int
    is_utc: bool = False

    def after(self, first_ns: int) -> int:
        """ns since 1970, in a log that begins at `first_ns`."""
        return self.ns if self.is_utc else first_ns + self.ns


@dataclass(frozen=True, slots=True)
class Timed:
    """n frames in the order in which they are due."""

    due_ns: NDArray[np.int64]  # (n,) since the replay's first frame, in the logs' time; never less than the one before
    bus: NDArray[np.uint8]  # (n,) number of the bus
    frame_id: NDArray[np.uint32]  # (n,) with flags
    length: NDArray[np.uint8]  # (n,) payload bytes
    data: NDArray[np.uint8]  # (n, 8) or (n, 64)
    round: int = 0  # how often the logs were played before
    left_out: dict[str, int] = field(default_factory=dict)  # why -> frames that stood among these and are not sent
    flags: NDArray[np.uint8] | None = None  # (n,) of CAN FD, as a FrameBlock has them

    def __len__(self) -> int:
        return len(self.due_ns)

    def take(self, which: slice | NDArray[np.bool_] | NDArray[np.intp]) -> Timed:
        return replace(
            self,
            due_ns=self.due_ns[which],
            bus=self.bus[which],
            frame_id=self.frame_id[which],
            length=self.length[which],
            data=self.data[which],
            flags=None if self.flags is None else self.flags[which],
        )


@dataclass
class LogNotes:
    """What was seen of a log, for the summary; of the last round."""

    path: str
    format: str = ""
    channels: tuple[str, ...] = ()
    skipped: int = 0  # broken lines
    first_skipped: int | None = None
    stray: int = 0
    set_back: int = 0
    gaps_cut: int = 0


def channels_of(path: str) -> tuple[tuple[str, ...], bool]:
    """The channels of a log's first 100,000 frames, and whether these are all its frames. Raises LogFormatError."""
    channels: tuple[str, ...] = ()
    frames = 0
    with open_log(path) as reader:
        for block in reader:
            channels = block.channels
            frames += len(block)
            if frames > LOOK_FRAMES:
                return channels, False
    return channels, True


class Timetable:
    """Iterates over Timed blocks. Nothing is read before the first is asked for.

    route: where a channel's frames go. since, until: the window; frames at `until` are outside. align: every log begins when the first
    does. loop: from the beginning again, without end. error_frames: keep them.
    Raises dbc's LogFormatError, and ReplayError where there is no frame to play.
    """

    def __init__(
        self,
        logs: Sequence[str],
        route: Route,
        *,
        since: Instant | None = None,
        until: Instant | None = None,
        align: bool = False,
        loop: bool = False,
        error_frames: bool = False,
        block_frames: int = PACED_FRAMES,
    ) -> None:
        self.notes = [LogNotes(path) for path in logs]
        self.position = 0  # bytes read in this round
        self.size = sum(Path(path).stat().st_size for path in logs if Path(path).is_file())
        self._logs, self._route = tuple(logs), route
        self._since, self._until, self._align, self._loop = since, until, align, loop
        self._error_frames, self._block_frames = error_frames, block_frames

    def __iter__(self) -> Iterator[Timed]:
        begin_ns = 0  # of the round, in the replay's time
        for number in itertools.count():
            frames, first_ns, last_ns = 0, 0, 0
            for block in self._window():
                if len(block):
                    first_ns = int(block.due_ns[0]) if not frames else first_ns
                    last_ns = int(block.due_ns[-1])
                    frames += len(block)
                yield replace(block, due_ns=block.due_ns - first_ns + begin_ns, round=number)
            if not self._loop:
                self.position = self.size
                return
            spacing_ns = (last_ns - first_ns) // (frames - 1) if frames > 1 else 1_000_000_000
            begin_ns += last_ns - first_ns + spacing_ns

    def _window(self) -> Iterator[Timed]:
        """The frames to be sent; due_ns is in the logs' own time."""
        first_ns = last_ns = None
        begin_ns, end_ns = None, None
        empty = True
        left_out: dict[str, int] = {}
        for block in self._merged():
            if first_ns is None:
                first_ns = int(block.due_ns[0])
                begin_ns = None if self._since is None else self._since.after(first_ns)
                end_ns = None if self._until is None else self._until.after(first_ns)
            last_ns = int(block.due_ns[-1])
            start = 0 if begin_ns is None else int(block.due_ns.searchsorted(begin_ns))
            stop = len(block) if end_ns is None else int(block.due_ns.searchsorted(end_ns))
            sent = self._to_be_sent(block.take(slice(start, stop)), left_out)
            if len(sent):
                empty = False
                yield replace(sent, left_out=left_out)
                left_out = {}
            if stop < len(block):
                break
        if empty:
            raise ReplayError(self._why_empty(first_ns, last_ns, left_out))
        if left_out:
            yield replace(block.take(slice(0)), left_out=left_out)

    def _to_be_sent(self, block: Timed, left_out: dict[str, int]) -> Timed:
        unwanted = block.bus == NO_BUS
        error = np.zeros(len(block), np.bool_) if self._error_frames else (block.frame_id & ERR_FLAG) != 0
        for why, count in (("channel", int((unwanted & ~error).sum())), ("error", int(error.sum()))):
            if count:
                left_out[why] = left_out.get(why, 0) + count
        unwanted |= error
        return block.take(~unwanted) if unwanted.any() else block

    def _why_empty(self, first_ns: int | None, last_ns: int | None, left_out: dict[str, int]) -> str:
        name = ", ".join(self._logs)
        if first_ns is None or last_ns is None:
            return f"{name}: has no frames"
        if set(left_out) == {"error"}:
            return f"{name}: has error frames alone ({left_out['error']}), which are left out; --error-frames sends them to a virtual bus"
        if left_out:
            there = ", ".join(dict.fromkeys(itertools.chain.from_iterable(note.channels for note in self.notes)))
            return f"{name}: no --to names a channel of these {left_out['channel']} frames; there are {there}"
        span = f"{(last_ns - first_ns) / 1e9:.3f} s from {_utc(first_ns)}"
        return f"{name}: no frame between --from and --until; as far as it was read the log has {span}"

    def _merged(self) -> Iterator[Timed]:
        readers = [open_log(path, block_frames=self._block_frames) for path in self._logs]
        sources = [self._read(number, reader) for number, reader in enumerate(readers)]
        try:
            for block in sources[0] if len(sources) == 1 else _merge(sources, align=self._align):
                self.position = sum(reader.position for reader in readers)
                yield block
        finally:
            for reader in readers:
                reader.close()

    def _read(self, number: int, reader: LogReader) -> Iterator[Timed]:
        """One log; due_ns is its stamps, which never go back."""
        stamps, notes = SteadyStamps(), self.notes[number]
        bus = np.zeros(0, np.uint8)
        waiting: Timed | None = None
        for block in itertools.chain(reader, [None]):
            if block is not None:
                if len(bus) != len(block.channels):
                    bus = np.array([self._route(number, name) for name in block.channels], np.uint8)
                    notes.channels = block.channels
                found = Timed(block.timestamp_ns, bus.take(block.channel), block.frame_id, block.length, block.data, flags=block.flags)
                waiting = found if waiting is None else _joined([waiting, found])
            notes.format, notes.skipped, notes.first_skipped = reader.format, reader.skipped, reader.first_skipped
            if waiting is None:
                continue
            at_ns = stamps.place(waiting.due_ns, at_end=block is None)
            notes.stray, notes.set_back, notes.gaps_cut = stamps.stray, stamps.set_back, stamps.gaps_cut
            if len(at_ns):
                yield replace(waiting.take(slice(len(at_ns))), due_ns=at_ns)
            waiting = waiting.take(slice(len(at_ns), None)) if len(at_ns) < len(waiting) else None


def _merge(sources: Sequence[Iterator[Timed]], *, align: bool) -> Iterator[Timed]:
    """Blocks of all sources in the order of time; at the same time, in the order of the sources."""
    heads = [next(source, None) for source in sources]
    first_ns = min((int(head.due_ns[0]) for head in heads if head is not None), default=0)
    shifts = [first_ns - int(head.due_ns[0]) if align and head is not None else 0 for head in heads]
    heads = [None if head is None else replace(head, due_ns=head.due_ns + shift) for head, shift in zip(heads, shifts, strict=True)]
    while ends := [int(head.due_ns[-1]) for head in heads if head is not None]:
        complete_ns = min(ends)  # whatever comes up to the earliest of the blocks' ends has been read
        parts = []
        for number, head in enumerate(heads):
            if head is None:
                continue
            stop = int(head.due_ns.searchsorted(complete_ns, "right"))
            parts.append(head.take(slice(stop)))
            if stop < len(head):
                heads[number] = head.take(slice(stop, None))
            else:
                following = next(sources[number], None)
                heads[number] = None if following is None else replace(following, due_ns=following.due_ns + shifts[number])
        block = _joined(parts)
        yield block.take(np.argsort(block.due_ns, kind="stable"))


def _joined(parts: Sequence[Timed]) -> Timed:
    width = max(part.data.shape[1] for part in parts)
    data = [part.data if part.data.shape[1] == width else np.pad(part.data, ((0, 0), (0, width - part.data.shape[1]))) for part in parts]
    return Timed(
        np.concatenate([part.due_ns for part in parts]),
        np.concatenate([part.bus for part in parts]),
        np.concatenate([part.frame_id for part in parts]),
        np.concatenate([part.length for part in parts]),
        np.concatenate(data),
        flags=joined_flags([(part.flags, part.length) for part in parts]),
    )


def _utc(ns: int) -> str:
    """ISO 8601; the plain number of seconds where a calendar has no such date."""
    try:
        return datetime.fromtimestamp(ns / 1e9, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{ns / 1e9:.3f}"
