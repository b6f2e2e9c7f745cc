"""Sealing and opening. A stream is one content key; sequence 0 carries it to the recipients, every later batch is AES-256-GCM.

    batch         header 29 | AES-256-GCM(kind u8 | body), 16-byte tag at the end
    announcement  header 29 | u8 wraps | wraps x (8 bytes key id | u16 length | HPKE) | u16 length | certificate DER
                  | u32 length | AES-256-GCM(kind u8 | body) | ECDSA signature (DER) over all before

The nonce is 8 zero bytes and the u32 sequence; the associated data is the header. A key lives in one process's memory and a
sequence is used once, so a nonce never repeats.
"""

import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from numpy import intp
from numpy.typing import NDArray

from wire.codec import decode_rows
from wire.errors import AuthenticationError, FormatError, RecipientError, StreamError, Unsupported
from wire.header import HEADER_BYTES, MAX_SEQUENCE, STREAM_BYTES, Header
from wire.messages import Announcement, Kind, Rows, decode_message, encode_message, unpack_columns
from wire.receipts import Status, receipt_key, tag_for
from wire.recipients import KEY_ID_BYTES, MAX_RECIPIENTS, Recipient, RecipientKey

CONTENT_KEY_BYTES = 32
MAX_BATCH_BYTES = 2 << 20  # the largest body is 1 MiB; larger is hostile
MAX_CERTIFICATE_BYTES = 4096
INFO = b"cansight announcement 1"
_GCM_TAG = 16
_WRAP: Final = struct.Struct(f">{KEY_ID_BYTES}sH")
_MAX_WRAP_BYTES = 2048  # 1,168 with MLKEM768-X25519


@dataclass(frozen=True, slots=True)
class Sealed:
    """What goes into the outbox and travels. tags: what an honest receipt of each status carries (16 bytes each)."""

    header: Header
    data: bytes
    tags: dict[Status, bytes]


@dataclass(frozen=True, slots=True, repr=False)
class OpenedStream:
    """A verified announcement. columns: (m,) indices of the schema's signals; baseline: one tick of m columns, or None."""

    header: Header
    key: bytes
    announcement: Announcement
    certificate: x509.Certificate
    columns: NDArray[intp]
    baseline: Rows | None


def suite() -> hpke.Suite:
    """RFC 9180 base mode with the post-quantum hybrid KEM: what is recorded today stays closed to a quantum computer."""
    return hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def new_key() -> bytes:
    """A content key: 32 random bytes."""
    return os.urandom(CONTENT_KEY_BYTES)


def new_stream() -> bytes:
    """A stream id: 16 random bytes."""
    return os.urandom(STREAM_BYTES)


class StreamSealer:
    """Seals one stream's batches; used by one thread. It counts the sequence itself, because a repeated one would break GCM."""

    def __init__(self, vehicle: str, stream: bytes, key: bytes) -> None:
        self._vehicle = vehicle
        self._stream = stream
        self.key = key
        self._aead = AESGCM(key)
        self._tag_key = receipt_key(key)
        self._announced = False
        self.next_sequence = 1

    @classmethod
    def start(cls, vehicle: str) -> Self:
        """A new stream under a new key."""
        return cls(vehicle, new_stream(), new_key())

    @property
    def vehicle(self) -> str:
        return self._vehicle

    @property
    def stream(self) -> bytes:
        return self._stream

    def seal(self, kind: Kind, body: bytes) -> Sealed:
        """Seals a batch at the next sequence, from 1; StreamError when the sequence space is used up."""
        if self.next_sequence > MAX_SEQUENCE:
            raise StreamError(f"stream {self._stream.hex()}: all {MAX_SEQUENCE} sequences are used; start a new stream")
        header = Header(self._vehicle, self._stream, self.next_sequence)
        clear = header.pack()
        self.next_sequence += 1
        return Sealed(header, clear + self._encrypt(header, clear, kind, body), self._tags(clear))

    def seal_announcement(self, body: bytes, wrap: Callable[[bytes], bytes], sign: Callable[[bytes], bytes]) -> Sealed:
        """Seals sequence 0, once; `wrap(header)` gives the clear part between header and ciphertext. Use `announce`."""
        if self._announced:
            raise StreamError(f"stream {self._stream.hex()}: already announced; send the first announcement again or start a new stream")
        self._announced = True
        header = Header(self._vehicle, self._stream, 0)
        clear = header.pack()
        ciphertext = self._encrypt(header, clear, Kind.ANNOUNCEMENT, body)
        signed = b"".join([clear, wrap(clear), struct.pack(">I", len(ciphertext)), ciphertext])
        return Sealed(header, signed + sign(signed), self._tags(clear))

    def _encrypt(self, header: Header, clear: bytes, kind: Kind, body: bytes) -> bytes:
        return self._aead.encrypt(_nonce(header.sequence), bytes((kind,)) + body, clear)

    def _tags(self, clear: bytes) -> dict[Status, bytes]:
        return {status: tag_for(self._tag_key, clear, status) for status in Status}


