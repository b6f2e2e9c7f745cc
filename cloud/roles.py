"""Who asks, and what they may: pure. Times are UTC milliseconds.

The three roles of the fleet's people form a ladder: read-only sees everything, service works tickets too, operator may do everything. An
owner stands beside it: one vehicle, in one period.
"""

from enum import StrEnum

import msgspec

__all__ = ["BEGINNING_MS", "END_MS", "Principal", "Role"]

END_MS = 1 << 53  # exact in every JSON reader
BEGINNING_MS = -END_MS


class Role(StrEnum):
    """What a token lets its holder do."""

    OPERATOR = "operator"
    SERVICE = "service"
    READ_ONLY = "read-only"
    OWNER = "owner"


_LADDER = (Role.READ_ONLY, Role.SERVICE, Role.OPERATOR)


class Principal(msgspec.Struct, frozen=True):
    """The holder of a token. For an owner, `vehicle` in [`from_ms`, `to_ms`) is all there is; `to_ms` None: until further notice."""

    token: int
    name: str
    role: Role
    vehicle: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None

    @property
    def is_owner(self) -> bool:
        return self.role is Role.OWNER

    @property
    def period(self) -> tuple[int, int]:
        """[from, to) of what may be seen; all time for everybody but an owner."""
        if not self.is_owner:
            return BEGINNING_MS, END_MS
        # an owner's token always has a beginning; one without would see nothing
        return END_MS if self.from_ms is None else self.from_ms, END_MS if self.to_ms is None else self.to_ms

    def may(self, least: Role, owner: bool) -> bool:
        """Whether something is open to this role: to `least` and those above it, and to an owner where `owner` says so."""
        return owner if self.is_owner else _LADDER.index(self.role) >= _LADDER.index(least)

    def sees(self, vehicle: str) -> bool:
        return not self.is_owner or vehicle == self.vehicle

    def covers(self, at_ms: int) -> bool:
        """Whether a moment lies in the period."""
        start, end = self.period
        return start <= at_ms < end
