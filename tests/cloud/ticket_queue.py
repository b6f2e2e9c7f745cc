"""A ticket queue with a clock of its own for the tests, on SQLite or on the PostgreSQL that CANSIGHT_TEST_POSTGRES names."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from example_fleet import MODEL, START_MS, example_catalogue
from sqlalchemy import create_engine, make_url

from cloud.tickets.service import TicketService
from cloud.tickets.settings import Policy, load_policy

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
POSTGRES = os.environ.get("CANSIGHT_TEST_POSTGRES", "")


class Clock:
    """The cloud's wall clock, which the test turns."""

    def __init__(self) -> None:
        self.ms = START_MS

    def __call__(self) -> int:
        return self.ms

    def on(self, ms: int) -> int:
        self.ms += ms
        return self.ms


@contextmanager
def database(folder: Path) -> Iterator[str]:
    """The address of an empty database."""
    if not POSTGRES:
        yield f"sqlite:///{folder / 'tickets.db'}"
        return
    server = create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    name = f"t{secrets.token_hex(8)}"
    with server.connect() as db:
        db.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield make_url(POSTGRES).set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as db:
            db.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        server.dispose()


@contextmanager
def ticket_queue(folder: Path, policy: Policy | None = None) -> Iterator[tuple[TicketService, Clock]]:
    """An open service and its clock."""
    clock = Clock()
    with (
        database(folder) as url,
        TicketService(url, {MODEL: example_catalogue()}, now_ms=clock, policy=policy, audit_folder=folder / "audit") as service,
    ):
        yield service, clock


def policy_of(folder: Path, text: str) -> Policy:
    """The shipped policy with `text` over it."""
    path = folder / "policy.toml"
    path.write_text(text)
    return load_policy(path)
