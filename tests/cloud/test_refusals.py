"""Everything that a hostile broker or vehicle can try: nothing of it lands, each is counted by its kind, and a sample says why."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cloud_samples import make_schema
from cloud_vehicle import Vehicle, receipts
from cryptography import x509
from test_aggregator import Place, aggregator

from cloud import aggregator as module
from cloud.aggregator import FORGET_MS, Aggregator
from cloud.errors import CloudError
from cloud.pki_revocation import revoke
from cloud.quarantine import Kept, Source, read_only
from cloud.refused import PER_MINUTE, Refused
from cloud.revocation import Revocations
from wire.envelope import Sealed
from wire.receipts import Status

DAY_MS = 86_400_000


@pytest.fixture
def vehicle(pki: Path) -> Vehicle:
    return Vehicle(pki, make_schema())


@pytest.fixture
def place(tmp_path: Path, pki: Path, vehicle: Vehicle) -> Iterator[Place]:
    """An aggregator that reads the fleet's revocation list and keeps samples of what it refuses."""
    fleet_ca = x509.load_pem_x509_certificate((pki / "fleet-ca.pem").read_bytes())
    revocations = Revocations(pki / "fleet-ca.crl", [fleet_ca])
    revocations.load()
    with aggregator(tmp_path / "cloud", pki, vehicle.schema) as made, Refused(tmp_path / "refused") as refused:
        parts = made.database, made.aggregator._streams, made.landing, made.quarantine
        made.aggregator = Aggregator(*parts, revocations, refused)
        made.aggregator.open()
        yield made


def samples(tmp_path: Path) -> list[str]:
    return [item.reason for item in read_only(tmp_path / "refused")]


def with_data(sealed: Sealed, data: bytes) -> Sealed:
    return dataclasses.replace(sealed, data=data)


def flipped(sealed: Sealed, at: int) -> Sealed:
    return with_data(sealed, sealed.data[:at] + bytes([sealed.data[at] ^ 1]) + sealed.data[at + 1 :])


