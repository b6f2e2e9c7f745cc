"""The report of an evaluation: every figure with its interval, recordings with their faults and findings, what the findings name."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.evaluation.confidence import Figure
from models.evaluation.events import DriveCounts, Event, Judged
from models.evaluation.judging import Result
from models.explanation import Language
from models.manifest import Manifest
from models.report.page import Chart, Section, Table, Tiles, axis, page
from models.report.traces import Trace, chart
from models.report.words import Say

__all__ = ["Witness", "evaluation_report"]

SHOWN = 8
"""Recordings with a picture of their own."""
KEPT = 60
MOST_SIGNALS = 20
FAR_MS = 2**62


@dataclass
class Witness:
    """Looks on while drives are judged, and keeps the few that a reader wants to see: those where something went wrong, first.

    Give `see` as `each` of `models.evaluation.judging.run`.
    """

    fault_code: str
    kept: list[tuple[int, Judged, list[Event]]] = field(default_factory=list)
    shares: dict[str, dict[str, float]] = field(default_factory=lambda: {"right": {}, "false": {}})
    findings: dict[str, int] = field(default_factory=lambda: {"right": 0, "false": 0})
    outside: dict[str, int] = field(default_factory=dict)

    def see(self, judged: Judged, events: list[Event], counted: DriveCounts) -> None:
        """One drive."""
        for name, ticks in judged.outside.items():
            self.outside[name] = self.outside.get(name, 0) + ticks
        for row, contributions in zip(judged.raised, judged.contributions, strict=True):
            time = int(judged.tick_ms[row])
            kind = "right" if any(event.begin_ms <= time < event.end_ms and self._own(event) for event in events) else "false"
            self.findings[kind] += 1
            for name, share in contributions.items():
                self.shares[kind][name] = self.shares[kind].get(name, 0.0) + share
        urgency = 3 * (counted.false + counted.wrong_code > 0) + 2 * (counted.found < counted.events) + (counted.events > 0)
        if sum(1 for other, *_ in self.kept if other == urgency) < SHOWN and len(self.kept) < KEPT:
            self.kept.append((urgency, judged, events))

    def _own(self, event: Event) -> bool:
        return event.fault_code in (None, self.fault_code)


def evaluation_report(manifest: Manifest, result: Result, witness: Witness, language: Language = "en") -> str:
    """HTML."""
    say, figures = Say(language), result.evaluation
    lead = say(
        "Fault {code}. {drives} recordings, {ticks} ticks, {months:.3g} healthy vehicle-months. Intervals are 95 %, two-sided. "
        "No figure is point-adjusted.",
        code=manifest.fault_code,
        drives=figures.drives,
        ticks=figures.ticks,
        months=figures.months,
    )
    sections = [
        _overview(result, say),
        _figures(result, say),
        _recordings(manifest, witness, say),
        _named(witness, say),
        _range(result, witness, say),
        _table(result, say),
    ]
    return page(say("Evaluation of {pack} {version}", pack=manifest.pack_id, version=manifest.version), lead, sections, language)


def _overview(result: Result, say: Say) -> Section:
    of = result.evaluation
    false = "false findings" if of.false_findings_upper is None else "false findings; with 95 % under {upper:.2g} a vehicle-month"
    before, judged = of.before_failure.value, of.judged.value
    tiles = [
        (say("{found} of {all}", found=sum(d.found for d in result.drives), all=of.event_recall.of), say("faults found")),
        (str(of.false_findings_per_month.of), say(false, upper=of.false_findings_upper)),
        (_number(of.delay_median_s.value, " s"), say("from onset to finding, median of those found")),
        (_number(None if before is None else 100 * before, " %"), say("of failing parts found before they failed")),
        (_number(None if judged is None else 100 * judged, " %"), say("of the ticks judged, the rest is not known")),
    ]
    return Section(say("In short"), "", [Tiles(tiles)])


def _figures(result: Result, say: Say) -> Section:
    of = result.evaluation
    shares: list[tuple[str, Figure]] = [
        ("event recall", of.event_recall),
        ("event precision", of.event_precision),
        ("recordings with a false finding", of.alarmed_drives),
        ("found before failure", of.before_failure),
        (say("found {hours:g} h before", hours=of.spare_s / 3600), of.with_spare),
        ("point F1", of.point_f1),
        ("point precision", of.point_precision),
        ("ticks falsely alarmed", of.false_alarm_rate),
        ("ticks missed", of.miss_rate),
        ("VUS-PR", of.vus_pr),
        ("event AUROC", of.event_auroc),
    ]
    drawn = [(name, figure) for name, figure in shares if figure.value is not None][::-1]
    values = [100 * (figure.value or 0.0) for _, figure in drawn]
    high = [value if figure.high is None else 100 * figure.high for (_, figure), value in zip(drawn, values, strict=True)]
    low = [value if figure.low is None else 100 * figure.low for (_, figure), value in zip(drawn, values, strict=True)]
    bars = {
        "type": "scatter",
        "mode": "markers",
        "x": [round(value, 3) for value in values],
        "y": [say(name) for name, _ in drawn],
        "marker": {"color": "--series-0", "size": 9},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": np.subtract(high, values).round(3).tolist(),
            "arrayminus": np.subtract(values, low).round(3).tolist(),
            "color": "--series-0",
            "thickness": 1.6,
        },
        "hovertemplate": "%{y}: %{x:.1f} %<extra></extra>",
    }
    every = [*shares, ("false findings a vehicle-month", of.false_findings_per_month)]
    every += [(say("NAB, {profile}", profile=say(name.replace("_", " "))), figure) for name, figure in of.nab.items()]
    every += [("delay, median [s]", of.delay_median_s), ("delay, 90 % [s]", of.delay_p90_s)]
    rows = [
        [say(name), _number(figure.value), _number(figure.low), _number(figure.high), str(figure.of), say(figure.method)]
        for name, figure in every
    ]
    words = say(
        "A finding is right if the alarm rises inside a fault; one that rose before it is false. A tick without judgement has no alarm."
    )
    if of.always_alarm_f1 is not None:
        words += say(
            " An alarm that never ends would reach a point F1 of {f1:.3f} here; {labelled:.1%} of the ticks are labelled, which is what a "
            "score that knows nothing reaches in VUS-PR.",
            f1=of.always_alarm_f1,
            labelled=of.labelled or 0,
        )
    return Section(
        say("Figures"),
        words,
        [
            Chart(
                say("Shares with their 95 % intervals"),
                [bars],
                {"xaxis": axis(say("share [%]"), range=[-2, 102]), "yaxis": axis("")},
                90 + 28 * len(drawn),
            ),
            Table([say(one) for one in ("figure", "value", "low", "high", "of", "interval")], rows),
        ],
    )


def _recordings(manifest: Manifest, witness: Witness, say: Say) -> Section:
    chosen = sorted(witness.kept, key=lambda one: -one[0])[:SHOWN]
    charts = []
    for _, judged, events in chosen:
        own = [(event.begin_ms, min(event.end_ms, FAR_MS)) for event in events if event.fault_code in (None, manifest.fault_code)]
        findings = [(int(judged.tick_ms[row]), any(a <= judged.tick_ms[row] < b for a, b in own)) for row in judged.raised]
        raise_at = judged.raise_at or manifest.threshold.raise_at
        charts.append(chart(Trace(judged.source, judged.tick_ms, judged.score, raise_at, own, findings), say))
    return Section(
        say("Recordings"),
        say("Those with false findings and missed faults come first. Shaded: the fault. Where the line is broken there is no judgement."),
        charts,
    )


def _named(witness: Witness, say: Say) -> Section:
    data: list[dict[str, Any]] = []
    everyone = {name for kind in witness.shares.values() for name in kind}
    total = {name: sum(witness.shares[kind].get(name, 0.0) for kind in witness.shares) for name in everyone}
    names = sorted(everyone, key=lambda name: total[name])[-MOST_SIGNALS:]
    for kind, words, colour in (("false", "false findings", "--series-3"), ("right", "findings in a fault", "--series-2")):
        count = witness.findings[kind]
        if count:
            data.append(
                {
                    "type": "bar",
                    "orientation": "h",
                    "name": f"{say(words)} ({count})",
                    "y": names,
                    "x": [round(100 * witness.shares[kind].get(name, 0.0) / count, 2) for name in names],
                    "marker": {"color": colour},
                }
            )
    if not data:
        return Section(say("What the findings name"), say("There was no finding."))
    layout = {
        "xaxis": axis(say("mean share of the score [%]"), rangemode="tozero"),
        "yaxis": axis(""),
        "barmode": "group",
        "showlegend": True,
    }
    return Section(
        say("What the findings name"),
        say("A signal's share of the score at the tick at which the alarm rose."),
        [Chart(say("Mean contributions"), data, layout, 120 + 30 * len(names))],
    )


def _range(result: Result, witness: Witness, say: Say) -> Section:
    ticks = result.evaluation.ticks
    outside = sorted(((name, count) for name, count in witness.outside.items() if count), key=lambda one: one[1])[-MOST_SIGNALS:]
    if not outside:
        return Section(say("Trained range"), say("No signal left the range that the training covered."))
    bar = {
        "type": "bar",
        "orientation": "h",
        "y": [name for name, _ in outside],
        "x": [round(100 * count / ticks, 3) for _, count in outside],
        "marker": {"color": "--series-0"},
        "hovertemplate": "%{y}: %{x:.2f} %<extra></extra>",
    }
    return Section(
        say("Trained range"),
        say("Ticks whose operating point the training has not seen are not judged, and neither are those that look back on one."),
        [
            Chart(
                say("Ticks outside the trained range and its margin"),
                [bar],
                {"xaxis": axis(say("share of all ticks [%]")), "yaxis": axis("")},
                90 + 26 * len(outside),
            )
        ],
    )


def _table(result: Result, say: Say) -> Section:
    rows = [
        [
            d.source,
            str(d.ticks),
            f"{d.judged / max(d.ticks, 1):.1%}",
            str(d.events),
            str(d.found),
            str(d.false),
            str(d.wrong_code),
            f"{np.median(d.delay_s):.0f}" if d.delay_s else "",
        ]
        for d in result.drives[:500]
    ]
    words = "" if len(result.drives) <= 500 else say("The first 500 of {count}.", count=len(result.drives))
    header = ("recording", "ticks", "judged", "faults", "found", "false findings", "of another fault", "delay [s]")
    return Section(say("Every recording"), words, [Table([say(one) for one in header], rows)])


def _number(value: float | None, unit: str = "") -> str:
    return "–" if value is None else f"{value:.4g}{unit}"
