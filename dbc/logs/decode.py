"""Logs to a table of decoded signals: readers, decoder and table file in one stream.

The table is written by a thread of its own: parsing and decoding are NumPy's, compressing is Arrow's, and both let go of the interpreter.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dbc.decoder import Decoder
from dbc.frames import FrameBlock
from dbc.logs import LogReader, open_log
from dbc.plan import CompiledDbc
from dbc.protocols import Reassembler
from dbc.table_files import TableFile
from dbc.tables import WideTable, long_rows

__all__ = ["Decoded", "decode_logs"]

BLOCK_FRAMES = 4000  # the decoder's temporaries stay in the second-level cache
QUEUED_BLOCKS = 64  # between decoder and writer

Progress = Callable[[LogReader], None]


@dataclass
class Decoded:
    """What became of the logs."""

    frames: int = 0
    frames_decoded: int = 0
    rows: int = 0
    rows_invalid: int = 0  # of a long table
    channels: dict[str, int] = field(default_factory=dict)  # frames by channel
    skipped: list[dict[str, Any]] = field(default_factory=list)  # {log, lines, first}: broken lines
    damaged: list[dict[str, Any]] = field(default_factory=list)  # {log, what}: parts of binary and packed logs that cannot be read


def decode_logs(
    logs: Sequence[str],
    compiled: CompiledDbc,
    table: TableFile,
    *,
    wide_period_ns: int | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> Decoded:
    """Decode the logs, one after the other, into the open table. progress: called after each block. Raises LogFormatError, TableError."""
    schema = compiled.schema
    reassembler, decoder = Reassembler(compiled), Decoder(compiled, schema.channels)
    wide = None if wide_period_ns is None else WideTable(schema, wide_period_ns)
    done = Decoded()
    with _Writer(table) as writer:
        for path in logs:
            reader = open_log(path, block_frames=BLOCK_FRAMES, strict=strict)
            for block in reader:
                _count(done, block)
                whole = reassembler.feed(block)
                signals = decoder.decode(whole)
                if len(signals):
                    done.frames_decoded += 1 + int(np.count_nonzero(np.diff(signals.frame)))
                rows: Any
                if wide is None:
                    rows = long_rows(schema, whole, signals)
                    done.rows_invalid += len(rows) - int(np.count_nonzero(rows.valid))
                else:
                    rows = wide.feed(whole, signals)
                if rows is not None and len(rows):
                    writer.put(rows)
                if progress is not None:
                    progress(reader)
            reader.refuse_empty()
            if reader.damage:
                done.damaged.append({"log": reader.path, "what": reader.damage})
            if reader.skipped:
                done.skipped.append({"log": reader.path, "lines": reader.skipped, "first": reader.first_skipped})
        if wide is not None and (rows := wide.finish()) is not None:
            writer.put(rows)
    done.rows = table.rows
    return done


def _count(done: Decoded, block: FrameBlock) -> None:
    done.frames += len(block)
    counts = np.bincount(block.channel, minlength=len(block.channels))
    for name, count in zip(block.channels, counts.tolist(), strict=True):
        done.channels[name] = done.channels.get(name, 0) + count


class _Writer:
    """Hands rows to the table in a thread. An error there is raised at the next `put`, or at the end."""

    def __init__(self, table: TableFile) -> None:
        self._table = table
        self._queue: queue.Queue[Any] = queue.Queue(QUEUED_BLOCKS)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="table writer", daemon=True)

    def __enter__(self) -> _Writer:
        self._thread.start()
        return self

    def put(self, rows: Any) -> None:
        if self._error is not None:
            raise self._error
        self._queue.put(rows)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._queue.put(None)
        self._thread.join()
        if kind is None and self._error is None:
            self._table.flush()
        if kind is None and self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (rows := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._table.write(rows)
                except Exception as error:  # noqa: BLE001 - raised in the caller's thread
                    self._error = error
