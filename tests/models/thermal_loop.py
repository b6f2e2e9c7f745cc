"""A small coolant loop with ground truth, so that the tests of training need no simulator: heat, lag, pump control, noise, quantisation.

Not the simulated vehicle: that one is tested through its own logs in test_models_shipped.py.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.tables import Drive, Table

NAMES = (
    "Pack.Current",
    "Pack.CellTemperature",
    "Air.AmbientTemperature",
    "Motion.Speed",
    "Pump.Speed",
    "Loop.Flow",
    "Loop.OutletTemperature",
    "Pump.Current",
)
UNITS = ("A", "degC", "degC", "km/h", "rpm", "L/min", "degC", "A")
CONTEXT = ("Pack.*", "Air.*", "Motion.*", "Pump.Speed")
RESOLUTION = np.array([0.1, 0.1, 0.1, 0.01, 1.0, 0.01, 0.1, 0.01])


def drive(seed: int, ticks: int = 600, leak_at: int | None = None, leak_s: float = 120.0) -> NDArray[np.float64]:
    """(ticks, 8) float64 of one drive at 1 Hz; from `leak_at` on flow falls by 3 % and outlet temperature rises by 1.2 °C over `leak_s`."""
    random = np.random.default_rng(seed)
    ambient = random.uniform(5, 35)
    speed, cell, coolant, lag = 0.0, ambient + 8.0, ambient + 6.0, 0.0
    target = 50.0
    rows = np.zeros((ticks, len(NAMES)))
    for tick in range(ticks):
        if random.random() < 0.02:
            target = float(random.uniform(0, 130))
        speed += 0.06 * (target - speed) + random.normal(0, 0.3)
        current = 8 + 0.9 * max(speed, 0) + 12 * (target - speed) * 0.06 * 3
        heat = 0.08 * current**2 / 1000 + 0.2
        lag += (heat - lag) / 25
        pump = 1200 + 55 * np.clip(cell - 20, 0, 40) + 4 * max(speed, 0)
        flow = 0.0042 * pump * (1 - 0.0008 * (coolant - 40)) - 1.5e-7 * pump**2
        cell += (heat * 14 - 0.5 * (cell - coolant)) / 60
        coolant += (0.5 * (cell - coolant) - 0.035 * flow * (coolant - ambient) * (0.4 + 0.006 * max(speed, 0)) / 4) / 40
        grown = 0.0 if leak_at is None else float(np.clip((tick - leak_at) / leak_s, 0, 1))
        rows[tick] = (
            current + random.normal(0, 0.2),
            cell + random.normal(0, 0.05),
            ambient + random.normal(0, 0.05),
            max(speed, 0),
            pump + random.normal(0, 3),
            flow * (1 - 0.03 * grown) + random.normal(0, 0.03),
            coolant + 1.2 * grown + random.normal(0, 0.08),
            0.5 + 0.0009 * pump + random.normal(0, 0.02),
        )
    return np.asarray(np.round(rows / RESOLUTION) * RESOLUTION, np.float64)


def write_csv(path: Path, values: NDArray[np.float64], start: float = 1_700_000_000.0) -> Path:
    """A CSV file with a timestamp column, one row per second."""
    lines = [",".join(("timestamp", *NAMES))]
    lines += [",".join([f"{start + at:.0f}", *(f"{value:.10g}" for value in row)]) for at, row in enumerate(values)]
    path.write_text("\n".join(lines) + "\n")
    return path


def table(seeds: range, ticks: int = 600, leak_at: int | None = None) -> Table:
    """A drive for each seed."""
    times = 1_700_000_000_000 + 1000 * np.arange(ticks)
    return Table(NAMES, UNITS, tuple(Drive(f"drive {seed}", times, drive(seed, ticks, leak_at)) for seed in seeds))
