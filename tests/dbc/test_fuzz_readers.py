"""A great many damaged logs through each text reader: no crash, no hang, no invented frame.

An input is a log of five frames, written by hand from random frames, with damage; all in memory, many thousands a second. Half the inputs
have one damaged line: then the other four frames must be read exactly, and a frame that is read from the damaged line may say nothing
that does not stand there. The others are damaged anywhere. CANSIGHT_SOAK=1: a million for each format.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest
from log_lines import FORMS, Form, Log, contradiction, damaged_line, damaged_text, random_samples, rows_of
from test_fuzz_logs import check

from dbc.logs.formats import format_of, text_parser

SOAK = bool(os.environ.get("CANSIGHT_SOAK"))
INPUTS = 1_000_000 if SOAK else 1_500
LOGS = 400 if SOAK else 20  # whole ones that are damaged again and again
BATCH = 200
HANG_S = 60  # for a batch: a fifth of a second for an input of which a machine does thousands


class Hang(BaseException):
    """Not an Exception: readers turn what a library lets through into one line."""


@contextmanager
def no_hang() -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(HANG_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def whole_logs(form: Form, rng: random.Random) -> list[Log]:
    logs = []
    for _ in range(LOGS):
        samples = random_samples(rng, form.longest)
        lines = [form.line(sample).encode() for sample in samples]
        log = Log(form, form.header, lines, [])
        assert format_of(log.text) == form.format
        parser = text_parser(form.format, log.text)
        rows = rows_of(parser.parse(log.text, 0))
        assert parser.skipped == 0
        assert [(row[1] & 0x1FFF_FFFF, bool(row[1] >> 31), row[4]) for row in rows] == [(s.identifier, s.extended, s.data) for s in samples]
        stamps = [(row[0] - rows[0][0]) // 1000 for row in rows]
        if form.format != "generic-csv":
            assert stamps == [sample.us - samples[0].us for sample in samples]
        log.rows.extend(rows)
        assert all(contradiction(form, line, row, start_of(log)) is None for line, row in zip(lines, rows, strict=True))
        logs.append(log)
    return logs


def start_of(log: Log) -> int:
    """What the first line's own stamp is counted from."""
    form = log.form
    found = None if form.stamp is None else form.stamp.match(log.lines[0])
    return 0 if found is None else log.rows[0][0] - round(float(found[1]) * form.unit_ns / 1000) * 1000


@pytest.mark.timeout(3600 if SOAK else 120)
@pytest.mark.parametrize("name", FORMS)
def test_damaged_logs_give_what_is_whole_and_nothing_else(name: str) -> None:
    rng = random.Random(name)
    logs = whole_logs(FORMS[name], rng)
    done = read = 0
    while done < INPUTS:
        with no_hang():
            for _ in range(BATCH):
                log = rng.choice(logs)
                read += one_line(rng, log) if rng.random() < 0.5 else anywhere(rng, log)
        done += BATCH
    assert read > INPUTS // 20  # damage that leaves nothing to read tests nothing


def one_line(rng: random.Random, log: Log) -> bool:
    """Whether the damaged line still is a frame."""
    at = rng.randrange(len(log.lines))
    line = damaged_line(rng, log.lines[at], log.lines)
    lines = [*log.lines[:at], line, *log.lines[at + 1 :]]
    text = log.head + b"\n".join(lines) + b"\n"
    parser = text_parser(log.form.format, log.text)  # the format has been told from the whole log's head
    rows = rows_of(parser.parse(text, 0))
    expected, since = log.rows, 0 if log.form.stamp is not None else 1
    after = len(log.lines) - at - 1
    assert len(expected) - 1 <= len(rows) <= len(expected), text
    assert [row[since:] for row in rows[:at]] == [row[since:] for row in expected[:at]], text
    assert [row[since:] for row in rows[len(rows) - after :]] == [row[since:] for row in expected[len(expected) - after :]], text
    if len(rows) < len(expected):
        assert parser.skipped <= 1, text
        return False
    assert parser.skipped == 0, text
    assert (why := contradiction(log.form, line, rows[at], start_of(log))) is None, (why, line, rows[at])
    return True


def anywhere(rng: random.Random, log: Log) -> bool:
    text = damaged_text(rng, log.text)
    parser = text_parser(log.form.format, text)
    cut = text.find(b"\n", rng.randrange(len(text) + 1)) + 1  # as it may arrive
    frames = 0
    for part in (text[:cut], text[cut:]):
        block = parser.parse(part, 0)
        check(block)
        frames += len(block)
    assert frames + parser.skipped <= parser.lines, text
    assert (parser.first_skipped is None) == (parser.skipped == 0), text
    return frames > 0
