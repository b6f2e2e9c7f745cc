"""Silences and maintenance windows: what operators do not want to hear of for a while."""

from typing import Annotated

import msgspec

from cloud.api.backend import Backend
from cloud.api.route import Moment, NumberPath, Route
from cloud.api.session import Done
from cloud.api.words import Language
from cloud.roles import Principal, Role
from cloud.tickets.silences import SilenceRequest
from cloud.tickets.views import Brief, Preview, Silence

__all__ = ["SilenceRoutes"]

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class SilenceToMake(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be hidden in [from_ms, to_ms) (UTC): of a vehicle, a model, a fault code (with `*` and `?`) or a pack, of one at least.

    Red tickets are hidden only with `red`.
    """

    from_ms: Moment
    to_ms: Moment
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    vehicle: Name | None = None
    model: Name | None = None
    fault_code: Name | None = None
    pack_id: Name | None = None
    red: bool = False


class OverQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`over`: 1 for those that are over, too."""

    over: bool = False


class SilenceList(msgspec.Struct, frozen=True):
    """Newest first."""

    silences: list[Silence]


class PreviewShown(msgspec.Struct, frozen=True):
    """`open`: the newest of the `open_tickets` that it would hide now; `red`: open red ones that it fits and leaves alone without `red`.

    `past_*`: what it would have hidden over the last `past_days` days. `fault_words`: of each fault code named here, in the language that
    was asked for.
    """

    open: list[Brief]
    open_tickets: int
    red: int
    past_days: int
    past_tickets: int
    past_confirmed: int
    past_vehicles: int
    by_fault_code: dict[str, int]
    fault_words: dict[str, str]


class SilenceRoutes:
    """Silences hide tickets; in a maintenance window, of one vehicle, findings open none."""

    def __init__(self, backend: Backend) -> None:
        self._silences = backend.tickets.silences

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/api/silences", self.silences, Role.READ_ONLY),
            Route("POST", "/api/silences", self.silence, Role.OPERATOR, cost=5.0),
            Route("POST", "/api/silences/preview", self.preview, Role.READ_ONLY, cost=5.0),
            Route("DELETE", "/api/silences/{id}", self.end_silence, Role.OPERATOR, cost=5.0),
            Route("GET", "/api/maintenance", self.maintenances, Role.READ_ONLY),
            Route("POST", "/api/maintenance", self.maintenance, Role.OPERATOR, cost=5.0),
            Route("POST", "/api/maintenance/preview", self.preview_maintenance, Role.READ_ONLY, cost=5.0),
            Route("DELETE", "/api/maintenance/{id}", self.end_maintenance, Role.OPERATOR, cost=5.0),
        ]

    def silences(self, query: OverQuery) -> SilenceList:
        """The silences."""
        return SilenceList(list(self._silences.list("silence", query.over)))

    def silence(self, who: Principal, body: SilenceToMake) -> Silence:
        """Silence something."""
        return self._silences.make("silence", _asked(body), who.name)

    def preview(self, query: Language, body: SilenceToMake) -> PreviewShown:
        """What a silence would hide; nothing is changed."""
        return _shown(self._silences.preview(_asked(body)), query.lang)

    def end_silence(self, who: Principal, path: NumberPath) -> Done:
        """End a silence now."""
        self._silences.end(path.id, "silence", who.name)
        return Done(True)

    def maintenances(self, query: OverQuery) -> SilenceList:
        """The maintenance windows."""
        return SilenceList(list(self._silences.list("maintenance", query.over)))

    def maintenance(self, who: Principal, body: SilenceToMake) -> Silence:
        """Begin a maintenance window, now or later; what is still active when it ends opens a ticket then."""
        return self._silences.make("maintenance", _asked(body), who.name)

    def preview_maintenance(self, query: Language, body: SilenceToMake) -> PreviewShown:
        """What a maintenance window would keep away; nothing is changed."""
        return _shown(self._silences.preview(_asked(body)), query.lang)

    def end_maintenance(self, who: Principal, path: NumberPath) -> Done:
        """End a maintenance window now."""
        self._silences.end(path.id, "maintenance", who.name)
        return Done(True)


def _shown(would: Preview, language: str) -> PreviewShown:
    words = {code: by_language[language] for code, by_language in would.fault_words.items()}
    return PreviewShown(**msgspec.structs.asdict(would) | {"fault_words": words})


def _asked(body: SilenceToMake) -> SilenceRequest:
    return SilenceRequest(**msgspec.structs.asdict(body))
