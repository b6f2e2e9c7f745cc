"""Random multiplexing, nested and side by side, against cantools' own tree; and frames of any kind at all."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cantools.database
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbc.compiler import compile_dbc
from dbc.decoder import Decoder
from dbc.frames import FrameBlock
from dbc.validity import Reason

SOAK = bool(os.environ.get("CANSIGHT_SOAK"))  # then a million frames
SUPPRESSED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


@pytest.fixture(autouse=True)
def _quiet_cantools() -> Iterator[None]:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def random_dbc(random: np.random.Generator) -> str:
    """A message of 16 bytes whose multiplexers form a random forest; selectors are of 2 bits, so that random payloads meet every branch."""
    lines, ranges = [], []
    names: list[str] = []
    for number in range(int(random.integers(4, 18))):
        name = f"S{number}"
        parent = str(random.choice(names)) if names and random.random() < 0.8 else None
        selects = random.random() < 0.55
        bits = 2 if selects else int(random.integers(1, 20))
        mark = ""
        if parent is not None:
            chosen = sorted({int(value) for value in random.integers(0, 4, int(random.integers(1, 4)))})
            mark = f"m{chosen[0]}"
            ranges.append(f"SG_MUL_VAL_ 256 {name} {parent} {', '.join(f'{value}-{value}' for value in chosen)};")
        mark += "M" if selects else ""
        if selects:
            names.append(name)
        order = int(random.integers(2))
        start = int(random.integers(0, 128 - bits))
        start = start if order else start // 8 * 8 + 7 - start % 8
        sign = "-" if random.random() < 0.3 and not selects else "+"
        lines.append(f' SG_ {name} {mark} : {start}|{bits}@{order}{sign} (1,0) [0|0] "" ECU')
    return 'VERSION ""\n\nBU_: ECU\n\nBO_ 256 Made: 16 ECU\n' + "\n".join(lines) + "\n\n" + "\n".join(ranges) + "\n"


@settings(max_examples=5_000 if SOAK else 150, deadline=None, suppress_health_check=SUPPRESSED)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_multiplexing_gives_cantools_signals_and_values(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    file = tmp_path / "random.dbc"
    file.write_text(random_dbc(random))
    message: Any = cantools.database.load_file(file, strict=False).messages[0]
    compiled = compile_dbc([str(file)])
    n = 60
    data = random.integers(0, 256, (n, 64), dtype=np.uint8)
    block = FrameBlock(
        ("can0",), np.arange(n), np.full(n, 256, np.uint32), np.zeros(n, np.uint8), np.full(n, 16 if seed % 2 else 64, np.uint8), data, 0
    )
    signals = Decoder(compiled, ("can0",)).decode(block)
    ours: list[dict[str, float]] = [{} for _ in range(n)]
    for frame, signal, value in zip(signals.frame, signals.signal, signals.value, strict=True):
        name = compiled.schema.names[signal].removeprefix("Made.")
        assert name not in ours[frame], "each signal once"
        ours[frame][name] = float(value)
    for number in range(n):
        expected = reference(message, data[number, :16].tobytes())
        assert ours[number] == expected, (seed, number)


def reference(message: Any, payload: bytes, codec: Any = None) -> dict[str, float]:
    """What cantools' codec tree says, node by node: where a multiplexer has a value that the DBC does not know, cantools itself raises."""
    codec = codec or message._codecs
    found: dict[str, float] = {}
    for signal in codec["signals"]:
        bits = "".join(f"{byte:08b}" for byte in (payload if signal.byte_order == "big_endian" else payload[::-1]))
        first = 8 * (signal.start // 8) + 7 - signal.start % 8 if signal.byte_order == "big_endian" else 128 - signal.start - signal.length
        raw = int(bits[first : first + signal.length], 2)
        if signal.is_signed and raw >> signal.length - 1:
            raw -= 1 << signal.length
        found[signal.name] = float(raw)
    for name, children in codec["multiplexers"].items():
        if int(found[name]) in children:
            found |= reference(message, payload, children[int(found[name])])
    return found


@settings(max_examples=4_000 if SOAK else 60, deadline=None, suppress_health_check=SUPPRESSED)
@given(seed=st.integers(0, 2**32 - 1), width=st.sampled_from([1, 8, 12, 64, 100]))
def test_frames_of_any_kind_do_no_harm(tmp_path: Path, seed: int, width: int) -> None:
    """Any identifier, flag, channel, length and stamp: a value is valid, or has a reason and is not a number."""
    from dbc.vehicles import DBC_FILES

    compiled = _compiled(DBC_FILES)
    random = np.random.default_rng(seed)
    n = int(random.integers(0, 500))
    keys = (compiled.plan.message_key & np.uint64(0xFFFF_FFFF)).astype(np.uint32)
    frame_id = np.where(random.random(n) < 0.7, random.choice(keys, n), random.integers(0, 2**32, n)).astype(np.uint32)
    length = random.integers(0, width + 1, n).astype(np.uint8)
    data = random.integers(0, 256, (n, width), dtype=np.uint8)
    data[np.arange(width) >= length[:, None]] = 0
    stamps = random.integers(-(2**63), 2**63 - 1, n)
    block = FrameBlock(("can0", "can1", "other"), stamps, frame_id, random.integers(0, 3, n).astype(np.uint8), length, data, 0)
    signals = Decoder(compiled, block.channels).decode(block)
    assert (np.diff(signals.frame) >= 0).all()
    assert len(signals.raw) == len(signals.value) == len(signals.reason) == len(signals.signal) == len(signals.timestamp_ns)
    assert (np.isnan(signals.value) == (signals.reason != Reason.VALID)).all()
    known = np.isin(frame_id[signals.frame], keys)
    assert known.all()


_cache: dict[tuple[str, ...], Any] = {}


def _compiled(files: Any) -> Any:
    key = tuple(files)
    if key not in _cache:
        _cache[key] = compile_dbc(list(files))
    return _cache[key]
