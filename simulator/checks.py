"""The alive counter and checksum of one recorded message: as its DBC declares them, or as the log itself proves them.

An attacker who sends in another's name keeps both right; so a forged log must too. Where a DBC declares nothing, the rule is looked for:
a checksum is believed when one simple rule explains every frame of the message in the log.

    kind        the checksum is                                       seen in
    crc8, crc16 a CRC of the other bytes, a constant for each         VW, Honda, AUTOSAR E2E
                counter value added
    xor         the XOR of the other bytes and a constant             Fiat, PSA
    sum         the sum of the other bytes, or its negative           Toyota, Subaru
    nibbles     the sum of the other half bytes, or its negative      Hyundai, Honda
    ones        how many ones the other bits have                     Hyundai's wheel speeds
    fields      the sum of the bytes of some signals, or its negative Ford, where a checksum guards one signal and its quality
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dbc.encoder import MessageEncoder
from dbc.integrity import DATA_IDS, PROFILES, checksum
from dbc.plan import CompiledDbc
from simulator.fields import Bytes, Field

__all__ = ["ChecksumRule", "Counter", "MessageChecks", "RuleSearch", "declared_checks", "find_counter", "guards"]

Index = NDArray[np.intp]

CRC8 = (0x1D, 0x2F, 0x07, 0x31, 0x9B, 0xD5, 0x39, 0x4D)
CRC16 = (0x1021, 0x8005, 0xC867)
CHECKSUM_NAME = re.compile(r"(?i)checksum|chksum|cksum|chk|crc|(?:_|No)cs$")
COUNTER_NAME = re.compile(r"(?i)counter|alive|cnt|rolling|sequence|_rc$")
LEARN_FRAMES = 600  # of which a rule is looked for; the frames after them can only refute it
LEAST_FRAMES, LEAST_VALUES = 16, 4  # payloads, and values of the checksum, that differ: fewer prove nothing
MOST_FIELDS = 12  # whose subsets are tried
MOST_STEP = 3
SELDOM = 0.02


@dataclass(frozen=True)
class Counter:
    """An alive counter."""

    field: Field
    modulus: int
    step: int = 1  # from frame to frame; more where the log lacks frames
    origin: str = "declared"

    def describe(self) -> dict[str, object]:
        """For a truth file."""
        return {"signal": self.field.name, "modulus": self.modulus, "step": self.step, "known_from": self.origin}

    def read(self, data: Bytes) -> NDArray[np.int64]:
        return self.field.place.read(data).view(np.int64)

    def write(self, data: Bytes, count: NDArray[np.int64]) -> None:
        self.field.place.write(data, (count % self.modulus).view(np.uint64))


@dataclass(frozen=True)
class ChecksumRule:
    """How a checksum is made of a payload. `constant`: (16,) one for each counter value, or all alike."""

    field: Field
    kind: str
    polynomial: int = 0
    covered: tuple[int, ...] = ()  # bytes; the checksum's own bits in them count as 0
    signals: tuple[Field, ...] = ()  # of kind `fields`
    tail: int = 0  # bytes of a data id after the payload
    negative: bool = False
    constant: NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.zeros(DATA_IDS, np.int64))
    origin: str = "declared"
    frames: int = 0  # that prove it

    def made(self, data: Bytes, counter: Counter | None) -> NDArray[np.int64]:
        """(n,) what the checksum of these payloads is to be."""
        count = counter.read(data) if counter is not None else np.zeros(len(data), np.int64)
        return self._with(self.residue(data), self.constant.take(count % DATA_IDS))

    def _with(self, residue: NDArray[np.int64], constant: NDArray[np.int64]) -> NDArray[np.int64]:
        top = (1 << self.field.place.bits) - 1
        if self.kind in ("crc8", "crc16", "xor"):
            return (residue ^ constant) & top
        return (constant - residue if self.negative else constant + residue) & top

    def constant_of(self, data: Bytes) -> NDArray[np.int64]:
        """(n,) the constant that each frame's own checksum tells."""
        said, residue = self.field.place.read(data).view(np.int64), self.residue(data)
        top = (1 << self.field.place.bits) - 1
        xors = self.kind in ("crc8", "crc16", "xor")
        told: NDArray[np.int64] = said ^ residue if xors else said + residue if self.negative else said - residue
        return told & top

    def write(self, data: Bytes, counter: Counter | None) -> None:
        """Put the right checksum into every payload."""
        self.field.place.write(data, self.made(data, counter).view(np.uint64))

    def residue(self, data: Bytes) -> NDArray[np.int64]:
        """(n,) what the covered bytes give, without the constant."""
        if self.kind == "fields":
            total: NDArray[np.int64] = np.array([_byte_sum(part.place.read(data)) for part in self.signals]).sum(axis=0)
            return total
        width = max(self.covered, default=0) + 1
        if data.shape[1] < width:  # a profile over 8 bytes of a shorter message: zero padded
            data = np.pad(data, ((0, 0), (0, width - data.shape[1])))
        own = self.field.place.mask(max(data.shape[1], self.field.place.need))[: data.shape[1]]
        part = (data & ~own)[:, self.covered]
        simple: NDArray[np.int64] | None = None
        if self.kind == "xor":
            simple = np.bitwise_xor.reduce(part, axis=1).astype(np.int64)
        elif self.kind == "sum":
            simple = part.sum(axis=1, dtype=np.int64)
        elif self.kind == "nibbles":
            simple = (part & 15).sum(axis=1, dtype=np.int64) + (part >> 4).sum(axis=1, dtype=np.int64)
        elif self.kind == "ones":
            simple = np.bitwise_count(part).sum(axis=1, dtype=np.int64)
        if simple is not None:
            return simple
        bits = 8 if self.kind == "crc8" else 16
        table = _crc_table(bits, self.polynomial)
        crc = np.zeros(len(data), np.int64)
        for column in range(part.shape[1] + self.tail):
            byte = part[:, column] if column < part.shape[1] else 0
            crc = table[(crc >> bits - 8) ^ byte] ^ (crc << 8 & (1 << bits) - 1)
        return crc

    def describe(self) -> dict[str, object]:
        """For a truth file."""
        found: dict[str, object] = {"signal": self.field.name, "rule": self.kind, "known_from": self.origin}
        if self.polynomial:
            found["polynomial"] = f"0x{self.polynomial:X}"
        if self.signals:
            found["of_signals"] = [part.name for part in self.signals]
        return found | ({"proved_by_frames": self.frames} if self.frames else {})


