"""`cansight models evaluate PACKS SCENARIO.toml`: cars are simulated and judged at once, and nothing is kept but what was found."""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cansight.errors import UsageError

if TYPE_CHECKING:
    from models.evaluation.confidence import Figure
    from models.pack import Pack
    from simulator.bus_changes import BusChanges, Change
    from simulator.months import Months, Stretch
    from simulator.scenario import Scenario

MONTH_DRIVING_S = 40 * 3600.0
WEEKS = 24  # that count of a healthy car's year
CARS, CARS_OF_MANY = 140, 8  # healthy ones that are simulated together; where hundreds of signals are judged at once
MANY = 100
GATE = "GW_Vehicle.IgnitionState"


@dataclass(frozen=True)
class Part:
    """What cars that were simulated together came to.

    learning: alarms of each pack in first drives, while it learns its baselines. found: (vehicle, code, seen_s, ticket_s).
    faults: vehicle -> (code, onset_s, failed_s). changes: how often a bus woke or fell asleep, which packs over the network judged.
    """

    vehicles: list[int]
    driving_s: float
    charging_s: float
    ticks: int
    judged: list[int]
    learning: list[int]
    found: list[tuple[int, str, float, float | None]]
    faults: dict[str, tuple[str, float, float | None]]
    changes: int = 0


def evaluate_simulated(
    packs: Sequence["Pack"], name: str, seed: int, months: float | None, keep: Path | None, spare_s: float, as_json: bool
) -> None:
    """Simulate, judge, print. keep: parts that are done are read from here, and written to it.

    Raises UsageError, ScenarioError, TrainingDataError.
    """
    import simulator

    what = simulator.scenario(name)
    _check_gates(packs)
    parts = []
    for part in _parts(packs, what, seed, months, keep):
        parts.append(part)
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{len(parts)} parts, {sum(map(_healthy_months, parts)):.0f} healthy vehicle-months", nl=False, err=True)
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
    summary = summed(parts, spare_s)
    if as_json:
        click.echo(json.dumps({"packs": [pack.manifest.pack_id for pack in packs], "seed": seed} | summary, indent=2, default=_figure))
    else:
        click.echo("\n".join(lines(packs, summary)))


def _check_gates(packs: Sequence["Pack"]) -> None:
    """While a car charges nothing is simulated tick by tick: no pack may then have an opinion, but those over the network's figures."""
    from models.evaluation.bus import is_of_the_bus

    for pack in packs:
        if is_of_the_bus(pack):
            continue
        gate = next((signal for signal in pack.manifest.signals if signal.name == GATE and signal.role == "context"), None)
        if gate is None or gate.minimum <= 0:
            raise UsageError(
                f"pack {pack.folder}: judges cars that stand or charge, too; simulated months are of packs with {GATE} as context"
            )


def _parts(packs: Sequence["Pack"], what: "Scenario", seed: int, months: float | None, keep: Path | None) -> Iterator[Part]:
    from models.evaluation.bus import is_of_the_bus

    about = {
        "scenario": hashlib.sha256(repr(what.table).encode()).hexdigest(),
        "seed": seed,
        "packs": [pack.manifest.model.sha256 + hashlib.sha256(repr(pack.manifest).encode()).hexdigest() for pack in packs],
    }
    done = _kept(keep, about)
    everyone = list(range(what.vehicles))
    step = len(everyone)
    if months is not None:
        step = CARS if all(len(pack.manifest.signals) < MANY or is_of_the_bus(pack) for pack in packs) else CARS_OF_MANY
    total = 0.0
    for at, first in enumerate(range(0, len(everyone), step)):
        part = done[at] if at < len(done) else simulated(packs, what, seed, everyone[first : first + step])
        if at >= len(done) and keep is not None:
            with keep.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(part)) + "\n")
        yield part
        total += _healthy_months(part)
        if months is not None and total >= months:
            return


def _kept(keep: Path | None, about: dict[str, Any]) -> list[Part]:
    if keep is None:
        return []
    if not keep.exists():
        keep.write_text(json.dumps(about) + "\n", encoding="utf-8")
        return []
    try:
        first, *rest = [json.loads(line) for line in keep.read_text(encoding="utf-8").splitlines()]
        if first != about:
            raise UsageError(f"{keep}: is of other packs, another scenario or another seed; give another file")
        return [Part(**one) for one in rest]
    except (ValueError, TypeError) as error:
        raise UsageError(f"{keep}: is no file of an evaluation: {error}; give another one") from error


