"""Polling on a real bus: a control unit in another thread is asked over ISO-TP, answers, and what it says is decoded from the bus."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from prepared_car import POLLED
from vcan import CAR, Live, until

from dbc.compiler import load_compiled
from dbc.decoder import Decoder
from dbc.frames import EFF_FLAG, FrameBlock
from dbc.protocols import Reassembler
from dbc.sampler import Sampler
from dbc.validity import Reason
from edge.config import PollingConfig
from edge.poller import Poller, open_poller
from edge.polling import Link, Polling, checked_request
from edge.sources.python_can import without_log_formats

with without_log_formats():  # an emulated processor imports slowly
    import can
    import isotp

RPM, LONG = "01 0C", "22 F1 8C"  # the engine's speed; the control unit's serial number, which takes several frames
SERIAL = b"A SERIAL NUMBER OF FORTY-ONE CHARACTERS.."
S = 1_000_000_000


class ControlUnit:
    """Answers requests as a control unit does: ISO-TP in user space, on a raw socket of its own."""

    def __init__(self, bus: str, request_id: int, answer_id: int) -> None:
        self.asked: list[bytes] = []
        mode = isotp.AddressingMode.Normal_29bits if request_id > 0x7FF else isotp.AddressingMode.Normal_11bits
        self._bus = can.Bus(interface="socketcan", channel=bus)
        address = isotp.Address(mode, txid=answer_id, rxid=request_id)
        self._stack = isotp.CanStack(self._bus, address=address, params={"stmin": 1, "blocksize": 2, "tx_padding": 0xAA})
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "ControlUnit":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._bus.shutdown()

    def _run(self) -> None:
        while not self._over.wait(0.001):
            self._stack.process()
            while self._stack.available():
                request = bytes(self._stack.recv() or b"")
                self.asked.append(request)
                self._stack.send(self._answer(request))
                self._stack.process()

    @staticmethod
    def _answer(request: bytes) -> bytes:
        if request == bytes.fromhex(RPM):
            return bytes.fromhex("410C1AF8")
        if request == bytes.fromhex(LONG):
            return bytes.fromhex("62F18C") + SERIAL
        return bytes([0x7F, request[0], 0x11])  # service not supported


@contextmanager
def polled(bus: str, link: Link) -> Iterator[tuple[Poller, Polling]]:
    """The agent's side, with a bus of its own."""
    own = can.Bus(interface="socketcan", channel=bus)
    polling = Polling(link, [checked_request(RPM), checked_request(LONG)], S // 20)
    try:
        yield Poller(own, link, polling), polling
    finally:
        own.shutdown()


@pytest.mark.parametrize(("request_id", "answer_id"), [(0x7E0, 0x7E8), (EFF_FLAG | 0x18DA10F1, EFF_FLAG | 0x18DAF110)])
def test_a_control_unit_on_the_bus_is_asked_and_answers(request_id: int, answer_id: int) -> None:
    link, answers = Link("vcan0", request_id, answer_id), []
    with ControlUnit("vcan0", request_id & ~EFF_FLAG, answer_id & ~EFF_FLAG) as unit, polled("vcan0", link) as (poller, polling):
        poller.step()
        assert not unit.asked  # the speed is not known

        def turn() -> bool:
            poller.speed(0.0)
            answer = poller.step()
            if answer is not None:
                answers.append(answer)
            return len(answers) >= 4

        until(turn, "the answers")
        poller.speed(3.0)
        asked, deadline = polling.asked, time.monotonic() + 0.3

        def rest() -> bool:
            poller.step()
            return len(unit.asked) == asked and time.monotonic() > deadline

        until(rest, "the last request, and some time in which more would have come")
        assert (polling.asked, len(unit.asked)) == (asked, asked)  # it moves
    assert answers[:4] == [bytes.fromhex("410C1AF8"), bytes.fromhex("62F18C") + SERIAL] * 2
    assert unit.asked[:4] == [bytes.fromhex(RPM), bytes.fromhex(LONG)] * 2
    assert (polling.other_tester, polling.unanswered) == (None, 0)


def test_settings_ask_and_the_agents_own_ear_decodes_what_is_answered() -> None:
    compiled = load_compiled(POLLED, CAR / "state" / "cache")
    schema, stop = compiled.schema, threading.Event()
    config = PollingConfig(requests=[RPM], speed="OBD2_7E8.VehicleSpeed", channel="vcan0", interface="socketcan", interval_s=0.05)
    reassembler, decoder, sampler = Reassembler(compiled), Decoder(compiled, schema.channels), Sampler(schema)
    column = schema.index("OBD2_7E8.EngineSpeed")
    with Live({"vcan0": ()}) as live, ControlUnit("vcan0", 0x7E0, 0x7E8) as unit, ExitStack() as stack:
        take = open_poller(config, schema, stop, stack)
        # Said to the sampler alone: on the bus it would be an answer that nobody here has asked for, and polling would end.
        payload = np.frombuffer(bytes.fromhex("03410D0000000000"), np.uint8).reshape(1, 8)
        zero, eight = np.zeros(1, np.uint8), np.full(1, 8, np.uint8)
        stands = FrameBlock(("vcan0",), np.ones(1, np.int64), np.full(1, 0x7E8, np.uint32), zero, eight, payload, 0)
        sampler.feed(stands, decoder.decode(stands))
        (standing,) = sampler.finish()
        take(standing)
        until(lambda: len(unit.asked) >= 3, "the requests")
        until(lambda: len(live) >= 6, "requests and answers on the bus")
    values = []
    for frames in live.blocks:
        signals = decoder.decode(reassembler.feed(frames))
        mine = (signals.signal == column) & (signals.reason == Reason.VALID)
        values += signals.value[mine].tolist()
    assert values[:2] == [1726.0, 1726.0]
    assert set(unit.asked) == {bytes.fromhex(RPM)}
