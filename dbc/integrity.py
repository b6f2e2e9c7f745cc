"""Alive counters and checksums: frames that their sender would not stand by.

A message takes part when its DBC says so: signal attribute `SignalRole` (Counter, Checksum) or Vector's `GenSigFuncType` (CNTR, CHK), and
for a checksum the message attributes `ChecksumProfile` (a name of PROFILES) and `ChecksumDataId` ("0x123", or 16 bytes as hexadecimal for
E2E_P02). A signal catalogue may say the same (`[checks.MESSAGE]`).

`dbc/frame_checks.py` checks the frames. Sources: AUTOSAR SWS CRC Library, E2E Protocol Specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbc.errors import DbcError
from dbc.plan import CompiledDbc

__all__ = ["DATA_IDS", "PROFILES", "Profile", "Protection", "checksum", "declared", "pages", "protection", "with_checks"]

DATA_IDS = 16  # of E2E_P02: one for each counter value


@dataclass(frozen=True)
class Profile:
    """A checksum over bytes. head, tail: what of the data id goes in before and after them: "low", "high", "frame low", "list", ..."""

    bits: int
    polynomial: int  # 0 = XOR of the bytes
    start: int
    final: int
    head: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()
    whole_frame: bool = False  # of 8 bytes, zero padded, even where the message is shorter
    modulus: int = 0  # of the counter where it is not all of its bits


PROFILES = {
    "CRC8_J1850_ID": Profile(8, 0x1D, 0xFF, 0xFF, head=("frame low", "frame high"), whole_frame=True),  # over identifier and payload
    "CRC8_J1850": Profile(8, 0x1D, 0xFF, 0xFF),
    "CRC8_H2F": Profile(8, 0x2F, 0xFF, 0xFF),
    "CRC16_CCITT": Profile(16, 0x1021, 0xFFFF, 0),
    "E2E_P01": Profile(8, 0x1D, 0, 0, head=("low", "high"), modulus=15),  # data id mode "both"; the counter never is 15
    "E2E_P02": Profile(8, 0x2F, 0xFF, 0xFF, tail=("list",)),
    "E2E_P05": Profile(16, 0x1021, 0xFFFF, 0, tail=("low", "high")),
    "XOR": Profile(8, 0, 0, 0),
}


@dataclass(frozen=True)
class Protection:
    """Of one message, by the names of its signals; None = it has none."""

    counter: str | None
    checksum: str | None
    profile: str | None
    data_id: bytes = b""


def protection(message: Any) -> Protection | None:
    """What a DBC's message (cantools) declares. Raises ValueError for a profile or data id that is not known."""
    counter = checksum = None
    for signal in message.signals:
        if signal.multiplexer_ids is not None:
            continue
        role = (_attribute(signal, "SignalRole") or _attribute(signal, "GenSigFuncType")).upper()
        counter = signal.name if role in ("COUNTER", "CNTR") else counter
        checksum = signal.name if role in ("CHECKSUM", "CHK") else checksum
    return declared(message.name, counter, checksum, _attribute(message, "ChecksumProfile"), _attribute(message, "ChecksumDataId"))


def declared(message: str, counter: str | None, checksum: str | None, profile: str, data_id: str) -> Protection | None:
    """A declaration, checked; None where it says nothing. "" = no profile, no data id. Raises ValueError as `protection`."""
    if profile and profile not in PROFILES:
        raise ValueError(f"ChecksumProfile of {message} is {profile!r}, expected one of {', '.join(PROFILES)}")
    try:
        one_each = len(data_id) == 2 * DATA_IDS
        data = bytes.fromhex(data_id) if one_each else int(data_id or "0", 0).to_bytes(4, "little")
    except (ValueError, OverflowError) as error:
        raise ValueError(f"ChecksumDataId of {message} is {data_id!r}, expected a number or {DATA_IDS} bytes as hexadecimal") from error
    if profile == "E2E_P02" and len(data) != DATA_IDS:
        raise ValueError(f"ChecksumDataId of {message} is {data_id!r}, expected {DATA_IDS} bytes as hexadecimal")
    checksum = checksum if profile else None  # a checksum of an unknown kind cannot be checked
    return Protection(counter, checksum, profile or None, data) if counter or checksum else None