def simulated(packs: Sequence["Pack"], what: "Scenario", seed: int, vehicles: Sequence[int]) -> Part:
    """Learn these cars, then judge them.

    Packs over the network's figures judge what the buses say where they wake and fall asleep; the others every tick, and where a joint one
    is among them, as late as a bus says the values.
    """
    from models.evaluation.bus import is_of_the_bus
    from models.evaluation.lateness import Lateness
    from models.evaluation.months import judge, learn, signals_of
    from simulator.bus_changes import BusChanges
    from simulator.lives import first_drives, lives, stretches
    from simulator.months import Months

    of_ticks = [pack for pack in packs if not is_of_the_bus(pack)]
    of_bus = [pack for pack in packs if is_of_the_bus(pack)]
    signals = signals_of(of_ticks) or [GATE]

    def rows(months: "Months", watch: "BusChanges", first: bool = False) -> "Iterator[Stretch]":
        some = any(pack.manifest.rung == "joint" for pack in of_ticks)
        late = Lateness(months.schema, months.columns, len(months.lanes), seed) if some else None
        for stretch in stretches(months, first):
            if of_bus:
                watch.see(stretch)
            if late is not None:
                late(stretch)
            yield stretch

    cars = lives(what, seed, vehicles, WEEKS)
    first = first_drives(vehicles)
    place = {vehicle: at for at, vehicle in enumerate(vehicles)}
    months = Months(what, seed, first, signals)
    learned = learn(of_ticks, rows(months, BusChanges(len(first)), first=True), [place[lane.vehicle] for lane in first], len(vehicles))
    lanes = [lane for car in cars for lane in car.lanes]
    months, watch = Months(what, seed, lanes, signals), BusChanges(len(lanes))
    judged = judge(of_ticks, rows(months, watch), [place[lane.vehicle] for lane in lanes], learned.baselines)
    found = [(int(vehicles[one.vehicle]), one.fault_code, one.seen_s, one.ticket_s) for one in judged.found]
    ticks_of = dict(zip(map(id, of_ticks), judged.judged.sum(axis=1).tolist(), strict=True))
    changes = watch.changes()
    if of_bus:
        bus_found, bus_ticks = _judged_bus(of_bus, changes, seed)
        found += [(lanes[changes[at].lane].vehicle, code, seen_s, ticket_s) for at, code, seen_s, ticket_s in bus_found]
        ticks_of |= dict(zip(map(id, of_bus), bus_ticks, strict=True))
    learning = dict(zip(map(id, of_ticks), learned.raised, strict=True))
    return Part(
        vehicles=list(vehicles),
        driving_s=float(months.driving_s.sum()),
        charging_s=float(months.charging_s.sum()),
        ticks=int(months.ticks),
        judged=[int(ticks_of[id(pack)]) for pack in packs],
        learning=[learning.get(id(pack), 0) for pack in packs],
        found=sorted(found),
        faults={
            str(car.vehicle): (car.fault.code, car.fault.onset_s, car.fault.failed_s if car.fault.failed_s < float("inf") else None)
            for car in cars
            if car.fault is not None
        },
        changes=len(changes),
    )


def _judged_bus(
    packs: Sequence["Pack"], changes: "Sequence[Change]", seed: int
) -> tuple[list[tuple[int, str, float, float | None]], list[int]]:
    """Findings (number of the change, code, seen, ticket) of packs over the network's figures, and the ticks that each judged."""
    import numpy as np

    from dbc.network import network_names
    from models.evaluation.bus import judge_bus
    from simulator.bus_changes import AFTER_S, BusTimes

    times = BusTimes()
    spans = np.array([(one.time_s, min(one.time_s + AFTER_S, one.until_s)) for one in changes]).reshape(-1, 2)
    found, judged, _ = judge_bus(packs, network_names(times.schema), times.around(changes, seed), times.channel, times.period_ms, spans)
    return found, judged.tolist()


def _healthy_months(part: Part) -> float:
    return part.driving_s / MONTH_DRIVING_S if not part.faults else 0.0


