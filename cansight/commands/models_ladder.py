"""`cansight models ladder`: which rung of the ladder earns its place."""

import json
from pathlib import Path

import click

from cansight.commands.models_options import data_argument, dbc_option, json_option, labels_option, split_option, truth_option
from cansight.errors import UsageError


@click.command()
@data_argument
@click.option("--rung", "rungs", metavar="PACK_DIR", multiple=True, required=True, help="A pack, the lowest rung first; at least two.")
@dbc_option
@labels_option
@truth_option
@split_option("calibration")
@click.option(
    "--false-alarms",
    metavar="SHARE",
    type=click.FloatRange(0, 0.5),
    default=0.0,
    show_default=True,
    help="Of healthy drives that may alarm.",
)
@json_option
def ladder(
    data: tuple[str, ...],
    rungs: tuple[str, ...],
    dbc_files: tuple[str, ...],
    labels: str | None,
    truths: tuple[str, ...],
    split: str,
    false_alarms: float,
    as_json: bool,
) -> None:
    """Compare packs at the same false-alarm rate on validation DATA: each is kept only if it beats the best below it.

    Their own thresholds do not matter here: each gets the one at which the same share of DATA's healthy drives alarms.
    """
    from models.evaluation.judging import Request, run
    from models.evaluation.ladder import Rung, climb
    from models.evaluation.truth import recordings
    from models.pack import Pack

    if len(rungs) < 2:
        raise UsageError("--rung: give at least two packs, the lowest rung first")
    if labels is not None and truths:
        raise UsageError("--labels and --truth: each says what is faulty; give one of them")
    found = recordings(data, split, truths)
    seen = []
    for folder in rungs:
        pack = Pack.load(Path(folder))
        rung = Rung(pack.manifest, [], [])
        run(Request(pack, found, dbc_files, labels=labels), each=rung.see)
        seen.append(rung)
    if not seen[0].events:
        raise UsageError("DATA: no fault of the packs' code in it, so no rung can show what it finds")
    if not seen[0].healthy:
        raise UsageError("DATA: no healthy ticks before a fault in it, so no false-alarm rate can be held")
    steps = climb(seen, false_alarms)
    if as_json:
        click.echo(json.dumps([step.to_dict() for step in steps], indent=2, default=float))
        return
    for step in steps:
        interval = "" if step.found.low is None or step.found.high is None else f" ({step.found.low:.1%} … {step.found.high:.1%})"
        against = (
            "lowest rung"
            if step is steps[0]
            else f"{step.more} more, {step.fewer} fewer, p {step.p_found:.2g}; earlier: p {step.p_earlier:.2g}"
        )
        delay = "" if step.delay_s is None else f", median after {step.delay_s:.0f} s"
        click.echo(
            f"{'kept   ' if step.kept else 'dropped'} {step.name} ({step.rung}): {step.alarmed} of {step.drives} healthy drives alarm at "
            f"{step.threshold:.3g}; finds {step.found.value or 0:.1%}{interval} of {step.found.of} faults{delay}; {against}"
        )
