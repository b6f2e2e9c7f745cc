"""A vehicle's files, as `cansight pki` makes them, and what is made of them: its id, its TLS context, its signature."""

from __future__ import annotations

import hashlib
import ssl
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from simulator.fleet.errors import FleetError
from wire.errors import WireError
from wire.recipients import Recipient, read_recipient

__all__ = ["Trust", "VehicleKeys", "vehicle_id"]


def vehicle_id(seed: int, number: int) -> str:
    """The id of a fleet's vehicle: 16 hexadecimal digits that depend on the seed and the number, so that its certificate is made once."""
    return hashlib.blake2b(f"cansight fleet {seed} {number}".encode(), digest_size=8).hexdigest()


class Trust:
    """The fleet's CA and recipients. `Trust(folder).read()`; FleetError names the file that is missing or not what it should be."""

    def __init__(self, pki: Path) -> None:
        self.pki = pki
        self.ca_file = pki / "fleet-ca.pem"
        self.recipients: tuple[Recipient, ...] = ()

    def read(self) -> None:
        try:
            ca = x509.load_pem_x509_certificate(_read(self.ca_file))
        except ValueError:
            raise FleetError(f"{self.ca_file}: expected the fleet CA's certificate in PEM; the file is not one") from None
        path = self.pki / "recipient.json"
        try:
            self.recipients = (read_recipient(_read(path), ca, time.time(), str(path)),)
        except WireError as error:
            raise FleetError(str(error)) from None

    def keys(self, vehicle: str) -> VehicleKeys:
        stem = self.pki / "vehicles" / vehicle
        return VehicleKeys(vehicle, self.ca_file, stem.with_suffix(".pem"), stem.with_suffix(".key"))


@dataclass(frozen=True)
class VehicleKeys:
    """One vehicle's certificate and key; read when they are needed first."""

    vehicle: str
    ca: Path
    certificate_file: Path
    key_file: Path

    @cached_property
    def certificate(self) -> x509.Certificate:
        try:
            return x509.load_pem_x509_certificate(_read(self.certificate_file))
        except ValueError:
            raise FleetError(f"{self.certificate_file}: expected a certificate in PEM; the file is not one") from None

    @cached_property
    def key(self) -> ec.EllipticCurvePrivateKey:
        try:
            key = load_pem_private_key(_read(self.key_file), None)
        except (ValueError, TypeError):
            raise FleetError(f"{self.key_file}: expected a private key in PEM without a password; the file is not one") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise FleetError(f"{self.key_file}: expected an elliptic-curve key, found {type(key).__name__}")
        return key

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """TLS 1.3 with this vehicle's certificate and the fleet's CA alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(cafile=self.ca)
            context.load_cert_chain(self.certificate_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            raise FleetError(f"{self.certificate_file} with {self.key_file}: cannot be used for TLS: {error}") from None
        return context


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FleetError(f"{path}: cannot be read: {error.strerror}; `cansight pki init {path.parent}` makes a fleet's keys") from None
