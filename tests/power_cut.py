"""What a disk may hold after the power failed: records a program's file operations, and rebuilds the folder as it may be after any of them.

The model is POSIX's, weaker than any file system that is used: data written since a file's last sync is there, not there, there in
part, or there as zeros; a name made, renamed or deleted since its folder's last sync is there or not, whatever became of the others.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

Op = tuple[str, Any, Any, Any]


def fast_folder() -> Path | None:
    """A folder in memory, for thousands of rebuilt states; None: the default."""
    return Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None


@contextmanager
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="cansight-cut-", dir=fast_folder()))
    try:
        yield made
    finally:
        shutil.rmtree(made)


@dataclass
class Recording:
    """Operations on the files below `root`, in order; `mark` notes between them what has been promised."""

    root: Path
    ops: list[Op] = field(default_factory=list)
    _paths: dict[int, Path] = field(default_factory=dict)
    _unwritten: set[Path] = field(default_factory=set)  # made by `open`, and their content is not known from a `pwrite`

    def mark(self, what: str, value: Any = None) -> None:
        self.ops.append(("mark", what, value, None))

    def relative(self, path: Any) -> Path | None:
        try:
            return Path(path).relative_to(self.root)
        except (ValueError, TypeError):
            return None

    @contextmanager
    def running(self) -> Iterator[None]:
        """The real calls are made; each is noted once it has succeeded."""
        real: dict[str, Callable[..., Any]] = {
            name: getattr(os, name)
            for name in ("open", "close", "pwrite", "ftruncate", "fsync", "fdatasync", "unlink", "mkdir", "replace", "rename")
        }

        def opened(path: Any, flags: int, mode: int = 0o777, **rest: Any) -> int:
            there = self.relative(path)
            new = there is not None and bool(flags & os.O_CREAT) and not Path(path).exists()
            descriptor: int = real["open"](path, flags, mode, **rest)
            if there is not None:
                self._paths[descriptor] = there
                if new:
                    self.ops.append(("create", there, None, None))
                elif flags & os.O_TRUNC:
                    self.ops.append(("truncate", there, 0, None))
                if new or flags & os.O_TRUNC:
                    self._unwritten.add(there)
            return descriptor

        def closed(descriptor: int) -> None:
            self._paths.pop(descriptor, None)
            real["close"](descriptor)

        def written(descriptor: int, data: bytes, offset: int) -> int:
            count: int = real["pwrite"](descriptor, data, offset)
            if (there := self._paths.get(descriptor)) is not None:
                self._unwritten.discard(there)
                self.ops.append(("write", there, offset, bytes(data[:count])))
            return count

        def truncated(descriptor: int, size: int) -> None:
            real["ftruncate"](descriptor, size)
            if (there := self._paths.get(descriptor)) is not None:
                self.ops.append(("truncate", there, size, None))

        def synced(name: str) -> Callable[[int], None]:
            def sync(descriptor: int) -> None:
                there = self._paths.get(descriptor)
                if there is not None and (self.root / there).is_file():
                    self._content(there)
                real[name](descriptor)
                if there is not None:
                    self.ops.append(("sync", there, None, None))

            return sync

        def unlinked(path: Any, **rest: Any) -> None:
            real["unlink"](path, **rest)
            if (there := self.relative(path)) is not None:
                self.ops.append(("unlink", there, None, None))

        def made(path: Any, mode: int = 0o777, **rest: Any) -> None:
            real["mkdir"](path, mode, **rest)
            if (there := self.relative(path)) is not None:
                self.ops.append(("mkdir", there, None, None))

        def renamed(source: Any, target: Any, **rest: Any) -> None:
            here, there = self.relative(source), self.relative(target)
            if here is not None:
                self._content(here)
            real["replace"](source, target, **rest)
            if here is not None and there is not None:
                self.ops.append(("rename", here, there, None))

        with patch.multiple(
            os, open=opened, close=closed, pwrite=written, ftruncate=truncated, fsync=synced("fsync"), fdatasync=synced("fdatasync"),
            unlink=unlinked, mkdir=made, replace=renamed, rename=renamed,
        ):  # fmt: skip
            yield

    def _content(self, there: Path) -> None:
        """What was written through a file object."""
        if there in self._unwritten:
            self._unwritten.discard(there)
            self.ops.append(("write", there, 0, (self.root / there).read_bytes()))


@dataclass
class _File:
    durable: bytes = b""
    pending: list[tuple[str, int, bytes]] = field(default_factory=list)


def apply(content: bytes, kind: str, offset: int, data: bytes) -> bytes:
    if kind == "truncate":
        return content[:offset].ljust(offset, b"\0")
    content = content.ljust(offset, b"\0")
    return content[:offset] + data + content[offset + len(data) :]


class Disk:
    """The state behind the first operations of a recording, in which some things are durable and others are not."""

    def __init__(self) -> None:
        self.files: list[_File] = []
        self.durable: dict[Path, int | None] = {Path(): None}  # name -> file, None: a folder
        self.names: dict[Path, int | None] = {Path(): None}
        self.pending: list[tuple[str, Path, Path | None, int | None]] = []  # of names

    def take(self, op: Op) -> None:
        kind, path, first, second = op
        if kind == "create":
            self.files.append(_File())
            self._name("set", path, None, len(self.files) - 1)
        elif kind == "mkdir":
            self._name("set", path, None, None)
        elif kind == "unlink":
            self._name("del", path, None, None)
        elif kind == "rename":
            self._name("move", path, first, self.names[path])
        elif kind in ("write", "truncate"):
            self._file(path).pending.append((kind, first, second if kind == "write" else b""))
        elif kind == "sync" and self.names.get(path) is None:
            self._sync_names(path)
        elif kind == "sync":
            file = self._file(path)
            for change in file.pending:
                file.durable = apply(file.durable, *change)
            file.pending.clear()

    def build(self, root: Path, choice: "Choice") -> None:
        """Make the folder as it may be found."""
        names = dict(self.durable)
        for change in self.pending:
            if choice.name():
                _rename(names, *change)
        for path in sorted(names, key=lambda path: len(path.parts)):
            number = names[path]
            if not (root / path).parent.is_dir():
                continue  # the folder's own name was lost
            if number is None:
                (root / path).mkdir(exist_ok=True)
                continue
            content = self.files[number].durable
            for kind, offset, data in self.files[number].pending:
                content = choice.data(content, kind, offset, data)
            (root / path).write_bytes(content)

    def _file(self, path: Path) -> _File:
        number = self.names[path]
        assert number is not None
        return self.files[number]

    def _name(self, kind: str, path: Path, other: Path | None, number: int | None) -> None:
        change = (kind, path, other, number)
        _rename(self.names, *change)
        self.pending.append(change)

    def _sync_names(self, folder: Path) -> None:
        kept = []
        for change in self.pending:
            if change[1].parent == folder:
                _rename(self.durable, *change)
            else:
                kept.append(change)
        self.pending = kept


def _rename(names: dict[Path, int | None], kind: str, path: Path, other: Path | None, number: int | None) -> None:
    if kind == "del" or kind == "move":
        names.pop(path, None)
    if kind == "set":
        names[path] = number
    elif kind == "move":
        assert other is not None
        names[other] = number


class Choice:
    """What of the undurable is there: all of it."""

    def name(self) -> bool:
        return True

    def data(self, content: bytes, kind: str, offset: int, data: bytes) -> bytes:
        return apply(content, kind, offset, data)


class Nothing(Choice):
    def name(self) -> bool:
        return False

    def data(self, content: bytes, kind: str, offset: int, data: bytes) -> bytes:
        return content


class Anything(Choice):
    """Each by itself, at random."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def name(self) -> bool:
        return self._random.random() < 0.5

    def data(self, content: bytes, kind: str, offset: int, data: bytes) -> bytes:
        what = self._random.choice(["all", "none", "part", "zeros", "hole"])
        if what == "all" or (kind == "truncate" and what != "none"):
            return apply(content, kind, offset, data)
        if what == "none" or not data:
            return content
        at = self._random.randrange(len(data))
        if what == "part":
            return apply(content, kind, offset, data[:at])
        if what == "zeros":  # the size was durable before the data
            return apply(content, kind, offset, bytes(len(data)))
        return apply(content, kind, offset, bytes(at) + data[at:])


class Torn(Choice):
    """Everything before, and `length` bytes of the last write."""

    def __init__(self, last: bytes, length: int) -> None:
        self._last, self._length = last, length

    def data(self, content: bytes, kind: str, offset: int, data: bytes) -> bytes:
        return apply(content, kind, offset, data[: self._length] if data is self._last else data)


def cuts(recording: Recording, seeds: int, torn_every: int) -> Iterator[tuple[int, Disk, Choice]]:
    """(operations that were made, the disk, what of the undurable is there) for a cut behind every operation."""
    disk = Disk()
    for number, op in enumerate(recording.ops):
        if op[0] == "mark":
            continue
        disk.take(op)
        yield number + 1, disk, Choice()
        yield number + 1, disk, Nothing()
        for seed in range(seeds):
            yield number + 1, disk, Anything(number * 1009 + seed)
        if op[0] == "write":
            for length in range(0, len(op[3]), torn_every):
                yield number + 1, disk, Torn(op[3], length)
