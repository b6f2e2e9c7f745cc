"""The cloud's settings, as the TOML file lays them out. Plain checked values: reading the file is the command line's part.

A path is absolute, or relative to the settings file's folder (`resolved` makes it absolute).
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from cloud.errors import CloudError
from dbc.dbc_file import absolute_argument

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
_NAMED = "letters, digits, '_', '.' and '-', a letter or digit first"
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z", description=f"up to 63 {_NAMED}")]
Database = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z", description=f"up to 128 {_NAMED}")]
Kept = Annotated[str, msgspec.Meta(pattern=r"^([1-9][0-9]{0,4}d|forever)\Z", description="days like 90d, or forever")]
_REPLICA = "up to 32 small letters, digits and '-', a letter or digit first"
_SERVER = "a server's address like https://influx.example:8086"


def kept_days(kept: str) -> int | None:
    """ "90d" -> 90; None: for ever."""
    return None if kept == "forever" else int(kept.removesuffix("d"))


class TablesConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the tables (streams, cursors, tickets, tokens) are: "" is a SQLite file in the state folder, else a PostgreSQL.

    The password may stand in a file of its own. What libpq knows may stand behind a `?`, as `sslmode=verify-full&sslrootcert=...`.
    """

    url: str = ""
    password_file: str = ""


class BrokerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the MQTT broker is, and the mutual certificates to reach it with.

    `replica`: this aggregator's name among several that share the vehicles' messages, the tables and the store; "": it is alone. It
    connects as `aggregator-REPLICA`, for which `cansight pki replica` makes a certificate.
    """

    ca: str
    certificate: str
    key: str
    host: str = "localhost"
    port: Port = 8883
    replica: Annotated[str, msgspec.Meta(pattern=r"^(|[a-z0-9][a-z0-9-]{0,31})\Z", description=_REPLICA)] = ""


class VehicleModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One vehicle model: its DBC files (`FILE` or `FILE@CHANNEL`) and its signal catalogue."""

    name: Name
    dbc: Annotated[list[str], msgspec.Meta(min_length=1)]
    catalogue: str = ""


class InfluxConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An InfluxDB. Version 1 is addressed by `database`; version 2 by `organisation` and `bucket` (default: the database's name)."""

    url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s/?#]+/?\Z", description=_SERVER)] = "http://127.0.0.1:8086"
    version: Literal["auto", "1", "2"] = "auto"
    database: Database = "cansight"
    organisation: str = ""
    bucket: str = ""
    token_file: str = ""
    username: str = ""
    password_file: str = ""
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=300)] = 10.0
    gzip: bool = False  # requests compressed, where the network to the server is dearer than processor time
    # How long ticks, minutes and hours are kept, like "90d" or "forever"; `cansight cloud init` says it to the server.
    keep_ticks: Kept = "90d"
    keep_minutes: Kept = "800d"
    keep_hours: Kept = "forever"
    downsample: bool = True  # keep minutes and hours at all


class StoreConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which time-series store is written and read."""

    kind: Literal["embedded", "influx"] = "embedded"
    influx: InfluxConfig = msgspec.field(default_factory=InfluxConfig)


class LakeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether ticks are kept as Parquet, too, where ("": in the state folder), and how long, like "730d" or "forever"."""

    enabled: bool = True
    path: str = ""
    keep: Kept = "forever"


class QualityConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the data quality of a vehicle's day is kept, like "800d" or "forever"."""

    keep: Kept = "forever"


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
    database: TablesConfig = msgspec.field(default_factory=TablesConfig)
    landing: LandingConfig = msgspec.field(default_factory=LandingConfig)
    lake: LakeConfig = msgspec.field(default_factory=LakeConfig)
    quality: QualityConfig = msgspec.field(default_factory=QualityConfig)
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
    def lake_folder(self) -> Path:
        """Where the lake is."""
        return Path(self.lake.path) if self.lake.path else Path(self.state).absolute() / "lake"

    @property
    def database_url(self) -> str:
        """SQLAlchemy's address of the tables, with the password in it. Raises CloudError where that cannot be read."""
        if not self.database.url:
            return f"sqlite:///{Path(self.state).absolute() / 'cansight.db'}"
        scheme, _, _ = self.database.url.partition("://")
        try:
            if scheme != "postgresql":
                raise ValueError
            url = make_url(self.database.url).set(drivername="postgresql+psycopg")
            if not url.database:
                raise ValueError
        except (ArgumentError, ValueError):
            raise CloudError(f"database.url: expected postgresql://USER@HOST:PORT/DATABASE, found {scheme[:20]!r}://…") from None
        if self.database.password_file:
            path = Path(self.database.password_file)
            try:
                url = url.set(password=path.read_text(encoding="utf-8").strip())
            except (OSError, UnicodeDecodeError) as error:
                raise CloudError(f"{path}: database.password_file cannot be read: {getattr(error, 'strerror', error)}") from error
        return url.render_as_string(hide_password=False)


def resolved(config: CloudConfig, base: Path) -> CloudConfig:
    """`config` with every relative path made absolute against `base` (the settings file's folder).

    Raises CloudError when two vehicle models have one name, or a replica would not share what replicas share.
    """
    if config.broker.replica and not config.database.url:
        raise CloudError("broker.replica: replicas share their tables; expected the PostgreSQL they share as database.url, found none")
    if config.broker.replica and config.store.kind == "embedded":
        raise CloudError("broker.replica: replicas share their store; expected store.kind influx, found embedded")
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
        database=replace(config.database, password_file=absolute(config.database.password_file)),
        broker=replace(broker, ca=absolute(broker.ca), certificate=absolute(broker.certificate), key=absolute(broker.key)),
        vehicle_model=[
            replace(model, dbc=[absolute_argument(entry, base) for entry in model.dbc], catalogue=absolute(model.catalogue))
            for model in config.vehicle_model
        ],
        lake=replace(config.lake, path=absolute(config.lake.path)),
        api=replace(config.api, certificate=absolute(config.api.certificate), key=absolute(config.api.key)),
        store=replace(
            config.store,
            influx=replace(influx, token_file=absolute(influx.token_file), password_file=absolute(influx.password_file)),
        ),
    )
