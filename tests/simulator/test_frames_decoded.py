"""What stands in the frames is what the model says, to within one raw step; its counters and checksums hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frames_car import Driven, decoded, drive

from dbc.compiler import CompiledDbc, compile_dbc
from dbc.decoder import Decoder
from dbc.logs import open_log
from dbc.logs.writers import open_log_writer
from dbc.schema import Schema
from dbc.validity import Reason
from dbc.vehicles import DBC_FILES
from simulator.cast import START_NS
from simulator.signals import Traits, flashing

SECONDS = 40
LATEST_S = 0.003  # jitter, the frame itself, and those that it waits for
CHECKS = ("Checksum", "AliveCounter")
Array = np.ndarray[Any, Any]
MULTIPLEXERS = ("CellGroup", "SensorGroup", "VinPart", "ObjectNumber", "SessionPage")


@pytest.fixture(scope="module")
def compiled() -> CompiledDbc:
    return compile_dbc(DBC_FILES)


@pytest.fixture(scope="module")
def quiet(compiled: CompiledDbc) -> Driven:
    return drive(compiled, SECONDS, seed=7, noise=0.0)


def bounds(driven: Driven, schema: Schema, signal: Array, time_s: Array) -> tuple[Array, Array]:
    """(p,) each: the lowest and highest value that the model has where a frame that ends at `time_s` may have been sampled.

    A message is sampled at multiples of its cycle and sent within the cycle; one that is late may be of the cycle before.
    """
    traits = Traits(schema)
    cycle = np.nan_to_num(schema.period_ms, nan=1000.0)[signal] / 1000
    values = []
    for late_s in (0.0, LATEST_S):
        sampled = np.maximum(np.floor((time_s - late_s) / cycle + 1e-9) * cycle, 0.0)
        second = np.minimum((sampled + 1e-9).astype(np.intp), len(driven.ends) - 2)
        before, after = driven.ends[second, signal], driven.ends[second + 1, signal]
        values.append(np.where(traits.held[signal], after, before + (after - before) * (sampled - second)))
    return np.minimum(*values), np.maximum(*values)


def test_a_written_log_decodes_to_the_models_values_within_one_raw_step(compiled: CompiledDbc, quiet: Driven, tmp_path: Path) -> None:
    with open_log_writer(tmp_path / "drive.log") as writer:
        for block in quiet.blocks:
            writer.write(block)
    schema, traits = compiled.schema, Traits(compiled.schema)
    stamp, signal, value, reason = decoded(compiled, list(open_log(tmp_path / "drive.log")))
    assert (reason == Reason.VALID).all()
    time_s = (stamp - START_NS) / 1e9
    low, high = bounds(quiet, schema, signal, time_s)
    # A model's value beyond what the DBC lets the signal say is sent as the last value that it can say.
    low, high = (np.clip(bound, schema.minimum[signal], schema.maximum[signal]) for bound in (low, high))
    step = schema.scale[signal] * 1.001
    short = np.array([name.rpartition(".")[2] for name in schema.names])
    plain = ~np.isin(short, (*CHECKS, *MULTIPLEXERS))[signal]
    lit = traits.flashing[signal]
    fits = (value >= low - step) & (value <= high + step)
    fits |= lit & (value == 0) & ~flashing(time_s)
    wrong = np.flatnonzero(plain & ~fits)
    assert not len(wrong), [(schema.names[signal[at]], time_s[at], low[at], value[at], high[at]) for at in wrong[:5]]
    assert {schema.names[number] for number in np.flatnonzero(np.bincount(signal, minlength=len(schema)))} == set(schema.names)


def test_no_counter_no_checksum_and_no_value_is_complained_about(compiled: CompiledDbc) -> None:
    driven = drive(compiled, SECONDS, seed=3)
    assert int((compiled.plan.message_check >= 0).sum()) > 30
    _, _, _, reason = decoded(compiled, driven.blocks)
    assert (reason == Reason.VALID).all()


def test_a_damaged_byte_is_complained_about(compiled: CompiledDbc, quiet: Driven) -> None:
    """So that the test above can fail."""
    block = quiet.blocks[5]
    keys = {
        (int(key) >> 32, int(key) & 0x7FF): name for key, name in zip(compiled.plan.message_key, compiled.plan.message_names, strict=True)
    }
    protected = {name for name, check in zip(compiled.plan.message_names, compiled.plan.message_check, strict=True) if check >= 0}
    found = set()
    for channel in range(3):
        mine = [at for at in np.flatnonzero(block.channel == channel).tolist() if keys[channel, int(block.frame_id[at])] in protected]
        at = mine[len(mine) // 2]
        block.data[at, 3] ^= 0x10
        signals = Decoder(compiled, block.channels).decode(block)
        assert {int(frame) for frame in signals.frame[signals.reason == Reason.CHECKSUM]} == {at}
        block.data[at, 3] ^= 0x10
        found.add(channel)
    assert found == {0, 1, 2}


def test_the_noise_of_every_sensor_is_what_is_stated(compiled: CompiledDbc) -> None:
    """Where the model's own value is known well enough."""
    seconds = 30
    driven = drive(compiled, seconds, seed=5)
    schema, traits = compiled.schema, Traits(compiled.schema)
    stamp, signal, value, _ = decoded(compiled, driven.blocks)
    low, high = bounds(driven, schema, signal, (stamp - START_NS) / 1e9)
    inside = (low > schema.minimum[signal] + 6 * traits.deviation[signal]) & (high < schema.maximum[signal] - 6 * traits.deviation[signal])
    steady = (high - low < 0.3 * traits.deviation[signal]) & inside & ~traits.quiet[signal]
    judged = 0
    for number in np.flatnonzero(traits.deviation > 0).tolist():
        mine = steady & (signal == number)
        if mine.sum() < 200:
            continue
        seen = float((value[mine] - (low[mine] + high[mine]) / 2).std())
        expected = float(np.hypot(traits.deviation[number], schema.scale[number] / np.sqrt(12)))  # with that of rounding
        if traits.deviation[number] > 0.4 * schema.scale[number]:  # less drowns in the rounding
            assert seen == pytest.approx(expected, rel=0.25), schema.names[number]
            judged += 1
    assert judged > 80


def test_indicators_flash(compiled: CompiledDbc) -> None:
    driven = drive(compiled, 60, seed=2)
    schema = compiled.schema
    columns = [schema.index(f"BCM_Lights.TurnLight{side}") for side in ("Left", "Right")]
    asked = np.flatnonzero((driven.ends[1:, columns] > 0).any(axis=1))
    assert len(asked), "nobody turned: choose another seed"
    stamp, signal, value, _ = decoded(compiled, [driven.blocks[second] for second in asked.tolist()])
    mine = np.isin(signal, columns)
    lit = value[mine].reshape(-1)[flashing((stamp[mine] - START_NS) / 1e9 - 0.01)]
    dark = value[mine].reshape(-1)[~flashing((stamp[mine] - START_NS) / 1e9 - 0.01)]
    assert lit.mean() > 0.4  # of two lights one
    assert dark.mean() < 0.1
