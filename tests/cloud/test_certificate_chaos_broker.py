"""Certificate chaos at the brokers: expired, not yet valid, revoked, of another CA, of another name or usage: nobody gets in, others stay.

One command for the whole suite: `python -m pytest tests -k certificate_chaos`.
"""

import re
import signal
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cloud_vehicle import Client
from cryptography.x509.oid import ExtendedKeyUsageOID
from fleet_certificates import VEHICLE, lay_down
from paho.mqtt.enums import MQTTProtocolVersion

import servers
from cloud.errors import CloudError, PkiError
from cloud.mosquitto_config import MAX_PACKET_BYTES, check_mosquitto, mosquitto_config, write_rules
from cloud.pki import drop_old_ca, init, load_certificate, renew, renew_ca
from cloud.pki import vehicle as enrol
from cloud.pki_revocation import load_revocation_lists, revoke
from processes import until
from wire.envelope import MAX_BATCH_BYTES
from wire.topics import UP_FILTER, down, up


@pytest.fixture(params=["mosquitto", "embedded_broker"])
def broker(request: pytest.FixtureRequest) -> tuple[servers.Server, Any]:
    five = request.param == "mosquitto"
    return request.getfixturevalue(request.param), MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311


def gets_in(pki: Path, port: int, who: str, protocol: Any = MQTTProtocolVersion.MQTTv5, *, client_id: str | None = None) -> bool:
    with Client(pki, port, who, protocol=protocol, client_id=client_id) as client:
        assert bool(client.refused) is (client.connack is None or client.connack.is_failure)
        return not client.refused


def reload(server: servers.Server) -> None:
    """SIGHUP, and wait for mosquitto to say that it has read it all."""
    assert server.process is not None
    said = server.log_text.count("Reloading config.")
    server.process.send_signal(signal.SIGHUP)
    until(lambda: server.log_text.count("Reloading config.") > said, "the reload")


def test_bad_certificates_do_not_get_in(broker: tuple[servers.Server, Any], pki: Path, tmp_path: Path) -> None:
    server, protocol = broker
    init(tmp_path / "other")
    lay_down(pki, "expired", begin_h=-48, end_h=-1)
    lay_down(pki, "early", begin_h=1, end_h=48)
    lay_down(pki, "stranger", issuer=tmp_path / "other")
    lay_down(pki, "server", usage=ExtendedKeyUsageOID.SERVER_AUTH)
    lay_down(pki, "good")
    for bad in ("expired", "early", "stranger", "server"):
        assert not gets_in(pki, server.port, bad, protocol, client_id=VEHICLE), bad
    assert gets_in(pki, server.port, "good", protocol, client_id=VEHICLE)


def test_a_name_that_is_no_vehicles_reaches_nothing(broker: tuple[servers.Server, Any], pki: Path) -> None:
    server, protocol = broker
    victim = enrol(pki)
    lay_down(pki, "odd", name="#")
    with Client(pki, server.port, "aggregator", protocol=protocol) as cloud, Client(pki, server.port, victim, protocol=protocol) as car:
        assert cloud.subscribe(UP_FILTER) == 1
        with Client(pki, server.port, "odd", client_id="#", protocol=protocol) as odd:
            if not odd.refused:
                odd.publish(up(victim), b"forged")
                odd.subscribe(down(victim))
                cloud.publish(down(victim), b"receipt")
                assert odd.heard == []
        car.publish(up(victim), b"genuine")
        cloud.until(lambda: bool(cloud.heard), "the batch")
        assert cloud.heard == [(up(victim), b"genuine")]


def test_a_broker_of_another_name_or_fleet_is_not_believed(broker: tuple[servers.Server, Any], pki: Path, tmp_path: Path) -> None:
    server, _ = broker
    context = ssl.create_default_context(cafile=str(pki / "fleet-ca.pem"))
    context.load_cert_chain(pki / "aggregator.pem", pki / "aggregator.key")
    with socket.create_connection(("127.0.0.1", server.port), 10) as plain, pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        context.wrap_socket(plain, server_hostname="broker.example.com")
    init(tmp_path / "other")
    context = ssl.create_default_context(cafile=str(tmp_path / "other" / "fleet-ca.pem"))
    with socket.create_connection(("127.0.0.1", server.port), 10) as plain, pytest.raises(ssl.SSLCertVerificationError):
        context.wrap_socket(plain, server_hostname="localhost")


