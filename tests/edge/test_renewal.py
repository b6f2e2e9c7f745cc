"""A vehicle renews its certificate over the connection that it has, and loses nothing by it."""

import itertools
import os
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from edge_helpers import VEHICLE, Aggregator, Car, MakeCar, until, write_log

import servers
from cloud import pki as fleet
from cloud.certificates import certify
from cloud.pki_files import key_pem
from cloud.pki_revocation import Revoked, write_revocation_list
from edge.config import EdgeConfig, resolved
from edge.identity import Identity, load_identity
from edge.key_store import KeyFiles
from edge.renewal import FIRST_PAUSE_S, MAX_PAUSE_S, Renewal, is_due
from wire.renewal import decode_renewal, encode_certificate

LIFE = timedelta(days=90)


def aged(pki: Path, part: float, vehicle: str = VEHICLE) -> x509.Certificate:
    """Replaces the vehicle's certificate by one of which `part` of the life is over."""
    ca, ca_key = fleet.load_ca(pki)
    key, begin = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC) - LIFE * part
    made = certify(key.public_key(), vehicle, ca, ca_key, ExtendedKeyUsageOID.CLIENT_AUTH, begin, begin + LIFE)
    (pki / "vehicles").mkdir(mode=0o700, exist_ok=True)
    (pki / "vehicles" / f"{vehicle}.key").write_bytes(key_pem(key))
    (pki / "vehicles" / f"{vehicle}.pem").write_bytes(made.public_bytes(Encoding.PEM))
    return made


@pytest.fixture
def identity(pki: Path) -> Identity:
    certificate = aged(pki, 0.7)
    ca = str(pki / "fleet-ca.pem")
    cas = tuple(x509.load_pem_x509_certificates(Path(ca).read_bytes()))
    return Identity(VEHICLE, certificate, fleet.load_key(pki / "vehicles" / f"{VEHICLE}.key"), (), ssl.create_default_context(), cas, ca)


@pytest.fixture
def keys(tmp_path: Path) -> KeyFiles:
    return KeyFiles(tmp_path / "identity")


def renewal(identity: Identity, keys: KeyFiles) -> Renewal:
    return Renewal(identity, keys, lambda most: most)


def issue(
    pki: Path, asked: bytes, *, name: str = VEHICLE, usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH, days: int = 90
) -> bytes:
    ca, ca_key = fleet.load_ca(pki)
    now = datetime.now(UTC)
    public_key = decode_renewal(asked, VEHICLE).public_key
    return encode_certificate(certify(public_key, name, ca, ca_key, usage, now, now + timedelta(days=days)))


def test_it_is_due_at_two_thirds_of_life(identity: Identity) -> None:
    begin = identity.certificate.not_valid_before_utc
    assert not is_due(identity.certificate, begin + LIFE * 0.66)
    assert is_due(identity.certificate, begin + LIFE * 0.667)
    assert is_due(identity.certificate, begin + LIFE * 2)
    assert not is_due(identity.certificate, datetime(1970, 1, 1, tzinfo=UTC))


def test_a_new_certificate_is_kept_and_used(identity: Identity, keys: KeyFiles, pki: Path, tmp_path: Path) -> None:
    policy, tls = renewal(identity, keys), identity.tls
    asked = policy.request(0.0, datetime.now(UTC))
    assert asked is not None
    old = identity.certificate
    assert policy.take(issue(pki, asked))
    assert identity.certificate.not_valid_after_utc > old.not_valid_after_utc
    assert identity.key.public_key() == identity.certificate.public_key()
    assert identity.tls is not tls
    assert policy.request(1e9, datetime.now(UTC)) is None
    files = sorted((tmp_path / "identity").iterdir())
    assert [file.name for file in files] == ["renewed.pem"]
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "identity").stat().st_mode) == 0o700
    kept = keys.renewed()
    assert kept is not None
    assert kept.certificate == identity.certificate


def test_it_asks_again_with_the_same_key_ever_more_rarely_and_after_a_restart(identity: Identity, keys: KeyFiles) -> None:
    utc, policy = datetime.now(UTC), renewal(identity, keys)
    times, now_s = [], 0.0
    asked = set()
    while now_s < 3 * 86_400:
        if (request := policy.request(now_s, utc)) is not None:
            times.append(now_s)
            asked.add(decode_renewal(request, VEHICLE).public_key.public_numbers())
        now_s += 30
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert pauses[0] == FIRST_PAUSE_S
    assert pauses == sorted(pauses)
    assert pauses[-1] == MAX_PAUSE_S
    again = renewal(identity, keys).request(0.0, utc)
    assert again is not None
    assert asked == {decode_renewal(again, VEHICLE).public_key.public_numbers()}


