"""Sealing and opening: only the fleet's own vehicle makes what the aggregator opens, and only the aggregator opens it."""

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud import pki
from wire.codec import encode_rows
from wire.envelope import OpenedStream, StreamOpener, StreamSealer, announce, read_announcement
from wire.errors import AuthenticationError, FormatError, RecipientError, StreamError, Unsupported, WireError
from wire.header import HEADER_BYTES, MAX_SEQUENCE, Header
from wire.messages import Announcement, Kind, Rows, pack_columns
from wire.receipts import Status, receipt_tag
from wire.recipients import Recipient, RecipientKey, load_recipient_keys, read_recipient, write_recipient

VEHICLE, OTHER = "0123456789abcdef", "fedcba9876543210"
BASELINE = Rows(np.array([5000]), np.array([[3, -4]]), np.array([[0, 1]], np.uint8))
ANNOUNCEMENT = Announcement(
    boot_id=bytes(16),
    clock=None,
    schema_id=bytes(16),
    consent_class="technical",
    columns=pack_columns(np.array([False, True, False, True])),
    pack_ids=[],
    campaign_id="default",
    agent="test",
    baseline=encode_rows(BASELINE, None),
)


@dataclass(frozen=True)
class Fleet:
    folder: Path
    ca: x509.Certificate
    ca_key: ec.EllipticCurvePrivateKey
    recipient: Recipient
    keys: dict[bytes, RecipientKey]

    def announce(self, sealer: StreamSealer, announcement: Announcement = ANNOUNCEMENT, vehicle: str = VEHICLE) -> bytes:
        stem = self.folder / "vehicles" / vehicle
        certificate, key = pki.load_certificate(stem.with_suffix(".pem")), pki.load_key(stem.with_suffix(".key"))
        return announce(sealer, announcement, [self.recipient], certificate, key).data

    def read(self, data: bytes, now: datetime | None = None) -> OpenedStream:
        return read_announcement(data, self.keys, self.ca, now or datetime.now(UTC))


def fleet_in(folder: Path) -> Fleet:
    pki.init(folder)
    for vehicle in (VEHICLE, OTHER):
        pki.vehicle(folder, vehicle)
    ca, ca_key = pki.load_ca(folder)
    recipient = read_recipient((folder / "recipient.json").read_bytes(), ca, time.time())
    return Fleet(folder, ca, ca_key, recipient, load_recipient_keys([folder / "recipient.key"]))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return fleet_in(tmp_path_factory.mktemp("fleet"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return fleet_in(tmp_path_factory.mktemp("stranger"))


def test_an_announcement_hands_over_the_stream(fleet: Fleet) -> None:
    sealer = StreamSealer.start(VEHICLE)
    opened = fleet.read(fleet.announce(sealer))
    assert opened.header == Header(VEHICLE, sealer.stream, 0)
    assert opened.key == sealer.key
    assert opened.announcement == ANNOUNCEMENT
    assert opened.columns.tolist() == [1, 3]
    assert opened.baseline is not None
    assert opened.baseline.raw.tolist() == [[3, -4]]
    assert opened.certificate.public_key() == pki.load_key(fleet.folder / "vehicles" / f"{VEHICLE}.key").public_key()


def test_batches_open_with_the_announced_key_and_count_from_one() -> None:
    sealer = StreamSealer.start(VEHICLE)
    opener = StreamOpener(VEHICLE, sealer.stream, sealer.key)
    for sequence, (kind, body) in enumerate([(Kind.ROWS, b"rows"), (Kind.STATUS, b""), (Kind.GAP, b"x" * 1000)], start=1):
        sealed = sealer.seal(kind, body)
        assert sealed.header.sequence == sequence
        assert opener.open(sealed.data) == (sealed.header, kind, body)
        assert len(sealed.data) == HEADER_BYTES + 1 + len(body) + 16
        assert sealed.tags == {status: receipt_tag(sealer.key, sealed.data[:HEADER_BYTES], status) for status in Status}


def test_a_nonce_is_never_used_twice(fleet: Fleet) -> None:
    sealer = StreamSealer.start(VEHICLE)
    fleet.announce(sealer)
    with pytest.raises(StreamError, match="already announced"):
        fleet.announce(sealer)
    sealer.next_sequence = MAX_SEQUENCE
    sealer.seal(Kind.ROWS, b"")
    with pytest.raises(StreamError, match="start a new stream"):
        sealer.seal(Kind.ROWS, b"")
    assert StreamSealer.start(VEHICLE).key != StreamSealer.start(VEHICLE).key


def test_ciphertext_shows_neither_kind_nor_body() -> None:
    sealer = StreamSealer.start(VEHICLE)
    assert b"secret value" not in sealer.seal(Kind.ROWS, b"secret value").data


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_any_altered_byte_of_a_batch_is_refused(at: int, flip: int) -> None:
    sealer = StreamSealer(VEHICLE, bytes(16), bytes(32))
    data = bytearray(sealer.seal(Kind.ROWS, b"body of the batch").data)
    data[at % len(data)] ^= flip
    with pytest.raises((AuthenticationError, FormatError)):
        StreamOpener(VEHICLE, bytes(16), bytes(32)).open(bytes(data))


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200))
def test_random_batches_are_a_wire_error(data: bytes) -> None:
    opener = StreamOpener(VEHICLE, bytes(16), bytes(32))
    for candidate in (data, Header(VEHICLE, bytes(16), 1).pack() + data):
        with pytest.raises(WireError):
            opener.open(candidate)


