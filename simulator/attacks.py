"""What an attacker on the bus does with one signal, who sends in the name of its control unit.

The five attacks of SynCAN: Hanselmann, Strauss, Dormann and Ulmer, "CANet: An Unsupervised Intrusion Detection System for High Dimensional
CAN Bus Data", IEEE Access 8 (2020), section V. Suppression and flooding are of whole frames: see network_faults.
"""

from __future__ import annotations

import numpy as np

from simulator.sensor_faults import Drift, Timed, Values

__all__ = ["ContinuousDrift", "Plateau", "Playback"]


STAMP_S = 1e-9  # a sample that is as old as the delay counts, whatever the rounding

RESET_S = 1.0  # a clock that goes back further begins anew: what was recorded is of another time


class Plateau(Timed):
    """The signal is overwritten with a constant."""

    def __init__(self, for_s: float, value: float) -> None:
        super().__init__(for_s)
        self.value = value

    def apply(self, elapsed_s: Values, value: Values) -> Values:
        return np.where(self.inside(elapsed_s), self.value, value)


class ContinuousDrift(Drift):
    """The signal is overwritten so that it leaves its true value slowly, too slowly for a check of its steps."""


class Playback(Timed):
    """The signal is overwritten with what it was `delay_s` before."""

    def __init__(self, for_s: float, delay_s: float) -> None:
        super().__init__(for_s)
        self.delay_s = delay_s
        self._time = np.zeros(0)
        self._value = np.zeros(0)

    def apply(self, elapsed_s: Values, value: Values) -> Values:
        if len(self._time) and len(elapsed_s) and elapsed_s[0] < self._time[-1] - RESET_S:
            self._time, self._value = self._time[:0], self._value[:0]
        known = ~np.isnan(value) & (elapsed_s < self.for_s)
        self._time = np.maximum.accumulate(np.concatenate([self._time, elapsed_s[known]]))
        self._value = np.concatenate([self._value, value[known]])
        inside = self.inside(elapsed_s)
        if not len(self._time):
            return value
        place = np.searchsorted(self._time, elapsed_s - self.delay_s + STAMP_S, side="right") - 1
        played = np.where(inside & (place >= 0), self._value[np.maximum(place, 0)], value)
        keep = max(0, int(np.searchsorted(self._time, float(elapsed_s.max()) - self.delay_s, side="right")) - 1)
        self._time, self._value = self._time[keep:], self._value[keep:]
        return played
