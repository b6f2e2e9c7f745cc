"""The ladder: a rung is kept only where it beats the one below at the same false-alarm rate, on validation data.

Each rung's threshold is set on the same healthy drives, so that the same share of them alarms; then the same faults are looked for. A rung
beats another if it finds more of them (one-sided exact McNemar test of the faults that one of the two found alone: McNemar 1947,
Psychometrika 12; exact as in Agresti 2002, section 10.1), or finds no fewer and is earlier (sign test of the delays of those that both
found). A rung that only looks better by chance costs its place on the vehicle and is dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from models.evaluation.confidence import Figure, share
from models.evaluation.events import Event, Judged
from models.manifest import Manifest, Persistence

__all__ = ["LEVEL", "Rung", "Step", "climb", "persistent", "sign_test"]

LEVEL = 0.05


@dataclass
class Rung:
    """One pack over the validation data; give `see` as `each` of `models.evaluation.judging.run`."""

    manifest: Manifest
    healthy: list[float]
    """highest persistent score of each drive's healthy ticks"""
    events: list[tuple[str, NDArray[np.float64], NDArray[np.float64]]]
    """of each fault: its drive and onset; (n,) persistent scores in it; (n,) seconds since its onset"""

    def see(self, judged: Judged, events: list[Event], _counted: object = None) -> None:
        """One drive."""
        own = [event for event in events if event.fault_code in (None, self.manifest.fault_code)]
        rule = self.manifest.persistence
        valid = np.isfinite(judged.score)
        healthy = valid.copy()
        for event in events:
            healthy &= (judged.tick_ms < event.begin_ms) | (judged.tick_ms >= event.end_ms)
        if (judged.tick_ms < min((event.begin_ms for event in events), default=2**62)).any():
            calm = persistent(judged.score[healthy][rule.warmup_ticks :], rule)
            self.healthy.append(float(calm.max(initial=0.0)))
        for event in own:
            inside = (judged.tick_ms >= event.begin_ms) & (judged.tick_ms < event.end_ms)
            if inside.any():
                seconds = (judged.tick_ms[inside & valid] - event.begin_ms) / 1000
                self.events.append((f"{judged.source}@{event.begin_ms}", persistent(judged.score[inside & valid], rule), seconds))


@dataclass(frozen=True)
class Step:
    """A rung against the best below it. found: by itself. more, fewer: faults that it alone found, that the lower alone found."""

    name: str
    rung: str
    threshold: float
    alarmed: int
    drives: int
    found: Figure
    delay_s: float | None
    more: int
    fewer: int
    p_found: float
    p_earlier: float
    kept: bool

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"found": self.found.to_dict()}


def climb(rungs: Sequence[Rung], false_alarms: float = 0.0) -> list[Step]:
    """Steps from the lowest rung up. false_alarms: share of the healthy drives that may alarm, the same for each rung.

    All rungs have seen the same drives. Raises ValueError if they have not.
    """
    first = rungs[0]
    if any([event[0] for event in rung.events] != [event[0] for event in first.events] for rung in rungs):
        raise ValueError("the rungs have not seen the same faults")
    allowed = int(false_alarms * len(first.healthy))
    steps: list[Step] = []
    best: NDArray[np.float64] | None = None
    for rung in rungs:
        calm = np.sort(np.array([*rung.healthy, 0.0]))[::-1]
        threshold = float(np.nextafter(calm[min(allowed, len(calm) - 1)], np.inf))
        delays = np.array([_delay(scores, seconds, threshold) for _, scores, seconds in rung.events])
        found = np.isfinite(delays)
        more = fewer = 0
        p_found = p_earlier = 1.0
        kept = best is None
        if best is not None:
            had = np.isfinite(best)
            more, fewer = int((found & ~had).sum()), int((had & ~found).sum())
            p_found = sign_test(more, fewer)
            both = found & had
            p_earlier = sign_test(int((delays[both] < best[both]).sum()), int((delays[both] > best[both]).sum()))
            kept = p_found <= LEVEL or (more >= fewer and p_earlier <= LEVEL)
        steps.append(
            Step(
                name=rung.manifest.pack_id,
                rung=rung.manifest.rung,
                threshold=threshold,
                alarmed=int((np.array(rung.healthy) >= threshold).sum()),
                drives=len(rung.healthy),
                found=share(found.astype(np.float64), np.ones(len(found))),
                delay_s=float(np.median(delays[found])) if found.any() else None,
                more=more,
                fewer=fewer,
                p_found=p_found,
                p_earlier=p_earlier,
                kept=kept,
            )
        )
        if kept:
            best = delays
    return steps


def persistent(score: NDArray[np.float64], rule: Persistence) -> NDArray[np.float64]:
    """(n,) the threshold at or under which `need` of the last `of` scores (n,) lie; 0 before there are `need`."""
    if not len(score):
        return np.zeros(0)
    padded = np.concatenate([np.full(rule.of - 1, -np.inf), score])
    windows = sliding_window_view(padded, rule.of)
    lasting = np.partition(windows, rule.of - rule.need, axis=1)[:, rule.of - rule.need]
    return np.where(np.isfinite(lasting), lasting, 0.0)


def sign_test(wins: int, losses: int) -> float:
    """One-sided exact p-value of at least so many wins among wins and losses, if both were as likely."""
    trials = wins + losses
    chances = np.ones(1)
    for _ in range(trials):
        chances = np.convolve(chances, [0.5, 0.5])
    return float(min(1.0, chances[wins:].sum()))


def _delay(scores: NDArray[np.float64], seconds: NDArray[np.float64], threshold: float) -> float:
    over = np.flatnonzero(scores >= threshold)
    return float(seconds[over[0]]) if len(over) else np.inf
