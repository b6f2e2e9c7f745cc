"""`cansight models evaluate`: how good a pack is on data whose faults are known."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cansight.commands.models_options import (
    checks_option,
    data_argument,
    dbc_option,
    labels_option,
    lang_option,
    layout_of,
    layout_options,
    pack_argument,
    report_option,
    rows_of,
    split_option,
    truth_option,
)
from cansight.errors import UsageError

if TYPE_CHECKING:
    from models.evaluation.confidence import Figure
    from models.evaluation.figures import Evaluation
    from models.evaluation.judging import Request
    from models.explanation import Language
    from models.manifest import Manifest


@click.command()
@pack_argument
@data_argument
@dbc_option
@checks_option
@labels_option
@truth_option
@click.option("--healthy", is_flag=True, help="Nothing in DATA is faulty: every finding is false.")
@layout_options
@split_option("test")
@click.option("--rows", metavar="A:B", default=":", help="Of each recording, only these rows count; those before are seen.  [default: all]")
@click.option(
    "--rebase",
    metavar="ROWS",
    type=click.IntRange(60),
    help="Learn the baseline anew on the first ROWS of each recording, with the pack's settings; these rows do not count. For tables.",
)
@click.option("--vus-window", metavar="TICKS", type=click.IntRange(0, 3600), default=100, show_default=True, help="Widest slope of VUS-PR.")
@click.option(
    "--month-hours",
    metavar="H",
    type=click.FloatRange(1, 744),
    default=100.0,
    show_default=True,
    help="Hours of DATA that make a vehicle-month: 40 where DATA are drives alone, 60 more with charging.",
)
@click.option("--spare", metavar="HOURS", type=click.FloatRange(0), default=48.0, show_default=True, help="Found so long before it failed.")
@click.option(
    "--months", metavar="N", type=click.FloatRange(0.01), help="Of a SCENARIO: at least so many healthy months.  [default: all cars]"
)
@click.option("--seed", metavar="N", type=click.IntRange(0), help="Of a SCENARIO: draws cars, drivers, roads and weather.")
@click.option(
    "--keep",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Of a SCENARIO: what is done so far is written here, and begun from there after an interruption.",
)
@report_option
@lang_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with what each recording counted.")
def evaluate(
    pack_dir: Path,
    data: tuple[str, ...],
    dbc_files: tuple[str, ...],
    catalogue: str | None,
    labels: str | None,
    truths: tuple[str, ...],
    healthy: bool,
    time_column: str,
    separator: str,
    ignore: tuple[str, ...],
    period: float | None,
    split: str,
    rows: str,
    rebase: int | None,
    vus_window: int,
    month_hours: float,
    spare: float,
    months: float | None,
    seed: int | None,
    keep: Path | None,
    report: Path | None,
    language: "Language",
    as_json: bool,
) -> None:
    """Evaluate a pack on DATA whose faults are known, as the vehicle would judge them.

    DATA: tables (.csv, .parquet), CAN logs (with --dbc), or folders of `cansight sim dataset`, of which the test vehicles' ticks are taken;
    or a SCENARIO.toml of days: its cars are simulated while they are judged, each after its first drives.
    PACK_DIR may be a folder of packs, or of such folders: then their findings together are evaluated, and whether the first one names the
    right fault.
    What is faulty: --labels, --truth, --healthy, or the truth files beside DATA. Intervals are 95 %, two-sided.
    """
    from dbc.catalogue import Catalogue
    from models.evaluation.judging import Request, run
    from models.evaluation.truth import recordings
    from models.pack import Pack

    if sum([labels is not None, bool(truths), healthy]) > 1:
        raise UsageError("--labels, --truth and --healthy: each says what is faulty; give one of them")
    if len(data) == 1 and data[0].endswith(".toml"):
        if seed is None:
            raise UsageError(f"{data[0]}: --seed: says which cars; give one that nothing was trained or chosen on")
        if (
            labels is not None
            or truths
            or healthy
            or dbc_files
            or catalogue is not None
            or rebase is not None
            or report is not None
            or rows != ":"
        ):
            raise UsageError(
                f"{data[0]}: is simulated, and says itself what is faulty; leave out --labels, --truth, --healthy, --dbc, --rows, ..."
            )
        from cansight.commands.models_simulated import evaluate_simulated

        chosen = [Pack.load(folder) for folder in _packs(pack_dir) or [pack_dir]]
        evaluate_simulated(chosen, data[0], seed, months, keep, spare * 3600, as_json)
        return
    if seed is not None or months is not None or keep is not None:
        raise UsageError("--months, --seed and --keep: are of a SCENARIO.toml that is simulated")
    layout = layout_of(time_column, separator, ignore, period)
    first, last = rows_of(rows)
    folders = _packs(pack_dir)
    found = recordings(data, split, truths)
    checks = Catalogue.load(catalogue) if catalogue is not None else None
    if folders is not None:
        if labels is not None or rebase is not None or report is not None or rows != ":":
            raise UsageError(f"{pack_dir}: is a folder of packs; --labels, --rows, --rebase and --report are for one pack")
        requests = [
            Request(
                Pack.load(folder), found, dbc_files, healthy=healthy, vus_window=0, month_hours=month_hours, layout=layout, catalogue=checks
            )
            for folder in folders
        ]
        _together(requests, spare * 3600, as_json)
        return
    pack = Pack.load(pack_dir)
    request = Request(
        pack=pack,
        recordings=found,
        dbc_files=dbc_files,
        labels=labels,
        healthy=healthy,
        first_row=first,
        last_row=last,
        rebase=rebase,
        vus_window=vus_window,
        month_hours=month_hours,
        spare_s=spare * 3600,
        layout=layout,
        catalogue=checks,
    )
    witness = None
    if report is not None:
        from models.report.evaluation import Witness
        from models.report.page import check

        check(report)
        witness = Witness(pack.manifest.fault_code)
    result = run(request, _progress(len(found)), witness.see if witness is not None else None)
    if report is not None and witness is not None:
        from models.report.evaluation import evaluation_report
        from models.report.page import write

        write(report, evaluation_report(pack.manifest, result, witness, language))
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
    if as_json:
        drives = [
            {
                "source": one.source,
                "ticks": one.ticks,
                "judged": one.judged,
                "events": one.events,
                "found": one.found,
                "findings": one.findings,
                "right": one.right,
                "wrong_code": one.wrong_code,
                "false": one.false,
                "delay_s": list(one.delay_s),
            }
            for one in result.drives
        ]
        about = {"pack": pack.manifest.pack_id, "version": pack.manifest.version, "fault_code": pack.manifest.fault_code}
        click.echo(json.dumps(about | {"figures": result.evaluation.to_dict(), "drives": drives}, indent=2, default=float))
    else:
        click.echo("\n".join(describe(pack.manifest, result.evaluation)))


def _packs(folder: Path) -> list[Path] | None:
    """The packs of a folder of packs; None where the folder is a pack itself, or nothing."""
    if (folder / "manifest.json").exists() or not folder.is_dir():
        return None
    return sorted(one.parent for one in (*folder.glob("*/manifest.json"), *folder.glob("*/*/manifest.json"))) or None


def _together(requests: Sequence["Request"], spare_s: float, as_json: bool) -> None:
    """Run each pack over the same recordings, and print what all of them say of each vehicle."""
    from models.evaluation.judging import run
    from models.evaluation.together import Together

    together = Together()
    for request in requests:
        run(request, _progress(len(request.recordings)), together.see(request.pack.manifest.fault_code))
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
    rate, upper = together.false_findings(requests[0].month_hours)
    below, _ = together.false_findings(requests[0].month_hours, below=True)
    precision, right, codes = together.precision(), together.code_right(), together.codes(spare_s)
    if as_json:
        document = {
            "packs": [request.pack.manifest.pack_id for request in requests],
            "recordings": len(together.vehicles),
            "false_findings_per_month": rate.to_dict(),
            "false_findings_upper": upper,
            "false_findings_below_ticket_level_per_month": below.to_dict(),
            "event_precision": precision.to_dict(),
            "code_right": right.to_dict(),
            "spare_s": spare_s,
            "faults": [
                {
                    "fault_code": code.fault_code,
                    "found": code.found.to_dict(),
                    "before_failure": code.before_failure.to_dict(),
                    "with_spare": code.with_spare.to_dict(),
                    "named": code.named,
                }
                for code in codes
            ],
        }
        click.echo(json.dumps(document, indent=2, default=float))
        return
    click.echo(
        f"{len(requests)} packs, {len(together.vehicles)} recordings: {rate.of} false findings at ticket level, "
        f"{_plain(rate, 4)} a vehicle-month"
        + ("" if upper is None else f", one-sided 95 % upper bound {upper:.4g}")
        + f"; {below.of} below it, {_plain(below, 4)}"
    )
    click.echo(
        f"precision {_share(precision)} of {precision.of} findings; the first finding names the fault: {_share(right)} of {right.of}"
    )
    for code in codes:
        named = ", ".join(f"{name} {count}" for name, count in code.named.items()) or "nothing"
        failing = f"; before failure {_share(code.before_failure)}, {spare_s / 3600:g} h before it {_share(code.with_spare)}"
        click.echo(
            f"  {code.fault_code}: found {_share(code.found)} of {code.found.of}{failing if code.before_failure.of else ''}; named {named}"
        )


def describe(manifest: "Manifest", figures: "Evaluation") -> list[str]:
    """The figures as lines of text."""
    rate, counted = figures.false_findings_per_month, figures.false_findings_per_month.of
    nab = ", ".join(f"{name} {_plain(figure, 1)}" for name, figure in figures.nab.items())
    lines = [
        f"{manifest.pack_id} {manifest.version}, fault {manifest.fault_code}: {figures.drives} recordings, {figures.ticks} ticks, "
        f"{figures.months:.3g} healthy vehicle-months; {_share(figures.judged)} of the ticks judged",
        f"events    recall {_share(figures.event_recall)} of {figures.event_recall.of} events",
        f"          precision {_share(figures.event_precision)} of {figures.event_precision.of} findings"
        + (f", {figures.wrong_code} of them in a fault of another code" if figures.wrong_code else ""),
        f"          false findings {counted}: {_plain(rate, 3)} a vehicle-month"
        + f", in {_share(figures.alarmed_drives)} of the recordings"
        + (f"; one-sided 95 % upper bound {figures.false_findings_upper:.3g}" if figures.false_findings_upper is not None else ""),
        f"          of these at ticket level {figures.false_tickets_per_month.of}: "
        f"{_plain(figures.false_tickets_per_month, 3)} a vehicle-month"
        + (f"; upper bound {figures.false_tickets_upper:.3g}" if figures.false_tickets_upper is not None else ""),
    ]
    if figures.before_failure.of:
        lines.append(
            f"          before failure {_share(figures.before_failure)} of {figures.before_failure.of}; "
            f"{figures.spare_s / 3600:g} h before it {_share(figures.with_spare)}"
        )
    if figures.event_recall.of:
        always = f"; always alarming would reach {figures.always_alarm_f1:.3f}" if figures.always_alarm_f1 is not None else ""
        lines += [
            f"          delay in s, of those found: median {_plain(figures.delay_median_s, 1)}, "
            f"90 % within {_plain(figures.delay_p90_s, 1)}",
            f"points    F1 {_plain(figures.point_f1, 3)}{always}",
            f"          false alarms {_share(figures.false_alarm_rate)}, misses {_share(figures.miss_rate)}, "
            f"precision {_share(figures.point_precision)}",
            f"scores    VUS-PR {_plain(figures.vus_pr, 3)}; {figures.labelled or 0:.3f} of the ticks are labelled; "
            f"event AUROC {_plain(figures.event_auroc, 3)}",
            f"NAB       {nab}",
        ]
    else:
        lines.append(f"points    false alarms {_share(figures.false_alarm_rate)} of the ticks")
    return lines


def _share(figure: "Figure") -> str:
    if figure.value is None:
        return "none"
    interval = "" if figure.low is None or figure.high is None else f" ({figure.low:.1%} … {figure.high:.1%})"
    return f"{figure.value:.1%}{interval}"


def _plain(figure: "Figure", digits: int) -> str:
    if figure.value is None:
        return "none"
    low, high = ("…" if bound is None else f"{bound:.{digits}f}" for bound in (figure.low, figure.high))
    return f"{figure.value:.{digits}f}" + (f" ({low} … {high})" if figure.low is not None or figure.high is not None else "")


def _progress(count: int) -> Any:
    if not sys.stderr.isatty():
        return None
    done = iter(range(1, count + 1))
    return lambda path: click.echo(f"\r\x1b[Kevaluating {next(done)}/{count} {path}", nl=False, err=True)
