"""Opening a stream: a fresh content key, and the announcement (sequence 0) that hands it to the recipients."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.identity import Identity
from edge.outbox import Lane
from wire.codec import encode_rows
from wire.envelope import Sealed, StreamSealer, announce
from wire.messages import Announcement, Clock, Gap, Message, Rows, encode_message, pack_columns
from wire.messages import Kind as MessageKind

DEFAULT_CAMPAIGN = "default"  # every signal, once a second


@dataclass(frozen=True, slots=True)
class Record:
    """A sealed batch on its way into the outbox. is_rows: its bytes count towards bytes per sample. gap: what it says, if it is one."""

    lane: Lane
    consent_class: str
    sealed: Sealed
    is_rows: bool = False
    gap: Gap | None = None


@dataclass(frozen=True, slots=True)
class Journey:
    """What every announcement of this run says: the boot and its clock, what decodes, what detects."""

    boot_id: bytes
    clock: Clock | None
    schema_id: bytes
    pack_ids: tuple[str, ...]
    agent: str


class Stream:
    """One consent class's stream while it is written. columns: (m,) indices of the schema's signals."""

    def __init__(self, consent_class: str, columns: NDArray[np.intp], sealer: StreamSealer, baseline: Rows | None, opened_s: float) -> None:
        self.consent_class = consent_class
        self.columns = columns
        self.opened_s = opened_s
        self._sealer = sealer
        self._baseline = baseline

    @classmethod
    def open(
        cls,
        identity: Identity,
        journey: Journey,
        consent_class: str,
        columns: NDArray[np.intp],
        n_signals: int,
        baseline: Rows | None,
        now_s: float,
    ) -> tuple["Stream", Record]:
        """The stream and its announcement. baseline: one tick of `columns`; None without columns, for messages alone."""
        sealer = StreamSealer.start(identity.vehicle)
        recorded = np.zeros(n_signals, dtype=np.bool_)
        recorded[columns] = True
        announcement = Announcement(
            boot_id=journey.boot_id,
            clock=journey.clock,
            schema_id=journey.schema_id,
            consent_class=consent_class,
            columns=pack_columns(recorded),
            pack_ids=list(journey.pack_ids),
            campaign_id=DEFAULT_CAMPAIGN,
            agent=journey.agent,
            baseline=b"" if baseline is None else encode_rows(baseline, None),
        )
        sealed = announce(sealer, announcement, identity.recipients, identity.certificate, identity.key)
        return cls(consent_class, columns, sealer, baseline, now_s), Record(Lane.RESERVED, consent_class, sealed)

    def rows(self, rows: Rows) -> Record:
        """A batch of rows of this stream's columns."""
        body = encode_rows(rows, self._baseline)
        return Record(Lane.BULK, self.consent_class, self._sealer.seal(MessageKind.ROWS, body), is_rows=True)

    def message(self, message: Message) -> Record:
        """A finding, gap, status or clock."""
        kind, body = encode_message(message)
        gap = message if isinstance(message, Gap) else None
        return Record(Lane.RESERVED, self.consent_class, self._sealer.seal(kind, body), gap=gap)
