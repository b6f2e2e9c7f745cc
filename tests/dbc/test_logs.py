"""Log readers: candump in all its shapes and against python-can, streaming, formats told apart by content."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import can
import numpy as np
import pytest

from dbc.errors import LogFormatError
from dbc.frames import EFF_FLAG, ERR_FLAG, RTR_FLAG, FrameBlock
from dbc.logs import open_log, write_candump
from dbc.logs.candump import CandumpParser, _Lines
from dbc.logs.writers import open_log_writer

LINES = (
    b"(1700000820.298000) can0 085#7C33800047E07C7F\n"
    b"(1700000820.298001) can1 12345678#\n"
    b"(1700000820.300000) vcan10 7ff#0a\n"
    b"(1700000821.000000) can0 085##31122334455667788AABBCCDD\n"
    b"(1700000821.000001) can0 085#R4\n"
    b"(1700000821.000002) can0 20000088#0000000000000000 R\n"
    b"(1700000821.000003) can0 001#11.22.33\n"
    b"(-2.500000) can0 002#01 T\r\n"
    b"(3.25) can0 003#01\n"
)


def rows(block: FrameBlock) -> list[tuple[int, str, int, bytes]]:
    return [
        (int(stamp), block.channels[channel], int(frame_id), data[:length].tobytes())
        for stamp, channel, frame_id, length, data in zip(
            block.timestamp_ns, block.channel, block.frame_id, block.length, block.data, strict=True
        )
    ]


def all_rows(path: Path | str, **options: Any) -> list[tuple[int, str, int, bytes]]:
    return [row for block in open_log(path, **options) for row in rows(block)]


def test_every_shape_of_a_candump_line() -> None:
    block = CandumpParser().parse(LINES, 7)
    assert block.entered_ns == 7
    assert rows(block) == [
        (1700000820298000000, "can0", 0x085, bytes.fromhex("7C33800047E07C7F")),
        (1700000820298001000, "can1", 0x12345678 | EFF_FLAG, b""),
        (1700000820300000000, "vcan10", 0x7FF, b"\x0a"),
        (1700000821000000000, "can0", 0x085, bytes.fromhex("1122334455667788AABBCCDD")),
        (1700000821000001000, "can0", 0x085 | RTR_FLAG, bytes(4)),
        (1700000821000002000, "can0", ERR_FLAG | 0x88, bytes(8)),
        (1700000821000003000, "can0", 0x001, b"\x11\x22\x33"),
        (-2500000000, "can0", 0x002, b"\x01"),
        (3250000000, "can0", 0x003, b"\x01"),
    ]
    assert block.data.shape == (9, 64)


def test_parsing_together_equals_parsing_line_by_line(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
    random = np.random.default_rng(4)
    real = (data_dir / "logs" / "mustang_s550" / "mustang_s550.log").read_bytes().splitlines(keepends=True)[:300]
    alphabet = np.frombuffer(b"0189afAFgR#. ()-_T\r\n\t\0\xff", np.uint8)
    texts = []
    for _ in range(60):
        lines = [(LINES.splitlines(keepends=True) + real)[number] for number in random.integers(0, 309, 60)]
        text = np.frombuffer(b"".join(lines), np.uint8).copy()
        places = random.integers(0, len(text), 40)
        text[places] = random.choice(alphabet, 40)
        texts.append(text.tobytes())

    def parse_all() -> list[Any]:
        results = []
        for text in texts:
            parser = CandumpParser()
            block = parser.parse(text, 0)
            # A channel's number is that of its first appearance, which differs between the two ways; its name does not.
            results.append((rows(block), parser.skipped, parser.first_skipped, parser.lines))
        return results

    together = parse_all()
    monkeypatch.setattr(_Lines, "parse_common", lambda self: None)
    assert parse_all() == together
    assert sum(len(result[0]) for result in together) > 1000
    assert sum(result[1] for result in together) > 500


def test_candump_logs_equal_python_cans_reading(data_dir: Path) -> None:
    for name in ("mustang_s550/mustang_s550.log", "kuksa/candump_Manual_SOC_DogMode_CabinTemp.log", "savvycan/candump.log"):
        path = data_dir / "logs" / name
        with can.CanutilsLogReader(str(path)) as reader:
            theirs = [
                (round(m.timestamp * 1e6) * 1000, str(m.channel), m.arbitration_id | (EFF_FLAG if m.is_extended_id else 0), bytes(m.data))
                for m in reader
            ]
        assert all_rows(path) == theirs


def test_what_is_written_is_what_was_read(data_dir: Path) -> None:
    path = data_dir / "logs" / "mustang_s550" / "mustang_s550.log"
    stream = io.BytesIO()
    for block in open_log(path):
        write_candump(stream, block)
    assert stream.getvalue() == path.read_bytes()


def test_written_frames_of_every_kind_read_back(tmp_path: Path) -> None:
    block = CandumpParser().parse(LINES, 0)
    stream = io.BytesIO()
    write_candump(stream, block)
    assert rows(CandumpParser().parse(stream.getvalue(), 0)) == rows(block)


def test_blocks_have_at_most_the_frames_asked_for(data_dir: Path) -> None:
    path = data_dir / "logs" / "savvycan" / "candump.log"
    sizes = [len(block) for block in open_log(path, block_frames=100)]
    assert max(sizes) <= 100
    assert sum(sizes) == 12974


def test_lines_that_are_no_frame_are_skipped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "terminal.log"
    path.write_bytes(b"Script started on 2024-01-01\nsh-5.1$ candump -L can0\n" + LINES + b"(1.0) can0 800#00\n(1.0) can0 1#0\n\n\n^C\n")
    reader = open_log(path)
    assert sum(len(block) for block in reader) == 9
    assert (reader.skipped, reader.first_skipped) == (5, 1)


def test_byte_order_mark_old_line_ends_padding_and_a_missing_last_line_end(tmp_path: Path) -> None:
    expected = rows(CandumpParser().parse(LINES, 0))
    path = tmp_path / "log"
    for text in (
        b"\xef\xbb\xbf" + LINES,
        LINES.replace(b"\r\n", b"\n").replace(b"\n", b"\r"),
        LINES + b"\0" * 500_000,
        LINES.rstrip(),
        gzip.compress(LINES, mtime=0),
    ):
        path.write_bytes(text)
        assert all_rows(path) == expected


def test_a_pipe_gives_what_has_arrived(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    lines = LINES.splitlines(keepends=True)
    go_on = threading.Event()

    def write() -> None:
        with fifo.open("wb", buffering=0) as stream:
            stream.write(b"".join(lines[:2]) + lines[2][:10])
            go_on.wait()
            stream.write(lines[2][10:])

    writer = threading.Thread(target=write)
    writer.start()
    reader = open_log(fifo, block_frames=4000)
    first = next(reader)
    assert len(first) == 2  # the half line waits, the block does not
    go_on.set()
    assert [len(block) for block in reader] == [1]
    writer.join()


def test_standard_input(tmp_path: Path) -> None:
    code = "from dbc.logs import open_log; print(sum(len(b) for b in open_log('-')))"
    done = subprocess.run([sys.executable, "-c", code], input=LINES, capture_output=True, check=True)
    assert done.stdout == b"9\n"


def test_following_a_file_that_grows(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(LINES)
    reader = open_log(path, follow=True)
    assert len(next(reader)) == 9
    with path.open("ab") as stream:
        stream.write(LINES)
    assert len(next(reader)) == 9
    reader.close()


def test_formats_are_told_apart_by_content(data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "logs" / "python_can"
    for number, path in enumerate(sorted(folder.iterdir())):
        if path.suffix not in {".asc", ".blf", ".trc", ".gz"}:
            continue
        form = path.name.split(".")[1]
        copy = tmp_path / str(number)  # a name that says nothing
        copy.write_bytes(path.read_bytes())
        reader = open_log(copy)
        assert sum(len(block) for block in reader) > 0
        assert reader.format == form


def test_python_cans_frames_keep_their_kind_and_payload(data_dir: Path) -> None:
    folder = data_dir / "logs" / "python_can"
    remote = all_rows(folder / "test_CanRemoteMessage.asc")
    assert all(row[2] & RTR_FLAG for row in remote)
    assert any(row[2] & ERR_FLAG for row in all_rows(folder / "test_CanErrorFrames.asc"))
    assert max(len(row[3]) for row in all_rows(folder / "test_CanFdMessage64.asc")) == 64


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"hello\nworld\n", "it begins with 'hello'"),
        (bytes(range(256)), "is not a log"),
        (b"MDF     4.10", "damaged MF4 log"),
        (b"LOGG" + bytes(200), "damaged: no object at byte 56; nothing could be read"),
        (b"\x1f\x8b" + bytes(50), "gzip|cannot be read"),
        (gzip.compress(LINES * 100, mtime=0)[:12], "damaged: the gzip file is cut off at byte 12; nothing could be read"),
        (LINES + b"x" * 200_000, "longer than"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    with pytest.raises(LogFormatError, match=says) as raised:
        all_rows(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 2


def test_missing_files_and_folders_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(LogFormatError, match="No such file"):
        all_rows(tmp_path / "none")
    with pytest.raises(LogFormatError, match="directory"):
        all_rows(tmp_path)


def test_what_is_before_the_damage_is_read_and_the_damage_told(tmp_path: Path) -> None:
    """A gzip file and a BLF that were cut off; a strict reader stops."""
    text = b"".join(b"(1700000%03d.298000) can0 085#%016X\n" % (number // 100, number * 7919**4 % 2**64) for number in range(20_000))
    packed, blf = tmp_path / "a.gz", tmp_path / "b.blf"
    packed.write_bytes(gzip.compress(text, mtime=0)[:-5000])
    with open_log_writer(blf) as writer:
        writer.write(CandumpParser().parse(text, 0))
    blf.write_bytes(blf.read_bytes()[:-5000])
    for path, says in ((packed, "the gzip file is cut off at byte "), (blf, "cut off at byte ")):
        reader = open_log(path)
        frames = [int(identifier) for block in reader for identifier in block.frame_id]
        assert 10_000 < len(frames) < 20_000
        assert set(frames) == {0x85}
        assert says in str(reader.damage)
        with pytest.raises(LogFormatError, match=f"damaged: {says}"):
            list(open_log(path, strict=True))
