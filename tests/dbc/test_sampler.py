"""Snapshots: what a tick covers, what is held, what is stale, and what happens when the bus falls silent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dbc.compiler import CompiledDbc, compile_dbc
from dbc.decoder import Decoder
from dbc.frames import FrameBlock, slice_frames
from dbc.sampler import Sampler, Snapshot
from dbc.validity import Reason

S = 1_000_000_000
START = 1_700_000_000

DBC = """VERSION ""

BU_: ECU

BO_ 256 Cyclic: 2 ECU
 SG_ One : 0|8@1+ (0.5,0) [0|0] "V" ECU
 SG_ Two : 8|8@1+ (1,0) [0|0] "" ECU

BO_ 257 OnEvent: 1 ECU
 SG_ Three : 0|8@1+ (1,0) [0|0] "" ECU

BA_DEF_ BO_ "GenMsgCycleTime" INT 0 100000;
BA_DEF_DEF_ "GenMsgCycleTime" 0;
BA_ "GenMsgCycleTime" BO_ 256 400;
"""


@pytest.fixture
def compiled(tmp_path: Path) -> CompiledDbc:
    file = tmp_path / "made.dbc"
    file.write_text(DBC)
    return compile_dbc([str(file)])


def frames(*rows: tuple[float, int, bytes], entered_ns: int = 0) -> FrameBlock:
    """Rows of (seconds after START, identifier, payload)."""
    data = np.zeros((len(rows), 8), np.uint8)
    for number, (_, _, payload) in enumerate(rows):
        data[number, : len(payload)] = list(payload)
    return FrameBlock(
        ("can0",),
        np.array([START * S + round(at * S) for at, _, _ in rows], np.int64),
        np.array([identifier for _, identifier, _ in rows], np.uint32),
        np.zeros(len(rows), np.uint8),
        np.array([len(payload) for _, _, payload in rows], np.uint8),
        data,
        entered_ns,
    )


def sample(compiled: CompiledDbc, *blocks: FrameBlock) -> list[Snapshot]:
    decoder, sampler = Decoder(compiled, ("can0",)), Sampler(compiled.schema)
    snapshots = [snapshot for block in blocks for snapshot in sampler.feed(block, decoder.decode(block))]
    return snapshots + sampler.finish()


def ticks(snapshots: list[Snapshot]) -> list[int]:
    return [snapshot.tick_ns // S - START for snapshot in snapshots]


def test_a_tick_covers_the_second_before_it_and_holds_the_last_value(compiled: CompiledDbc) -> None:
    snapshots = sample(compiled, frames((0.0, 256, b"\x02\x01"), (0.999, 256, b"\x04\x02"), (1.0, 256, b"\x06\x03"), (2.5, 257, b"\x09")))
    assert ticks(snapshots) == [1, 2, 3]
    assert [snapshot.value[0] for snapshot in snapshots] == [2.0, 3.0, 3.0]
    assert [snapshot.raw[1] for snapshot in snapshots] == [2, 3, 3]
    assert [snapshot.reason[2] for snapshot in snapshots] == [Reason.NOT_SEEN, Reason.NOT_SEEN, Reason.VALID]
    assert np.isnan(snapshots[0].value[2])
    assert snapshots[2].value[2] == 9.0


def test_the_snapshots_do_not_depend_on_how_the_frames_are_cut_into_blocks(compiled: CompiledDbc) -> None:
    random = np.random.default_rng(3)
    rows = [(float(at), int(random.integers(256, 258)), random.bytes(2)) for at in np.sort(random.uniform(0, 20, 300))]
    whole = frames(*rows)
    reference = sample(compiled, whole)
    for size in (1, 7, 100):
        cut = sample(compiled, *[slice_frames(whole, start, start + size) for start in range(0, len(whole), size)])
        assert ticks(cut) == ticks(reference)
        for left, right in zip(cut, reference, strict=True):
            np.testing.assert_array_equal(left.raw, right.raw)
            np.testing.assert_array_equal(left.reason, right.reason)
            np.testing.assert_array_equal(left.value, right.value)


def test_a_signal_with_a_declared_period_goes_stale_and_comes_back(compiled: CompiledDbc) -> None:
    others = [(at, 257, b"\x01") for at in np.arange(0.5, 16, 0.5)]
    rows = sorted([(0.0, 256, b"\x02\x01"), (14.2, 256, b"\x02\x01"), *others])
    snapshots = sample(compiled, frames(*rows))
    stale = [tick for tick, snapshot in zip(ticks(snapshots), snapshots, strict=True) if snapshot.reason[0] == Reason.STALE]
    assert stale == [11, 12, 13, 14]  # older than 10 s, and not before
    assert all(np.isnan(snapshot.value[0]) for snapshot in snapshots if snapshot.reason[0] == Reason.STALE)
    assert all(snapshot.reason[2] == Reason.VALID for snapshot in snapshots)  # no period declared: held


def test_a_silent_bus_gives_five_more_snapshots_and_none_until_it_wakes(compiled: CompiledDbc) -> None:
    snapshots = sample(compiled, frames((0.1, 257, b"\x01")), frames((100.1, 257, b"\x02"), (101.1, 257, b"\x03")))
    assert ticks(snapshots) == [1, 2, 3, 4, 5, 6, 101, 102]
    assert [snapshot.raw[2] for snapshot in snapshots] == [1, 1, 1, 1, 1, 1, 2, 3]


def test_late_frames_never_reopen_a_tick(compiled: CompiledDbc) -> None:
    snapshots = sample(compiled, frames((0.5, 257, b"\x01"), (1.5, 257, b"\x02"), (0.9, 257, b"\x03"), (2.5, 257, b"\x04")))
    assert ticks(snapshots) == [1, 2, 3]
    assert [snapshot.raw[2] for snapshot in snapshots] == [1, 3, 4]


def test_a_short_frame_makes_its_signals_invalid_and_keeps_the_last_value(compiled: CompiledDbc) -> None:
    snapshots = sample(compiled, frames((0.5, 256, b"\x02\x01"), (1.5, 256, b"\x04"), (2.5, 256, b"\x06\x07")))
    assert [snapshot.reason[1] for snapshot in snapshots] == [Reason.VALID, Reason.SHORT_FRAME, Reason.VALID]
    assert [snapshot.raw[1] for snapshot in snapshots] == [1, 1, 7]
    assert [snapshot.reason[0] for snapshot in snapshots] == [Reason.VALID] * 3


def test_a_snapshot_tells_when_its_first_frame_entered(compiled: CompiledDbc) -> None:
    blocks = [frames((0.1, 257, b"\x01"), entered_ns=10), frames((0.9, 257, b"\x01"), (1.1, 257, b"\x01"), entered_ns=20)]
    blocks += [frames((1.5, 257, b"\x01"), entered_ns=30), frames((2.0, 257, b"\x01"), entered_ns=40)]
    assert [snapshot.entered_ns for snapshot in sample(compiled, *blocks)] == [10, 20, 40]


def test_nothing_fed_gives_nothing(compiled: CompiledDbc) -> None:
    assert sample(compiled) == []
    assert sample(compiled, frames()) == []
