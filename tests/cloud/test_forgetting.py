"""What is known of streams: kept as long as something may need it, and no longer; a stream that was there before stays known."""

from pathlib import Path

import pytest
from cloud_samples import make_schema
from cloud_vehicle import Vehicle
from test_aggregator import Place, aggregator

from cloud.aggregator import FORGET_MS
from cloud.database import Database
from cloud.forgetting import DAY_MS
from cloud.forgetting import forget as forget_streams
from cloud.quarantine import Kept, Source

LONG_AFTER = FORGET_MS + 2 * DAY_MS


def forget(place: Place, after_ms: int) -> int:
    return forget_streams(place.landing, place.quarantine, place.database, place.now_ms + after_ms)


def body(place: Place, stream: bytes) -> bytes:
    stored = place.database.stream(stream)
    assert stored is not None
    return stored.announcement


@pytest.mark.parametrize("needed_by", ["landing log", "quarantine", "another replica", "what waits for a clock", "nothing"])
def test_an_announcement_is_forgotten_when_nothing_needs_it_and_its_stream_stays_over(tmp_path: Path, pki: Path, needed_by: str) -> None:
    vehicle, other = Vehicle(pki, make_schema()), Vehicle(pki, make_schema())
    first = vehicle.announcement
    late = vehicle.rows(range(2))
    with aggregator(tmp_path, pki, vehicle.schema) as place:
        place.give(first, late)
        if needed_by == "quarantine":
            place.quarantine.put(Kept(Source.SINK, place.now_ms, "choked", late.data))
        place.landing._log.roll()
        place.give(other.announcement, after_ms=LONG_AFTER)
        if needed_by != "landing log":
            place.landing.drop_before(2)
            assert place.landing.first == 2
        if needed_by == "what waits for a clock":
            place.database.advance("store", 3, [(2, vehicle.id, bytes(16))])
        with Database(place.database.url, "b") as replica:
            if needed_by == "another replica":
                replica.save_landed(0, {}, 0)  # of which is not known what it has
            gone = needed_by == "nothing"
            assert forget(place, LONG_AFTER) == gone
            assert (not body(place, first.header.stream)) == gone
            assert body(place, other.announcement.header.stream)
            if needed_by == "another replica":
                assert replica.forget_announcements(place.now_ms, FORGET_MS) == 0
                assert replica.forget_announcements(place.now_ms + LONG_AFTER, FORGET_MS) == 1
            assert forget(place, LONG_AFTER) == 0
    if gone:
        with aggregator(tmp_path, pki, vehicle.schema) as place:  # its key is in no memory
            assert place.give(first, late, vehicle.rows(range(2, 4)), after_ms=LONG_AFTER) == []
            assert place.aggregator.counts.refusals == {"refused: Over": 3}
            assert place.aggregator.counts.requests == 0
            assert not body(place, first.header.stream)


def test_what_has_landed_of_a_stream_that_has_not_changed_for_100_days_is_forgotten(tmp_path: Path, pki: Path) -> None:
    vehicle, other = Vehicle(pki, make_schema()), Vehicle(pki, make_schema())
    with aggregator(tmp_path, pki, vehicle.schema) as place:
        streams = [one.sealer.stream for one in (vehicle, other)]
        for number, one in enumerate((vehicle, other)):
            place.give(one.announcement)
            place.aggregator.save(place.now_ms + number)
        there = []
        for after_ms in (0, FORGET_MS, FORGET_MS + 1, FORGET_MS + 2):
            forget(place, after_ms)
            there.append(set(place.database.landed(streams)))
    assert there == [set(streams), set(streams), {streams[1]}, set()]
