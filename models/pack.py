"""A pack: a folder with model.onnx, manifest.json and, once signed, manifest.sig. Everything is checked before the model is run.

The signature (Ed25519) covers the manifest's bytes, the manifest holds the model's SHA-256: nothing in the folder can change unnoticed.
Files are read once, into memory, and what was checked is what is run.
"""

import base64
import binascii
import difflib
import hashlib
import os
import stat
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from numpy.typing import NDArray

from dbc.catalogue import IDENTITY, Catalogue
from dbc.network import network_names, network_periods, network_units
from dbc.schema import Schema
from models import manifest as manifests
from models.errors import PackError, PackSchemaError, PackSignatureError
from models.manifest import Manifest
from models.operators import check_operators

__all__ = ["Pack", "load_private_key", "load_public_key", "sign", "signals_fingerprint", "write"]

MODEL, MANIFEST, SIGNATURE = "model.onnx", "manifest.json", "manifest.sig"
MODEL_LIMIT = 16 << 20
"""Bytes; a detector for 250 signals takes under 1 MB, and an agent's whole budget is 115 MB."""
MANIFEST_LIMIT = 1 << 20
SIGNATURE_LIMIT = 1 << 10
SIGNED_PREFIX = b"cansight pack manifest 1\n"
"""Keeps a signature made for something else with the same key from passing for a pack's."""


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack whose manifest, hash, operators and (with `trusted`) signature have been checked."""

    folder: Path
    manifest: Manifest
    packed: bytes
    """The model, deflated: a vehicle keeps it for the rare tick that has to be explained, and it is mostly zeros."""

    @property
    def model(self) -> bytes:
        """The bytes of model.onnx; made anew each time."""
        return zlib.decompress(self.packed)

    @classmethod
    def load(cls, folder: str | Path, trusted: Ed25519PublicKey | None = None) -> "Pack":
        """Read and check the pack in `folder`.

        trusted: the public key that must have signed it; None takes an unsigned pack too, which only a workbench should.
        Raises PackError, one line that begins with the folder.
        """
        folder = Path(folder)
        try:
            return cls._load(folder, trusted)
        except PackError as error:
            raise type(error)(f"pack {folder}: {error}") from error

    @classmethod
    def _load(cls, folder: Path, trusted: Ed25519PublicKey | None) -> "Pack":
        if not folder.is_dir():
            raise PackError(
                "no such folder" if not folder.exists() else "not a folder; a pack is a folder with manifest.json and model.onnx"
            )
        data = _read(folder / MANIFEST, MANIFEST_LIMIT)
        if trusted is not None:
            _check_signature(folder, data, trusted)
        try:
            manifest = manifests.parse(data)
        except ValueError as error:
            raise PackError(f"{MANIFEST}: {error}") from error
        if whose := next((name for name in manifest.names if Catalogue.empty().consent_class(name) == IDENTITY), None):
            raise PackError(f"{MANIFEST}: {whose} says whose car it is, which no pack may look at; train it without")
        model = _read(folder / MODEL, MODEL_LIMIT)
        found = manifests.sha256(model)
        if found != manifest.model.sha256 or len(model) != manifest.model.bytes:
            wanted = manifest.model.sha256
            raise PackError(f"{MODEL} is not the file of the manifest: SHA-256 {found[:16]}…, expected {wanted[:16]}…; get the pack again")
        check_operators(model)
        return cls(folder, manifest, zlib.compress(model, 1))

    def columns(self, schema: Schema) -> NDArray[np.int64]:
        """Where the pack's inputs are among the schema's signals, and the network's figures behind them (`dbc.sampler.Snapshot.inputs`):
        (k,) int64 indices, in the order of the model's input.

        Raises PackSchemaError if a signal is missing, has another unit, or is defined otherwise than in training.
        """
        label = f"pack {self.folder}"
        names, units = (*schema.names, *network_names(schema)), (*schema.units, *network_units(schema))
        position = {name: at for at, name in enumerate(names)}
        for signal in self.manifest.signals:
            if signal.name not in position:
                close = difflib.get_close_matches(signal.name, names, n=1, cutoff=0.8)
                hint = f"; the nearest is {close[0]}" if close else ""
                raise PackSchemaError(f"{label}: the DBC has no signal {signal.name}{hint}; use a pack that was trained with this DBC")
            unit = units[position[signal.name]]
            if self.manifest.signals_id and unit != signal.unit:
                raise PackSchemaError(
                    f"{label}: {signal.name} is in {unit!r} in the DBC and in {signal.unit!r} in the pack; retrain it with this DBC"
                )
        columns = np.array([position[name] for name in self.manifest.names], np.int64)
        if self.manifest.signals_id:
            found = signals_fingerprint(schema, columns)
            if found != self.manifest.signals_id:
                raise PackSchemaError(
                    f"{label}: the DBC defines the pack's signals otherwise than in training (fingerprint {found}, "
                    f"expected {self.manifest.signals_id}); retrain it with this DBC"
                )
        return columns


def signals_fingerprint(schema: Schema, columns: NDArray[np.int64]) -> str:
    """32 hex digits over how the DBC defines these signals: name, unit, kind, scale, offset, and choices.

    Of a figure of the network: its name and the message's period. The bus's name is left out (the same car's bus is can0 in a log and vcan0
    on a bench), and so is every other signal: a DBC that gains one keeps its packs.
    """
    digest = hashlib.sha256()
    figures, periods = network_names(schema), network_periods(schema)
    for column in columns:
        if column >= len(schema):  # a figure of the network
            at = int(column) - len(schema)
            digest.update(repr((figures[at], float(periods[at]))).encode())
            continue
        choices = schema.choices[column]
        digest.update(
            repr(
                (
                    schema.names[column],
                    schema.units[column],
                    int(schema.kind[column]),
                    float(schema.scale[column]),
                    float(schema.offset[column]),
                    sorted(choices.items()) if choices else [],
                )
            ).encode()
        )
    return digest.hexdigest()[:32]


def write(folder: str | Path, manifest: Manifest, model: bytes) -> Path:
    """Write an unsigned pack; each file appears whole or not at all, and an older signature is removed first. Returns the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SIGNATURE).unlink(missing_ok=True)
    _replace(folder / MODEL, model)
    _replace(folder / MANIFEST, manifests.encode(manifest))
    return folder


