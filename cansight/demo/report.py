"""The figures at the end of a demonstration, measured in it, and the verdict: did the leak become a ticket, was nothing lost?"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table


@dataclass(frozen=True)
class Report:
    """Everything that is printed at the end, or given as JSON."""

    vehicles: int
    frames: int
    frames_unknown: int
    signals: int
    signals_seen: int
    ticks: int
    samples: int
    samples_changed: int
    bytes_sealed: int
    batches_recorded: int
    batches_receipted: int
    batches_unread: int
    ticks_missing: int
    ticks_extra: int
    latency_s: dict[str, float | None]
    findings: int
    tickets: list[dict[str, Any]]
    tickets_expected: list[str]
    restarts: int
    duration_s: float

    @property
    def lost(self) -> int:
        """Batches without receipt, or kept unread, and ticks that the store's query does not return."""
        return self.batches_recorded - self.batches_receipted + self.batches_unread + self.ticks_missing

    @property
    def problems(self) -> list[str]:
        """What keeps the demonstration from being a success; empty when it is one."""
        found = []
        if self.batches_recorded != self.batches_receipted:
            found.append(f"{self.batches_recorded - self.batches_receipted} batches have no receipt")
        if self.batches_unread:
            found.append(f"{self.batches_unread} batches were quarantined or refused")
        if self.ticks_missing:
            found.append(f"the store lacks {self.ticks_missing} ticks")
        if self.ticks_extra:
            found.append(f"the store has {self.ticks_extra} ticks that no vehicle recorded")
        if not self.ticks:
            found.append("no tick was recorded")
        open_on = {ticket["vehicle"] for ticket in self.tickets if ticket["fault_code"] == "coolant_leak"}
        found += [f"the leak of vehicle {vehicle} did not become a ticket" for vehicle in self.tickets_expected if vehicle not in open_on]
        return found

    def as_json(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        per_sample = self.bytes_sealed / self.samples if self.samples else None
        return fields | {"lost": self.lost, "bytes_per_signal_sample": per_sample, "problems": self.problems}


def percentiles(latency_s: NDArray[np.float64]) -> dict[str, float | None]:
    """p50, p95, p99 and the maximum in seconds; None without a measurement."""
    if not len(latency_s):
        return {"p50": None, "p95": None, "p99": None, "max": None}
    p50, p95, p99 = np.percentile(latency_s, [50, 95, 99])
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "max": float(latency_s.max())}


def show(report: Report, console: Console) -> None:
    """Print the figures as a table, then the tickets, then the verdict."""
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    rows = [
        ("vehicles", f"{report.vehicles}"),
        ("frames", f"{report.frames:,} ({_share(report.frames - report.frames_unknown, report.frames)} known to the DBC)"),
        ("signals", f"{report.signals_seen:,} seen of {report.signals:,} in the DBC, for each vehicle"),
        ("ticks (1 Hz)", f"{report.ticks:,}, of which the store lacks {report.ticks_missing}"),
        ("batches", f"{report.batches_recorded:,} recorded, {report.batches_receipted:,} receipted"),
        ("bytes per signal-sample", _bytes(report)),
        ("frame to queryable", _latency(report.latency_s)),
        ("findings", f"{report.findings}"),
        ("tickets", f"{len(report.tickets)}"),
        ("restarts", f"{report.restarts} of broker, aggregator or store"),
        ("took", f"{report.duration_s:.1f} s"),
    ]
    for name, value in rows:
        table.add_row(f"[bold]{name}[/bold]", value)
    console.print(table)
    for ticket in report.tickets:
        words = escape(ticket["fault_words"])
        console.print(f"\n[bold]Ticket {ticket['id']}[/bold]  vehicle {ticket['vehicle']}  {words}  (tier {ticket['tier']})")
        for item in ticket.get("evidence", {}).get("contributions", [])[:3]:
            expected, seen = (_value(item[key], item["unit"]) for key in ("expected", "seen"))
            margin = f" ± {item['margin']:.2g}" if item.get("margin") else ""
            words = f"{item['words']} ({item['signal']})" if item.get("words") else item["signal"]
            console.print(f"  {words}: expected {expected}{margin}, seen {seen}", markup=False)
        if ticket.get("action"):
            console.print(f"  suggested: {ticket['action']}", markup=False)
    console.print()
    if report.problems:
        console.print(f"[bold red]Not as promised:[/bold red] {'; '.join(report.problems)}")
    elif report.tickets_expected:
        console.print("[bold green]The leak became a ticket, and nothing was lost.[/bold green]")
    else:
        console.print("[bold green]Nothing was lost.[/bold green]")


def _value(value: float | None, unit: str) -> str:
    return "no valid value" if value is None else f"{value:.4g} {unit}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"


def _bytes(report: Report) -> str:
    if not report.samples:
        return "none sent"
    changing = f", {report.bytes_sealed / report.samples_changed:.2f} per changed one" if report.samples_changed else ""
    return f"{report.bytes_sealed / report.samples:.2f} sealed{changing} ({report.samples:,} samples)"


def _latency(latency_s: dict[str, float | None]) -> str:
    if latency_s["p50"] is None:
        return "not measured"
    return ", ".join(f"{name} {value:.2f} s" for name, value in latency_s.items() if value is not None)
