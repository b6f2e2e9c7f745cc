"""Snapshots of a live bus: time passes without frames, and what was said last is not held back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dbc.compiler import CompiledDbc, compile_dbc
from dbc.decoder import Decoder
from dbc.frames import FrameBlock
from dbc.sampler import Sampler, Snapshot

S = 1_000_000_000
START = 1_700_000_000
DBC = 'VERSION ""\n\nBU_: ECU\n\nBO_ 257 OnEvent: 1 ECU\n SG_ One : 0|8@1+ (1,0) [0|0] "" ECU\n'


@pytest.fixture
def compiled(tmp_path: Path) -> CompiledDbc:
    file = tmp_path / "made.dbc"
    file.write_text(DBC)
    return compile_dbc([str(file)])


def play(compiled: CompiledDbc, frames_s: list[float], pass_every_s: float | None) -> list[Snapshot]:
    """A frame at each of `frames_s`; time is let pass in between, if at all, in steps of `pass_every_s`."""
    decoder, sampler = Decoder(compiled, ("can0",)), Sampler(compiled.schema)
    found: list[Snapshot] = []
    now = 0.0
    for value, at in enumerate(frames_s):
        while pass_every_s is not None and now < at:
            found += sampler.pass_time(START * S + round(now * S), 7)
            now += pass_every_s
        ints = np.array([START * S + round(at * S)]), np.array([257], np.uint32), np.zeros(1, np.uint8), np.ones(1, np.uint8)
        block = FrameBlock(("can0",), *ints, np.full((1, 8), value, np.uint8), 0)
        found += sampler.feed(block, decoder.decode(block))
    return found + sampler.finish()


@pytest.mark.parametrize("frames_s", [[0.5, 1.5, 2.5, 8.2], [0.0, 3.0, 4.0, 4.5, 60.5, 61.5, 64.5, 100.0], [0.999, 7.0]])
@pytest.mark.parametrize("pass_every_s", [0.1, 1.0, 2.7])
def test_the_snapshots_are_those_that_the_next_frames_would_have_closed(
    compiled: CompiledDbc, frames_s: list[float], pass_every_s: float
) -> None:
    waited, live = play(compiled, frames_s, None), play(compiled, frames_s, pass_every_s)
    assert [snapshot.tick_ns for snapshot in live] == [snapshot.tick_ns for snapshot in waited]
    for left, right in zip(live, waited, strict=True):
        np.testing.assert_array_equal(left.raw, right.raw)
        np.testing.assert_array_equal(left.reason, right.reason)


def test_a_sleeping_bus_gives_five_silent_ticks_without_a_frame_and_then_none(compiled: CompiledDbc) -> None:
    decoder, sampler = Decoder(compiled, ("can0",)), Sampler(compiled.schema)
    assert sampler.pass_time(START * S, 0) == []
    ints = np.array([START * S]), np.array([257], np.uint32), np.zeros(1, np.uint8), np.ones(1, np.uint8)
    block = FrameBlock(("can0",), *ints, np.zeros((1, 8), np.uint8), 1)
    sampler.feed(block, decoder.decode(block))
    assert sampler.pass_time(START * S + S - 1, 2) == []
    closed = sampler.pass_time(START * S + 100 * S, 2)
    assert [snapshot.tick_ns // S - START for snapshot in closed] == [1, 2, 3, 4, 5, 6]
    assert [snapshot.entered_ns for snapshot in closed] == [1, 2, 2, 2, 2, 2]
    assert sampler.pass_time(START * S + 200 * S, 3) == []
    assert sampler.finish() == []


def test_a_frame_after_a_long_sleep_counts_once_time_has_shown_that_its_stamp_is_right(compiled: CompiledDbc) -> None:
    decoder, sampler = Decoder(compiled, ("can0",)), Sampler(compiled.schema)
    found = []
    for at in (0, 1000):
        ints = np.array([START * S + at * S]), np.array([257], np.uint32), np.zeros(1, np.uint8), np.ones(1, np.uint8)
        block = FrameBlock(("can0",), *ints, np.full((1, 8), at & 0xFF, np.uint8), at)
        found += sampler.feed(block, decoder.decode(block))
        for second in (1, 2, 3, 20):
            found += sampler.pass_time(START * S + (at + second) * S, 0)
    assert [snapshot.tick_ns // S - START for snapshot in found] == [1, 2, 3, 4, 5, 6, 1001, 1002, 1003, 1004, 1005, 1006]
    assert [int(snapshot.raw[0]) for snapshot in found] == [0] * 6 + [1000 & 0xFF] * 6
    assert [snapshot.entered_ns for snapshot in found] == [0] * 6 + [1000] + [0] * 5
