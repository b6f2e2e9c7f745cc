"""What a vehicle of a later version sends is kept for a later program, and never receipted by one that cannot read it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud_samples import make_schema
from cloud_vehicle import Vehicle
from test_aggregator import Place, aggregator

from cloud import aggregator as module
from cloud.aggregator import Arrival


@pytest.fixture
def vehicle(pki: Path) -> Vehicle:
    return Vehicle(pki, make_schema())


@pytest.fixture
def place(tmp_path: Path, pki: Path, vehicle: Vehicle) -> Iterator[Place]:
    with aggregator(tmp_path / "cloud", pki, vehicle.schema) as made:
        yield made


def later(vehicle: Vehicle, number: int) -> bytes:
    return b"\x02" + bytes.fromhex(vehicle.id) + number.to_bytes(4, "big") + b"whatever a later version says"


def test_a_later_version_is_kept_once_and_gets_no_receipt(tmp_path: Path, pki: Path, place: Place, vehicle: Vehicle) -> None:
    first = [Arrival(vehicle.topic, later(vehicle, number), place.now_ms) for number in range(3)]
    assert place.aggregator.take([*first, first[0]]) == []
    assert place.aggregator.take(first) == []
    kept = list(place.quarantine.items())
    assert [item.data for item in kept] == [arrival.data for arrival in first]
    assert all(item.reason == f"vehicle {vehicle.id}: header.version: expected 1, found 2" for item in kept)
    assert (place.aggregator.counts.quarantined, place.aggregator.counts.duplicates, place.aggregator.counts.refused) == (3, 4, 0)
    # A restart finds them again, and what is of this version lands beside them.
    place.landing.__exit__(None, None, None)
    place.quarantine.__exit__(None, None, None)
    with aggregator(tmp_path / "cloud", pki, vehicle.schema) as again:
        assert again.aggregator.take(first) == []
        assert len(list(again.quarantine.items())) == 3
        assert len(again.give(vehicle.announcement, vehicle.rows(range(2)))) == 1
        assert len(again.landed()) == 2


def test_there_is_a_limit_to_what_nobody_can_check(place: Place, vehicle: Vehicle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LATER_BYTES", 3 * len(later(vehicle, 0)))
    place.aggregator.take([Arrival(vehicle.topic, later(vehicle, number), place.now_ms) for number in range(5)])
    assert len(list(place.quarantine.items())) == 3
    assert place.aggregator.counts.refused == 2
    place.aggregator.take([Arrival("cansight/1/nobody/up", later(vehicle, 9), place.now_ms)])
    assert place.aggregator.counts.refused == 3
