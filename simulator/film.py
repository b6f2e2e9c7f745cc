"""What is kept of a drive to be drawn: the car's state, its faults and the signals that they show in, second by second."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from dbc.decoder import Decoder
from dbc.frames import FrameBlock
from simulator.drive_truth import Truth
from simulator.play import Play
from simulator.scenario import Scenario
from simulator.sheet import Context
from simulator.signals import Signals
from simulator.state import Array
from simulator.trip import Trip

__all__ = ["Film", "Reel", "Track", "most_telling"]

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
    """One line of a picture. other: the same with a difference, which `other_words` names: what the frames said, where a broken sensor
    or an attacker changed it; what the same car without its faults has."""

    words: str
    unit: str
    value: list[float] = field(default_factory=list)
    other: list[float] = field(default_factory=list)
    other_words: str = ""


class Reel:
    """What a picture is drawn from.

    time_s     of each value
    panels     what is drawn of every drive, by name
    severities of each physical fault
    signals    that tell of a fault, each with its number in the schema
    """

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.time_s: list[float] = []
        self.panels: dict[str, list[Track]] = {}
        codes = [fault["fault_code"] for fault in truth.faults if fault["group"] == "physical"]
        self.severities = [Track(code, "") for code in dict.fromkeys(codes)]
        self.signals: list[tuple[int, Track]] = []


class _Healthy:
    """The same car on the same roads without its faults: what a fault changes is the difference."""

    def __init__(self, trip: Trip) -> None:
        what = trip.play.what
        spared = Scenario(what.name, msgspec.structs.replace(what.table, faults=[]))
        self.play = Play(spared, trip.play.seed, trip.play.vehicles, trip.start_ns)
        self._signals = Signals(trip.schema, Context(self.play.state, self.play.who, trip.start_ns))
        self._values = self._signals.start()

    def values(self, time_s: float) -> Array:
        """(signals,) at this time, not before that of the last call."""
        while (left := time_s - float(self.play.state["time_s"][0])) > 0.5:
            self.play.step(max(1.0, min(left, float(self.play.own_step()))))
        self._signals.write(self._values)
        values: Array = self._values[:, 0]
        return values


class Film(Reel):
    """Looks at a trip after each second."""

    def __init__(self, trip: Trip, truth: Truth) -> None:
        super().__init__(truth)
        self.trip = trip
        self._step_s = truth.duration_s / MOST_SAMPLES
        self._next_s, self._mode = 0.0, -1.0
        schema = trip.schema
        self.panels = {
            "speed": [Track(words, "km/h") for _, _, words in SPEED],
            "power": [Track(words, "kW") for _, _, words in POWER],
            "temperature": [Track(words, "°C") for _, _, words in TEMPERATURES],
            "charge": [Track(words, "%") for _, _, words in CHARGE],
        }
        self._columns = dict(zip(self.panels, (SPEED, POWER, TEMPERATURES, CHARGE), strict=True))
        sent = []
        for fault in truth.faults:
            for name in most_telling(fault):
                number = schema.index(name)
                if number not in [known for known, _ in self.signals]:
                    self.signals.append((number, Track(name.rpartition(".")[2], schema.units[number])))
                if fault["group"] != "physical":
                    sent.append(number)
        self._healthy = _Healthy(trip) if self.severities else None
        for number, track in self.signals:
            track.other_words = "sent" if number in sent else "without the fault"
        self._decoder = Decoder(trip.compiled) if sent else None
        self._sent = {number: float("nan") for number in sent}

    def look(self, block: FrameBlock) -> None:
        """At the trip as it is after this second, and its frames."""
        if self._decoder is not None:
            self._hear(block, self._decoder)
        state = self.trip.play.state
        now, mode = float(state["time_s"][0]), float(state["mode"][0])
        if now < self._next_s and mode == self._mode:
            return
        self._next_s, self._mode = now + self._step_s, mode
        self.time_s.append(now)
        for name, tracks in self.panels.items():
            for track, (column, gain, _) in zip(tracks, self._columns[name], strict=True):
                track.value.append(float(state[column][0]) * gain)
        for track in self.severities:
            track.value.append(float(self.trip.play.cars.severity[track.words][0]))
        values = self.trip.values
        healthy = self._healthy.values(now) if self._healthy is not None else values
        for number, track in self.signals:
            track.value.append(float(values[number]))
            track.other.append(self._sent[number] if number in self._sent else float(healthy[number]))

    def _hear(self, block: FrameBlock, decoder: Decoder) -> None:
        """The last value of each signal in this second; NaN where there was none."""
        heard = decoder.decode(block)
        for number in self._sent:
            of: NDArray[np.float64] = heard.value[heard.signal == number]
            self._sent[number] = float(of[-1]) if len(of) else float("nan")


def most_telling(fault: dict[str, Any], most: int = SIGNALS_SHOWN) -> list[str]:
    """A few of the signals that a fault shows in; of those for each wheel first the one that has it."""
    wheel = "".join(part.capitalize() for part in str(fault.get("place")).split("_"))
    signals: list[str] = sorted(fault["affected_signals"], key=lambda name: not name.endswith(wheel))
    return signals[:most]
