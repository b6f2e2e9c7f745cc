"""Bit-equality with cantools: every message of every DBC of the package opendbc and of the test material; every log with its DBC.

`make test` takes every sixth file of the package and one log each; with CANSIGHT_SOAK=1 all of them, with more payloads.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cantools.database
import numpy as np
import pytest
from test_decoder import present, read_bits, sample_payloads, well_formed

from dbc.compiler import CompiledDbc, compile_dbc
from dbc.decoder import Decoder
from dbc.errors import DbcFileError
from dbc.frames import EFF_FLAG, FrameBlock
from dbc.logs import open_log
from dbc.planner import load_database
from dbc.protocols import Reassembler
from dbc.validity import Reason

SOAK = bool(os.environ.get("CANSIGHT_SOAK"))
EVERY = 1 if SOAK else 6
ROUNDS = 20 if SOAK else 1
FRAMES = 10**9 if SOAK else 2000  # of a log, that the DBC knows


@pytest.fixture(autouse=True)
def _quiet_cantools() -> Iterator[None]:
    logging.disable(logging.WARNING)  # cantools warns of every repeated identifier
    yield
    logging.disable(logging.NOTSET)


def bits(value: float) -> int:
    """Of a float64; every not-a-number is one, and so are both zeros, which cantools' whole numbers do not tell apart."""
    return -1 if math.isnan(value) else int.from_bytes(struct.pack(">d", float(value) + 0.0 if value else 0.0), "big")


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.dbc"))


def opendbc_folder() -> Path:
    package = importlib.util.find_spec("opendbc")
    if package is None or not package.submodule_search_locations:
        pytest.skip("the package opendbc is not installed")
    return Path(next(iter(package.submodule_search_locations)))


def known_messages(file: Path) -> dict[int, Any]:
    return {m.frame_id | EFF_FLAG * m.is_extended_frame: m for m in load_database(file)[0].messages}


def values(compiled: CompiledDbc, decoder: Decoder, block: FrameBlock) -> list[dict[str, int]]:
    """Per frame: the bits of each value that the frame is long enough for."""
    signals = decoder.decode(block)
    physical = compiled.schema.physical(signals.raw, signals.signal)
    valid = signals.reason == Reason.VALID
    np.testing.assert_array_equal(signals.value[valid].view(np.int64), physical[valid].view(np.int64))
    names = compiled.schema.names
    frames: list[dict[str, int]] = [{} for _ in range(len(block))]
    columns = signals.frame.tolist(), signals.signal.tolist(), physical.tolist(), (signals.reason == Reason.SHORT_FRAME).tolist()
    for frame, signal, value, short in zip(*columns, strict=True):
        if not short:
            frames[frame][names[signal].rpartition(".")[2]] = bits(value)
    return frames


def cantools_values(message: Any, payload: bytes, ok: bool) -> dict[str, int]:
    """cantools' own decode of the payload; where it raises, or is known to be wrong, its signals read bit by bit."""
    if ok and len(payload) >= message.length:
        try:
            found = message.decode(payload, decode_choices=False, allow_excess=True)
            return {name: bits(value) for name, value in found.items()}
        except (cantools.database.DecodeError, KeyError):
            pass  # a multiplexer's value that the DBC does not know
    names = present(message, payload)
    return {name: bits(float(read_bits(payload, message.get_signal_by_name(name)) or 0.0)) for name in names}


def compare(file: Path, rounds: int) -> int:
    """How many values were equal."""
    compiled, messages = compile_dbc([str(file)]), known_messages(file)
    random = np.random.default_rng(zlib.crc32(file.name.encode()))
    ok = {key: well_formed(message) for key, message in messages.items()}
    frames: list[tuple[int, bytes]] = []
    for key, message in messages.items():
        if message.length > 64 or not message.signals:
            continue
        widest = 8 if message.length <= 8 else 64
        for _ in range(rounds):
            whole = sample_payloads(message, random)
            frames += [(key, payload) for payload in whole]
            frames += [(key, (whole[-1] + random.bytes(64))[:length]) for length in range(widest + 1)]  # every length
    compared = 0
    decoder = Decoder(compiled)
    for start in range(0, len(frames), 2000):
        part = frames[start : start + 2000]
        block = frame_block(part)
        for (key, payload), ours in zip(part, values(compiled, decoder, block), strict=True):
            theirs = cantools_values(messages[key], payload, ok[key])
            assert ours == theirs, (file.name, messages[key].name, payload.hex())
            compared += len(ours)
    return compared


