"""Files of the fleet's folder: keys 0600, folders 0700, each file whole or not at all, one writer at a time."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from cloud.errors import PkiError
from wire.folder import sync_folder

THERE = "{}: is there already, and keys are never overwritten; choose another folder or move it away"
PUBLIC, PRIVATE = 0o644, 0o600


def load_certificate(path: Path) -> x509.Certificate:
    """A PEM certificate file's first certificate; PkiError when it is none."""
    return load_certificates(path)[0]


def load_certificates(path: Path) -> list[x509.Certificate]:
    """All certificates of a PEM file, one at least: `fleet-ca.pem` holds two while an old CA is replaced. PkiError when it is none."""
    data = read(path)
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        raise PkiError(f"{path}: expected a PEM certificate; make one with `cansight pki`") from None


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A PEM file of an unencrypted elliptic-curve private key; PkiError when it is none."""
    data = read(path)
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError):
        raise PkiError(f"{path}: expected an unencrypted PEM private key; make one with `cansight pki`") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiError(f"{path}: expected an elliptic-curve private key, found {type(key).__name__}")
    return key


def read(path: Path) -> bytes:
    """The file's bytes; PkiError says what to do when it is not there."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise PkiError(f"{path}: {error.strerror}; make the fleet's keys with `cansight pki init`") from None
    except OSError as error:
        raise PkiError(f"{path}: cannot be read: {error.strerror}") from None


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def refuse_existing(paths: Sequence[Path]) -> None:
    """PkiError when any of them is there."""
    for path in paths:
        try:
            there = path.exists()
        except OSError as error:
            raise PkiError(f"{path}: {error.strerror}") from None
        if there:
            raise PkiError(THERE.format(path))


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise PkiError(f"{folder}: cannot make the folder: {error.strerror}") from None


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Waits until nobody else changes the fleet's folder. PkiError when there is no such folder."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise PkiError(f"{folder}: {error.strerror}; make the fleet's keys with `cansight pki init`") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write(path: Path, data: bytes, mode: int) -> None:
    """Writes a file that is not there yet, whole and durable. The last step is a link, which unlike a rename never replaces."""
    try:
        temporary = _temporary(path, data, mode)
        try:
            os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    except FileExistsError:
        raise PkiError(THERE.format(path)) from None
    except OSError as error:
        raise PkiError(f"{path}: cannot write it: {error.strerror}") from None


def replace(path: Path, data: bytes, mode: int) -> None:
    """Puts a file in the place of another, whole and durable."""
    try:
        temporary = _temporary(path, data, mode)
        try:
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise PkiError(f"{path}: cannot write it: {error.strerror}") from None


def keep_beside(path: Path, kept: Path) -> None:
    """A second name for a file, so that replacing it loses nothing. Nothing happens where it is kept already, or is not here any more."""
    if not path.exists():
        return  # a vehicle's key that is on the vehicle alone
    try:
        os.link(path, kept)
    except FileExistsError:
        return
    except OSError as error:
        raise PkiError(f"{kept}: cannot write it: {error.strerror}") from None


def destroy(path: Path) -> None:
    """Overwrites a private key with zeros, durably, and removes it. PkiError when it cannot.

    Flash and copy-on-write file systems may keep the old blocks: there, only an encrypted disk makes this sure (docs/pki.md).
    """
    try:
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
        sync_folder(path.parent)
    except OSError as error:
        raise PkiError(f"{path}: cannot be destroyed: {error.strerror}") from None


def _temporary(path: Path, data: bytes, mode: int) -> Path:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # 0600 from the start
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)
