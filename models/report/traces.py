"""A recording's score over time, its faults shaded and its findings marked; drawn from a thousand points, the highest of each stretch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.report.page import Chart, axis, logarithmic
from models.report.words import Say

__all__ = ["Trace", "chart", "thinned"]

POINTS = 1000
FLOOR = 1e-3
"""Of the alarm's score; a logarithmic axis has no zero, and nobody looks there."""


@dataclass(frozen=True)
class Trace:
    """score: (n,) NaN where there is none. faults: (begin, end) in ms. findings: ms at which the alarm rose, and whether it was right."""

    caption: str
    tick_ms: NDArray[np.int64]
    score: NDArray[np.float64]
    raise_at: float
    faults: Sequence[tuple[int, int]] = ()
    findings: Sequence[tuple[int, bool]] = ()


def thinned(tick_ms: NDArray[np.int64], score: NDArray[np.float64], points: int = POINTS) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """At most `points` of ticks (n,): of each stretch the highest score, NaN where it has none. An excess is never thinned away."""
    size = -(-len(score) // points) if len(score) else 1
    full = -(-len(score) // size) * size
    padded = np.concatenate([np.where(np.isnan(score), -np.inf, score), np.full(full - len(score), -np.inf)]).reshape(-1, size)
    best = padded.argmax(axis=1)
    highest = padded[np.arange(len(padded)), best]
    at = np.minimum(np.arange(len(padded)) * size + best, len(score) - 1)
    return tick_ms[at], np.where(np.isneginf(highest), np.nan, highest)


def chart(trace: Trace, say: Say) -> Chart:
    """Time in minutes (hours, days) from the first tick; the score on a logarithmic axis."""
    start = int(trace.tick_ms[0]) if len(trace.tick_ms) else 0
    length_s = (int(trace.tick_ms[-1]) - start) / 1000 if len(trace.tick_ms) else 0.0
    unit, seconds = next((one for one in (("days", 86400), ("h", 3600), ("min", 60)) if length_s > 3 * one[1]), ("s", 1))

    def place(ms: float) -> float:
        return round((ms - start) / 1000 / seconds, 4)

    times, score = thinned(trace.tick_ms, trace.score)
    shown = np.maximum(score, FLOOR * trace.raise_at)
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": say("score"),
            "x": [place(ms) for ms in times.tolist()],
            "y": [None if np.isnan(value) else float(f"{value:.4g}") for value in shown],
            "line": {"color": "--series-0", "width": 1.6},
        },
        {
            "type": "scatter",
            "mode": "lines",
            "name": say("alarm at {score:.3g}", score=trace.raise_at),
            "x": [0, place(start + 1000 * length_s)],
            "y": [trace.raise_at, trace.raise_at],
            "line": {"color": "--muted", "width": 1.4, "dash": "dash"},
        },
    ]
    top = max(3 * trace.raise_at, float(np.nanmax(shown, initial=0.0)))
    for right, words, colour in ((True, "finding in the fault", "--series-2"), (False, "false finding", "--series-3")):
        at = [place(ms) for ms, was in trace.findings if was == right]
        if at:
            data.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": say(words),
                    "x": at,
                    "y": [top] * len(at),
                    "marker": {"color": colour, "size": 11, "symbol": "triangle-down"},
                }
            )
    end = start + 1000 * length_s
    shapes = [
        {
            "type": "rect",
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "x0": place(max(begin, start)),
            "x1": place(min(behind, end)),
            "fillcolor": "--fault",
            "line": {"width": 0},
            "layer": "below",
        }
        for begin, behind in trace.faults
        if begin <= end and behind >= start
    ]
    return Chart(
        trace.caption,
        data,
        {
            "xaxis": axis(say("time [{unit}]", unit=say(unit))),
            "yaxis": logarithmic(say("score"), np.append(shown, trace.raise_at)),
            "shapes": shapes,
        },
        260,
    )
