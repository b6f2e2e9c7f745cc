"""`models evaluate PACKS SCENARIO.toml`: what it counts, what it keeps, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from cansight.commands.models_simulated import Part, lines, summed
from cansight.main import main

PACKS = Path(__file__).parents[2] / "models" / "packs"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        main(["models", "evaluate", *map(str, arguments)])
    return int(stop.value.code or 0), "".join(capsys.readouterr())


def part(**changes: Any) -> Part:
    base: dict[str, Any] = {
        "vehicles": [1, 2, 3],
        "driving_s": 100 * 144_000.0,
        "charging_s": 0.0,
        "ticks": 1,
        "judged": [5],
        "learning": [2],
        "found": [(1, "coolant_leak", 10.0, None), (2, "tyre_pressure_low", 20.0, 30.0), (2, "tyre_pressure_low", 50.0, None)],
        "faults": {},
    }
    return Part(**(base | changes))


def test_levels_are_counted_apart_and_a_fault_is_found_at_ticket_level() -> None:
    healthy = summed([part(), part(vehicles=[4])], 0.0)["healthy"]
    assert (healthy["ticket_level"].of, healthy["ticket_level"].value) == (2, 0.01)
    assert (healthy["below"].of, healthy["while_learning"], healthy["vehicles"]) == (4, [4], 4)
    assert healthy["ticket_level_upper"] == pytest.approx(6.296 / 200, rel=1e-3)  # Garwood, two findings
    hour = 3600.0
    faulty = part(
        found=[(1, "coolant_leak", 9 * hour, None), (1, "coolant_pump_degraded", 5 * hour, 8 * hour), (2, "coolant_leak", hour, hour)],
        faults={"1": ("coolant_leak", 0.0, 10 * hour), "2": ("coolant_leak", 0.0, 9 * hour), "3": ("coolant_leak", 0.0, None)},
    )
    summary = summed([faulty], 4 * hour)
    (leak,) = summary["faults"]
    assert [round(leak[name].value * leak[name].of) for name in ("before_failure", "with_spare", "code_right")] == [2, 1, 1]
    assert leak["named"] == {"coolant_pump_degraded": 1, "coolant_leak": 1, None: 1}
    assert "nothing 1" in lines([], summary)[-1]


def test_what_is_done_is_kept_and_not_done_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cansight.commands.models_simulated as simulated

    asked: list[list[int]] = []

    def instead(_packs: object, _what: object, _seed: int, vehicles: list[int]) -> Part:
        asked.append(vehicles)
        return part(vehicles=vehicles)

    monkeypatch.setattr(simulated, "simulated", instead)  # the simulation itself takes minutes
    keep, months = tmp_path / "kept.jsonl", PACKS / "months.toml"
    for wanted in (150, 150, 250):
        code, out = run(capsys, PACKS / "coolant", months, "--seed", 5, "--months", wanted, "--keep", keep, "--json")
        assert code == 0, out
    assert json.loads(out)["healthy"]["months"] == 300
    assert [vehicles[0] for vehicles in asked] == [0, 140, 280]
    code, out = run(capsys, PACKS / "coolant", months, "--seed", 6, "--keep", keep)
    assert (code, "another seed; give another file" in out) == (2, True)


def test_what_cannot_be_simulated_is_refused_in_a_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    months = PACKS / "months.toml"
    assert "--seed: says which cars" in run(capsys, PACKS, months)[1]
    assert "leave out --labels" in run(capsys, PACKS, months, "--seed", 5, "--healthy")[1]
    assert "are of a SCENARIO.toml" in run(capsys, PACKS, tmp_path / "x.csv", "--seed", 5)[1]
