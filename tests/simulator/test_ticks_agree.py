"""Ticks and frames are two views of one model: on the same seed they agree within noise and the frames' age."""

from __future__ import annotations

import numpy as np
import pytest
from frames_car import drive
from numpy.typing import NDArray

from dbc.compiler import CompiledDbc, compile_dbc
from dbc.decoder import Decoder
from dbc.sampler import Sampler
from dbc.validity import Reason
from dbc.vehicles import DBC_FILES
from simulator.cars import Cars
from simulator.cast import START_NS, Cast
from simulator.signals import Traits
from simulator.ticks import Ticks

SECONDS = 60
OF_THE_FRAME = ("Checksum", "AliveCounter", "CellGroup", "SensorGroup", "VinPart", "ObjectNumber", "SessionPage")


@pytest.fixture(scope="module")
def compiled() -> CompiledDbc:
    return compile_dbc(DBC_FILES)


def ticks_of(compiled: CompiledDbc, vehicles: tuple[int, ...], seconds: int, seed: int = 1, plan: str = "drive") -> NDArray[np.float64]:
    return Ticks(Cars(Cast(seed=seed, vehicles=vehicles, plan=plan)), compiled.schema, START_NS, (seed,)).next(seconds)


@pytest.mark.parametrize("seed", [1, 4])
def test_the_snapshots_of_decoded_frames_are_the_ticks(compiled: CompiledDbc, seed: int) -> None:
    """Stated tolerance: six deviations of both noises, one raw step of each rounding, and what the value moved in the tick's second."""
    schema, traits = compiled.schema, Traits(compiled.schema)
    driven = drive(compiled, SECONDS, seed=seed)
    decoder, sampler = Decoder(compiled, schema.channels), Sampler(schema)
    snapshots = [one for block in driven.blocks for one in sampler.feed(block, decoder.decode(block))] + sampler.finish()
    ticks = ticks_of(compiled, (0,), SECONDS, seed)[:, :, 0]
    plain = ~np.isin([name.rpartition(".")[2] for name in schema.names], OF_THE_FRAME)
    plain &= ~traits.flashing  # lit or not at different instants
    assert len(snapshots) == SECONDS
    for second in range(3, SECONDS):  # from when all pages of all multiplexed messages have come
        snapshot, tick = snapshots[second], ticks[second]
        assert (snapshot.reason == Reason.VALID).all()
        moved = np.abs(driven.ends[second + 1] - driven.ends[second]) * ~traits.held
        allowed = 6 * np.sqrt(2) * traits.deviation + 2 * schema.scale * 1.001 + moved
        wrong = np.flatnonzero(plain & ~(np.abs(snapshot.value - tick) <= allowed))
        assert not len(wrong), [(schema.names[at], second, snapshot.value[at], tick[at]) for at in wrong[:5]]


def test_ticks_lie_on_the_steps_that_the_dbc_can_say(compiled: CompiledDbc) -> None:
    schema = compiled.schema
    ticks = ticks_of(compiled, (0, 5), 20)
    raw = (ticks - schema.offset[:, None]) / schema.scale[:, None]
    assert np.abs(raw - np.rint(raw)).max() < 1e-3
    assert (ticks >= schema.minimum[:, None] - 1e-9).all()
    assert (ticks <= schema.maximum[:, None] + 1e-9).all()


def test_the_truth_of_a_vehicle_does_not_depend_on_those_beside_it(compiled: CompiledDbc) -> None:
    def truth(vehicles: tuple[int, ...]) -> NDArray[np.float64]:
        ticks = Ticks(Cars(Cast(seed=3, vehicles=vehicles)), compiled.schema, START_NS, (3,), noise=0.0)
        return ticks.next(20)[:, :, vehicles.index(5)]

    # NumPy's vector loops round some powers otherwise than its scalar ones: the last digit may differ.
    assert np.allclose(truth((5,)), truth((0, 1, 5, 900)), rtol=1e-9, atol=1e-9)


def test_the_same_seed_gives_the_same_ticks_and_noise_is_new_at_every_tick(compiled: CompiledDbc) -> None:
    one, two = ticks_of(compiled, (0, 1, 2), 15), ticks_of(compiled, (0, 1, 2), 15)
    assert np.array_equal(one, two)
    voltage = one[:, compiled.schema.index("BMS_CellVoltages.CellVoltage17"), :]
    assert len(np.unique(np.diff(voltage, axis=0))) > 3
    assert not np.array_equal(one, ticks_of(compiled, (0, 1, 2), 15, seed=2))


def test_the_noise_of_ticks_is_white_normal_and_of_the_stated_deviation(compiled: CompiledDbc) -> None:
    schema, traits = compiled.schema, Traits(compiled.schema)
    n, seconds = 200, 25
    noisy, true = (Ticks(Cars(Cast(vehicles=tuple(range(n)))), schema, START_NS, (9,), noise=gain).next(seconds) for gain in (1.0, 0.0))
    error = noisy - true
    for name in (
        "BMS_Pack.PackVoltage",
        "BMS_Insulation.InsulationResistance",
        "SUS_Level.SuspensionHeightRearLeft",
        "GNSS_Motion.Altitude",
    ):
        number = schema.index(name)
        of = error[:, number]
        expected = np.hypot(traits.deviation[number], schema.scale[number] / np.sqrt(12))
        assert of.std() == pytest.approx(expected, rel=0.05), name
        assert abs(of.mean()) < 5 * expected / np.sqrt(of.size), name
        for other in (error[:, schema.index("TPMS_Pressure.TyrePressureFrontLeft")], np.roll(of, 1, axis=0), np.roll(of, 1, axis=1)):
            assert abs(np.corrcoef(of.ravel(), other.ravel())[0, 1]) < 0.06, name


def test_signals_of_a_sleeping_bus_are_missing(compiled: CompiledDbc) -> None:
    parked = ticks_of(compiled, (0, 1), 30, plan="park")
    assert np.isnan(parked[-1]).all()


def test_float32_keeps_every_signal_but_the_position_to_a_raw_step(compiled: CompiledDbc) -> None:
    schema = compiled.schema
    double, single = (Ticks(Cars(Cast(vehicles=(0, 1))), schema, START_NS, (2,), dtype).next(10) for dtype in (np.float64, np.float32))
    assert single.dtype == np.float32
    steps = np.abs(double - single).max(axis=(0, 2)) / schema.scale
    assert {schema.names[at] for at in np.flatnonzero(steps > 1.01)} == {"GNSS_Position.Latitude", "GNSS_Position.Longitude"}
    assert np.abs(double - single)[:, [schema.index("GNSS_Position.Latitude"), schema.index("GNSS_Position.Longitude")]].max() < 1e-5
