"""One side of the live benchmark, in a process of its own: receive, decode, keep the last values, take a snapshot a second.

`main(["ours" or "rival", TOTAL, FD, ...])`: FD are sockets that deliver struct can_frame, bus i on FD i. Prints
"ready", and once TOTAL frames are in, JSON: processor time from the first frames on and for how many frames, and the last value of every
signal.
"""

import itertools
import json
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from threading import Event
from typing import Any

from dbc.dbc_file import parse_file_argument
from dbc.vehicles import DBC_FILES
from edge.sources.receive_buffer import ReceiveBuffer

DRIVE, BODY = (parse_file_argument(file).path for file in DBC_FILES[:2])  # the classic ones
BUSES = (DRIVE, BODY, DRIVE)  # the DBC of each bus


def channel(number: int) -> str:
    return f"can{number}"


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def ours(total: int, sockets: Sequence[socket.socket]) -> dict[str, Any]:
    """The agent's own path: source, reader's thread, decoder, sampler."""
    from dbc.compiler import compile_dbc
    from dbc.decoder import Decoder
    from dbc.sampler import Sampler
    from dbc.validity import Reason
    from edge.sources.can_socket import report
    from edge.sources.clock import SteadyClock
    from edge.sources.reader import Reader
    from edge.sources.socketcan import SocketCan

    compiled = compile_dbc([f"{file}@{channel(number)}" for number, file in enumerate(BUSES)])
    schema, stop, clock = compiled.schema, Event(), SteadyClock()
    clock.start()
    made = {channel(number): one for number, one in enumerate(sockets)}
    for one in sockets:
        report(one)
    source = SocketCan([(name, ()) for name in made], clock, stop, lambda name, _: made[name])
    source.open()
    decoder, sampler = Decoder(compiled, schema.channels), Sampler(schema)
    kernel = _timed(source._buffer)
    reader = Reader(source.frames(), stop)
    reader.start()
    say("ready")
    frames = ticks = before = 0
    cpu = 0.0
    while frames < total:
        block = reader.get(1.0)
        if block is None:
            continue
        if not frames:  # what came before the first block is start-up
            cpu, before = time.process_time(), len(block)
            kernel.clear()
        frames += len(block)
        ticks += len(sampler.feed(block, decoder.decode(block)))
    cpu = time.process_time() - cpu
    stop.set()
    last = sampler.finish()[-1]
    values = {
        f"{channel(int(schema.channel[index]))}:{name.rpartition(':')[2]}": float(last.value[index])
        for index, name in enumerate(schema.names)
        if last.reason[index] == Reason.VALID
    }
    return {"cpu_s": cpu, "frames": frames - before, "kernel_s": sum(kernel), "ticks": ticks, "values": values}


def _timed(buffer: ReceiveBuffer) -> list[float]:
    """Where the time of each of the buffer's system calls will be kept, s."""
    spent: list[float] = []
    receive = buffer.receive

    def timed(descriptor: int) -> int:
        start = time.thread_time()
        try:
            return receive(descriptor)
        finally:
            spent.append(time.thread_time() - start)

    buffer.receive = timed  # type: ignore[method-assign]
    return spent


def rival(total: int, sockets: Sequence[socket.socket]) -> dict[str, Any]:
    """As python-can's documentation has it: a Bus each, a Notifier, a listener that decodes with cantools; the values copied each second.

    The buses are python-can's own SocketcanBus; only what opens its socket is replaced.
    """
    import can
    import cantools.database
    from can.interfaces.socketcan.socketcan import SocketcanBus

    class PairBus(SocketcanBus):
        def __init__(self, made: socket.socket, name: str) -> None:
            made.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS, as python-can sets it
            self.socket, self.channel, self._bcm_sockets = made, name, {}
            can.BusABC.__init__(self, channel=name)

        def _apply_filters(self, filters: Any) -> None:
            self._is_filtered = True  # none: as a raw CAN socket without filters

    databases: dict[str, Any] = {channel(number): cantools.database.load_file(file, strict=False) for number, file in enumerate(BUSES)}
    values: dict[tuple[str, int], dict[str, Any]] = {}
    snapshots: list[Any] = []
    done, began, frames = Event(), 0.0, 0

    def take(message: can.Message) -> None:
        nonlocal began, frames
        if not frames:
            began = time.process_time()
        frames += 1
        name = str(message.channel)
        decoded = databases[name].decode_message(message.arbitration_id, message.data, decode_choices=False)
        values.setdefault((name, message.arbitration_id), {}).update(decoded)
        if message.timestamp >= len(snapshots) + first:
            snapshots.append({key: dict(one) for key, one in values.items()})
        if frames == total:
            done.set()

    first = time.time() + 1
    buses: list[can.BusABC] = [PairBus(one, channel(number)) for number, one in enumerate(sockets)]
    notifier = can.Notifier(buses, [take])
    say("ready")
    done.wait()
    cpu = time.process_time() - began
    notifier.stop()
    for bus in buses:
        bus.shutdown()
    named: dict[str, float] = {}
    for (name, identifier), decoded in values.items():
        message_name = databases[name].get_message_by_frame_id(identifier).name
        named |= {f"{name}:{message_name}.{signal}": float(value) for signal, value in decoded.items()}
    return {"cpu_s": cpu, "frames": frames - 1, "ticks": len(snapshots), "values": named}


def main(arguments: Sequence[str]) -> None:
    side, total, *descriptors = arguments
    sockets = [socket.socket(fileno=int(descriptor)) for descriptor in descriptors]
    say(json.dumps({"ours": ours, "rival": rival}[side](int(total), sockets)))


def chosen(signals: int) -> Iterator[tuple[int, int]]:
    """(bus, identifier) of messages, bus by bus in turn, that have so many signals together."""
    import cantools.database

    messages: list[Any] = [list(cantools.database.load_file(file, strict=False).messages) for file in BUSES]  # type: ignore[union-attr]
    for bus, message in (pair for row in itertools.zip_longest(*messages) for pair in enumerate(row)):
        if message is not None and len(message.signals) <= signals:
            signals -= len(message.signals)
            yield bus, message.frame_id
