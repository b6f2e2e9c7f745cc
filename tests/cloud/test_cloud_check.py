"""`cansight cloud check` says what the broker would: whose certificate, whose CA, until when."""

from pathlib import Path

import msgspec
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

import servers
from cloud import pki as fleet
from cloud.check import Check, check
from cloud.config import CloudConfig

EV = Path(__file__).parents[2] / "dbc" / "vehicles" / "cansight_ev"


@pytest.fixture(params=["mosquitto", "embedded_broker"])
def port(request: pytest.FixtureRequest) -> int:
    server: servers.Server = request.getfixturevalue(request.param)
    return server.port


def checked(tmp_path: Path, pki: Path, port: int, certificate: Path, replica: str = "") -> dict[str, Check]:
    document = {
        "state": str(tmp_path / "cloud"),
        "fleet_ca": str(pki / "fleet-ca.pem"),
        "recipient_keys": [str(pki / "recipient.key")],
        "broker": {
            "host": "localhost",
            "port": port,
            "ca": str(pki / "fleet-ca.pem"),
            "certificate": str(certificate.with_suffix(".pem")),
            "key": str(certificate.with_suffix(".key")),
            "replica": replica,
        },
        "vehicle_model": [{"name": "ev", "dbc": [f"{EV / 'body.dbc'}@can1"]}],
        "api": {"port": servers.free_port()},
    }
    return {one.what.split()[0]: one for one in check(msgspec.convert(document, CloudConfig))}


def test_the_aggregators_own_certificate_is_taken(tmp_path: Path, pki: Path, port: int) -> None:
    found = checked(tmp_path, pki, port, pki / "aggregator")
    assert all(one.ok for one in found.values()), found
    assert "takes this certificate" in found["broker"].words


def test_another_fleets_certificate_is_refused_and_said(tmp_path: Path, pki: Path, port: int) -> None:
    fleet.init(tmp_path / "other")
    found = checked(tmp_path, pki, port, tmp_path / "other" / "aggregator")
    assert not found["certificates"].ok
    assert "was not issued by the fleet CA" in found["certificates"].words
    assert not found["broker"].ok
    assert "refuses the certificate" in found["broker"].words


def test_a_certificate_that_has_run_out_is_refused_and_said(tmp_path: Path, pki: Path, port: int) -> None:
    ca, key = fleet.load_ca(pki)
    fleet._issue(tmp_path / "old", "aggregator", ca, key, ExtendedKeyUsageOID.CLIENT_AUTH, 0)
    found = checked(tmp_path, pki, port, tmp_path / "old")
    assert "old.pem: is valid from" in found["certificates"].words
    assert "refuses the certificate" in found["broker"].words


def test_a_vehicles_certificate_is_not_the_aggregators(tmp_path: Path, pki: Path, port: int) -> None:
    found = checked(tmp_path, pki, port, pki / "vehicles" / fleet.vehicle(pki))
    assert "expected the common name aggregator, found" in found["certificates"].words


def test_somebody_else_on_the_port_is_no_broker_and_a_replicas_lake_is_named_as_its_own(tmp_path: Path, pki: Path) -> None:
    found = checked(tmp_path, pki, servers.free_port(), pki / "aggregator", replica="a")
    assert not found["broker"].ok
    assert "its own, with its share of every vehicle's batches" in found["lake"].words
