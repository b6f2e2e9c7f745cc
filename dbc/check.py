"""What is doubtful in a DBC that parses: it decodes, but perhaps not to what its author meant."""

from __future__ import annotations

import numpy as np

from dbc.plan import CompiledDbc

__all__ = ["doubts"]


def doubts(compiled: CompiledDbc) -> list[str]:
    """One line each: what the compiler left out or replaced, signals that overlap, signals beyond their message's length."""
    plan, names = compiled.plan, compiled.schema.names
    found = list(compiled.notes)
    for node in range(len(plan.node_first)):
        rows = range(int(plan.node_first[node]), int(plan.node_first[node] + plan.node_count[node]))
        message = int(plan.node_message[node])
        length = int(plan.message_length[message])
        owner: dict[int, int] = {}
        for row in rows:
            signal = int(plan.row_signal[row])
            if plan.row_need[row] > length:
                need, name = int(plan.row_need[row]), plan.message_names[message]
                found.append(f"{names[signal]} needs {need} bytes, but {name} has {length}")
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