@dataclass(frozen=True)
class MessageChecks:
    """What protects a message: perhaps a counter, and any number of checksums."""

    counter: Counter | None = None
    checksums: tuple[ChecksumRule, ...] = ()

    def protect(self, data: Bytes) -> None:
        """Make every checksum right, in place."""
        for rule in self.checksums:
            rule.write(data, self.counter)


def declared_checks(compiled: CompiledDbc, number: int, encoder: MessageEncoder, fields: Sequence[Field]) -> MessageChecks:
    """Of message `number` of the plan, by its DBC, its catalogue or the user (dbc.integrity.with_checks)."""
    plan = compiled.plan
    check = int(plan.message_check[number])
    if check < 0:
        return MessageChecks()
    named = {part.number: part for part in fields if not part.place.selectors}
    profile = PROFILES[list(PROFILES)[plan.check_profile[check]]] if plan.check_profile[check] >= 0 else None
    counter = None
    if plan.check_counter[check] >= 0:
        part = named[int(plan.row_signal[plan.check_counter[check]])]
        counter = Counter(part, profile.modulus if profile and profile.modulus else 1 << part.place.bits)
    if profile is None or plan.check_checksum[check] < 0:
        return MessageChecks(counter)
    part = named[int(plan.row_signal[plan.check_checksum[check]])]
    name, place = list(PROFILES)[plan.check_profile[check]], tuple(sorted(set(part.place.byte.tolist())))
    length = 8 if profile.whole_frame else encoder.length
    data_id = plan.check_data_id[check].tobytes()
    rule = ChecksumRule(
        part,
        "xor" if not profile.polynomial else f"crc{profile.bits}",
        profile.polynomial,
        tuple(byte for byte in range(length) if byte not in place),
        tail=len(profile.tail),
        constant=np.array(
            [checksum(name, encoder.frame_id & 0x1FFF_FFFF, bytes(length), place, data_id, count) for count in range(DATA_IDS)]
        ),
        origin=f"declared as {name}",
    )
    return MessageChecks(counter, (rule,))


