"""One fault put into frames, block by block: what is asked for, and what became of it.

InjectionPlan (kind, target, window, parameters) -> Injection.feed(FrameBlock) -> FrameBlock, and the truth
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbc.frames import FrameBlock
from simulator.attacks import ContinuousDrift, Plateau, Playback
from simulator.checks import ChecksumRule, guards
from simulator.errors import InjectionError, ScenarioError
from simulator.fault_kinds import FaultKind, fault_kind
from simulator.network_faults import Babble, damage_checksums, insert, keep, stop_counter
from simulator.sensor_faults import Drift, Dropout, Noise, Offset, Stuck, ValueFault
from simulator.target import Target
from simulator.truth import Spread

__all__ = ["OF_ONE_SIGNAL", "PARAMETERS", "SHORT_NAMES", "Add", "Injection", "InjectionPlan", "injection_kind"]

Add = Callable[[NDArray[np.int64], int, str, NDArray[np.float64] | None, NDArray[np.float64] | None], None]

# As the command line calls them.
SHORT_NAMES: Mapping[str, str] = {
    "stuck": "sensor_stuck",
    "drift": "sensor_drift",
    "noise": "sensor_noise",
    "offset": "sensor_offset",
    "dropout": "sensor_dropout",
    "silent_ecu": "control_unit_silent",
    "babbling_ecu": "control_unit_babbling",
    "counter_errors": "counter_error",
    "checksum_errors": "checksum_error",
    "plateau": "attack_plateau",
    "continuous_drift": "attack_drift",
    "playback": "attack_playback",
    "suppression": "attack_suppression",
    "flooding": "attack_flooding",
}

# What may be set, with its unit; "unit" is the signal's own.
PARAMETERS: Mapping[str, Mapping[str, str]] = {
    "sensor_drift": {"rate": "unit/s"},
    "sensor_noise": {"deviation": "unit"},
    "sensor_offset": {"amount": "unit"},
    "sensor_dropout": {"share": "0..1 of the time", "gap_s": "s"},
    "control_unit_babbling": {"rate_hz": "1/s"},
    "attack_plateau": {"value": "unit"},
    "attack_drift": {"rate": "unit/s"},
    "attack_playback": {"delay_s": "s"},
    "attack_flooding": {"rate_hz": "1/s", "value": "unit"},
}
OF_ONE_SIGNAL = (
    *("sensor_stuck", "sensor_drift", "sensor_noise", "sensor_offset", "sensor_dropout"),
    *("attack_plateau", "attack_drift", "attack_playback"),
)
BABBLE_HZ, FLOOD_HZ = 500.0, 200.0  # frames a second, besides the real ones
MOST_HZ = 10_000.0  # a 500 kbit/s bus carries about 8,000 of the shortest frames


def injection_kind(name: str) -> FaultKind:
    """The kind of this short name or code. Raises ScenarioError with those that can be injected."""
    code = SHORT_NAMES.get(name.replace("-", "_"), name)
    if code not in SHORT_NAMES.values():
        raise ScenarioError(f"no fault {name!r} that can be injected; there are: {', '.join(SHORT_NAMES)}")
    return fault_kind(code)


@dataclass(frozen=True)
class InjectionPlan:
    """kind: of the groups sensor, network, attack. targets: one message, or all that fall silent. from_ns, to_ns: half open."""

    kind: FaultKind
    targets: tuple[Target, ...]
    from_ns: int
    to_ns: int
    seed: int
    parameters: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        code, given = self.kind.code, self.parameters
        allowed = PARAMETERS.get(code, {})
        for key in given:
            if key not in allowed:
                raise ScenarioError(f"{code}: no parameter {key!r}; expected {', '.join(allowed) or 'none'}")
        if not self.targets:
            raise ScenarioError(f"{code}: expected a signal or a message, found neither")
        if code in OF_ONE_SIGNAL and not self.targets[0].signal:
            raise ScenarioError(f"{code}: expected one signal, found the message {self.targets[0].name}")
        if code != "control_unit_silent" and code != "attack_suppression" and len(self.targets) > 1:
            raise ScenarioError(f"{code}: expected one message, found {len(self.targets)}")
        if self.to_ns <= self.from_ns:
            raise ScenarioError(f"{code}: expected an end after the begin, found a length of {(self.to_ns - self.from_ns) / 1e9:g} s")
        for key, low, high in (("share", 0.0, 1.0), ("gap_s", 0.0, np.inf), ("delay_s", 0.0, np.inf), ("rate_hz", 0.0, MOST_HZ)):
            if key in given and not low < given[key] <= high:
                raise ScenarioError(f"{code}: {key}: expected more than {low:g} and at most {high:g}, found {given[key]:g}")
        if any(not np.isfinite(value) for value in given.values()):
            raise ScenarioError(f"{code}: expected finite numbers, found {dict(given)}")

    @property
    def for_s(self) -> float:
        return (self.to_ns - self.from_ns) / 1e9


class Injection:
    """Changes the frames of the targets inside the window, and nothing else."""

    def __init__(self, plan: InjectionPlan, seen: Spread | None = None, add: Add | None = None) -> None:
        """seen: what the signal was like in the log, for parameters that are not given. add: takes the truth's rows."""
        self.plan = plan
        self.target = plan.targets[0]
        self._rng = np.random.default_rng(np.random.SeedSequence(plan.seed))
        self._add = add or (lambda *row: None)
        self.changed = self.added = self.removed = self.clipped = 0
        self.before, self.after = Spread(), Spread()
        self.parameters = dict(plan.parameters)
        self._counter: int | None = None
        self._value: ValueFault | None = None
        self._babble: Babble | None = None
        code, checks = plan.kind.code, self.target.checks
        self._guarded = self._only_guarding()
        if code in OF_ONE_SIGNAL:
            self._value = self._value_fault(seen)
        elif code in ("control_unit_babbling", "attack_flooding"):
            rate = self.parameters.setdefault("rate_hz", BABBLE_HZ if code == "control_unit_babbling" else FLOOD_HZ)
            forged = None
            if code == "attack_flooding":
                forged = (self.target.signal, self._default("value", self._usual(seen)[1]) if self.target.signal else 0.0)
            self._babble = Babble(plan.from_ns, plan.to_ns, round(1e9 / rate), checks, forged)
        elif code == "counter_error" and checks.counter is None:
            raise InjectionError(f"{self.target.name}: no alive counter is declared and none was found; name it by --check")
        elif code == "checksum_error" and not checks.checksums:
            raise InjectionError(f"{self.target.name}: no checksum is declared and no rule was found; name it by --check")

    def feed(self, block: FrameBlock) -> FrameBlock:
        """The block as it is with the fault. Blocks come in the order of the log."""
        code = self.plan.kind.code
        if not len(block):
            return block
        if code in ("control_unit_silent", "attack_suppression"):
            return self._without(block)
        mine = np.flatnonzero(self.target.frames(block))
        if self._babble is not None:
            return self._with_more(block, mine)
        if not len(mine):
            return block
        stamps = block.timestamp_ns[mine]
        inside = (stamps >= self.plan.from_ns) & (stamps < self.plan.to_ns)
        if self._value is None and not inside.any():
            data = np.ascontiguousarray(block.data[mine])
            if code == "counter_error" and int(stamps[-1]) < self.plan.from_ns:
                self._counter = stop_counter(self.target.checks, data, inside, self._counter)
            return block
        old = np.ascontiguousarray(block.data[mine])
        new = old.copy()
        if self._value is not None:
            self._change_values(new, block.length[mine], stamps)
        elif code == "counter_error":
            self._counter = stop_counter(self.target.checks, new, inside, self._counter)
            self._row(stamps[inside], "changed", self._counters(old)[inside], self._counters(new)[inside])
        else:
            damage_checksums(self.target.checks, new, inside, self._rng)
            told = self.target.checks.checksums[0].field.place
            self._row(stamps[inside], "changed", told.read(old[inside]).astype(np.float64), told.read(new[inside]).astype(np.float64))
        touched = (old != new).any(axis=1)
        if not touched.any():
            return block
        self.changed += int(np.count_nonzero(touched))
        data = block.data.copy()
        data[mine] = new
        return replace(block, data=data)

    def apply(self, elapsed_s: NDArray[np.float64], value: NDArray[np.float64]) -> NDArray[np.float64]:
        """(m,) values of one signal's ticks, instead of frames; clipped to what its bits can carry. elapsed_s: since the onset."""
        low, high = self.target.signal[0].bounds
        if self._value is None:  # flooding: the forged frame is the last one of nearly every second
            forged = self.parameters["value"]
            return np.where((elapsed_s >= 0) & (elapsed_s < self.plan.for_s), forged, value)
        return np.clip(self._value.apply(elapsed_s, value), low, high)

    def truth(self) -> dict[str, Any]:
        """What was done."""
        plan, target = self.plan, self.target
        checks = target.checks
        value = plan.kind.code in OF_ONE_SIGNAL or plan.kind.code == "attack_flooding"
        damaged = {"counter_error": "counter", "checksum_error": "checksums"}.get(plan.kind.code)
        document: dict[str, Any] = {
            "kind": plan.kind.code,
            "group": plan.kind.group,
            "words": plan.kind.words,
            "signal": target.signal_name,
            "unit": target.unit,
            "messages": [{"name": one.name, "frame_id": f"0x{one.frame_id:X}", "channel": one.channel} for one in plan.targets],
            "from_ns": plan.from_ns,
            "to_ns": plan.to_ns,
            "seed": plan.seed,
            "parameters": self.parameters,
            "frames": {"changed": self.changed, "added": self.added, "removed": self.removed, "clipped": self.clipped},
        }
        if value and target.signal:
            document["before"], document["after"] = self.before.to_dict(), self.after.to_dict()
        if plan.kind.code not in ("control_unit_silent", "attack_suppression"):
            document["checks"] = {
                "counter": checks.counter.describe() if checks.counter else None,
                "checksums": [rule.describe() for rule in checks.checksums],
                "kept_right": [rule.field.name for rule in self._guarded] if damaged != "checksums" else [],
                "damaged": damaged,
            }
        return document

    def _only_guarding(self) -> list[ChecksumRule]:
        """Checksums that change with the signal."""
        if not self.target.signal:
            return list(self.target.checks.checksums)
        return [rule for rule in self.target.checks.checksums if any(guards(rule, part) for part in self.target.signal)]

    def _change_values(self, data: NDArray[np.uint8], length: NDArray[np.uint8], stamps: NDArray[np.int64]) -> None:
        """In place. A value that says "no value" stays so, unless the fault knows better."""
        assert self._value is not None
        for part in self.target.signal:
            there = np.flatnonzero(part.place.present(data, length))
            if not len(there):
                continue
            payload = np.ascontiguousarray(data[there])
            told = part.place.read(payload)
            before = part.value(payload)
            before[told > np.uint64(part.highest)] = np.nan
            elapsed = (stamps[there] - self.plan.from_ns) / 1e9
            after = self._value.apply(elapsed, before)
            inside = (elapsed >= 0) & (elapsed < self.plan.for_s) & ~(np.isnan(after) & np.isnan(before))
            if self.plan.kind.code == "sensor_dropout":
                inside &= np.isnan(after)
            if not inside.any():
                continue
            forged = np.ascontiguousarray(payload[inside])
            low, high = part.bounds
            wanted = after[inside]
            self.clipped += int(np.count_nonzero((wanted < low) | (wanted > high)))
            now = part.write(forged, wanted)
            for rule in self._guarded:
                rule.write(forged, self.target.checks.counter)
            data[there[inside]] = forged
            self.before.feed(before[inside])
            self.after.feed(now)
            self._row(stamps[there[inside]], "changed", before[inside], now)

    def _counters(self, data: NDArray[np.uint8]) -> NDArray[np.float64]:
        assert self.target.checks.counter is not None
        return self.target.checks.counter.read(data).astype(np.float64)

    def _without(self, block: FrameBlock) -> FrameBlock:
        lost = np.zeros(len(block), np.bool_)
        inside = (block.timestamp_ns >= self.plan.from_ns) & (block.timestamp_ns < self.plan.to_ns)
        if not inside.any():
            return block
        for number, target in enumerate(self.plan.targets):
            mine = target.frames(block) & inside
            at = np.flatnonzero(mine)
            if len(at):
                self._add(block.timestamp_ns[at], number, "removed", None, None)
                lost |= mine
        self.removed += int(np.count_nonzero(lost))
        return keep(block, ~lost) if lost.any() else block

    def _with_more(self, block: FrameBlock, mine: NDArray[np.intp]) -> FrameBlock:
        assert self._babble is not None
        added = self._babble.feed(block, mine)
        if added is None or not len(added.timestamp_ns):
            return block
        self.added += len(added.timestamp_ns)
        value = None
        if self.target.signal:
            value = self.target.signal[0].value(np.ascontiguousarray(added.data[:, : added.length]))
            self.after.feed(value)
        self._row(added.timestamp_ns, "added", None, value)
        return insert(block, added)

    def _row(self, stamps: NDArray[np.int64], what: str, before: NDArray[np.float64] | None, after: NDArray[np.float64] | None) -> None:
        self._add(stamps, 0, what, before, after)

    def _usual(self, seen: Spread | None) -> tuple[float, float, float]:
        """Lowest, highest and deviation: of the log; without one, or of a signal that stands still there, of what the DBC says."""
        part = self.target.signal[0]
        low, high = float(part.schema.minimum[part.number]), float(part.schema.maximum[part.number])
        if not low < high:
            low, high = part.bounds
        if not np.isfinite(high - low) or high - low > 1e9:
            low, high = 0.0, 1.0
        if seen is not None and seen.count and seen.deviation > 0:
            return seen.minimum, seen.maximum, seen.deviation
        return low, high, (high - low) / 10

    def _default(self, key: str, value: float) -> float:
        return self.parameters.setdefault(key, value)

    def _value_fault(self, seen: Spread | None) -> ValueFault:
        """Sizes that are not given are a few deviations of the signal in the log: to be seen, and not absurd."""
        for_s, code = self.plan.for_s, self.plan.kind.code
        _, high, deviation = self._usual(seen)
        if code == "sensor_stuck":
            return Stuck(for_s)
        if code == "sensor_noise":
            return Noise(for_s, self._default("deviation", deviation), self._rng)
        if code == "sensor_offset":
            return Offset(for_s, self._default("amount", 2 * deviation))
        if code == "sensor_dropout":
            return Dropout(for_s, self._default("share", 0.5), self._default("gap_s", 1.0), self._rng)
        if code == "attack_plateau":
            return Plateau(for_s, self._default("value", high))
        if code == "attack_playback":
            return Playback(for_s, self._default("delay_s", for_s))
        rate = self._default("rate", 3 * deviation / for_s)
        return Drift(for_s, rate) if code == "sensor_drift" else ContinuousDrift(for_s, rate)
