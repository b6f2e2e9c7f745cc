"""CAN FD frames of 8 bytes or fewer, and the bit rate and error state of all of them: read, written, and nothing of it on a classic bus."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import can.io
import numpy as np
import pytest

from cansight.main import main
from dbc.frames import (
    CANFD_BRS,
    CANFD_ESI,
    CANFD_FDF,
    EFF_FLAG,
    ERR_FLAG,
    RTR_FLAG,
    FrameBlock,
    filled_flags,
    joined_flags,
    slice_frames,
    stated_flags,
)
from dbc.logs import open_log
from dbc.logs.writers import open_log_writer

FD = CANFD_FDF
SWITCHED, PASSIVE, BOTH = FD | CANFD_BRS, FD | CANFD_ESI, FD | CANFD_BRS | CANFD_ESI
FRAMES = [  # identifier with flags, length, flags of CAN FD
    (0x100, 8, 0),
    (0x100, 8, FD),
    (0x101, 8, SWITCHED),
    (0x102, 3, PASSIVE),
    (0x103, 0, BOTH),
    (RTR_FLAG | 0x104, 4, 0),
    (EFF_FLAG | 0x12345678, 5, SWITCHED),
    (0x105, 64, SWITCHED),
    (0x105, 64, FD),
    (EFF_FLAG | 0x106, 12, BOTH),
    (ERR_FLAG, 0, 0),
    (0x107, 1, 0),
]


def made(frames: list[tuple[int, int, int]], flags: bool = True) -> FrameBlock:
    n = len(frames)
    length = np.array([size for _, size, _ in frames], np.uint8)
    data = np.tile(np.arange(1, 65, dtype=np.uint8), (n, 1))
    data[np.arange(64) >= length[:, None]] = 0
    data[[bool(identifier & RTR_FLAG) for identifier, _, _ in frames]] = 0
    width = 64 if int(length.max()) > 8 else 8
    return FrameBlock(
        ("can0", "can1"),
        1_700_000_000_000_000_000 + 1_000_000 * np.arange(n),
        np.array([identifier for identifier, _, _ in frames], np.uint32),
        (np.arange(n) % 2).astype(np.uint8),
        length,
        np.ascontiguousarray(data[:, :width]),
        0,
        np.array([said for _, _, said in frames], np.uint8) if flags else None,
    )


def read(path: Path, **options: Any) -> list[tuple[int, int, int]]:
    return [
        row
        for block in open_log(path, **options)
        for row in zip(block.frame_id.tolist(), block.length.tolist(), filled_flags(block.flags, block.length).tolist(), strict=True)
    ]


@pytest.mark.parametrize("suffix", [".log", ".asc", ".blf", ".mf4"])
def test_what_is_written_reads_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"fd{suffix}"
    block = made(FRAMES)
    with open_log_writer(path) as writer:
        for start in range(0, len(block), 5):
            writer.write(slice_frames(block, start, start + 5))
    assert read(path) == FRAMES
    assert read(path, block_frames=2) == FRAMES
    (whole,) = open_log(path)
    np.testing.assert_array_equal(whole.data, block.data)


@pytest.mark.parametrize("suffix", [".log", ".asc", ".blf", ".mf4"])
def test_what_the_lengths_say_is_not_said_again(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"usual{suffix}"
    frames = [(0x100, 8, 0), (0x101, 64, SWITCHED), (0x102, 2, 0)]
    with open_log_writer(path) as writer:
        writer.write(made(frames, flags=False))
    (block,) = open_log(path)
    assert block.flags is None
    assert read(path) == frames


@pytest.mark.parametrize("suffix", [".asc", ".blf", ".mf4", ".log"])
def test_python_can_reads_what_is_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"fd{suffix}"
    # To python-can an FD frame without payload in an ASC file is a remote frame.
    expected = [frame for frame in FRAMES if not frame[0] & (ERR_FLAG | RTR_FLAG) and frame[1]]
    with open_log_writer(path) as writer:
        writer.write(made(expected))
    found = [
        (
            m.arbitration_id | EFF_FLAG * m.is_extended_id,
            len(m.data),
            CANFD_FDF * m.is_fd | CANFD_BRS * m.bitrate_switch | CANFD_ESI * m.error_state_indicator,
        )
        for m in can.LogReader(path)
    ]
    assert sorted(found) == sorted(expected)  # python-can gives an MF4's groups one after the other


@pytest.mark.parametrize(
    "name",
    ["test_CanFdMessage.asc", "test_CanFdMessage64.asc", "test_CanFdRemoteMessage.asc", "test_CanFdMessage.blf", "test_CanFdMessage64.blf"],
)
def test_recorded_files_say_what_python_can_finds_in_them(data_dir: Path, name: str) -> None:
    path = data_dir / "logs" / "python_can" / name
    reader: Any = can.io.ASCReader(io.StringIO(path.read_text())) if path.suffix == ".asc" else can.io.BLFReader(path)
    expected = [
        CANFD_FDF * m.is_fd | CANFD_BRS * m.bitrate_switch | CANFD_ESI * m.error_state_indicator if not m.is_remote_frame else 0
        for m in reader
    ]
    assert [flags for _, _, flags in read(path)] == expected
    assert expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (  # whole arrays; the digit of kernels that say FDF in it, too
            "(1700000820.298000) can0 085##0\n(1700000820.298001) can0 085##51122\n(1700000820.298002) can0 085#1122\n",
            [(0x85, 0, FD), (0x85, 2, SWITCHED), (0x85, 2, 0)],
        ),
        ("(1.5) can0 085##311.22\n(1.5) can0 085#11\n", [(0x85, 2, BOTH), (0x85, 1, 0)]),  # line by line
        ("(1700000820.298000) can0 085#11\n(1.5) can0 085##211\n", [(0x85, 1, 0), (0x85, 1, PASSIVE)]),
        (  # on a screen: two digits of a length
            " (1700000820.298000)  can0  RX B -  123   [02]  11 22\n (1700000820.298000)  can0  TX - E  123   [02]  11 22\n"
            " (1700000820.298000)  can0  RX - -  123   [2]  11 22\n (1700000820.298000)  can0  123   [08]  11 22 33 44 55 66 77 88\n",
            [(0x123, 2, SWITCHED), (0x123, 2, PASSIVE), (0x123, 2, 0), (0x123, 8, SWITCHED)],
        ),
        (
            "date Sat Sep 30 15:06:13.191 2017\nbase hex  timestamps absolute\n"
            "  30.005021 CANFD   1 Rx        300  Generic_Name  1 0 2  2 11 c2  102203  133\n"
            "  30.005022 CANFD   1 Rx        301  0 1 1  1 11\n  30.005023 1  302 Rx d 1 11\n",
            [(0x300, 2, SWITCHED), (0x301, 1, PASSIVE), (0x302, 1, 0)],
        ),
        (
            ";$FILEVERSION=2.1\n;$STARTTIME=43008.920986006946\n;$COLUMNS=N,O,T,B,I,d,R,L,D\n"
            + "".join(f"  {n}  {n}.000 {kind} 2 00C8 Rx - 2 11 22\n" for n, kind in enumerate(("DT", "FD", "FB", "FE", "BI"), 1)),
            [(0xC8, 2, flags) for flags in (0, FD, SWITCHED, PASSIVE, BOTH)],
        ),
    ],
)
def test_texts_that_say_it(tmp_path: Path, text: str, expected: list[tuple[int, int, int]]) -> None:
    path = tmp_path / "log"
    path.write_text(text)
    assert read(path, strict=True) == expected


def test_log_info_counts_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fd.log"
    with open_log_writer(path) as writer:
        writer.write(made(FRAMES))
    said = []
    for options in (["--json"], []):
        with pytest.raises(SystemExit) as ended:
            main(["log", "info", str(path), *options])
        assert not ended.value.code
        said.append(capsys.readouterr().out)
    assert json.loads(said[0])[0]["fd"] == 8
    assert "frames        12 (2 extended, 1 remote, 1 error, 8 FD), longest 64 bytes" in said[1]


def test_parts_and_joins() -> None:
    block = made(FRAMES)
    part = slice_frames(block, 1, 4)
    assert part.flags is not None
    assert part.flags.tolist() == [FD, SWITCHED, PASSIVE]
    assert slice_frames(made(FRAMES, flags=False), 1, 4).flags is None
    classic = np.array([8, 64], np.uint8)
    assert joined_flags([(None, classic), (None, classic)]) is None
    joined = joined_flags([(None, classic), (part.flags, part.length)])
    assert joined is not None
    assert joined.tolist() == [0, SWITCHED, FD, SWITCHED, PASSIVE]
    assert filled_flags(np.zeros(2, np.uint8), classic).tolist() == [0, FD]  # there is no classic frame of 64 bytes
    assert stated_flags(np.array([0, SWITCHED], np.uint8), classic) is None
