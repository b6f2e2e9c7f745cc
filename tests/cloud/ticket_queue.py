"""A ticket queue with a clock of its own for the tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from example_fleet import MODEL, START_MS, example_catalogue

from cloud.tickets.service import TicketService
from cloud.tickets.settings import Policy, load_policy

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000


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
def ticket_queue(folder: Path, policy: Policy | None = None, url: str = "") -> Iterator[tuple[TicketService, Clock]]:
    """An open service and its clock; `url`: of the empty database it is in, default a SQLite file in the folder."""
    clock = Clock()
    url = url or f"sqlite:///{folder / 'tickets.db'}"
    with TicketService(url, {MODEL: example_catalogue()}, now_ms=clock, policy=policy, audit_folder=folder / "audit") as service:
        yield service, clock


def policy_of(folder: Path, text: str) -> Policy:
    """The shipped policy with `text` over it."""
    path = folder / "policy.toml"
    path.write_text(text)
    return load_policy(path)
