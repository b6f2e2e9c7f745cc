"""Certificates as they must not be: of any date, name, usage and issuer."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate, ObjectIdentifier
from cryptography.x509.oid import ExtendedKeyUsageOID

from cloud.certificates import certify
from cloud.pki import load_ca
from cloud.pki_files import key_pem

VEHICLE = "0123456789abcdef"


def lay_down(
    pki: Path,
    stem: str,
    *,
    name: str = VEHICLE,
    begin_h: float = -1,
    end_h: float = 24,
    usage: ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    issuer: Path | None = None,
) -> Certificate:
    """Write pki/vehicles/STEM.pem and .key: valid from `begin_h` to `end_h`, hours from now, issued by the CA of `issuer` (`pki`)."""
    ca, ca_key = load_ca(issuer or pki)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    made = certify(key.public_key(), name, ca, ca_key, usage, now + timedelta(hours=begin_h), now + timedelta(hours=end_h))
    folder = pki / "vehicles"
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / f"{stem}.key").write_bytes(key_pem(key))
    (folder / f"{stem}.pem").write_bytes(made.public_bytes(Encoding.PEM))
    return made
