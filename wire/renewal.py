"""A new certificate over the existing connection: what a vehicle asks the fleet's registrar, and what it is answered.

    request   u8 version = 1 | u16 length | the certificate in use, DER | u16 length | PKCS #10 request of the new key, DER
              | ECDSA signature, P-256 and SHA-256, DER, by the key in use over "cansight renewal 1" | all bytes before it
    answer    u8 version = 1 | the new certificate, DER

Whoever can write to a vehicle's topic cannot have a certificate for it: the request is signed by the key that the vehicle has, the
PKCS #10 request by the one that it shall have. Nothing in either is secret, and a repeated request is answered with the same certificate.
"""

import struct
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from wire.errors import AuthenticationError, FormatError, Unsupported

VERSION: Final = 1
CONTEXT: Final = b"cansight renewal 1"
MAX_DER_BYTES = 4096  # as of a certificate in an announcement
MAX_REQUEST_BYTES = 3 * MAX_DER_BYTES


@dataclass(frozen=True, slots=True)
class RenewalRequest:
    """certificate: the one in use, whose key has signed. public_key: the new one, which its owner has."""

    certificate: x509.Certificate
    public_key: ec.EllipticCurvePublicKey


def encode_renewal(
    vehicle: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, new_key: ec.EllipticCurvePrivateKey
) -> bytes:
    """The request of `vehicle`, which has `certificate` with `key`, for a certificate of `new_key`."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, vehicle)])
    asked = x509.CertificateSigningRequestBuilder().subject_name(name).sign(new_key, hashes.SHA256())
    parts = [bytes((VERSION,))]
    for der in (certificate.public_bytes(Encoding.DER), asked.public_bytes(Encoding.DER)):
        parts += [struct.pack(">H", len(der)), der]
    signed = b"".join(parts)
    return signed + key.sign(CONTEXT + signed, ec.ECDSA(hashes.SHA256()))


def decode_renewal(data: bytes, vehicle: str) -> RenewalRequest:
    """Reads and verifies both signatures and that both names are `vehicle`. Who issued the certificate, and its dates, are not judged.

    FormatError, Unsupported for a later version, AuthenticationError.
    """
    if not 1 <= len(data) <= MAX_REQUEST_BYTES:
        raise FormatError(f"renewal: expected 1 to {MAX_REQUEST_BYTES} bytes, found {len(data)}")
    if data[0] != VERSION:
        raise Unsupported(f"renewal: expected version {VERSION}, found {data[0]}")
    certificate_der, at = _field(data, 1, "certificate")
    asked_der, at = _field(data, at, "request")
    try:
        certificate = x509.load_der_x509_certificate(certificate_der)
        asked = x509.load_der_x509_csr(asked_der)
        proven = asked.is_signature_valid
        keys = certificate.public_key(), asked.public_key()
        names = [_names(certificate.subject), _names(asked.subject)]
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise FormatError(f"renewal: expected a certificate and a PKCS #10 request ({str(error).splitlines()[0][:80]})") from None
    key, new_key = keys
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(new_key, ec.EllipticCurvePublicKey):
        raise FormatError("renewal: expected elliptic-curve keys")
    if not isinstance(new_key.curve, ec.SECP256R1):
        raise FormatError(f"renewal: expected a P-256 key, found {new_key.curve.name}")
    if names != [[vehicle], [vehicle]]:
        raise AuthenticationError(f"renewal: expected the common name {vehicle} twice, found {names}"[:200])
    try:
        key.verify(data[at:], CONTEXT + data[:at], ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise AuthenticationError("renewal: is not signed by the certificate's key") from None
    if not proven:
        raise AuthenticationError("renewal: the new key did not sign its request")
    return RenewalRequest(certificate, new_key)


def encode_certificate(certificate: x509.Certificate) -> bytes:
    """The answer."""
    return bytes((VERSION,)) + certificate.public_bytes(Encoding.DER)


def decode_certificate(data: bytes) -> x509.Certificate:
    """The certificate of an answer, of which nothing is verified. FormatError, Unsupported for a later version."""
    if not 1 <= len(data) <= 1 + MAX_DER_BYTES:
        raise FormatError(f"certificate: expected 1 to {1 + MAX_DER_BYTES} bytes, found {len(data)}")
    if data[0] != VERSION:
        raise Unsupported(f"certificate: expected version {VERSION}, found {data[0]}")
    try:
        return x509.load_der_x509_certificate(data[1:])
    except (ValueError, x509.InvalidVersion):
        raise FormatError("certificate: expected an X.509 certificate in DER") from None


def _field(data: bytes, at: int, what: str) -> tuple[bytes, int]:
    if len(data) < at + 2:
        raise FormatError(f"renewal: ends before the {what}'s length")
    length = int.from_bytes(data[at : at + 2], "big")
    if length > MAX_DER_BYTES or len(data) < at + 2 + length:
        raise FormatError(f"renewal: expected a {what} of at most {MAX_DER_BYTES} bytes, found length {length}")
    return data[at + 2 : at + 2 + length], at + 2 + length


def _names(subject: x509.Name) -> list[str]:
    return [str(name.value) for name in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