class StreamOpener:
    """Opens one stream's batches."""

    def __init__(self, vehicle: str, stream: bytes, key: bytes) -> None:
        self._vehicle = vehicle
        self._stream = stream
        self._aead = AESGCM(key)

    def open(self, data: bytes, header: Header | None = None) -> tuple[Header, Kind, bytes]:
        """Decrypts a batch of sequence 1 and more. `header`: the data's own, where it is read already.

        FormatError when it is not one, AuthenticationError when it is another stream's or was altered, Unsupported when it is
        authentic and of an unknown kind.
        """
        if len(data) > MAX_BATCH_BYTES:
            raise FormatError(f"batch: expected at most {MAX_BATCH_BYTES} bytes, found {len(data)}")
        header = header or Header.unpack(data)
        if header.sequence == 0:
            raise FormatError("batch: sequence 0 is an announcement; read it with read_announcement")
        if (header.vehicle, header.stream) != (self._vehicle, self._stream):
            raise AuthenticationError(f"batch: stream {header.stream.hex()} of vehicle {header.vehicle} is not the opener's")
        kind, body = _decrypt(self._aead, header, data[:HEADER_BYTES], data[HEADER_BYTES:])
        return header, kind, body


def announce(
    sealer: StreamSealer,
    announcement: Announcement,
    recipients: Sequence[Recipient],
    certificate: x509.Certificate,
    signing_key: ec.EllipticCurvePrivateKey,
) -> Sealed:
    """Sequence 0 of the sealer's stream, for 1 to 3 recipients, signed by the vehicle's certificate key."""
    if not 1 <= len(recipients) <= MAX_RECIPIENTS:
        raise RecipientError(f"announcement: expected 1 to {MAX_RECIPIENTS} recipients, found {len(recipients)}")
    kind, body = encode_message(announcement)
    assert kind is Kind.ANNOUNCEMENT
    public_keys = [(recipient.key_id, recipient.hpke_key()) for recipient in recipients]
    der = _der(certificate)

    def wrap(clear: bytes) -> bytes:
        parts = [bytes((len(public_keys),))]
        for identity, public_key in public_keys:
            wrapped = suite().encrypt(sealer.key, public_key, INFO + clear)
            parts += [_WRAP.pack(identity, len(wrapped)), wrapped]
        return b"".join([*parts, struct.pack(">H", len(der)), der])

    return sealer.seal_announcement(body, wrap, lambda signed: signing_key.sign(signed, ec.ECDSA(hashes.SHA256())))


def read_announcement(data: bytes, recipient_keys: Mapping[bytes, RecipientKey], fleet_ca: x509.Certificate, now: datetime) -> OpenedStream:
    """Verifies and opens sequence 0; `now` is an aware datetime, `recipient_keys` is by key id.

    The certificate must be the fleet CA's, in date, for TLS clients, and its common name the header's vehicle; the signature must
    hold. FormatError, AuthenticationError, or RecipientError when none of the keys is among the recipients.
    """
    if len(data) > MAX_BATCH_BYTES:
        raise FormatError(f"announcement: expected at most {MAX_BATCH_BYTES} bytes, found {len(data)}")
    reader = _Reader(data)
    header = Header.unpack(reader.take(HEADER_BYTES, "header"))
    if header.sequence != 0:
        raise FormatError(f"announcement: expected sequence 0, found {header.sequence}")
    clear = data[:HEADER_BYTES]
    wraps = reader.wraps()
    certificate = _certificate(reader.take(reader.number(">H", "certificate length"), "certificate"))
    ciphertext = reader.take(reader.number(">I", "ciphertext length"), "ciphertext")
    # The signature comes before any private key is used: only the fleet's own vehicles get that far.
    _check_certificate(certificate, fleet_ca, header.vehicle, now)
    _check_signature(certificate, reader.rest(), data[: reader.at])
    key = _unwrap(wraps, recipient_keys, INFO + clear)
    kind, body = _decrypt(AESGCM(key), header, clear, ciphertext)
    message = decode_message(kind, body) if kind is not Kind.ROWS else None
    if not isinstance(message, Announcement):
        raise FormatError(f"announcement: expected kind 0, found {int(kind)}")
    columns = unpack_columns(message.columns)
    baseline = decode_rows(message.baseline, None) if message.baseline else None
    if baseline is not None and baseline.raw.shape != (1, len(columns)):
        raise FormatError(f"announcement.baseline: expected 1 tick of {len(columns)} columns, found {baseline.raw.shape}")
    return OpenedStream(header, key, message, certificate, columns, baseline)


