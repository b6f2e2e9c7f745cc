"""The report of a training: when it alarms and why there, what its scores look like, what it looks at, and where it has been."""

import numpy as np
from numpy.typing import NDArray

from models.calibrate import highest_persistent
from models.explanation import Language
from models.fit import Detector, scores
from models.manifest import RUNGS
from models.promise import a_month
from models.report.coverage import CELLS, LEAST, PAIR_CELLS, occupancy, pairs_covered
from models.report.page import Chart, Section, Table, Tiles, axis, logarithmic, page
from models.report.traces import Trace
from models.report.traces import chart as trace_chart
from models.report.words import Say
from models.tail import survival
from models.trained import Trained

__all__ = ["training_report"]

MONTH_HOURS = 40
MOST_SIGNALS = 24
"""In a matrix; more cannot be read."""
TOP = 0.01
NAMED = 30
"""Signals that are named of those left out for one reason; of a real car's two thousand most are never sent."""
EULER = 0.5772156649015329


def training_report(trained: Trained, language: Language = "en") -> str:
    """HTML."""
    say, manifest = Say(language), trained.pack.manifest
    one, same = len(trained.table.drives) == 1, trained.held[0] is trained.fitted[0]
    fitted = (
        "Fault {code}; {kind}. One recording: fitted on {ticks} ticks of a second, "
        if one
        else "Fault {code}; {kind}. Fitted on {drives} drives ({ticks} ticks of a second), "
    )
    calibrated = "calibrated on {drives} drives that nothing was fitted on ({ticks} ticks)."
    if same:
        calibrated = "calibrated on the same recording ({ticks} ticks)."
    elif one:
        calibrated = "calibrated on another stretch of it, of {ticks}."
    lead = say(
        fitted,
        code=manifest.fault_code,
        kind=say(RUNGS[manifest.rung]),
        drives=manifest.training.drives,
        ticks=manifest.training.ticks,
    ) + say(calibrated, drives=manifest.calibration.drives, ticks=manifest.calibration.ticks)
    return page(
        say("Training of {pack} {version}", pack=manifest.pack_id, version=manifest.version),
        lead,
        [part(trained, say) for part in (_overview, _threshold, _scores, _signals, _range, _dropped)],
        language,
    )


def _overview(trained: Trained, say: Say) -> Section:
    manifest = trained.pack.manifest
    known = sum(int((one.known & np.isfinite(one.score)).sum()) for one in trained.scored)
    scored = sum(int(np.isfinite(one.score).sum()) for one in trained.scored)
    covered = pairs_covered(*_operating(trained)[1:])
    month = a_month(manifest, MONTH_HOURS)
    above = covered[np.triu_indices(len(covered), 1)]
    tiles = [
        (
            f"{manifest.threshold.raise_at:.3g}",
            say("score that alarms, in {need} of {of} ticks", need=manifest.persistence.need, of=manifest.persistence.of),
        ),
        (f"{manifest.calibration.highest:.3g}", say("highest persistent score of a healthy calibration drive")),
        ("?", say("false findings in a vehicle-month: so few drives say nothing of others"))
        if not month.promises
        else (
            f"{month.finding.expected:.2g}",
            say(
                "false findings expected in a vehicle-month of {hours} h of driving, {upper:.2g} at most (95 %)",
                hours=MONTH_HOURS,
                upper=month.finding.upper,
            ),
        ),
        (f"{known / max(scored, 1):.1%}", say("of the scored calibration ticks lie in the trained range")),
        (f"{above.mean():.0%}" if len(above) else f"{covered.mean():.0%}", say("of the operating range seen, two signals at a time")),
    ]
    return Section(say("In short"), "", [Tiles(tiles)])


