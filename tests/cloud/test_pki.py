"""The fleet's keys: what they certify, that they work in a real TLS 1.3 handshake, and that nothing is overwritten."""

import json
import os
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloud import pki
from cloud.errors import PkiError
from wire.recipients import load_recipient_keys, read_recipient

VEHICLE = "0123456789abcdef"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki") / "fleet"
    pki.init(folder, hosts=("localhost", "127.0.0.1", "::1"))
    assert pki.vehicle(folder, VEHICLE) == VEHICLE
    return folder


def common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def test_every_file_is_there_and_keys_are_private(folder: Path) -> None:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    stems = ("fleet-ca", "broker", "aggregator", "registrar", f"vehicles/{VEHICLE}")
    expected = {f"{stem}.{suffix}" for stem in stems for suffix in ("pem", "key")}
    assert names == expected | {"fleet-ca.crl", "recipient.key", "recipient.json", "pack.key", "pack.pub.pem"}
    for path in folder.rglob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for path in (folder, folder / "vehicles"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("stem", "name", "usage"),
    [
        ("broker", "localhost", ExtendedKeyUsageOID.SERVER_AUTH),
        ("aggregator", "aggregator", ExtendedKeyUsageOID.CLIENT_AUTH),
        ("registrar", "registrar", ExtendedKeyUsageOID.CLIENT_AUTH),
        (f"vehicles/{VEHICLE}", VEHICLE, ExtendedKeyUsageOID.CLIENT_AUTH),
    ],
)
def test_certificates_say_who_may_do_what(folder: Path, stem: str, name: str, usage: x509.ObjectIdentifier) -> None:
    certificate = pki.load_certificate(folder / f"{stem}.pem")
    certificate.verify_directly_issued_by(pki.load_certificate(folder / "fleet-ca.pem"))
    assert common_name(certificate) == name
    assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [usage]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    key = pki.load_key(folder / f"{stem}.key")
    assert isinstance(key.curve, ec.SECP256R1)
    assert key.public_key() == certificate.public_key()


def test_the_recipient_key_is_signed_by_the_ca_and_expires(folder: Path) -> None:
    recipient = read_recipient((folder / "recipient.json").read_bytes(), pki.load_certificate(folder / "fleet-ca.pem"), time.time())
    assert list(load_recipient_keys([folder / "recipient.key"])) == [recipient.key_id]
    assert 309 * 86400 < recipient.not_after - time.time() <= 310 * 86400  # and 90 days more in an outbox: 400


def test_the_pack_key_is_a_pair(folder: Path) -> None:
    private = load_pem_private_key((folder / "pack.key").read_bytes(), None)
    public = load_pem_public_key((folder / "pack.pub.pem").read_bytes())
    assert isinstance(private, ed25519.Ed25519PrivateKey)
    assert isinstance(public, ed25519.Ed25519PublicKey)
    public.verify(private.sign(b"x"), b"x")


