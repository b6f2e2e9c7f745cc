"""The fleet's pure parts: values, outages, shares, the comparison of ledger and store."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from dbc.compiler import compile_dbc
from dbc.schema import Schema
from dbc.vehicles import DBC_FILES
from simulator.cars import Cars
from simulator.cast import Cast
from simulator.fleet import FleetError, Ledger, Outage, Plan, Reading, compare, parse, verify
from simulator.fleet.drives import Drives, Walks, assign, holes
from simulator.fleet.ledger import Written
from simulator.fleet.prepared import Work
from simulator.fleet.sources import Physical
from simulator.fleet.verify import Found
from simulator.scenario import scenario
from wire.codec import decode_rows
from wire.envelope import StreamOpener
from wire.receipts import Status

START_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def schema() -> Schema:
    return compile_dbc(DBC_FILES).schema


def test_a_vehicles_values_depend_on_seed_and_number_alone(schema: Schema) -> None:
    columns = np.arange(60)
    whole, part, other = (Walks(schema, columns, seed)(numbers) for seed, numbers in ((7, range(20)), (7, [3, 11]), (8, [3, 11])))
    ticks = [(whole.next()[[3, 11]], part.next(), other.next()) for _ in range(50)]
    assert all(np.array_equal(a, b) for a, b, _ in ticks)
    assert any(not np.array_equal(a, c) for a, _, c in ticks)


def test_a_walk_stays_in_the_declared_ranges_and_moves(schema: Schema) -> None:
    columns = np.arange(len(schema))
    walk = Walks(schema, columns, 1)(range(5))
    raw = np.stack([walk.next() for _ in range(100)])
    value = schema.physical(raw)
    inside = (value >= schema.minimum - 1e-9) & (value <= schema.maximum + 1e-9)
    assert inside[:, :, np.isfinite(schema.minimum) & (schema.maximum > schema.minimum)].all()
    changing = (np.diff(raw, axis=0) != 0).mean()
    assert 0.2 < changing < 0.7


def test_a_mix_drives_the_cars_of_its_scenarios(tmp_path: Path) -> None:
    stuck = tmp_path / "stuck.toml"
    stuck.write_text("words = 'x'\n[[faults]]\ncode = 'sensor_stuck'\nsignal = 'ESP_Motion.VehicleSpeed'\nonset = '20s'\nfor = '20s'\n")
    compiled = compile_dbc(DBC_FILES)
    speed = compiled.schema.index("ESP_Motion.VehicleSpeed")
    columns, plays = np.array([speed, speed + 1]), np.array([0, 1, 1, 0])
    drives = Drives((scenario("healthy"), scenario(stuck)), plays, columns, compiled, 3)
    whole, part = drives(range(4)), pickle.loads(pickle.dumps(drives))([1, 2])  # a worker's share
    raw = np.stack([whole.next() for _ in range(38)])
    other = np.stack([part.next() for _ in range(38)])
    assert raw.shape == (38, 4, 2)
    true = Cars(Cast(seed=3, vehicles=(0, 1, 2, 3)))
    for second in range(38):
        true.step()
        if second in (10, 15, 37):
            seen = compiled.schema.physical(raw[second, :, 0][:, None] * np.ones(len(compiled.schema), np.int64))[:, speed]
            healthy = slice(None) if second < 19 else slice(0, 4, 3)
            assert np.abs(seen - true.state["drive.speed"] * 3.6)[healthy].max() < 1.0
    assert (raw[21:, 1:3, 0] == raw[21, 1:3, 0]).all()
    assert (np.abs(other - raw[:, 1:3])[:, :, 0] < 40).all()  # the same cars; noise depends on who is beside them
    assert raw[-1, 0, 0] != raw[21, 0, 0]


def test_a_scenario_takes_the_network_away_for_its_outages_and_what_its_coverage_leaves_out(tmp_path: Path) -> None:
    def of(text: str, number: int = 0) -> list[tuple[float, float]]:
        path = tmp_path / "holes.toml"
        path.write_text(f"words = 'x'\n[connectivity]\n{text}\n")
        return holes(scenario(path), 1, number, 3600.0)

    assert of("") == []
    assert of("outages = [['1m', '30s'], ['2h', '1m']]") == [(60.0, 90.0)]
    assert of("coverage = 0") == [(0.0, 3600.0)]
    away = [sum(end - begin for begin, end in of("coverage = 0.9", number)) / 3600 for number in range(200)]
    assert np.mean(away) == pytest.approx(0.1, abs=0.015)
    assert of("coverage = 0.9", 5) == of("coverage = 0.9", 5) != of("coverage = 0.9", 6)


def test_physical_values_become_the_raw_integers_of_the_dbc(schema: Schema) -> None:
    columns = np.array([4, 9])
    walk = Walks(schema, np.arange(len(schema)), 3)(range(6))
    raws = [walk.next() for _ in range(4)]
    ticks = iter([schema.physical(raw).T[np.newaxis] for raw in raws])  # (1, signals, n), as the vectorised model gives them

    def next_values(_: int) -> np.ndarray:
        values = next(ticks).copy()
        values[0, 9, 2] = np.nan  # a sensor that says nothing: its last value holds
        return values

    source = Physical(next_values, schema, columns)
    found = [source.next() for _ in raws]
    assert all(np.array_equal(one[:, 0], raw[:, 4]) for one, raw in zip(found, raws, strict=True))
    others = [0, 1, 3, 4, 5]
    assert all(np.array_equal(one[others, 1], raw[others, 9]) for one, raw in zip(found, raws, strict=True))
    assert len({int(one[2, 1]) for one in found}) == 1


def test_outages_are_read_or_refused_with_what_was_expected() -> None:
    assert parse("20%@30s+2m") == Outage(0.2, 30, 120)
    assert parse("12.5%@1h+90s") == Outage(0.125, 3600, 90)
    for wrong in ("20@30s+2m", "0%@30s+2m", "101%@1s+1s", "20%@30+2", "20%@30s+0s", "often"):
        with pytest.raises(FleetError, match=r"expected SHARE%@START\+LENGTH like 20%@30s\+2m"):
            parse(wrong)


def test_an_outage_takes_its_share_the_same_vehicles_for_the_same_seed() -> None:
    outage = Outage(0.2, 30, 60)
    chosen = outage.vehicles(50, 1)
    assert len(set(chosen.tolist())) == 10
    assert np.array_equal(chosen, outage.vehicles(50, 1))
    assert not np.array_equal(chosen, outage.vehicles(50, 2))
    assert len(Outage(0.001, 0, 1).vehicles(10, 1)) == 1


def test_a_mix_gives_each_scenario_its_share() -> None:
    names = assign([("healthy", 0.9), ("coolant_leak", 0.1)], 25, 1)
    assert (names.count("healthy"), names.count("coolant_leak")) in ((22, 3), (23, 2))
    assert names != sorted(names)
    assert names == assign([("healthy", 0.9), ("coolant_leak", 0.1)], 25, 1)


def test_vehicles_are_spread_over_the_seconds_of_a_batch() -> None:
    first_ms = Plan(1000, 60, 2).first_ms()
    counts, _ = np.histogram(first_ms - first_ms.min(), bins=20, range=(0, 2000))
    assert counts.min() > 40
    assert counts.max() < 60
    assert np.array_equal(first_ms[:10], Plan(10, 60, 2).first_ms())


def test_a_plan_that_contradicts_itself_is_refused() -> None:
    for plan in (Plan(1, 1, 2), Plan(1, 7200, prepared=True), Plan(1, 60, outages=(Outage(0.5, 60, 10),))):
        with pytest.raises(FleetError, match=r"expected|held in memory"):
            plan.check()


def test_prepared_batches_open_to_the_values_that_the_source_gives(schema: Schema) -> None:
    columns = np.arange(40)
    values = pickle.loads(pickle.dumps(Walks(schema, columns, 5)))  # workers get it so
    vehicles = [f"{number:016x}" for number in range(3)]
    work = Work(values, vehicles, Plan(3, 8, 2, 5).first_ms(), 4, 2, probe=7)
    source = values(range(3))
    truth = np.stack([source.next() for _ in range(8)])
    for one in work.seal(range(3)):
        opener = StreamOpener(vehicles[one.number], one.stream, one.key)
        from simulator.fleet.sealing import baseline_of

        baseline = baseline_of(one.first, int(work.first_ms[one.number]))
        for sequence in range(1, 5):
            header, _, body = opener.open(one.batch(sequence))
            rows = decode_rows(body, baseline)
            assert header.sequence == sequence
            assert np.array_equal(rows.raw, truth[2 * sequence - 2 : 2 * sequence, one.number])
            assert rows.tick_ms.tolist() == [int(work.first_ms[one.number]) + 1000 * tick for tick in (2 * sequence - 2, 2 * sequence - 1)]
        assert np.array_equal(one.probe, truth[:, one.number, 7])


def written(ticks: int = 6, stored: int = 6) -> Written:
    return Written("a" * 16, START_MS + 1000 * np.arange(ticks), np.arange(ticks) * 3, np.arange(ticks) < stored)


def found(ticks: list[int], values: list[float]) -> Found:
    return Found(START_MS + 1000 * np.array(ticks, np.int64), np.array(values, np.float64))


def test_the_comparison_counts_each_kind_of_fault() -> None:
    def faults(one: Found, of: Written) -> dict[str, int]:
        result = compare(of, one, 0.5, 10.0)
        return {name: value for name, value in vars(result).items() if value and name not in ("expected", "found")}

    values = [10 + 1.5 * tick for tick in range(6)]
    ticks = list(range(6))
    assert faults(found(ticks, values), written()) == {}
    assert faults(found(ticks[:4], values[:4]), written()) == {"lost": 2}
    assert faults(found([0, 1, 1, 2, 3, 4, 5], [values[tick] for tick in (0, 1, 1, 2, 3, 4, 5)]), written()) == {"duplicated": 1}
    assert faults(found([0, 2, 1, 3, 4, 5], [values[tick] for tick in (0, 2, 1, 3, 4, 5)]), written()) == {"out_of_order": 1}
    assert faults(found(ticks, [*values[:5], 99.0]), written()) == {"different": 1}
    assert faults(found(ticks, [*values[:5], float("nan")]), written()) == {"different": 1}
    assert faults(found([*ticks, 7], [*values, 1.0]), written()) == {"unknown": 1}
    assert faults(found(ticks, values), written(stored=4)) == {"early": 2}
    assert faults(found([], []), written()) == {"lost": 6}


def test_a_ledger_is_read_back_and_kept_apart_from_another_run(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "run.db"
    stream = bytes(16)
    with Ledger(path) as ledger:
        ledger.note_run({"probe": "A.B", "scale": 0.5, "offset": 10.0, "replay": False})
        ledger.note_vehicles([(0, "a" * 16, "healthy")])
        ledger.sealed(0, stream, 0, None, np.empty(0, np.int64), 2300, -1.0)
        for sequence in (1, 2, 3):
            ledger.sealed(0, stream, sequence, START_MS + 2000 * (sequence - 1), np.array([6, 9]) * sequence, 100, 2.0 * sequence)
        ledger.save()
        ledger.receipted(stream, 0, 1, Status.STORED, 0.1)
        ledger.receipted(stream, 1, 1, Status.STORED, 2.1)
        ledger.receipted(stream, 1, 9, Status.REFUSED, 5.0)  # only the first counts
        ledger.receipted(stream, 2, 2, Status.QUARANTINED, 4.1)
    with Reading(path) as reading:
        assert reading.counts() == {"sealed": 4, "stored": 2, "quarantined": 1, "refused": 0, "unreceipted": 1}
        [vehicle] = reading.vehicles()
        assert vehicle.tick_ms.tolist() == [START_MS + 1000 * tick for tick in range(6)]
        assert vehicle.probe.tolist() == [6, 9, 12, 18, 18, 27]
        assert vehicle.stored.tolist() == [True] * 2 + [False] * 4

        class Store:
            def read(self, vehicle: str, signal: str, from_ms: int, to_ms: int) -> Found:
                assert (vehicle, signal, from_ms, to_ms) == ("a" * 16, "A.B", START_MS, START_MS + 5001)
                return found([0, 1], [13.0, 14.5])

        whole, faulty = verify(reading, Store())
        assert (whole.expected, whole.found, whole.faults, faulty) == (2, 2, 0, {})
    with pytest.raises(FleetError, match="is there already"), Ledger(path):
        pass
    with pytest.raises(FleetError, match="expected a ledger"), Reading(tmp_path / "none.db"):
        pass
    (tmp_path / "text.db").write_text("no database, but long enough to be looked at as one" * 20)
    with pytest.raises(FleetError, match="expected a ledger"), Reading(tmp_path / "text.db"):
        pass


def test_a_ledger_of_a_run_that_never_began_leaves_no_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with Ledger(tmp_path / "run.db"):
        pass
    assert list(tmp_path.iterdir()) == []
