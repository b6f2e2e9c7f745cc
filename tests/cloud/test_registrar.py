"""Whom the registrar gives a certificate, and what it says to everyone else."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fleet_certificates import lay_down

from cloud.certificates import common_name, issued_by
from cloud.errors import PkiError
from cloud.pki import init, load_certificate, load_key, renew_ca
from cloud.pki import vehicle as enrol
from cloud.pki_files import load_certificates
from cloud.pki_revocation import certificates_of, load_revocation_lists, revoke
from cloud.registrar import MAX_CERTIFICATES, answer
from wire.errors import AuthenticationError, FormatError, Unsupported, WireError
from wire.renewal import CONTEXT, decode_certificate, decode_renewal, encode_renewal

NOW = datetime.now(UTC)
LATER = NOW + timedelta(days=600)  # of 825


class Car:
    def __init__(self, pki: Path) -> None:
        self.pki = pki
        self.id = enrol(pki)
        stem = pki / "vehicles" / self.id
        self.certificate, self.key = load_certificate(stem.with_suffix(".pem")), load_key(stem.with_suffix(".key"))
        self.new_key = ec.generate_private_key(ec.SECP256R1())

    def request(self, **changes: Any) -> bytes:
        fields = {"vehicle": self.id, "certificate": self.certificate, "key": self.key, "new_key": self.new_key} | changes
        return encode_renewal(**fields)


@pytest.fixture
def car(pki: Path) -> Car:
    return Car(pki)


def test_a_vehicle_gets_a_certificate_of_its_new_key_once(pki: Path, car: Car) -> None:
    made = decode_certificate(answer(pki, car.id, car.request(), LATER))
    assert made.public_key() == car.new_key.public_key()
    assert common_name(made) == car.id
    assert issued_by(made, load_certificates(pki / "fleet-ca.pem")) is not None
    assert made.not_valid_after_utc > car.certificate.not_valid_after_utc
    assert made in certificates_of(pki, car.id)  # durable, where revoking finds it
    assert decode_certificate(answer(pki, car.id, car.request(), LATER)) == made
    assert len(certificates_of(pki, car.id)) == 2


def test_revoking_finds_what_was_renewed_and_the_old_one_too(pki: Path, car: Car) -> None:
    made = decode_certificate(answer(pki, car.id, car.request(), LATER))
    revoke(pki, [car.id], "lost")
    serials = {entry.serial_number for entry in load_revocation_lists(pki / "fleet-ca.crl")[0]}
    assert serials == {made.serial_number, car.certificate.serial_number}
    for certificate, key in ((car.certificate, car.key), (made, car.new_key)):
        asked = car.request(certificate=certificate, key=key, new_key=ec.generate_private_key(ec.SECP256R1()))
        with pytest.raises(PkiError, match="is revoked"):
            answer(pki, car.id, asked, LATER)


def test_who_is_refused(pki: Path, car: Car, tmp_path: Path) -> None:
    other = Car(pki)
    init(tmp_path / "other")
    stranger = Car(tmp_path / "other")
    lay_down(pki, "late", name=car.id, begin_h=-48, end_h=-1)
    late = load_certificate(pki / "vehicles" / "late.pem"), load_key(pki / "vehicles" / "late.key")
    for who, asked, now, error, words in (
        (car.id, car.request(), NOW, PkiError, "before half of its certificate's life"),
        (car.id, car.request(), LATER + timedelta(days=300), PkiError, "its certificate is valid from"),
        (car.id, car.request(new_key=car.key), LATER, PkiError, "takes a new one"),
        (car.id, other.request(), LATER, AuthenticationError, f"expected the common name {car.id} twice"),
        (car.id, other.request(vehicle=car.id), LATER, AuthenticationError, "expected the common name"),
        (other.id, car.request(), LATER, AuthenticationError, "expected the common name"),
        (car.id, car.request(key=other.key), LATER, AuthenticationError, "is not signed by the certificate's key"),
        (stranger.id, stranger.request(), LATER, PkiError, "is not this fleet's"),
        (car.id, car.request(certificate=late[0], key=late[1]), NOW, PkiError, "its certificate is valid from"),
        (car.id, car.request(new_key=ec.generate_private_key(ec.SECP384R1())), LATER, FormatError, "expected a P-256 key, found secp384r1"),
    ):
        with pytest.raises(error, match=words):
            answer(pki, who, asked, now)
    assert len(certificates_of(pki, car.id)) == 1


def test_a_key_that_its_owner_does_not_have_gets_no_certificate(pki: Path, car: Car) -> None:
    """A request for somebody else's public key: signed by the vehicle's own key, but not by that one."""
    asked = car.request()
    at = 3 + int.from_bytes(asked[1:3], "big")
    end = at + 2 + int.from_bytes(asked[at : at + 2], "big")
    signed = asked[: end - 1] + bytes((asked[end - 1] ^ 1,))  # the last byte of the PKCS #10 request is its signature's
    with pytest.raises(AuthenticationError, match="the new key did not sign its request"):
        answer(pki, car.id, signed + car.key.sign(CONTEXT + signed, ec.ECDSA(hashes.SHA256())), LATER)
    assert len(certificates_of(pki, car.id)) == 1


def test_a_vehicle_that_was_never_enrolled_here_is_refused(pki: Path) -> None:
    lay_down(pki, "x", name="00000000000000ee", begin_h=-48, end_h=10)
    certificate, key = load_certificate(pki / "vehicles" / "x.pem"), load_key(pki / "vehicles" / "x.key")
    asked = encode_renewal("00000000000000ee", certificate, key, ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(PkiError, match="no such certificate"):
        answer(pki, "00000000000000ee", asked, NOW)


def test_a_stolen_key_does_not_fill_the_folder(pki: Path, car: Car) -> None:
    for _ in range(MAX_CERTIFICATES - 1):
        answer(pki, car.id, car.request(new_key=ec.generate_private_key(ec.SECP256R1())), LATER)
    with pytest.raises(PkiError, match=f"has {MAX_CERTIFICATES} certificates in date; revoke it"):
        answer(pki, car.id, car.request(), LATER)


def test_an_old_cas_certificate_is_renewed_by_the_new_ca_at_any_time(pki: Path, car: Car) -> None:
    ca, old = renew_ca(pki)
    made = decode_certificate(answer(pki, car.id, car.request(), NOW))
    assert issued_by(car.certificate, [old]) is old
    assert issued_by(made, [ca]) is ca


def test_a_request_that_was_altered_or_cut_is_refused(car: Car) -> None:
    asked = car.request()
    decode_renewal(asked, car.id)
    for end in range(len(asked)):
        with pytest.raises(WireError):
            decode_renewal(asked[:end], car.id)
    for at in range(len(asked)):
        altered = bytearray(asked)
        altered[at] ^= 1 + at % 255
        with pytest.raises(WireError):
            decode_renewal(bytes(altered), car.id)
    with pytest.raises(WireError):
        decode_renewal(asked + b"\0", car.id)
    with pytest.raises(Unsupported):
        decode_renewal(b"\2" + asked[1:], car.id)
    for length in (0, 1, 100, 5000):
        for noise in (os.urandom(length), b"\1" + os.urandom(length)):
            with pytest.raises(WireError):
                decode_renewal(noise, car.id)
            with pytest.raises(WireError):
                decode_certificate(noise)


def test_names_keep_their_serials_when_they_are_revoked_again(pki: Path, car: Car) -> None:
    revoke(pki, [car.id], "lost")
    first = load_revocation_lists(pki / "fleet-ca.crl")[0]
    revoke(pki, [car.id], "sold")
    second = load_revocation_lists(pki / "fleet-ca.crl")[0]
    assert [entry.revocation_date_utc for entry in first] == [entry.revocation_date_utc for entry in second]
    assert second.last_update_utc > first.last_update_utc
    assert second.is_signature_valid(load_certificate(pki / "fleet-ca.pem").public_key())  # type: ignore[arg-type]
    assert isinstance(second, x509.CertificateRevocationList)
