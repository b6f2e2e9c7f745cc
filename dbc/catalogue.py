"""The signal catalogue: what a vehicle's signals are for, how private they are, what they and its faults are called.

A TOML file beside the DBC:

    vehicle = "cansight_ev"
    [subsystems]   NAME = { en, zh }
    [purposes]     NAME = { en, zh }
    [faults.CODE]  en, zh, subsystem, action_en, action_zh, signals = [...]
    [signals]      "Message.Signal" = { subsystem, purpose, privacy, en, zh }
    [twins]        NAME = ["Message.Signal", ...]: measure one quantity in one unit; may be missing
    [changes]      software = [signals that say a version], service = [countdowns to the next service]; may be missing
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbc.errors import CatalogueError
from dbc.integrity import Protection, declared

__all__ = ["DEFAULT_PRIVACY", "IDENTITY", "PRIVACY_CLASSES", "Catalogue", "FaultCode", "SignalEntry", "Words"]

PRIVACY_CLASSES = ("technical", "driving", "location", "identity")
DEFAULT_PRIVACY = "technical"  # of a signal that the catalogue does not name
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")  # of "VIN_Part2", "GW_Vin.VinPart", "ID405VIN"
IDENTITY = "identity"  # signals of this class are never recorded


@dataclass(frozen=True, slots=True)
class Words:
    """The same words in English and in Chinese."""

    en: str
    zh: str


@dataclass(frozen=True, slots=True)
class SignalEntry:
    name: str  # "Message.Signal"
    subsystem: str
    purpose: str
    privacy: str  # one of PRIVACY_CLASSES
    words: Words


@dataclass(frozen=True, slots=True)
class FaultCode:
    code: str
    words: Words
    subsystem: str
    action: Words  # what the service advisor or the owner should do
    signals: tuple[str, ...]  # in which the fault shows


@dataclass(frozen=True)
class Catalogue:
    """Of one vehicle model. An empty one stands for a vehicle without a catalogue."""

    vehicle: str
    subsystems: Mapping[str, Words]
    purposes: Mapping[str, Words]
    signals: Mapping[str, SignalEntry]
    faults: Mapping[str, FaultCode]
    checks: Mapping[str, Protection] = field(default_factory=dict)  # by message: alive counters and checksums, see dbc/integrity.py
    software: tuple[str, ...] = ()  # signals of which another value is another version
    service: tuple[str, ...] = ()  # countdowns to the next service, which a service sets back
    twins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by a name of theirs: signals that measure one quantity

    @staticmethod
    def empty(vehicle: str = "") -> Catalogue:
        return Catalogue(vehicle, {}, {}, {}, {})

    @staticmethod
    def load(path: str | Path) -> Catalogue:
        """Read a catalogue. Raises CatalogueError with file and key for whatever does not fit."""
        try:
            document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise CatalogueError(f"{path}: cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise CatalogueError(f"{path}: is not UTF-8 text: byte {error.start}") from error
        except tomllib.TOMLDecodeError as error:
            raise CatalogueError(f"{path}: is not TOML: {error}") from error
        return _Reader(str(path)).catalogue(document)

    def entry(self, signal: str) -> SignalEntry | None:
        """The entry of "Message.Signal" or "channel:Message.Signal"; None where the catalogue has none."""
        return self.signals.get(signal) or self.signals.get(signal.partition(":")[2])

    def consent_class(self, signal: str) -> str:
        """Which consent a signal needs: one of PRIVACY_CLASSES. One that is not listed is technical, unless its name says VIN."""
        entry = self.entry(signal)
        if entry is not None:
            return entry.privacy
        return "identity" if any(word.lower() == "vin" for word in _WORD.findall(signal)) else DEFAULT_PRIVACY

    def words(self, signal: str) -> Words:
        """What the signal is called; its own name where the catalogue has none."""
        entry = self.entry(signal)
        return entry.words if entry else Words(signal, signal)

    def fault(self, code: str) -> FaultCode:
        """The fault of this code. Raises CatalogueError with the codes there are."""
        fault = self.faults.get(code)
        if fault is None:
            known = ", ".join(self.faults) or "none"
            raise CatalogueError(f"no fault code {code!r} in the catalogue of {self.vehicle or 'this vehicle'}; it has: {known}")
        return fault

    def check(self, names: Collection[str]) -> None:
        """Raises CatalogueError when the catalogue names a signal that is not among `names` (the schema's)."""
        known = set(names) | {name.partition(":")[2] for name in names}
        named = [*self.signals, *(signal for fault in self.faults.values() for signal in fault.signals), *self.software, *self.service]
        named += [signal for twins in self.twins.values() for signal in twins]
        if missing := [name for name in named if name not in known]:
            raise CatalogueError(f"the catalogue of {self.vehicle} names {len(missing)} signals that the DBC does not have: {missing[0]}")


class _Reader:
    """Turns the document into a catalogue; every complaint names file and key."""

    def __init__(self, path: str) -> None:
        self.path = path

    def catalogue(self, document: dict[str, Any]) -> Catalogue:
        checks = {name: self._check(name, value, f"checks.{name}") for name, value in document.pop("checks", {}).items()}
        changes = self._table({"changes": document.pop("changes", {})}, "changes")
        changes = {key: self._names(value, f"changes.{key}") for key, value in changes.items()}
        if extra := sorted(changes.keys() - {"software", "service"}):
            raise CatalogueError(f"{self.path}: changes: unknown key {extra[0]}; expected service, software")
        given = self._table({"twins": document.pop("twins", {})}, "twins")
        twins = {name: self._names(value, f"twins.{name}") for name, value in given.items()}
        if alone := next((name for name, signals in twins.items() if len(set(signals)) < 2), None):
            raise CatalogueError(f"{self.path}: twins.{alone}: expected at least two signals, found {len(set(twins[alone]))}")
        self._keys(document, "", {"vehicle", "subsystems", "purposes", "faults", "signals"})
        subsystems = {name: self._words(value, f"subsystems.{name}") for name, value in self._table(document, "subsystems").items()}
        purposes = {name: self._words(value, f"purposes.{name}") for name, value in self._table(document, "purposes").items()}
        signals = {
            name: self._signal(name, value, f'signals."{name}"', subsystems, purposes)
            for name, value in self._table(document, "signals").items()
        }
        faults = {code: self._fault(code, value, f"faults.{code}", subsystems) for code, value in self._table(document, "faults").items()}
        return Catalogue(self._text(document, "vehicle", ""), subsystems, purposes, signals, faults, checks, **changes, twins=twins)

    def _check(self, message: str, value: Any, where: str) -> Protection:
        """counter and checksum are names of signals; a checksum needs its profile, and most profiles a data_id."""
        keys = ("counter", "checksum", "profile", "data_id")
        if not isinstance(value, dict) or not value.keys() <= set(keys) or not all(isinstance(text, str) for text in value.values()):
            raise CatalogueError(f"{self.path}: {where}: expected texts, of {', '.join(keys)}, found {value!r}")
        try:
            found = declared(message, value.get("counter"), value.get("checksum"), value.get("profile", ""), value.get("data_id", ""))
        except ValueError as error:
            raise CatalogueError(f"{self.path}: {where}: {error}") from error
        if found is None:
            raise CatalogueError(f"{self.path}: {where}: names no counter, and no checksum with its profile")
        return found

    def _signal(self, name: str, value: Any, where: str, subsystems: Collection[str], purposes: Collection[str]) -> SignalEntry:
        self._keys(value, where, {"subsystem", "purpose", "privacy", "en", "zh"})
        return SignalEntry(
            name,
            self._one_of(value, "subsystem", where, subsystems),
            self._one_of(value, "purpose", where, purposes),
            self._one_of(value, "privacy", where, PRIVACY_CLASSES),
            Words(self._text(value, "en", where), self._text(value, "zh", where)),
        )

    def _fault(self, code: str, value: Any, where: str, subsystems: Collection[str]) -> FaultCode:
        self._keys(value, where, {"en", "zh", "subsystem", "action_en", "action_zh", "signals"})
        return FaultCode(
            code,
            Words(self._text(value, "en", where), self._text(value, "zh", where)),
            self._one_of(value, "subsystem", where, subsystems),
            Words(self._text(value, "action_en", where), self._text(value, "action_zh", where)),
            self._names(value["signals"], f"{where}.signals"),
        )

    def _names(self, value: Any, where: str) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(signal, str) for signal in value):
            raise CatalogueError(f"{self.path}: {where}: expected a list of signal names, found {value!r}")
        return tuple(value)

    def _words(self, value: Any, where: str) -> Words:
        self._keys(value, where, {"en", "zh"})
        return Words(self._text(value, "en", where), self._text(value, "zh", where))

    def _table(self, document: dict[str, Any], key: str) -> dict[str, Any]:
        table = document[key]
        if not isinstance(table, dict):
            raise CatalogueError(f"{self.path}: {key}: expected a table, found {table!r}")
        return table

    def _keys(self, value: Any, where: str, expected: set[str]) -> None:
        place = f"{self.path}: {where}" if where else self.path
        if not isinstance(value, dict):
            raise CatalogueError(f"{place}: expected a table, found {value!r}")
        if missing := sorted(expected - value.keys()):
            raise CatalogueError(f"{place}: lacks {', '.join(missing)}")
        if extra := sorted(value.keys() - expected):
            raise CatalogueError(f"{place}: unknown key {extra[0]}; expected {', '.join(sorted(expected))}")

    def _text(self, table: dict[str, Any], key: str, where: str) -> str:
        value = table[key]
        if not isinstance(value, str) or not value:
            raise CatalogueError(f"{self.path}: {where}{'.' if where else ''}{key}: expected text, found {value!r}")
        return value

    def _one_of(self, table: dict[str, Any], key: str, where: str, allowed: Collection[str]) -> str:
        value = self._text(table, key, where)
        if value not in allowed:
            raise CatalogueError(f"{self.path}: {where}.{key}: expected one of {', '.join(allowed)}; found {value!r}")
        return value
