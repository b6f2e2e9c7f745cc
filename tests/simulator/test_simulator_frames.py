"""What stands in the frames is what the model says, and the bus is one that could exist."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import cantools
import numpy as np
import pytest

import simulator
from dbc.compiler import CompiledDbc, compile_dbc
from dbc.frames import FrameBlock
from dbc.vehicles import DBC_FILES, FOLDER
from simulator.frames import crc8_j1850, frame_time_us

SECONDS = 12


@pytest.fixture(scope="module")
def compiled() -> CompiledDbc:
    return compile_dbc(DBC_FILES)


@pytest.fixture(scope="module")
def databases() -> list[Any]:
    return [cantools.database.load_file(FOLDER / name, strict=True) for name in ("drive.dbc", "body.dbc")]


@pytest.fixture(scope="module")
def blocks(compiled: CompiledDbc) -> list[FrameBlock]:
    return list(simulator.drive("healthy", seed=7, duration_s=SECONDS, compiled=compiled))


def payloads(blocks: list[FrameBlock]) -> dict[tuple[int, int], list[bytes]]:
    frames: dict[tuple[int, int], list[bytes]] = defaultdict(list)
    for block in blocks:
        for frame, channel, length, data in zip(block.frame_id, block.channel, block.length, block.data, strict=True):
            frames[int(channel), int(frame)].append(data[:length].tobytes())
    return frames


def crc8_bitwise(data: bytes) -> int:
    """CRC-8 SAE J1850, one bit after the other."""
    crc = 0xFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x1D if crc & 0x80 else crc << 1) & 0xFF
    return crc ^ 0xFF


def test_the_crc_is_sae_j1850() -> None:
    assert crc8_bitwise(b"123456789") == 0x4B  # the check value that catalogues of CRCs give
    data = np.random.default_rng(1).integers(0, 256, (50, 8), np.uint8)
    ids = np.arange(0x100, 0x132, dtype=np.uint32)
    expected = [crc8_bitwise(bytes([i & 0xFF, i >> 8]) + row[1:].tobytes()) for i, row in zip(ids.tolist(), data, strict=True)]
    assert crc8_j1850(ids, data).tolist() == expected


def test_every_message_of_both_buses_comes_at_its_period(blocks: list[FrameBlock], databases: list[Any]) -> None:
    frames = payloads(blocks)
    for channel, database in enumerate(databases):
        for message in database.messages:
            assert len(frames[channel, message.frame_id]) == SECONDS * 1000 // message.cycle_time, message.name
            assert {len(data) for data in frames[channel, message.frame_id]} == {message.length}, message.name
    assert len(frames) == sum(len(database.messages) for database in databases)


def test_counters_count_and_checksums_hold(blocks: list[FrameBlock], databases: list[Any]) -> None:
    frames, checked = payloads(blocks), 0
    for channel, database in enumerate(databases):
        for message in database.messages:
            if "Checksum" not in [signal.name for signal in message.signals]:
                continue
            mine = frames[channel, message.frame_id]
            decoded = [message.decode(data, decode_choices=False) for data in mine]
            assert [values["AliveCounter"] for values in decoded] == [k % 16 for k in range(len(mine))], message.name
            head = message.frame_id.to_bytes(2, "little")
            assert [values["Checksum"] for values in decoded] == [crc8_bitwise(head + data[1:]) for data in mine], message.name
            checked += 1
    assert checked == 12


def test_decoded_frames_give_the_models_values_within_one_raw_step(compiled: CompiledDbc, databases: list[Any]) -> None:
    schema = compiled.schema
    trip = simulator.Trip(simulator.scenario("healthy"), 11, simulator.START_NS, compiled)
    seen: set[str] = set()
    for second in range(SECONDS):
        values = trip.signals()
        block = trip.frames.block(second, values, simulator.START_NS + second * 10**9, 0)
        frames = payloads([block])
        for channel, database in enumerate(databases):
            for message in database.messages:
                for number, data in enumerate(frames[channel, message.frame_id]):
                    at = number * message.cycle_time / 100  # in model steps
                    for name, value in message.decode(data, decode_choices=False).items():
                        signal = message.get_signal_by_name(name)
                        if name in ("Checksum", "AliveCounter") or signal.is_multiplexer:
                            continue
                        column = schema.index(f"{message.name}.{name}")
                        model = values[:, column]
                        expected = model[int(at)] if signal.choices else np.interp(at, np.arange(11), model)
                        assert abs(value - expected) <= signal.scale * 1.001, (message.name, name, number)
                        seen.add(f"{message.name}.{name}")
    hidden = {name for name in schema.names if name not in seen}
    assert {name.rpartition(".")[2] for name in hidden} <= {"Checksum", "AliveCounter", "CellGroup", "SensorGroup", "VinPart"}


def test_frames_are_in_order_and_never_overlap_on_a_bus(blocks: list[FrameBlock]) -> None:
    last = -1
    for second, block in enumerate(blocks):
        start = simulator.START_NS + second * 10**9
        assert block.channels == ("can0", "can1")
        assert start <= block.timestamp_ns[0]
        assert block.timestamp_ns[-1] < start + 10**9
        assert block.timestamp_ns[0] > last
        assert (np.diff(block.timestamp_ns) >= 0).all()
        assert (block.timestamp_ns % 1000 == 0).all()  # a log in microseconds loses nothing
        last = int(block.timestamp_ns[-1])
        for channel in range(2):
            mine = block.channel == channel
            gap_us = np.diff(block.timestamp_ns[mine]) / 1000
            assert (gap_us >= np.floor(frame_time_us(block.length[mine][1:])) - 1).all()


def test_the_load_of_the_buses_is_realistic(blocks: list[FrameBlock]) -> None:
    drive, body = (float(np.mean([frame_time_us(b.length[b.channel == c]).sum() / 1e6 for b in blocks])) for c in range(2))
    assert 0.15 < drive < 0.6
    assert 0.04 < body < 0.6


def test_the_same_seed_gives_the_same_frames_and_another_seed_others(compiled: CompiledDbc, blocks: list[FrameBlock]) -> None:
    again = list(simulator.drive("healthy", seed=7, duration_s=SECONDS, compiled=compiled))
    for one, other in zip(blocks, again, strict=True):
        assert (one.timestamp_ns == other.timestamp_ns).all()
        assert (one.data == other.data).all()
        assert (one.frame_id == other.frame_id).all()
    different = next(simulator.drive("healthy", seed=8, duration_s=1, compiled=compiled))
    assert not np.array_equal(different.data, blocks[0].data)


def test_a_late_start_shows_in_stamps_and_in_the_satellites_clock(compiled: CompiledDbc, databases: list[Any]) -> None:
    start_ns = 1_772_323_199_000_000_000  # 2026-02-28 23:59:59 UTC
    blocks = list(simulator.drive("healthy", seed=7, duration_s=3, start_ns=start_ns, compiled=compiled))
    clock = databases[1].get_message_by_name("GNSS_Time")
    read = [clock.decode(data) for data in payloads(blocks)[1, clock.frame_id]]
    assert [(t["Month"], t["Day"], t["Hour"], t["Second"]) for t in read] == [(2, 28, 23, 59), (3, 1, 0, 0), (3, 1, 0, 1)]


def test_wrong_wishes_are_one_line() -> None:
    for wish in ({"what": "nope"}, {"duration_s": 0}, {"seed": -1}):
        with pytest.raises(simulator.ScenarioError, match=r"expected|there are") as error:
            next(simulator.drive(**wish))  # type: ignore[arg-type]
        assert "\n" not in str(error.value)
