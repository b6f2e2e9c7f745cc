"""Damaged, random and hostile logs: each reader gives frames or one error line; never another exception, a hang, or an impossible frame.

Hypothesis makes 100 inputs for each reader and shrinks what fails; 20,000 with CANSIGHT_SOAK=1. The millions are in test_fuzz_readers.py
and test_fuzz_binary.py.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_log_formats import SYNTHETIC

from dbc.errors import LogFormatError
from dbc.frames import EFF_FLAG, EFF_MASK, ERR_FLAG, RTR_FLAG, SFF_MASK, FrameBlock
from dbc.logs import open_log
from dbc.logs.candump import CandumpParser, _Lines
from dbc.logs.candump_writer import write_candump
from dbc.logs.formats import TEXT_FORMATS, text_parser

SOAK = bool(os.environ.get("CANSIGHT_SOAK"))
fuzz = settings(
    max_examples=20_000 if SOAK else 100,
    deadline=None,
    database=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
)
TRC = b";$FILEVERSION=2.1\n;$STARTTIME=43008.92\n;$COLUMNS=N,O,T,B,I,d,R,L,D\n"
TRC += b"      1      2501.000 DT 2      00C8 Tx -  8    09 08 07 06 05 04 03 02\n"
SEEDS: dict[str, list[bytes]] = {"trc": [TRC, b";x\n     1)     17535  00000100  8  00 00 00 00 00 00 00 00\n"]}
for _form, _text, _ in SYNTHETIC:
    SEEDS.setdefault(_form, []).append(_text)
SEEDS["candump"].append(b"(1700000820.298000) can0 085#7C33800047E07C7F\n(1700000821.000000) can0 7FF##1A5A5A5A5A5A5A5A5A5A5A5A5\n" * 3)
SEEDS["asc"].append(
    b"base hex timestamps absolute\n  30.005021 CANFD   1 Rx        300  Name_12  1 0 8  8 11 c2 03 04 05 06 07 08   102203  133\n"
)
JOINTS = b" \t\r\n,;:.#()[]-+xX0123456789abcdefABCDEF'_/*=RTsd\x00\xff\xc3"
pieces = st.one_of(
    st.binary(max_size=12), st.lists(st.sampled_from(JOINTS), max_size=12).map(bytes), st.just(b"9" * 400), st.just(b"\xd9\xa3")
)


@st.composite
def damaged(draw: Any, form: str) -> bytes:
    """A log of the format with pieces taken out, put in, doubled."""
    text = draw(st.sampled_from(SEEDS[form])) * draw(st.integers(1, 3))
    for _ in range(draw(st.integers(0, 6))):
        at, size = draw(st.integers(0, len(text))), draw(st.integers(0, 8))
        text = text[:at] + draw(st.one_of(pieces, st.just(text[at : at + 30] * 2))) + text[at + size :]
    return text


def check(block: FrameBlock) -> None:
    """What every block keeps, whatever the log was."""
    n = len(block)
    assert block.data.shape in ((n, 8), (n, 64))
    assert {len(array) for array in (block.timestamp_ns, block.frame_id, block.channel, block.length)} == {n}
    if not n:
        return
    assert int(block.length.max()) <= block.data.shape[1]
    assert int(block.channel.max()) < len(block.channels)
    kind = block.frame_id & np.uint32(EFF_FLAG | RTR_FLAG | ERR_FLAG)
    standard = (kind & np.uint32(EFF_FLAG | ERR_FLAG)) == 0
    assert (block.frame_id[standard] & np.uint32(EFF_MASK) <= SFF_MASK).all()
    beyond = np.arange(block.data.shape[1]) >= np.where(block.frame_id & np.uint32(RTR_FLAG), 0, block.length)[:, None]
    assert not block.data[beyond].any()


@pytest.mark.parametrize("form", sorted(TEXT_FORMATS))
def test_a_damaged_text_log_gives_frames_or_counts_broken_lines(form: str) -> None:
    @fuzz
    @given(damaged(form), st.integers(1, 200))
    def run(text: bytes, cut: int) -> None:
        parser = text_parser(form, text)
        lines = text.split(b"\n")
        frames = 0
        for start in range(0, len(lines), cut):
            block = parser.parse(b"\n".join(lines[start : start + cut]) + b"\n", 0)
            check(block)
            frames += len(block)
        assert parser.lines == len(lines)
        assert frames + parser.skipped <= len(lines)
        assert (parser.first_skipped is None) == (parser.skipped == 0)

    run()


def test_candump_parsed_together_equals_parsed_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(text: bytes) -> Any:
        parser = CandumpParser()
        block = parser.parse(text, 0)
        names = [block.channels[number] for number in block.channel]
        arrays = (block.timestamp_ns, block.frame_id, block.length)
        return (
            [array.tolist() for array in arrays],
            names,
            [d[:n].tolist() for d, n in zip(block.data, block.length, strict=True)],
            parser.skipped,
        )

    one_by_one = _Lines.parse_common

    @fuzz
    @given(damaged("candump"))
    def run(text: bytes) -> None:
        together = rows(text)
        with monkeypatch.context() as patch:
            patch.setattr(_Lines, "parse_common", lambda self: None)
            assert rows(text) == together

    run()
    assert _Lines.parse_common is one_by_one


def test_any_bytes_are_a_log_or_one_error_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    heads = [
        b"",
        b"LOGG",
        b"MDF     4.10    ",
        b"UnFinMF 4.10    ",
        b"\x1f\x8b\x08",
        b"SQLite format 3\0",
        b";$FILEVERSION=2.1\n",
        b"date x\n",
    ]

    @fuzz
    @given(st.sampled_from(heads), st.binary(max_size=300))
    def run(head: bytes, rest: bytes) -> None:
        path.write_bytes(head + rest)
        read(path)

    run()


def read(path: Path) -> None:
    reader, said = open_log(path, block_frames=50), ""
    try:
        for block in reader:
            assert len(block) <= 50
            if reader.format in TEXT_FORMATS:
                check(block)
    except LogFormatError as error:
        said = str(error)
    assert "\n" not in said
    assert not said or said.startswith(str(path))


@fuzz
@given(
    st.lists(
        st.tuples(
            st.integers(-(10**18), 2 * 10**18),
            st.one_of(st.integers(0, SFF_MASK), st.integers(0, EFF_MASK).map(lambda number: number | EFF_FLAG)),
            st.integers(0, 2),
            st.one_of(st.binary(max_size=8), st.binary(min_size=9, max_size=64)),
        ),
        max_size=30,
    )
)
def test_candump_text_of_any_frames_reads_back(frames: list[tuple[int, int, int, bytes]]) -> None:
    n = len(frames)
    data = np.frombuffer(b"".join(payload.ljust(64, b"\0") for *_, payload in frames), np.uint8).reshape(n, 64)
    stamps = np.array([abs(stamp) // 1000 * 1000 if stamp >= 0 or n > 0 else 0 for stamp, *_ in frames], np.int64)
    block = FrameBlock(
        ("can0", "vcan1", "a_rather_long15"),
        stamps,
        np.array([identifier for _, identifier, _, _ in frames], np.uint32),
        np.array([channel for _, _, channel, _ in frames], np.uint8),
        np.array([len(payload) for *_, payload in frames], np.uint8),
        data,
        0,
    )
    stream = io.BytesIO()
    write_candump(stream, block)
    parser = CandumpParser()
    back = parser.parse(stream.getvalue(), 0)
    assert parser.skipped == 0
    assert back.timestamp_ns.tolist() == stamps.tolist()
    assert back.frame_id.tolist() == block.frame_id.tolist()
    assert [back.channels[number] for number in back.channel] == [block.channels[number] for number in block.channel]
    assert [d[:k].tobytes() for d, k in zip(back.data, back.length, strict=True)] == [payload for *_, payload in frames]
