"""The row codec: every row comes back exactly, hostile bytes are an error, and a real drive stays small."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from wire.bits import bit_width, unzigzag, zigzag
from wire.codec import MAX_CELLS, MAX_TICKS, decode_rows, encode_rows, with_expected_widths
from wire.errors import FormatError, WireError
from wire.messages import Rows
from wire.packing import compress, decompress
from wire.together import decode_together

INT64 = st.integers(-(2**63), 2**63 - 1)
SMALL = st.integers(-20, 20)
CASE = settings(max_examples=150, deadline=None)


def same(one: Rows, other: Rows) -> bool:
    widths = one.widths is other.widths or (
        one.widths is not None and other.widths is not None and np.array_equal(one.widths, other.widths)
    )
    pairs = ((one.tick_ms, other.tick_ms), (one.raw, other.raw), (one.reason, other.reason))
    return widths and all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


@st.composite
def rows_of(draw: st.DrawFn, columns: int, ticks: int | None = None) -> Rows:
    t = ticks or draw(st.integers(1, 6))
    values = draw(st.sampled_from([SMALL, INT64, st.just(7), st.sampled_from([0, 0, 0, 1, -(2**63), 2**63 - 1])]))
    raw = draw(arrays.arrays(np.int64, (t, columns), elements=values))
    reason = draw(arrays.arrays(np.uint8, (t, columns), elements=st.sampled_from([0, 0, 0, 1, 2, 255])))
    start = draw(st.sampled_from([0, 1_700_000_820_000, -5, 2**53 - 10_000_000]))
    steps = draw(st.lists(st.sampled_from([1000, 1000, 2000, 1, 999, 1_000_000]), min_size=t - 1, max_size=t - 1))
    return Rows(np.cumsum([start, *steps]).astype(np.int64), raw, reason)


@CASE
@given(data=st.data())
def test_every_row_comes_back(data: st.DataObject) -> None:
    columns = data.draw(st.integers(0, 12))
    baseline = data.draw(rows_of(columns, 1))
    rows = data.draw(rows_of(columns))
    assert same(decode_rows(encode_rows(baseline, None), None), baseline)
    assert same(decode_rows(encode_rows(rows, None), None), rows)
    assert same(decode_rows(encode_rows(rows, baseline), baseline), rows)
    widths = data.draw(arrays.arrays(np.uint8, (2, columns), elements=st.integers(0, 64)))
    hinted = Rows(baseline.tick_ms, baseline.raw, baseline.reason, widths)
    assert same(decode_rows(encode_rows(hinted, None), None), hinted)
    assert same(decode_rows(encode_rows(rows, hinted), hinted), rows)
    learned = with_expected_widths(baseline, rows)
    assert same(decode_rows(encode_rows(rows, learned), learned), rows)


@CASE
@given(value=INT64)
def test_zigzag_and_bit_width_are_exact(value: int) -> None:
    array = np.array([value], np.int64)
    unsigned = zigzag(array)
    assert unzigzag(unsigned)[0] == value
    assert int(unsigned[0]) == (2 * value if value >= 0 else -2 * value - 1)
    assert int(bit_width(unsigned)[0]) == int(unsigned[0]).bit_length()


def test_bit_width_at_every_power_of_two() -> None:
    values = [max(0, (1 << power) + offset) for power in range(65) for offset in (-2, -1, 0, 1)]
    values = [value for value in values if value < 1 << 64]
    assert bit_width(np.array(values, np.uint64)).tolist() == [value.bit_length() for value in values]


def hour(ticks: int = 60, columns: int = 250) -> Rows:
    random = np.random.default_rng(4)
    steps = random.integers(-9, 10, (ticks, columns)) * (np.arange(columns) % 5 == 0)
    return Rows(1000 * np.arange(1, ticks + 1, dtype=np.int64), np.cumsum(steps, axis=0), np.zeros((ticks, columns), np.uint8))


def part(rows: Rows, start: int, stop: int) -> Rows:
    return Rows(rows.tick_ms[start:stop], rows.raw[start:stop], rows.reason[start:stop])


def test_batches_decode_in_any_order_of_arrival() -> None:
    rows = hour()
    baseline = part(rows, 0, 1)
    bodies = {start: encode_rows(part(rows, start, start + 2), baseline) for start in range(1, 59, 2)}
    for start in sorted(bodies, key=lambda start: (start * 37) % 59):
        assert same(decode_rows(bodies[start], baseline), part(rows, start, start + 2))


def test_constants_cost_nothing() -> None:
    rows = hour(columns=2000)
    still = Rows(rows.tick_ms, np.repeat(rows.raw[:1], 60, axis=0), rows.reason)
    assert len(encode_rows(part(still, 10, 12), part(still, 0, 1))) <= 8


def test_expected_widths_make_batches_smaller() -> None:
    rows = hour()
    plain, learned = part(rows, 19, 20), with_expected_widths(part(rows, 19, 20), part(rows, 0, 20))
    without, with_ = (sum(len(encode_rows(part(rows, at, at + 2), base)) for at in range(20, 58, 2)) for base in (plain, learned))
    assert with_ < 0.95 * without
    assert same(with_expected_widths(plain, part(rows, 0, 1)), plain)


@pytest.mark.parametrize(
    ("rows", "baseline", "message"),
    [
        (Rows(np.zeros(0, np.int64), np.zeros((0, 2), np.int64), np.zeros((0, 2), np.uint8)), None, "t 1 to"),
        (Rows(np.zeros(1, np.int64), np.zeros((1, 2), np.int64), np.zeros((1, 3), np.uint8)), None, "raw and reason"),
        (Rows(np.array([5, 5]), np.zeros((2, 1), np.int64), np.zeros((2, 1), np.uint8)), None, "ticks that increase"),
        (Rows(np.array([0, 2**52]), np.zeros((2, 1), np.int64), np.zeros((2, 1), np.uint8)), None, "ticks that increase"),
        (Rows(np.array([2**60]), np.zeros((1, 1), np.int64), np.zeros((1, 1), np.uint8)), None, "53 bits"),
        (hour(2, 3), hour(1, 4), "a baseline of"),
        (hour(2, 3), hour(2, 3), "a baseline of"),
        (Rows(*[getattr(hour(2, 3), name) for name in ("tick_ms", "raw", "reason")], np.zeros((2, 3), np.uint8)), None, "expected widths"),
        (hour(MAX_TICKS, MAX_CELLS // MAX_TICKS + 1), None, "cells"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows: Rows, baseline: Rows | None, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        encode_rows(rows, baseline)


def test_noise_that_no_reader_would_accept_is_refused() -> None:
    noise = np.random.default_rng(1).integers(-(2**63), 2**63, (200, 1000), np.int64, endpoint=False)
    with pytest.raises(FormatError, match="fewer ticks"):
        encode_rows(Rows(np.arange(200, dtype=np.int64), noise, np.zeros(noise.shape, np.uint8)), None)


def decodes(data: bytes, baseline: Rows | None) -> None:
    """Hostile bytes are rows of the right shape or a WireError, nothing else."""
    try:
        rows = decode_rows(data, baseline)
    except WireError:
        return
    assert rows.raw.shape == rows.reason.shape == (len(rows.tick_ms), rows.raw.shape[1])
    assert rows.raw.size <= MAX_CELLS
    assert (np.diff(rows.tick_ms) > 0).all()


@CASE
@given(data=st.binary(max_size=300), packed=st.booleans(), relative=st.booleans())
def test_random_bytes_never_crash_the_decoder(data: bytes, packed: bool, relative: bool) -> None:
    decodes(compress(data) if packed else b"\0" + data, hour(1, 40) if relative else None)
    decodes(data, hour(1, 40))


@settings(max_examples=400, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.none() | st.integers(0, 10_000),
    ticks=st.integers(1, 4),
    relative=st.booleans(),
)
def test_altered_bytes_never_crash_the_decoder(edits: list[tuple[int, int]], cut: int | None, ticks: int, relative: bool) -> None:
    rows = hour(10, 40)
    baseline = with_expected_widths(part(rows, 4, 5), part(rows, 0, 5))
    body = bytearray(encode_rows(part(rows, 5, 5 + ticks), baseline) if relative else encode_rows(baseline, None))
    for at, byte in edits:
        body[at % len(body)] = byte
    decodes(bytes(body if cut is None else body[: cut % (len(body) + 1)]), baseline if relative else None)
    decodes(b"\0" + bytes(body[1:]), baseline if relative else None)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_batches_decoded_together_are_as_one_by_one(data: st.DataObject) -> None:
    """Of several shapes, with and without expected widths, whole and altered: the same rows, or left to `decode_rows`."""
    bodies: list[bytes] = []
    baselines: list[Rows | None] = []
    for _ in range(data.draw(st.integers(1, 4))):
        columns = data.draw(st.integers(1, 12))
        baseline = data.draw(rows_of(columns, 1))
        rows = data.draw(rows_of(columns))
        steady = Rows(rows.tick_ms, rows.raw, baseline.reason.repeat(len(rows.raw), axis=0))
        learned = with_expected_widths(baseline, rows)
        for base, one in ((baseline, steady), (learned, steady), (baseline, rows), (None, rows)):
            body = encode_rows(one, base)
            plain = bytearray(decompress(body, 1 << 20))
            plain[data.draw(st.integers(0, len(plain) - 1))] ^= 1 << data.draw(st.integers(0, 7))
            bodies += [body, compress(bytes(plain))]
            baselines += [base, base]
    for body, base, found in zip(bodies, baselines, decode_together(bodies, baselines), strict=True):
        if found is not None:
            assert same(found, decode_rows(body, base))


@pytest.mark.parametrize("cells", [1 << 20, 3000])
def test_usual_batches_are_all_decoded_together(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many at once, and a few at a time where they would take more memory than one batch may."""
    monkeypatch.setattr("wire.together.MAX_CELLS", cells)
    rows = hour()
    baseline = with_expected_widths(part(rows, 19, 20), part(rows, 0, 20))
    bodies = [encode_rows(part(rows, at, at + ticks), baseline) for at in range(20, 50) for ticks in (1, 2, 5)]
    found = decode_together(bodies, [baseline] * len(bodies))
    for body, one in zip(bodies, found, strict=True):
        assert one is not None
        assert same(one, decode_rows(body, baseline))
    most = rows.raw.shape[1] * 20
    some = decode_together(bodies, [baseline] * len(bodies), most)
    sizes = [one.raw.size for one in some if one is not None]
    assert len(sizes) == len(some) < len(bodies)
    assert sum(sizes[:-1]) < most
    assert len(decode_together(bodies, [baseline] * len(bodies), 1)) == 1


