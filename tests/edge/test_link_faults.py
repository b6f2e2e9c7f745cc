"""Link faults between a real agent and a real broker, made by a proxy: whatever the link does, nothing is lost and nothing is there twice.

`pytest tests/edge/test_link_faults.py` is the short form; with CANSIGHT_SOAK=1 there are some hundred faults in random order.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from edge_helpers import START_S, Aggregator, Car, until

import servers
from link_proxy import LinkProxy
from wire.codec import decode_rows
from wire.messages import Kind, Rows

FAULTS = 300
SEED = 20261122
VEHICLES = ("00000000000000a1", "00000000000000b2", "00000000000000c3", "00000000000000d4")
FRAMES_PER_S = 10


class Drive:
    """A car behind a link of its own, fed with as many seconds of a drive as a test asks for."""

    def __init__(self, folder: Path, pki: Path, broker_port: int, vehicle: str, stack: ExitStack) -> None:
        folder.mkdir()
        fifo = folder / "bus"
        os.mkfifo(fifo)
        self.link = stack.enter_context(LinkProxy(broker_port))
        self.car = Car(folder / "car", pki, self.link.port, str(fifo), vehicle=vehicle)
        stack.callback(self.car.stop)
        self.car.start()
        self._bus = fifo.open("w", buffering=1)
        self._second = START_S
        self._random = random.Random(1)

    def drive(self, seconds: int) -> int:
        """Returns the newest tick, in ms, that is complete by now."""
        lines = []
        for _ in range(seconds):
            for number in range(FRAMES_PER_S):
                stamp = f"({self._second}.{number * 1_000_000 // FRAMES_PER_S:06d}) can0"
                lines.append(f"{stamp} 100#{self._random.randbytes(8).hex().upper()}\n")
            self._second += 1
        self._bus.write("".join(lines))
        self._bus.flush()
        return (self._second - 1) * 1000

    def close(self) -> None:
        """The end of the bus; the agent ends when every batch has its receipt."""
        self._bus.close()

    def end(self) -> int:
        """Returns the number of seconds driven."""
        code, said = self.car.end()
        assert code == 0, said
        status = self.car.status
        assert status["batches_recorded"] == status["batches_receipted"], said
        assert (status["receipts_forged"], status["gaps"]) == (0, 0)
        return self._second - START_S


class Witness:
    """What the aggregator has of each vehicle."""

    def __init__(self, aggregator: Aggregator) -> None:
        self.aggregator = aggregator

    def ticks(self, vehicle: str) -> Counter[tuple[int, str]]:
        """How many batches hold each tick, of each consent class."""
        found: Counter[tuple[int, str]] = Counter()
        for (stream, _), (kind, body) in list(self.aggregator.bodies.items()):
            opened = self.aggregator.streams[stream]
            if kind is Kind.ROWS and opened.header.vehicle == vehicle:
                rows: Rows = decode_rows(body, opened.baseline)
                found.update((tick, opened.announcement.consent_class) for tick in rows.tick_ms.tolist())
        return found

    def has(self, vehicle: str, tick_ms: int) -> bool:
        return any(tick >= tick_ms for tick, _ in self.ticks(vehicle))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def assert_nothing_lost_nothing_twice(witness: Witness, drives: Sequence[Drive]) -> None:
    for drive in drives:
        drive.close()
    for drive in drives:
        seconds = drive.end()
        ticks = witness.ticks(drive.car.vehicle)
        assert set(ticks.values()) == {1}, "a tick is in two batches"
        assert {tick for tick, _ in ticks} == {(START_S + 1 + second) * 1000 for second in range(seconds)}
    assert witness.aggregator.missing() == []


def test_whatever_the_link_does_nothing_is_lost_and_nothing_is_there_twice(
    tmp_path: Path, pki: Path, aggregator: Aggregator, mosquitto: servers.Server, stack: ExitStack
) -> None:
    witness = Witness(aggregator)
    drives = [Drive(tmp_path / name, pki, mosquitto.port, name, stack) for name in VEHICLES]
    first, second, silent, away = drives

    def go_on(*cars: Drive, what: str) -> None:
        newest = {drive.car.vehicle: drive.drive(4) for drive in cars}
        until(lambda: all(witness.has(vehicle, tick) for vehicle, tick in newest.items()), what)

    go_on(*drives, what="the beginning")
    # The two faults that nobody is told of go on while the others come and go.
    silent.link.half_open()
    away.link.freeze()
    half_open, frozen = silent.drive(4), away.drive(4)

    first.link.latency_s = 0.3
    second.link.hang_up()
    go_on(first, second, what="a latency of 0.3 s each way; a hang-up")
    first.link.latency_s = 0.0
    first.link.reset()
    second.link.bytes_per_s = 1
    slow, before = second.drive(4), second.link.bytes_up
    go_on(first, what="a reset")
    until(lambda: second.link.bytes_up > before + 1, "a byte and another one")
    assert not witness.has(second.car.vehicle, slow)
    second.link.bytes_per_s = 0
    first.link.cut(up=100)  # of an announcement or a batch, in the middle
    go_on(first, second, what="a cut in the middle of a packet up; one byte a second")
    first.link.cut(down=30)
    second.link.cut(up=700)
    second.link.reset()
    go_on(first, second, what="a cut in the middle of a packet down; a cut in the middle of the handshake")
    assert first.link.cut_done
    assert second.link.cut_done
    second.link.refuse()
    connections = second.link.connections
    refused = second.drive(4)
    first.link.reset()
    go_on(first, what="another reset")
    assert not witness.has(second.car.vehicle, refused)
    second.link.listen()
    until(lambda: second.link.connections > connections and witness.has(second.car.vehicle, refused), "a port that refused")

    until(lambda: witness.has(silent.car.vehicle, half_open), "a half-open connection to be found out")
    until(lambda: away.link.open_connections == 0, "the vehicle to give a connection up that says nothing")
    assert not witness.has(away.car.vehicle, frozen)
    away.link.thaw()
    until(lambda: witness.has(away.car.vehicle, frozen), "coverage")
    assert_nothing_lost_nothing_twice(witness, drives)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_hundreds_of_link_faults_in_random_order(
    tmp_path: Path, pki: Path, aggregator: Aggregator, mosquitto: servers.Server, stack: ExitStack
) -> None:
    witness = Witness(aggregator)
    drives = [Drive(tmp_path / name, pki, mosquitto.port, name, stack) for name in VEHICLES]
    chance = random.Random(SEED)
    for _ in range(FAULTS):
        drive = chance.choice(drives)
        fault = chance.choice(list(RANDOM_FAULTS))
        RANDOM_FAULTS[fault](drive.link, chance)
        newest = [(one, one.drive(chance.randrange(1, 6))) for one in drives]
        wait_s = chance.uniform(0.2, 3.0)  # the link is bad for so long
        began_s = time.monotonic()
        until(lambda began_s=began_s, wait_s=wait_s: time.monotonic() - began_s > wait_s, fault)
        if chance.random() < 0.7:
            drive.link.heal()
        if chance.random() < 0.1:
            for one in drives:
                one.link.heal()
            until(lambda newest=newest: all(witness.has(one.car.vehicle, tick) for one, tick in newest), f"all of it after {fault}")
    for one in drives:
        one.link.heal()
    assert_nothing_lost_nothing_twice(witness, drives)


def _latency(link: LinkProxy, chance: random.Random) -> None:
    link.latency_s = chance.uniform(0.05, 2.0)


def _slow(link: LinkProxy, chance: random.Random) -> None:
    link.bytes_per_s = chance.choice([1, 100, 2000])


RANDOM_FAULTS: dict[str, Callable[[LinkProxy, random.Random], None]] = {
    "latency": _latency,
    "slowness": _slow,
    "reset": lambda link, _: link.reset(),
    "hang-up": lambda link, _: link.hang_up(),
    "cut up": lambda link, chance: link.cut(up=chance.randrange(5000)),
    "cut down": lambda link, chance: link.cut(down=chance.randrange(2000)),
    "half-open": lambda link, _: link.half_open(),
    "frost": lambda link, _: link.freeze(),
    "refusal": lambda link, _: link.refuse(),
}
