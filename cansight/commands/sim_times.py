"""Times and lengths as `cansight sim` takes them."""

import datetime
import re
import time

import click

FIRST_YEAR, LAST_YEAR = 1971, 2262  # stamps are int64 nanoseconds since 1970
SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def seconds(text: str) -> float:
    """`12.5s`, `200ms`, `2m`, `1h`, `7d` -> seconds; `0s` is allowed."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d)", text)
    if not match:
        raise click.BadParameter(f"expected a time like 12.5s, 200ms, 2m, 1h or 7d, found {text!r}")
    return round(float(match[1]) * SECONDS[match[2]], 9)


def duration(text: str) -> int:
    """`90s`, `30m`, `2h`, `7d` -> whole seconds, at least 1."""
    try:
        found = seconds(text)
    except click.BadParameter:
        found = 0.0
    if found < 1 or not found.is_integer():
        raise click.BadParameter(f"expected a duration like 90s, 30m, 2h or 7d, in whole seconds, found {text!r}")
    return int(found)


def start(text: str) -> int:
    """`now` or an ISO 8601 instant (UTC unless it says otherwise) -> ns since 1970."""
    if text == "now":
        return time.time_ns()
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"expected `now` or a time like 2026-01-05T08:00:00, found {text!r}") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    if not FIRST_YEAR <= moment.year < LAST_YEAR:
        raise click.BadParameter(f"expected a year from {FIRST_YEAR} to {LAST_YEAR - 1}, found {text!r}")
    return round(moment.timestamp()) * 10**9


def utc(timestamp_ns: int) -> str:
    """`2026-01-05 08:00:00 UTC`."""
    return f"{datetime.datetime.fromtimestamp(timestamp_ns / 1e9, datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"


def length(seconds: float) -> str:
    """`5 days`, `2 h`, `120 s`."""
    for unit, size in (("days", 86_400), ("h", 3600)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.4g} s"
