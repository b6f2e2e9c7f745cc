"""Samples of what was refused, each with the reason: to see who sends what, after the fact. No custody is taken of any of it.

Whoever can reach the broker can send garbage, so samples are few (the first of a kind, then some in a minute) and the disk that they
take is bounded: the oldest go first. A disk that takes none costs the sample, never the work.
"""

import logging
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

from cloud.quarantine import Kept, encode
from wire.errors import SegmentLogError
from wire.segment_log import SegmentLog

KEEP_BYTES = 32 << 20
SEGMENT_BYTES = 4 << 20
PER_MINUTE = 20  # samples of one kind
MAX_KINDS = 100

log = logging.getLogger(__name__)


class Refused:
    """`with Refused(folder) as refused`; one thread adds."""

    def __init__(self, folder: Path) -> None:
        self._log = SegmentLog(folder, segment_bytes=SEGMENT_BYTES, verify=False)
        self._minute: dict[str, tuple[int, int]] = {}  # kind -> (minute, samples in it)
        self._said = False

    def __enter__(self) -> Self:
        self._log.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._log.__exit__(kind, error, trace)

    def add(self, refused: Iterable[tuple[str, Kept]]) -> None:
        """Keep samples of (kind, message)."""
        samples = [kept for kind, kept in refused if self._wanted(kind, kept.received_ms)]
        if not samples:
            return
        try:
            for kept in samples:
                self._log.append(encode(kept))
            self._log.sync()
            self._shorten()
        except SegmentLogError as error:
            if not self._said:
                self._said = True
                log.warning("no sample of what is refused can be kept (%s); it is counted all the same", error)

    def _wanted(self, kind: str, now_ms: int) -> bool:
        minute = now_ms // 60_000
        if kind not in self._minute and len(self._minute) >= MAX_KINDS:
            return False
        last, number = self._minute.get(kind, (minute, 0))
        number = number + 1 if last == minute else 1
        self._minute[kind] = (minute, number)
        return number <= PER_MINUTE

    def _shorten(self) -> None:
        segments = self._log.segments
        total = sum(size for _, size, _ in segments)
        for (_, size, _), (following, _, _) in pairwise(segments):
            if total <= KEEP_BYTES:
                return
            self._log.drop_before(following)
            total -= size
