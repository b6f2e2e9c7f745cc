"""The cloud's settings, as the TOML file lays them out. Plain checked values: reading the file is the command line's part.

A path is absolute, or relative to the settings file's folder (`resolved` makes it absolute).
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from cloud.errors import CloudError
from dbc.dbc_file import absolute_argument

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
Database = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")]
Kept = Annotated[str, msgspec.Meta(pattern=r"^([1-9][0-9]{0,4}d|forever)$")]


class BrokerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the MQTT broker is, and the mutual certificates to reach it with."""

    ca: str
    certificate: str
    key: str
    host: str = "localhost"
    port: Port = 8883


class VehicleModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One vehicle model: its DBC files (`FILE` or `FILE@CHANNEL`) and its signal catalogue."""

    name: Name
    dbc: Annotated[list[str], msgspec.Meta(min_length=1)]
    catalogue: str = ""


class InfluxConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An InfluxDB. Version 1 is addressed by `database`; version 2 by `organisation` and `bucket` (default: the database's name)."""

    url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s/?#]+/?$")] = "http://127.0.0.1:8086"
    version: Literal["auto", "1", "2"] = "auto"
    database: Database = "cansight"
    organisation: str = ""
    bucket: str = ""
    token_file: str = ""
    username: str = ""
    password_file: str = ""
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=300)] = 10.0
    # How long ticks, minutes and hours are kept, like "90d" or "forever"; `cansight cloud init` says it to the server.
    keep_ticks: Kept = "90d"
    keep_minutes: Kept = "800d"
    keep_hours: Kept = "forever"
    downsample: bool = True  # keep minutes and hours at all


class StoreConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which time-series store is written and read."""

    kind: Literal["embedded", "influx"] = "embedded"
    influx: InfluxConfig = msgspec.field(default_factory=InfluxConfig)


class LandingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much of the landing log is kept after every sink has taken it (for rebuilding a store); oldest whole segments go first."""

    keep_bytes: Annotated[int, msgspec.Meta(ge=1 << 20)] = 4 << 30


class ApiConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the API and the page listen. With a certificate (PEM, its chain in it) and key: over TLS, without which only on loopback."""

    host: str = "127.0.0.1"
    port: Port = 8460
    certificate: str = ""
    key: str = ""


class CloudConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that `cansight cloud run` needs."""

    state: str
    fleet_ca: str
    recipient_keys: Annotated[list[str], msgspec.Meta(min_length=1)]
    broker: BrokerConfig
    vehicle_model: Annotated[list[VehicleModelConfig], msgspec.Meta(min_length=1)]
    store: StoreConfig = msgspec.field(default_factory=StoreConfig)
    landing: LandingConfig = msgspec.field(default_factory=LandingConfig)
    revocation_list: str = ""  # the fleet's fleet-ca.crl; empty: the one beside fleet_ca, where there is one
    api: ApiConfig = msgspec.field(default_factory=ApiConfig)
    tickets: str = ""  # the ticket policy, see docs/tickets.md; empty: as shipped

    @property
    def revocation_file(self) -> Path | None:
        """The list that is read; None: there is none."""
        if self.revocation_list:
            return Path(self.revocation_list)
        beside = Path(self.fleet_ca).with_name("fleet-ca.crl")
        return beside if beside.exists() else None

    @property
    def database_url(self) -> str:
        """SQLAlchemy's address of the tables (streams, cursors, tickets)."""
        return f"sqlite:///{Path(self.state).absolute() / 'cansight.db'}"


def resolved(config: CloudConfig, base: Path) -> CloudConfig:
    """`config` with every relative path made absolute against `base` (the settings file's folder).

    Raises CloudError when two vehicle models have one name.
    """
    names = [model.name for model in config.vehicle_model]
    if twice := {name for name in names if names.count(name) > 1}:
        raise CloudError(f"vehicle_model: the name {sorted(twice)[0]!r} is used more than once; each vehicle model needs its own")

    def absolute(path: str) -> str:
        return str((base / path).absolute()) if path else ""

    replace = msgspec.structs.replace
    broker = config.broker
    influx = config.store.influx
    return replace(
        config,
        state=absolute(config.state),
        fleet_ca=absolute(config.fleet_ca),
        revocation_list=absolute(config.revocation_list),
        tickets=absolute(config.tickets),
        recipient_keys=[absolute(path) for path in config.recipient_keys],
        broker=replace(broker, ca=absolute(broker.ca), certificate=absolute(broker.certificate), key=absolute(broker.key)),
        vehicle_model=[
            replace(model, dbc=[absolute_argument(entry, base) for entry in model.dbc], catalogue=absolute(model.catalogue))
            for model in config.vehicle_model
        ],
        api=replace(config.api, certificate=absolute(config.api.certificate), key=absolute(config.api.key)),
        store=replace(
            config.store,
            influx=replace(influx, token_file=absolute(influx.token_file), password_file=absolute(influx.password_file)),
        ),
    )
