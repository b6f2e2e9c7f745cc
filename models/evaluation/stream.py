"""Packs on thousands of vehicles at once, tick after tick, while they are being simulated: what `models.judge.PackJudge` says, in bulk.

Every array has one column a lane; a lane is a stretch of one vehicle's ticks. Scores come from the constants of the pack's graph
(models/evaluation/batch.py), means from running sums. Alarm, drives and baseline are stepped exactly, but only where something can happen:
lanes that are judged throughout a stretch without a tick over the threshold take a few sums. Scores of joint packs come from
models/evaluation/stream_joint.py. What is left over are events, from which models/evaluation/stitched.py makes findings. No simulated car
drives for a day without a pause, so a drive's longest (models/drives.py) is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.autoencoder import leftover
from models.baseline import BaselineState
from models.calibrate import CLEAR
from models.errors import TrainingDataError
from models.evaluation.batch import detector_of
from models.evaluation.stream_joint import JointScores
from models.fit import LEAST_BASIS, Detector
from models.joint_graph import joint_of
from models.pack import Pack

__all__ = ["CLEARED", "EVIDENCE", "RAISED", "SURE", "Event", "StreamJudge", "Ticks"]

RAISED, CLEARED, EVIDENCE, SURE = "raised", "cleared", "evidence", "sure"
WIDTH = 4096
"""Lanes that are scored together, so that their ticks stay in the processor's cache."""

NOTHING = np.zeros(0)

