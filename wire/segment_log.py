"""Append-only log of records in segment files; the vehicle's outbox and the cloud's landing log are both one."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

Opener = Callable[[str | Path, int, int], int]


class SegmentLog:
    """`with SegmentLog(folder) as log` recovers what is there. One thread appends and syncs; any thread may read."""

    def __init__(self, folder: Path, *, segment_bytes: int = 1 << 20, opener: Opener = os.open) -> None:
        self.folder = folder
        self.segment_bytes = segment_bytes
        self.opener = opener

    def __enter__(self) -> Self:
        raise NotImplementedError

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        raise NotImplementedError

    def append(self, payload: bytes) -> int:
        raise NotImplementedError

    def sync(self) -> None:
        raise NotImplementedError

    def read(self, position: int = 0) -> Iterator[tuple[int, bytes]]:
        raise NotImplementedError

    def drop_before(self, position: int) -> None:
        raise NotImplementedError