def sign(folder: str | Path, key: Ed25519PrivateKey) -> None:
    """Check the pack in `folder` and write its manifest.sig. Raises PackError."""
    folder = Path(folder)
    Pack.load(folder)
    data = _read(folder / MANIFEST, MANIFEST_LIMIT)
    _replace(folder / SIGNATURE, base64.b64encode(key.sign(SIGNED_PREFIX + data)) + b"\n")


def load_public_key(path: str | Path) -> Ed25519PublicKey:
    """The Ed25519 public key of a PEM file. Raises PackError."""
    try:
        key = load_pem_public_key(_read_key(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PackError(f"{path}: not a PEM file with a public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise PackError(f"{path}: expected an Ed25519 public key, found {type(key).__name__}")
    return key


def load_private_key(path: str | Path) -> Ed25519PrivateKey:
    """The Ed25519 private key of a PEM file without a password. Raises PackError."""
    try:
        key = load_pem_private_key(_read_key(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PackError(f"{path}: not a PEM file with a private key that needs no password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise PackError(f"{path}: expected an Ed25519 private key, found {type(key).__name__}")
    return key


def _read_key(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise PackError(f"{path}: cannot be read as a key: {error.strerror}") from error


def _check_signature(folder: Path, manifest: bytes, trusted: Ed25519PublicKey) -> None:
    if not (folder / SIGNATURE).exists():
        raise PackSignatureError(f"not signed: {SIGNATURE} is missing; sign it with `cansight models sign`")
    try:
        signature = base64.b64decode(_read(folder / SIGNATURE, SIGNATURE_LIMIT).strip(), validate=True)
        trusted.verify(signature, SIGNED_PREFIX + manifest)
    except (binascii.Error, ValueError, InvalidSignature) as error:
        raise PackSignatureError(
            f"{SIGNATURE} was not made by the trusted key for this {MANIFEST}; get the pack again or sign it"
        ) from error


def _read(path: Path, limit: int) -> bytes:
    """The bytes of a plain file of at most `limit` bytes; links are not followed, pipes and devices not opened for reading."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = "is a link, which packs may not hold" if path.is_symlink() else f"cannot be read: {error.strerror}"
        raise PackError(f"{path.name} {reason}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PackError(f"{path.name} is not a plain file")
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise PackError(f"{path.name} is over {limit} bytes, the most that is read")
    return data


def _replace(path: Path, data: bytes) -> None:
    """Temporary file in the same folder, fsync, rename: a reader sees the old bytes or the new ones."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
