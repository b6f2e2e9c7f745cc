"""Joint packs (models/joint.py) on many vehicles at once, tick after tick, while they are being simulated.

A column is a lane, as in stream.py, and each keeps what its tests look back on. The large product is of single floats, which takes half of
the time; means are running sums, begun anew with every stretch. Scores agree with the runtime's to a thousandth.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.joint import CLIP, STILL_SHARE, STILL_TINY, TESTS, Joint

__all__ = ["JointScores"]

WIDTH = 256
"""Lanes that are scored together, so that the minute and a half that they look back on stays in the processor's cache."""

Singles = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass
class _Kept:
    """Of all lanes. own: (longest span, m, lanes) newest scaled values. left: (newest, m, lanes) of what remains, or, of the judges of
    steps, the sizes of the newest steps. last: (m, lanes) what a step begins at. inside: (lanes,) ticks in a row in the trained range."""

    own: Singles
    left: NDArray[np.float32] | NDArray[np.float64]
    last: Floats
    inside: NDArray[np.int64]


class JointScores:
    """Scores of one joint detector on `lanes` lanes; call it with the next ticks of some of them."""

    def __init__(self, joint: Joint, lanes: int) -> None:
        self.joint = joint
        self.window = joint.window
        m = len(joint.monitored)
        self._averages = joint.judge in TESTS
        back = max(lag + size for lag, size in joint.boxes) if self._averages else len(joint.boxes) - 1
        self._kept = _Kept(
            np.zeros((joint.back, m, lanes), np.float32),
            np.zeros((back, m, lanes), np.float32) if self._averages else np.zeros((back, m, lanes)),
            np.zeros((m, lanes)),
            np.zeros(lanes, np.int64),
        )
        self._bounded = np.flatnonzero(np.isfinite(joint.low) | np.isfinite(joint.high))
        self._low, self._high = (bound[self._bounded, None] for bound in (joint.low, joint.high))
        self._centre, self._spread = (of.astype(np.float32)[:, None] for of in (joint.centre, joint.spread))
        self._weights: Singles = np.ascontiguousarray(joint.weights.T, np.float32)
        self._bias = joint.bias.astype(np.float32)[:, None]

    def __call__(self, lane: NDArray[np.intp], values: Singles, whole: NDArray[np.int64]) -> tuple[Floats, NDArray[np.bool_]]:
        """(t, n) scores, and whether each is judged. lane: (n,). values: (t, k, n) of the inputs; whole: as stream.Ticks."""
        score, judged = np.zeros(whole.shape), np.zeros(whole.shape, np.bool_)
        for first in range(0, len(lane), WIDTH):
            part = slice(first, first + WIDTH)
            self._part(lane[part], values[:, :, part], whole[:, part], score[:, part], judged[:, part])
        return score, judged

    def _part(self, lane: NDArray[np.intp], values: Singles, whole: NDArray[np.int64], score: Floats, judged: NDArray[np.bool_]) -> None:
        kept = self._kept
        mine = values[:, self._bounded]
        inside = ((mine >= self._low) & (mine <= self._high)).all(axis=1) & (whole > 0)
        run = kept.inside[lane]
        for row in range(len(values)):
            run = (run + 1) * inside[row]
            judged[row] = np.minimum(run, whole[row]) >= self.window
        kept.inside[lane] = run
        scaled = np.where((whole > 0)[:, None, :], values, self._centre)  # what is no tick may be anything
        scaled -= self._centre
        scaled /= self._spread
        np.clip(scaled, -CLIP, CLIP, out=scaled)
        if self._averages:
            self._apart(lane, scaled, score)
        else:
            self._steps(lane, scaled, score)

    def _apart(self, lane: NDArray[np.intp], scaled: Singles, score: Floats) -> None:
        """The judges of averages."""
        joint, kept = self.joint, self._kept
        t, k, n = scaled.shape
        m, back, spans = len(joint.monitored), joint.back, joint.spans
        own = np.empty((back + t, m, n), np.float32)
        own[:back] = kept.own[:, :, lane]
        length = len(kept.left)
        left = np.empty((length + t, m, n), np.float32)
        left[:length] = kept.left[:, :, lane]
        features = np.empty((self._weights.shape[1], n), np.float32)
        spanned = [own[back - span : back].sum(axis=0) for span in spans]
        # Of each box the sum, as it was one tick before the first.
        boxes = joint.boxes
        sums = [left[length - lag - size : length - lag].sum(axis=0) for lag, size in boxes]
        shares = [(1 / np.maximum(limits, 1e-30)).astype(np.float32)[:, None] for limits in joint.limits]
        strength, test = np.empty((m, n), np.float32), np.empty((m, n), np.float32)
        for row in range(t):
            features[:k] = scaled[row]
            own[back + row] = scaled[row][joint.monitored]
            for at, (span, total) in enumerate(zip(spans, spanned, strict=True)):
                np.multiply(total, np.float32(1 / span), out=features[k + at * m : k + (at + 1) * m])
                total += own[back + row]
                total -= own[back + row - span]
            np.multiply(scaled[row][joint.pairs[:, 0]], scaled[row][joint.pairs[:, 1]], out=features[k + len(spans) * m :])
            here = left[length + row]
            np.matmul(self._weights, features, out=here)
            here -= self._bias
            for (lag, size), total in zip(boxes, sums, strict=True):
                total += left[length + row - lag]
                total -= left[length + row - lag - size]
            for number, coefficients in enumerate(TESTS[joint.judge]):
                fresh = True
                for coefficient, (_, size), total in zip(coefficients.tolist(), boxes, sums, strict=True):
                    if not coefficient:
                        continue
                    if fresh:
                        np.multiply(total, np.float32(coefficient / size), out=test)
                        fresh = False
                    else:
                        test += total * np.float32(coefficient / size)
                np.abs(test, out=test)
                test *= shares[number]
                if number:
                    np.maximum(strength, test, out=strength)
                else:
                    strength[:] = test
            score[row] = strength.max(axis=0)
        np.square(score, out=score)
        kept.own[:, :, lane] = own[t:]
        kept.left[:, :, lane] = left[t:]

    def _steps(self, lane: NDArray[np.intp], scaled: Singles, score: Floats) -> None:
        """The judges of steps from tick to tick, in doubles: what hardly moves is far smaller than what once jumped."""
        joint, kept = self.joint, self._kept
        t, _, n = scaled.shape
        m, count = len(joint.monitored), len(joint.boxes) - 1
        left = np.empty((t + 1, m, n))
        left[0] = kept.last[:, lane]
        if len(joint.weights):
            for row in range(t):
                features = np.concatenate([scaled[row], scaled[row][joint.pairs[:, 0]] * scaled[row][joint.pairs[:, 1]]])
                np.subtract(self._weights @ features, self._bias, out=left[row + 1])
        else:
            left[1:] = scaled[:, joint.monitored]
        sizes = np.empty((count + t, m, n))
        sizes[:count] = kept.left[:, :, lane]
        np.subtract(left[1:], left[:-1], out=sizes[count:])
        if joint.judge == "still":
            np.abs(sizes[count:], out=sizes[count:])
        else:
            np.square(sizes[count:], out=sizes[count:])
        kept.left[:, :, lane], kept.last[:, lane] = sizes[t:], left[t]
        total = sizes[:count].sum(axis=0)
        limits = joint.limits[0][:, None]
        for row in range(t):
            total += sizes[count + row]
            total -= sizes[row]
            mean = np.maximum(total, 0.0) / count
            strength = limits / (mean + STILL_SHARE * limits + STILL_TINY) if joint.judge == "still" else mean / limits**2
            score[row] = strength.max(axis=0)