def summed(parts: Sequence[Part], spare_s: float) -> dict[str, Any]:
    """All figures; of the healthy cars a month, of each fault code shares of the cars."""
    import numpy as np

    from models.evaluation.confidence import Figure, poisson, share

    def rate(count: int, months: float) -> Figure:
        low, high = poisson(count, months)
        return Figure(count / months, low, high, count, "Garwood")

    result: dict[str, Any] = {}
    healthy = [part for part in parts if not part.faults]
    if healthy:
        months = sum(map(_healthy_months, healthy))
        found = [one for part in healthy for one in part.found]
        ticket = [one for one in found if one[3] is not None]
        result["healthy"] = {
            "vehicles": sum(len(part.vehicles) for part in healthy),
            "months": months,
            "charging_hours": sum(part.charging_s for part in healthy) / 3600,
            "ticks": sum(part.ticks for part in healthy),
            "judged": [sum(ticks) for ticks in zip(*(part.judged for part in healthy), strict=True)],
            "bus_changes": sum(part.changes for part in healthy),
            "while_learning": [sum(raised) for raised in zip(*(part.learning for part in healthy), strict=True)],
            "ticket_level": rate(len(ticket), months),
            "ticket_level_upper": poisson(len(ticket), months, 0.90)[1],
            "below": rate(len(found) - len(ticket), months),
            "ticket_level_by_code": dict(Counter(one[1] for one in ticket).most_common()),
            "below_by_code": dict(Counter(one[1] for one in found if one[3] is None).most_common()),
        }
    faulty = [part for part in parts if part.faults]
    if faulty:
        cases = [(int(vehicle), fault, part.found) for part in faulty for vehicle, fault in part.faults.items()]
        rows: dict[str, list[tuple[bool, bool, bool, str | None, float]]] = {}
        for vehicle, (code, onset_s, failed_s), found in cases:
            tickets = sorted((one[3], one[1] == code, one[1]) for one in found if one[0] == vehicle and one[3] is not None)
            at, right, named = tickets[0] if tickets else (float("inf"), False, None)
            left_s = (failed_s if failed_s is not None else float("inf")) - at
            rows.setdefault(code, []).append((left_s > 0, left_s >= spare_s, right, named, (at - onset_s) / 3600))

        def of(flags: Sequence[bool]) -> Figure:
            return share(np.array(flags, np.float64), np.ones(len(flags)))

        result["faults"] = [
            {
                "fault_code": code,
                "before_failure": of([row[0] for row in some]),
                "with_spare": of([row[1] for row in some]),
                "code_right": of([row[2] for row in some if row[3] is not None]),
                "named": dict(Counter(row[3] for row in some).most_common()),
                "hours_to_find": [row[4] for row in some if row[3] is not None],
            }
            for code, some in sorted(rows.items())
        ]
        every = [row for some in rows.values() for row in some]
        result["before_failure"] = of([row[0] for row in every])
        result["code_right"] = of([row[2] for row in every if row[3] is not None])
        result["spare_s"] = spare_s
    return result


def lines(packs: Sequence["Pack"], summary: dict[str, Any]) -> list[str]:
    """As text."""
    from simulator.lives import FIRST_DRIVES

    text = []
    if healthy := summary.get("healthy"):
        ticket, below = healthy["ticket_level"], healthy["below"]
        text += [
            f"{len(packs)} packs, {healthy['vehicles']} healthy cars, {healthy['months']:.1f} vehicle-months of 40 h driving "
            f"(they charged {healthy['charging_hours']:.0f} h, when no pack judges)"
            + (f"; buses woke and slept {healthy['bus_changes']} times" if healthy["bus_changes"] else ""),
            f"while they were learned, in {FIRST_DRIVES} drives each: {sum(healthy['while_learning'])} alarms",
            f"ticket level  {ticket.of} findings: {_plain(ticket)} a month, one-sided 95 % upper bound {healthy['ticket_level_upper']:.4f}"
            + _by_code(healthy["ticket_level_by_code"]),
            f"below it      {below.of} findings: {_plain(below)} a month" + _by_code(healthy["below_by_code"]),
        ]
    if faults := summary.get("faults"):
        text.append(
            f"faults found at ticket level before failure: {_share(summary['before_failure'])} of {summary['before_failure'].of}; "
            f"the first names the fault: {_share(summary['code_right'])} of {summary['code_right'].of}"
        )
        for one in faults:
            hours = sorted(one["hours_to_find"])
            middle = f"; median {hours[len(hours) // 2]:.0f} h after onset" if hours else ""
            named = ", ".join(f"{name or 'nothing'} {count}" for name, count in one["named"].items())
            text.append(
                f"  {one['fault_code']}: {_share(one['before_failure'])} of {one['before_failure'].of}, "
                f"{summary['spare_s'] / 3600:g} h before it {_share(one['with_spare'])}{middle}; named {named}"
            )
    return text


def _by_code(counts: dict[str, int]) -> str:
    return "".join(f"\n                {count} {code}" for code, count in counts.items())


def _plain(figure: "Figure") -> str:
    return f"{figure.value:.4f} ({figure.low:.4f} … {figure.high:.4f})"


def _share(figure: "Figure") -> str:
    return "none" if figure.value is None else f"{figure.value:.1%} ({figure.low:.1%} … {figure.high:.1%})"


def _figure(value: Any) -> Any:
    return value.to_dict() if hasattr(value, "to_dict") else float(value)
