"""Recipient keys: who may read what vehicles send. Made, counted, and their private halves destroyed when their time is over.

Vehicles wrap for a key for 310 days; a batch may wait 90 days in an outbox; after 400 days nothing that is still to come needs the
private half.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from cloud.errors import PkiError
from cloud.pki_files import PRIVATE, PUBLIC, destroy, load_certificates, load_key, locked, read, replace, write
from wire.errors import WireError
from wire.recipients import MAX_RECIPIENTS, Recipient, RecipientKey, load_recipient_keys, read_recipient, write_recipient

DAYS = 400  # then the private half is destroyed, and what was recorded stays closed
OUTBOX_DAYS = 90  # an outbox keeps nothing for longer
WRAP_DAYS = DAYS - OUTBOX_DAYS
_DAY_S = 86_400


@dataclass(frozen=True)
class Key:
    """One recipient key of the folder. document: the signed public half; private: the other, which may be destroyed or elsewhere."""

    document: Path
    private: Path
    recipient: Recipient

    @property
    def name(self) -> str:
        return self.recipient.key_id.hex()

    def wrapped_for(self, now: float) -> bool:
        """Whether vehicles may still use it."""
        return now <= self.recipient.not_after

    def over(self, now: float) -> bool:
        """Whether nothing that is still to come needs the private half."""
        return now > self.recipient.not_after + OUTBOX_DAYS * _DAY_S

    @property
    def destroyed_on(self) -> str:
        return f"{datetime.fromtimestamp(self.recipient.not_after + OUTBOX_DAYS * _DAY_S, UTC):%Y-%m-%d}"


def make_recipient(path: Path, ca_key: ec.EllipticCurvePrivateKey, now: float | None = None) -> Recipient:
    """A new key as `path`.key and `path`.json."""
    key = RecipientKey.generate()
    not_after = int(time.time() if now is None else now) + WRAP_DAYS * _DAY_S
    write(path.with_suffix(".key"), key.to_pem().encode(), PRIVATE)
    write(path.with_suffix(".json"), write_recipient(key.public(), not_after, ca_key), PUBLIC)
    return Recipient(key.public(), not_after)


def add_recipient(folder: Path, now: float) -> Key:
    """A new recipient key beside those that are there. PkiError when three are in date: a stream is wrapped for no more."""
    with locked(folder):
        current = [key for key in recipients(folder) if key.wrapped_for(now)]
        if len(current) >= MAX_RECIPIENTS:
            names = ", ".join(key.name for key in current)
            raise PkiError(
                f"{folder}: {len(current)} recipient keys are in date ({names}), and a stream takes {MAX_RECIPIENTS}; retire one"
            )
        path = folder / f"recipient-{datetime.fromtimestamp(now, UTC):%Y%m%d}"
        for number in range(2, 100):
            if not path.with_suffix(".key").exists() and not path.with_suffix(".json").exists():
                break
            path = folder / f"recipient-{datetime.fromtimestamp(now, UTC):%Y%m%d}-{number}"
        recipient = make_recipient(path, load_key(folder / "fleet-ca.key"), now)
    return Key(path.with_suffix(".json"), path.with_suffix(".key"), recipient)


def sign_again(folder: Path, ca_key: ec.EllipticCurvePrivateKey) -> None:
    """Every document signed by this CA's key, when another's is to be trusted no more; dates stay. The caller has the folder locked."""
    for one in recipients(folder):
        replace(one.document, write_recipient(one.recipient.public, one.recipient.not_after, ca_key), PUBLIC)


def retire(folder: Path, now: float, name: str | None = None) -> list[Key]:
    """Destroys the private halves whose 400 days are over, or that of the key `name` (its id, 16 hexadecimal digits) at once.

    PkiError when there is no such key, or it is the last that vehicles may use.
    """
    with locked(folder):
        keys = [key for key in recipients(folder) if key.private.exists()]
        if name is None:
            over = [key for key in keys if key.over(now)]
        else:
            over = [key for key in keys if key.name == name]
            if not over:
                known = ", ".join(key.name for key in keys) or "none"
                raise PkiError(f"recipient key {name[:40]}: no private half of that id is in {folder}; there are: {known}")
            if over[0].wrapped_for(now) and not any(key.wrapped_for(now) for key in keys if key.name != name):
                raise PkiError(f"recipient key {name}: is the last one in date; make another first: cansight pki recipient {folder}")
        for key in over:
            destroy(key.private)
    return over


def recipients(folder: Path) -> list[Key]:
    """Every recipient key of the folder, expired ones too; PkiError names a document that cannot be used, or a key that is another's."""
    cas = load_certificates(folder / "fleet-ca.pem")
    found = []
    for document in sorted(folder.glob("recipient*.json")):
        data = read(document)
        for ca in cas:
            try:
                recipient = read_recipient(data, ca, 0.0, str(document))
                break
            except WireError as error:
                problem = str(error)
        else:
            raise PkiError(problem)
        private = document.with_suffix(".key")
        if private.exists():
            try:
                held = load_recipient_keys([private])
            except WireError as error:
                raise PkiError(str(error)) from None
            if list(held) != [recipient.key_id]:
                raise PkiError(f"{private}: is not the private half of {document}")
        found.append(Key(document, private, recipient))
    return found
