"""mosquitto and influxd on this machine, for a demonstration on the real ones: unprivileged, in its folder, on free ports."""

import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

from cansight.demo.processes import Child
from cansight.demo.stage import Endpoint
from cansight.errors import UsageError, WorkFailed
from cansight.ports import free_port

READY_S = 30.0


def program(name: str, package: str) -> str:
    """The full path of a server's program; UsageError names the package that brings it."""
    found = shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin") or shutil.which(name)
    if found is None:
        raise UsageError(f"{name} is not installed; on Debian and Ubuntu: apt install {package}")
    return found


def mosquitto(folder: Path, pki: Path, endpoint: Endpoint, log: Path) -> Child:
    """mosquitto with mutual TLS and one access rule per vehicle."""
    from cloud.mosquitto_config import mosquitto_config

    folder.mkdir(mode=0o700)
    config = mosquitto_config(pki, folder, endpoint.host, endpoint.port)
    return Child("broker (mosquitto)", ["-c", str(config)], log, restart=True, program=[program("mosquitto", "mosquitto")])


def influxd(folder: Path, log: Path, data: str = "") -> tuple[Child, str]:
    """InfluxDB 1.x and its URL. data: more lines of the configuration's [data] section."""
    folder.mkdir(mode=0o700)
    port, rpc = free_port(), free_port()
    config = folder / "influxdb.conf"
    config.write_text(
        f"""reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
dir = "{folder}/meta"
[data]
dir = "{folder}/data"
wal-dir = "{folder}/wal"
query-log-enabled = false
{data}
[http]
bind-address = "127.0.0.1:{port}"
log-enabled = false
[monitor]
store-enabled = false
"""
    )
    child = Child("InfluxDB", ["-config", str(config)], log, restart=True, program=[program("influxd", "influxdb")])
    return child, f"http://127.0.0.1:{port}"


def listening(endpoint: Endpoint) -> bool:
    """Whether somebody accepts connections there."""
    try:
        with socket.create_connection((endpoint.host, endpoint.port), timeout=1):
            return True
    except (OSError, UnicodeError):  # UnicodeError: no name that could be looked up
        return False


def wait_until(ready: Callable[[], bool], child: Child, what: str) -> None:
    """Poll `ready` until it is true; WorkFailed when `child` dies first or READY_S pass."""
    deadline = time.monotonic() + READY_S
    while not ready():
        if child.returncode not in (None, 0):
            raise WorkFailed(f"{what}: the {child.name} ended with exit code {child.returncode}: {child.last_line()}")
        if time.monotonic() > deadline:
            raise WorkFailed(f"{what}: not ready within {READY_S:.0f} s; {child.name} said last: {child.last_line()}")
        time.sleep(0.05)
