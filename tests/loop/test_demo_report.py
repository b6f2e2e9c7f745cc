"""What `cansight demo` prints at its end, and what it counts as lost."""

from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from cansight.demo.report import Report, show
from cansight.demo.watch import read_ledger

GOOD: dict[str, Any] = {
    "vehicles": 1,
    "frames": 1000,
    "frames_unknown": 0,
    "signals": 4,
    "signals_seen": 4,
    "ticks": 10,
    "samples": 40,
    "samples_changed": 20,
    "bytes_sealed": 400,
    "batches_recorded": 6,
    "batches_receipted": 6,
    "batches_unread": 0,
    "ticks_missing": 0,
    "ticks_extra": 0,
    "latency_s": {"p50": 0.1, "p95": 0.2, "p99": 0.3, "max": 0.3},
    "findings": 0,
    "tickets": [],
    "tickets_expected": [],
    "restarts": 0,
    "duration_s": 12.0,
}


def printed(**changes: Any) -> str:
    console = Console(file=StringIO(), width=200, color_system=None)
    show(Report(**GOOD | changes), console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_contribution_without_a_value_and_a_unit_in_brackets_are_printed_as_they_are() -> None:
    contributions = [
        {"signal": "Pump.Flow", "unit": "[/l/min]", "expected": 1.5, "seen": None},
        {"signal": "Pump.Current", "unit": "[A]", "expected": None, "seen": 2.0},
    ]
    ticket = {"id": 1, "vehicle": "0011223344556677", "fault_code": "leak", "fault_words": "Leak [/x]", "tier": "unrated", "action": "[/y]"}
    text = printed(tickets=[ticket | {"evidence": {"contributions": contributions}}])
    assert "Pump.Flow: expected 1.5 [/l/min], seen no valid value" in text
    assert "Pump.Current: expected no valid value, seen 2 [A]" in text
    assert "Leak [/x]" in text
    assert "suggested: [/y]" in text


def test_a_batch_that_the_cloud_keeps_unread_is_not_called_a_success() -> None:
    assert "Nothing was lost." in printed()
    assert Report(**GOOD | {"batches_unread": 2}).lost == 2
    assert "Not as promised: 2 batches were quarantined or refused" in printed(batches_unread=2)


def test_the_ledgers_ticks_without_a_value_are_no_ticks_of_a_store(tmp_path: Path) -> None:
    ledger = tmp_path / "ticks.csv"
    ledger.write_text("tick_ms,entered_ns,samples\n1000,5,0\n2000,6,3\n3000,7,0\n4000,8,1\n5000,9")
    assert read_ledger(ledger).tolist() == [[2000, 6], [4000, 8]]
