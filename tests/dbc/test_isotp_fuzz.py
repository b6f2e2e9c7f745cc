"""Whatever is on the bus: no crash, bounded memory, no value that no frame carried. CANSIGHT_SOAK=1 makes it long."""

import os
from pathlib import Path

import numpy as np
import pytest
from bus_frames import block_of, decoded
from hypothesis import given, settings
from hypothesis import strategies as st

from dbc.compiler import CompiledDbc, compile_dbc
from dbc.decoder import Decoder
from dbc.frames import EFF_FLAG, FrameBlock
from dbc.protocols import HIDDEN, Reassembler
from dbc.protocols.reassembler import MAX_ROUTES
from dbc.protocols.transfers import MAX_BYTES, MAX_TRANSFERS, Transfer, Transfers
from dbc.protocols.trouble import TroubleCodes

SOAK = bool(os.environ.get("CANSIGHT_SOAK"))

PROTOCOLS = 'VERSION ""\nNS_ :\nBS_:\nBU_:\n' + "".join(
    f'BO_ {identifier | EFF_FLAG} {name}: {length} X\n SG_ First : 0|8@1+ (1,0) [0|0] "" X\n'
    f' SG_ Last : {8 * length - 8}|8@1+ (1,0) [0|0] "" X\n'
    for identifier, name, length in ((0x0CF004FE, "Eec1", 8), (0x18FEE3FE, "Ec1", 40), (0x1DF805FE, "Gnss", 51), (0x1CEF00FE, "Long", 1785))
)
PROTOCOLS += 'BA_DEF_ BO_ "VFrameFormat" ENUM "StandardCAN","ExtendedCAN","reserved","J1939PG";\nBA_DEF_DEF_ "VFrameFormat" "J1939PG";\n'

# Identifiers that mean something to one of the protocols, and a few that do not.
IDENTIFIERS = [
    0x7E8,
    0x7EF,
    0x18DAF110 | EFF_FLAG,
    0x123,
    *(
        base | destination << 8 | source | EFF_FLAG
        for base in (0x1CEC0000, 0x1CEB0000, 0x1CC80000, 0x1CC70000, 0x1CEF0000)
        for destination in (0xFF, 0, 1)
        for source in (0, 1)
    ),
    *(base | source | EFF_FLAG for base in (0x0CF00400, 0x18FEE300, 0x1DF80500, 0x18FECA00) for source in (0, 1, 0xFE)),
    0x1CECFF00 | EFF_FLAG | 0x2000_0000,
]
HEADS = [
    b"",
    b"\x20\x14\x00\x03\xff",
    b"\x10\x14\x00\x03\xff",
    b"\x01",
    b"\x02",
    b"\x03",
    b"\x10\x14",
    b"\x21",
    b"\x22",
    b"\x00\x2b",
    b"\x14",
]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> CompiledDbc:
    path = tmp_path_factory.mktemp("dbc") / "protocols.dbc"
    path.write_text(PROTOCOLS)
    return compile_dbc([f"{path}@bus0", "builtin:obd2/7E8,18DAF110@bus0"])


frame = st.tuples(
    st.integers(0, 3000),
    st.sampled_from(IDENTIFIERS) | st.integers(0, 2**32 - 1),
    st.builds(lambda head, rest: (head + rest)[:8], st.sampled_from(HEADS), st.binary(max_size=8)),
)


@settings(max_examples=20_000 if SOAK else 300, deadline=None)
@given(st.lists(st.lists(frame, max_size=40), max_size=6))
def test_any_frames(compiled: CompiledDbc, blocks: list[list[tuple[int, int, bytes]]]) -> None:
    reassembler, decoder, codes = Reassembler(compiled), Decoder(compiled, compiled.schema.channels), TroubleCodes()
    for frames in blocks:
        block = block_of(sorted(frames, key=lambda frame: frame[0]))
        out = reassembler.feed(block)
        list(codes.feed(block))
        assert out.data.flags.c_contiguous
        assert len(out) >= len(block)
        assert (out.length <= out.data.shape[1]).all()
        assert set(out.timestamp_ns.tolist()) == set(block.timestamp_ns.tolist())
        signals = decoder.decode(out)
        assert not (out.frame_id[signals.frame] & np.uint32(HIDDEN)).any()
        assert reassembler.held_bytes <= 3 * MAX_BYTES


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 100_000)), max_size=600))
def test_the_table_stays_in_its_bounds(announced: list[tuple[int, int]]) -> None:
    table = Transfers(1000)
    begun = 0
    for key, total in announced:
        begun += 1
        table.begin(key, Transfer(total, 0, bytearray()))
        assert len(table) <= MAX_TRANSFERS
        assert table.held_bytes <= MAX_BYTES
    table.finish()
    assert table.held_bytes == 0
    assert table.counts.dropped == begun


