"""Alive counters and checksums: frames that their sender would not stand by.

A message takes part when its DBC says so: signal attribute `SignalRole` (Counter, Checksum) or Vector's `GenSigFuncType` (CNTR, CHK), and
for a checksum the message attributes `ChecksumProfile` (a name of PROFILES) and `ChecksumDataId` ("0x123", or 16 bytes as hexadecimal for
E2E_P02). A signal catalogue may say the same (`[checks.MESSAGE]`).

A CRC is linear over XOR: that of a payload is the XOR of one table entry a byte and of a constant, so that all frames of a block are
checked together, whatever their messages (Sarwate 1988; AUTOSAR SWS CRC Library, E2E Protocol Specification).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbc.errors import DbcError
from dbc.frames import EFF_MASK, FrameBlock
from dbc.payload import Cuts, Payload
from dbc.plan import CompiledDbc, DecodePlan
from dbc.validity import Reason

__all__ = ["MOST_JUMP", "PROFILES", "FrameChecks", "Profile", "Protection", "checksum", "declared", "protection", "with_checks"]

Index = NDArray[np.intp]

MOST_JUMP = 3  # steps of an alive counter between two frames: up to two lost frames are no fault of the sender's (E2E MaxDeltaCounter)
COUNTER, CHECKSUM = np.uint8(Reason.COUNTER), np.uint8(Reason.CHECKSUM)
NO_COUNTER = -(1 << 40)
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


def _pages(kind: Profile, most: int) -> NDArray[np.uint16]:
    """(most + 1, 256) what a byte adds to the checksum when as many bytes follow it as the row's number."""
    if not kind.polynomial:
        return np.tile(np.arange(256, dtype=np.uint16), (most + 1, 1))
    page = np.array([_step(kind, 0, byte) for byte in range(256)], np.uint16)
    pages = [page]
    for _ in range(most):
        last = pages[-1]
        pages.append(page[last >> (kind.bits - 8)] ^ (last << np.uint16(8) if kind.bits > 8 else np.uint16(0)))
    return np.array(pages)