def test_batches_of_others_and_announcements_are_not_opened_as_ours() -> None:
    sealer = StreamSealer.start(VEHICLE)
    data = sealer.seal(Kind.ROWS, b"x").data
    for opener in (StreamOpener(OTHER, sealer.stream, sealer.key), StreamOpener(VEHICLE, bytes(16), sealer.key)):
        with pytest.raises(AuthenticationError, match="not the opener's"):
            opener.open(data)
    with pytest.raises(AuthenticationError, match="altered, or another key's"):
        StreamOpener(VEHICLE, sealer.stream, bytes(32)).open(data)
    with pytest.raises(FormatError, match="sequence 0"):
        StreamOpener(VEHICLE, sealer.stream, sealer.key).open(Header(VEHICLE, sealer.stream, 0).pack() + bytes(40))
    with pytest.raises(FormatError, match="at most"):
        StreamOpener(VEHICLE, sealer.stream, sealer.key).open(bytes(3 << 20))


def test_an_authentic_batch_of_an_unknown_kind_is_unsupported_not_forged() -> None:
    sealer = StreamSealer.start(VEHICLE)
    data = sealer.seal(99, b"later").data  # type: ignore[arg-type]
    with pytest.raises(Unsupported, match="kind 99"):
        StreamOpener(VEHICLE, sealer.stream, sealer.key).open(data)


