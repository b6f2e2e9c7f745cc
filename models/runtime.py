"""Running a pack: one tick in, score, p-value, contributions and expected values out. Light: onnxruntime and NumPy, nothing of training.

A vehicle keeps only the part of the graph that decides whether there is a finding (models/brief_graph.py), and what the whole graph would
say of a tick it asks when there is one.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.brief_graph import part_of
from models.errors import PackError, ScoreError
from models.pack import Pack
from models.session import Array, Bound, give_back, one_line, open_session

__all__ = ["BASELINE", "INPUT", "LEARNED", "NEXT_STATE", "OFFSET", "OUTPUTS", "STATE", "Evidence", "PackRuntime", "Score"]

INPUT = "values"
BASELINE, LEARNED, OFFSET = "baseline", "learned", "offset"
"""Two inputs and an output more, of packs that are judged against a vehicle's own baseline."""
STATE, NEXT_STATE = "state", "next_state"
"""An input and an output more, of packs of the rung following: what one tick leaves for the next, zeros before the first."""
_MOST_STATE = 24
"""Numbers of it for each signal, and as many more."""
SCORE, P_VALUE, CONTRIBUTIONS, EXPECTED, KNOWN = "score", "p_value", "contributions", "expected", "known"
OUTPUTS = (SCORE, P_VALUE, CONTRIBUTIONS, EXPECTED, KNOWN)
_OUTSIDE = "outside the operating range of its training"
_AGREEMENT = 1e-6
"""Between the part and the whole, which onnxruntime may put together differently."""
_ELEMENT: dict[str, type[np.float64] | type[np.float32]] = {"tensor(double)": np.float64, "tensor(float)": np.float32}


class Score(msgspec.Struct, frozen=True):
    """What a pack says of one tick.

    score, p_value: None where there is none; `reason` then says why in a few words.
    contributions: (k,) float64, shares of the score that sum to 1, 0 for context signals.
    expected: (k,) float64 in the signals' units: the value that would be most in keeping with the rest; context signals: their own value.
    known: False outside the trained operating range, where a high score means nothing and no alarm may follow from it.
    """

    score: float | None
    p_value: float | None
    contributions: NDArray[np.float64]
    expected: NDArray[np.float64]
    known: bool
    reason: str = ""
    offset: NDArray[np.float64] | None = None
    """(k,) float64 in the signals' units: the baseline at which this tick would be as expected; of packs with baselines alone."""

    @property
    def judged(self) -> float | None:
        """The score that an alarm may follow from: None where there is none, or outside the trained operating range."""
        return self.score if self.known else None


class Evidence(msgspec.Struct, frozen=True):
    """What a score is made of, in the signals' units: (k,) float64 each, NaN = not known.

    seen, expected: means over the newest ticks that a score averages; of a signal that goes up and down with the car's power, its last
    value and the mean of what is left over would make no sense together. margin: as `PackRuntime.margins`.
    """

    seen: NDArray[np.float64]
    expected: NDArray[np.float64]
    margin: NDArray[np.float64]


