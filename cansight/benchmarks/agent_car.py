"""The car of the agent's benchmark: three buses, 250 signals, every shipped pack, and what it takes to run the whole agent for it.

`build` writes DBC files, catalogue, certificates, packs and settings; `frames` gives what its buses carry. The agent itself is
`cansight edge run` with one thing replaced: its raw CAN sockets are socket pairs, for a kernel without CAN. `main([SETTINGS, FD, ...])`
is that process; FD are sockets that deliver struct can_frame or canfd_frame, one for each bus.
"""

import itertools
import shutil
import socket
import struct
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dbc.dbc_file import parse_file_argument
from dbc.vehicles import BUSES, CATALOGUE, DBC_FILES

SIGNALS = 250
DRIVE_S = 20
VEHICLE = "0123456789abcdef"
CHANNELS = tuple(BUSES)

Wanted = list[dict[int, str]]  # for each bus: frame id -> message name


def wanted(signals: int = SIGNALS) -> Wanted:
    """The messages that the shipped packs need, and of the others, bus by bus in turn, as many as make `signals` signals."""
    import cantools.database

    buses: list[list[Any]] = [list(cantools.database.load_file(_path(file), strict=False).messages) for file in DBC_FILES]  # type: ignore[union-attr]
    needed = {name.partition(".")[0] for name in _pack_signals()}
    first = [(bus, message) for bus, messages in enumerate(buses) for message in messages if message.name in needed]
    others = [pair for row in itertools.zip_longest(*buses) for pair in enumerate(row) if pair[1] is not None and pair not in first]
    found: Wanted = [{} for _ in buses]
    for bus, message in first + others:
        if len(message.signals) <= signals:
            signals -= len(message.signals)
            found[bus][message.frame_id] = message.name
    return found


def build(folder: Path, pki: Path, broker_port: int, messages: Wanted, **sections: dict[str, Any]) -> Path:
    """The settings file of an agent with these messages, in `folder`; certificates come from `pki`, the fleet's.

    sections: tables of the settings that are to be others.
    """
    import tomli_w

    from cloud import pki as keys
    from models.pack import load_private_key, sign

    if not (pki / "vehicles" / f"{VEHICLE}.pem").exists():
        keys.vehicle(pki, VEHICLE)
    files, names = dbc_files(folder, messages)
    packs = []
    for manifest in manifests():
        packs.append(str(shutil.copytree(manifest.parent, folder / manifest.parent.name)))
        sign(Path(packs[-1]), load_private_key(pki / "pack.key"))
    (folder / "catalogue.toml").write_text(tomli_w.dumps(_catalogue(names)))
    certificate = f"{pki}/vehicles/{VEHICLE}"
    settings = {
        "vehicle": VEHICLE,
        "state": str(folder / "state"),
        "source": {"socketcan": list(CHANNELS)},
        "dbc": {"files": files, "catalogue": str(folder / "catalogue.toml")},
        "packs": {"folders": packs, "trusted_key": f"{pki}/pack.pub.pem"},
        "broker": {"port": broker_port, "ca": f"{pki}/fleet-ca.pem", "certificate": f"{certificate}.pem", "key": f"{certificate}.key"},
        "recipients": {"files": [f"{pki}/recipient.json"]},
    }
    (folder / "edge.toml").write_text(tomli_w.dumps(settings | sections))
    return folder / "edge.toml"


def frames(messages: Wanted) -> Iterator[tuple[int, bytes]]:
    """(bus, struct can_frame or canfd_frame) without end: payloads in the order of a simulated drive, bus after bus in turn."""
    from dbc.frames import CANFD_FDF
    from simulator import drive

    payloads: dict[tuple[int, int], list[bytes]] = {}
    for block in drive("healthy", 1, DRIVE_S):
        flags = block.flags if block.flags is not None else [0] * len(block)
        for bus, frame_id, length, data, flag in zip(block.channel, block.frame_id, block.length, block.data, flags, strict=True):
            if int(frame_id) in messages[bus]:
                wide = flag & CANFD_FDF or length > 8
                frame = struct.pack("=IBB2x64s" if wide else "=IBB2x8s", frame_id, length, flag, data.tobytes())
                payloads.setdefault((int(bus), int(frame_id)), []).append(frame)
    buses: list[list[Iterator[bytes]]] = [[] for _ in messages]
    for (bus, _), sequence in sorted(payloads.items()):
        buses[bus].append(itertools.cycle(sequence))
    in_turn = [itertools.cycle(bus) for bus in buses]
    for bus in itertools.cycle(range(len(buses))):
        yield bus, next(next(in_turn[bus]))


def manifests(of: str = "packs") -> list[Path]:
    """Of the shipped packs in a folder of `models`: `packs`, or `network_packs`, which look at every message of the car."""
    import models

    return sorted((Path(models.__file__).parent / of).glob("*/manifest.json"))


def _pack_signals() -> set[str]:
    import msgspec

    return {signal["name"] for manifest in manifests() for signal in msgspec.json.decode(manifest.read_bytes())["signals"]}


def _path(file: str) -> str:
    return str(parse_file_argument(file).path)


def dbc_files(folder: Path, messages: Wanted) -> tuple[list[str], set[str]]:
    """Writes the DBC files with these messages alone. Returns `dbc.files` and the names of the signals."""
    import cantools.database
    from cantools.database.can import Database

    files, names = [], set()
    for channel, file, kept in zip(CHANNELS, DBC_FILES, messages, strict=True):
        whole: Any = cantools.database.load_file(_path(file), strict=False)
        part = [message for message in whole.messages if message.frame_id in kept]
        names |= {f"{message.name}.{signal.name}" for message in part for signal in message.signals}
        path = folder / f"{channel}.dbc"
        path.write_text(Database(part, whole.nodes, whole.buses, whole.version, whole.dbc, strict=False).as_dbc_string(), newline="")
        files.append(f"{path}@{channel}")
    return files, names


def _catalogue(names: set[str]) -> dict[str, Any]:
    """The car's catalogue as far as it is about these signals: it is refused when it names others."""
    document = tomllib.loads(CATALOGUE.read_text(encoding="utf-8"))
    document["signals"] = {name: said for name, said in document["signals"].items() if name in names}
    document["checks"] = {
        message: said for message, said in document.get("checks", {}).items() if any(name.startswith(f"{message}.") for name in names)
    }
    document["changes"] = {kind: [name for name in signals if name in names] for kind, signals in document["changes"].items()}
    twins = {name: [signal for signal in signals if signal in names] for name, signals in document.get("twins", {}).items()}
    document["twins"] = {name: signals for name, signals in twins.items() if len(signals) > 1}
    document["faults"] = {}
    return document


def main(arguments: list[str]) -> None:
    """The agent, until SIGTERM."""
    from functools import partial

    from cansight.main import main as cansight
    from edge.sources import choice
    from edge.sources.can_socket import report
    from edge.sources.socketcan import SocketCan

    settings, *descriptors = arguments
    made = dict(zip(CHANNELS, (socket.socket(fileno=int(descriptor)) for descriptor in descriptors), strict=True))

    def opened(channel: str, _filters: object) -> socket.socket:
        report(made[channel])
        return made[channel]

    vars(choice)["SocketCan"] = partial(SocketCan, opener=opened)
    cansight(["edge", "run", "-c", settings])
