"""A great many small blocks of frames of any kind through the decoder: no crash, no hang, no value that the frame does not have.

Messages are random ones (both byte orders, signs, floats, multiplexers nested and side by side, signals beyond the message) and our
own vehicle. An input is a block of 1 to 12 frames, decoded by itself; its values must be those that the same frames have within a
block of a thousand, and damage to some frames of the thousand must leave the others' values as they were. A sample is held against
cantools' signals, read bit by bit. CANSIGHT_SOAK=1: a million inputs.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_decoder import present, read_bits, same
from test_fuzz_readers import no_hang

from dbc.compiler import CompiledDbc, compile_dbc
from dbc.decoder import Decoder, SignalBlock
from dbc.frames import EFF_FLAG, ERR_FLAG, RTR_FLAG, FrameBlock, slice_frames
from dbc.planner import load_database
from dbc.validity import Reason
from dbc.vehicles import DBC_FILES

SOAK = bool(os.environ.get("CANSIGHT_SOAK"))
INPUTS = 1_000_000 if SOAK else 4_000
FILES = 60 if SOAK else 6
WHOLE = 1000  # frames
SAMPLE = 8  # of them are held against cantools


def random_dbc(random: np.random.Generator) -> str:
    """Some messages of up to 8 and up to 64 bytes."""
    text, more = 'VERSION ""\n\nBU_: ECU\n\n', ""
    for number in range(int(random.integers(1, 9))):
        extended = random.random() < 0.4
        identifier = (int(random.integers(0x800, 1 << 29)) | EFF_FLAG) if extended else 0x100 + number
        length = int(random.choice([1, 2, 5, 7, 8, 8, 8, 8, 16, 64]))
        lines, names = [], []
        for place in range(int(random.integers(1, 14))):
            name = f"S{place}"
            selects = random.random() < 0.25
            bits = int(random.integers(1, 5)) if selects else int(random.choice([1, 3, 8, 12, 16, 24, 32, 33, 63, 64]))
            kind = 0 if selects else {16: 1, 32: 1, 64: 2}.get(bits, 0) * int(random.random() < 0.4)
            bits = min(bits, 8 * length) if not kind else bits
            if kind and bits > 8 * length:
                continue
            mark = ""
            if names and random.random() < 0.5:
                parent = str(random.choice(names))
                chosen = sorted({int(value) for value in random.integers(0, 4, 3)})
                mark = f"m{chosen[0]}"
                more += f"SG_MUL_VAL_ {identifier} {name} {parent} {', '.join(f'{value}-{value}' for value in chosen)};\n"
            mark += "M" if selects else ""
            if selects:
                names.append(name)
            order = int(random.integers(2))
            start = int(random.integers(0, 8 * length - bits + 1)) if random.random() < 0.95 else 8 * length - 1
            start = start if order else start // 8 * 8 + 7 - start % 8
            sign = "-" if random.random() < 0.4 and not selects else "+"
            scale = "(1,0)" if selects else str(random.choice(["(1,0)", "(0.1,0)", "(0.25,-40)", "(-1,7)", "(3,-5)", "(1e-07,1000)"]))
            top = "[0|0]" if random.random() < 0.7 else "[0|100]"
            lines.append(f' SG_ {name} {mark} : {start}|{bits}@{order}{sign} {scale} {top} "" ECU')
            more += f"SIG_VALTYPE_ {identifier} {name} : {kind};\n" if kind else ""
        text += f"BO_ {identifier} Made{number}: {length} ECU\n" + "\n".join(lines) + "\n\n"
    return text + more


def random_block(random: np.random.Generator, compiled: CompiledDbc, width: int) -> FrameBlock:
    """Mostly frames that the DBC knows, of mostly the right length; and everything else."""
    n, plan = WHOLE, compiled.plan
    at = random.integers(0, len(plan.message_key), n)
    known = (plan.message_key[at] & np.uint64(0xFFFF_FFFF)).astype(np.uint32)
    frame_id = np.where(random.random(n) < 0.85, known, random.integers(0, 2**32, n)).astype(np.uint32)
    flags = random.choice(np.array([0, RTR_FLAG, ERR_FLAG, EFF_FLAG], np.uint32), n, p=[0.94, 0.02, 0.02, 0.02])
    right = np.minimum(plan.message_length[at], width)
    length = np.where(random.random(n) < 0.7, right, random.integers(0, width + 1, n)).astype(np.uint8)
    data = random.integers(0, 256, (n, width), dtype=np.uint8)
    data[random.random(n) < 0.1] = 0xFF
    data[random.random(n) < 0.1] = 0
    data[np.arange(width) >= length[:, None]] = 0
    stamps = random.integers(-(2**62), 2**62, n)
    return FrameBlock(("can0", "can9"), stamps, frame_id ^ flags, (random.random(n) < 0.05).astype(np.uint8), length, data, 0)


def rows(signals: SignalBlock, first: int = 0) -> np.ndarray[Any, Any]:
    """(k, 5): frame, signal, raw, reason, the value's bits."""
    assert (np.isnan(signals.value) == (signals.reason != Reason.VALID)).all()
    columns = (signals.frame.astype(np.int64) + first, signals.signal, signals.raw, signals.reason, signals.value.view(np.int64))
    return np.stack([column.astype(np.int64) for column in columns], axis=1)