Floats = NDArray[np.float64]
Numbers = NDArray[np.intp]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Ticks:
    """The next ticks of n lanes, and some rows before them.

    lane: (n,) their numbers among all lanes, ascending. back: rows at the beginning that were judged before, and are only looked back on.
    time_s: (t, n). values: (back + t, k, n), of `StreamJudge`'s signals. whole: (t, n) how many ticks in a row, up to this one, follow one
    another by a second with a value; 0: no tick.
    """

    lane: Numbers
    back: int
    time_s: Floats
    values: NDArray[np.float32]
    whole: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a pack noticed. drive: how many drives that count were over in its lane. sure: the score confirms by itself."""

    kind: str
    lane: int
    time_s: float
    drive: int
    sure: bool = False


@dataclass
class _State:
    """Of all lanes; as models.alarm.AlarmState and models.drives.DriveState, times in s."""

    known: NDArray[np.int64]
    last_s: Floats
    quiet: NDArray[np.int64]
    active: Mask
    ring: NDArray[Any]
    over: NDArray[np.int64]
    sure_ring: NDArray[np.bool_]
    sure_over: NDArray[np.int64]
    sure: Mask
    drive_s: Floats
    ticks: NDArray[np.int64]
    evidence: Mask
    held: Mask
    drives: NDArray[np.int64]
    total: Floats
    learned: Mask
    baseline: Floats
    judged: NDArray[np.int64]
    peak: Floats
    means: list[BaselineState] = field(default_factory=list)


class StreamJudge:
    """One pack on all lanes.

    events: what happened, in no order over lanes, in time's order within each. drives: (lanes,) drives that counted and are over.
    judged: (lanes,) judged ticks. peaks: with a `floor`, (lane, drive, score) of each drive: the highest score that lasted `need` of `of`
    ticks, where that is `floor` at least.
    """

    def __init__(
        self,
        pack: Pack,
        signals: Sequence[str],
        lanes: int,
        learning: bool,
        lane_baseline: Floats | None = None,
        floor: float | None = None,
    ) -> None:
        """signals: those of the values. learning: baselines are being learned; otherwise they are lane_baseline (m, lanes), NaN where the
        vehicle has none. floor: instead of the pack's threshold. Raises TrainingDataError where the pack's graph is of another make."""
        self._detector, joint = detector_of(pack.model), joint_of(pack.model)
        if self._detector is None and joint is None:
            raise TrainingDataError(
                f"pack {pack.folder}: its graph is of another make; only packs of `cansight models train` are judged in bulk"
            )
        self.pack = pack
        self._joint = JointScores(joint, lanes) if joint is not None else None
        manifest = pack.manifest
        self._alarm, self._sure = manifest.alarm(), manifest.sure()
        self._floor = floor
        if floor is not None:
            self._alarm, self._sure = replace(self._alarm, raise_at=floor, clear_below=CLEAR * floor), None
        self._drives, self._rule = manifest.drive_rule(), manifest.baselines()
        self._learning = learning and self._rule is not None
        self._columns = np.array([list(signals).index(name) for name in manifest.names], np.intp)
        self.monitored = m = len((joint or self.detector).monitored)
        whole, no = np.zeros(lanes, np.int64), np.zeros(lanes, np.bool_)
        baseline = np.full((m, lanes), np.nan) if lane_baseline is None else lane_baseline
        of = self._alarm.of
        self.state = _State(
            known=whole.copy(), last_s=np.full(lanes, -np.inf), quiet=whole.copy(), active=no.copy(),
            ring=np.zeros((of, lanes), np.bool_ if floor is None else np.float64), over=whole.copy(),
            sure_ring=np.zeros((of if self._sure else 1, lanes), np.bool_), sure_over=whole.copy(), sure=no.copy(),
            drive_s=np.full(lanes, -np.inf), ticks=whole.copy(), evidence=no.copy(), held=no.copy(), drives=whole.copy(),
            total=np.zeros((m, lanes)), learned=np.asarray(np.isfinite(baseline).all(axis=0)), baseline=np.nan_to_num(baseline),
            judged=whole.copy(),
            peak=np.zeros(lanes), means=[BaselineState()] * lanes if self._learning else [],
        )  # fmt: skip
        self.events: list[Event] = []
        self.peaks: list[tuple[int, int, float]] = []

    @property
    def detector(self) -> Detector:
        """Of a pack that is not joint."""
        assert self._detector is not None
        return self._detector

    @property
    def back(self) -> int:
        """Rows before a tick that must come with it. A joint detector keeps its own."""
        return 0 if self._joint is not None else self.detector.window - 1

    def feed(self, ticks: Ticks) -> None:
        """The next ticks; each lane's come in order."""
        if self._joint is not None:
            score, judged = self._joint(ticks.lane, ticks.values[ticks.back :, self._columns], ticks.whole)
            if judged.any():
                self.state.judged[ticks.lane] += judged.sum(axis=0)
                self._step(ticks.lane, ticks.time_s, judged, score, NOTHING, NOTHING)
            return
        for first in range(0, len(ticks.lane), WIDTH):
            part = slice(first, first + WIDTH)
            self._feed(
                ticks.lane[part],
                ticks.time_s[:, part],
                ticks.values[ticks.back - self.back :, :, part],
                ticks.whole[:, part],
            )

    @property
    def complete(self) -> Mask:
        """(lanes,) whether each lane has all the drives that its baseline is made of."""
        if not self._learning or self._rule is None:
            return np.ones(len(self.state.known), np.bool_)
        return np.array([len(one.drives) >= self._rule.most for one in self.state.means])

    def baselines(self) -> Floats:
        """(m, lanes) in force; NaN where there is none."""
        return np.where(self.state.learned, self.state.baseline, np.nan)

    def _feed(self, lane: Numbers, time_s: Floats, values: NDArray[np.float32], whole: NDArray[np.int64]) -> None:
        detector, state = self.detector, self.state
        judged = whole >= detector.window
        if not judged.any():
            return
        mine = values[:, self._columns].astype(np.float64)
        for column in np.flatnonzero(np.isfinite(detector.low) | np.isfinite(detector.high)).tolist():
            outside = (mine[:, column] < detector.low[column]) | (mine[:, column] > detector.high[column])
            if outside.any():
                total = np.concatenate([np.zeros((1, outside.shape[1]), np.int64), np.cumsum(outside, axis=0)])
                judged &= total[detector.window :] == total[: -detector.window]
        if not judged.any():
            return
        units, basis = self._deviations(mine)
        score = self._scores(units, basis, lane)
        state.judged[lane] += judged.sum(axis=0)
        if not self._learning:
            self._step(lane, time_s, judged, score, units, basis)
            return
        # A baseline changes where a drive ends: the stretch is taken drive by drive, and scored anew after each change.
        before = np.where(judged, time_s, -np.inf)
        newest = np.maximum.accumulate(np.concatenate([state.drive_s[lane][None], before]), axis=0)[:-1]
        breaks = judged & np.isfinite(newest) & ((time_s - newest) * 1000 > self._drives.gap_ms)
        part_of = np.cumsum(breaks, axis=0)
        for part in range(int(part_of.max()) + 1):
            here = judged & (part_of == part)
            some = np.flatnonzero(here.any(axis=0))
            if not len(some):
                continue
            lanes = lane[some]
            if part:
                self._end_drives(lanes)
                parts = units[:, :, some], basis if basis.ndim == 1 else basis[:, :, some]
                score[:, some] = self._scores(*parts, lanes)
            self._step(
                lanes, time_s[:, some], here[:, some], score[:, some], units[:, :, some], basis if basis.ndim == 1 else basis[:, :, some]
            )

    def _deviations(self, mine: Floats) -> tuple[Floats, Floats]:
        """(m, t, n) window means minus expected values; (m, t, n) basis of the baseline, or (1,) where it is always 1."""
        d = self.detector
        linear: list[list[Floats | float]] = []
        spans = [int(np.count_nonzero(row)) for row in d.kernel]
        scaled = [(mine[:, column] - centre) / spread for column, centre, spread in zip(d.context, d.centre, d.spread, strict=True)]
        terms = scaled + [scaled[i] * scaled[j] for i, j in d.pairs]
        for rank in range(len(spans)):
            weights = d.weights[rank * len(terms) : (rank + 1) * len(terms)]
            linear.append([sum(weight * term for weight, term in zip(of, terms, strict=True)) for of in weights.T])
        units = []
        for row, column in enumerate(d.monitored):
            difference = _means(mine[:, column] - d.bias[row], d.average, d.window)
            for span, of in zip(spans, linear, strict=True):
                difference -= _means(of[row], span, d.window)
            units.append(difference)
        if not (d.own and d.slope.any()):
            return np.array(units), np.ones(1)
        basis = []
        for row, column in enumerate(d.monitored):
            expected = _means(mine[:, column], d.average, d.window) - units[row]
            basis.append(np.maximum(d.fixed[row] + d.slope[row] * expected, LEAST_BASIS))
        return np.array(units), np.array(basis)

    def _scores(self, units: Floats, basis: Floats, lane: Numbers) -> Floats:
        d, state = self.detector, self.state
        if d.own:
            units = units - state.baseline[:, lane][:, None] * basis
        remains = units / d.scale[:, None, None]
        if d.layers:
            remains = np.moveaxis(
                leftover(d.layers, np.moveaxis(remains, 0, -1).reshape(-1, len(d.scale))).reshape(*units.shape[1:], -1), -1, 0
            )
        if d.separate:
            score = (remains**2 * np.diag(d.form)[:, None, None]).max(axis=0)
        else:
            score = np.zeros(units.shape[1:])
            for row, one in enumerate(remains):
                pull = sum(d.form[row, other] * remains[other] for other in range(len(remains)))
                score += one * pull
        if d.own:
            score *= np.where(state.learned[lane], d.weight(1.0), d.weight(0.0))
        return np.asarray(score, np.float64)

    def _step(self, lane: Numbers, time_s: Floats, judged: Mask, score: Floats, units: Floats, basis: Floats) -> None:
        """Alarm and drives over (t, n) ticks of these lanes."""
        s = self.state
        over = judged & (score >= self._alarm.raise_at)
        calm = ~over.any(axis=0) & (s.over[lane] == 0) & ~s.active[lane] & ~s.sure[lane]
        steady = (
            calm
            & judged.all(axis=0)
            & ((time_s[0] - s.last_s[lane]) * 1000 <= self._alarm.gap_ms)
            & (time_s[-1] - time_s[0] == len(time_s) - 1)
        )
        steady &= np.isfinite(s.drive_s[lane])
        of, gap = lane[steady], len(time_s)
        s.known[of] += gap
        s.last_s[of] = s.drive_s[of] = time_s[-1, steady]
        s.ticks[of] += gap
        if self._learning:
            self._sum(of, np.ones((gap, len(of)), np.bool_), units[:, :, steady], basis if basis.ndim == 1 else basis[:, :, steady])
        rest = np.flatnonzero(~steady & judged.any(axis=0))
        if not len(rest):
            return
        some = lane[rest]
        judged, score, time_s = judged[:, rest], score[:, rest], time_s[:, rest]
        if self._learning:  # drives end between parts alone, so one sum does
            self._sum(some, judged, units[:, :, rest], basis if basis.ndim == 1 else basis[:, :, rest])
        for row in range(len(judged)):
            now = judged[row]
            if now.any():
                at = np.flatnonzero(now)
                self._tick(some[at], time_s[row, at], score[row, at])

    def _sum(self, lane: Numbers, judged: Mask, units: Floats, basis: Floats) -> None:
        offsets = units / (basis if basis.ndim > 1 else 1.0)
        self.state.total[:, lane] += np.where(judged, offsets, 0.0).sum(axis=1)

    def _tick(self, lane: Numbers, now_s: Floats, score: Floats) -> None:
        """One judged tick of each of these lanes: as PackJudge.step."""
        s, rule = self.state, self._alarm
        ended = np.isfinite(s.drive_s[lane]) & ((now_s - s.drive_s[lane]) * 1000 > self._drives.gap_ms)
        if ended.any():
            self._end_drives(lane[ended])
        late = (now_s - s.last_s[lane]) * 1000 > rule.gap_ms
        if late.any():
            gone = lane[late]
            s.known[gone] = s.quiet[gone] = s.over[gone] = s.sure_over[gone] = 0
            s.ring[:, gone] = s.sure_ring[:, gone] = False
        s.known[lane] += 1
        s.last_s[lane] = now_s
        warm = s.known[lane] > rule.warmup
        looked, value = lane[warm], score[warm]
        high = value >= rule.raise_at
        raised = cleared = lane[:0]
        if high.any() or s.over[looked].any() or s.active[looked].any():
            place = s.known[looked] % rule.of
            s.over[looked] += high.astype(np.int64) - (s.ring[place, looked] > 0)
            s.ring[place, looked] = high if self._floor is None else np.where(high, value, 0.0)
            if self._floor is not None:
                lasts = looked[s.over[looked] >= rule.need]
                s.peak[lasts] = np.maximum(s.peak[lasts], np.partition(s.ring[:, lasts], rule.of - rule.need, axis=0)[rule.of - rule.need])
            s.quiet[looked] = np.where(value < rule.clear_below, s.quiet[looked] + 1, 0)
            if self._sure is not None:
                sure = value >= self._sure.raise_at
                s.sure_over[looked] += sure.astype(np.int64) - s.sure_ring[place, looked]
                s.sure_ring[place, looked] = sure
            active = s.active[looked]
            raised = looked[~active & (s.over[looked] >= rule.need)]
            cleared = looked[active & (s.quiet[looked] >= rule.of)]
            s.active[raised] = True
            s.active[cleared] = False
        shows = s.over[lane] >= rule.need
        s.drive_s[lane] = now_s
        s.ticks[lane] += 1
        first = lane[shows & ~s.evidence[lane]]
        s.evidence[lane] |= shows
        s.held[lane] |= shows | s.active[lane]
        s.held[cleared] = True
        if self._sure is not None:
            sure_now = s.sure_over[lane] >= rule.need
            newly = lane[sure_now & ~s.sure[lane]]
            s.sure[lane] = sure_now
        else:
            newly = lane[:0]
        if len(raised) or len(cleared) or len(first) or len(newly):
            when = dict(zip(lane.tolist(), now_s.tolist(), strict=True))
            for kind, lanes in ((RAISED, raised), (CLEARED, cleared), (EVIDENCE, first), (SURE, newly)):
                for one in lanes.tolist():
                    self.events.append(Event(kind, one, when[one], int(s.drives[one]), bool(s.sure[one])))

    def finish(self) -> None:
        """No lane goes on: the drives at hand are over."""
        self._end_drives(np.flatnonzero(np.isfinite(self.state.drive_s)))

    def _end_drives(self, lane: Numbers) -> None:
        s = self.state
        enough = s.ticks[lane] >= self._drives.least_ticks
        if self._learning and self._rule is not None:
            for one in lane[enough & ~s.held[lane]].tolist():
                before = s.means[one]
                s.means[one] = self._rule.add(before, s.total[:, one] / s.ticks[one])
                value = self._rule.value(s.means[one]) if s.means[one] is not before else None
                if value is not None:
                    s.baseline[:, one], s.learned[one] = value, True
        if self._floor is not None:
            self.peaks += [(int(one), int(s.drives[one]), float(s.peak[one])) for one in lane[s.peak[lane] > 0]]
            s.peak[lane] = 0.0
        s.drives[lane] += enough | s.evidence[lane]
        s.drive_s[lane] = -np.inf
        s.ticks[lane] = 0
        s.evidence[lane] = s.held[lane] = False
        s.total[:, lane] = 0.0


def _means(values: Floats | float, size: int, window: int) -> Floats:
    """(t, n) means over the last `size` rows, at each row of (window - 1 + t, n) but the first window - 1."""
    if isinstance(values, float | int):
        return np.asarray(values)
    last = values[window - size :]
    if size == 1:
        return last.copy()
    total = np.cumsum(last, axis=0)
    result: Floats = np.empty((len(last) - size + 1, last.shape[1]))
    result[0] = total[size - 1]
    np.subtract(total[size:], total[:-size], out=result[1:])
    result /= size
    return result
