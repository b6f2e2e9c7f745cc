"""Which sequences of which streams have landed: a few runs of numbers for each stream, in memory."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping


class Sequences:
    """A set of sequence numbers as runs. Sequences mostly come in order, so it is one run, whatever its length."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, runs: list[tuple[int, int]] | None = None) -> None:
        self._firsts = [first for first, _ in runs or ()]
        self._lasts = [last for _, last in runs or ()]

    @property
    def runs(self) -> list[tuple[int, int]]:
        """(first, last) of each run, ascending."""
        return list(zip(self._firsts, self._lasts, strict=True))

    def __contains__(self, sequence: int) -> bool:
        place = bisect_right(self._firsts, sequence) - 1
        return place >= 0 and sequence <= self._lasts[place]

    def add(self, sequence: int) -> None:
        self.add_run(sequence, sequence)

    def add_run(self, first: int, last: int) -> None:
        """All numbers from `first` to `last`."""
        begin, end = bisect_left(self._lasts, first - 1), bisect_right(self._firsts, last + 1)  # the runs that it overlaps or touches
        if begin < end:
            first, last = min(first, self._firsts[begin]), max(last, self._lasts[end - 1])
        self._firsts[begin:end] = [first]
        self._lasts[begin:end] = [last]

    def discard(self, sequence: int) -> None:
        place = bisect_right(self._firsts, sequence) - 1
        if place < 0 or sequence > self._lasts[place]:
            return
        first, last = self._firsts[place], self._lasts[place]
        parts = [run for run in ((first, sequence - 1), (sequence + 1, last)) if run[0] <= run[1]]
        self._firsts[place : place + 1] = [begin for begin, _ in parts]
        self._lasts[place : place + 1] = [end for _, end in parts]

    def first_missing(self, start: int) -> int:
        """The first number from `start` on that is not in the set."""
        place = bisect_right(self._firsts, start) - 1
        return self._lasts[place] + 1 if place >= 0 and start <= self._lasts[place] else start


class Landed:
    """(stream, sequence) pairs; remembers which streams changed since they were last saved."""

    def __init__(self, saved: Mapping[bytes, list[tuple[int, int]]] | None = None) -> None:
        self._streams = {stream: Sequences(runs) for stream, runs in (saved or {}).items()}
        self._changed: set[bytes] = set()

    def __contains__(self, key: tuple[bytes, int]) -> bool:
        stream, sequence = key
        found = self._streams.get(stream)
        return found is not None and sequence in found

    def add(self, stream: bytes, sequence: int) -> None:
        found = self._streams.get(stream)
        if found is None:
            found = self._streams[stream] = Sequences()
        found.add(sequence)
        self._changed.add(stream)

    def discard(self, stream: bytes, sequence: int) -> None:
        found = self._streams.get(stream)
        if found is not None:
            found.discard(sequence)
            self._changed.add(stream)

    def take_changed(self) -> dict[bytes, list[tuple[int, int]]]:
        """Runs of the streams that changed since the last call."""
        changed = {stream: self._streams[stream].runs for stream in self._changed}
        self._changed.clear()
        return changed

    def give_back(self, streams: Iterable[bytes]) -> None:
        """These were taken and not saved."""
        self._changed.update(streams)
