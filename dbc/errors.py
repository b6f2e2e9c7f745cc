"""What can go wrong between bytes and snapshot.

    DbcError                 anything below; bad input, exit code 2
    ├── DbcFileError         a DBC file that cannot be read or does not parse: file, line, column
    ├── LogFormatError       a log that cannot be read, or that is of no known format: path, line
    ├── SignalUnknown        a signal name that the schema does not have: name, close matches
    ├── TableError           a table that cannot be written: path
    └── CatalogueError       a signal catalogue that does not fit its format or its DBC

Every message is one line and says where.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["CatalogueError", "DbcError", "DbcFileError", "LogFormatError", "SignalUnknown", "TableError"]


class DbcError(Exception):
    """Base of every error of this package."""

    exit_code = 2


class DbcFileError(DbcError):
    """A DBC file that cannot be read, does not parse, or contradicts itself.

    `line` and `column` count from 1; None where the fault has no single place.
    """

    def __init__(self, file: str, reason: str, line: int | None = None, column: int | None = None) -> None:
        self.file, self.reason, self.line, self.column = file, reason, line, column
        place = file if line is None else f"{file}:{line}" if column is None else f"{file}:{line}:{column}"
        super().__init__(f"{place}: {reason}")


class LogFormatError(DbcError):
    """A log that cannot be read or is of no known format. `line` counts from 1; None where the format has no lines."""

    def __init__(self, path: str, reason: str, line: int | None = None) -> None:
        self.path, self.reason, self.line = path, reason, line
        super().__init__(f"{path}: {reason}" if line is None else f"{path}:{line}: {reason}")


class SignalUnknown(DbcError):
    """A signal name that the schema does not have. `close` are the nearest names it has."""

    def __init__(self, name: str, close: Sequence[str] = ()) -> None:
        self.name, self.close = name, tuple(close)
        hint = f"; did you mean {' or '.join(self.close)}?" if self.close else "; `cansight dbc info --signals FILE` lists the names"
        super().__init__(f"no signal {name!r}{hint}")


class CatalogueError(DbcError):
    """A signal catalogue that does not fit its format, or that names signals its DBC does not have."""


class TableError(DbcError):
    """A table that cannot be written."""