class PackRuntime:
    """A pack ready to score ticks, one after another.

    It keeps the pack's window (the last `window` ticks) itself. A tick with an invalid value, or one that does not follow the last by about
    a second, begins the window anew.
    """

    def __init__(self, pack: Pack, brief: bool = False) -> None:
        """Start onnxruntime on the bytes that `Pack.load` checked. Raises PackError if onnxruntime refuses them or they are no detector.

        brief: `score` runs only what decides whether there is a finding, and `explain` gives the rest of the newest tick: almost all ticks
        are quiet, and p-values, contributions and expected values of quiet ticks are nobody's. The whole graph is then started when it is
        asked for, in some milliseconds, and left when the next tick comes.
        """
        self.pack = pack
        self.names: Sequence[str] = pack.manifest.names
        self.window = pack.manifest.window
        self._label = f"pack {pack.folder}"
        self._follows = pack.manifest.rung == "following"
        self._outputs = [*OUTPUTS, *([OFFSET] if pack.manifest.baseline is not None else []), *([NEXT_STATE] if self._follows else [])]
        self._once = brief
        self._session: ort.InferenceSession | None = self._start()
        self._state_size = 0
        self._dtype = self._check_interface(self._session)
        count = len(self.names)
        self._state, self._next = np.zeros(self._state_size, self._dtype), np.zeros(self._state_size, self._dtype)
        self._rows = np.full((self.window, count), np.nan, self._dtype)
        self._flat = self._rows.reshape(-1)  # which NumPy moves in place; of rows that overlap it would make a copy
        self._inputs: dict[str, NDArray[np.floating]] = {INPUT: self._rows}
        if pack.manifest.baseline is not None:
            self._inputs |= {BASELINE: np.zeros(count, self._dtype), LEARNED: np.zeros((), self._dtype)}
        if self._follows:
            self._inputs[STATE] = self._state
        self._filled = 0
        self._last_ms: int | None = None
        self._zeros, self._nans = np.zeros(count), np.full(count, np.nan)
        self._zeros.flags.writeable = self._nans.flags.writeable = False
        found = self._check_outputs()
        self._brief: Bound | None = None
        self._said: dict[str, Array] = {}
        if brief:
            self._session = None
            give_back()
            self._said = {name: np.empty_like(found[name]) for name in self._outputs if name in (SCORE, KNOWN, OFFSET, NEXT_STATE)}
            self._start_brief(float(found[SCORE].item()))
            give_back()
        self.reset()

    def set_baseline(self, baseline: NDArray[np.float64] | None) -> None:
        """The vehicle's own (m,), of the monitored signals in their order and units; None: the fleet's. Of packs with baselines alone."""
        if self.pack.manifest.baseline is None:
            return
        values = self._inputs[BASELINE]
        values[:] = 0
        if baseline is not None:
            values[self.pack.manifest.monitored] = baseline
        self._inputs[LEARNED][...] = baseline is not None

    def reset(self) -> None:
        """Forget the window, and the levels that follow: the next tick is the first. The baseline stays."""
        self._state[:] = self._next[:] = 0
        self._filled = 0
        self._last_ms = None

    @property
    def state(self) -> NDArray[np.float64]:
        """(s,) what the newest tick leaves for the next: of packs of the rung following, of others empty."""
        return self._next.astype(np.float64)

    def go_on(self, state: Sequence[float]) -> None:
        """Take a state (s,) that this model has left."""
        self._next[:] = state

    def score(self, values: NDArray[np.float64], tick_ms: int | None = None) -> Score:
        """Score one tick.

        values: (k,) float64 in the order of `names`, NaN where the signal is not valid.
        tick_ms: the tick's time; where it is given, a tick that does not follow within 1.5 s begins the window anew.
        Raises ScoreError if onnxruntime fails.
        """
        if tick_ms is not None:
            if self._last_ms is not None and not 0 < tick_ms - self._last_ms <= 1500:
                self._filled = 0
            self._last_ms = tick_ms
        if values.shape != self._zeros.shape:
            raise ScoreError(f"{self._label}: expected {len(self.names)} values, found an array of shape {values.shape}")
        finite = np.isfinite(values)
        if not np.logical_and.reduce(finite):
            invalid = np.flatnonzero(~finite)
            self._filled = 0
            more = f" and {invalid.size - 1} more" if invalid.size > 1 else ""
            return self._nothing(f"no valid value of {self.names[invalid[0]]}{more}")
        if self.window > 1:
            self._flat[: -len(values)] = self._flat[len(values) :]
        self._rows[-1] = values
        self._filled = min(self._filled + 1, self.window)
        if self._filled < self.window:
            return self._nothing(f"{self._filled} of the {self.window} ticks that it looks back on")
        if self._follows:
            self._state[:] = self._next
        if self._brief is None:
            return self._run(self._rows)
        self._session = None  # that explained the tick before
        return self._run_brief(self._brief)

    def explain(self, score: Score) -> Score:
        """All of a tick's score; the next tick does not depend on it. score: of the tick that was scored last, and that had one.

        Raises ScoreError if onnxruntime fails.
        """
        return score if self._brief is None else self._run(self._rows)

    def evidence(self, score: Score) -> Evidence:
        """What was seen, and what a healthy vehicle would have shown. score: of the tick that was scored last. Raises ScoreError."""
        seen = self._rows[-self.pack.manifest.average :].mean(axis=0, dtype=np.float64)
        return Evidence(seen, score.expected + (seen - self._rows[-1]), self.margins(score))

    def margins(self, score: Score) -> NDArray[np.float64]:
        """How far each signal may be from its expected value: (k,) in its unit, NaN where it has no part in the score.

        At that distance, with all others as expected, the score is 1, about the 99 % quantile of healthy drives. score: of the tick that
        was scored last. One more run: the signal with the largest part is set to its expected value, and what that takes off the score
        is its part in figures, of which the others' follow (Alcala and Qin 2009). Raises ScoreError if onnxruntime fails.
        """
        off = np.abs(self._rows[-1].astype(np.float64) - score.expected)
        top = int(np.argmax(score.contributions))
        if score.score is None or not score.contributions[top] > 0:
            return np.full(len(self.names), np.nan)
        taken = score.score
        if self._follows:  # whose score is the sum of the parts
            taken *= float(score.contributions[top])
        elif self.pack.manifest.rung not in ("limits", "joint"):  # whose score is the largest part, and no sum
            mended = self._rows.copy()
            mended[-self.pack.manifest.average :, top] -= self._rows[-1, top] - score.expected[top]
            taken -= self._run(mended).score or 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            margins: NDArray[np.float64] = off / np.sqrt(score.contributions * (taken / score.contributions[top]))
        return np.where(np.isfinite(margins) & (margins > 0), margins, np.nan)

    def _run(self, rows: NDArray[np.floating]) -> Score:
        found = self._ask(rows)
        value = float(found[SCORE].item())
        if not math.isfinite(value):
            return self._nothing("the score is not finite")
        if self._follows and self._brief is None:
            self._next[:] = found[NEXT_STATE]
        inside = bool(found[KNOWN].item())
        return Score(
            score=value,
            p_value=float(found[P_VALUE].item()),
            contributions=np.asarray(found[CONTRIBUTIONS], np.float64).reshape(-1),
            expected=np.asarray(found[EXPECTED], np.float64).reshape(-1),
            known=inside,
            reason="" if inside else _OUTSIDE,
            offset=np.asarray(found[OFFSET], np.float64).reshape(-1) if OFFSET in found else None,
        )

    def _ask(self, rows: NDArray[np.floating]) -> dict[str, Array]:
        """Everything that the whole graph says."""
        try:
            if self._session is None:
                self._session = self._start()
            found = self._session.run(self._outputs, {**self._inputs, INPUT: rows})
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            raise ScoreError(f"{self._label}: onnxruntime failed: {one_line(error)}") from error
        return {name: np.asarray(one) for name, one in zip(self._outputs, found, strict=True)}

    def _run_brief(self, brief: Bound) -> Score:
        try:
            brief.run()
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            raise ScoreError(f"{self._label}: onnxruntime failed: {one_line(error)}") from error
        said = self._said
        value = float(said[SCORE].item())
        if not math.isfinite(value):
            return self._nothing("the score is not finite")
        if self._follows:
            self._next[:] = said[NEXT_STATE]
        inside = bool(said[KNOWN].item())
        offset = said[OFFSET].astype(np.float64).reshape(-1) if OFFSET in said else None
        return Score(value, None, self._zeros, self._nans, inside, "" if inside else _OUTSIDE, offset)

    def _start(self) -> ort.InferenceSession:
        try:
            return open_session(self.pack.model, self._once)
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            raise PackError(f"{self._label}: onnxruntime refuses model.onnx: {one_line(error)}") from error

    def _nothing(self, reason: str) -> Score:
        return Score(None, None, self._zeros, self._nans, False, reason)

    def _check_interface(self, session: ort.InferenceSession) -> type[np.float64] | type[np.float32]:
        inputs, outputs = session.get_inputs(), {output.name for output in session.get_outputs()}
        count = len(self.names)
        shapes: dict[str, list[int]] = {INPUT: [self.window, count]}
        if self.pack.manifest.baseline is not None:
            shapes |= {BASELINE: [count], LEARNED: []}
        if self._follows:
            sizes = [entry.shape[0] for entry in inputs if entry.name == STATE and len(entry.shape) == 1]
            fits = bool(sizes) and isinstance(sizes[0], int) and 0 < sizes[0] <= _MOST_STATE * (count + 1)
            self._state_size = sizes[0] if fits else 4 * count + 4
            shapes |= {STATE: [self._state_size]}
        kinds = {entry.type for entry in inputs}
        if {entry.name: list(entry.shape) for entry in inputs} != shapes or len(kinds) != 1 or not kinds <= set(_ELEMENT):
            found = ", ".join(f"{entry.name} {entry.type} {entry.shape}" for entry in inputs)
            wanted = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            number = "one input" if len(shapes) == 1 else f"{len(shapes)} inputs"
            raise PackError(f"{self._label}: model.onnx must have {number}, {wanted}, of doubles or floats; it has {found or 'none'}")
        missing = [name for name in self._outputs if name not in outputs]
        if missing:
            raise PackError(f"{self._label}: model.onnx has no output {missing[0]}; a detector's outputs are {', '.join(self._outputs)}")
        return _ELEMENT[inputs[0].type]

    def _check_outputs(self) -> dict[str, Array]:
        """One run on the middle of the trained ranges: what fails only when it runs is refused here and not on the road. What it gives."""
        middle = [(signal.minimum + signal.maximum) / 2 for signal in self.pack.manifest.signals]
        self._rows[:] = np.array(middle, self._dtype)
        try:
            found = self._ask(self._rows)
        except ScoreError as error:
            raise PackError(f"{self._label}: model.onnx does not run: {one_line(error)}") from error
        if self._follows and found[NEXT_STATE].shape != self._state.shape:
            raise PackError(f"{self._label}: model.onnx gives a next state of {found[NEXT_STATE].shape}, expected {self._state.shape}")
        sizes = dict.fromkeys((SCORE, P_VALUE, KNOWN), 1)
        sizes |= {name: len(self.names) for name in (CONTRIBUTIONS, EXPECTED, OFFSET) if name in found}
        for name, size in sizes.items():
            if found[name].size != size:
                wanted = f"one for each of {size} signals" if size > 1 else "one"
                raise PackError(f"{self._label}: model.onnx gives {found[name].size} {name}, expected {wanted}")
        return found

    def _start_brief(self, wanted: float) -> None:
        """wanted: the score that the whole graph gives of the rows as they are."""
        try:
            self._brief = Bound(part_of(self.pack.model, list(self._said)), self._inputs, self._said)
            self._brief.run()
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            raise PackError(f"{self._label}: the part of model.onnx that gives the score does not run: {one_line(error)}") from error
        found = float(self._said[SCORE].item())
        if not math.isclose(found, wanted, rel_tol=_AGREEMENT, abs_tol=_AGREEMENT) and math.isfinite(wanted):
            raise PackError(f"{self._label}: the part of model.onnx that gives the score says {found:g}, the whole says {wanted:g}")
