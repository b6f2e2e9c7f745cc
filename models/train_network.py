"""Training of packs over the network's figures (dbc/network.py): limits, from what healthy logs show and from what is too little to matter.

A healthy bus is so regular that its own scatter would make alarms of a millisecond. So each figure's limit is the larger of a floor, which
says from where on it matters, and twice what it ever was in the logs.

    score = max over figures of (figure / limit)²; the alarm is raised at 1
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dbc.network import SILENCE, UNKNOWN, network_periods
from models import manifest as manifests
from models.calibrate import CLEAR, p_value_knots
from models.errors import TrainingDataError
from models.fit import each_alone, rounded, score_drive
from models.graph import build
from models.manifest import AlarmBudget, Calibration, Confirm, Manifest, ModelFile, Persistence, Threshold
from models.pack import Pack, signals_fingerprint, write
from models.tables import Table
from models.train import check_equal, check_size, evaluation_of, figure, signals_of, split_drives, training_of

__all__ = ["FLOORS", "PACKS", "NetworkOptions", "PackRule", "train_network"]

OVERDUE_MS = 500.0
"""A message that is overdue by less has waited for something, whatever its period is."""
OVERDUE_PERIODS = 1.0
SHARE = 0.25
"""Of a message's own rate: fewer frames too many, or wrong, do not matter."""
FLOORS = {"#repeated": 10.0, "#excess": 10.0, "#counter": 3.0, "#checksum": 3.0, "#absent": 0.9, UNKNOWN: 20.0}
"""Frames a second; of #absent: any."""
TWICE = 2.0


@dataclass(frozen=True, slots=True)
class PackRule:
    """Of one pack. figures: endings of their names. need, of: ticks over a limit that raise the alarm."""

    figures: tuple[str, ...]
    need: int
    of: int


PACKS = {
    "control_unit_silent": PackRule((SILENCE,), 1, 1),
    "control_unit_babbling": PackRule(("#repeated",), 1, 1),
    "attack_flooding": PackRule(("#excess", UNKNOWN), 1, 1),
    "counter_error": PackRule(("#counter",), 2, 3),
    "checksum_error": PackRule(("#checksum",), 2, 3),
    "sensor_dropout": PackRule(("#absent",), 3, 10),
}
"""By fault code. What makes other messages late at once is told at once; what needs a workshop waits for a second look."""


@dataclass(frozen=True)
class NetworkOptions:
    """What a training may be told. need, of: ticks over the limit that raise the alarm; one is enough for what is counted in frames."""

    pack_id: str
    fault_code: str
    version: str = "1.0.0"
    seed: int = 0
    need: int = 1
    of: int = 1
    confirm: tuple[int, int] = (1, 1)


def train_network(table: Table, options: NetworkOptions, folder: str | Path) -> Pack:
    """Train on healthy logs and write an unsigned pack into `folder`. table: columns of figures alone.

    Raises TrainingDataError or TrainingFailed.
    """
    check_size(table)
    if table.schema is None or table.columns is None or (table.columns < len(table.schema)).any():
        raise TrainingDataError("expected figures of the network alone, e.g. --figures '*.#silence', from CAN logs with their --dbc")
    fitted, held = split_drives(table.drives, options.seed)
    everything = np.concatenate([drive.values for drive in table.drives])
    limits = np.maximum(_floors(table), TWICE * everything.max(axis=0))
    # each figure by itself: 0 is expected
    detector = each_alone(np.zeros(len(limits)), rounded(limits), np.eye(len(limits)), separate=True)
    scored = [score_drive(detector, drive) for drive in held]
    scores = np.concatenate([one.score for one in scored])
    knots = p_value_knots(scores)
    model = build(detector, knots)
    manifest = Manifest(
        format=manifests.FORMAT,
        pack_id=options.pack_id,
        version=options.version,
        fault_code=options.fault_code,
        rung="limits",
        signals=signals_of(table, fitted, set()),
        schema_id=table.schema.schema_id.hex(),
        signals_id=signals_fingerprint(table.schema, table.columns),
        window=1,
        average=1,
        threshold=Threshold(raise_at=1.0, clear_below=CLEAR),
        persistence=Persistence(need=options.need, of=options.of, warmup_ticks=0, gap_s=5),
        calibration=Calibration(drives=len(held), ticks=len(scores), highest=figure(scores.max())),
        alarm_budget=AlarmBudget(per_drive=1.0, tail="highest"),
        training=training_of(table, fitted, options.seed),
        evaluation=evaluation_of(scores),
        model=ModelFile(sha256=manifests.sha256(model), bytes=len(model)),
        confirm=Confirm(drives=options.confirm[0], of=options.confirm[1]),
    )
    write(folder, manifest, model)
    pack = Pack.load(folder)
    check_equal(pack, held[0], scored[0], knots, None)
    return pack


def _floors(table: Table) -> NDArray[np.float64]:
    """(k,) from where on each figure matters."""
    assert table.schema is not None
    assert table.columns is not None
    period_ms = network_periods(table.schema)[table.columns - len(table.schema)]
    floors = np.zeros(len(table.names))
    for at, (name, period) in enumerate(zip(table.names, period_ms.tolist(), strict=True)):
        kind = name[name.index("#") :]
        rate = 0.0 if np.isnan(period) else 1e3 / period
        if kind == SILENCE:
            floors[at] = OVERDUE_PERIODS if np.isnan(period) else max(OVERDUE_PERIODS, OVERDUE_MS / period)
        else:
            floors[at] = FLOORS[kind] if kind == "#absent" else max(FLOORS[kind], SHARE * rate)
    return floors
