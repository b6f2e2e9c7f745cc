"""The databases (2.x: buckets) of one store: `NAME` ticks, `NAME_1m` minutes, `NAME_1h` hours, `NAME_replay` recorded logs, for ever.

`prepare` makes what is missing and says what it did; a retention that is there is made longer, never shorter without being told so: a
server deletes at once what a shorter one no longer covers.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cloud.config import InfluxConfig, kept_days
from cloud.errors import CloudError
from cloud.stores.influx_admin import Admin

__all__ = ["DAY_S", "HOURS", "MINUTES", "REPLAY", "Wanted", "prepare", "seconds", "wanted"]

REPLAY, MINUTES, HOURS = "_replay", "_1m", "_1h"
DAY_S = 86_400


@dataclass(frozen=True)
class Wanted:
    """A database and how long it keeps a point, seconds; 0 = for ever, as servers say it."""

    name: str
    keep_s: int


def seconds(kept: str) -> int:
    """ "90d" -> 7776000, "forever" -> 0."""
    return (kept_days(kept) or 0) * DAY_S


def wanted(config: InfluxConfig) -> list[Wanted]:
    """The databases that these settings ask for."""
    name = config.bucket or config.database
    found = [Wanted(name, seconds(config.keep_ticks)), Wanted(name + REPLAY, 0)]
    if config.downsample:
        found += [Wanted(name + MINUTES, seconds(config.keep_minutes)), Wanted(name + HOURS, seconds(config.keep_hours))]
    return found


def prepare(admin: Admin, config: InfluxConfig, *, shorten: bool = False) -> Iterator[str]:
    """Make each database as it is wanted; yields one line for each. Raises CloudError where a retention would become shorter and `shorten`
    is not given, before anything is changed; StoreUnavailable."""
    there = admin.databases()
    for one in wanted(config):
        now_s = there.get(one.name)
        if now_s is not None and _shorter(one.keep_s, now_s) and not shorten:
            raise CloudError(
                f"{config.url}: {one.name} keeps its points {_words(now_s)}, the settings say {_words(one.keep_s)}: the server would delete"
                " what is older at once; give --shorten where that is meant, or make store.influx.keep_… longer"
            )
    for one in wanted(config):
        now_s = there.get(one.name)
        if now_s is None:
            admin.create(one.name, one.keep_s)
            yield f"{one.name}: made, keeps its points {_words(one.keep_s)}"
        elif now_s != one.keep_s:
            admin.retain(one.name, one.keep_s)
            yield f"{one.name}: kept its points {_words(now_s)}, now {_words(one.keep_s)}"
        else:
            yield f"{one.name}: is there, keeps its points {_words(now_s)}"


def _shorter(keep_s: int, than_s: int) -> bool:
    return keep_s != 0 and (than_s == 0 or keep_s < than_s)


def _words(keep_s: int) -> str:
    if not keep_s:
        return "for ever"
    return f"{keep_s // DAY_S} days" if keep_s % DAY_S == 0 else f"{keep_s} s"
