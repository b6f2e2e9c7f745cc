"""What is kept of a drive to be drawn: the car's state, its faults and the signals that they show in, second by second."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dbc.decoder import Decoder
from dbc.frames import FrameBlock
from simulator.drive_truth import Truth
from simulator.trip import Trip

__all__ = ["Film", "Track"]

MOST_SAMPLES = 7200  # finer than a picture's points
SIGNALS_SHOWN = 2  # of each physical fault

# Column of the state, gain, words: by panel.
SPEED = (("drive.speed", 3.6, "speed"),)
POWER = (("pack_w", 1e-3, "battery"), ("climate_w", 1e-3, "climate"), ("auxiliary_w", 1e-3, "12 V converter"))
TEMPERATURES = (
    ("loop.battery_c", 1.0, "battery"),
    ("loop.coolant_c", 1.0, "battery coolant"),
    ("drive_loop.stator_c", 1.0, "motor stator"),
    ("climate.cabin_c", 1.0, "cabin"),
    ("world.ambient_c", 1.0, "outside"),
)
CHARGE = (("battery.charge", 100.0, "state of charge"),)


@dataclass
class Track:
    """One line of a picture. sent: what the frames said, where a broken sensor or an attacker made it differ from `value`."""

    words: str
    unit: str
    value: list[float] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)


class Film:
    """Looks at a trip after each second."""

    def __init__(self, trip: Trip, truth: Truth) -> None:
        self.trip, self.truth = trip, truth
        self.time_s: list[float] = []
        self._step_s = truth.duration_s / MOST_SAMPLES
        self._next_s = 0.0
        schema = trip.schema
        self.panels: dict[str, list[Track]] = {
            "speed": [Track(words, "km/h") for _, _, words in SPEED],
            "power": [Track(words, "kW") for _, _, words in POWER],
            "temperature": [Track(words, "°C") for _, _, words in TEMPERATURES],
            "charge": [Track(words, "%") for _, _, words in CHARGE],
        }
        self._columns = dict(zip(self.panels, (SPEED, POWER, TEMPERATURES, CHARGE), strict=True))
        codes = [fault["fault_code"] for fault in truth.faults if fault["group"] == "physical"]
        self.severities = [Track(code, "") for code in dict.fromkeys(codes)]
        self.signals: list[tuple[int, Track]] = []
        sent = []
        for fault in truth.faults:
            few = fault["affected_signals"][:SIGNALS_SHOWN]
            for name in few:
                number = schema.index(name)
                if number not in [known for known, _ in self.signals]:
                    self.signals.append((number, Track(name.rpartition(".")[2], schema.units[number])))
                if fault["group"] != "physical":
                    sent.append(number)
        self._decoder = Decoder(trip.compiled) if sent else None
        self._sent = {number: float("nan") for number in sent}

    def look(self, block: FrameBlock) -> None:
        """At the trip as it is after this second, and its frames."""
        if self._decoder is not None:
            self._hear(block, self._decoder)
        now = float(self.trip.play.state["time_s"][0])
        if now < self._next_s:
            return
        self._next_s = now + self._step_s
        state = self.trip.play.state
        self.time_s.append(now)
        for name, tracks in self.panels.items():
            for track, (column, gain, _) in zip(tracks, self._columns[name], strict=True):
                track.value.append(float(state[column][0]) * gain)
        for track in self.severities:
            track.value.append(float(self.trip.play.cars.severity[track.words][0]))
        values = self.trip.values
        for number, track in self.signals:
            track.value.append(float(values[number]))
            if number in self._sent:
                track.sent.append(self._sent[number])

    def _hear(self, block: FrameBlock, decoder: Decoder) -> None:
        """The last value of each signal in this second; NaN where there was none."""
        heard = decoder.decode(block)
        for number in self._sent:
            of: NDArray[np.float64] = heard.value[heard.signal == number]
            self._sent[number] = float(of[-1]) if len(of) else float("nan")