def _threshold(trained: Trained, say: Say) -> Section:
    manifest = trained.pack.manifest
    highest = np.sort([highest_persistent(score, manifest.persistence) for score in trained.judged])
    count = len(highest)
    over = 1 - (np.arange(1, count + 1) - 0.5) / count
    raise_at = manifest.threshold.raise_at
    data = [_line(say("calibration drives"), highest, over, "--series-0", mode="markers")]
    budget = manifest.alarm_budget
    if budget.law is not None:
        law = budget.law
        x = np.linspace(law.over, max(raise_at, highest[-1]) * 1.05, 120)
        tail = survival(x - law.over, np.array(law.shape), np.array(law.scale))
        data.append(_line(say("generalised Pareto tail fitted to them"), x, law.share * tail, "--series-2"))
    elif budget.tail == "gumbel":
        spread = float(highest.std(ddof=1)) * np.sqrt(6) / np.pi
        place = float(highest.mean()) - EULER * spread
        x = np.linspace(highest[0], max(raise_at, highest[-1]) * 1.05, 120)
        data.append(_line(say("Gumbel law fitted to them"), x, -np.expm1(-np.exp(-(x - place) / spread)), "--series-2"))
    right = max(raise_at, float(highest[-1]))
    room = 0.04 * (right - min(float(highest[0]), raise_at)) or 1.0
    floor = min(budget.per_drive, 0.5 / count)
    data.append(_line(say("alarm at {score:.3g}", score=raise_at), np.array([raise_at, raise_at]), np.array([floor, 1.0]), "--series-1"))
    promise = a_month(manifest, MONTH_HOURS)
    vouched = (
        "Asked for: {budget:g} false findings a drive. What {drives} calibration drives, worth {worth:.0f} independent ones, can vouch "
        "for: {expected:.2g} expected in a vehicle-month, {upper:.2g} at most (95 %)."
    )
    if not promise.promises:
        vouched = "Asked for: {budget:g} false findings a drive. No promise: so few drives say nothing of others; hundreds do."
    how = say(
        vouched,
        budget=budget.per_drive,
        drives=manifest.calibration.drives,
        worth=budget.drives or manifest.calibration.drives,
        expected=promise.finding.expected,
        upper=promise.finding.upper,
    )
    return Section(
        say("Threshold"),
        how
        + say(
            " A drive's score here is the highest that lasted for {need} of {of} ticks.",
            need=manifest.persistence.need,
            of=manifest.persistence.of,
        ),
        [
            Chart(
                say("Share of healthy drives that reach a score"),
                data,
                {
                    "xaxis": axis(say("highest persistent score of a drive"), range=[min(highest[0], raise_at) - room, right + room]),
                    "yaxis": axis(say("share of drives above"), type="log", dtick=1, exponentformat="power"),
                },
            )
        ],
    )


