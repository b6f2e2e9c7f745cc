"""What every suite shares: the real test material and the real servers."""

import os
import secrets
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest
from xdist.scheduler import LoadScopeScheduling

import servers

T = TypeVar("T", bound=servers.Server)

# The background of a script ignores it, and so would every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class ByWhatIsShared(LoadScopeScheduling):
    """Which worker runs what: a file whose fixtures live as long as its module goes to one as a whole, and early; every other test alone.

    The groups that pytest-xdist 3.8 makes of its own mark do nothing under pytest 9.2: each worker started the virtual machine.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if _shares(self.config.rootpath / file) else nodeid


@cache
def _shares(file: Path) -> bool:
    return 'scope="module"' in file.read_text(encoding="utf-8")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long forms that have no short one are not chosen, rather than skipped: a test that is skipped says that something is missing here."""
    if os.environ.get("CANSIGHT_SOAK"):
        return
    if long := [item for item in items if item.get_closest_marker("soak")]:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


def pytest_configure(config: pytest.Config) -> None:
    """Hypothesis judges no time: by itself it fails an example that takes 0.2 s, and data that take a second, of whatever machine."""
    config.addinivalue_line("markers", "soak: a long form, chosen by CANSIGHT_SOAK=1")
    if config.pluginmanager.hasplugin("hypothesispytest"):  # the virtual machine's suite runs without: it would take seconds to import
        from hypothesis import HealthCheck, settings

        settings.register_profile("untimed", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        settings.load_profile("untimed")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return ByWhatIsShared(config, log)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Recorded logs and DBC files of real vehicles; not part of the repository."""
    root = Path(__file__).parent.parent
    folder = Path(os.environ.get("CANSIGHT_TEST_DATA", root.parent / "shared" / "data"))
    if not folder.is_dir():
        servers.leave_out(f"no test material at {folder}; name its folder with CANSIGHT_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def chromium_path() -> str:
    return servers.program("chromium", "chromium")


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    """A fleet's certificates and keys, as `cansight pki init` makes them."""
    from cloud.pki import init

    folder = tmp_path / "pki"
    init(folder)
    return folder


@pytest.fixture
def mosquitto(tmp_path: Path, pki: Path) -> Iterator[servers.Server]:
    yield from _running(servers.mosquitto(_folder(tmp_path, "mosquitto"), pki))


@pytest.fixture
def embedded_broker(tmp_path: Path, pki: Path) -> Iterator[servers.Server]:
    yield from _running(servers.embedded_broker(_folder(tmp_path, "broker"), pki))


@pytest.fixture
def influxdb(tmp_path: Path) -> Iterator[servers.HttpServer]:
    server = servers.influxdb(_folder(tmp_path, "influxdb"))
    yield from _running(server)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Postgres]:
    """One for all who do not stop it; each makes a database of its own."""
    server = servers.Postgres(tmp_path_factory.mktemp("postgres"))
    server.start()
    try:
        yield server
    finally:
        server.end()


@pytest.fixture
def make_tables(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Makes an empty database, "sqlite" or "postgresql": its address."""

    def make(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path / 'cansight.db'}"
        server: servers.Postgres = request.getfixturevalue("postgres")
        return server.make(f"t{secrets.token_hex(8)}")

    return make


@pytest.fixture
def victoria_metrics(tmp_path: Path) -> Iterator[servers.HttpServer]:
    server = servers.victoria_metrics(_folder(tmp_path, "victoria-metrics"))
    yield from _running(server)


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir(mode=0o700)
    return folder


def _running(server: T) -> Iterator[T]:
    server.start()
    try:
        yield server
    finally:
        server.stop()
