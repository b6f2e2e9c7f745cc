"""The gaps that an outbox owes: what was given up or damaged, until a record that says so is durable. Pure."""

from edge.outbox_record import ranges
from wire.messages import Gap


class OwedGaps:
    """True while a gap is owed: nothing that it stands for may be forgotten then."""

    def __init__(self) -> None:
        self._lost: dict[bytes, dict[str, list[int]]] = {}  # stream -> reason -> sequences for which a gap must be recorded
        self._unsaid: list[Gap] = []  # gaps that were handed out to be recorded and are not durable yet

    def __bool__(self) -> bool:
        return bool(self._lost or self._unsaid)

    def lose(self, stream: bytes, sequence: int, reason: str) -> None:
        """A batch is gone."""
        self._lost.setdefault(stream, {}).setdefault(reason, []).append(sequence)

    def take(self) -> list[Gap]:
        """The gaps that must be recorded; they are not returned again, and owed until `said`."""
        lost, self._lost = self._lost, {}
        gaps = [
            Gap(stream=stream, first=first, last=last, reason=reason)
            for stream, reasons in lost.items()
            for reason, sequences in reasons.items()
            for first, last in ranges(sequences)
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
        for sequence in range(gap.first, gap.last + 1):
            self.lose(gap.stream, sequence, gap.reason)
