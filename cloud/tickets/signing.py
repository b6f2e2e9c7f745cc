"""The key that vouches for the tickets' hash chains: Ed25519 (RFC 8032), its private half in a file of its owner's alone."""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from cloud.tickets.errors import TicketsUnusable

__all__ = ["AuditKey", "head_bytes", "key_id", "load_public_keys", "verified"]

PRIVATE_FILE, PUBLIC_FILE = "audit.key", "audit.pub"


class AuditKey:
    """A signing key. `load_or_make` reads it from a folder, or makes it there; replicas are given the same folder's content."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.key_id = key_id(private.public_key())

    @classmethod
    def load_or_make(cls, folder: Path) -> "AuditKey":
        """Raises TicketsUnusable."""
        path = folder / PRIVATE_FILE
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not path.exists():
                made = Ed25519PrivateKey.generate()
                _place(folder, path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
            private = load_pem_private_key(path.read_bytes(), None)
            if not isinstance(private, Ed25519PrivateKey):
                raise ValueError
            public = folder / PUBLIC_FILE
            if not public.exists():
                _place(folder, public, private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)
        except OSError as error:
            raise TicketsUnusable(f"{path}: the audit's key cannot be used: {error.strerror}") from error
        except (ValueError, TypeError):
            raise TicketsUnusable(f"{path}: expected an unencrypted Ed25519 private key in PEM") from None
        return cls(private)

    def sign(self, data: bytes) -> bytes:
        """64 bytes."""
        return self._private.sign(data)


def head_bytes(ticket_id: int, number: int, hash_: str) -> bytes:
    """What is signed of a chain's newest entry."""
    return f"cansight ticket head\n{ticket_id}\n{number}\n{hash_}".encode()


def key_id(public: Ed25519PublicKey) -> str:
    """The first 16 hex digits of SHA-256 of the raw public key."""
    return hashlib.sha256(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def load_public_keys(folder: Path) -> dict[str, Ed25519PublicKey]:
    """Every `*.pub` of a folder, by key id: an old key's public half stays there when a new one is made. Raises TicketsUnusable."""
    found = {}
    for path in sorted(folder.glob("*.pub")):
        try:
            public = load_pem_public_key(path.read_bytes())
        except (OSError, ValueError) as error:
            raise TicketsUnusable(f"{path}: expected an Ed25519 public key in PEM: {error}") from None
        if not isinstance(public, Ed25519PublicKey):
            raise TicketsUnusable(f"{path}: expected an Ed25519 public key in PEM, found {type(public).__name__}")
        found[key_id(public)] = public
    if not found:
        raise TicketsUnusable(f"{folder}: expected the audit's public key {PUBLIC_FILE}, found no *.pub")
    return found


def verified(keys: dict[str, Ed25519PublicKey], by: str, signature: bytes, data: bytes) -> bool:
    """Whether the key that is called `by` is known and has signed `data`."""
    public = keys.get(by)
    if public is None:
        return False
    try:
        public.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def _place(folder: Path, path: Path, data: bytes, mode: int) -> None:
    """A whole new file; one that another process has placed meanwhile stays."""
    handle, name = tempfile.mkstemp(dir=folder, prefix=".audit-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink()
