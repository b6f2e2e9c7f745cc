"""How often one detector may speak: a sensor that flaps must not fill the outbox's reserved tenth or a tenant's bill.

Six findings at once and then one every ten minutes, for each detector (pack and fault code). What is over that is held back: of
several the newest is kept, the others become a number, `repeats`, on the next finding of this detector that goes out. A finding that is
still active when there is room again goes out then, so the cloud always learns of a fault that lasts; what was cleared in the
meantime is only counted.
"""

from dataclasses import dataclass

from msgspec.structs import replace

from wire.messages import FindingMessage

BURST = 6
REFILL_MS = 600_000  # one more after this long; time is that of the ticks, so a replayed log says what a drive says


@dataclass
class _Detector:
    room: float = BURST
    since_ms: int | None = None
    repeats: int = 0
    held: FindingMessage | None = None

    def refill(self, tick_ms: int) -> None:
        if self.since_ms is not None:
            self.room = min(BURST, self.room + max(0, tick_ms - self.since_ms) / REFILL_MS)
        self.since_ms = tick_ms

    def say(self, finding: FindingMessage) -> FindingMessage:
        repeats, self.repeats = self.repeats, 0
        return replace(finding, repeats=finding.repeats + repeats) if repeats else finding


class FindingLimit:
    """Pure: time is the findings' own, ms on the boot axis."""

    def __init__(self) -> None:
        self._detectors: dict[tuple[str, str], _Detector] = {}

    def admit(self, finding: FindingMessage) -> list[FindingMessage]:
        """What is to be recorded now: the finding, or nothing. The clearing of a finding that went out always goes out too."""
        detector = self._detectors.setdefault((finding.pack_id, finding.fault_code), _Detector())
        detector.refill(finding.tick_ms)
        if finding.state == "cleared":
            if detector.held is not None and detector.held.finding_id == finding.finding_id:
                detector.held = None
                detector.repeats += 1
                return []
            return [detector.say(finding)]
        if detector.room >= 1:
            detector.room -= 1
            return [detector.say(finding)]
        if detector.held is not None and detector.held.finding_id != finding.finding_id:  # else it is the same one, confirmed
            detector.repeats += 1
        detector.held = finding
        return []

    def due(self, tick_ms: int) -> list[FindingMessage]:
        """Findings that were held back, are still active and may go out now."""
        said = []
        for detector in self._detectors.values():
            if detector.held is None:
                continue
            detector.refill(tick_ms)
            if detector.room >= 1:
                detector.room -= 1
                said.append(detector.say(detector.held))
                detector.held = None
        return said
