"""Logs become blocks of frames with a bus and a time, in order."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dbc.errors import LogFormatError
from dbc.logs import open_log
from simulator.errors import ReplayError
from simulator.replay_routes import Routes
from simulator.replay_timetable import NO_BUS, Instant, Timed, Timetable, channels_of

S = 1_000_000_000


def log(path: Path, frames: Iterable[tuple[float, str, str]]) -> str:
    """A candump log of (seconds, channel, frame)."""
    path.write_text("".join(f"({second:017.6f}) {channel} {frame}\n" for second, channel, frame in frames))
    return str(path)


def flat(blocks: Iterable[Timed], limit: int | None = None) -> list[tuple[float, int, int]]:
    """(seconds, bus, identifier) of every frame, or of the first."""
    found: list[tuple[float, int, int]] = []
    for block in blocks:
        found += zip((block.due_ns / S).tolist(), block.bus.tolist(), block.frame_id.tolist(), strict=True)
        if limit is not None and len(found) >= limit:
            return found[:limit]
    return found


def timetable(logs: list[str], *to: str, **options: Any) -> Timetable:
    return Timetable(logs, Routes(to or ("virtual:x",), len(logs)).route, **options)


def test_every_frame_of_a_log_in_its_order(data_dir: Path) -> None:
    path = data_dir / "logs" / "savvycan" / "candump.log"
    found = list(timetable([str(path)]))
    blocks = list(open_log(path))
    for column in ("frame_id", "length", "data"):
        ours, theirs = (np.concatenate([getattr(block, column) for block in side]) for side in (found, blocks))
        assert np.array_equal(ours, theirs)
    assert found[0].due_ns[0] == 0


@pytest.mark.parametrize("name", ["GVRET_Log.csv", "CRTD_Log.txt", "BusMasterLog.log", "MicrochipLog.log", "GenericID_Log.csv"])
def test_one_capture_in_other_formats_gives_the_same_frames(data_dir: Path, name: str) -> None:
    folder = data_dir / "logs" / "savvycan"
    ours, theirs = (list(timetable([str(folder / file)])) for file in ("candump.log", name))
    for column in ("length", "data"):
        assert (np.concatenate([getattr(b, column) for b in ours]) == np.concatenate([getattr(b, column) for b in theirs])).all()


def test_several_logs_are_merged_by_time(tmp_path: Path) -> None:
    one = log(tmp_path / "one", [(100 + number / 10, "can0", f"{number:03X}#") for number in range(0, 300, 2)])
    two = log(tmp_path / "two", [(100 + number / 10, "can1", f"{number:03X}#") for number in range(1, 300, 2)])
    found = flat(timetable([one, two], "can0=virtual:x", "can1=virtual:y", block_frames=7))
    assert found == [(pytest.approx(number / 10), number % 2, number) for number in range(300)]


def test_a_sparse_log_beside_a_dense_one_and_one_that_ends_early(tmp_path: Path) -> None:
    dense = log(tmp_path / "dense", [(number / 100, "can0", f"{number % 2000:03X}#") for number in range(3000)])
    sparse = log(tmp_path / "sparse", [(number * 2.0, "can1", "7FF#") for number in range(12)])
    found = flat(timetable([dense, sparse], block_frames=64))
    assert len(found) == 3012
    assert [second for second, _, _ in found] == sorted(second for second, _, _ in found)


def test_logs_of_different_days_begin_together_if_asked(tmp_path: Path) -> None:
    one = log(tmp_path / "one", [(5.0, "can0", "001#"), (6.0, "can0", "003#")])
    two = log(tmp_path / "two", [(1_700_000_000.5, "can0", "002#"), (1_700_000_001.0, "can0", "004#")])
    assert flat(timetable([one, two], align=True)) == [(0.0, 0, 1), (0.0, 0, 2), (0.5, 0, 4), (1.0, 0, 3)]
    assert [second for second, _, _ in flat(timetable([one, two]))] == [0.0, 1.0, 1_699_999_995.5, 1_699_999_996.0]


def test_two_logs_that_call_their_bus_the_same(tmp_path: Path) -> None:
    one = log(tmp_path / "one", [(5.0, "can0", "001#")])
    two = log(tmp_path / "two", [(5.1, "can0", "002#")])
    assert [(bus, identifier) for _, bus, identifier in flat(timetable([one, two], "virtual:x", "2/can0=virtual:y"))] == [(0, 1), (1, 2)]


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (None, None, range(100)),
        (Instant(2 * S), None, range(20, 100)),
        (None, Instant(3 * S), range(30)),
        (Instant(2 * S), Instant(3 * S), range(20, 30)),
        (Instant(1002 * S, is_utc=True), Instant(3 * S), range(20, 30)),
        (Instant(0), Instant(1001 * S, is_utc=True), range(10)),
    ],
)
def test_a_window_of_the_log(tmp_path: Path, since: Instant | None, until: Instant | None, expected: range) -> None:
    path = log(tmp_path / "log", [(1000 + number / 10, "can0", f"{number:03X}#") for number in range(100)])
    found = flat(timetable([path], since=since, until=until, block_frames=7))
    assert [identifier for _, _, identifier in found] == list(expected)
    assert found[0][0] == 0.0


def test_over_and_over_the_frames_keep_their_spacing(tmp_path: Path) -> None:
    path = log(tmp_path / "log", [(1000 + number / 10, "can0", f"{number:03X}#") for number in range(10)])
    found = flat(timetable([path], loop=True, block_frames=3), 35)
    assert found == [(pytest.approx(number / 10), 0, number % 10) for number in range(35)]


def test_a_window_over_and_over(tmp_path: Path) -> None:
    path = log(tmp_path / "log", [(1000 + number / 10, "can0", f"{number:03X}#") for number in range(100)])
    found = flat(timetable([path], loop=True, since=Instant(2 * S), until=Instant(3 * S)), 25)
    assert found == [(pytest.approx(number / 10), 0, 20 + number % 10) for number in range(25)]


def test_frames_of_other_channels_and_error_frames_are_left_out_and_counted(tmp_path: Path) -> None:
    frames = [(0.0, "can0", "001#11"), (0.1, "can1", "002#"), (0.2, "can0", "20000080#0000000000000000"), (0.3, "can0", "003#R4")]
    path = log(tmp_path / "log", [*frames, (0.4, "can1", "002#")])
    blocks = list(timetable([path], "can0=virtual:x"))
    assert [identifier for _, _, identifier in flat(blocks)] == [1, 0x40000003]
    assert sum(block.left_out.get("channel", 0) for block in blocks) == 2
    assert sum(block.left_out.get("error", 0) for block in blocks) == 1
    assert len(flat(timetable([path], "can0=virtual:x", error_frames=True))) == 3


def test_fd_frames_beside_classic_ones(data_dir: Path) -> None:
    folder = data_dir / "logs" / "python_can"
    blocks = list(timetable([str(folder / "test_CanFdMessage64.asc"), str(folder / "test_CanMessage.asc")], align=True))
    assert sorted(set(np.concatenate([block.length for block in blocks]).tolist())) == [8, 64]


@pytest.mark.parametrize(
    ("frames", "options", "expected"),
    [
        (
            [(1.0, "can0", "001#")],
            {"since": Instant(5 * S)},
            "no frame between --from and --until; as far as it was read the log has 0.000 s",
        ),
        ([(1.0, "can1", "001#")], {}, "no --to names a channel of these 1 frames; there are can1"),
        ([(1.0, "can0", "20000080#0000000000000000")], {}, r"has error frames alone \(1\), which are left out"),
    ],
)
def test_nothing_to_play(tmp_path: Path, frames: list[tuple[float, str, str]], options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ReplayError, match=expected):
        list(timetable([log(tmp_path / "log", frames)], "can0=virtual:x", **options))


def test_a_log_whose_only_frame_is_broken_has_no_frames(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("(1.000000) can0 001#1\n")
    with pytest.raises((ReplayError, LogFormatError), match=r"log: (has no frames|is not a log)"):
        list(timetable([str(path)]))


def test_memory_holds_one_block_of_each_log(tmp_path: Path) -> None:
    path = log(tmp_path / "log", [(number / 1000, "can0", "001#1122334455667788") for number in range(20_000)])
    assert max(map(len, timetable([path], block_frames=500))) <= 500
    assert max(map(len, timetable([path, path, path], block_frames=500))) <= 1500


def test_the_channels_of_a_log(tmp_path: Path) -> None:
    short = log(tmp_path / "short", [(0.0, "can0", "001#"), (0.1, "vcan3", "002#")])
    long = log(tmp_path / "long", [(number / 1000, "can0", "001#") for number in range(101_000)])
    assert channels_of(short) == (("can0", "vcan3"), True)
    assert channels_of(long) == (("can0",), False)


def test_routes() -> None:
    routes = Routes(["can0=socketcan:vcan0", "2/can1=virtual:y", "udp_multicast:ff15::1"], 2)
    assert [target.name for target in routes.targets] == ["socketcan:vcan0", "virtual:y", "udp_multicast:ff15::1"]
    assert [routes.route(0, "can0"), routes.route(1, "can0"), routes.route(1, "can1"), routes.route(0, "can1")] == [0, 0, 1, 2]
    assert Routes(["can0=virtual:x"], 1).route(0, "can1") == NO_BUS
    assert Routes(["can0=virtual:x", "can1=virtual:x"], 1).targets == Routes(["virtual:x"], 1).targets
    assert Routes(["pcan:PCAN_USBBUS1,bitrate=500000,fd=true"], 1).targets[0].options == {"bitrate": "500000", "fd": "true"}


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        (["virtual"], "expected INTERFACE:CHANNEL"),
        ([":vcan0"], "expected INTERFACE:CHANNEL"),
        (["can0="], "expected INTERFACE:CHANNEL"),
        (["=virtual:x"], "expected INTERFACE:CHANNEL"),
        (["socketcan:"], "expected socketcan:NAME"),
        (["socketcan:vcan0,bitrate=5"], "expected socketcan:NAME"),
        (["pcan:x,bitrate"], "expected INTERFACE:CHANNEL"),
        (["3/can0=virtual:x"], "expected the number of a log, 1 to 2, found 3"),
        (["0/can0=virtual:x"], "expected the number of a log, 1 to 2, found 0"),
        (["can0=virtual:x", "can0=virtual:y"], "can0=virtual:x is for the same frames"),
    ],
)
def test_what_is_no_route(to: list[str], expected: str) -> None:
    with pytest.raises(ReplayError, match=expected):
        Routes(to, 2)
