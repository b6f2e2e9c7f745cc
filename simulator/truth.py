"""What is true about an injected fault: JSON with a head and a row for every frame that was touched, streamed."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from simulator.errors import TruthError

__all__ = ["Spread", "TouchedFrames", "json_number"]

COLUMNS = ("timestamp_ns", "message", "what", "before", "after")


class Spread:
    """Least, most, mean and deviation of values that come in blocks (Chan, Golub and LeVeque 1983)."""

    def __init__(self) -> None:
        self.count = 0
        self.minimum, self.maximum = math.inf, -math.inf
        self.mean = self._squares = 0.0

    def feed(self, value: NDArray[np.float64]) -> None:
        """NaN is left out."""
        value = value[~np.isnan(value)]
        if not len(value):
            return
        count, mean = len(value), float(value.mean())
        squares, apart = float(((value - mean) ** 2).sum()), mean - self.mean
        whole = self.count + count
        self._squares += squares + apart**2 * self.count * count / whole
        self.mean += apart * count / whole
        self.count = whole
        self.minimum, self.maximum = min(self.minimum, float(value.min())), max(self.maximum, float(value.max()))

    @property
    def deviation(self) -> float:
        return math.sqrt(self._squares / self.count) if self.count else 0.0

    def to_dict(self) -> dict[str, Any]:
        if not self.count:
            return {"frames": 0}
        return {"frames": self.count, "minimum": self.minimum, "maximum": self.maximum, "mean": round(self.mean, 9)}


class TouchedFrames:
    """The rows of a truth file. They are kept on disk until the head is known, so memory does not grow with the log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self._file: IO[str] | None = None

    def __enter__(self) -> TouchedFrames:
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8", prefix="cansight-truth-")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def add(
        self,
        timestamp_ns: NDArray[np.int64],
        message: int,
        what: str,
        before: NDArray[np.float64] | None,
        after: NDArray[np.float64] | None,
    ) -> None:
        """Rows of (m,) frames; None = there is no such value."""
        assert self._file is not None
        none: list[float | None] = [None] * len(timestamp_ns)
        was, now = (none if value is None else value.tolist() for value in (before, after))
        for stamp, old, new in zip(timestamp_ns.tolist(), was, now, strict=True):
            row = json.dumps([stamp, message, what, json_number(old), json_number(new)])
            self._file.write(f"{',' if self.rows else ''}\n    {row}")
            self.rows += 1

    def write(self, head: dict[str, Any]) -> None:
        """The file as a whole. Raises TruthError where it cannot be written."""
        assert self._file is not None
        text = json.dumps(head | {"columns": list(COLUMNS)}, indent=2, ensure_ascii=False)
        partial = self.path.with_name(f".{self.path.name}.partial")
        try:
            with partial.open("w", encoding="utf-8") as out:
                out.write(text[: text.rindex("}")].rstrip() + ',\n  "touched": [')
                self._file.seek(0)
                while piece := self._file.read(1 << 20):
                    out.write(piece)
                out.write("\n  ]\n}\n" if self.rows else "]\n}\n")
            partial.replace(self.path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise TruthError(f"{self.path}: cannot be written: {error.strerror or error}") from error


def json_number(value: float | None) -> float | None:
    """JSON has no NaN: null says that there is no value."""
    return None if value is None or not math.isfinite(value) else value
