"""Silences and maintenance windows: what an operator does not want to hear of for a while.

A silence hides tickets that it fits and keeps them from being told; they are opened and kept all the same. In a maintenance window (a
vehicle is in the workshop, a test is driven) findings open no ticket; what is still active when it ends opens one then.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, select, text, update

from cloud.tickets.briefs import BRIEF, brief
from cloud.tickets.errors import NoSuchTicket, TicketError
from cloud.tickets.model import OPEN, SilenceRow, TicketRow
from cloud.tickets.policy import Tier, Verdict
from cloud.tickets.settings import Policy, duration_ms
from cloud.tickets.tables import AnyRow, Tables, insert
from cloud.tickets.upkeep import Upkeep, silence_fits
from cloud.tickets.views import Preview, Silence

__all__ = ["PAST_DAYS", "SilenceRequest", "Silences"]

PAST_DAYS = 30  # that a preview looks back
DAY_MS = 86_400_000
MOST_SHOWN = 200
MOST_COUNTED = 20  # fault codes


class SilenceRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked to be hidden, from when to when (UTC ms). One at least of vehicle, model, fault_code (with `*` and `?`) and pack_id is
    given. Red tickets are hidden only with `red`."""

    from_ms: int
    to_ms: int
    reason: str
    vehicle: str | None = None
    model: str | None = None
    fault_code: str | None = None
    pack_id: str | None = None
    red: bool = False


