"""DBC files to flat arrays: cantools parses, this compiles, a cache keeps the result.

A running agent never imports cantools: `load_compiled` compiles in a subprocess when the cache has nothing for the files' content.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from dbc.dbc_file import DbcFile, parse_file_argument
from dbc.errors import DbcFileError
from dbc.plan import PLAN_VERSION, CompiledDbc, DecodePlan, dump, parse

__all__ = ["CompiledDbc", "DecodePlan", "compile_dbc", "load_compiled"]

LOADER_VERSION = 3  # of what is repaired and how; part of the cache key

MOST_ENTRIES = 64  # of a cache, 20 kB to 1 MB each
UNWRITABLE = 73  # the compiler's exit code where its result cannot be written (sysexits.h: EX_CANTCREAT)
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def compile_dbc(files: Sequence[str], sources: Mapping[int, Sequence[int]] | None = None) -> CompiledDbc:
    """Parse and compile database files, each "PATH", "PATH@CHANNEL" or "opendbc:NAME[@CHANNEL]", in this process (imports cantools).

    sources: J1939 source addresses by parameter group number. A group with several has its signals once for each, named "…@XX" (XX the
    address in hexadecimal); one that is not named here is of the first source that sends it.
    What was repaired or left out is in `CompiledDbc.notes`. Raises DbcFileError with file and line where nothing is usable.
    """
    from dbc.planner import plan_files  # cantools is heavy, and must not be imported by a running agent

    return plan_files([(file, file.read()) for file in map(parse_file_argument, files)], sources)


def load_compiled(files: Sequence[str], cache_folder: Path | None, sources: Mapping[int, Sequence[int]] | None = None) -> CompiledDbc:
    """As `compile_dbc`, from the cache where it has these contents; otherwise compiled in a subprocess and cached.

    cache_folder: made when missing; None = no cache, and so is one that cannot be written. A damaged cache entry is compiled anew. It holds
    the MOST_ENTRIES compiled last.
    """
    arguments = [parse_file_argument(text) for text in files]
    if cache_folder is not None:
        entry = cache_folder / f"{_cache_key(arguments, sources)}.npz"
        with contextlib.suppress(OSError, ValueError):  # not there, not readable, damaged: the entry is replaced below
            return parse(entry.read_bytes())
        with contextlib.suppress(OSError):  # a read-only home, a full disk: a cache is no reason to fail
            cache_folder.mkdir(parents=True, exist_ok=True)
            if os.access(cache_folder, os.W_OK | os.X_OK):
                compiled = _compile_in_subprocess(files, entry, sources)
                _bound(entry)
                return compiled
    with tempfile.TemporaryDirectory(prefix="cansight-dbc-") as folder:
        return _compile_in_subprocess(files, Path(folder) / "compiled.npz", sources)


def _bound(newest: Path) -> None:
    """The entries compiled last are kept: each version of a file, of the loader and of cantools makes one, and a vehicle lives long. Which
    is the newest is not asked of the clock: at its start a vehicle may believe that it is 1970."""
    with contextlib.suppress(OSError):  # another process is at the same, and this one has its result
        others = sorted({*newest.parent.glob("*.npz")} - {newest}, key=lambda entry: entry.stat().st_mtime_ns, reverse=True)
        for entry in others[MOST_ENTRIES - 1 :]:
            entry.unlink(missing_ok=True)


def _cache_key(files: Sequence[DbcFile], sources: Mapping[int, Sequence[int]] | None) -> str:
    """Of the contents and channels, in order; not of the paths. Another version of cantools may read a file in another way."""
    form = hashlib.sha256(
        f"plan {PLAN_VERSION} loader {LOADER_VERSION} cantools {_version('cantools')} {_sources_text(sources)}\n".encode()
    )
    for file in files:
        form.update(hashlib.sha256(file.read()).digest() + file.channel.encode() + b"\0")
    return form.hexdigest()[:32]


def _sources_text(sources: Mapping[int, Sequence[int]] | None) -> str:
    return json.dumps({str(group): sorted(set(addresses)) for group, addresses in (sources or {}).items()}, sort_keys=True)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _compile_in_subprocess(files: Sequence[str], entry: Path, sources: Mapping[int, Sequence[int]] | None) -> CompiledDbc:
    # -P and the explicit path: the working folder of a service must never decide which `dbc` package is imported.
    root = str(Path(__file__).resolve().parent.parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    command = [sys.executable, "-P", "-m", "dbc.compiler", str(entry), _sources_text(sources), *files]
    # Whoever ends this process by a signal must not leave the compiler behind: the kernel ends it with us (prctl(2)).
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, preexec_fn=_die_with_parent)
    if done.returncode == 0:
        return parse(entry.read_bytes())
    if done.returncode == UNWRITABLE:
        raise OSError(f"{entry}: cannot be written: {done.stderr.strip()}")
    try:
        fault = json.loads(done.stdout)
        raise DbcFileError(fault["file"], fault["reason"], fault["line"], fault["column"])
    except (json.JSONDecodeError, KeyError):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DbcFileError(", ".join(files), f"the compiler ended with code {done.returncode}: {last}") from None


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(arguments: Sequence[str]) -> int:
    """`python -m dbc.compiler ENTRY SOURCES FILE...`: compile into ENTRY; a fault goes to stdout as JSON, exit code 2."""
    entry, files = Path(arguments[0]), arguments[2:]
    try:
        sources = {int(group): addresses for group, addresses in json.loads(arguments[1]).items()}
        data = dump(compile_dbc(files, sources))
    except DbcFileError as error:
        print(json.dumps({"file": error.file, "reason": error.reason, "line": error.line, "column": error.column}))  # noqa: T201
        return error.exit_code
    partial: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=entry.parent, prefix=".compiling-", delete=False) as file:
            partial = Path(file.name)
            file.write(data)  # a reader sees the whole entry or none
        partial.replace(entry)
    except OSError as error:
        if partial is not None:
            partial.unlink(missing_ok=True)
        sys.stderr.write(error.strerror or str(error))
        return UNWRITABLE
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