def test_a_stolen_certificate_without_its_key_announces_nothing(fleet: Fleet) -> None:
    certificate = pki.load_certificate(fleet.folder / "vehicles" / f"{VEHICLE}.pem")
    sealed = announce(StreamSealer.start(VEHICLE), ANNOUNCEMENT, [fleet.recipient], certificate, ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(AuthenticationError, match="signature does not hold"):
        fleet.read(sealed.data)


def test_a_vehicle_cannot_announce_as_another(fleet: Fleet) -> None:
    with pytest.raises(AuthenticationError, match="another's"):
        fleet.read(fleet.announce(StreamSealer.start(VEHICLE), vehicle=OTHER))


def test_another_fleets_vehicle_is_refused(fleet: Fleet, stranger: Fleet) -> None:
    data = Fleet(stranger.folder, stranger.ca, stranger.ca_key, fleet.recipient, fleet.keys).announce(StreamSealer.start(VEHICLE))
    with pytest.raises(AuthenticationError, match="fleet CA did not issue"):
        fleet.read(data)


def test_a_broker_or_aggregator_certificate_announces_nothing(fleet: Fleet) -> None:
    for stem, reason in (("broker", "another's"), ("aggregator", "another's"), ("fleet-ca", "did not issue")):
        certificate, key = pki.load_certificate(fleet.folder / f"{stem}.pem"), pki.load_key(fleet.folder / f"{stem}.key")
        sealed = announce(StreamSealer.start(VEHICLE), ANNOUNCEMENT, [fleet.recipient], certificate, key)
        with pytest.raises(AuthenticationError, match=reason):
            fleet.read(sealed.data)


def test_a_certificate_of_no_known_version_is_a_format_error(fleet: Fleet) -> None:
    """cryptography has an error of its own for it, which is no ValueError; found by fuzzing."""
    data = fleet.announce(StreamSealer.start(VEHICLE))
    version = b"\xa0\x03\x02\x01"  # [0] { INTEGER, one byte: RFC 5280, 4.1
    at = data.index(version) + len(version)
    with pytest.raises(FormatError, match=r"not an X\.509 certificate"):
        fleet.read(data[:at] + b"\x3e" + data[at + 1 :])


def certificate_for(fleet: Fleet, change: Callable[[x509.CertificateBuilder], x509.CertificateBuilder]) -> bytes:
    """An announcement under a certificate that the fleet CA did issue for the vehicle, but of another make."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, VEHICLE)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(fleet.ca.subject).public_key(key.public_key()).serial_number(7)
    builder = change(builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1)))
    certificate = builder.sign(fleet.ca_key, hashes.SHA256())
    return announce(StreamSealer.start(VEHICLE), ANNOUNCEMENT, [fleet.recipient], certificate, key).data


def test_only_an_end_entity_certificate_for_clients_announces(fleet: Fleet) -> None:
    end = x509.BasicConstraints(ca=False, path_length=None)
    client, server = (
        x509.ExtendedKeyUsage([usage]) for usage in (x509.ExtendedKeyUsageOID.CLIENT_AUTH, x509.ExtendedKeyUsageOID.SERVER_AUTH)
    )
    fleet.read(certificate_for(fleet, lambda builder: builder.add_extension(end, True).add_extension(client, False)))
    for change in (
        lambda builder: builder,
        lambda builder: builder.add_extension(end, True),
        lambda builder: builder.add_extension(end, True).add_extension(server, False),
        lambda builder: builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True).add_extension(client, False),
    ):
        with pytest.raises(AuthenticationError):
            fleet.read(certificate_for(fleet, change))


def test_certificates_count_only_while_they_are_valid(fleet: Fleet) -> None:
    data = fleet.announce(StreamSealer.start(VEHICLE))
    for days in (-10, 2000):
        with pytest.raises(AuthenticationError, match="is valid from"):
            fleet.read(data, datetime.now(UTC) + timedelta(days=days))


def test_who_has_no_recipient_key_opens_nothing(fleet: Fleet, stranger: Fleet) -> None:
    data = fleet.announce(StreamSealer.start(VEHICLE))
    with pytest.raises(RecipientError, match="none of our recipient keys"):
        read_announcement(data, stranger.keys, fleet.ca, datetime.now(UTC))
    wrong = {fleet.recipient.key_id: next(iter(stranger.keys.values()))}
    with pytest.raises(AuthenticationError, match="does not open"):
        read_announcement(data, wrong, fleet.ca, datetime.now(UTC))


def test_one_to_three_recipients_each_open_it_alone(fleet: Fleet) -> None:
    keys = [RecipientKey.generate() for _ in range(4)]
    recipients = [Recipient(key.public(), 0) for key in keys]
    stem = fleet.folder / "vehicles" / VEHICLE
    certificate, key = pki.load_certificate(stem.with_suffix(".pem")), pki.load_key(stem.with_suffix(".key"))
    sealer = StreamSealer.start(VEHICLE)
    data = announce(sealer, ANNOUNCEMENT, recipients[:3], certificate, key).data
    for private in keys[:3]:
        assert read_announcement(data, {private.key_id: private}, fleet.ca, datetime.now(UTC)).key == sealer.key
    for wrong in ([], recipients):
        with pytest.raises(RecipientError, match="1 to 3"):
            announce(StreamSealer.start(VEHICLE), ANNOUNCEMENT, wrong, certificate, key)


def test_a_baseline_that_does_not_fit_its_columns_is_refused(fleet: Fleet) -> None:
    wrong = msgspec.structs.replace(ANNOUNCEMENT, columns=b"\x01")
    with pytest.raises(FormatError, match="1 tick of 1 columns"):
        fleet.read(fleet.announce(StreamSealer.start(VEHICLE), wrong))


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_every_cut_and_many_altered_announcements_are_a_wire_error(fleet: Fleet) -> None:
    data = fleet.announce(StreamSealer.start(VEHICLE))
    for length in range(len(data)):
        with pytest.raises(WireError):
            fleet.read(data[:length])
    for at in range(len(data)):
        altered = bytearray(data)
        altered[at] ^= 1 + at % 255
        with pytest.raises(WireError):
            fleet.read(bytes(altered))
    with pytest.raises(WireError):
        fleet.read(data + b"x")


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=300))
def test_random_announcements_are_a_wire_error(fleet: Fleet, data: bytes) -> None:
    clear = Header(VEHICLE, bytes(16), 0).pack()
    wrapped = clear + b"\x01" + bytes(8) + struct.pack(">H", 2) + b"ab"
    for candidate in (data, clear + data, wrapped + data, wrapped + struct.pack(">H", len(data)) + data + bytes(40)):
        with pytest.raises(WireError):
            fleet.read(candidate)


def test_recipient_documents_hold_only_when_the_fleet_ca_signed_them(fleet: Fleet, stranger: Fleet) -> None:
    document = (fleet.folder / "recipient.json").read_bytes()
    with pytest.raises(AuthenticationError, match="did not sign"):
        read_recipient(document, stranger.ca, time.time())
    later = document.replace(str(fleet.recipient.not_after).encode(), str(fleet.recipient.not_after + 1).encode())
    with pytest.raises(AuthenticationError, match="did not sign"):
        read_recipient(later, fleet.ca, time.time())
    with pytest.raises(RecipientError, match="expired"):
        read_recipient(document, fleet.ca, fleet.recipient.not_after + 1)
    with pytest.raises(RecipientError, match="public key of"):
        read_recipient(write_recipient(b"short", 2**33, fleet.ca_key), fleet.ca, time.time())
    for broken in (b"", b"{}", b"[" * 100_000, document[:-5], document.replace(b'"format"', b'"fromat"'), b"x" * 10_000):
        with pytest.raises(RecipientError):
            read_recipient(broken, fleet.ca, time.time())


@settings(max_examples=100, deadline=None)
@given(edits=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=4))
def test_altered_recipient_documents_are_a_wire_error_or_the_same_key(fleet: Fleet, edits: list[tuple[int, int]]) -> None:
    document = bytearray((fleet.folder / "recipient.json").read_bytes())
    for at, byte in edits:
        document[at % len(document)] = byte
    try:
        assert read_recipient(bytes(document), fleet.ca, time.time()) == fleet.recipient
    except WireError:
        return


def test_key_files_come_back_and_bad_ones_are_named(tmp_path: Path, fleet: Fleet) -> None:
    key = RecipientKey.generate()
    assert RecipientKey.from_pem(key.to_pem()) == key
    assert key.to_pem().splitlines()[1] not in repr(key)
    with pytest.raises(RecipientError, match="No such file"):
        load_recipient_keys([tmp_path / "missing.key"])
    for text in ("", "x", key.to_pem().replace("\n", "!\n"), key.to_pem().replace(key.to_pem().splitlines()[1], "")):
        (tmp_path / "bad.key").write_text(text)
        with pytest.raises(RecipientError, match=r"bad\.key"):
            load_recipient_keys([tmp_path / "bad.key"])
    with pytest.raises(RecipientError):
        load_recipient_keys([fleet.folder / "pack.key"])
