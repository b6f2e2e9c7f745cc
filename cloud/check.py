"""`cansight cloud check`: try everything the settings name, and say of each whether it will do."""

import socket
from collections.abc import Callable
from dataclasses import dataclass

from cloud.config import BrokerConfig, CloudConfig
from cloud.errors import CloudError
from cloud.inlet import tls_context
from dbc.errors import DbcError
from wire.errors import WireError

CONNECT_S = 5.0


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
        _try(f"broker {config.broker.host}:{config.broker.port}", lambda: _broker(config.broker)),
        _try(f"store {config.store.kind}", lambda: _store(config)),
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
        return f"answers with {secure.version()}"


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
        probe.bind((config.api.host, config.api.port))
    return "free"
