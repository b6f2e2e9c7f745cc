"""The whole agent on a live bus (socket pairs): what it has when the bus falls silent, and when it is told to stop in mid-stream."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from can_bus import PairBus, classic, until
from edge_helpers import Car, MakeCar

from cansight.settings import load
from edge.agent import Agent
from edge.config import EdgeConfig, resolved
from edge.parts import open_parts
from edge.sources import choice
from edge.sources.socketcan import SocketCan
from wire.segment_log import SegmentLog

MOTOR = 0x100
FRAMES = 50


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> Iterator[PairBus]:
    made = PairBus()
    monkeypatch.setattr(choice, "SocketCan", partial(SocketCan, opener=made.open))
    yield made
    made.close()


def settings(car: Car) -> EdgeConfig:
    return resolved(load(car.settings(), EdgeConfig), car.folder)


@contextmanager
def running(car: Car) -> Iterator[Agent]:
    """The agent, until the block ends; then it is told to stop, and has ended in order."""
    stop = threading.Event()
    with ExitStack() as stack:
        config = settings(car)
        agent = Agent(config, open_parts(config, stop, stack), stop)
        thread = threading.Thread(target=agent.run)
        thread.start()
        try:
            yield agent
        finally:
            stop.set()
            thread.join(30)
            assert not thread.is_alive()


def send(bus: PairBus, first: int) -> None:
    bus.send("can0", *[classic(MOTOR, number.to_bytes(8, "little")) for number in range(first, first + FRAMES)])


def live(make_car: MakeCar, **sections: dict[str, Any]) -> Car:
    # A batch that is never full: only what is tested seals it.
    return make_car("", source={"socketcan": ["can0"]}, batch={"ticks": 300}, broker={"port": 1}, **sections)


def next_tick() -> None:
    """Waits for the second to end."""
    now_s = int(time.time())
    until(lambda: int(time.time()) > now_s, "the next second")


def durable(car: Car, lane: str) -> int:
    """Batches in a log of the outbox, as the next start finds them."""
    with SegmentLog(car.state / "outbox" / lane) as log:
        return len(list(log.read(log.first)))


def said(car: Car) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((car.state / "status.json").read_bytes())
    return found


def test_frames_from_just_before_the_end_are_handed_over_and_their_tick_is_durable(make_car: MakeCar, bus: PairBus) -> None:
    car = live(make_car)
    with running(car):
        next_tick()
        send(bus, 0)
        next_tick()  # their tick is over, and no frame behind it says so
    status = said(car)
    assert status["frames"] == FRAMES
    assert status["ticks"] >= 1  # on a machine that is slow to stop it, more of them
    assert status["stopped"]
    rows, words = durable(car, "bulk"), durable(car, "reserved")
    assert rows >= 2, "of two consent classes"
    assert words == 1, "the word that it stops"
    assert status["batches_recorded"] == 2 + rows + words  # with the announcements


def test_frames_of_the_last_moment_are_taken_though_their_tick_is_open(make_car: MakeCar, bus: PairBus) -> None:
    car = live(make_car)
    with running(car):
        send(bus, 0)
    assert said(car)["frames"] == FRAMES


def test_what_a_bus_said_last_is_sealed_and_durable_without_waiting_for_a_full_batch(make_car: MakeCar, bus: PairBus) -> None:
    car = live(make_car)
    with running(car) as agent:
        send(bus, 0)
        until(lambda: agent._status.ticks, "the tick that ends in silence")
        until(lambda: agent._status.bytes_sealed, "its batch")
        assert agent._status.ticks < 300


def test_when_the_ignition_goes_off_what_waits_is_sealed_though_the_bus_goes_on(make_car: MakeCar, bus: PairBus, tmp_path: Path) -> None:
    conditions = tmp_path / "conditions.json"
    conditions.write_text('{"ignition": true}')
    car = live(make_car, upload={"conditions": str(conditions)})
    with running(car) as agent:

        def ticks(number: int) -> bool:
            send(bus, 0)
            return agent._status.ticks >= number

        until(lambda: ticks(1), "a tick")
        before, sealed = agent._status.ticks, agent._status.bytes_sealed
        conditions.with_suffix(".new").write_text('{"ignition": false}')
        conditions.with_suffix(".new").replace(conditions)
        until(lambda: ticks(before) and agent._status.bytes_sealed > sealed, "its batch")
