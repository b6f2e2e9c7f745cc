"""Many vehicles at once, stretch by stretch, is what a whole recording is; and stretches are stitched to one life."""

from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from test_models_baseline import NAMES, OPTIONS, TICKS, UNITS, columns, detector, vehicle

from models.evaluation.months import Follow, judge, learn, stitch
from models.evaluation.stitched import findings
from models.evaluation.stream import CLEARED, EVIDENCE, RAISED, Event, StreamJudge
from models.pack import Pack
from models.tables import Drive, Table
from models.train import train_pca
from models.vehicle import judge_vehicle


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    table = Table(NAMES, UNITS, tuple(vehicle(seed, 7) for seed in range(60)))
    return train_pca(table, OPTIONS, tmp_path_factory.mktemp("packs") / "loop")


def rows(drives: list[Drive], first: int, count: int) -> Any:
    """These rows of each recording, one lane a recording; those that are over have no ticks."""
    n = len(drives)
    found = SimpleNamespace(
        lane=np.arange(n),
        time_s=np.zeros((count, n)),
        tick=np.zeros((count, n), np.bool_),
        follows=np.zeros((count, n), np.bool_),
        values=np.zeros((count, drives[0].values.shape[1], n), np.float32),
    )
    for lane, drive in enumerate(drives):
        part = slice(first, first + count)
        size = len(drive.tick_ms[part])
        found.time_s[:size, lane] = drive.tick_ms[part] / 1000
        found.tick[:size, lane] = np.isfinite(drive.values[part]).all(axis=1)
        found.follows[:size, lane] = (np.diff(drive.tick_ms, prepend=-(10**9)) == 1000)[part]
        found.values[:size, :, lane] = np.nan_to_num(drive.values[part])
    return found


def stretches(drives: list[Drive], count: int = 150) -> Any:
    return (rows(drives, first, count) for first in range(0, max(len(drive.tick_ms) for drive in drives), count))


def single(drive: Drive) -> Drive:
    """In the precision that simulated ticks have."""
    return Drive(drive.source, drive.tick_ms, drive.values.astype(np.float32).astype(np.float64))


def test_a_stretch_at_a_time_is_the_whole_recording_at_once(own: Pack) -> None:
    manifest = msgspec.structs.replace(
        own.manifest, threshold=msgspec.structs.replace(own.manifest.threshold, raise_at=2.5, clear_below=1.5)
    )
    pack = Pack(**{name: getattr(own, name) for name in own.__dataclass_fields__} | {"manifest": manifest})
    drives = [single(columns(own, vehicle(600 + at, 12, leak=leak, leak_from=begin))) for at, (leak, begin) in enumerate(
        [(0.0, 0), (0.009, 9), (0.02, 4), (0.4, 7), (0.4, 0), (0.0, 0)]
    )]  # fmt: skip
    drives[5].values[::41] = np.nan
    drives[5].values[700:720, 0] = 9999.0
    judge_all = StreamJudge(pack, own.manifest.names, len(drives), learning=True)

    follow = Follow(len(drives), judge_all.detector.window + 3)
    for some in stretches(drives):
        judge_all.feed(follow(some))
    found = stitch(judge_all, range(len(drives)))
    total = 0
    for lane, drive in enumerate(drives):
        expected = judge_vehicle(manifest, detector(own), drive)
        assert int(judge_all.state.judged[lane]) == int(np.isfinite(expected.score).sum())
        assert [(one.seen_s, one.ticket_s) for one in found if one.vehicle == lane] == [
            (drive.tick_ms[one.raised] / 1000, None if one.ticket is None else drive.tick_ms[one.ticket] / 1000)
            for one in expected.findings
        ]
        total += len(expected.findings)
        if expected.baselines is not None and lane != 4:
            np.testing.assert_allclose(judge_all.baselines()[:, lane], expected.baselines[-1], rtol=1e-9, atol=1e-12)
    assert total >= 3


def test_first_drives_side_by_side_then_weeks_side_by_side(own: Pack) -> None:
    whole = [single(columns(own, vehicle(700 + at, 10, leak=leak, leak_from=8))) for at, leak in enumerate([0.0, 0.012])]
    first = [drive.rows(at * TICKS, (at + 1) * TICKS) for drive in whole for at in range(6)]
    (baseline,) = learn([own], stretches(first), [0] * 6 + [1] * 6, 2).baselines
    expected = [judge_vehicle(own.manifest, detector(own), drive) for drive in whole]
    for at, one in enumerate(expected):
        assert one.baselines is not None
        np.testing.assert_allclose(baseline[:, at], one.baselines[-1], rtol=1e-9, atol=1e-12)
    later = [drive.rows(at * TICKS, (at + 2) * TICKS) for drive in whole for at in (6, 8)]
    found = judge([own], stretches(later), [0, 0, 1, 1], [baseline])
    (leak,) = found.found
    (same,) = expected[1].findings
    assert same.ticket is not None
    assert (leak.vehicle, leak.seen_s, leak.ticket_s) == (1, whole[1].tick_ms[same.raised] / 1000, whole[1].tick_ms[same.ticket] / 1000)
    floors = judge([own], stretches(later), [0, 0, 1, 1], [baseline], [1.0]).peaks[0]
    assert {2, 3} <= set(floors.drive[floors.vehicle == 1].tolist())
    assert floors.drives == {0: 4, 1: 4}


def test_drives_of_an_earlier_stretch_confirm_and_a_finding_is_not_counted_twice() -> None:
    def of(events: dict[int, list[Event]]) -> list[tuple[float, float | None]]:
        return [(one.seen_s, one.ticket_s) for one in findings(0, "x", 2, 3, [0, 1], {0: 4, 1: 4}, events)]

    first = [Event(RAISED, 0, 10.0, 3), Event(EVIDENCE, 0, 10.0, 3)]
    again = [Event(RAISED, 1, 90.0, 0), Event(EVIDENCE, 1, 90.0, 0)]
    late = [Event(RAISED, 1, 99.0, 3), Event(EVIDENCE, 1, 99.0, 3)]
    assert of({0: first}) == [(10.0, None)]
    assert of({0: first, 1: again}) == [(10.0, 90.0)]
    assert of({0: first, 1: late}) == [(10.0, None), (99.0, None)]
    assert of({0: [*first, Event(CLEARED, 0, 20.0, 3)], 1: again}) == [(10.0, None), (90.0, 90.0)]