def frame_block(frames: list[tuple[int, bytes]]) -> FrameBlock:
    n, width = len(frames), 64 if any(len(payload) > 8 for _, payload in frames) else 8
    data = np.frombuffer(b"".join(payload.ljust(width, b"\0") for _, payload in frames), np.uint8).reshape(n, width)
    keys = np.array([key for key, _ in frames], np.uint32)
    lengths = np.array([len(payload) for _, payload in frames], np.uint8)
    return FrameBlock(("can0",), np.arange(n, dtype=np.int64), keys, np.zeros(n, np.uint8), lengths, data, 0)


def plain(file: Path) -> bool:
    """J1939 is matched by group, and reassembled; its values are compared below, in logs."""
    return bool((compile_dbc([str(file)]).plan.message_pgn < 0).all())


@pytest.mark.timeout(3600 if SOAK else 120)
@pytest.mark.parametrize("part", range(4))
def test_every_message_of_every_file_of_opendbc(part: int) -> None:
    files = files_of(opendbc_folder())
    assert len(files) >= 115
    compared = sum(compare(file, ROUNDS) for file in files[part * EVERY :: 4 * EVERY])
    assert compared > 10_000


@pytest.mark.timeout(3600 if SOAK else 120)
def test_every_message_of_every_file_of_the_material(data_dir: Path) -> None:
    compared = 0
    for file in files_of(data_dir)[:: 1 if SOAK else 5]:
        try:
            compared += compare(file, ROUNDS) if plain(file) else 0
        except DbcFileError:
            assert file.name == "issue_199_extended.dbc"
    assert compared > (1_000_000 if SOAK else 10_000)


PAIRS = [
    ("mustang_s550/mustang_s550.log", "logs/mustang_s550/ford_lincoln_base_pt.dbc", "can0"),
    ("kuksa/candump_Manual_SOC_DogMode_CabinTemp.log", "logs/kuksa/Model3CAN.dbc", "vcan0"),
    ("kona_ev/221217-1-2021-pcan-bcan-no-key.csv", "dbc/kona-ev/pcan.dbc", "can0"),
    ("kona_ev/221217-1-2021-pcan-bcan-no-key.csv", "dbc/kona-ev/bcan.dbc", "can1"),
    ("kona_ev/250105-1-2020-comp-can-heating.csv", "dbc/kona-ev/comp_can.dbc", "can0"),
    ("kona_ev/bms-idle-30sec.asc", "dbc/kona-ev/pcan.dbc", "can0"),
    ("kona_ev/bms-precharge-relay-on.asc", "dbc/kona-ev/pcan.dbc", "can0"),
    ("css_electronics/j1939-truck.mf4", "logs/css_electronics/CSS-Electronics-SAE-J1939-DEMO.dbc", "can0"),
    ("css_electronics/11111111-j1939-gnss.mf4", "logs/css_electronics/CSS-Electronics-SAE-J1939-DEMO.dbc", "can0"),
    ("css_electronics/11111111-j1939-gnss.mf4", "logs/css_electronics/canmod-gps.dbc", "can1"),
    ("css_electronics/11111111-j1939-gnss.mf4", "logs/css_electronics/tp_j1939.dbc", "can0"),
    ("css_electronics/94C49784-00000002.mf4", "logs/css_electronics/tp_nmea.dbc", "can0"),
    ("css_electronics/FCBF0606-00000001.mf4", "logs/css_electronics/tp_j1939.dbc", "can0"),
    ("css_electronics/3BA199E2-obd2-gps.mf4", "logs/css_electronics/canmod-gps.dbc", "can1"),
]


@pytest.mark.timeout(3600 if SOAK else 120)
@pytest.mark.parametrize(("log", "dbc", "channel"), PAIRS)
def test_every_frame_of_a_recorded_log(data_dir: Path, log: str, dbc: str, channel: str) -> None:
    """Every value of every frame that the DBC knows. Of J1939 the message is found by the frame's group, as cantools has no such thing."""
    file = data_dir / dbc
    compiled, messages = compile_dbc([f"{file}@{channel}"]), known_messages(file)
    ok = {key: well_formed(message) for key, message in messages.items()}
    decoder, reassembler = Decoder(compiled), Reassembler(compiled)
    compared = frames = 0
    for block in open_log(data_dir / "logs" / log, block_frames=500):
        if frames >= FRAMES:
            break
        whole = reassembler.feed(block)
        for frame, ours in enumerate(values(compiled, decoder, whole)):
            here = whole.channels[whole.channel[frame]] == channel
            message = messages.get(int(whole.frame_id[frame])) if here else None
            if message is None:
                assert not ours
                continue
            payload = whole.data[frame, : whole.length[frame]].tobytes()
            assert ours == cantools_values(message, payload, ok[int(whole.frame_id[frame])]), (frame, message.name, payload.hex())
            compared += len(ours)
            frames += 1
    assert compared >= 13, (frames, compared)
