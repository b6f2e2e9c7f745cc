"""What loading a database did: how much of it is usable, what was repaired, what was left out and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["LoadReport", "Repaired", "Skipped"]


@dataclass(frozen=True, order=True)
class Repaired:
    """One repair. `line` counts from 1; 0 where the format has no lines, or the whole file is meant.

    is_error: what was changed is what frames are matched by (an identifier that the format does not allow): other tools refuse the message.
    """

    line: int
    what: str
    is_error: bool = False


@dataclass(frozen=True, order=True)
class Skipped:
    """A message ("Message") or signal ("Message.Signal") that no frame is decoded with; "" where not even its name is known."""

    line: int
    message: str
    why: str


@dataclass
class LoadReport:
    """Of one file. `messages` and `signals` count what is usable."""

    file: str
    format: str  # "dbc", "arxml", "kcd", "sym"
    messages: int = 0
    signals: int = 0
    repaired: list[Repaired] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    wrong_throughout: str | None = None  # why the file is wrong though it can be used: no message of it is valid as it is written

    def repair(self, line: int, what: str, *, is_error: bool = False) -> None:
        self.repaired.append(Repaired(line, what, is_error))

    def skip(self, line: int, message: str, why: str) -> None:
        self.skipped.append(Skipped(line, message, why))

    def notes(self) -> list[str]:
        """One line each, in the order of the file."""

        def place(line: int) -> str:
            return f"{self.file}:{line}" if line else self.file

        lines = [(entry.line, f"{place(entry.line)}: {entry.what}") for entry in self.repaired]
        lines += [(entry.line, f"{place(entry.line)}: {entry.message or 'an entry'} is left out: {entry.why}") for entry in self.skipped]
        return ([self.wrong_throughout] if self.wrong_throughout else []) + [text for _, text in sorted(lines)]

    def as_json(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "format": self.format,
            "messages": self.messages,
            "signals": self.signals,
            "repaired": [
                {"line": entry.line or None, "level": "error" if entry.is_error else "warning", "what": entry.what}
                for entry in sorted(self.repaired)
            ],
            "skipped": [{"line": entry.line or None, "message": entry.message or None, "why": entry.why} for entry in sorted(self.skipped)],
        }
