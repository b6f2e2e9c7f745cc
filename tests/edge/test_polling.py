"""Polling: what is asked, when, and when not; the rules by themselves, and against an ECU on a virtual bus."""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import can
import isotp
import msgspec
import numpy as np
import pytest
import udsoncan
from hypothesis import given
from hypothesis import strategies as st

from dbc.compiler import compile_dbc
from dbc.decoder import Decoder
from dbc.errors import DbcError
from dbc.frames import EFF_FLAG, FrameBlock
from dbc.protocols import Reassembler
from dbc.sampler import Sampler
from edge.config import PollingConfig
from edge.errors import ConfigError, EdgeError
from edge.poller import Poller, _speed, open_poller
from edge.polling import Link, Polling, Silence, checked_request

S = 1_000_000_000
LINK = Link("can0", 0x7E0, 0x7E8)
RPM, SOC = bytes.fromhex("010c"), bytes.fromhex("220101")


def block(*frames: tuple[int, bytes], channel: str = "can0") -> FrameBlock:
    data = np.zeros((len(frames), 8), np.uint8)
    for row, (_, payload) in enumerate(frames):
        data[row, : len(payload)] = np.frombuffer(payload, np.uint8)
    n = len(frames)
    return FrameBlock(
        (channel,),
        np.zeros(n, np.int64),
        np.array([identifier for identifier, _ in frames], np.uint32),
        np.zeros(n, np.uint8),
        np.array([len(payload) for _, payload in frames], np.uint8),
        data,
        0,
    )


def standing(*requests: bytes, link: Link = LINK) -> Polling:
    polling = Polling(link, requests or (RPM,), S)
    polling.speed(0.0, 0)
    return polling


@pytest.mark.parametrize("text", ["01 0C", "0904", "22F40C", "22 01 01 01 05", "1902ff", "3e00", "3E 80"])
def test_requests_that_read_are_allowed(text: str) -> None:
    assert checked_request(text) == bytes.fromhex(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "zz",
        "1003",
        "1101",
        "14ffffff",
        "2701",
        "2e f190 00",
        "2f0101",
        "3101ff00",
        "3400",
        "04",
        "08 01",
        "3e01",
        "0902",
        "22f190",
        "220101f190",
        "2201",
        "01",
    ],
)
def test_every_other_request_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"polling\.requests"):
        checked_request(text)


@given(st.binary(max_size=8))
def test_no_service_but_the_five_gets_through(request_bytes: bytes) -> None:
    with contextlib.suppress(ConfigError):
        assert checked_request(request_bytes.hex())[0] in (0x01, 0x09, 0x19, 0x22, 0x3E)


def test_nothing_is_sent_while_the_speed_is_unknown_old_or_not_zero() -> None:
    polling = Polling(LINK, [RPM], S)
    assert (polling.next(0), polling.silence(0)) == (None, Silence.SPEED_UNKNOWN)
    for value, why in ((0.1, Silence.MOVING), (-1.0, Silence.MOVING), (None, Silence.SPEED_UNKNOWN), (float("nan"), Silence.SPEED_UNKNOWN)):
        polling.speed(value, 0)
        assert (polling.next(0), polling.silence(0)) == (None, why)
    polling.speed(0.0, 0)
    assert polling.silence(2 * S + 1) is Silence.SPEED_UNKNOWN
    assert polling.silence(-1) is Silence.SPEED_UNKNOWN
    assert polling.next(S) == RPM


def test_one_request_at_a_time_in_turn_and_not_faster_than_the_interval() -> None:
    polling = standing(RPM, SOC)
    assert polling.next(0) == RPM
    assert polling.silence(0) is Silence.WAITING
    polling.answered(1)
    assert polling.silence(1) is Silence.PAUSE
    polling.speed(0.0, S)
    assert polling.next(S) == SOC
    assert (polling.asked, polling.unanswered) == (2, 0)


