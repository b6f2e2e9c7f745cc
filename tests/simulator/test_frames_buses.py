"""The buses are such as could exist: cycles, load, order, events, sleep and waking; and the same seed gives the same bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from frames_car import decoded, drive

from dbc.compiler import CompiledDbc, compile_dbc
from dbc.decoder import Decoder
from dbc.encoder import message_encoders
from dbc.frames import FrameBlock
from dbc.logs import write_candump
from dbc.validity import Reason
from dbc.vehicles import DBC_FILES
from simulator.bus_time import frame_time_us
from simulator.cast import START_NS
from simulator.frames import WAKE_S, FrameMaker
from simulator.signals import Traits

SECONDS = 12
AWAKE, ASLEEP = [True] * 3, [False] * 3


@pytest.fixture(scope="module")
def compiled() -> CompiledDbc:
    return compile_dbc(DBC_FILES)


@pytest.fixture(scope="module")
def blocks(compiled: CompiledDbc) -> list[FrameBlock]:
    return drive(compiled, SECONDS, seed=7).blocks


def names(compiled: CompiledDbc, block: FrameBlock) -> list[str]:
    keys = {int(key): name for key, name in zip(compiled.plan.message_key, compiled.plan.message_names, strict=True)}
    return [keys[int(channel) << 32 | int(frame)] for channel, frame in zip(block.channel, block.frame_id, strict=True)]


def test_every_cyclic_message_comes_at_its_cycle_once_its_bus_is_awake(compiled: CompiledDbc, blocks: list[FrameBlock]) -> None:
    heard = [name for block in blocks[1:-1] for name in names(compiled, block)]
    for encoder in message_encoders(compiled):
        if np.isnan(encoder.period_ms):
            continue
        expected = (SECONDS - 2) * 1000 / encoder.period_ms
        assert abs(heard.count(encoder.name) - expected) <= 1, encoder.name  # one may fall over the edge of the stretch
    lengths = {encoder.name: encoder.length for encoder in message_encoders(compiled)}
    for block in blocks[1:]:
        assert block.length.tolist() == [lengths[name] for name in names(compiled, block)]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_bus_is_busy_for_30_to_60_percent_while_the_car_drives(compiled: CompiledDbc, seed: int) -> None:
    for block in drive(compiled, 20, seed=seed).blocks[2:]:
        for channel in range(3):
            mine = block.channel == channel
            load = frame_time_us(block.frame_id[mine], block.length[mine], block.data[mine]).sum() / 1e6
            assert 0.30 < load < 0.60, block.channels[channel]


def test_frames_are_in_order_and_a_bus_carries_one_at_a_time(blocks: list[FrameBlock]) -> None:
    last = np.zeros(3, np.int64)
    for second, block in enumerate(blocks):
        start = START_NS + second * 10**9
        assert block.channels == ("can0", "can1", "can2")
        assert start <= block.timestamp_ns[0]
        assert block.timestamp_ns[-1] < start + 10**9
        assert (np.diff(block.timestamp_ns) >= 0).all()
        assert (block.timestamp_ns % 1000 == 0).all()  # a log in microseconds loses nothing
        takes = frame_time_us(block.frame_id, block.length, block.data)
        for channel in range(3):
            mine = block.channel == channel
            stamps = np.concatenate([last[channel : channel + 1], block.timestamp_ns[mine]])
            assert (np.diff(stamps) / 1000 >= np.floor(takes[mine])).all()
            last[channel] = stamps[-1]


def test_the_energy_bus_is_can_fd(blocks: list[FrameBlock]) -> None:
    for block in blocks:
        assert block.data.shape[1] == 64
        assert ((block.length > 8) == (block.channel == 2)).all()


class Bench:
    """A frame maker with values that the test sets."""

    def __init__(self, compiled: CompiledDbc) -> None:
        self.schema, self.compiled = compiled.schema, compiled
        self.maker = FrameMaker(compiled, Traits(compiled.schema), (1, 0), noise=0.0)
        self.values = np.clip(np.zeros(len(compiled.schema)), compiled.schema.minimum, compiled.schema.maximum)
        self.seconds = 0

    def second(self, awake: list[bool], **changes: float) -> FrameBlock:
        after = self.values.copy()
        for name, value in changes.items():
            after[self.schema.index(name.replace("__", "."))] = value
        block = self.maker.block(self.seconds, self.values, after, awake, START_NS + self.seconds * 10**9, 0)
        self.values, self.seconds = after, self.seconds + 1
        return block


def test_a_bus_sleeps_and_wakes_with_network_management_first(compiled: CompiledDbc) -> None:
    bench, decoder = Bench(compiled), Decoder(compiled, compiled.schema.channels)
    heard = [bench.second(awake) for awake in (AWAKE, AWAKE, ASLEEP, ASLEEP, [False, True, False], AWAKE, AWAKE)]
    assert [len(block) > 100 for block in heard] == [True, True, False, False, True, True, True]
    assert all(len(block) <= 3 for block in heard[2:4])  # what was still on its way
    assert set(heard[4].channel.tolist()) == {1}
    woken = heard[5]
    for channel, manager in ((0, "NM_Drive"), (2, "NM_Energy")):
        mine = [name for name, at in zip(names(compiled, woken), woken.channel.tolist(), strict=True) if at == channel]
        assert mine[:10] == [manager] * 10
        first_other = woken.timestamp_ns[woken.channel == channel][10] - START_NS - 5 * 10**9
        assert WAKE_S * 1e9 <= first_other < (WAKE_S + 0.05) * 1e9
    for block in heard:  # the counters go on over the sleep
        assert (decoder.decode(block).reason == Reason.VALID).all()


def test_event_messages_are_sent_when_something_changes_and_on_waking(compiled: CompiledDbc) -> None:
    bench = Bench(compiled)

    def events(block: FrameBlock) -> list[str]:
        return [name for name in names(compiled, block) if name.endswith("Event")]

    everyone = ["VCU_WarningEvent", "BCM_AccessEvent", "CHG_PlugEvent"]
    assert sorted(events(bench.second(AWAKE))) == sorted(everyone)
    assert events(bench.second(AWAKE)) == []
    assert events(bench.second(AWAKE, ESP_Motion__VehicleSpeed=50.0)) == []
    block = bench.second(AWAKE, BCM_AccessEvent__KeyState=2.0)
    assert events(block) == ["BCM_AccessEvent"]
    at = names(compiled, block).index("BCM_AccessEvent")
    assert block.timestamp_ns[at] - START_NS - 3 * 10**9 < 20e6
    assert events(bench.second(AWAKE)) == []
    assert events(bench.second(AWAKE, VCU_WarningEvent__WarningLevel=3.0, CHG_PlugEvent__PlugState=1.0)) == [
        "VCU_WarningEvent",
        "CHG_PlugEvent",
    ]
    bench.second(ASLEEP)
    assert sorted(events(bench.second(AWAKE))) == sorted(everyone)


def test_a_parked_car_falls_asleep_and_the_charging_wakes_it(compiled: CompiledDbc) -> None:
    parked = drive(compiled, 30, plan="park").blocks
    assert all(len(block) == 0 for block in parked[-10:])
    charging = drive(compiled, 120, plan="charge_dc")
    _, signal, value, reason = decoded(compiled, charging.blocks[-20:])
    assert (reason == Reason.VALID).all()
    assert value[signal == compiled.schema.index("CCS_Charging.ChargingPower")].mean() > 20
    assert value[signal == compiled.schema.index("CHG_PlugEvent.PlugState")].size == 0  # nothing changed lately
    assert value[signal == compiled.schema.index("BMS_State.StateOfHealth")].size > 0  # battery and charger speak on the drive bus


def log_of(blocks: list[FrameBlock]) -> bytes:
    stream = io.BytesIO()
    for block in blocks:
        write_candump(stream, block)
    return stream.getvalue()


def test_the_same_seed_gives_the_same_log_and_another_seed_another(compiled: CompiledDbc, blocks: list[FrameBlock]) -> None:
    assert log_of(drive(compiled, SECONDS, seed=7).blocks) == log_of(blocks)
    assert log_of(drive(compiled, 2, seed=8).blocks) != log_of(blocks[:2])


def test_the_satellites_clock_is_that_of_the_stamps(compiled: CompiledDbc, blocks: list[FrameBlock]) -> None:
    stamp, signal, value, _ = decoded(compiled, blocks)
    clock = signal == compiled.schema.index("GNSS_Time.Second")
    assert value[clock].tolist() == (stamp[clock] // 10**9 % 60).tolist()
