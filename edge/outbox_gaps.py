"""The gaps that an outbox owes: what was given up or damaged, until a record that says so is durable. Pure."""

from edge.outbox_record import Ranges
from wire.messages import Gap


class OwedGaps:
    """True while a gap is owed: nothing that it stands for may be forgotten then."""

    def __init__(self) -> None:
        # stream -> reason -> runs of sequences for which a gap must be recorded: a flash that takes nothing for weeks loses every batch
        self._lost: dict[bytes, dict[str, list[tuple[int, int]]]] = {}
        self._unsaid: list[Gap] = []  # gaps that were handed out to be recorded and are not durable yet

    def __bool__(self) -> bool:
        return bool(self._lost or self._unsaid)

    def lose(self, stream: bytes, sequence: int, reason: str) -> None:
        """A batch is gone."""
        runs = self._lost.setdefault(stream, {}).setdefault(reason, [])
        if runs and runs[-1][1] == sequence - 1:
            runs[-1] = runs[-1][0], sequence
        else:
            runs.append((sequence, sequence))

    def take(self) -> list[Gap]:
        """The gaps that must be recorded; they are not returned again, and owed until `said`."""
        lost, self._lost = self._lost, {}
        gaps = [
            Gap(stream=stream, first=first, last=last, reason=reason)
            for stream, reasons in lost.items()
            for reason, runs in reasons.items()
            for first, last in Ranges(runs).runs
        ]
        self._unsaid += gaps
        return gaps

    def said(self, gap: Gap) -> None:
        """Its record is durable."""
        if gap in self._unsaid:
            self._unsaid.remove(gap)

    def unsaid(self, gap: Gap) -> None:
        """Its record was lost before it was durable: what it said must be said again."""
        self.said(gap)
        self._lost.setdefault(gap.stream, {}).setdefault(gap.reason, []).append((gap.first, gap.last))