def test_what_is_not_our_certificate_changes_nothing(
    identity: Identity, keys: KeyFiles, pki: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy, old = renewal(identity, keys), identity.certificate
    assert not policy.take(encode_certificate(old))  # nothing was asked
    asked = policy.request(0.0, datetime.now(UTC))
    assert asked is not None
    fleet.init(tmp_path / "other")
    for answer, words in (
        (b"", "expected 1 to"),
        (b"\1junk", "expected an X.509 certificate"),
        (b"\2junk", "expected version 1"),
        (encode_certificate(old), "another key"),
        (issue(tmp_path / "other", asked), "was not issued by the fleet CA"),
        (issue(pki, asked, name="00000000000000aa"), "expected the common name"),
        (issue(pki, asked, usage=ExtendedKeyUsageOID.SERVER_AUTH), "not for TLS clients"),
        (issue(pki, asked, days=1), "no later than the one in use"),
    ):
        caplog.clear()
        assert not policy.take(answer)
        assert words in caplog.text
        assert identity.certificate is old
        assert keys.renewed() is None
    assert policy.take(issue(pki, asked))  # the key that was asked for is still there


def test_power_that_fails_while_it_is_kept_leaves_one_good_pair(identity: Identity, keys: KeyFiles, pki: Path, tmp_path: Path) -> None:
    pending = keys.pending()
    asked = renewal(identity, keys).request(0.0, datetime.now(UTC))
    assert asked is not None
    before = (tmp_path / "identity" / "pending.key").read_bytes()
    policy = renewal(identity, keys)
    policy.request(0.0, datetime.now(UTC))
    assert policy.take(issue(pki, asked))
    (tmp_path / "identity" / "pending.key").write_bytes(before)  # the removal was lost
    assert keys.pending().public_key() != pending.public_key()  # the next renewal takes a new key
    (tmp_path / "identity" / "renewed.pem").write_bytes(b"torn")
    assert keys.renewed() is None


@pytest.fixture
def registrar(pki: Path, mosquitto: servers.Server, tmp_path: Path) -> Iterator[Path]:
    log = tmp_path / "registrar.log"
    with log.open("wb") as stream:
        command = [sys.executable, "-m", "cansight", "pki", "serve", str(pki), "--port", str(mosquitto.port)]
        process = subprocess.Popen(command, stderr=stream)
    try:
        yield log
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_an_agent_renews_reconnects_with_the_new_certificate_and_loses_no_batch(
    tmp_path: Path, make_car: MakeCar, aggregator: Aggregator, mosquitto: servers.Server, pki: Path, registrar: Path
) -> None:
    """mosquitto shuts the old certificate out after the renewal: only with the new one does the agent get in again."""
    drive = write_log(tmp_path / "drive.log", 20).read_text().splitlines(keepends=True)
    fifo = tmp_path / "bus"
    os.mkfifo(fifo)
    car: Car = make_car(fifo)
    old = aged(pki, 0.7)
    car.start()
    with fifo.open("w") as bus:
        bus.writelines(drive[: len(drive) // 2])
        bus.flush()
        renewed = car.state / "identity" / "renewed.pem"
        until(renewed.exists, "the new certificate")
        until(lambda: "has a new certificate" in registrar.read_text(), "the registrar's word")
        mosquitto.stop()
        (pki / "revoked.json").write_bytes(msgspec.json.encode({"old": Revoked([f"{old.serial_number:x}"], 0, "other")}))
        write_revocation_list(pki, [fleet.load_ca(pki)])
        mosquitto.start()
        bus.writelines(drive[len(drive) // 2 :])
    code, said = car.end()
    assert (code, said.count("connected to broker")) == (0, 2), said
    assert "the new certificate is good until" in said
    assert aggregator.missing() == []
    assert car.status["batches_recorded"] == car.status["batches_receipted"] == len(aggregator.landed)
    assert (car.status["batches_lost"], car.status["ticks"]) == (0, 20)
    new = x509.load_pem_x509_certificate(renewed.read_bytes())
    assert new.not_valid_after_utc > old.not_valid_after_utc
    config = msgspec.convert(car.document, EdgeConfig)  # what the next start finds
    assert load_identity(resolved(config, car.folder), KeyFiles(car.state / "identity")).certificate == new