def test_a_compressed_bomb_is_refused_before_it_is_unpacked() -> None:
    with pytest.raises(FormatError, match="claims"):
        decode_rows(compress(bytes(100 << 20)), None)


@pytest.fixture(scope="module")
def mustang(data_dir: Path) -> Rows:
    """The Mustang's drive at 1 Hz: (71, 604) raw integers as cantools decodes them, the last of each second."""
    import cantools

    folder = data_dir / "logs" / "mustang_s550"
    database: Any = cantools.database.load_file(str(folder / "ford_lincoln_base_pt.dbc"), strict=False)
    messages = {message.frame_id | message.is_extended_frame << 31: message for message in database.messages}
    last: dict[tuple[int, int], str] = {}
    for line in (folder / "mustang_s550.log").read_text().splitlines():
        stamp, _, frame = line.split()[:3]
        identifier, payload = frame.split("#")
        last[int(float(stamp[1:-1])), int(identifier, 16)] = payload
    seconds = sorted({second for second, _ in last})
    cells: dict[str, dict[int, int]] = {}
    for (second, identifier), payload in last.items():
        if identifier in messages:
            values = messages[identifier].decode(bytes.fromhex(payload), decode_choices=False, scaling=False, allow_truncated=True)
            for name, value in values.items():
                cells.setdefault(f"{messages[identifier].name}.{name}", {})[second] = int(value)
    raw, reason = np.zeros((len(seconds), len(cells)), np.int64), np.ones((len(seconds), len(cells)), np.uint8)
    for column, series in enumerate(cells.values()):
        for row, second in enumerate(seconds):
            if second in series:
                raw[row:, column] = np.array([series[second] % 2**64], np.uint64).view(np.int64)
                reason[row:, column] = 0
    return Rows(np.array(seconds, np.int64) * 1000, raw, reason)


def test_a_real_drive_comes_back_and_stays_small(mustang: Rows) -> None:
    """Bytes per signal-sample of the body; the floor that the codec must not fall behind is in its benchmark table."""
    ticks = len(mustang.tick_ms)
    learned = with_expected_widths(part(mustang, 24, 25), part(mustang, 4, 25))
    for baseline, first, bounds in ((part(mustang, 5, 6), 6, {2: 0.18, 5: 0.15}), (learned, 25, {2: 0.16, 5: 0.145})):
        for batch, bound in bounds.items():
            starts = range(first, ticks - batch + 1, batch)
            bodies = [encode_rows(part(mustang, at, at + batch), baseline) for at in starts]
            for at, body in zip(starts, bodies, strict=True):
                assert same(decode_rows(body, baseline), part(mustang, at, at + batch))
            assert sum(map(len, bodies)) / (len(bodies) * batch * mustang.raw.shape[1]) < bound