def handshake(folder: Path, server: str, client: str | None) -> str:
    """A real mutual TLS 1.3 handshake over loopback; the common name that the server saw."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.minimum_version = ssl.TLSVersion.TLSv1_3
    server_context.load_cert_chain(folder / f"{server}.pem", folder / f"{server}.key")
    server_context.load_verify_locations(folder / "fleet-ca.pem")
    server_context.verify_mode = ssl.CERT_REQUIRED
    server_context.verify_flags |= ssl.VERIFY_X509_STRICT
    client_context = ssl.create_default_context(cafile=str(folder / "fleet-ca.pem"))
    client_context.minimum_version = ssl.TLSVersion.TLSv1_3
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    if client is not None:
        client_context.load_cert_chain(folder / f"{client}.pem", folder / f"{client}.key")
    outcome: list[str | BaseException] = []

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                connection, _ = listener.accept()
                with connection, server_context.wrap_socket(connection, server_side=True) as secure:
                    peer = secure.getpeercert()
                    assert peer is not None
                    subject = peer["subject"]
                    outcome.append(str(subject[0][0][1]))
                    secure.sendall(b"x")
            except BaseException as error:  # noqa: BLE001 - reported to the test's thread
                outcome.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with (
                socket.create_connection(listener.getsockname()) as plain,
                client_context.wrap_socket(plain, server_hostname="localhost") as secure,
            ):
                secure.recv(1)
        finally:
            thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def test_a_vehicle_and_a_broker_speak_tls_1_3(folder: Path) -> None:
    assert handshake(folder, "broker", f"vehicles/{VEHICLE}") == VEHICLE
    assert handshake(folder, "broker", "aggregator") == "aggregator"


def test_a_client_without_a_certificate_and_a_vehicle_as_a_broker_are_refused(folder: Path) -> None:
    with pytest.raises(ssl.SSLError):
        handshake(folder, "broker", None)
    with pytest.raises(ssl.SSLError):
        handshake(folder, f"vehicles/{VEHICLE}", "aggregator")
    with pytest.raises(ssl.SSLError):
        handshake(folder, "broker", "broker")


def test_another_fleets_vehicle_is_refused(folder: Path, tmp_path: Path) -> None:
    pki.init(tmp_path / "other")
    stranger = pki.vehicle(tmp_path / "other")
    for suffix in ("pem", "key"):
        (folder / f"stranger.{suffix}").write_bytes((tmp_path / "other" / "vehicles" / f"{stranger}.{suffix}").read_bytes())
    try:
        with pytest.raises(ssl.SSLError):
            handshake(folder, "broker", "stranger")
    finally:
        for suffix in ("pem", "key"):
            (folder / f"stranger.{suffix}").unlink()


def test_ids_are_random(folder: Path) -> None:
    first, second = pki.vehicle(folder), pki.vehicle(folder)
    try:
        assert first != second
        assert len(first) == 16
        assert common_name(pki.load_certificate(folder / "vehicles" / f"{first}.pem")) == first
    finally:
        for made in (first, second):
            for suffix in (".pem", ".key"):
                (folder / "vehicles" / f"{made}{suffix}").unlink()


def test_nothing_is_overwritten(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for _ in range(2):
        with pytest.raises(PkiError, match="is there already"):
            pki.init(folder)
        with pytest.raises(PkiError, match="is there already"):
            pki.vehicle(folder, VEHICLE)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_bad_input_is_one_line(folder: Path, tmp_path: Path) -> None:
    for bad in ("", "0123456789ABCDEF", "0123456789abcde", "../../../../etc/x", "0123456789abcdef\n"):
        with pytest.raises(PkiError, match="16 lower-case hexadecimal"):
            pki.vehicle(folder, bad)
    with pytest.raises(PkiError, match="pki init"):
        pki.vehicle(tmp_path / "nowhere")
    with pytest.raises(PkiError, match="expected a DNS name"):
        pki.init(tmp_path / "x", hosts=("a b",))
    with pytest.raises(PkiError, match="at least one host"):
        pki.init(tmp_path / "x", hosts=())
    (tmp_path / "file").write_text("")
    with pytest.raises(PkiError):
        pki.init(tmp_path / "file")
    with pytest.raises(PkiError, match=r"cannot be read: Is a directory$"):
        pki.load_key(tmp_path)
    with pytest.raises(PkiError, match="expected a PEM certificate"):
        pki.load_certificate(tmp_path / "file")
    with pytest.raises(PkiError, match="expected an unencrypted PEM"):
        pki.load_key(tmp_path / "file")
    with pytest.raises(PkiError, match="elliptic-curve"):
        pki.load_key(folder / "pack.key")
    assert not (tmp_path / "x").exists()


def test_a_ca_key_of_another_fleet_signs_nothing(folder: Path, tmp_path: Path) -> None:
    pki.init(tmp_path / "other")
    (folder / "fleet-ca.key").unlink()
    (tmp_path / "other" / "fleet-ca.key").rename(folder / "fleet-ca.key")
    with pytest.raises(PkiError, match=r"fleet-ca.key: is not the key of .*fleet-ca.pem"):
        pki.vehicle(folder, "00000000000000ff")
    assert not (folder / "vehicles" / "00000000000000ff.pem").exists()


def test_the_command_line_makes_a_fleet_and_refuses_twice(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cansight", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONWARNINGS": "ignore"})

    folder = str(tmp_path / "fleet")
    made = run("pki", "init", folder, "--json")
    assert made.returncode == 0, made.stderr
    assert len(json.loads(made.stdout)["files"]) == 13
    vehicle = json.loads(run("pki", "vehicle", folder, "--json").stdout)
    assert Path(vehicle["key"]).is_file()
    again = run("pki", "init", folder)
    assert again.returncode == 2
    assert again.stderr.startswith("cansight: ")
    assert again.stderr.count("\n") == 1


def test_a_renewal_keeps_the_pair_before_it_beside(tmp_path: Path) -> None:
    folder = tmp_path / "fleet"
    pki.init(folder, hosts=("broker.example.com", "10.0.0.1"))
    car = pki.vehicle(folder)
    for name, stem in (("broker", folder / "broker"), (car, folder / "vehicles" / car)):
        old, old_key = pki.load_certificate(stem.with_suffix(".pem")), pki.load_key(stem.with_suffix(".key"))
        assert pki.renew(folder, name) == stem.with_suffix(".pem")
        new = pki.load_certificate(stem.with_suffix(".pem"))
        assert new.serial_number != old.serial_number
        assert new.public_key() == pki.load_key(stem.with_suffix(".key")).public_key() != old.public_key()
        assert common_name(new) == common_name(old)
        beside = stem.parent / f"{stem.name}.{old.serial_number:x}"
        assert pki.load_certificate(Path(f"{beside}.pem")) == old
        assert pki.load_key(Path(f"{beside}.key")).public_key() == old_key.public_key()
        assert stat.S_IMODE(stem.with_suffix(".key").stat().st_mode) == 0o600
    names = pki.load_certificate(folder / "broker.pem").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.example.com"]
    pki.renew(folder, "broker", hosts=("other.example.com",))
    (folder / "vehicles" / f"{car}.key").unlink()  # it is on the vehicle
    pki.renew(folder, car)
    with pytest.raises(PkiError, match="only the broker's certificate has hosts"):
        pki.renew(folder, car, hosts=("x",))
    with pytest.raises(PkiError, match=r"0000000000000001\.pem: No such file"):
        pki.renew(folder, "0000000000000001")