def test_a_revoked_vehicle_is_shut_out_by_a_reload(mosquitto: servers.Server, pki: Path) -> None:
    lost, other = enrol(pki), enrol(pki)
    with Client(pki, mosquitto.port, lost) as thief, Client(pki, mosquitto.port, other) as car:
        assert not thief.refused
        revoke(pki, [lost], "lost")
        assert gets_in(pki, mosquitto.port, lost)  # mosquitto does not know yet
        reload(mosquitto)
        assert not gets_in(pki, mosquitto.port, lost)
        assert gets_in(pki, mosquitto.port, "aggregator")
        assert car.publish(up(other), b"goes on") < 0x80
    assert "certificate verify failed" in mosquitto.log_text


def test_a_revoked_vehicle_that_is_connected_loses_its_topics(mosquitto: servers.Server, pki: Path) -> None:
    lost = enrol(pki)
    with Client(pki, mosquitto.port, lost) as thief, Client(pki, mosquitto.port, "aggregator") as cloud:
        assert cloud.subscribe(UP_FILTER) == 1
        thief.listen()
        assert thief.publish(up(lost), b"before") == 0
        revoke(pki, [lost])
        write_rules(pki, mosquitto.folder)
        reload(mosquitto)
        assert thief.publish(up(lost), b"after") == 0x87  # not authorised
        cloud.publish(down(lost), b"secret")
        thief.subscribe(down(lost))
        cloud.publish(down(lost), b"secret")
        assert thief.publish(up(lost), b"again") == 0x87  # whatever came before this answer has come
        assert cloud.heard == [(up(lost), b"before")]
        assert thief.heard == []


def test_two_revocations_within_one_second_both_count(mosquitto: servers.Server, pki: Path) -> None:
    """Of two lists of one date OpenSSL keeps the older."""
    first, second, third = enrol(pki), enrol(pki), enrol(pki)
    for lost in (first, second):
        revoke(pki, [lost])
        reload(mosquitto)
    assert [gets_in(pki, mosquitto.port, who) for who in (first, second, third)] == [False, False, True]


def test_the_old_and_the_new_ca_overlap(mosquitto: servers.Server, pki: Path) -> None:
    """In the order of docs/pki.md: trust both, then certify by the new one, then trust it alone."""
    old, lost = enrol(pki), enrol(pki)
    renew_ca(pki)
    new = enrol(pki)
    assert load_certificate(pki / "vehicles" / f"{new}.pem").issuer != load_certificate(pki / "vehicles" / f"{old}.pem").issuer
    revoke(pki, [lost])
    mosquitto.stop()
    mosquitto.start()  # a new CA takes a restart
    assert [gets_in(pki, mosquitto.port, who) for who in (old, new, lost, "aggregator")] == [True, True, False, True]
    with pytest.raises(PkiError, match=r"broker\.pem: is still the old CA's; `cansight pki renew"):
        drop_old_ca(pki)
    for name in ("broker", "aggregator", "registrar"):
        renew(pki, name)
    reload(mosquitto)  # its own certificate is read again
    assert [gets_in(pki, mosquitto.port, who) for who in (old, new, lost, "aggregator")] == [True, True, False, True]
    drop_old_ca(pki)
    mosquitto.stop()
    mosquitto.start()
    assert [gets_in(pki, mosquitto.port, who) for who in (old, new, lost, "aggregator")] == [False, True, False, True]


def test_the_embedded_broker_reads_the_list_when_it_starts(pki: Path, embedded_broker: servers.Server) -> None:
    lost, other = enrol(pki), enrol(pki)
    assert gets_in(pki, embedded_broker.port, lost, MQTTProtocolVersion.MQTTv311)
    embedded_broker.stop()
    revoke(pki, [lost])
    embedded_broker.start()
    assert not gets_in(pki, embedded_broker.port, lost, MQTTProtocolVersion.MQTTv311)
    assert gets_in(pki, embedded_broker.port, other, MQTTProtocolVersion.MQTTv311)


