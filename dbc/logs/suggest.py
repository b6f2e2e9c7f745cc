"""Which known DBCs fit a log: by identifiers and lengths alone, read from the files' text, so that hundreds of them take a second."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dbc.frames import EFF_FLAG, EFF_MASK
from dbc.logs.info import LogInfo
from dbc.protocols.j1939 import pgn_of

__all__ = ["Suggestion", "known_files", "suggest"]

MESSAGE = re.compile(rb"^[ \t]*BO_[ \t]+(\d{1,10})[ \t]+\w+[ \t]*:[ \t]*\d+", re.MULTILINE)
J1939 = re.compile(rb"J1939", re.IGNORECASE)
INDEPENDENT = 0xC000_0000  # VECTOR__INDEPENDENT_SIG_MSG: no message
MOST = 3  # suggestions for a channel
LEAST_SHARE = 0.05  # of the channel's identifiers or frames


@dataclass(frozen=True)
class Suggestion:
    channel: str
    dbc: str
    frames_share: float  # of the channel's frames, those with an identifier of the DBC
    identifiers: int  # of the log that the DBC has
    identifiers_share: float  # of the channel's
    messages_share: float  # of the DBC's messages, those that the log has


def known_files(folders: Sequence[Path]) -> list[Path]:
    """The DBC files of our own vehicle, of the folders, and of the opendbc package where it is installed."""
    from dbc.vehicles import DBC_FILES

    found = [Path(file.rpartition("@")[0] or file) for file in DBC_FILES]
    for folder in folders:
        found += sorted(folder.rglob("*.dbc"))
    spec = importlib.util.find_spec("opendbc")
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        found += sorted(Path(place).rglob("*.dbc"))
    return found


def suggest(info: LogInfo, files: Iterable[Path]) -> list[Suggestion]:
    """The best few for each channel of the log, best first. A file that cannot be read is no suggestion."""
    frames: dict[str, dict[int, int]] = {}
    for one in info.identifiers:
        identifier = int(one.identifier, 16) | (EFF_FLAG if len(one.identifier) == 8 else 0)
        frames.setdefault(one.channel, {})[identifier] = one.frames
    found: list[Suggestion] = []
    for file in files:
        try:
            text = file.read_bytes()
        except OSError:
            continue
        messages = {
            int(number) & (EFF_FLAG | EFF_MASK) for number in MESSAGE.findall(text) if int(number) < 2**32 and int(number) != INDEPENDENT
        }
        groups = {pgn_of(number & EFF_MASK) for number in messages if number & EFF_FLAG} if J1939.search(text) else set()
        found += filter(None, (_fit(channel, str(file), seen, messages, groups) for channel, seen in frames.items()))
    found.sort(key=lambda one: (one.channel, -one.frames_share * one.identifiers_share, -one.messages_share))
    return [one for channel in frames for one in [one for one in found if one.channel == channel][:MOST]]


def _fit(channel: str, file: str, seen: dict[int, int], messages: set[int], groups: set[int]) -> Suggestion | None:
    hits = {number for number in seen if number in messages or (number & EFF_FLAG and pgn_of(number & EFF_MASK) in groups)}
    share = sum(seen[number] for number in hits) / sum(seen.values())
    if not hits or max(len(hits) / len(seen), share) < LEAST_SHARE:
        return None
    there = len(messages & hits) or len({pgn_of(number & EFF_MASK) for number in hits} & groups)
    return Suggestion(channel, file, share, len(hits), len(hits) / len(seen), min(there / len(messages), 1.0))
