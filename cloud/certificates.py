"""Certificates and revocation lists of the fleet: what stands in them. Nothing here reads or writes a file.

Profile: RFC 5280, P-256 with SHA-256, what OpenSSL takes with X509_V_FLAG_X509_STRICT.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, ObjectIdentifier

CA_DAYS = 20 * 365  # a vehicle lives 15 years and its certificate must chain to the end
BACKDATE = timedelta(hours=1)  # a vehicle's clock may be behind


def ca_certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """A fleet CA's own. Its name tells one CA from the one that follows it: a revocation list is found by its issuer's name."""
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = _name(f"Cansight fleet CA {identifier.digest.hex()[:8]}")
    now = datetime.now(UTC)
    builder = _builder(name, name, key.public_key(), now - BACKDATE, now + timedelta(days=CA_DAYS))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(ca=True), critical=True)
    return builder.sign(key, hashes.SHA256())


def certify(
    public_key: ec.EllipticCurvePublicKey,
    common_name: str,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    usage: ObjectIdentifier,
    not_before: datetime,
    not_after: datetime,
    alternative_names: Sequence[x509.GeneralName] = (),
) -> x509.Certificate:
    """A certificate of `public_key`, not a CA's, for one usage. The dates are aware; it never outlives its CA."""
    builder = _builder(_name(common_name), ca.subject, public_key, not_before, min(not_after, ca.not_valid_after_utc))
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(ca=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    if alternative_names:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternative_names), critical=False)
    return builder.sign(ca_key, hashes.SHA256())


def revocation_list(
    serials: Iterable[tuple[int, datetime]], ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey, now: datetime, last: datetime | None
) -> x509.CertificateRevocationList:
    """The list of (serial, when) that `ca` has revoked. last: the last list's date, None for the first.

    Of two lists of one date OpenSSL keeps the one that it knew first, so each is a second later than the last; and none is dated in the
    future, where it would not count yet, which is why the first one begins an hour ago. It is good until the CA ends: a
    list that runs out shuts out the whole fleet, and the broker reads its list from the operator, not from an attacker.
    """
    date = now - BACKDATE if last is None else max(now - BACKDATE, last + timedelta(seconds=1))
    builder = x509.CertificateRevocationListBuilder().issuer_name(ca.subject).last_update(date).next_update(ca.not_valid_after_utc)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    builder = builder.add_extension(x509.CRLNumber(int(date.timestamp())), critical=False)
    for serial, when in serials:
        builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build())
    return builder.sign(ca_key, hashes.SHA256())


def common_name(certificate: x509.Certificate) -> str:
    """Its only common name, else nothing."""
    names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return names[0] if len(names) == 1 else ""


def issued_by(certificate: x509.Certificate, cas: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """The one of `cas` that signed it, else None."""
    for ca in cas:
        try:
            certificate.verify_directly_issued_by(ca)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return ca
    return None


def usages(certificate: x509.Certificate) -> list[ObjectIdentifier]:
    """Its extended key usages."""
    try:
        return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return []


def validity(certificate: x509.Certificate) -> str:
    """`2026-11-22 20:30 to 2029-02-24 21:30 UTC`."""
    return f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} to {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(not_before).not_valid_after(not_after)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    # The CA's key also signs recipient documents, a vehicle's also its announcements: digital_signature for both.
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
