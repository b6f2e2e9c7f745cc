"""MF4 logs as a source: the same blocks as in one process, without asammdf in this one."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from edge_helpers import write_log

from dbc.errors import LogFormatError
from dbc.logs import open_log
from dbc.logs.writers import open_log_writer
from edge.config import SourceConfig
from edge.sources.log import log_frames
from edge.sources.mf4_log import Mf4Log, is_mf4


@pytest.fixture
def mf4(tmp_path: Path) -> Path:
    path = tmp_path / "drive.mf4"
    with open_log_writer(path) as writer:
        for block in open_log(write_log(tmp_path / "drive.log", 400)):
            writer.write(block)
    return path


def test_blocks_are_those_of_the_log_and_an_early_end_ends_the_process(mf4: Path) -> None:
    with open_log(mf4) as there:
        expected = list(there)
    with Mf4Log(str(mf4)) as log:
        got = list(log)
    assert sum(map(len, got)) == 400 * 22
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.channels == theirs.channels
        for column in ("timestamp_ns", "frame_id", "channel", "length", "data"):
            np.testing.assert_array_equal(getattr(ours, column), getattr(theirs, column), err_msg=column)
            assert getattr(ours, column).flags.writeable
    stop = threading.Event()
    frames = log_frames(SourceConfig(str(mf4)), stop)
    assert len(next(frames)) == len(expected[0])
    stop.set()
    assert list(frames) == []


def test_a_file_is_known_by_its_content_and_what_is_wrong_with_it_is_said(mf4: Path, tmp_path: Path) -> None:
    assert is_mf4(str(mf4))
    assert not is_mf4(str(tmp_path / "drive.log"))
    assert not is_mf4(str(tmp_path / "nowhere.mf4"))
    broken = tmp_path / "broken.log"
    broken.write_bytes(mf4.read_bytes()[:100])
    with pytest.raises(LogFormatError, match=rf"^{broken}: damaged MF4 log: "):
        next(log_frames(SourceConfig(str(broken)), threading.Event()))


def test_asammdf_and_pandas_stay_in_the_process_that_reads(mf4: Path) -> None:
    program = (
        "import sys, threading; from edge.config import SourceConfig; from edge.sources.log import log_frames\n"
        f"print(sum(map(len, log_frames(SourceConfig({str(mf4)!r}), threading.Event()))))\n"
        "print(*{'asammdf', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == [str(400 * 22)]
