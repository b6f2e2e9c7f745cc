"""The demonstration's folder: certificates, keys, signed packs and settings for every process, as an operator would lay them out."""

import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

import tomli_w

import models
from cansight.errors import UsageError
from dbc.vehicles import CATALOGUE as CAR_CATALOGUE
from dbc.vehicles import DBC_FILES as CAR_DBC

PACKS = Path(models.__file__).parent / "packs"

__all__ = ["CAR_CATALOGUE", "CAR_DBC", "PACKS", "Endpoint", "Stage", "Vehicle", "require_free"]


@dataclass(frozen=True)
class Endpoint:
    """Where something listens; `token`: of the API, where it is that."""

    host: str
    port: int
    token: str = ""


@dataclass(frozen=True)
class Vehicle:
    """One vehicle of the demonstration and where its frames come from."""

    vehicle: str
    model: str
    scenario: str  # "" for a recorded log
    source: Path  # the log, or the FIFO that the simulator writes
    speed: float  # pace at which the edge replays the source; 0: as the simulator writes it
    seed: int
    config: Path
    state: Path

    @property
    def status(self) -> Path:
        return self.state / "status.json"

    @property
    def ledger(self) -> Path:
        return self.state / "ticks.csv"


def require_free(port: int, option: str) -> None:
    """Raises UsageError when somebody listens on `port` already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UsageError(f"port {port} on 127.0.0.1 is in use ({error.strerror}); choose another with {option} PORT") from error


class Stage:
    """Lays the folder out; every method writes files and returns where they are."""

    def __init__(self, folder: Path, broker: Endpoint, page: Endpoint, pki: Path | None = None) -> None:
        self.folder = folder
        self.broker = broker
        self.page = page
        self.pki = pki or folder / "pki"
        self.own_pki = pki is None

    def prepare(self) -> None:
        """Make the fleet's certificates and keys, unless the user brought them."""
        from cloud import pki

        if self.own_pki:
            pki.init(self.pki)
        (self.folder / "logs").mkdir(mode=0o700)

    def sign_packs(self) -> list[Path]:
        """Copies of the shipped packs, signed with this fleet's key: an agent trusts its own fleet, not the factory."""
        from models.pack import load_private_key, sign

        key = load_private_key(self.pki / "pack.key")
        folders = []
        for source in sorted(path for path in PACKS.iterdir() if (path / "manifest.json").exists()):
            folder = self.folder / "packs" / source.name
            shutil.copytree(source, folder)
            sign(folder, key)
            folders.append(folder)
        return folders

    def cloud(self, model: str, dbc_files: tuple[str, ...], catalogue: Path | None, store: dict[str, object]) -> Path:
        """Settings of the aggregator."""
        vehicle_model: dict[str, object] = {"name": model, "dbc": list(dbc_files)}
        if catalogue is not None:
            vehicle_model["catalogue"] = str(catalogue)
        document: dict[str, object] = {
            "state": str(self.folder / "cloud"),
            "fleet_ca": str(self.pki / "fleet-ca.pem"),
            "recipient_keys": [str(self.pki / "recipient.key")],
            "broker": self._broker("aggregator"),
            "vehicle_model": [vehicle_model],
            "store": store,
            "api": {"host": self.page.host, "port": self.page.port},
        }
        return self._write("cloud.toml", document)

    def operators_token(self, cloud: Path) -> str:
        """A token for the page and for what watches the demonstration, of the cloud with these settings."""
        from cansight import settings
        from cloud.config import CloudConfig
        from cloud.roles import Role
        from cloud.tokens import Tokens

        with Tokens(settings.load(cloud, CloudConfig).database_url) as tokens:
            token = tokens.create("demo", Role.OPERATOR)
        path = self.folder / "operator.token"
        path.touch(mode=0o600)
        path.write_text(token)
        return token

    def vehicle(
        self,
        model: str,
        scenario: str,
        seed: int,
        log: Path | None,
        speed: float,
        dbc_files: tuple[str, ...],
        catalogue: Path | None,
        packs: list[Path],
    ) -> Vehicle:
        """A vehicle with its certificate, its settings, and a FIFO for its simulated frames unless `log` is given."""
        from cloud import pki

        vehicle = pki.vehicle(self.pki)
        state = self.folder / vehicle
        state.mkdir(mode=0o700)
        source = log
        if source is None:
            source = state / "frames.fifo"
            os.mkfifo(source, 0o600)
        document: dict[str, object] = {
            "vehicle": vehicle,
            "state": str(state),
            "source": {"log": str(source), "speed": float(speed) if log else 0.0},
            "dbc": {"files": list(dbc_files)} | ({"catalogue": str(catalogue)} if catalogue else {}),
            "packs": {"folders": [str(folder) for folder in packs], "trusted_key": str(self.pki / "pack.pub.pem")},
            "broker": self._broker(f"vehicles/{vehicle}"),
            "recipients": {"files": [str(self.pki / "recipient.json")]},
            "health": {"ledger": str(state / "ticks.csv"), "status_s": 1.0},
            "run": {"stop_when_drained": True},
        }
        config = self._write(f"{vehicle}.toml", document)
        return Vehicle(vehicle, model, scenario, source, float(speed), seed, config, state)

    def log(self, name: str) -> Path:
        """The file that takes what the process `name` says."""
        return self.folder / "logs" / f"{name}.log"

    def _broker(self, certificate: str) -> dict[str, object]:
        return {
            "host": self.broker.host,
            "port": self.broker.port,
            "ca": str(self.pki / "fleet-ca.pem"),
            "certificate": str(self.pki / f"{certificate}.pem"),
            "key": str(self.pki / f"{certificate}.key"),
        }

    def _write(self, name: str, document: dict[str, object]) -> Path:
        path = self.folder / name
        path.write_text(tomli_w.dumps(document))
        return path