def test_an_ecu_that_never_answers_is_asked_less_and_less() -> None:
    polling, sent = standing(), []
    for now in range(0, 3000 * S, S):
        polling.speed(0.0, now)
        if polling.next(now):
            sent.append(now // S)
    pauses = np.diff(sent)
    assert pauses[0] == 5
    assert (np.diff(pauses) >= 0).all()
    assert pauses[-1] > 250
    assert len(sent) - 1 <= polling.unanswered <= len(sent)


@pytest.mark.parametrize(
    ("identifier", "payload"),
    [
        (0x7DF, "02010d"),
        (0x7E0, "02010d"),
        (0x7E3, "0210030000"),
        (0x7EC, "0462010180"),  # an answer to nobody here
        (0x18DA10F1 | EFF_FLAG, "0322f190"),
        (0x18DB33F1 | EFF_FLAG, "02010c"),
        (0x18DAF110 | EFF_FLAG, "03410d00"),
    ],
)
def test_another_tester_silences_it_for_good(identifier: int, payload: str) -> None:
    polling = standing()
    polling.hear(block((0x123, bytes(8)), (identifier, bytes.fromhex(payload))), 0)
    assert polling.other_tester == identifier
    polling.speed(0.0, 1000 * S)
    assert (polling.next(1000 * S), polling.silence(1000 * S)) == (None, Silence.OTHER_TESTER)


def test_ordinary_frames_other_channels_and_its_own_echo_do_not_silence_it() -> None:
    polling = standing()
    request = polling.next(0)
    assert request is not None
    frame = bytes([2]) + request
    polling.sending(frame, 0)
    polling.hear(block((0x7DF, bytes(8)), channel="can1"), 0)
    polling.hear(block((0x7E0, frame + bytes(5)), (0x7E8, bytes(8)), (0x100, bytes(8)), (0x0CF00400 | EFF_FLAG, bytes(8))), 1)
    assert polling.other_tester is None
    polling.hear(block((0x7E0, frame)), 2)  # a second time it is not ours
    assert polling.other_tester == 0x7E0


@dataclass
class Bench:
    """An ECU, the poller and the agent's ear on one virtual bus; time stands still unless told."""

    poller: Poller
    polling: Polling
    ecu: isotp.CanStack
    ear: can.BusABC
    now_ns: int = 0
    asked: list[bytes] = field(default_factory=list)
    heard: list[FrameBlock] = field(default_factory=list)

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.poller.step()
            self.ecu.process()
            if self.ecu.available():
                request = bytes(self.ecu.recv())
                self.asked.append(request)
                self.ecu.send(answer_of(request))
                self.ecu.process()
            while (message := self.ear.recv(0)) is not None:
                frames = block((message.arbitration_id | (EFF_FLAG if message.is_extended_id else 0), bytes(message.data)))
                self.heard.append(frames)
                self.poller.hear(frames)


def answer_of(request: bytes) -> bytes:
    if request[0] == 0x01:
        return bytes([0x41, request[1]]) + bytes.fromhex("1af8")
    service = udsoncan.Request.from_payload(request).service
    if service is udsoncan.services.ReadDataByIdentifier:
        data = request[1:3] + bytes(5) + bytes([150]) + bytes(51)
        return bytes(udsoncan.Response(service, code=udsoncan.Response.Code.PositiveResponse, data=data).get_payload())
    return bytes(udsoncan.Response(service, code=udsoncan.Response.Code.ServiceNotSupported).get_payload())


@pytest.fixture
def bench() -> Iterator[Bench]:
    ends = [can.Bus("polled", interface="virtual") for _ in range(3)]
    polling = Polling(LINK, [RPM, SOC], S)
    ecu = isotp.CanStack(ends[1], address=isotp.Address(isotp.AddressingMode.Normal_11bits, txid=0x7E8, rxid=0x7E0), params={"stmin": 0})
    found = Bench(Poller(ends[0], LINK, polling, lambda: found.now_ns), polling, ecu, ends[2])
    yield found
    for end in ends:
        end.shutdown()


def test_what_is_polled_is_decoded_like_everything_on_the_bus(bench: Bench) -> None:
    for second in range(4):
        bench.now_ns = second * S
        bench.poller.speed(0.0)
        bench.turn(40)
    assert bench.asked == [RPM, SOC, RPM, SOC]
    assert bench.polling.other_tester is None
    assert (bench.polling.asked, bench.polling.unanswered) == (4, 0)
    compiled = compile_dbc(["builtin:obd2@can0"])
    reassembler, decoder = Reassembler(compiled), Decoder(compiled, compiled.schema.channels)
    speed = compiled.schema.index("OBD2_7E8.EngineSpeed")
    values = []
    for frames in bench.heard:
        signals = decoder.decode(reassembler.feed(frames))
        values += compiled.schema.physical(signals.raw, signals.signal)[signals.signal == speed].tolist()
    assert values == [1726, 1726]


def test_it_stops_when_the_vehicle_moves_and_goes_on_when_it_stands(bench: Bench) -> None:
    for second, (speed, asked) in enumerate([(0.0, 1), (3.0, 1), (None, 1), (0.0, 2)]):
        bench.now_ns = second * S
        bench.poller.speed(speed)
        bench.turn(40)
        assert len(bench.asked) == asked


def test_another_tester_on_the_bus_is_left_alone(bench: Bench) -> None:
    bench.poller.speed(0.0)
    bench.turn(40)
    with can.Bus("polled", interface="virtual") as workshop:
        workshop.send(can.Message(arbitration_id=0x7DF, data=bytes.fromhex("0201000000000000"), is_extended_id=False))
    for second in range(1, 60):
        bench.now_ns = second * S
        bench.poller.speed(0.0)
        bench.turn(5)
    assert bench.asked == [RPM]
    assert bench.polling.other_tester == 0x7DF


def test_settings_switch_it_on(bench: Bench) -> None:
    schema = compile_dbc(["builtin:obd2@can0"]).schema
    config = PollingConfig(requests=["01 0C"], speed="OBD2_7E8.VehicleSpeed", channel="polled", interface="virtual", interval_s=0.1)
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        take = open_poller(config, schema, stop, stack)
        compiled = compile_dbc(["builtin:obd2@can0"])
        sampler, decoder = Sampler(schema), Decoder(compiled, schema.channels)
        frames = block((0x7E8, bytes.fromhex("03410d0000000000")))
        sampler.feed(frames, decoder.decode(frames))
        (standing_still,) = sampler.finish()
        assert bench.ear.recv(0.05) is None
        take(standing_still)
        message = bench.ear.recv(5)
        assert message is not None
        assert (message.arbitration_id, bytes(message.data[:3])) == (0x7E0, bytes.fromhex("02010c"))
    assert stop.is_set()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"requests": ["2E F190 00"]}, "polling.requests"),
        ({"speed": ""}, "polling.speed"),
        ({"speed": "OBD2_7E8.Speed"}, "OBD2_7E8.Speed"),
        ({"request_id": "18DA10F1"}, "polling.answer_id"),
        ({"request_id": "FFF"}, "FFF"),
        ({"interface": "nosuch"}, "nosuch"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(change: dict[str, Any], names: str) -> None:
    schema = compile_dbc(["builtin:obd2@can0"]).schema
    right = PollingConfig(requests=["01 0C"], speed="OBD2_7E8.VehicleSpeed", channel="polled", interface="virtual")
    with contextlib.ExitStack() as stack, pytest.raises((EdgeError, DbcError)) as caught:
        open_poller(msgspec.structs.replace(right, **change), schema, threading.Event(), stack)
    assert names in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_speed_that_is_only_held_or_was_not_always_zero_is_no_standstill() -> None:
    compiled = compile_dbc(["builtin:obd2@can0"])
    column = compiled.schema.index("OBD2_7E8.VehicleSpeed")
    sampler, decoder = Sampler(compiled.schema), Decoder(compiled, compiled.schema.channels)
    stamped = [(100, 0x7E8, "03410d05"), (200, 0x7E8, "03410d00"), (1100, 0x7E8, "03410d00"), (2100, 0x123, ""), (3900, 0x123, "")]
    frames = block(*((identifier, bytes.fromhex(text)) for _, identifier, text in stamped))
    frames = dataclasses.replace(frames, timestamp_ns=np.array([stamp * 1_000_000 for stamp, _, _ in stamped], np.int64))
    snapshots = sampler.feed(frames, decoder.decode(frames)) + sampler.finish()
    assert [_speed(snapshot, column) for snapshot in snapshots] == [5.0, 0.0, None, None]
