"""`cansight cloud check`: try everything the settings name, and say of each whether it will do."""

import errno
import fcntl
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from cloud.certificates import common_name, issued_by, validity
from cloud.config import BrokerConfig, CloudConfig
from cloud.errors import CloudError
from cloud.inlet import tls_context
from cloud.pki import load_certificate
from cloud.pki_files import load_certificates
from cloud.replica_names import client_id
from cloud.revocation import Revocations
from cloud.tables import TABLES_AWAY, make_engine, one_line, parsed, shown
from cloud.versions import NEWEST, version_of
from dbc.errors import DbcError
from wire.errors import WireError

CONNECT_S = 5.0
REFUSED_S = 1.0  # for a broker to send its alert
CLOCK_S = 2.0
MADE_S = 1_790_000_000  # September 2026


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    ok: bool
    words: str


def check(config: CloudConfig) -> list[Check]:
    """Every check, none left out because an earlier one failed. Changes nothing but the DBC cache."""
    from cloud.app import Parts

    def files() -> str:
        parts = Parts(config)
        models = ", ".join(f"{name} ({len(model.schema)} signals)" for name, model in parts.models.items())
        return f"certificates, {len(parts.recipient_keys)} recipient key(s), {models}"

    return [
        _try("files", files),
        _try("certificates", lambda: aggregators_certificate(config.broker)),
        _try("revocations", lambda: _revocations(config)),
        _try(f"broker {config.broker.host}:{config.broker.port}", lambda: _broker(config.broker)),
        _try("database", lambda: _database(config)),
        _try(f"store {config.store.kind}", lambda: _store(config)),
        *([_try("lake", lambda: _lake(config))] if config.lake.enabled and config.broker.replica else []),
        _try("clock", lambda: _clock(config)),
        _try(f"api {config.api.host}:{config.api.port}", lambda: _port(config)),
    ]


def _try(what: str, look: Callable[[], str]) -> Check:
    try:
        return Check(what, True, look())
    except (CloudError, DbcError, WireError, OSError) as error:
        return Check(what, False, " ".join(str(error).split()))


def _broker(config: BrokerConfig) -> str:
    context = tls_context(config)
    with (
        socket.create_connection((config.host, config.port), CONNECT_S) as plain,
        context.wrap_socket(plain, server_hostname=config.host) as secure,
    ):
        secure.settimeout(REFUSED_S)
        refusal = "the connection was closed"
        try:  # TLS 1.3 judges the client's certificate after the handshake; a broker that takes it waits for us to speak
            if secure.recv(1):
                raise CloudError("answers, but not as an MQTT broker does: it spoke first")
        except TimeoutError:
            return f"answers with {secure.version()}, and takes this certificate"
        except OSError as error:
            refusal = getattr(error, "reason", None) or str(error)
    raise CloudError(f"refuses the certificate {config.certificate}: {refusal}")


def aggregators_certificate(broker: BrokerConfig) -> str:
    """What the broker will judge of the aggregator's certificate, before it does; until when it is good. Raises CloudError."""
    cas, own = load_certificates(Path(broker.ca)), load_certificate(Path(broker.certificate))
    now = datetime.now(UTC)
    issuer = issued_by(own, cas)
    for path, one in ((broker.ca, issuer or cas[0]), (broker.certificate, own)):
        if not one.not_valid_before_utc <= now <= one.not_valid_after_utc:
            raise CloudError(f"{path}: is valid from {validity(one)}, and now it is {now:%Y-%m-%d %H:%M} UTC; `cansight pki renew`")
    if issuer is None:
        raise CloudError(f"{broker.certificate}: was not issued by the fleet CA {broker.ca} (broker.ca)")
    name = client_id(broker.replica)
    if common_name(own) != name:
        raise CloudError(f"{broker.certificate}: expected the common name {name}, found {common_name(own) or 'none'}")
    return f"{name}, until {own.not_valid_after_utc:%Y-%m-%d}"


def _revocations(config: CloudConfig) -> str:
    path = config.revocation_file
    if path is None:
        beside = Path(config.fleet_ca).with_name("fleet-ca.crl")
        raise CloudError(f"no revocation list is read; put the fleet's {beside.name} at {beside}, or name it as revocation_list")
    read = Revocations(path, load_certificates(Path(config.fleet_ca)))
    read.load()
    return f"{path}: {len(read)} certificate(s) revoked"


def _database(config: CloudConfig) -> str:
    """Answers, and its tables are of our version; nothing is made where there are none."""
    url = parsed(config.database_url, "database.url")
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return f"{url.database}: not there yet; made at the first start"
    engine = make_engine(url)
    try:
        with engine.connect() as db:
            found = version_of(db)
            server = ".".join(map(str, db.dialect.server_version_info or ()))
    except (SQLAlchemyError, *TABLES_AWAY) as error:
        raise CloudError(f"{shown(url)}: {one_line(error)}") from error
    finally:
        engine.dispose()
    if found == NEWEST:
        return f"{url.database} on {url.get_backend_name()} {server}, tables of version {found}"
    words = "it has no tables" if found is None else f"its tables are of version {found}, this program's are {NEWEST}"
    raise CloudError(f"{shown(url)}: {words}; `cansight cloud init`")


def _lake(config: CloudConfig) -> str:
    """Of replicas, which it is: of half of the ticks nobody should learn when a detector is trained on them."""
    if config.lake.path:
        return f"{config.lake_folder}, into which the other replicas are to write, too"
    return f"{config.lake_folder}: its own, with its share of every vehicle's batches; give all replicas one lake.path (docs/lake.md)"


def _clock(config: CloudConfig) -> str:
    """Against the database's, or the store's: a cloud whose clock is wrong places what vehicles send at a wrong time."""
    ours_s, theirs_s, who = time.time(), None, ""
    if config.database.url:
        engine = make_engine(parsed(config.database_url, "database.url"))
        try:
            with engine.connect() as db:
                ours_s = time.time()
                theirs_s, who = float(db.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one()), "the database's"
        except (SQLAlchemyError, *TABLES_AWAY) as error:
            raise CloudError(f"cannot be compared: {one_line(error)}") from error
        finally:
            engine.dispose()
    if ours_s < MADE_S:
        raise CloudError(f"says {datetime.fromtimestamp(ours_s, UTC):%Y-%m-%d}, which is before this program was made; set the time")
    if theirs_s is None:
        return f"{datetime.fromtimestamp(ours_s, UTC):%Y-%m-%d %H:%M:%S} UTC; there is no other to compare it with"
    if abs(theirs_s - ours_s) > CLOCK_S:
        raise CloudError(f"is {ours_s - theirs_s:+.1f} s off {who}; let both be set by NTP")
    return f"{ours_s - theirs_s:+.3f} s off {who}"


def _store(config: CloudConfig) -> str:
    if config.store.kind == "embedded":
        return f"{config.state}/store.db"
    from cloud.stores.influx_http import InfluxServer

    server = InfluxServer(config.store.influx)
    server.open()
    try:
        return f"{server.url}, written as version {server.version(ask=True)}"
    finally:
        server.close()


def _port(config: CloudConfig) -> str:
    family = socket.AF_INET6 if ":" in config.api.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.api.host, config.api.port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _runs(config):
                raise
            return "in use, and a cloud runs on this state folder"
    return "free"


def _runs(config: CloudConfig) -> bool:
    """Whether a cloud has this state folder: it holds the landing log's lock."""
    try:
        with (Path(config.state) / "landing" / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