def test_a_flood_of_identifiers_is_bounded(compiled: CompiledDbc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbc.protocols.reassembler.MAX_ROUTES", 500)
    reassembler = Reassembler(compiled)
    for priority in range(8):
        frames = [(0, EFF_FLAG | priority << 26 | 0x00F00400 | source, bytes(8)) for source in range(256)]
        out = reassembler.feed(block_of(frames))
        assert (out.frame_id == (0x0CF004FE | EFF_FLAG)).sum() == 1  # always the one it is bound to
    assert len(reassembler._keys) <= 500


def test_a_hostile_bus(compiled: CompiledDbc) -> None:
    """A stream in which every protocol has beginnings, middles and ends, in any order, from any source."""
    reassembler, decoder, codes = Reassembler(compiled), Decoder(compiled, compiled.schema.channels), TroubleCodes()
    random = np.random.default_rng(1)
    known = np.array(IDENTIFIERS, np.uint32)
    controls = np.array([1, 2, 3, 4, 6, 0x10, 0x20, 0x21, 0x22, 0x23, 0x40, 0x41, 22, 23, 20, 16, 17, 19, 255], np.uint8)
    frames = 0
    while frames < (5_000_000 if SOAK else 50_000):
        n = int(random.integers(1, 2000))
        identifier = known[random.integers(0, len(known), n)]
        wild = random.random(n)
        identifier[wild < 0.2] = random.integers(0, 2**32, int((wild < 0.2).sum()), np.uint32)
        sources = (wild > 0.9).nonzero()[0]
        identifier[sources] = EFF_FLAG | 0x00F00400 | random.integers(0, 8, len(sources)) << 26 | random.integers(0, 256, len(sources))
        data = random.integers(0, 256, (n, 8)).astype(np.uint8)
        likely = random.random(n) < 0.8
        data[likely, 0] = random.choice(controls, int(likely.sum()))
        data[likely, 1] = random.integers(0, 40, int(likely.sum()))
        data[likely, 2] = 0
        data[random.random(n) < 0.5, 3] = 3
        length = np.where(random.random(n) < 0.95, 8, random.integers(0, 9, n)).astype(np.uint8)
        data[np.arange(8) >= length[:, None]] = 0
        stamps = frames * 100_000 + np.arange(n) * int(random.integers(1, 10_000_000))
        block = FrameBlock(("bus0",), stamps.astype(np.int64), identifier, np.zeros(n, np.uint8), length, data, 0)
        decoder.decode(reassembler.feed(block))
        list(codes.feed(block))
        frames += n
        assert reassembler.held_bytes <= 3 * MAX_BYTES
        assert len(reassembler._keys) <= MAX_ROUTES
    counts = reassembler.counts
    assert min(counts.messages, counts.lost, counts.timed_out, counts.aborted, counts.orphans, counts.malformed) > 0


def test_cutting_a_stream_into_blocks_changes_nothing(compiled: CompiledDbc, tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    frames = [
        (
            at,
            int(random.choice(np.array(IDENTIFIERS, np.int64))),
            bytes([int(random.choice([1, 2, 3, 0x10, 0x20, 0x21]))]) + random.bytes(7),
        )
        for at in range(2000)
    ]
    path = tmp_path / "protocols.dbc"
    path.write_text(PROTOCOLS)
    files = [f"{path}@bus0", "builtin:obd2/7E8,18DAF110@bus0"]

    def cut(size: int) -> list[FrameBlock]:
        return [block_of(frames[at : at + size]) for at in range(0, len(frames), size)]

    whole, first = decoded(files, cut(len(frames)))
    for size in (1, 7, 400):
        parts, second = decoded(files, cut(size))
        assert first.counts == second.counts
        assert parts.keys() == whole.keys()
        for name, (stamps, values) in whole.items():
            assert stamps.tolist() == parts[name][0].tolist()
            assert np.array_equal(values, parts[name][1], equal_nan=True)