class FrameChecks:
    """Checks the frames of c protected messages; falsy where the DBC protects none. Keeps each message's last counter."""

    def __init__(self, compiled: CompiledDbc, root: Index, states: int) -> None:
        """root: (messages,) of `states`, the state of a frame of that message, as `check` gets them."""
        plan = compiled.plan
        messages = np.flatnonzero(plan.message_check >= 0)
        checks = plan.message_check[messages]
        self._count = len(messages)
        self._of_state = np.full(states, -1, np.intp)
        self._of_state[root[messages]] = np.arange(self._count)
        if not self._count:
            return
        self._length = plan.message_length[messages]
        self._longest = int(self._length.max())
        counter = plan.check_counter[checks].astype(np.intp)
        self._has_counter = counter >= 0
        self._counter = Cuts(plan, np.maximum(counter, 0))
        names = list(PROFILES)
        kinds = [PROFILES[names[number]] if number >= 0 else None for number in plan.check_profile[checks].tolist()]
        bits = plan.row_length[np.maximum(counter, 0)].tolist()
        moduli = [kind.modulus if kind and kind.modulus else 1 << min(n, 32) for kind, n in zip(kinds, bits, strict=True)]
        self._modulus = np.array(moduli, np.int64)
        self._wrap = None if any(modulus & modulus - 1 for modulus in moduli) else self._modulus - 1  # a mask where all are powers of 2
        self._numbers = np.arange(self._count)
        self._last = np.full(self._count, NO_COUNTER, np.int64)
        self._any_list = any(kind is not None and "list" in kind.tail for kind in kinds)
        self._tables(compiled, messages, checks, kinds)

    def __bool__(self) -> bool:
        return self._count > 0

    def _tables(self, compiled: CompiledDbc, messages: Index, checks: NDArray[np.int32], kinds: list[Profile | None]) -> None:
        """For each message and byte of the payload its page; for each message and counter the constant.

        The checksum that the frame carries is folded in: the XOR over all bytes is 0 where it is right.
        """
        plan = compiled.plan
        width = -(-max(8, self._longest) // 8) * 8
        pages, first = [np.zeros((1, 256), np.uint16)], {}
        names = list(PROFILES)
        page = np.zeros((self._count, width), np.intp)
        constant = np.zeros((self._count, DATA_IDS), np.uint16)
        for number, kind in enumerate(kinds):
            row = int(plan.check_checksum[checks[number]])
            if kind is None or row < 0:
                continue
            if kind not in first:
                first[kind] = sum(map(len, pages))
                pages.append(_pages(kind, width + len(kind.tail)))
            bit, bits = int(plan.row_bit[row]), int(plan.row_length[row])
            place = tuple(range(bit // 8, (bit + bits - 1) // 8 + 1))
            for byte in place:
                page[number, byte] = sum(map(len, pages))
                pages.append(_said(plan, row, byte))
            length = 8 if kind.whole_frame else int(self._length[number])
            covered = [byte for byte in range(length) if byte not in place]
            for follow, byte in enumerate(reversed(covered), len(kind.tail)):
                page[number, byte] = first[kind] + follow
            profile = names[int(plan.check_profile[checks[number]])]
            frame_id = int(plan.message_key[messages[number]]) & EFF_MASK
            data_id = plan.check_data_id[checks[number]].tobytes()
            constant[number] = [checksum(profile, frame_id, bytes(length), place, data_id, counter) for counter in range(DATA_IDS)]
        self._table = np.concatenate(pages).reshape(-1)
        self._page = page * 256
        self._constant = constant.reshape(-1)

    def check(self, block: FrameBlock, payload: Payload, state: Index) -> NDArray[np.uint8] | None:
        """(n,) Reason of each frame, VALID for what is not protected; None = all are valid. state: (n,) where each frame starts."""
        number = self._of_state.take(state)
        at = (number >= 0).nonzero()[0]
        if not len(at):
            return None
        number = number.take(at)
        if int(block.length.min()) < self._longest:
            # Of a short frame SHORT_FRAME is said where it ends, and nothing else.
            whole = block.length.take(at) >= self._length.take(number)
            if not whole.all():
                at, number = at[whole], number[whole]
        counter = self._counter.cut(payload, at, number).view(np.int64)
        wrong = self._wrong(block, at, number, counter)
        late = self._out_of_step(number, counter)
        if wrong is None and late is None:
            return None
        found = np.zeros(len(block), np.uint8)
        if late is not None:
            found[at[late]] = COUNTER
        if wrong is not None:
            found[at[wrong]] = CHECKSUM
        return found

    def _wrong(self, block: FrameBlock, at: Index, number: Index, counter: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Frames whose checksum is not that of their payload; None = there are none."""
        entry = self._page.take(number, axis=0)
        data = block.data.take(at, axis=0)
        width = min(entry.shape[1], data.shape[1])
        if entry.shape[1] != data.shape[1]:
            entry, data = entry[:, :width], data[:, :width]
        entry += data
        parts = self._table.take(entry)
        if width == 8:  # eight numbers of 16 bits are two of 64
            halves = parts.view(np.uint64)
            folded = halves[:, 0] ^ halves[:, 1]
            folded ^= folded >> np.uint64(32)
            folded ^= folded >> np.uint64(16)
            found = folded.astype(np.uint16)
        else:
            found = np.bitwise_xor.reduce(parts, axis=1)
        place = number * DATA_IDS
        if self._any_list:
            place += counter & (DATA_IDS - 1)
        wrong = found != self._constant.take(place)
        return wrong if wrong.any() else None

    def _out_of_step(self, number: Index, counter: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Frames whose counter stood still or jumped; None = there are none.

        One with a wrong checksum counts as a frame too: it may be the only one to tell that others were lost.
        """
        numbers = np.concatenate([self._numbers, number])
        order = numbers.astype(np.uint16).argsort(kind="stable")  # a radix sort
        numbers = numbers.take(order)
        counters = np.concatenate([self._last, counter]).take(order)
        self._last[numbers] = counters  # the last one stays
        step = counters[1:] - counters[:-1]
        step -= 1
        if self._wrap is not None:
            step &= self._wrap.take(numbers[1:])
        else:
            step %= self._modulus.take(numbers[1:])
        bad = step >= MOST_JUMP
        bad &= numbers[1:] == numbers[:-1]
        if not bad.any():
            return None
        bad &= counters[:-1] >= 0
        bad &= self._has_counter.take(numbers[1:])
        found = np.zeros(len(number), np.bool_)
        found[order[1:][bad] - self._count] = True
        return found if found.any() else None


def _said(plan: DecodePlan, row: int, byte: int) -> NDArray[np.uint16]:
    """(1, 256) what a byte of the payload adds to the checksum that the frame carries."""
    bit, bits = int(plan.row_bit[row]), int(plan.row_length[row])
    page = np.zeros((1, 256), np.uint16)
    for power in range(bits):  # of the checksum, from the least significant bit on
        at = bit + bits - 1 - power if plan.row_big[row] else bit + power
        if at // 8 == byte:
            inside = 7 - at % 8 if plan.row_big[row] else at % 8
            page[0] |= ((np.arange(256) >> inside & 1) << power).astype(np.uint16)
    return page