def _scores(trained: Trained, say: Say) -> Section:
    manifest = trained.pack.manifest
    ordered = np.sort(np.concatenate(list(trained.judged)))
    at = np.unique(np.geomspace(1, len(ordered), 400).astype(np.int64))
    survival = _line(say("healthy ticks"), ordered[len(ordered) - at], at / len(ordered), "--series-0")
    highest = [highest_persistent(score, manifest.persistence) for score in trained.judged]
    order = np.argsort(highest)
    chosen = {"highest": int(order[-1]), "usual": int(order[len(order) // 2])}
    charts = [
        trace_chart(
            Trace(
                say(f"The calibration drive with the {words} score: {{source}}", source=trained.judged_drives[at].source),
                trained.judged_drives[at].tick_ms,
                np.where(trained.judged_scored[at].known, trained.judged_scored[at].score, np.nan),
                manifest.threshold.raise_at,
            ),
            say,
        )
        for words, at in chosen.items()
        if words == "highest" or len(order) > 1
    ]
    return Section(
        say("Scores of healthy ticks"),
        say("A tick's p-value is the share of healthy ticks that score as high: the height of the first curve at its score."),
        [
            Chart(
                say("Share of healthy ticks over a score (p-value)"),
                [survival],
                {
                    "xaxis": logarithmic(say("score"), ordered),
                    "yaxis": logarithmic(say("share of ticks"), np.array([1 / len(ordered), 1.0])),
                },
                280,
            ),
            *charts,
        ],
    )


def _signals(trained: Trained, say: Say) -> Section:
    manifest = trained.pack.manifest
    detector = trained.detector
    shares = _contributions(trained)
    monitored = [manifest.signals[int(at)] for at in detector.monitored]
    order = np.argsort(shares)[-MOST_SIGNALS:]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": (100 * shares[order]).round(3).tolist(),
        "y": [monitored[int(at)].name for at in order],
        "marker": {"color": "--series-0"},
        "hovertemplate": "%{y}: %{x:.1f} %<extra></extra>",
    }
    told = ("explained", "remaining") if manifest.rung == "expected" else ("remaining",)
    header = ("signal", "role", "trained range", "unit", "declared range", *told)
    rows = []
    for signal in manifest.signals:
        explained = manifest.evaluation.explained.get(signal.name)
        at = next((place for place, one in enumerate(monitored) if one.name == signal.name), None)
        rows.append(
            [
                signal.name,
                say(signal.role),
                f"{signal.minimum:.5g} … {signal.maximum:.5g}",
                signal.unit or "–",
                _declared(trained, signal.name),
                *([f"{explained:.1%}" if explained is not None else ""] if manifest.rung == "expected" else []),
                f"{detector.scale[at]:{'.0f' if detector.scale[at] >= 1000 else '.3g'}}" if at is not None else "",
            ]
        )
    return Section(
        say("Signals"),
        say(
            "Remaining: standard deviation of what is left of a signal when its expected value is taken off, on drives that it was not "
            "fitted on. A fault shows when it moves a signal by several of these."
        ),
        [
            Chart(
                say("Who makes the highest {top:.0%} of healthy scores", top=TOP),
                [bars],
                {"xaxis": axis(say("mean share of the score [%]"), rangemode="tozero"), "yaxis": axis("")},
                90 + 24 * len(order),
            ),
            Table([say(one) for one in header], rows),
        ],
    )


def _range(trained: Trained, say: Say) -> Section:
    names, values, low, high = _operating(trained)
    ranges = sum(
        signal.maximum > signal.minimum and (signal.role == "context" or not len(trained.detector.context))
        for signal in trained.pack.manifest.signals
    )
    seen = occupancy(values, low, high)
    covered = pairs_covered(values, low, high)
    margin = say("10 % of it" if len(trained.detector.context) else "its whole width")
    scale = [[0, "--low"], [1, "--high"]]
    cells = {
        "type": "heatmap",
        "z": np.log10(np.maximum(seen, 1)).round(3).tolist(),
        "customdata": seen.tolist(),
        "x": [round(100 * (cell + 0.5) / CELLS, 1) for cell in range(CELLS)],
        "y": names,
        "colorscale": scale,
        "colorbar": {
            "title": {"text": say("seconds")},
            "tickvals": [0, 1, 2, 3, 4, 5],
            "ticktext": ["≤1", "10", "100", "1k", "10k", "100k"],
            "thickness": 12,
        },
        "hovertemplate": "%{y}, %{x} %: %{customdata} s<extra></extra>",
        "xgap": 1,
        "ygap": 1,
    }
    matrix = {
        "type": "heatmap",
        "z": (100 * covered).round(1).tolist(),
        "x": names,
        "y": names,
        "colorscale": scale,
        "zmin": 0,
        "zmax": 100,
        "colorbar": {"title": {"text": "%"}, "thickness": 12},
        "hovertemplate": "%{y}, %{x}: %{z} %<extra></extra>",
        "xgap": 1,
        "ygap": 1,
    }
    words = (
        "Outside the trained range and {margin} on either side the answer is “not known here” and no alarm. A cell counts as seen from "
        "{least} seconds on. Two signals never fill their whole square; pale rows show what the next drives should visit."
    )
    if trained.detector.separate:
        words = "Limits know no operating point: every tick is judged. A cell counts as seen from {least} seconds on."
    if trained.parts:
        words = "Levels are followed wherever they go: every tick is judged. A cell counts as seen from {least} seconds on."
    words = say(words, margin=margin, least=LEAST)
    if ranges > len(names):
        words += say(" Shown are the first {shown} of {all} signals.", shown=len(names), all=ranges)
    parts: list[Chart] = [
        Chart(
            say("Seconds of training in each twentieth of a signal's trained range"),
            [cells],
            {"xaxis": axis(say("place in the trained range [%]"), range=[0, 100]), "yaxis": axis("", autorange="reversed")},
            110 + 26 * len(names),
        )
    ]
    if len(names) > 1:
        parts.append(
            Chart(
                say("Share of the {cells} × {cells} cells of two signals that training has seen", cells=PAIR_CELLS),
                [matrix],
                {"xaxis": axis(""), "yaxis": axis("", autorange="reversed")},
                220 + 26 * len(names),
            )
        )
    return Section(say("Operating range"), words, parts)


def _dropped(trained: Trained, say: Say) -> Section:
    groups = trained.pack.manifest.training.left_out()
    if not groups:
        return Section(say("Not used"), say("Every signal that was offered is used."))
    rows = []
    for reason, names in groups:
        more = say(" and {count} more", count=len(names) - NAMED) if len(names) > NAMED else ""
        rows.append([say(reason), str(len(names)), ", ".join(names[:NAMED]) + more])
    count = sum(len(names) for _, names in groups)
    words = say("{count} signals were offered and left out; the manifest has the reason of each.", count=count)
    return Section(say("Not used"), words, [Table([say(one) for one in ("reason", "signals", "which")], rows)])


def _operating(trained: Trained) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The signals that decide what is known, with their training values (n, c) and trained ranges."""
    manifest, detector = trained.pack.manifest, trained.detector
    columns = (
        [at for at, signal in enumerate(manifest.signals) if signal.role == "context"]
        if len(detector.context)
        else detector.monitored.tolist()
    )
    columns = [at for at in columns if manifest.signals[at].maximum > manifest.signals[at].minimum][:MOST_SIGNALS]
    values = np.concatenate([drive.values[:, columns] for drive in trained.fitted])
    return (
        [manifest.signals[at].name for at in columns],
        values,
        np.nanmin(values, axis=0),
        np.nanmax(values, axis=0),
    )


def _contributions(trained: Trained) -> NDArray[np.float64]:
    """(m,) mean contributions to the highest healthy scores."""
    detector: Detector = trained.detector
    limit = np.quantile(np.concatenate(list(trained.judged)), 1 - TOP)
    if trained.parts:
        highest = np.concatenate([parts[parts.sum(axis=1) >= limit] for parts in trained.parts])
        return np.asarray((highest / np.maximum(highest.sum(axis=1, keepdims=True), 1e-300)).mean(axis=0), np.float64)
    shares = np.zeros(len(detector.monitored))
    count = 0
    for remains in trained.remainders():
        pull = remains[scores(detector, remains) >= limit] @ detector.form
        strength = pull**2 / np.diag(detector.form)
        total = strength.sum(axis=1, keepdims=True)
        shares += (strength / np.where(total > 0, total, 1.0)).sum(axis=0)
        count += len(pull)
    return shares / max(count, 1)


def _declared(trained: Trained, name: str) -> str:
    schema, columns = trained.table.schema, trained.table.columns
    if schema is None or columns is None:
        return ""
    at = int(columns[trained.table.names.index(name)])
    low, high = schema.minimum[at], schema.maximum[at]
    return f"{low:.5g} … {high:.5g}" if np.isfinite(low) and np.isfinite(high) else ""


def _line(name: str, x: NDArray[np.float64], y: NDArray[np.float64], colour: str, mode: str = "lines") -> dict[str, object]:
    return {
        "type": "scatter",
        "mode": mode,
        "name": name,
        "x": [float(f"{value:.5g}") for value in x],
        "y": [float(f"{value:.5g}") for value in y],
        "line": {"color": colour, "width": 2},
        "marker": {"color": colour, "size": 7},
    }
