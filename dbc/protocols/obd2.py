"""OBD-II mode 01: the PIDs of SAE J1979 as a DBC, so that the ordinary decoder reads them.

`builtin:obd2` in the place of a DBC file stands for it: the answers of the ECU 0x7E8. `builtin:obd2/7E8,7E9,18DAF110` names the ECUs by the
identifiers they answer with. Mode 09 is not in it: it carries the VIN, and what identifies a vehicle is never decoded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dbc.errors import DbcFileError
from dbc.frames import EFF_FLAG, EFF_MASK, SFF_MASK
from dbc.protocols.pids import PIDS, Pid, Quantity

__all__ = ["BUILTIN", "MODE_01_ANSWER", "PID_BYTES", "builtin_text", "dbc_text", "split"]

BUILTIN = "builtin:obd2"
DEFAULT_ECUS = (0x7E8,)
MODE_01_ANSWER = 0x41
HEADER = 3  # length, service and PID come before the data
LONGEST = HEADER + max(pid.length for pid in PIDS)

PID_BYTES: NDArray[np.int16] = np.full(256, -1, np.int16)  # (256,) data bytes of each PID of mode 01; -1 = not known
for _pid in PIDS:
    PID_BYTES[_pid.number] = _pid.length
PID_BYTES.flags.writeable = False


def builtin_text(name: str) -> str:
    """The DBC that a `builtin:` name stands for. Raises DbcFileError."""
    head, _, ecus = name.partition("/")
    if head != BUILTIN:
        raise DbcFileError(name, f"is no built-in DBC; there is {BUILTIN}, and {BUILTIN}/7E8,7E9,18DAF110 for other ECUs")
    if not ecus:
        return dbc_text(DEFAULT_ECUS)
    try:
        numbers = [int(text, 16) for text in ecus.split(",")]
    except ValueError as error:
        raise DbcFileError(name, f"expected the hexadecimal identifiers of ECUs after the slash, as in {BUILTIN}/7E8,7E9") from error
    if bad := next((number for number in numbers if not 0 < number <= EFF_MASK), None):
        raise DbcFileError(name, f"{bad:X} is no identifier: expected at most 29 bits")
    return dbc_text([number | EFF_FLAG if number > SFF_MASK else number for number in dict.fromkeys(numbers)])


def dbc_text(ecus: Sequence[int]) -> str:
    """A DBC with one message for each ECU. ecus: identifiers of their answers, with EFF_FLAG where they have 29 bits."""
    lines = ['VERSION ""', "", "NS_ :", "", "BS_:", "", "BU_:", ""]
    multiplexing: list[str] = []
    for ecu in ecus:
        lines.append(f"BO_ {ecu} OBD2_{ecu & EFF_MASK:X}: {LONGEST} Vector__XXX")
        lines.append(' SG_ Service M : 15|8@0+ (1,0) [0|255] "" Vector__XXX')
        lines.append(f' SG_ Pid m{MODE_01_ANSWER}M : 23|8@0+ (1,0) [0|255] "" Vector__XXX')
        multiplexing.append(f"SG_MUL_VAL_ {ecu} Pid Service {MODE_01_ANSWER}-{MODE_01_ANSWER};")
        for pid in PIDS:
            for quantity in pid.quantities:
                lines.append(_signal(pid, quantity))
                multiplexing.append(f"SG_MUL_VAL_ {ecu} {quantity.name} Pid {pid.number}-{pid.number};")
        lines.append("")
    return "\n".join([*lines, *multiplexing, ""])


def _signal(pid: Pid, quantity: Quantity) -> str:
    bit = 8 * HEADER + quantity.bit
    start = bit // 8 * 8 + 7 - bit % 8  # a DBC numbers the bits of a byte from the least significant
    low, high = quantity.range
    return (
        f" SG_ {quantity.name} m{pid.number} : {start}|{quantity.bits}@0{'-' if quantity.signed else '+'} "
        f'({quantity.scale!r},{quantity.offset!r}) [{low!r}|{high!r}] "{quantity.unit}" Vector__XXX'
    )


def split(answer: bytes) -> list[bytes]:
    """An answer to a request for several PIDs as answers to one each, all in the form length | 0x41 | PID | data.

    `answer` is in that form too. It ends where a PID is not known, or where the bytes run out.
    """
    if len(answer) < HEADER or answer[1] != MODE_01_ANSWER:
        return [answer]
    parts, place = [], 2
    while place < len(answer):
        length = int(PID_BYTES[answer[place]])
        end = place + 1 + length
        if length < 0 or end > len(answer):
            break
        parts.append(bytes([2 + length, MODE_01_ANSWER]) + answer[place:end])
        place = end
    return parts or [answer]