@pytest.mark.timeout(3600 if SOAK else 120)
def test_blocks_of_any_frames(tmp_path: Path) -> None:
    random = np.random.default_rng(20)
    inputs = values = compared = 0
    for number in range(FILES):
        if number % 10 == 5:
            files = DBC_FILES[:1]
        else:
            file = tmp_path / f"{number}.dbc"
            file.write_text(random_dbc(random))
            files = [str(file)]
        compiled = compile_dbc(files)
        messages = {m.frame_id | EFF_FLAG * m.is_extended_frame: m for name in files for m in load_database(name)[0].messages}
        while inputs < INPUTS * (number + 1) // FILES:
            with no_hang():
                done, seen, held = one_round(random, compiled, messages, 64 if inputs % 2 else 8)
            inputs, values, compared = inputs + done, values + seen, compared + held
    assert values > 10 * INPUTS
    assert compared > INPUTS // 100


def one_round(random: np.random.Generator, compiled: CompiledDbc, messages: dict[int, Any], width: int) -> tuple[int, int, int]:
    """(inputs, values, values held against cantools' signals)."""
    block = random_block(random, compiled, width)
    whole = rows(Decoder(compiled, block.channels).decode(block))
    decoder, parts, start = Decoder(compiled), [], 0
    while start < len(block):
        size = int(random.integers(1, 13))
        parts.append(rows(decoder.decode(slice_frames(block, start, start + size)), start))
        start += size
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    damaged(random, compiled, block, whole)
    return (
        len(parts) + 1,
        len(whole),
        sum(against_cantools(compiled, messages, block, whole, int(at)) for at in random.integers(0, WHOLE, SAMPLE)),
    )


def damaged(random: np.random.Generator, compiled: CompiledDbc, block: FrameBlock, whole: np.ndarray[Any, Any]) -> None:
    """Change a tenth of the frames: the others keep their values. (An alive counter's frame is judged by the one before it.)"""
    hit = random.random(len(block)) < 0.1
    data, frame_id, length = block.data.copy(), block.frame_id.copy(), block.length.copy()
    data[hit, int(random.integers(data.shape[1]))] ^= np.uint8(1 << int(random.integers(8)))
    frame_id[hit & (random.random(len(block)) < 0.3)] ^= np.uint32(1 << int(random.integers(32)))
    length[hit & (random.random(len(block)) < 0.3)] = int(random.integers(data.shape[1] + 1))
    after = rows(Decoder(compiled, block.channels).decode(replace(block, data=data, frame_id=frame_id, length=length)))
    columns = 3 if len(compiled.plan.check_counter) else 5
    np.testing.assert_array_equal(after[~hit[after[:, 0]], :columns], whole[~hit[whole[:, 0]], :columns])


def against_cantools(compiled: CompiledDbc, messages: dict[int, Any], block: FrameBlock, whole: np.ndarray[Any, Any], at: int) -> int:
    """How many values of the frame were compared."""
    mine = whole[whole[:, 0] == at]
    message = messages.get(int(block.frame_id[at]))
    if message is None or block.channel[at]:
        assert not len(mine)
        return 0
    payload = block.data[at, : block.length[at]].tobytes()
    there = mine[mine[:, 3] != Reason.SHORT_FRAME]
    names = [compiled.schema.names[number].rpartition(".")[2] for number in there[:, 1]]
    assert set(names) == present(message, payload), (message, payload.hex())
    physical = compiled.schema.physical(there[:, 2], there[:, 1].astype(np.intp))
    for name, value in zip(names, physical, strict=True):
        assert same(value, read_bits(payload, message.get_signal_by_name(name))), (message, name, payload.hex())
    return len(names)
