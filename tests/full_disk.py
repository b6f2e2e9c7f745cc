"""Disks that are full: one on which any call may fail, and a real one of one MiB."""

import contextlib
import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import servers

CALLS = ("open", "pwrite", "ftruncate", "fsync", "fdatasync", "unlink", "mkdir", "replace")


class FailingCalls:
    """Counts the calls that change files below `root`, and lets those from number `first` on fail, `count` of them.

    A write that fails has written half of its bytes, as the kernel does on a disk that has some room left.
    """

    def __init__(self, root: Path, first: int = -1, count: int = 0, number: int = errno.ENOSPC) -> None:
        self.root, self.first, self.count, self.number = root, first, count, number
        self.calls = 0
        self._ours: set[int] = set()

    def _fails(self) -> bool:
        self.calls += 1
        return self.first <= self.calls - 1 < self.first + self.count

    def _error(self, path: Any = None) -> OSError:
        return OSError(self.number, os.strerror(self.number), None if path is None else str(path))

    @contextmanager
    def running(self) -> Iterator[None]:
        real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in CALLS}

        def below(path: Any) -> bool:
            return isinstance(path, str | os.PathLike) and Path(path).is_relative_to(self.root)

        def opened(path: Any, flags: int, mode: int = 0o777, **rest: Any) -> int:
            changes = below(path) and bool(flags & (os.O_CREAT | os.O_TRUNC))
            if changes and not (Path(path).exists() and not flags & os.O_TRUNC) and self._fails():
                raise self._error(path)
            descriptor: int = real["open"](path, flags, mode, **rest)
            if below(path):
                self._ours.add(descriptor)
            else:
                self._ours.discard(descriptor)
            return descriptor

        def written(descriptor: int, data: Any, offset: int) -> int:
            if descriptor in self._ours and self._fails():
                real["pwrite"](descriptor, bytes(data)[: len(data) // 2], offset)
                raise self._error()
            count: int = real["pwrite"](descriptor, data, offset)
            return count

        def by_descriptor(name: str) -> Callable[..., Any]:
            def call(descriptor: int, *rest: Any) -> Any:
                if descriptor in self._ours and self._fails():
                    raise self._error()
                return real[name](descriptor, *rest)

            return call

        def by_path(name: str) -> Callable[..., Any]:
            def call(path: Any, *rest: Any, **named: Any) -> Any:
                if below(path) and self._fails():
                    raise self._error(path)
                return real[name](path, *rest, **named)

            return call

        replaced: dict[str, Callable[..., Any]] = {"open": opened, "pwrite": written}
        replaced |= {name: by_descriptor(name) for name in ("ftruncate", "fsync", "fdatasync")}
        replaced |= {name: by_path(name) for name in ("unlink", "mkdir", "replace")}
        with patch.multiple(os, **replaced):
            yield


def fill(disk: Path) -> Path:
    """The file that fills it to the last byte."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return ballast


@contextmanager
def small_disk(size: str = "1m") -> Iterator[Path]:
    """A file system of its own in memory; needs the right to mount one."""
    folder = Path(tempfile.mkdtemp(prefix="cansight-disk-"))
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, text=True)
        if mounted.returncode:
            servers.leave_out(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", str(folder)], check=True)
    finally:
        shutil.rmtree(folder)
