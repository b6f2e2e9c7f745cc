"""`cansight pki check`: everything in the fleet's folder, what it is good for, until when, and what is to be done about it."""

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from cloud.certificates import common_name, issued_by, usages, validity
from cloud.errors import PkiError
from cloud.pki import SERVICES, load_ca
from cloud.pki_files import load_certificate, load_certificates, load_key
from cloud.pki_recipients import recipients
from cloud.pki_revocation import LIST, load_revocation_lists, revoked_names
from cloud.replica_names import replicas
from wire.topics import VEHICLE_PATTERN


@dataclass(frozen=True)
class Found:
    """One thing that was looked at. ok: nothing is to be done. words: what it is, or what is wrong and what to do."""

    what: str
    ok: bool
    words: str


def check(folder: Path, now: datetime) -> list[Found]:
    """Every finding; one that fails leaves none of the others out. `now` is aware. PkiError when there is no CA at all."""
    cas = load_certificates(folder / "fleet-ca.pem")
    found = [*_authority(folder, cas, now), *_modes(folder)]
    try:
        revoked = set(revoked_names(folder))
    except PkiError as error:
        found.append(Found("revoked.json", False, str(error)))
        revoked = set()
    found += [_pair(folder / name, name, cas, now, None) for name in (*SERVICES, *replicas(folder))]
    found += [_vehicle(paths, name, cas, now, name in revoked) for name, paths in _vehicles(folder)]
    return [*found, *_recipients(folder, now)]


def _authority(folder: Path, cas: list[x509.Certificate], now: datetime) -> Iterable[Found]:
    yield _date("fleet CA", cas[0], now, "the fleet needs new keys")
    if not (folder / "fleet-ca.key").exists():
        yield Found("fleet CA's key", True, "is not here, as it should be on all machines but one")
    else:
        try:
            load_ca(folder)
        except PkiError as error:
            yield Found("fleet CA's key", False, str(error))
    for old in cas[1:]:
        yield Found("old fleet CA", True, f"still trusted; `cansight pki renew {folder} ca --drop-old` when every vehicle has renewed")
        yield _date("old fleet CA", old, now, f"`cansight pki renew {folder} ca --drop-old`")
    yield _list(folder, cas)


def _list(folder: Path, cas: list[x509.Certificate]) -> Found:
    try:
        lists = load_revocation_lists(folder / LIST)
        revoked = {serial for one in revoked_names(folder).values() for serial in one.serials}
    except PkiError as error:
        return Found("revocation list", False, str(error))
    anew = f"`cansight pki revoke {folder}` writes it anew"
    for ca in cas:
        own = [one for one in lists if one.issuer == ca.subject]
        if not own or not own[0].is_signature_valid(ca.public_key()):  # type: ignore[arg-type]  # the fleet's CAs have P-256 keys
            return Found("revocation list", False, f"{folder / LIST}: has no list of {common_name(ca)}: the broker lets nobody in; {anew}")
        if {f"{entry.serial_number:x}" for entry in own[0]} != revoked:
            return Found("revocation list", False, f"{folder / LIST}: is not what revoked.json says; {anew}")
    return Found("revocation list", True, f"{len(revoked)} certificate(s)")


def _modes(folder: Path) -> Iterable[Found]:
    keys = [*folder.glob("*.key"), *folder.glob("vehicles/*.key")]
    for path in keys:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            yield Found(f"{path.name}", False, f"{path}: others can read it (mode {mode:04o}); chmod 600 it, and renew if they may have")
    yield Found("private keys", True, f"{len(keys)}")


def _vehicles(folder: Path) -> Iterable[tuple[str, list[Path]]]:
    by_name: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("vehicles/*.pem")):
        name = path.name.partition(".")[0]
        if VEHICLE_PATTERN.fullmatch(name):
            by_name.setdefault(name, []).append(path)
    yield from by_name.items()


def _vehicle(paths: list[Path], name: str, cas: list[x509.Certificate], now: datetime, revoked: bool) -> Found:
    if revoked:
        return Found(f"vehicle {name}", True, "revoked")
    try:
        newest = max(paths, key=lambda path: load_certificate(path).not_valid_after_utc)
    except PkiError as error:
        return Found(f"vehicle {name}", False, str(error))
    return _pair(newest.with_suffix(""), name, cas, now, name)


def _pair(stem: Path, name: str, cas: list[x509.Certificate], now: datetime, vehicle: str | None) -> Found:
    what = name if vehicle is None else f"vehicle {vehicle}"
    path, key = stem.parent / f"{stem.name}.pem", stem.parent / f"{stem.name}.key"
    try:
        certificate = load_certificate(path)
        if key.exists() and load_key(key).public_key() != certificate.public_key():
            return Found(what, False, f"{key}: is not the key of {path}; renew it")
    except PkiError as error:
        return Found(what, False, str(error))
    issuer = issued_by(certificate, cas)
    if issuer is None:
        return Found(what, False, f"{path}: was not issued by a CA in fleet-ca.pem")
    if (vehicle or name != "broker") and common_name(certificate) != name:
        return Found(what, False, f"{path}: expected the common name {name}, found {common_name(certificate) or 'none'}")
    if not usages(certificate):
        return Found(what, False, f"{path}: is for nothing that a broker asks for")
    remedy = f"`cansight pki renew {stem.parent.parent if vehicle else stem.parent} {name}`"
    if issuer != cas[0] and vehicle is None:
        return Found(what, True, f"the old CA's; {remedy} when every vehicle trusts the new one")
    return _date(what, certificate, now, remedy)


def _date(what: str, certificate: x509.Certificate, now: datetime, remedy: str) -> Found:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin <= now <= end:
        return Found(what, False, f"is valid from {validity(certificate)}, and now it is {now:%Y-%m-%d %H:%M} UTC; {remedy}")
    if now > begin + (end - begin) * 0.9:
        return Found(what, False, f"ends on {end:%Y-%m-%d}; {remedy}")
    return Found(what, True, f"until {end:%Y-%m-%d}")


def _recipients(folder: Path, now: datetime) -> Iterable[Found]:
    seconds = now.astimezone(UTC).timestamp()
    try:
        keys = recipients(folder)
    except PkiError as error:
        yield Found("recipient keys", False, str(error))
        return
    for key in keys:
        what = f"recipient {key.name}"
        if not key.private.exists():
            yield Found(what, True, "private half destroyed, or not here")
        elif key.over(seconds):
            yield Found(what, False, f"{key.private}: its time was over on {key.destroyed_on}; `cansight pki recipient {folder} --retire`")
        elif key.wrapped_for(seconds):
            until = datetime.fromtimestamp(key.recipient.not_after, UTC)
            yield Found(what, True, f"vehicles use it until {until:%Y-%m-%d}, the private half is kept until {key.destroyed_on}")
        else:
            yield Found(what, True, f"vehicles use it no more; the private half is kept until {key.destroyed_on}")
    if not any(key.wrapped_for(seconds) for key in keys):
        yield Found("recipient keys", False, f"none is in date, so no vehicle can start; `cansight pki recipient {folder}`")
