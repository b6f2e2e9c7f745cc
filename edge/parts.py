"""What the agent ties together, in the order of the pipeline: read, checked and opened before anything is started."""

import logging
import os
import random
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from dbc.catalogue import IDENTITY, Catalogue
from dbc.compiler import load_compiled
from dbc.decoder import Decoder
from dbc.integrity import with_checks
from dbc.protocols import Reassembler
from dbc.sampler import Sampler, Snapshot
from dbc.schema import Schema
from edge.boot_clock import BootClockFile
from edge.config import EdgeConfig
from edge.detector_states import DetectorStates
from edge.detectors import Detector, Detectors
from edge.errors import ConfigError
from edge.health import Ledger, Status, StatusFile
from edge.health_server import HealthServer
from edge.identity import load_identity
from edge.ignition import Ignition
from edge.key_store import KeyFiles
from edge.outbox import Outbox
from edge.outbox_store import OutboxStore
from edge.pack_keeper import PackKeeper
from edge.pack_record import PackRecord
from edge.polling import identifier
from edge.recorder import Recorder
from edge.renewal import Renewal
from edge.sources.channel import Channel
from edge.sources.choice import check, open_source
from edge.sources.clock import SteadyClock, system_instant
from edge.sources.reader import Reader
from edge.streams import Journey
from edge.surroundings import ChangeWatch
from edge.uplink import Uplink
from models.errors import PackError
from models.pack import Pack, load_public_key

log = logging.getLogger(__name__)


class Supervisor(Protocol):
    """Whoever started the agent and wants to know how it does: systemd, for one."""

    def ready(self) -> None: ...

    def alive(self) -> None:
        """Called at least ten times a second while the loop comes round."""

    def stopping(self) -> None: ...


@dataclass
class Parts:
    """What the agent ties together, in the order of the pipeline."""

    reader: Reader
    live: SteadyClock | None
    boot_clock: BootClockFile
    channels: Sequence[Channel]
    reassembler: Reassembler
    decoder: Decoder
    sampler: Sampler
    packs: PackKeeper
    detectors: Detectors
    asking: Callable[[Snapshot], None] | None
    recorder: Recorder
    outbox: Outbox
    store: OutboxStore
    uplink: Uplink
    ignition: Ignition
    renewal: Renewal
    ledger: Ledger
    status: Status
    status_file: StatusFile
    health: HealthServer
    supervisor: Supervisor | None


def open_parts(config: EdgeConfig, stop: threading.Event, stack: ExitStack, supervisor: Supervisor | None = None) -> Parts:
    """Read and check every file that the settings name, and open the outbox; what is opened belongs to `stack`. Raises as `run`."""
    state = Path(config.state)
    keys = KeyFiles(state / "identity")
    identity = load_identity(config, keys)
    check(config.source)
    _make_folder(state)
    compiled = load_compiled(config.dbc.files, state / "cache")
    schema = compiled.schema
    catalogue = Catalogue.load(config.dbc.catalogue) if config.dbc.catalogue else Catalogue.empty()
    compiled = with_checks(compiled, catalogue.checks)
    catalogue.check(schema.names)  # a misspelt name would record what its owner has called private
    answers = {config.polling.channel: identifier(config.polling.answer_id)} if config.polling.requests else {}
    issued_ms = int(identity.certificate.not_valid_before_utc.timestamp() * 1000)
    boot_clock = BootClockFile(state, config.clock.trust, issued_ms, system_instant)
    source = open_source(config.source, compiled, stop, boot_clock, answers)
    packs = _packs(config, schema, catalogue, state, source.boot_id.hex())
    packs.open()
    detectors = packs.detectors
    journey = Journey(
        boot_id=source.boot_id,
        clock=source.clock,
        schema_id=schema.schema_id,
        pack_ids=detectors.pack_ids,
        agent=f"cansight {version('cansight')}",
    )
    status = Status(
        config.vehicle,
        agent=journey.agent,
        schema=schema.schema_id.hex(),
        packs=detectors.running,
        packs_refused=detectors.refused,
        packs_relearning=detectors.relearning,
        packs_shadow=detectors.in_shadow,
        signals=len(schema),
        outbox_limit_bytes=config.outbox.bytes,
    )
    outbox = Outbox(lambda most: random.uniform(0, most))
    store = stack.enter_context(OutboxStore(state / "outbox", config.outbox.bytes, outbox))
    parts = Parts(
        reader=Reader(source.frames, stop),
        live=source.live,
        boot_clock=boot_clock,
        channels=source.channels,
        reassembler=Reassembler(compiled),
        decoder=Decoder(compiled, schema.channels),
        sampler=Sampler(schema),
        packs=packs,
        detectors=detectors,
        asking=_asking(config, schema, stop, stack),
        recorder=Recorder(schema, _recorded(config, catalogue), identity, journey, config.batch.ticks),
        outbox=outbox,
        store=store,
        uplink=Uplink(config.broker, identity, outbox, store.lock, config.upload),
        ignition=Ignition(config.upload.conditions),
        renewal=Renewal(identity, keys, lambda most: random.uniform(0, most)),
        ledger=stack.enter_context(Ledger(config.health.ledger)),
        status=status,
        status_file=StatusFile(state, _runtime(), config.health.status_s),
        health=stack.enter_context(HealthServer(config.health.listen, status)),
        supervisor=supervisor,
    )
    counts = len(schema), len(detectors.pack_ids), store.pending
    log.info("vehicle %s: %d signals, %d detectors, %d batches in the outbox", config.vehicle, *counts)
    return parts


