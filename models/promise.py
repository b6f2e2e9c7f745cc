"""What a manifest's threshold comes to for an owner: false findings in a vehicle-month, as far as the calibration drives can say."""

from dataclasses import dataclass

from models.manifest import Manifest
from models.manifest import Promise as PerDrive
from models.tail import Chance, counted

__all__ = ["Month", "a_month", "describe"]

FEW = 8
"""Independent drives: fewer say nothing of others."""
SHOWN = 1.0
"""Findings a month of one pack: a bound over this says that the drives cannot tell."""


@dataclass(frozen=True)
class Month:
    """finding, ticket: false findings in a vehicle-month, of any level and at ticket level. drives: in it, of the calibration's length.

    words: what vouches for it. promises: whether there were enough drives to say any of this of others.
    """

    finding: Chance
    ticket: Chance
    drives: float
    minutes: float
    words: str
    promises: bool


def a_month(manifest: Manifest, hours: float) -> Month:
    """hours: of driving in the month, in drives as long as those of the calibration."""
    budget, calibration = manifest.alarm_budget, manifest.calibration
    minutes = calibration.ticks / calibration.drives / 60
    drives = hours * 60 / minutes
    worth = budget.drives or float(calibration.drives)
    shown = counted(worth)
    least = PerDrive(expected=shown.expected, upper=shown.upper)
    finding, ticket = budget.finding or least, budget.ticket or budget.finding or least
    whole = f"{calibration.drives} calibration drives" + (
        "" if round(worth) == calibration.drives else f", worth {worth:.0f} independent ones"
    )
    return Month(
        finding=Chance(finding.expected * drives, finding.upper * drives),
        ticket=Chance(ticket.expected * drives, ticket.upper * drives),
        drives=drives,
        minutes=minutes,
        words=whole,
        promises=worth >= FEW,
    )


def describe(manifest: Manifest, hours: float) -> list[str]:
    """Lines for a terminal: baseline, confirmation, and the budget's arithmetic."""
    lines = []
    if (own := manifest.baseline) is not None:
        kinds = ", ".join(
            f"{name.partition('.')[2] or name} ±{signal.bound:.3g}{' (gain)' if signal.kind == 'gain' else ''}"
            for name, signal in own.signals.items()
        )
        lines.append(
            f"baseline each vehicle's own from {own.least} healthy drives on, frozen after {own.most}, within {kinds}; "
            f"until then scores are divided by {own.learning:.3g}"
        )
    confirm = manifest.confirm
    if confirm.of > 1:
        at_once = "" if confirm.at_once is None else f", or once at {confirm.at_once:.4g}"
        lines.append(f"confirm  ticket level when {confirm.drives} of the last {confirm.of} drives raise the alarm{at_once}")
    budget, month = manifest.alarm_budget, a_month(manifest, hours)
    worth = budget.drives or float(manifest.calibration.drives)
    if not month.promises:
        number = f"{worth:.0f} {'drive says' if round(worth) == 1 else 'drives say'}"
        lines.append(f"budget   no promise: {number} nothing of others; {budget.per_drive:g} false findings a drive was asked for")
        return lines
    shown = counted(worth)
    pareto = "a generalised Pareto tail of their highest scores, believed to a tenth of what counting shows"
    how = pareto if budget.tail == "pareto" else "counting alone"
    law = f" (shape {budget.law.shape:.2f})" if budget.law is not None else ""
    finding = budget.finding or PerDrive(expected=shown.expected, upper=shown.upper)
    lines += [
        f"budget   asked for {budget.per_drive:g} false findings a drive; {month.words} vouch for {finding.expected:.2g}, at most "
        f"{finding.upper:.2g} (95 %), by {how}{law}",
        f"month    of {hours:g} h, {month.drives:.0f} drives of {month.minutes:.0f} min: {_rate(month.finding)} false findings"
        + (f", {_rate(month.ticket)} at ticket level" if confirm.of > 1 else "")
        + f"; without any law of tails at most {shown.upper * month.drives:.2g}",
    ]
    if month.finding.upper > SHOWN:
        lines.append("         so few drives cannot promise less than one a month: calibrate on more, and evaluate on healthy months")
    return lines


def _rate(chance: Chance) -> str:
    return f"{chance.expected:.2g} (at most {chance.upper:.2g})"
