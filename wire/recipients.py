"""Recipient keys: who may open a stream. The public half is a document signed by the fleet CA, the private half a key file.

The document is JSON: {"format": "cansight recipient 1", "public_key": base64, "not_after": seconds since 1970,
"signature": base64}. The signature is ECDSA P-256 / SHA-256 by the fleet CA's key over
"cansight recipient 1" | u64 not_after | public_key. A key's id is the first 8 bytes of SHA-256(public_key).
"""

import base64
import binascii
import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Self

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519

from wire.errors import AuthenticationError, RecipientError

FORMAT: Final = "cansight recipient 1"
KEY_ID_BYTES = 8
MAX_RECIPIENTS = 3  # two in use while keys are rotated, one for escrow; each costs 1,178 bytes in an announcement
MAX_DOCUMENT_BYTES = 8192
_MLKEM_SEED, _MLKEM_PUBLIC, _X25519 = 64, 1184, 32  # bytes: FIPS 203, RFC 7748
_PEM_BEGIN, _PEM_END = "-----BEGIN CANSIGHT RECIPIENT PRIVATE KEY-----", "-----END CANSIGHT RECIPIENT PRIVATE KEY-----"


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    public_key: str
    not_after: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]
    signature: str


@dataclass(frozen=True, slots=True)
class Recipient:
    """A verified public key. public: 1,216 bytes (ML-KEM-768, then X25519). not_after: seconds since 1970."""

    public: bytes
    not_after: int

    @property
    def key_id(self) -> bytes:
        """8 bytes."""
        return key_id(self.public)

    def hpke_key(self) -> hpke.MLKEM768X25519PublicKey:
        """The key as HPKE takes it; RecipientError when it is not one."""
        try:
            mlkem_key = mlkem.MLKEM768PublicKey.from_public_bytes(self.public[:_MLKEM_PUBLIC])
            return hpke.MLKEM768X25519PublicKey(mlkem_key, x25519.X25519PublicKey.from_public_bytes(self.public[_MLKEM_PUBLIC:]))
        except ValueError as error:
            raise RecipientError(f"recipient key {self.key_id.hex()}: not an MLKEM768-X25519 key ({error})") from None


@dataclass(frozen=True, repr=False)
class RecipientKey:
    """The private half. secret: 96 bytes (ML-KEM-768 seed, then X25519)."""

    secret: bytes

    @classmethod
    def generate(cls) -> Self:
        mlkem_seed = mlkem.MLKEM768PrivateKey.generate().private_bytes_raw()
        return cls(mlkem_seed + x25519.X25519PrivateKey.generate().private_bytes_raw())

    def _halves(self) -> tuple[mlkem.MLKEM768PrivateKey, x25519.X25519PrivateKey]:
        if len(self.secret) != _MLKEM_SEED + _X25519:
            raise RecipientError(f"recipient private key: expected {_MLKEM_SEED + _X25519} bytes, found {len(self.secret)}")
        mlkem_key = mlkem.MLKEM768PrivateKey.from_seed_bytes(self.secret[:_MLKEM_SEED])
        return mlkem_key, x25519.X25519PrivateKey.from_private_bytes(self.secret[_MLKEM_SEED:])

    def public(self) -> bytes:
        """1,216 bytes."""
        mlkem_key, x25519_key = self._halves()
        return mlkem_key.public_key().public_bytes_raw() + x25519_key.public_key().public_bytes_raw()

    @property
    def key_id(self) -> bytes:
        """8 bytes."""
        return key_id(self.public())

    def hpke_key(self) -> hpke.MLKEM768X25519PrivateKey:
        """The key as HPKE takes it."""
        return self._hpke_key

    @cached_property
    def _hpke_key(self) -> hpke.MLKEM768X25519PrivateKey:
        """Made once: from a seed it takes a quarter of the time that opening an announcement takes."""
        return hpke.MLKEM768X25519PrivateKey(*self._halves())

    def to_pem(self) -> str:
        """The key file's text."""
        text = base64.b64encode(self.secret).decode()
        return "\n".join([_PEM_BEGIN, *(text[at : at + 64] for at in range(0, len(text), 64)), _PEM_END, ""])

    @classmethod
    def from_pem(cls, text: str) -> Self:
        """Reads a key file's text; RecipientError when it is not one. The message never quotes the text."""
        lines = [line.strip() for line in text.strip().splitlines()]
        if len(lines) < 3 or lines[0] != _PEM_BEGIN or lines[-1] != _PEM_END:
            raise RecipientError(f"recipient private key: expected a file from {_PEM_BEGIN} to {_PEM_END}")
        try:
            key = cls(base64.b64decode("".join(lines[1:-1]), validate=True))
        except (binascii.Error, ValueError):
            raise RecipientError("recipient private key: its text is not base64") from None
        key._halves()
        return key


