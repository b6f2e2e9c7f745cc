"""Whether a database file is usable, what had to be repaired or left out, and what in it is doubtful."""

from __future__ import annotations

from typing import Any

import numpy as np

from dbc.errors import DbcFileError
from dbc.plan import CompiledDbc

__all__ = ["check_file", "doubts"]


def check_file(argument: str) -> dict[str, Any]:
    """One file, as `LoadReport.as_json`, and: loads, error (one line; None = none), doubts. Imports cantools.

    A file may load and have an error: one that is wrong throughout, and used by a rule that explains all of it.
    """
    from dbc.dbc_file import parse_file_argument
    from dbc.planner import load_database, plan_databases

    file = parse_file_argument(argument)
    try:
        database, report = load_database(file)
        compiled = plan_databases([(file, database, report)])
    except DbcFileError as error:
        nothing: dict[str, Any] = {"messages": 0, "signals": 0, "repaired": [], "skipped": [], "doubts": []}
        return {
            "file": file.path,
            "format": None,
            "loads": False,
            "line": error.line,
            "column": error.column,
            "error": str(error),
        } | nothing
    known = set(report.notes())
    more = [note for note in compiled.notes if note not in known]
    return report.as_json() | {
        "loads": True,
        "line": min((entry.line for entry in report.repaired if entry.is_error), default=None) if report.wrong_throughout else None,
        "column": None,
        "error": report.wrong_throughout,
        "doubts": [*more, *doubts(compiled)],
    }


def doubts(compiled: CompiledDbc) -> list[str]:
    """One line each: signals that are decoded, but overlap another one that is there at the same time."""
    plan, names = compiled.plan, compiled.schema.names
    found = []
    for node in range(len(plan.node_first)):
        owner: dict[int, int] = {}
        for row in range(int(plan.node_first[node]), int(plan.node_first[node] + plan.node_count[node])):
            signal = int(plan.row_signal[row])
            others = {owner[bit] for bit in _bits(compiled, row) if bit in owner}
            found += [f"{names[signal]} overlaps {names[other]}" for other in sorted(others)]
            owner |= dict.fromkeys(_bits(compiled, row), signal)
    return list(dict.fromkeys(found))


def _bits(compiled: CompiledDbc, row: int) -> list[int]:
    """Bits of a row as 8 * byte + bit, whatever its byte order."""
    plan = compiled.plan
    bits = int(plan.row_bit[row]) + np.arange(int(plan.row_length[row]))
    places: list[int] = (bits ^ 7 if plan.row_big[row] else bits).tolist()
    return places
