"""Snapshots: what a tick covers, what is held, what is stale, and what happens when the bus falls silent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dbc.compiler import CompiledDbc, compile_dbc
from dbc.decoder import Decoder
from dbc.frames import FrameBlock, slice_frames
from dbc.sampler import Sampler, Snapshot
from dbc.validity import Flag, Reason

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


def same_value(*times: float, value: int = 1) -> list[tuple[float, int, bytes]]:
    return [(at, 257, bytes([value])) for at in times]


def test_a_tick_tells_minimum_maximum_mean_count_and_age(compiled: CompiledDbc) -> None:
    rows = [(0.1, 256, b"\x02\x09"), (0.2, 256, b"\x08\x09"), (0.75, 256, b"\x05\x09"), (1.5, 257, b"\x01")]
    first, second = sample(compiled, frames(*rows))
    assert (first.minimum[0], first.maximum[0], first.mean[0], first.count[0]) == (1.0, 4.0, 2.5, 3)
    assert first.age_ms[0] == 250.0
    assert first.count.dtype == np.int32
    assert first.count[2] == 0
    assert np.isnan([first.minimum[2], first.maximum[2], first.mean[2], first.age_ms[2]]).all()
    assert second.value[0] == 2.5  # held
    assert second.count[0] == 0
    assert np.isnan([second.minimum[0], second.maximum[0], second.mean[0]]).all()
    assert second.age_ms[0] == 1250.0


def test_statistics_leave_out_what_is_not_valid(compiled: CompiledDbc) -> None:
    (snapshot,) = sample(compiled, frames((0.1, 256, b"\x02\x01"), (0.2, 256, b"\x04"), (0.3, 256, b"\x06\x07")))
    assert (snapshot.count[0], snapshot.count[1]) == (3, 2)
    assert (snapshot.minimum[1], snapshot.mean[1], snapshot.maximum[1]) == (1.0, 4.0, 7.0)


def test_statistics_of_any_kind_are_those_of_the_values(tmp_path: Path) -> None:
    file = tmp_path / "kinds.dbc"
    signals = [
        "0|8@1- (-0.5,3)",
        "8|16@1- (1,0)",
        "24|32@1- (2,1)",
        "64|64@1- (1,0)",
        "128|64@1+ (1,0)",
        "192|64@1+ (0.25,-1)",
        "256|12@0+ (3,0)",
    ]
    lines = "\n".join(f' SG_ S{number} : {text} [0|0] "" ECU' for number, text in enumerate(signals))
    file.write_text(f'VERSION ""\n\nBU_: ECU\n\nBO_ 256 M: 64 ECU\n{lines}\n\nSIG_VALTYPE_ 256 S2 : 1;\nSIG_VALTYPE_ 256 S3 : 2;\n')
    compiled = compile_dbc([str(file)])
    random = np.random.default_rng(6)
    n = 4000
    data = random.integers(0, 256, (n, 64), dtype=np.uint8)
    data[:, 6] = 0x41  # the single floats are of one size
    data[:, 15] = 0x40
    stamps = START * S + np.arange(n, dtype=np.int64) * 1_000_000
    block = FrameBlock(("can0",), stamps, np.full(n, 256, np.uint32), np.zeros(n, np.uint8), np.full(n, 64, np.uint8), data, 0)
    decoded = Decoder(compiled, ("can0",)).decode(block)
    snapshots = sample(compiled, block)
    assert len(snapshots) == 4
    for tick, snapshot in enumerate(snapshots):
        for signal in range(len(signals)):
            values = decoded.value[(decoded.signal == signal) & (decoded.frame // 1000 == tick)]
            if tick == 0 and signal in (4, 5):  # unsigned from 2**63 on: told from the next tick on
                assert np.isnan(snapshot.minimum[signal])
                continue
            assert snapshot.count[signal] == 1000
            assert snapshot.minimum[signal] == values.min()
            assert snapshot.maximum[signal] == values.max()
            assert snapshot.mean[signal] == pytest.approx(values.mean(), rel=1e-9)


def test_one_stamp_far_in_the_future_is_a_value_of_the_open_tick(compiled: CompiledDbc) -> None:
    far = 400_000_000.0
    rows = [*same_value(0.1, 0.5), *same_value(far, value=7), *same_value(1.1, 2.1, value=2)]
    whole = sample(compiled, frames(*rows))
    assert ticks(whole) == [1, 2, 3]
    assert [snapshot.raw[2] for snapshot in whole] == [7, 2, 2]
    assert whole[0].age_ms[2] == 1000.0  # it is as old as the tick, at most
    cut = sample(compiled, *[frames(row) for row in rows])
    assert ticks(cut) == [1, 2, 3]
    assert [snapshot.raw[2] for snapshot in cut] == [7, 2, 2]


def test_a_clock_that_is_set_back_does_not_stop_the_snapshots(compiled: CompiledDbc) -> None:
    before = same_value(*np.arange(1000.05, 1003, 0.1))
    after = same_value(*np.arange(20.05, 23, 0.1), value=2)
    for size in (1, 4, 100):
        rows = [*before, *after]
        snapshots = sample(compiled, *[frames(*rows[start : start + size]) for start in range(0, len(rows), size)])
        assert ticks(snapshots) == [1001, 1002, 1003, 21, 22, 23]
        assert [snapshot.raw[2] for snapshot in snapshots] == [1, 1, 1, 2, 2, 2]
        assert all(0 <= snapshot.age_ms[2] <= 100 for snapshot in snapshots)


def test_ages_go_on_when_the_clock_is_set_back(compiled: CompiledDbc) -> None:
    rows = [(1000.0, 256, b"\x01\x01"), *same_value(*np.arange(1000.1, 1003, 0.1)), *same_value(*np.arange(20.0, 34, 0.1))]
    snapshots = sample(compiled, frames(*rows))
    at = dict(zip(ticks(snapshots), snapshots, strict=True))
    assert at[1003].age_ms[0] == 3000.0
    assert at[21].age_ms[0] == pytest.approx(3000 + 900, abs=1)
    assert at[26].reason[0] == Reason.VALID
    assert at[29].reason[0] == Reason.STALE


def test_a_gap_is_believed_when_frames_agree_and_at_the_end(compiled: CompiledDbc) -> None:
    gap = [*same_value(0.1), *same_value(*(100 + np.arange(10) / 1000), value=2)]
    snapshots = sample(compiled, *[frames(row) for row in gap])
    assert ticks(snapshots) == [1, 2, 3, 4, 5, 6, 101]
    alone = sample(compiled, frames(*same_value(0.1)), frames(*same_value(100.5, value=2)))
    assert ticks(alone) == [1, 2, 3, 4, 5, 6, 101]
    assert alone[-1].raw[2] == 2


def test_hostile_stamps_neither_crash_nor_stop_the_snapshots(compiled: CompiledDbc) -> None:
    random = np.random.default_rng(8)
    decoder, sampler = Decoder(compiled, ("can0",)), Sampler(compiled.schema)
    given = 0
    for _ in range(300):
        block = frames(*same_value(*[0.0] * int(random.integers(1, 30))))
        block.timestamp_ns[:] = random.choice([0, -(2**63), 2**63 - 10**10, START * S, START * S + 10**12], len(block)) + random.integers(
            0, 10**10
        )
        given += len(sampler.feed(block, decoder.decode(block)))
    for second in range(20):
        block = frames(*same_value(*(second + np.arange(10) / 10)))
        given = len(sampler.feed(block, decoder.decode(block)))
    assert given == 1


def test_a_period_is_learned_where_none_is_declared_and_the_message_is_steady(compiled: CompiledDbc) -> None:
    decoder, sampler = Decoder(compiled, ("can0",)), Sampler(compiled.schema)
    steady = frames(*same_value(*np.arange(0, 20, 0.05)))
    sampler.feed(steady, decoder.decode(steady))
    assert sampler.period_ms[2] == pytest.approx(50, abs=1)
    assert sampler.period_ms[0] == 400.0  # declared
    silent = frames(*[(float(at), 256, b"\x01\x01") for at in np.arange(20, 40, 0.5)])
    snapshots = sampler.feed(silent, decoder.decode(silent))
    assert [snapshot.reason[2] == Reason.STALE for snapshot in snapshots] == [tick > 29 for tick in ticks(snapshots)]
    events = Sampler(compiled.schema)
    random = np.random.default_rng(1)
    odd = frames(*same_value(*np.cumsum(random.choice([0.3, 0.5, 9.0], 60))))
    events.feed(odd, decoder.decode(odd))
    assert np.isnan(events.period_ms[2])


def test_what_is_out_of_range_is_valid_and_flagged(tmp_path: Path) -> None:
    file = tmp_path / "range.dbc"
    file.write_text('VERSION ""\n\nBU_: ECU\n\nBO_ 257 M: 1 ECU\n SG_ One : 0|8@1+ (1,0) [10|100] "" ECU\n')
    compiled = compile_dbc([str(file)])
    snapshots = sample(
        compiled, frames(*same_value(0.1, value=50), *same_value(1.1, value=101), *same_value(2.1, value=9), *same_value(3.1, value=10))
    )
    assert [snapshot.flags[0] for snapshot in snapshots] == [0, Flag.OUT_OF_RANGE, Flag.OUT_OF_RANGE, 0]
    assert [snapshot.value[0] for snapshot in snapshots] == [50.0, 101.0, 9.0, 10.0]


def test_a_signal_that_changed_often_and_then_stands_still_is_flagged(compiled: CompiledDbc) -> None:
    moving = [(float(at), 257, bytes([int(at) % 7])) for at in range(30)]
    still = [(float(at), 257, b"\x05") for at in range(30, 120)]
    snapshots = sample(compiled, frames(*moving, *still))
    flagged = [tick for tick, snapshot in zip(ticks(snapshots), snapshots, strict=True) if snapshot.flags[2] & Flag.CONSTANT]
    assert flagged[0] == 92
    assert flagged == list(range(92, 121))
    assert all(snapshot.reason[2] == Reason.VALID for snapshot in snapshots)
    always = sample(compiled, frames(*same_value(*range(200))))
    assert not any(snapshot.flags[2] for snapshot in always)