class _Reader:
    """Takes fields off the front of hostile bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int, field: str) -> bytes:
        if count > len(self.data) - self.at:
            raise FormatError(f"announcement {field}: expected {count} bytes at byte {self.at}, found {len(self.data) - self.at}")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, layout: str, field: str) -> int:
        value: int = struct.unpack(layout, self.take(struct.calcsize(layout), field))[0]
        return value

    def wraps(self) -> list[tuple[bytes, bytes]]:
        count = self.number(">B", "number of wraps")
        if not 1 <= count <= MAX_RECIPIENTS:
            raise FormatError(f"announcement: expected 1 to {MAX_RECIPIENTS} wraps, found {count}")
        wraps = []
        for _ in range(count):
            identity, length = _WRAP.unpack(self.take(_WRAP.size, "wrap"))
            if length > _MAX_WRAP_BYTES:
                raise FormatError(f"announcement wrap: expected at most {_MAX_WRAP_BYTES} bytes, found {length}")
            wraps.append((identity, self.take(length, "wrap")))
        return wraps

    def rest(self) -> bytes:
        return self.data[self.at :]


def _nonce(sequence: int) -> bytes:
    return bytes(8) + struct.pack(">I", sequence)


def _decrypt(aead: AESGCM, header: Header, clear: bytes, ciphertext: bytes) -> tuple[Kind, bytes]:
    if len(ciphertext) < _GCM_TAG + 1:
        raise FormatError(f"batch: expected at least {_GCM_TAG + 1} bytes of ciphertext, found {len(ciphertext)}")
    try:
        plain = aead.decrypt(_nonce(header.sequence), ciphertext, clear)
    except InvalidTag:
        raise AuthenticationError(f"batch {header.sequence} of stream {header.stream.hex()}: altered, or another key's") from None
    try:
        return Kind(plain[0]), plain[1:]
    except ValueError:
        raise Unsupported(f"batch {header.sequence} of stream {header.stream.hex()}: kind {plain[0]} is not known") from None


def _unwrap(wraps: list[tuple[bytes, bytes]], recipient_keys: Mapping[bytes, RecipientKey], info: bytes) -> bytes:
    for identity, wrapped in wraps:
        private = recipient_keys.get(identity)
        if private is None:
            continue
        try:
            key = suite().decrypt(wrapped, private.hpke_key(), info)
        except (InvalidTag, ValueError):
            raise AuthenticationError(f"announcement: the wrap for key {identity.hex()} does not open") from None
        if len(key) != CONTENT_KEY_BYTES:
            raise FormatError(f"announcement: expected a content key of {CONTENT_KEY_BYTES} bytes, found {len(key)}")
        return key
    named = ", ".join(identity.hex() for identity, _ in wraps)
    raise RecipientError(f"announcement: none of our recipient keys is among its recipients ({named})")


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _certificate(der: bytes) -> x509.Certificate:
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise FormatError(f"announcement certificate: expected at most {MAX_CERTIFICATE_BYTES} bytes, found {len(der)}")
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise FormatError(f"announcement certificate: not an X.509 certificate ({str(error).splitlines()[0]})") from None


def _check_certificate(certificate: x509.Certificate, fleet_ca: x509.Certificate, vehicle: str, now: datetime) -> None:
    try:
        certificate.verify_directly_issued_by(fleet_ca)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (
        InvalidSignature,
        UnsupportedAlgorithm,
        ValueError,
        TypeError,
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise AuthenticationError(
            f"announcement of {vehicle}: the fleet CA did not issue its certificate ({type(error).__name__})"
        ) from None
    if len(names) != 1 or names[0].value != vehicle:
        raise AuthenticationError(f"announcement of {vehicle}: its certificate is another's")
    if is_ca or ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        raise AuthenticationError(f"announcement of {vehicle}: its certificate is not a vehicle's")
    for name, holder in (("its certificate", certificate), ("the fleet CA's certificate", fleet_ca)):
        if not holder.not_valid_before_utc <= now <= holder.not_valid_after_utc:
            valid = f"{holder.not_valid_before_utc:%Y-%m-%d} to {holder.not_valid_after_utc:%Y-%m-%d}"
            raise AuthenticationError(f"announcement of {vehicle}: {name} is valid from {valid}, and it is {now:%Y-%m-%d}")


def _check_signature(certificate: x509.Certificate, signature: bytes, signed: bytes) -> None:
    public_key = certificate.public_key()
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise AuthenticationError("announcement: the certificate's key is not an elliptic-curve key")
    try:
        public_key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise AuthenticationError("announcement: the vehicle's signature does not hold") from None