def _packs(config: EdgeConfig, schema: Schema, catalogue: Catalogue, state: Path, axis: str) -> PackKeeper:
    packs = config.packs
    if packs.folders and not packs.trusted_key:
        raise ConfigError("packs.trusted_key: is not set; packs are run only when this key has signed them")
    trusted = load_public_key(packs.trusted_key) if packs.folders else None

    def load(folder: Path) -> Detector:
        pack = Pack.load(folder, trusted)
        for name in pack.manifest.names:
            if _recorded(config, catalogue)(name) == IDENTITY:
                withdrawn = catalogue.consent_class(name) != IDENTITY
                why = "for which consent is withdrawn" if withdrawn else "which says whose car it is; train it without"
                raise PackError(f"pack {folder}: looks at {name}, of the class {catalogue.consent_class(name)}, {why}")
        return Detector(pack, schema, axis)

    watch = ChangeWatch(catalogue, schema)
    return PackKeeper(packs.folders, load, PackRecord(state), DetectorStates(state), packs.shadow_minutes * 60, watch)


def _recorded(config: EdgeConfig, catalogue: Catalogue) -> Callable[[str], str]:
    """The consent class of a signal; of a withdrawn one that of what is never recorded."""

    def consent_class(name: str) -> str:
        found = catalogue.consent_class(name)
        return IDENTITY if found in config.consent.withdrawn else found

    return consent_class


def _asking(config: EdgeConfig, schema: Schema, stop: threading.Event, stack: ExitStack) -> Callable[[Snapshot], None] | None:
    """What takes the snapshots for polling; None where nothing is to be polled."""
    if not config.polling.requests:
        return None
    if config.source.log:
        raise ConfigError("polling.requests: are set, and source.log too: a recording cannot be asked")
    try:
        from edge.poller import open_poller  # python-can and can-isotp: only where they are needed
    except ImportError as error:
        raise ConfigError(f"polling.requests: are set, but {error.name} is not installed; `pip install can-isotp python-can`") from error
    return open_poller(config.polling, schema, stop, stack)


def _runtime() -> Path | None:
    """The folder in memory that systemd gives a service with RuntimeDirectory=, or another init its own way; systemd.exec(5)."""
    folder = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(folder) if folder else None


def _make_folder(state: Path) -> None:
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"state: {state}: cannot be made: {error.strerror}") from error
    if not os.access(state, os.W_OK | os.X_OK):
        raise ConfigError(f"state: {state}: the agent may not write there")
