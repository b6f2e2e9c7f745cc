"""Which sequences of which streams have landed: of the streams in use in memory, of all others in the table.

A row of the table is what `Sequences.pack` makes of one stream: its runs, or where that is shorter its bits.

runs      u32 first | u32 last, ascending                                      (little-endian; a multiple of 8 bytes, so bits are not)
bits      u8 1 | u32 number of a page of 1,024 sequences | its 128 bytes, for each page
"""

import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

PAGE_BITS = 10
PAGE = 1 << PAGE_BITS
REMEMBERED = 50_000  # pages of streams in memory that are saved: 25,000 of 1,800 sequences at 0.8 kB, or 50,000 short ones at 0.6 kB
LARGEST = 1_024  # pages of one stream, up to 0.3 MB: a million sequences, for an hour 291 a second; ours has 1,800
AT_ONCE = 128  # streams in one query, 2 ms; of 512 PostgreSQL reads the whole table until it has its statistics

_MASK = PAGE - 1
_RUN = struct.Struct("<II")
_BITS = 1
_PAGE = struct.Struct(f"<I{PAGE // 8}s")


class Sequences:
    """A set of numbers from 0, as pages of 1,024 bits.

    In memory 0.5 kB for 1,800 of them, in order or not, and 0.2 kB for each that is far from all others.
    """

    __slots__ = ("_pages",)

    def __init__(self, runs: Iterable[tuple[int, int]] = ()) -> None:
        """runs: (first, last) of each."""
        self._pages: dict[int, int] = {}
        for first, last in runs:
            self.add_run(first, last)

    @property
    def pages(self) -> int:
        """How many have a number in them."""
        return len(self._pages)

    @property
    def runs(self) -> list[tuple[int, int]]:
        """(first, last) of each run, ascending."""
        found: list[tuple[int, int]] = []
        for first, last in self._runs_by_page():
            if found and found[-1][1] + 1 == first:
                found[-1] = (found[-1][0], last)
            else:
                found.append((first, last))
        return found

    def __contains__(self, number: int) -> bool:
        return self._pages.get(number >> PAGE_BITS, 0) >> (number & _MASK) & 1 == 1

    def add(self, number: int) -> None:
        page = number >> PAGE_BITS
        self._pages[page] = self._pages.get(page, 0) | 1 << (number & _MASK)

    def add_run(self, first: int, last: int) -> None:
        """All numbers from `first` to `last`: a page for each 1,024 of them."""
        for page in range(first >> PAGE_BITS, (last >> PAGE_BITS) + 1):
            low, high = max(first - page * PAGE, 0), min(last - page * PAGE, _MASK)
            self._pages[page] = self._pages.get(page, 0) | (1 << high + 1) - (1 << low)

    def has_room(self, number: int) -> bool:
        """Whether adding it leaves no more pages than LARGEST."""
        return len(self._pages) < LARGEST or number >> PAGE_BITS in self._pages

    def discard(self, number: int) -> None:
        page = number >> PAGE_BITS
        left = self._pages.get(page, 0) & ~(1 << (number & _MASK))
        if left:
            self._pages[page] = left
        else:
            self._pages.pop(page, None)

    def first_missing(self, start: int) -> int:
        """The first number from `start` on that is not in the set."""
        while True:
            bits = self._pages.get(start >> PAGE_BITS, 0) >> (start & _MASK)
            ones = (~bits & (bits + 1)).bit_length() - 1  # at the low end
            start += ones
            if not ones or start & _MASK:
                return start

    def pack(self) -> bytes:
        """As this module's head says, of numbers below 2**32."""
        starts = sum((bits & ~(bits << 1)).bit_count() for bits in self._pages.values())
        if starts * _RUN.size <= 1 + len(self._pages) * _PAGE.size:
            return b"".join(_RUN.pack(*run) for run in self.runs)
        pages = (_PAGE.pack(page, bits.to_bytes(PAGE // 8, "little")) for page, bits in sorted(self._pages.items()))
        return bytes((_BITS,)) + b"".join(pages)

    @classmethod
    def unpack(cls, row: bytes) -> "Sequences":
        """What `pack` made."""
        if len(row) % _RUN.size == 0:
            return cls(_RUN.iter_unpack(row))
        found = cls()
        found._pages = {page: int.from_bytes(bits, "little") for page, bits in _PAGE.iter_unpack(row[1:])}
        return found

    def _runs_by_page(self) -> Iterator[tuple[int, int]]:
        for page, bits in sorted(self._pages.items()):
            number = page * PAGE
            while bits:
                skip = (bits & -bits).bit_length() - 1
                bits >>= skip
                ones = (~bits & (bits + 1)).bit_length() - 1
                bits >>= ones
                yield number + skip, number + skip + ones - 1
                number += skip + ones


class Pairs:
    """A set of (stream, sequence), all of it in memory: 0.4 to 0.6 kB a stream of which it has something."""

    def __init__(self) -> None:
        self._streams: dict[bytes, Sequences] = {}

    def __contains__(self, pair: tuple[bytes, int]) -> bool:
        stream, sequence = pair
        found = self._streams.get(stream)
        return found is not None and sequence in found

    def add(self, stream: bytes, sequence: int) -> None:
        found = self._streams.get(stream)
        if found is None:
            found = self._streams[stream] = Sequences()
        found.add(sequence)

    def discard(self, stream: bytes, sequence: int) -> None:
        found = self._streams.get(stream)
        if found is not None:
            found.discard(sequence)
            if not found.pages:
                del self._streams[stream]


class Landed:
    """(stream, sequence) pairs. In memory are the streams that changed since they were saved, and of the others those used last.

    table: the rows that it has of these streams. What it raises, every method raises that needs a stream which is not in memory. A stream
    that the table does not have is remembered, too: as one of which nothing has landed.
    """

    def __init__(self, table: Callable[[Sequence[bytes]], Mapping[bytes, bytes]]) -> None:
        self._table = table
        self._changed: dict[bytes, Sequences] = {}
        self._kept: OrderedDict[bytes, Sequences] = OrderedDict()  # as the table has them, those used last at the end
        self._pages = 0  # of those

    def __contains__(self, pair: tuple[bytes, int]) -> bool:
        stream, sequence = pair
        return sequence in (self._changed.get(stream) or self._find(stream))

    def __len__(self) -> int:
        """Streams in memory."""
        return len(self._changed) + len(self._kept)

    def has_at_hand(self, stream: bytes) -> bool:
        """Whether what has landed of it is in memory."""
        return stream in self._changed or stream in self._kept

    def has_room(self, stream: bytes, sequence: int) -> bool:
        """False: its stream would be larger than any that counts its messages, and each minute's row of it, too."""
        return (self._changed.get(stream) or self._find(stream)).has_room(sequence)

    def add(self, stream: bytes, sequence: int) -> None:
        found = self._changed.get(stream)
        if found is None:
            found = self._changed[stream] = self._find(stream)
            self._pages -= _weight(self._kept.pop(stream))
        found.add(sequence)

    def look_up(self, streams: Iterable[bytes]) -> None:
        """Have these in memory until the next call, with one query for every 128 that are not."""
        while self._pages > REMEMBERED:
            self._pages -= _weight(self._kept.popitem(last=False)[1])
        missing = []
        for stream in dict.fromkeys(streams):
            if stream in self._changed:
                continue
            if stream in self._kept:
                self._kept.move_to_end(stream)
            else:
                missing.append(stream)
        for start in range(0, len(missing), AT_ONCE):
            self._load(missing[start : start + AT_ONCE])

    def unsaved(self) -> dict[bytes, bytes]:
        """Rows of the streams that changed since they were saved."""
        return {stream: found.pack() for stream, found in self._changed.items()}

    def saved(self) -> None:
        """What `unsaved` said is in the table now, and nothing has been added since."""
        for stream, found in self._changed.items():
            self._keep(stream, found)
        self._changed.clear()

    def _find(self, stream: bytes) -> Sequences:
        if stream not in self._kept:
            self._load([stream])
        return self._kept[stream]

    def _load(self, streams: Sequence[bytes]) -> None:
        rows = self._table(streams)
        for stream in streams:
            self._keep(stream, Sequences.unpack(rows.get(stream, b"")))

    def _keep(self, stream: bytes, found: Sequences) -> None:
        self._kept[stream] = found
        self._pages += _weight(found)


def _weight(found: Sequences) -> int:
    return max(1, found.pages)
