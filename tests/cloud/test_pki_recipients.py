"""Recipient keys through their lives, and what `cloud run` says of certificates and keys that it cannot work with."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from fleet_certificates import lay_down

import servers
from cloud import pki as fleet
from cloud.errors import PkiError
from cloud.pki_files import load_certificates
from cloud.pki_recipients import DAYS, OUTBOX_DAYS, add_recipient, recipients, retire
from processes import cloud_settings
from wire.recipients import MAX_RECIPIENTS, read_recipient

EV = Path(__file__).parents[2] / "dbc" / "vehicles" / "cansight_ev"
DAY_S = 86_400


def test_three_keys_are_in_date_at_most(pki: Path) -> None:
    now = time.time()
    for _ in range(MAX_RECIPIENTS - 1):
        add_recipient(pki, now)
    with pytest.raises(PkiError, match=r"3 recipient keys are in date .* retire one"):
        add_recipient(pki, now)
    later = now + (DAYS - OUTBOX_DAYS + 1) * DAY_S  # vehicles use none of them any more
    assert add_recipient(pki, later).wrapped_for(later)
    assert len(recipients(pki)) == MAX_RECIPIENTS + 1


def test_a_private_half_is_destroyed_after_400_days_and_not_before(pki: Path) -> None:
    now = time.time()
    old = recipients(pki)[0]
    new = add_recipient(pki, now + 200 * DAY_S)
    assert retire(pki, now + (DAYS - 1) * DAY_S) == []
    assert old.private.exists()
    assert [key.name for key in retire(pki, now + (DAYS + 1) * DAY_S)] == [old.name]
    assert not old.private.exists()
    assert new.private.exists()
    assert old.document.exists()
    assert retire(pki, now + (DAYS + 1) * DAY_S) == []


def test_a_key_is_destroyed_at_once_when_named_but_never_the_last(pki: Path) -> None:
    now, only = time.time(), recipients(pki)[0]
    with pytest.raises(PkiError, match="is the last one in date; make another first"):
        retire(pki, now, only.name)
    add_recipient(pki, now)
    with pytest.raises(PkiError, match="no private half of that id"):
        retire(pki, now, "00")
    assert [key.name for key in retire(pki, now, only.name)] == [only.name]


def test_a_private_half_of_another_key_is_named(pki: Path, tmp_path: Path) -> None:
    fleet.init(tmp_path / "other")
    (tmp_path / "other" / "recipient.key").replace(pki / "recipient.key")
    with pytest.raises(PkiError, match=r"recipient\.key: is not the private half of .*recipient\.json"):
        recipients(pki)
    (tmp_path / "other" / "recipient.json").replace(pki / "recipient.json")
    with pytest.raises(PkiError, match="the fleet CA did not sign this key"):
        recipients(pki)


def test_documents_hold_for_who_trusts_both_cas_and_then_the_new_one(pki: Path) -> None:
    ca, old = fleet.renew_ca(pki)
    data = (pki / "recipient.json").read_bytes()
    before = read_recipient(data, old, time.time())
    for name in ("broker", "aggregator", "registrar"):
        fleet.renew(pki, name)
    fleet.drop_old_ca(pki)
    assert load_certificates(pki / "fleet-ca.pem") == [ca]
    assert read_recipient((pki / "recipient.json").read_bytes(), ca, time.time()) == before


def _expired(pki: Path, document: dict[str, Any], _: Path) -> str:
    lay_down(pki, "old", name="aggregator", begin_h=-48, end_h=-1)
    document["broker"] |= {"certificate": str(pki / "vehicles" / "old.pem"), "key": str(pki / "vehicles" / "old.key")}
    return "old.pem: is valid from"


def _foreign(_: Path, document: dict[str, Any], other: Path) -> str:
    document["broker"] |= {"certificate": str(other / "aggregator.pem"), "key": str(other / "aggregator.key")}
    return "aggregator.pem: was not issued by the fleet CA"


def _vehicles(pki: Path, document: dict[str, Any], _: Path) -> str:
    lay_down(pki, "car", usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    document["broker"] |= {"certificate": str(pki / "vehicles" / "car.pem"), "key": str(pki / "vehicles" / "car.key")}
    return "expected the common name aggregator"


def _junk(text: bytes, words: str) -> Any:
    def damage(pki: Path, _document: dict[str, Any], _other: Path) -> str:
        (pki / "recipient.key").write_bytes(text)
        return words

    return damage


BEGIN, END = b"-----BEGIN CANSIGHT RECIPIENT PRIVATE KEY-----\n", b"\n-----END CANSIGHT RECIPIENT PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    "damage",
    [
        _expired,
        _foreign,
        _vehicles,
        _junk(b"\xff\xfe\x00", "recipient.key: expected a text file from"),
        _junk(b"", "recipient.key: recipient private key: expected a file from"),
        _junk(BEGIN + b"!!!!" + END, "recipient.key: recipient private key: its text is not base64"),
        _junk(BEGIN + b"AAAA" + END, "recipient.key: recipient private key: expected 96 bytes, found 3"),
    ],
    ids=["expired", "foreign", "a vehicle's", "no text", "empty", "no base64", "short"],
)
def test_cloud_run_refuses_it_in_one_line(damage: Any, pki: Path, tmp_path: Path) -> None:
    import tomllib

    import tomli_w

    fleet.init(tmp_path / "other")
    settings, _ = cloud_settings(tmp_path, pki, servers.free_port(), [f"{EV / 'body.dbc'}@can1"], {"kind": "embedded"})
    document = tomllib.loads(settings.read_text())
    words = damage(pki, document, tmp_path / "other")
    settings.write_text(tomli_w.dumps(document))
    command = [sys.executable, "-m", "cansight", "cloud", "run", "-c", str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("cansight: ")
    assert words in done.stderr


def test_check_names_what_is_to_be_done(pki: Path) -> None:
    vehicle = fleet.vehicle(pki)
    command = [sys.executable, "-m", "cansight", "pki", "check", str(pki), "--json"]
    good = subprocess.run(command, capture_output=True, text=True, check=False)
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["ok"]
    lay_down(pki, vehicle, name=vehicle, begin_h=-100, end_h=1)
    (pki / "registrar.key").chmod(0o644)
    (pki / "fleet-ca.crl").write_text("junk")
    (pki / "recipient.key").write_text("junk")
    bad = subprocess.run(command, capture_output=True, text=True, check=False)
    assert bad.returncode == 1
    wrong = {one["what"]: one["words"] for one in json.loads(bad.stdout)["checks"] if not one["ok"]}
    assert wrong.keys() == {f"vehicle {vehicle}", "registrar.key", "revocation list", "recipient keys"}
    assert "`cansight pki renew" in wrong[f"vehicle {vehicle}"]
    assert "others can read it (mode 0644)" in wrong["registrar.key"]
    assert "expected a revocation list in PEM" in wrong["revocation list"]
