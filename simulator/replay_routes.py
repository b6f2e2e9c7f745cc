"""Which channel of which log goes to which bus: what `--to` says.

INTERFACE:CHANNEL                  every channel that no other --to names
LOG_CHANNEL=INTERFACE:CHANNEL      that channel of the logs
N/LOG_CHANNEL=INTERFACE:CHANNEL    that channel of the Nth log, from 1: two loggers may both call their bus can0
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from simulator.errors import ReplayError
from simulator.replay_timetable import NO_BUS, channels_of

__all__ = ["SOCKETCAN", "Routes", "Target"]

SOCKETCAN = "socketcan"
FORM = re.compile(r"(?:(?:(?P<log>\d{1,4})/)?(?P<source>[^=:]+)=)?(?P<interface>[^=:,]+):(?P<channel>[^,]*)(?P<options>(?:,[^=,]+=[^,]*)*)")
EXPECTED = "expected INTERFACE:CHANNEL or LOG_CHANNEL=INTERFACE:CHANNEL, like socketcan:vcan0 or can0=virtual:test"


@dataclass(frozen=True)
class Target:
    """A bus to send to. options: of python-can's Bus, as text."""

    interface: str
    channel: str
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.interface}:{self.channel}"


class Routes:
    """The buses, and the way to them.

    texts: of --to. logs: how many there are.
    Raises ReplayError for what is no route, what contradicts another one, and a log that is not there.
    """

    def __init__(self, texts: Sequence[str], logs: int) -> None:
        self.targets: list[Target] = []
        self._bus: dict[tuple[int | None, str | None], int] = {}
        self._seen: set[tuple[int | None, str | None]] = set()
        self._text: dict[tuple[int | None, str | None], str] = {}
        for text in texts:
            found = FORM.fullmatch(text)
            if not found:
                raise ReplayError(f"--to {text}: {EXPECTED}")
            log = None if found["log"] is None else int(found["log"]) - 1
            if log is not None and not 0 <= log < logs:
                raise ReplayError(f"--to {text}: expected the number of a log, 1 to {logs}, found {found['log']}")
            key = log, found["source"]
            if key in self._bus:
                raise ReplayError(f"--to {text}: {self._text[key]} is for the same frames; a channel goes to one bus")
            self._bus[key], self._text[key] = self._number(_target(found, text)), text

    def _number(self, target: Target) -> int:
        if target not in self.targets:
            if len(self.targets) == NO_BUS:
                raise ReplayError(f"--to {target.name}: more than {NO_BUS} buses")
            self.targets.append(target)
        return self.targets.index(target)

    def route(self, log: int, channel: str) -> int:
        """Number of the bus for a channel of a log (from 0); NO_BUS: none. Remembers what it was asked for."""
        for key in ((log, channel), (None, channel), (None, None)):
            if key in self._bus:
                self._seen.add(key)
                return self._bus[key]
        return NO_BUS

    def unseen(self) -> list[str]:
        """The channels that are named and that no log had, so far."""
        return [source for key in self._bus if key not in self._seen and (source := key[1]) is not None]

    def check(self, logs: Sequence[str]) -> None:
        """Look for the named channels in the logs, before anything is sent: in all of a short log, in the first frames of a long one.
        Raises ReplayError, LogFormatError."""
        if not self.unseen():
            return
        there: list[str] = []
        complete = True
        for number, path in enumerate(logs):
            if not Path(path).is_file():
                complete = False
                continue
            channels, whole = channels_of(path)
            for channel in channels:
                self.route(number, channel)
            there += channels
            complete &= whole
        if complete and (unseen := self.unseen()):
            raise ReplayError(missing(unseen, logs, there))


def missing(unseen: Sequence[str], logs: Sequence[str], there: Sequence[str]) -> str:
    """The line that says so."""
    found = f"there are {', '.join(dict.fromkeys(there))}" if there else "there are no frames"
    return f"{', '.join(logs)}: no channel {' or '.join(unseen)}, which --to names; {found}"


def _target(found: re.Match[str], text: str) -> Target:
    interface, channel = found["interface"], found["channel"]
    pairs = [option.partition("=") for option in found["options"].split(",")[1:]]
    if interface == SOCKETCAN and (not channel or pairs):
        raise ReplayError(f"--to {text}: expected socketcan:NAME, with the name of a CAN interface and nothing behind it")
    return Target(interface, channel, {key: value for key, _, value in pairs})