def key_id(public: bytes) -> bytes:
    """The 8-byte id of a public key."""
    return hashlib.sha256(public).digest()[:KEY_ID_BYTES]


def write_recipient(public: bytes, not_after: int, ca_key: ec.EllipticCurvePrivateKey) -> bytes:
    """The signed document of a public key that may be used until `not_after` (seconds since 1970)."""
    signature = ca_key.sign(_signed(public, not_after), ec.ECDSA(hashes.SHA256()))
    document = _Document(FORMAT, base64.b64encode(public).decode(), not_after, base64.b64encode(signature).decode())
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def read_recipient(data: bytes, fleet_ca: x509.Certificate, now: float, source: str = "recipient document") -> Recipient:
    """Verifies a document; `now` in seconds since 1970.

    RecipientError when it is malformed or expired, AuthenticationError when the fleet CA did not sign it.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        raise RecipientError(f"{source}: expected at most {MAX_DOCUMENT_BYTES} bytes, found {len(data)}")
    try:
        document = msgspec.json.decode(data, type=_Document)
        public = base64.b64decode(document.public_key, validate=True)
        signature = base64.b64decode(document.signature, validate=True)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RecipientError(f"{source}: not a recipient document ({str(error).splitlines()[0]})") from None
    if document.format != FORMAT:
        raise RecipientError(f"{source}: expected format {FORMAT!r}, found {document.format[:40]!r}")
    if len(public) != _MLKEM_PUBLIC + _X25519:
        raise RecipientError(f"{source}: expected a public key of {_MLKEM_PUBLIC + _X25519} bytes, found {len(public)}")
    ca_key = fleet_ca.public_key()
    if not isinstance(ca_key, ec.EllipticCurvePublicKey):
        raise AuthenticationError(f"{source}: the fleet CA's key is not an elliptic-curve key")
    try:
        ca_key.verify(signature, _signed(public, document.not_after), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise AuthenticationError(f"{source}: the fleet CA did not sign this key; get recipient.json from the fleet's pki folder") from None
    if now > document.not_after:
        raise RecipientError(
            f"{source}: the key expired at {document.not_after} (seconds since 1970); get the fleet's newest recipient.json"
        )
    recipient = Recipient(public, document.not_after)
    recipient.hpke_key()
    return recipient


def load_recipient_keys(files: Iterable[str | Path]) -> dict[bytes, RecipientKey]:
    """Private keys of key files by key id; RecipientError names the file."""
    keys: dict[bytes, RecipientKey] = {}
    for file in files:
        try:
            key = RecipientKey.from_pem(Path(file).read_text(encoding="ascii"))
        except OSError as error:
            raise RecipientError(f"{file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise RecipientError(f"{file}: expected a text file from {_PEM_BEGIN} to {_PEM_END}") from None
        except RecipientError as error:
            raise RecipientError(f"{file}: {error}") from None
        keys[key.key_id] = key
    return keys


def _signed(public: bytes, not_after: int) -> bytes:
    return FORMAT.encode() + struct.pack(">Q", not_after) + public
