"""The ticket policy: what `tickets.toml` says, checked. The shipped file is the default of every key; see docs/tickets.md."""

import re
import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from cloud.tickets.errors import PolicyError
from cloud.tickets.policy import Condition, Handling, Tier

__all__ = ["DEFAULT_FILE", "Inhibition", "Policy", "Prognosis", "TierPolicy", "WebhookPolicy", "duration_ms", "load_policy", "read_policy"]

DEFAULT_FILE = Path(__file__).with_name("tickets.toml")
_UNITS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

Duration = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,6}[smhd]\Z")]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
Way = Literal["push", "phone", "app", "reminder"]
EventKind = Literal["opened", "tier raised", "active again", "recovered", "closed"]


class Prognosis(msgspec.Struct, frozen=True):
    """A probability (0..1) of a breakdown within `within_ms`. Only a `calibrated` one, whose reliability was shown on vehicles that its
    model had never seen, gives a ticket a colour. `source` names the model."""

    probability: Share
    within_ms: int
    calibrated: bool
    source: str


class TierPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tier."""

    owner: list[Way]
    acknowledge: Duration
    close: Duration
    probability: Share | None = None
    within: Duration | None = None


class TiersPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The four of them."""

    red: TierPolicy
    yellow: TierPolicy
    blue: TierPolicy
    unrated: TierPolicy

    def of(self, tier: Tier) -> TierPolicy:
        """One tier's settings."""
        return {Tier.RED: self.red, Tier.YELLOW: self.yellow, Tier.BLUE: self.blue, Tier.UNRATED: self.unrated}[tier]


class FaultsPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fault codes (`*` and `?` as in file names) that are blue without a probability."""

    blue: list[str]


class ClocksPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What pauses the clocks."""

    paused_while_handling: list[Handling]
    paused_while_condition: list[Condition]
    paused_while_hidden: bool


class BudgetPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much one owner is told."""

    pushes_a_week: Annotated[int, msgspec.Meta(ge=0, le=100)]
    warnings_a_month: Annotated[int, msgspec.Meta(ge=0, le=100)]
    push: list[Way]


class ReopeningPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    within: Duration


class HoldOffPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    after_false_alarm: Duration


class FlappingPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    turns: Annotated[int, msgspec.Meta(ge=2, le=1000)]
    rest: Duration
    recovered_after: Duration
    again_after: Duration


class NoDataPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    after: Duration
    after_asleep: Duration


class GroupsPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    vehicles: Annotated[int, msgspec.Meta(ge=2)]
    within: Duration


class SilencesPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    longest: Duration


class Inhibition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fault code, and those (`*` and `?` as in file names) that it brings about in the same vehicle."""

    cause: str
    hides: Annotated[list[str], msgspec.Meta(min_length=1)]

    def covers(self, fault_code: str) -> bool:
        return any(fnmatchcase(fault_code, pattern) for pattern in self.hides)


class WebhookPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to tell over HTTP. The secret stands in a file."""

    name: Name
    url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s]+$")]
    secret_file: str
    events: tuple[EventKind, ...] = ("opened", "tier raised", "active again", "recovered", "closed")
    tiers: tuple[Tier, ...] = tuple(Tier)

    @property
    def secret(self) -> bytes:
        """The bytes it signs with. Raises PolicyError."""
        try:
            text = Path(self.secret_file).read_bytes().strip()
        except OSError as error:
            raise PolicyError(f"{self.secret_file}: the secret of webhook {self.name!r} cannot be read: {error.strerror}") from None
        if len(text) < 24:
            raise PolicyError(
                f"{self.secret_file}: expected a secret of 24 characters at least for webhook {self.name!r}, found {len(text)}; "
                "make one with `openssl rand -base64 32`"
            )
        return text


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """Everything that `tickets.toml` says."""

    tiers: TiersPolicy
    faults: FaultsPolicy
    clocks: ClocksPolicy
    budget: BudgetPolicy
    reopening: ReopeningPolicy
    hold_off: HoldOffPolicy
    flapping: FlappingPolicy
    no_data: NoDataPolicy
    groups: GroupsPolicy
    silences: SilencesPolicy
    inhibition: list[Inhibition]
    webhook: list[WebhookPolicy] = []

    def tier_of(self, fault_code: str, prognoses: "list[Prognosis] | tuple[Prognosis, ...]" = ()) -> Tier:
        """The most urgent tier that a calibrated prognosis supports. One that is not calibrated counts for nothing.

        A breakdown within a shorter time is also one within a longer, so each prognosis counts for every tier whose time it fits into.
        """
        known = [one for one in prognoses if one.calibrated]
        for tier, more in ((Tier.RED, True), (Tier.YELLOW, False), (Tier.BLUE, False)):
            rule = self.tiers.of(tier)
            if rule.probability is None or rule.within is None:
                continue
            within, least = duration_ms(rule.within), rule.probability
            if any(one.within_ms <= within and (one.probability > least if more else one.probability >= least) for one in known):
                return tier
        return Tier.BLUE if any(fnmatchcase(fault_code, pattern) for pattern in self.faults.blue) else Tier.UNRATED

    @cached_property
    def causes(self) -> Mapping[str, list[Inhibition]]:
        """Inhibitions by cause."""
        found: dict[str, list[Inhibition]] = {}
        for one in self.inhibition:
            found.setdefault(one.cause, []).append(one)
        return found


def duration_ms(text: str) -> int:
    """`90s`, `30m`, `8h`, `7d` in milliseconds."""
    return int(text[:-1]) * _UNITS[text[-1]]


def load_policy(path: Path | None = None) -> Policy:
    """The policy in `path` over the shipped one; None: the shipped one. Secrets' files are looked for beside `path`.

    Raises PolicyError with file, key, what was expected and what was found.
    """
    policy = read_policy(path)
    for hook in policy.webhook:
        _ = hook.secret  # a secret that is missing is said at the start, not at the first ticket
    return policy


def read_policy(path: Path | None, folder: Path | None = None) -> Policy:
    """The same without a look at the secrets' files; `folder`: where a copy of the policy belongs, and they beside it."""
    shipped = _read(DEFAULT_FILE)
    document = shipped if path is None else _over(shipped, _read(path))
    where = path or DEFAULT_FILE
    try:
        policy = msgspec.convert(document, Policy)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at ")
        key = place.strip("`").removeprefix("$").removeprefix(".") or "top level"
        raise PolicyError(f"{where}: {key}: {what.replace('`', '')}{_found(document, key)}") from None
    _consistent(policy, where)
    beside = folder or where.parent
    hooks = [msgspec.structs.replace(one, secret_file=str((beside / one.secret_file).absolute())) for one in policy.webhook]
    return msgspec.structs.replace(policy, webhook=hooks)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PolicyError(f"{path}: the ticket policy cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PolicyError(f"{path}: expected the ticket policy in TOML: {error}") from None


def _over(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Tables are merged key by key; everything else, lists included, is replaced."""
    merged = dict(base)
    for key, value in over.items():
        mine = merged.get(key)
        merged[key] = _over(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return merged


def _found(document: Any, key: str) -> str:
    for step in re.findall(r"\w+", key):
        try:
            document = document[int(step) if isinstance(document, list) else step]
        except (KeyError, IndexError, ValueError, TypeError):
            return ""
    return "" if isinstance(document, dict | list) else f", found {document!r}"


def _consistent(policy: Policy, where: Path) -> None:
    """What no single key can show."""
    red, yellow, blue, unrated = (policy.tiers.of(tier) for tier in Tier)
    if unrated.probability is not None or unrated.within is not None:
        raise PolicyError(f"{where}: tiers.unrated: expected no probability, found one; what has a probability has a colour")
    for tier, rule in (("red", red), ("yellow", yellow), ("blue", blue)):
        if rule.probability is None or rule.within is None:
            raise PolicyError(f"{where}: tiers.{tier}: expected probability and within, found only one of them or neither")
    if (red.probability or 0) < 0.5:
        raise PolicyError(f"{where}: tiers.red.probability: expected at least 0.5, found {red.probability}")
    for upper, lower, names in ((red, yellow, ("red", "yellow")), (yellow, blue, ("yellow", "blue"))):
        if (upper.probability or 0) < (lower.probability or 0):
            raise PolicyError(f"{where}: tiers.{names[1]}.probability: expected at most that of {names[0]} ({upper.probability})")
        if duration_ms(upper.within or "0s") > duration_ms(lower.within or "0s"):
            raise PolicyError(
                f"{where}: tiers.{names[1]}.within: expected at least that of {names[0]} ({upper.within}), found {lower.within}"
            )
    for number, one in enumerate(policy.inhibition):
        if one.covers(one.cause):
            raise PolicyError(f"{where}: inhibition[{number}].hides: expected other fault codes than the cause {one.cause!r}, found it too")
    if Handling.CLOSED in policy.clocks.paused_while_handling:
        raise PolicyError(f"{where}: clocks.paused_while_handling: expected handlings of an open ticket, found 'closed'")
    names_ = [hook.name for hook in policy.webhook]
    if twice := sorted({name for name in names_ if names_.count(name) > 1}):
        raise PolicyError(f"{where}: webhook: the name {twice[0]!r} is used more than once; each webhook needs its own")