def test_the_largest_message_passes_and_a_larger_one_does_not(mosquitto: servers.Server, pki: Path) -> None:
    vehicle = enrol(pki)
    with Client(pki, mosquitto.port, vehicle) as car, Client(pki, mosquitto.port, "aggregator") as cloud:
        assert cloud.subscribe(UP_FILTER) == 1
        assert car.publish(up(vehicle), bytes(MAX_BATCH_BYTES)) == 0
        cloud.until(lambda: bool(cloud.heard), "the batch")
        assert len(cloud.heard[0][1]) == MAX_BATCH_BYTES
        car.publish(up(vehicle), bytes(MAX_PACKET_BYTES))
        car.until(lambda: bool(car.refused), "the end of the connection")
    assert len(cloud.heard) == 1


def test_openssl_takes_the_list(pki: Path) -> None:
    path = servers.program("openssl", "openssl")
    lost, other = enrol(pki), enrol(pki)
    revoke(pki, [lost])
    for vehicle, good in ((lost, False), (other, True)):
        command = [path, "verify", "-x509_strict", "-crl_check", "-purpose", "sslclient", "-CAfile", str(pki / "fleet-ca.pem")]
        command += ["-CRLfile", str(pki / "fleet-ca.crl"), str(pki / "vehicles" / f"{vehicle}.pem")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) is good, done.stderr
        assert good or "revoked" in done.stderr


def test_without_a_list_the_broker_is_not_configured(pki: Path, tmp_path: Path) -> None:
    (pki / "fleet-ca.crl").unlink()
    with pytest.raises(CloudError, match=r"fleet-ca\.crl: cannot be read; `cansight pki revoke .*` makes it$"):
        mosquitto_config(pki, tmp_path, "127.0.0.1", 8883)
    revoke(pki, [])
    mosquitto_config(pki, tmp_path, "127.0.0.1", 8883)
    assert len(load_revocation_lists(pki / "fleet-ca.crl")[0]) == 0


def test_settings_that_were_changed_are_named(pki: Path, tmp_path: Path) -> None:
    lost = enrol(pki)
    config = mosquitto_config(pki, tmp_path, "127.0.0.1", 8883)
    assert check_mosquitto(pki, tmp_path) == []
    text = config.read_text()
    config.write_text(
        text.replace("listener 8883 127.0.0.1", "listener 1883 0.0.0.0").replace("autosave_interval 30", "autosave_interval 5")
    )
    assert check_mosquitto(pki, tmp_path) == []  # where it listens is the operator's affair
    changed = text.replace("require_certificate true", "require_certificate false").replace("allow_anonymous false\n", "")
    config.write_text(re.sub(r"max_packet_size \d+", "max_packet_size 8388608", changed) + "listener 1883\nprotocol websockets\n")
    found = check_mosquitto(pki, tmp_path)
    assert len(found) == 5
    for words in (
        r"mosquitto\.conf:\d+: expected require_certificate true, found false",
        rf"expected max_packet_size {MAX_PACKET_BYTES}, found 8388608",
        r"listener is there twice",
        r"protocol is not among the settings",
        r"mosquitto\.conf: allow_anonymous false is missing",
    ):
        assert any(re.search(words, line) for line in found), words
    config.write_text(text)
    revoke(pki, [lost])
    assert check_mosquitto(pki, tmp_path) == [f"{tmp_path / 'acl.conf'}: user {lost} / topic deny # is missing; write the rules anew"]
    write_rules(pki, tmp_path)
    assert check_mosquitto(pki, tmp_path) == []
    with (tmp_path / "acl.conf").open("a") as acl:
        acl.write("user aggregator\ntopic readwrite #\n")
    assert check_mosquitto(pki, tmp_path) == [f"{tmp_path / 'acl.conf'}: user aggregator / topic readwrite # is no rule of the fleet's"]
