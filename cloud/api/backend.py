"""What the API stands on: opened, owned and closed by its caller."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from cloud.quarantine import Item
from cloud.store import Store
from cloud.tickets.service import TicketService
from cloud.tokens import Tokens

if TYPE_CHECKING:
    from cloud.quality.tables import QualityTables
    from dbc.catalogue import Catalogue
    from dbc.schema import Schema

__all__ = ["Backend", "Models"]

Models = Mapping[str, "tuple[Schema, Catalogue | None]"]


class Quarantined(Protocol):
    """`cloud.quarantine.Quarantine`, as far as it is needed here."""

    @property
    def held(self) -> int: ...
    def reasons(self, most: int) -> dict[str, int]: ...
    def listed(self, first: int = 0) -> Iterator[Item]: ...


class NothingHeld:
    """Of a cloud without a quarantine."""

    held = 0

    def reasons(self, most: int) -> dict[str, int]:
        return {}

    def listed(self, first: int = 0) -> Iterator[Item]:
        return iter(())


class Replays(Protocol):
    """`cloud.database.Database`, as far as it is needed here."""

    def ask_replay(self, positions: Sequence[int]) -> int: ...
    def take_replay(self, number: int) -> dict[str, Any] | None: ...


def _never(vehicle: str) -> None:
    """Of a cloud without status messages."""


@dataclass(frozen=True)
class Backend:
    """`stats` may be called from any thread and must not block; its key "online_ms", if there is one, maps vehicles to the UTC ms at which
    they were last heard, "gone_ms" those whose connection broke since to when it did. `models` maps a vehicle model's name to schema and
    catalogue. `heard` gives a vehicle's newest status message, `quarantine` is what is held; they may block. `replays` takes requests to
    replay the quarantine and has their answers.
    """

    store: Store
    tickets: TicketService
    tokens: Tokens
    stats: Callable[[], dict[str, Any]] = dict
    models: Models = field(default_factory=dict)
    heard: Callable[[str], Mapping[str, Any] | None] = _never
    quarantine: Quarantined = field(default_factory=NothingHeld)
    replays: Replays | None = None
    quality: "QualityTables | None" = None