def with_checks(compiled: CompiledDbc, checks: Mapping[str, Protection]) -> CompiledDbc:
    """The DBC with `checks`, by name of message, in place of what it declares for them itself.

    Raises DbcError where it has no such message, or the message no such signal that is always there.
    """
    if not checks:
        return compiled
    plan, names = compiled.plan, compiled.schema.names
    message_check = plan.message_check.copy()
    counters, sums = plan.check_counter.tolist(), plan.check_checksum.tolist()
    profiles, data_ids = plan.check_profile.tolist(), [row.tobytes() for row in plan.check_data_id]
    for message, check in checks.items():
        found = [number for number, name in enumerate(plan.message_names) if name == message]
        if not found:
            raise DbcError(f"a check is declared for {message}, which is no message of the DBC")
        for number in found:
            node = int(plan.message_node[number])
            first = int(plan.node_first[node])
            rows = {names[plan.row_signal[row]].rpartition(".")[2]: row for row in range(first, first + int(plan.node_count[node]))}
            if missing := [name for name in (check.counter, check.checksum) if name is not None and name not in rows]:
                raise DbcError(f"a check is declared on {message}.{missing[0]}, which is no signal that every frame of {message} has")
            message_check[number] = len(counters)
            counters.append(rows[check.counter] if check.counter is not None else -1)
            sums.append(rows[check.checksum] if check.checksum is not None else -1)
            profiles.append(list(PROFILES).index(check.profile) if check.profile else -1)
            data_ids.append(check.data_id.ljust(DATA_IDS, b"\0"))
    checked = replace(
        plan,
        message_check=message_check,
        check_counter=np.array(counters, np.int32),
        check_checksum=np.array(sums, np.int32),
        check_profile=np.array(profiles, np.int8),
        check_data_id=np.frombuffer(b"".join(data_ids), np.uint8).reshape(-1, DATA_IDS),
    )
    return replace(compiled, plan=checked)


def _attribute(thing: Any, name: str) -> str:
    """The word or text of an attribute; "" where it is not set. Vector's enumerations are written by number."""
    attribute = (thing.dbc.attributes if thing.dbc is not None else {}).get(name)
    if attribute is None:
        return ""
    choices, value = attribute.definition.choices, attribute.value
    if choices and str(value) not in choices and str(value).isdigit() and int(value) < len(choices):
        value = choices[int(value)]
    return str(value)


def checksum(profile: str, frame_id: int, payload: bytes, place: tuple[int, ...], data_id: bytes, counter: int) -> int:
    """Of one payload, byte by byte. place: the payload's bytes that hold the checksum, which it does not cover."""
    kind = PROFILES[profile]
    data = payload.ljust(8, b"\0") if kind.whole_frame else payload
    covered = bytes(byte for number, byte in enumerate(data) if number not in place)
    value = kind.start
    for byte in _words(kind.head, frame_id, data_id, counter) + covered + _words(kind.tail, frame_id, data_id, counter):
        value = _step(kind, value, byte)
    return value ^ kind.final


def _words(parts: tuple[str, ...], frame_id: int, data_id: bytes, counter: int) -> bytes:
    words = {
        "low": data_id[0] if data_id else 0,
        "high": data_id[1] if len(data_id) > 1 else 0,
        "frame low": frame_id & 0xFF,
        "frame high": frame_id >> 8 & 0xFF,
        "list": data_id[counter % DATA_IDS] if len(data_id) == DATA_IDS else 0,
    }
    return bytes(words[part] for part in parts)


def _step(kind: Profile, value: int, byte: int) -> int:
    if not kind.polynomial:
        return value ^ byte
    value ^= byte << kind.bits - 8
    for _ in range(8):
        value = value << 1 ^ (kind.polynomial if value >> kind.bits - 1 & 1 else 0)
    return value & (1 << kind.bits) - 1


def pages(kind: Profile, most: int) -> NDArray[np.uint16]:
    """(most + 1, 256) what a byte adds to the checksum when as many bytes follow it as the row's number."""
    if not kind.polynomial:
        return np.tile(np.arange(256, dtype=np.uint16), (most + 1, 1))
    page = np.array([_step(kind, 0, byte) for byte in range(256)], np.uint16)
    found = [page]
    for _ in range(most):
        last = found[-1]
        found.append(page[last >> (kind.bits - 8)] ^ (last << np.uint16(8) if kind.bits > 8 else np.uint16(0)))
    return np.array(found)
