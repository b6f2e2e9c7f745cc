"""The loop's real processes for the tests: `cansight edge run`, `cansight cloud run`, with settings as an operator would write them."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

import servers
from cloud.config import CloudConfig
from cloud.roles import Role
from cloud.tokens import Tokens

WAIT_S = 120.0
ANSWER_S = 60.0  # a loaded machine's; a process that is gone is known at once
TOKENS: dict[str, str] = {}
"""The operator's token of each cloud that `cloud_settings` has laid out, by the URL of its API."""


def edge_settings(folder: Path, pki: Path, port: int, vehicle: str, log: Path, files: list[str], **sections: dict[str, Any]) -> Path:
    """Settings of an agent that replays `log` and ends when every batch has its receipt."""
    document: dict[str, Any] = {
        "vehicle": vehicle,
        "state": str(folder / vehicle),
        "source": {"log": str(log), "speed": 0.0},
        "dbc": {"files": files},
        "broker": broker(pki, port, f"vehicles/{vehicle}"),
        "recipients": {"files": [str(pki / "recipient.json")]},
        "health": {"ledger": str(folder / f"{vehicle}.csv")},
        "run": {"stop_when_drained": True},
    }
    for name, section in sections.items():
        document[name] = document.get(name, {}) | section
    return write(folder / f"{vehicle}.toml", document)


def cloud_settings(folder: Path, pki: Path, port: int, dbc: list[str], store: dict[str, Any], **more: Any) -> tuple[Path, str]:
    """Settings of an aggregator, and the URL of its API, whose token is in TOKENS from then on."""
    api = servers.free_port()
    document = {
        "state": str(folder / "cloud"),
        "fleet_ca": str(pki / "fleet-ca.pem"),
        "recipient_keys": [str(pki / "recipient.key")],
        "broker": broker(pki, port, "aggregator"),
        "vehicle_model": [{"name": "mustang", "dbc": dbc}],
        "store": store,
        "api": {"host": "127.0.0.1", "port": api},
    } | more
    settings, url = write(folder / "cloud.toml", document), f"http://127.0.0.1:{api}"
    with Tokens(msgspec.convert(document, CloudConfig).database_url) as tokens:
        TOKENS[url] = tokens.create(f"tests at {api}", Role.OPERATOR)
    return settings, url


def broker(pki: Path, port: int, certificate: str) -> dict[str, Any]:
    return {
        "host": "localhost",
        "port": port,
        "ca": str(pki / "fleet-ca.pem"),
        "certificate": str(pki / f"{certificate}.pem"),
        "key": str(pki / f"{certificate}.key"),
    }


def write(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(tomli_w.dumps(document))
    return path


def cansight(*arguments: str | Path, log: Path) -> subprocess.Popen[bytes]:
    """Start `cansight ARGUMENTS`; what it says goes to `log`."""
    with log.open("ab") as stream:
        command = [sys.executable, "-m", "cansight", *map(str, arguments)]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)


def get(url: str) -> Any:
    """The API's JSON answer, None while it is not there. One that comes late is an answer, too."""
    try:
        with urllib.request.urlopen(asking(url), timeout=ANSWER_S) as answer:
            return json.loads(answer.read() or b"null")
    except OSError:
        return None


def asking(url: str) -> urllib.request.Request:
    """A request with the operator's token, where the API is one of `cloud_settings`."""
    token = next((token for api, token in TOKENS.items() if url.startswith(api)), "")
    return urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})


def until(condition: Callable[[], bool], what: str, wait_s: float = WAIT_S) -> None:
    """Poll until `condition`; fails naming `what` when that takes longer than any machine should need."""
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {wait_s:.0f} s for {what}"
        time.sleep(0.05)