TRICKS: dict[str, tuple[Callable[[Sealed, Vehicle], Sealed], bool, str, str]] = {
    # what is made of a batch, whether on the other's topic, the kind, the words
    "altered": (lambda batch, _: flipped(batch, 40), False, "AuthenticationError", "altered, or another key's"),
    "tag altered": (lambda batch, _: flipped(batch, len(batch.data) - 1), False, "AuthenticationError", "altered, or another key's"),
    "sequence altered": (
        lambda batch, _: with_data(batch, batch.data[:28] + b"\x07" + batch.data[29:]),
        False,
        "AuthenticationError",
        "altered, or another key's",
    ),
    "cut": (lambda batch, _: with_data(batch, batch.data[:-1]), False, "AuthenticationError", "altered, or another key's"),
    "cut to its header": (lambda batch, _: with_data(batch, batch.data[:29]), False, "FormatError", "expected at least 17 bytes"),
    "cut in its header": (lambda batch, _: with_data(batch, batch.data[:20]), False, "FormatError", "expected 29 bytes, found 20"),
    "another's topic": (lambda batch, _: batch, True, "Swapped", "sent on another's topic"),
    "another's name": (
        lambda batch, other: with_data(batch, batch.data[:1] + bytes.fromhex(other.id) + batch.data[9:]),
        True,
        "AuthenticationError",
        "is not the opener's",
    ),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_it_is_refused_counted_and_a_sample_says_why(place: Place, vehicle: Vehicle, pki: Path, tmp_path: Path, trick: str) -> None:
    make, elsewhere, kind, words = TRICKS[trick]
    other = Vehicle(pki, vehicle.schema)
    place.give(vehicle.announcement, other.announcement)
    batch = vehicle.rows(range(2))
    forged = make(batch, other)
    assert place.give(forged, topic=other.topic if elsewhere else vehicle.topic) == []
    counts = place.aggregator.counts
    assert (counts.landed, counts.refused, counts.refusals[f"refused: {kind}"]) == (2, 1, 1)
    ((reason, data),) = [(item.reason, item.data) for item in read_only(tmp_path / "refused")]
    assert words in reason
    assert data == forged.data
    assert receipts(place.give(batch)) == {(batch.header.stream, 1): (Status.STORED, batch.tags[Status.STORED])}


def test_a_landed_batch_under_anothers_name_gets_no_receipt(place: Place, vehicle: Vehicle, pki: Path, tmp_path: Path) -> None:
    other = Vehicle(pki, vehicle.schema)
    batch = vehicle.rows(range(2))
    place.give(vehicle.announcement, batch)
    stolen = with_data(batch, batch.data[:1] + bytes.fromhex(other.id) + batch.data[9:])
    assert place.give(stolen, topic=other.topic) == []
    assert samples(tmp_path) == [f"vehicle {other.id} sent in a stream of another's"]


def test_repeats_and_any_order_land_once(place: Place, vehicle: Vehicle) -> None:
    batches = [vehicle.rows(range(tick, tick + 2)) for tick in range(0, 8, 2)]
    place.give(vehicle.announcement)
    first = receipts(place.give(*batches[::-1]))
    assert receipts(place.give(*batches, *batches)) == first
    assert sorted(sequence for _, sequence in place.landed()) == [0, 1, 2, 3, 4]
    assert place.aggregator.counts.duplicates == 8


def test_batches_of_a_stream_that_nobody_announced_are_counted_and_asked_for(place: Place, vehicle: Vehicle) -> None:
    place.give(*(vehicle.rows(range(tick, tick + 2)) for tick in range(0, 8, 2)))
    assert (place.aggregator.counts.unknown, place.aggregator.counts.requests, place.aggregator.counts.landed) == (4, 1, 0)


def test_kinds_are_as_many_as_the_programs_words_however_many_vehicles_send_what_is_wrong(tmp_path: Path, pki: Path) -> None:
    with aggregator(tmp_path / "cloud", pki, None) as place:  # no DBC: what is authentic goes into the quarantine
        for _ in range(3):
            other = Vehicle(pki, make_schema())
            batch = other.rows(range(2))
            place.give(other.announcement, batch, with_data(batch, b"\x63" + batch.data[1:]), flipped(other.rows(range(2, 4)), 40))
        assert place.aggregator.counts.quarantined == 6
        kinds = {"quarantined: Unreadable": 3, "a later version, kept": 3, "refused: AuthenticationError": 3}
        assert dict(place.aggregator.counts.refusals) == kinds


def test_a_stream_whose_sequences_are_all_over_the_place_is_bounded(
    place: Place, vehicle: Vehicle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.landed.LARGEST", 2)
    place.give(vehicle.announcement)
    for sequence in (2**32 - 1, 1_000_000):
        vehicle.sealer.next_sequence = sequence
        answers = place.give(batch := vehicle.rows(range(2)))
        assert len(answers) == (sequence > 1_000_000)
        assert place.give(batch) == answers
    assert "is too large" in samples(tmp_path)[0]
    vehicle.sealer.next_sequence = 1
    assert len(place.give(vehicle.rows(range(2)))) == 1


def test_a_replay_of_a_stream_that_is_long_over_is_refused(place: Place, vehicle: Vehicle, tmp_path: Path) -> None:
    batch, late = vehicle.rows(range(2)), vehicle.rows(range(2, 4))
    place.give(vehicle.announcement, batch)
    assert len(place.give(late, after_ms=90 * DAY_MS)) == 1  # an outbox may have kept it for so long
    assert place.give(vehicle.rows(range(4, 6)), after_ms=FORGET_MS + DAY_MS) == []
    assert place.give(batch, vehicle.announcement, after_ms=FORGET_MS + DAY_MS) == []
    assert place.aggregator.counts.refusals["refused: Over"] == 3
    assert "was announced 101 days ago" in samples(tmp_path)[0]


def test_a_revoked_vehicles_batches_are_refused_from_the_moment_the_list_says_so(
    place: Place, vehicle: Vehicle, pki: Path, tmp_path: Path
) -> None:
    other = Vehicle(pki, vehicle.schema)
    before = vehicle.rows(range(2))
    place.give(vehicle.announcement, before, other.announcement)
    revoke(pki, [vehicle.id], "lost")
    revocations = place.aggregator._revocations
    assert revocations.refresh()
    assert not revocations.refresh()  # not read again while it has not changed
    assert place.give(vehicle.rows(range(2, 4))) == []
    assert place.give(before) == []  # not even a receipt
    assert place.give(vehicle.new_stream()) == []
    assert place.give(vehicle.rows(range(4, 6)))[0][0] == f"cansight/1/{vehicle.id}/down"  # its stream was not remembered: asked for
    assert len(place.give(other.rows(range(2)))) == 1
    assert place.aggregator.counts.refusals["refused: Revoked"] == 3
    assert samples(tmp_path) == [f"vehicle {vehicle.id}: its certificate {vehicle.certificate.serial_number:x} is revoked"] * 3
    assert [type(opened).__name__ for _, opened in place.landing.read(0, 9)] == ["Opened"] * 4  # what it sent before stays


def test_a_list_that_cannot_be_used_changes_nothing_and_is_said_once(
    pki: Path, tmp_path: Path, vehicle: Vehicle, caplog: pytest.LogCaptureFixture
) -> None:
    from cloud.pki import init

    path = pki / "fleet-ca.crl"
    fleet_ca = x509.load_pem_x509_certificate((pki / "fleet-ca.pem").read_bytes())
    revoke(pki, [vehicle.id])
    revocations = Revocations(path, [fleet_ca])
    revocations.load()
    good = path.read_bytes()
    init(tmp_path / "other")
    for bad, words in ((b"nonsense", "expected a revocation list"), ((tmp_path / "other" / "fleet-ca.crl").read_bytes(), "no list in it")):
        path.write_bytes(bad)
        assert [revocations.refresh(), revocations.refresh()] == [False, False]
        assert vehicle.certificate.serial_number in revocations
        assert caplog.text.count(words) == 1
        with pytest.raises(CloudError, match=words):
            Revocations(path, [fleet_ca]).load()
    path.unlink()
    assert not revocations.refresh()
    path.write_bytes(good)
    assert revocations.refresh()
    assert vehicle.certificate.serial_number in revocations


def test_garbage_fills_neither_disk_nor_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud.refused.KEEP_BYTES", 1 << 20)
    monkeypatch.setattr("cloud.refused.SEGMENT_BYTES", 256 << 10)
    with Refused(tmp_path) as refused:
        for minute in range(30):
            refused.add([("kind", Kept(Source.REFUSED, minute * 60_000, "no", bytes(10_000)))] * 3 * PER_MINUTE)
        kept = read_only(tmp_path)
        assert len(kept) <= 105
        assert kept[-1].received_ms == 29 * 60_000
        assert sum(item.received_ms == 29 * 60_000 for item in kept) == PER_MINUTE


def test_an_authentic_message_that_the_decoder_chokes_on_is_quarantined(
    place: Place, vehicle: Vehicle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choking(*_: object) -> None:
        raise ZeroDivisionError("a fault of ours")

    place.give(vehicle.announcement)
    bad, good = vehicle.rows(range(2)), vehicle.finding(3)
    monkeypatch.setattr("cloud.streams.decode_rows", choking)
    got = receipts(place.give(bad, good))
    assert [status for status, _ in got.values()] == [Status.QUARANTINED, Status.STORED]
    assert next(place.quarantine.items()).reason == "cannot be decoded: ZeroDivisionError: a fault of ours"
    monkeypatch.undo()
    assert len(place.aggregator.replay(list(place.quarantine.items())).released) == 1


def test_samples_are_lost_rather_than_the_work(place: Place, vehicle: Vehicle, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    assert module.Refused is Refused
    samples_log = place.aggregator._samples
    assert samples_log is not None
    with monkeypatch.context() as patch:
        patch.setattr("os.fdatasync", full)
        assert place.give(flipped(vehicle.announcement, 50)) == []
    assert place.aggregator.counts.refused == 1
    assert len(place.give(vehicle.announcement)) == 1
