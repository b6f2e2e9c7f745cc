"""The agent's settings, as the TOML file lays them out. Plain checked values: reading the file is the command line's part.

A path is absolute, or relative to the settings file's folder (`resolved` makes it absolute). docs/edge.md is the reference.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from dbc.dbc_file import absolute_argument

STDIN = "-"

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Files = Annotated[list[str], msgspec.Meta(min_length=1)]
CanId = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Fa-f]{1,8}\Z", description="up to 8 hexadecimal digits, like 7E0")]
_ADDRESS = "an address and a port like 127.0.0.1:9100 or [::1]:9100, or nothing"


class SourceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where frames come from: exactly one of `log`, `socketcan` and `interface`.

    log: a recorded log of any known format, a FIFO, or `-` for standard input. speed: 0 = as fast as they come; 1 = at the pace of the
    frames' own time stamps; 10 = ten times that. socketcan: names of CAN interfaces of the kernel. interface: one of python-can's;
    channel and options are handed to its `Bus`.
    """

    log: str = ""
    speed: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0
    socketcan: Annotated[list[Annotated[str, msgspec.Meta(min_length=1, max_length=15)]], msgspec.Meta(max_length=32)] = msgspec.field(
        default_factory=list
    )
    interface: str = ""
    channel: str | int = ""
    options: dict[str, str | int | float | bool] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        named = [name for name in ("log", "socketcan", "interface") if getattr(self, name)]
        if len(named) != 1:
            raise ValueError(f"Expected exactly one of log, socketcan and interface, got {' and '.join(named) or 'none'}")
        if self.speed and not self.log:
            raise ValueError("Expected speed with a log only: a bus has its own")
        if (self.channel != "" or self.options) and not self.interface:
            raise ValueError("Expected channel and options with interface only")
        if len(set(self.socketcan)) < len(self.socketcan):
            raise ValueError("Expected each interface once in socketcan")


class DbcConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The DBC files, each `FILE` or `FILE@CHANNEL`, and the signal catalogue (empty: every signal is of the class technical)."""

    files: Files
    catalogue: str = ""


class PollingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to ask of an ECU, as hexadecimal requests ("01 0C"); empty: the agent listens and never sends. docs/protocols.md has the rules.

    speed: the signal that must be known and 0 while anything is sent. channel, interface: of python-can, to send on. request_id, answer_id:
    hexadecimal, more than three digits = 29 bits. interval_s: between one request and the next.
    """

    requests: list[str] = msgspec.field(default_factory=list)
    speed: str = ""
    channel: str = "can0"
    interface: str = "socketcan"
    request_id: CanId = "7E0"
    answer_id: CanId = "7E8"
    interval_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 1.0


class PacksConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The detectors' packs, and the public key (PEM) that their signatures must verify with.

    shadow_minutes: healthy minutes that a pack which comes to a running vehicle must pass in shadow before it may speak; 0: none.
    """

    folders: list[str] = msgspec.field(default_factory=list)
    trusted_key: str = ""
    shadow_minutes: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 60


class ConsentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """withdrawn: classes of the catalogue of which nothing is recorded, and no pack looks at. `technical` and `identity` need no word:
    the first is the car's alone, the second is never recorded.
    """

    withdrawn: list[Literal["driving", "location"]] = msgspec.field(default_factory=list)


class BrokerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the MQTT broker is, and the mutual certificates to reach it with (PEM)."""

    ca: str
    certificate: str
    key: str
    host: Annotated[str, msgspec.Meta(min_length=1)] = "localhost"
    port: Port = 8883


Share = Literal["nothing", "findings", "live", "all"]


class UploadConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may go over the link. bytes_per_s: cap on what goes up, with what MQTT, TLS and TCP put around it; 0: none.

    conditions: a file in which the vehicle's computer says how the link is (edge/upload.py); empty: nobody says. metered, weak_signal
    (below weak_below, 0 to 100), ignition_off: what may go then. live: findings
    and live rows, no backlog; findings: also gaps and status.
    """

    bytes_per_s: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0.0
    conditions: str = ""
    metered: Share = "live"
    weak_signal: Share = "live"
    weak_below: Annotated[float, msgspec.Meta(ge=0, le=100)] = 20.0
    ignition_off: Share = "all"

    def __post_init__(self) -> None:
        if 0 < self.bytes_per_s < 100:
            raise ValueError("Expected bytes_per_s of at least 100, or 0 for no cap")


class RecipientsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Signed documents of the keys that may read this vehicle's streams; at most three."""

    files: Annotated[list[str], msgspec.Meta(min_length=1, max_length=3)]


class BatchConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """ticks: snapshots in a batch. More is smaller on the wire and later in the cloud."""

    ticks: Annotated[int, msgspec.Meta(ge=1, le=300)] = 2


class OutboxConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """bytes: what the outbox may take on the flash; a tenth of it is kept for findings."""

    bytes: Annotated[int, msgspec.Meta(ge=1 << 20)] = 256 << 20


class HealthConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the agent says of itself.

    listen: `HOST:PORT` on which /healthz, /readyz and /metrics are served; empty: nowhere. heartbeat_s: between the status messages
    that the cloud gets. status_s: the longest between two writings of status.json where it stands on the flash. ledger: CSV
    `tick_ms,entered_ns,samples`, one line for each durable tick, to measure latency with; empty: none.
    """

    listen: Annotated[str, msgspec.Meta(pattern=r"^(|(\[[0-9a-fA-F:]+\]|[^:\s\[\]]+):[0-9]{1,5})\Z", description=_ADDRESS)] = ""
    heartbeat_s: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = 60.0
    status_s: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = 60.0
    ledger: str = ""


class ClockConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """trust: which clock says UTC. `kernel`: only one that the kernel says is kept (adjtimex); `system`: the computer's, whoever sets it;
    `auto`: the kernel's word on a vehicle where it has ever been kept, else the computer's.
    """

    trust: Literal["auto", "kernel", "system"] = "auto"


class RunConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """stop_when_drained: end with exit code 0 once the source is finished and every batch has its receipt."""

    stop_when_drained: bool = False


class EdgeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that `cansight edge run` needs. vehicle: 16 lower-case hexadecimal digits, the certificate's common name."""

    vehicle: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z", description="16 small hexadecimal digits")]
    state: Annotated[str, msgspec.Meta(min_length=1)]
    source: SourceConfig
    dbc: DbcConfig
    broker: BrokerConfig
    recipients: RecipientsConfig
    packs: PacksConfig = msgspec.field(default_factory=PacksConfig)
    consent: ConsentConfig = msgspec.field(default_factory=ConsentConfig)
    polling: PollingConfig = msgspec.field(default_factory=PollingConfig)
    upload: UploadConfig = msgspec.field(default_factory=UploadConfig)
    batch: BatchConfig = msgspec.field(default_factory=BatchConfig)
    outbox: OutboxConfig = msgspec.field(default_factory=OutboxConfig)
    health: HealthConfig = msgspec.field(default_factory=HealthConfig)
    clock: ClockConfig = msgspec.field(default_factory=ClockConfig)
    run: RunConfig = msgspec.field(default_factory=RunConfig)


def resolved(config: EdgeConfig, base: Path) -> EdgeConfig:
    """`config` with every relative path made absolute against `base` (the settings file's folder)."""

    def absolute(path: str) -> str:
        return str((base / path).absolute()) if path else ""

    replace = msgspec.structs.replace
    broker, packs, source = config.broker, config.packs, config.source
    return replace(
        config,
        state=absolute(config.state),
        source=source if source.log in ("", STDIN) else replace(source, log=absolute(source.log)),
        dbc=replace(
            config.dbc, files=[absolute_argument(entry, base) for entry in config.dbc.files], catalogue=absolute(config.dbc.catalogue)
        ),
        packs=replace(packs, folders=[absolute(folder) for folder in packs.folders], trusted_key=absolute(packs.trusted_key)),
        broker=replace(broker, ca=absolute(broker.ca), certificate=absolute(broker.certificate), key=absolute(broker.key)),
        recipients=replace(config.recipients, files=[absolute(path) for path in config.recipients.files]),
        upload=replace(config.upload, conditions=absolute(config.upload.conditions)),
        health=replace(config.health, ledger=absolute(config.health.ledger)),
    )