def find_counter(fields: Sequence[Field], data: Bytes, target: Field | None) -> Counter | None:
    """The signal that goes up by one from frame to frame; a lost frame now and then is forgiven, standing still is not.

    One whose name says that it is a counter may also go up by more: a log that keeps every second frame shows it so.
    """
    if len(data) < LEAST_FRAMES:
        return None
    found: list[tuple[bool, int, Counter]] = []
    for part in fields:
        bits = part.place.bits
        if part.place.selectors or part is target or not 2 <= bits <= 16:
            continue
        value = part.place.read(data).view(np.int64)
        for modulus in ((1 << bits), (1 << bits) - 1):
            if int(value.max()) >= modulus:
                continue
            step = np.diff(value) % modulus
            named = bool(COUNTER_NAME.search(part.name.rpartition(".")[2]))
            steady = (step == 1).mean() > 0.9 and int(step.max()) <= MOST_STEP
            moves = (step > 0).all() or (named and (step == 0).mean() < SELDOM)  # so many frames may be lost that it comes round
            if moves and (steady or (named and len(np.unique(value)) > modulus // 4)):
                found.append((not named, -bits, Counter(part, modulus, 1 if steady else int(np.bincount(step).argmax()), "the log")))
                break
    return min(found, key=lambda entry: entry[:2])[2] if found else None


class RuleSearch:
    """Learns a message's counter and checksums from its frames, which come in blocks; memory does not grow with them."""

    def __init__(self, fields: Sequence[Field], targets: Sequence[Field]) -> None:
        self._fields = [part for part in fields if not part.place.selectors]
        self._targets = targets
        self._head: list[Bytes] = []
        self._kept = 0
        self._rules: list[ChecksumRule] | None = None
        self.counter: Counter | None = None
        self.frames = 0

    def feed(self, data: Bytes) -> None:
        """(n, width) payloads of frames that are as long as the message."""
        self.frames += len(data)
        if self._rules is not None:
            self._refute(data)
            return
        self._head.append(data.copy())
        self._kept += len(data)
        if self._kept >= LEARN_FRAMES:
            self._search()

    def result(self) -> MessageChecks:
        """What every frame so far agrees with."""
        if self._rules is None:
            self._search()
        assert self._rules is not None
        best: dict[int, ChecksumRule] = {}
        for rule in self._rules:
            best.setdefault(rule.field.number, rule)
        rules = [
            ChecksumRule(
                rule.field,
                rule.kind,
                rule.polynomial,
                rule.covered,
                rule.signals,
                rule.tail,
                rule.negative,
                rule.constant,
                "the log",
                self.frames,
            )
            for rule in best.values()
        ]
        return MessageChecks(self.counter, tuple(rules))

    def _refute(self, data: Bytes) -> None:
        assert self._rules is not None
        self._rules = [rule for rule in self._rules if (rule.made(data, self.counter) == rule.field.place.read(data).view(np.int64)).all()]

    def _search(self) -> None:
        data = np.concatenate(self._head) if self._head else np.zeros((0, 8), np.uint8)
        self._head, self._rules = [], []
        if len(data) < LEAST_FRAMES:
            return
        self.counter = find_counter(self._fields, data, self._targets[0] if self._targets else None)
        own = {part.number for part in self._targets} | ({self.counter.field.number} if self.counter else set())
        for part in self._fields:
            named = bool(CHECKSUM_NAME.search(part.name.rpartition(".")[2]))
            if part.number in own or part.place.bits not in ((2, 4, 8, 16) if named else (4, 8, 16)):
                continue
            if len(np.unique(part.place.read(data))) < LEAST_VALUES:
                continue
            if (rule := self._rule(part, data)) is not None:
                self._rules.append(rule)
        self._rules.sort(key=lambda rule: not CHECKSUM_NAME.search(rule.field.name.rpartition(".")[2]))

    def _rule(self, part: Field, data: Bytes) -> ChecksumRule | None:
        for rule in itertools.chain(_whole_payload(part, data.shape[1]), self._sums(part, data)):
            if (proved := self._proved(rule, data)) is not None:
                return proved
        return None

    def _proved(self, rule: ChecksumRule, data: Bytes) -> ChecksumRule | None:
        told = rule.constant_of(data)
        kinds = len(np.unique(data, axis=0))
        if (told == told[0]).all() and kinds >= LEAST_FRAMES:
            return _replace(rule, np.full(DATA_IDS, told[0]))
        if self.counter is None or not rule.polynomial or kinds < LEAST_FRAMES * min(self.counter.modulus, DATA_IDS):
            return None
        count = self.counter.read(data) % DATA_IDS
        constant = np.zeros(DATA_IDS, np.int64)
        for value in range(DATA_IDS):
            mine = told[count == value]
            if len(mine) and not (mine == mine[0]).all():
                return None
            constant[value] = mine[0] if len(mine) else 0
        return _replace(rule, constant)

    def _sums(self, part: Field, data: Bytes) -> list[ChecksumRule]:
        """Ford's way: the sum of the bytes of some signals. Those that change in the log are found by trying their subsets.

        Of a signal that stands still nobody can tell; it takes part where its name has the checksum's stem (`VehVActlEng_No_Cs` guards
        `Veh_V_ActlEng` and `VehVActlEng_D_Qf`).
        """
        if part.place.bits != 8:
            return []
        apart = [other for other in self._fields if other is not part and not set(_bits(other)) & set(_bits(part))]
        sums = {other.number: _byte_sum(other.place.read(data)) for other in apart}
        changing = [other for other in apart if np.ptp(sums[other.number]) > 0]
        if not changing or len(changing) > MOST_FIELDS:
            return []
        stem = _stem(part.name)
        still = [other for other in apart if other not in changing and stem and _letters(other.name).startswith(stem)]
        said = part.place.read(data).view(np.int64)
        matrix = np.array([sums[other.number] for other in changing])
        found = []
        for size in range(1, len(changing) + 1):
            for chosen in itertools.combinations(range(len(changing)), size):
                total = matrix[list(chosen), :64].sum(axis=0)
                for negative in (True, False):
                    told = (said[:64] + total if negative else said[:64] - total) & 255
                    if (told == told[0]).all():
                        found.append(ChecksumRule(part, "fields", signals=(*(changing[i] for i in chosen), *still), negative=negative))
        return found


def _whole_payload(part: Field, width: int) -> list[ChecksumRule]:
    """Rules over the other bytes of the payload, the more usual ones first."""
    own = set(part.place.byte.tolist())
    others, every = tuple(byte for byte in range(width) if byte not in own), tuple(range(width))
    bits = part.place.bits
    rules = []
    if bits == 8:
        rules += [ChecksumRule(part, "crc8", polynomial, covered) for covered in (others, every) for polynomial in CRC8]
        rules.append(ChecksumRule(part, "xor", covered=every))
    if bits == 16:
        rules += [ChecksumRule(part, "crc16", polynomial, covered) for covered in (others, every) for polynomial in CRC16]
    if bits >= 8:
        rules += [ChecksumRule(part, "sum", covered=every, negative=negative) for negative in (False, True)]
    rules += [ChecksumRule(part, "nibbles", covered=every, negative=negative) for negative in (True, False)]
    rules += [ChecksumRule(part, "ones", covered=every, negative=negative) for negative in (False, True)]
    return rules


def _replace(rule: ChecksumRule, constant: NDArray[np.int64]) -> ChecksumRule:
    return ChecksumRule(rule.field, rule.kind, rule.polynomial, rule.covered, rule.signals, rule.tail, rule.negative, constant)


def _byte_sum(value: NDArray[np.uint64]) -> NDArray[np.int64]:
    """(n,) sum of the bytes of each value."""
    total: NDArray[np.int64] = np.ascontiguousarray(value).view(np.uint8).reshape(-1, 8).sum(axis=1, dtype=np.int64)
    return total


def _bits(part: Field) -> list[tuple[int, int]]:
    return list(zip(part.place.byte.tolist(), part.place.shift.tolist(), strict=True))


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.rpartition(".")[2].lower())


def _stem(name: str) -> str:
    """What a checksum's name has before "No_Cs", "Checksum" and the like; "" = nothing."""
    short = name.rpartition(".")[2]
    return _letters(re.sub(r"(?i)_?(no_)?(checksum|chksum|cksum|chk|crc|cs)$", "", short))


def guards(rule: ChecksumRule, target: Field) -> bool:
    """Whether the checksum changes with this signal."""
    if rule.kind == "fields":
        return any(part.number == target.number for part in rule.signals)
    return bool(set(target.place.byte.tolist()) & set(rule.covered))


_TABLES: dict[tuple[int, int], NDArray[np.int64]] = {}


def _crc_table(bits: int, polynomial: int) -> NDArray[np.int64]:
    """(256,) of a CRC, most significant bit first (Sarwate 1988)."""
    if (bits, polynomial) not in _TABLES:
        value = np.arange(256, dtype=np.int64) << bits - 8
        for _ in range(8):
            value = np.where(value >> bits - 1 & 1, value << 1 ^ polynomial, value << 1) & (1 << bits) - 1
        _TABLES[bits, polynomial] = value
    return _TABLES[bits, polynomial]