class Silences:
    """Makes, previews, lists and ends them."""

    def __init__(self, tables: Tables, upkeep: Upkeep, policy: Policy, now_ms: Callable[[], int]) -> None:
        self._tables = tables
        self._upkeep = upkeep
        self._policy = policy
        self._now_ms = now_ms

    def preview(self, asked: SilenceRequest) -> Preview:
        """What it would hide. Raises TicketError as `make` does."""
        self._check(asked)
        since = self._now_ms() - PAST_DAYS * DAY_MS
        columns = (*BRIEF, TicketRow.model, TicketRow.pack_id, TicketRow.fault_words_en, TicketRow.fault_words_zh)

        def look(db: Connection) -> Preview:
            open_now = [row for row in db.execute(select(*columns).where(text(OPEN)).order_by(TicketRow.id.desc())) if _fits(asked, row)]
            past = [row for row in db.execute(select(*columns).where(TicketRow.created_ms >= since)) if _fits(asked, row)]
            hidden = [row for row in open_now if asked.red or row.tier != Tier.RED]
            counts = Counter(row.fault_code for row in past).most_common(MOST_COUNTED)
            named = {code for code, _ in counts} | {row.fault_code for row in hidden[:MOST_SHOWN]}
            return Preview(
                open=[brief(row) for row in hidden[:MOST_SHOWN]],
                open_tickets=len(hidden),
                red=sum(row.tier == Tier.RED for row in open_now),
                past_days=PAST_DAYS,
                past_tickets=len(past),
                past_confirmed=sum(row.verdict == Verdict.CONFIRMED for row in past),
                past_vehicles=len({row.vehicle for row in past}),
                by_fault_code=dict(counts),
                fault_words={
                    row.fault_code: {"en": row.fault_words_en, "zh": row.fault_words_zh}
                    for row in (*past, *open_now)
                    if row.fault_code in named
                },
            )

        return self._tables.read(look)

    def make(self, kind: Literal["silence", "maintenance"], asked: SilenceRequest, actor: str) -> Silence:
        """Raises TicketError when it would fit everything, ends before it begins, is over already or is longer than the policy allows."""
        self._check(asked)
        if kind == "maintenance" and asked.vehicle is None:
            raise TicketError("maintenance: expected a vehicle; what is for the whole fleet is a silence")
        now = self._now_ms()

        def work(db: Connection) -> int:
            values = msgspec.structs.asdict(asked) | {"kind": kind, "made_by": actor, "made_ms": now}
            return int(db.execute(insert(db, SilenceRow, values).returning(SilenceRow.id)).scalar_one())

        number = self._tables.write(work)
        self._upkeep.settle_all()
        return next(one for one in self.list(kind, over=True) if one.id == number)

    def end(self, number: int, kind: Literal["silence", "maintenance"], actor: str) -> None:
        """End it now. Raises NoSuchTicket when there is none of that number that is not over."""
        now = self._now_ms()

        def work(db: Connection) -> None:
            mine = (SilenceRow.id == number, SilenceRow.kind == kind, SilenceRow.ended_ms.is_(None), SilenceRow.to_ms > now)
            ended = update(SilenceRow).where(*mine).values(ended_ms=now, reason=SilenceRow.reason + f" (ended by {actor})")
            if not db.execute(ended).rowcount:
                raise NoSuchTicket(f"{kind} {number}: there is no such {kind}, or it is over")

        self._tables.write(work)
        self._upkeep.settle_all()

    def list(self, kind: Literal["silence", "maintenance"] | None = None, over: bool = False) -> list[Silence]:
        """Newest first; `over`: those that are over, too."""
        now = self._now_ms()
        query = select(SilenceRow.__table__).order_by(SilenceRow.id.desc())
        if kind is not None:
            query = query.where(SilenceRow.kind == kind)
        found = self._tables.read(lambda db: [_silence(row, now) for row in db.execute(query)])
        return [one for one in found if over or one.state != "over"]

    def maintenance(self, db: Connection, finding: Mapping[str, Any], tier: Tier, at_ms: int) -> int | None:
        """The window that a finding of this time falls into; None: none."""
        query = select(SilenceRow.__table__).where(
            SilenceRow.kind == "maintenance",
            SilenceRow.vehicle == finding["vehicle"],
            SilenceRow.from_ms <= at_ms,
            SilenceRow.to_ms > at_ms,
        )
        for row in db.execute(query):
            if (row.ended_ms is None or at_ms < row.ended_ms) and (row.red or tier is not Tier.RED) and silence_fits(row, finding):
                return int(row.id)
        return None

    def _check(self, asked: SilenceRequest) -> None:
        if not any((asked.vehicle, asked.model, asked.fault_code, asked.pack_id)):
            raise TicketError(
                "silence: expected one of vehicle, model, fault_code and pack_id at least; found none, which would hide everything"
            )
        if asked.fault_code is not None and not asked.fault_code.strip("*?") and not any((asked.vehicle, asked.model, asked.pack_id)):
            raise TicketError(
                f"silence: fault_code {asked.fault_code!r} alone would hide everything; name a vehicle, a model or a pack too"
            )
        if not asked.reason.strip():
            raise TicketError("silence: reason: expected some words for who looks at it later, found none")
        if asked.to_ms <= asked.from_ms:
            raise TicketError(f"silence: to_ms: expected a time after from_ms ({asked.from_ms}), found {asked.to_ms}")
        if asked.to_ms <= self._now_ms():
            raise TicketError("silence: to_ms: expected a time to come, found one that is over")
        longest = self._policy.silences.longest
        if asked.to_ms - max(asked.from_ms, self._now_ms()) > duration_ms(longest):
            raise TicketError(f"silence: expected at most {longest}: what is never wanted is a matter for the policy or the pack")


def _fits(asked: SilenceRequest, ticket: AnyRow) -> bool:
    return (
        asked.vehicle in (None, ticket.vehicle)
        and asked.model in (None, ticket.model)
        and asked.pack_id in (None, ticket.pack_id)
        and (asked.fault_code is None or fnmatchcase(ticket.fault_code, asked.fault_code))
    )


def _silence(row: AnyRow, now_ms: int) -> Silence:
    over = row.to_ms <= now_ms or row.ended_ms is not None
    return Silence(
        id=row.id,
        kind=row.kind,
        vehicle=row.vehicle,
        model=row.model,
        fault_code=row.fault_code,
        pack_id=row.pack_id,
        red=row.red,
        from_ms=row.from_ms,
        to_ms=row.to_ms,
        reason=row.reason,
        made_by=row.made_by,
        made_ms=row.made_ms,
        ended_ms=row.ended_ms,
        state="over" if over else "on" if row.from_ms <= now_ms else "waiting",
    )
