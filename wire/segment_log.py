"""Append-only log of records in segment files; the vehicle's outbox and the cloud's landing log are both one.

What `sync` has returned for survives kill -9 and power loss; what is damaged afterwards is skipped and named in `gaps`, never
returned. A group of appends is written and made durable by one `sync` (group commit is the caller's choice); when that fails, for
example on a full disk, nothing of the group is in the log and its positions are given again. Readers see synced records only, so a
position that a reader has seen is never another record's.
"""

import fcntl
import os
import threading
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from wire.errors import FormatError, SegmentLogError, SegmentLogLocked
from wire.folder import sync_folder
from wire.segment_file import MAX_PAYLOAD_BYTES, RECORD_BYTES, Opener, Scan, Segment, encode_record, load

Bytes = bytes  # the class below has a property of that name


class SegmentLog:
    """`with SegmentLog(folder) as log` locks the folder and recovers what is there.

    One thread appends and syncs, any thread may read. segment_bytes: a file is closed when the next record would pass it; space is
    freed in whole files. verify: read every file when opening, so that `gaps` is complete; without it only the last one is read and
    gaps in the others are found by reading. opener: `os.open`'s like, for tests of disks that fail.
    """

    def __init__(self, folder: Path, *, segment_bytes: int = 1 << 20, verify: bool = True, opener: Opener = os.open) -> None:
        self.folder = Path(folder)
        self.segment_bytes = segment_bytes
        self.verify = verify
        self.gaps: list[tuple[int, int]] = []  # (first, last) positions that were lost, each at most once, ascending
        self._opener = opener
        self._lock = threading.RLock()
        self._lock_file = -1
        self._active = -1  # file descriptor of the last segment
        self._segments: list[Segment] = []
        self._synced = 0  # the position after the last durable record
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._unreverted: tuple[int, int, int, int] | None = None  # a failed group that is still in the files
        self._revert_error: OSError | None = None

    def __enter__(self) -> Self:
        try:
            _make_folder(self.folder)
            self._lock_file = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._take_lock()
            self._recover()
        except OSError as error:
            self._close()
            raise SegmentLogError(f"{self.folder}: cannot open the log: {error.strerror}", error.errno) from error
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Closes the log. What was appended and not synced is not in it."""
        with self._lock:
            self._close()

    @property
    def first(self) -> int:
        """The oldest position that may still be there."""
        with self._lock:
            return self._segments[0].first if self._segments else 0

    @property
    def next(self) -> int:
        """The position that the next append gets."""
        with self._lock:
            return self._synced + len(self._pending)

    @property
    def synced(self) -> int:
        """The position after the last durable record: where readers end."""
        with self._lock:
            return self._synced

    @property
    def bytes(self) -> int:
        """Bytes of all segment files and of what waits for `sync`."""
        with self._lock:
            return sum(segment.size for segment in self._segments) + self._pending_bytes

    @property
    def segments(self) -> list[tuple[int, int, Path]]:
        """(first position, bytes, file) of each segment, oldest first; the last one is being written."""
        with self._lock:
            return [(segment.first, segment.size, segment.path) for segment in self._segments]

    def append(self, payload: Bytes) -> int:
        """Adds a record to the group that the next `sync` makes durable; returns its position."""
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise FormatError(f"{self.folder}: a record may have {MAX_PAYLOAD_BYTES} bytes, found {len(payload)}")
        with self._lock:
            self._check()
            self._pending.append(bytes(payload))
            self._pending_bytes += len(payload) + RECORD_BYTES
            return self._synced + len(self._pending) - 1

    def sync(self) -> None:
        """Makes every record appended so far durable; SegmentLogError when it cannot, and then none of them is in the log."""
        with self._lock:
            self._check()
            if not self._pending:
                return
            last = self._segments[-1]
            before = len(self._segments), last.size, len(last.marks), last.records
            try:
                self._write_pending()
            except OSError as error:
                self._revert(*before)
                message = f"{self.folder}: cannot write {self._segments[-1].path.name}: {error.strerror}"
                raise SegmentLogError(message, error.errno) from error
            except BaseException:  # an interrupt between two writes
                self._revert(*before)
                raise
            finally:
                self._pending = []
                self._pending_bytes = 0

    def roll(self) -> None:
        """Starts a new segment (when the last one holds anything), so that `drop_before(next)` can free all there is."""
        with self._lock:
            self._check()
            self.sync()
            last = self._segments[-1]
            if last.size == 0:
                return
            before = len(self._segments), last.size, len(last.marks), last.records
            try:
                self._start_segment(self._synced)
            except OSError as error:
                self._revert(*before)  # a name that is not durable must get no records
                raise SegmentLogError(f"{self.folder}: cannot start a segment: {error.strerror}", error.errno) from error

    def drop_before(self, position: int) -> None:
        """Deletes the oldest segments whose records are all before `position`; the last segment always stays."""
        with self._lock:
            self._check()
            dropped = False
            try:
                while len(self._segments) > 1 and self._segments[1].first <= position:
                    self._segments[0].path.unlink(missing_ok=True)
                    del self._segments[0]
                    dropped = True
                if dropped:
                    sync_folder(self.folder)
            except OSError as error:
                raise SegmentLogError(f"{self.folder}: cannot delete a segment: {error.strerror}", error.errno) from error

    def read(self, position: int = 0) -> Iterator[tuple[int, Bytes]]:
        """(position, payload) of the synced records from `position` on, in order, up to the last one synced while reading."""
        while True:
            with self._lock:
                self._check()
                if position >= self._synced:
                    return
                index = max(0, bisect_right(self._segments, position, key=lambda segment: segment.first) - 1)
                segment = self._segments[index]
                position = max(position, segment.first)
                limit = self._limit(index)
                unmarked = not segment.marks and index + 1 < len(self._segments)  # not verified when opened, and no longer written
                start, end, following = segment.part(position, limit)
            try:
                if unmarked:
                    self._scan(segment, limit)
                    start, end, following = segment.part(position, limit)
                scan = Scan(load(segment.path, start, end, self._opener), segment.salt)
            except OSError as error:
                with self._lock:
                    there = segment in self._segments
                if there:
                    raise SegmentLogError(f"{segment.path}: cannot read it: {error.strerror}", error.errno) from error
                continue  # dropped while we read: go on with what is left
            limit = following
            for found, _, payload in scan.records():
                if position <= found < limit:
                    self._add_gap(position, found - 1)
                    position = found + 1
                    yield found, payload
            self._add_gap(position, limit - 1)
            position = limit

    # Recovery

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SegmentLogLocked(f"{self.folder}: another process has this log open; stop it first", error.errno) from None

    def _recover(self) -> None:
        found = (Segment.named(path) for path in self.folder.iterdir())
        self._segments = sorted((segment for segment in found if segment), key=lambda segment: (segment.first, segment.path.name))
        if not self._segments:
            self._start_segment(0)
            return
        for index, segment in enumerate(self._segments):
            segment.size = segment.path.stat().st_size
            if self.verify and index < len(self._segments) - 1:
                self._scan(segment, self._segments[index + 1].first)
        self._recover_last(self._segments[-1])

    def _recover_last(self, last: Segment) -> None:
        self._synced, scan = self._scan(last, None)
        rest = last.size - scan.end
        self._active = self._opener(last.path, os.O_RDWR | os.O_CLOEXEC, 0o600)
        if rest and scan.torn:
            os.ftruncate(self._active, scan.end)
            last.size = scan.end
        os.fsync(self._active)  # after a kill a record may be in the page cache alone, and readers are about to rely on it
        sync_folder(self.folder)
        if rest and not scan.torn:
            # Not a record that was being written but damage, perhaps to synced records: at most so many. Their positions are lost,
            # not given again, which the new segment's name records; the bytes stay as they are.
            lost = max(1, rest // RECORD_BYTES)
            self._add_gap(self._synced, self._synced + lost - 1)
            self._synced += lost
            self._start_segment(self._synced)

    def _scan(self, segment: Segment, limit: int | None) -> tuple[int, Scan]:
        """Marks a segment's records and notes its gaps; returns the position after its last record."""
        scan = Scan(load(segment.path, 0, segment.size, self._opener), segment.salt)
        position = segment.first
        marked = Segment(segment.path, segment.first, segment.salt)
        for found, offset, _ in scan.records():
            if position <= found and (limit is None or found < limit):
                self._add_gap(position, found - 1)
                marked.mark(found, offset)
                position = found + 1
        segment.marks, segment.records = marked.marks, marked.records
        if limit is not None:
            self._add_gap(position, limit - 1)
        return position, scan

    # Writing

    def _write_pending(self) -> None:
        buffer: list[bytes] = []
        position, size = self._synced, self._segments[-1].size
        for payload in self._pending:
            if size and size + RECORD_BYTES + len(payload) > self.segment_bytes:
                self._write(buffer)
                self._start_segment(position)
                buffer, size = [], 0
            segment = self._segments[-1]
            segment.mark(position, size)
            buffer.append(encode_record(segment.salt, position, payload))
            size += len(buffer[-1])
            position += 1
        self._write(buffer)
        self._synced = position

    def _write(self, buffer: list[Bytes]) -> None:
        segment = self._segments[-1]
        view = memoryview(b"".join(buffer))
        offset = segment.size
        while view:
            written = os.pwrite(self._active, view, offset)
            view = view[written:]
            offset += written
        os.fdatasync(self._active)
        segment.size = offset

    def _start_segment(self, first: int) -> None:
        segment = Segment.new(self.folder, first, int.from_bytes(os.urandom(4), "big"))
        descriptor = self._opener(segment.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        if self._active >= 0:
            os.close(self._active)
        self._active = descriptor
        self._segments.append(segment)
        sync_folder(self.folder)

    def _revert(self, count: int, size: int, marks: int, records: int) -> None:
        """Takes a group that failed out of the files again. Where that fails too, every later use of the log tries it first."""
        self._unreverted = count, size, marks, records
        try:
            for segment in self._segments[count:]:
                segment.path.unlink(missing_ok=True)
            del self._segments[count:]
            last = self._segments[-1]
            last.size, last.records = size, records
            del last.marks[marks:]
            self._reopen_active()
            os.ftruncate(self._active, size)
            os.fsync(self._active)
            sync_folder(self.folder)
        except OSError as error:
            self._revert_error = error
        else:
            self._unreverted = None

    def _reopen_active(self) -> None:
        if self._active >= 0:
            os.close(self._active)
            self._active = -1
        self._active = self._opener(self._segments[-1].path, os.O_RDWR | os.O_CLOEXEC, 0o600)

    # Reading

    def _limit(self, index: int) -> int:
        """The position after the last one that belongs to the segment."""
        return self._segments[index + 1].first if index + 1 < len(self._segments) else self._synced

    def _add_gap(self, first: int, last: int) -> None:
        if last < first:
            return
        with self._lock:
            merged: list[tuple[int, int]] = []
            for gap in sorted([*self.gaps, (first, last)]):
                if merged and gap[0] <= merged[-1][1] + 1:
                    merged[-1] = (merged[-1][0], max(merged[-1][1], gap[1]))
                else:
                    merged.append(gap)
            self.gaps = merged

    def _check(self) -> None:
        if self._lock_file < 0:
            raise SegmentLogError(f"{self.folder}: the log is not open")
        if self._unreverted is not None:
            self._revert(*self._unreverted)
        if self._unreverted is not None:
            error = self._revert_error
            why, number = (error.strerror, error.errno) if error is not None else ("interrupted", None)
            raise SegmentLogError(f"{self.folder}: a write failed and cannot be undone yet: {why}", number)

    def _close(self) -> None:
        for descriptor in (self._active, self._lock_file):
            if descriptor >= 0:
                os.close(descriptor)
        self._active = self._lock_file = -1
        self._pending = []
        self._pending_bytes = 0


def _make_folder(folder: Path) -> None:
    """The folder and those above it, with durable names: what is synced in a folder whose own name is lost is lost."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)
