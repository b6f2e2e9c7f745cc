"""The aggregator and the car of `edge_helpers`, on a real broker."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from edge_helpers import Aggregator, Car, MakeCar

import servers


@pytest.fixture
def aggregator(pki: Path, mosquitto: servers.Server) -> Iterator[Aggregator]:
    made = Aggregator(pki, mosquitto.port)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def make_car(tmp_path: Path, pki: Path, mosquitto: servers.Server) -> Iterator[MakeCar]:
    cars: list[Car] = []

    def make(log: Path | str, **overrides: dict[str, Any]) -> Car:
        cars.append(Car(tmp_path / "car", pki, mosquitto.port, str(log), overrides))
        return cars[-1]

    yield make
    for car in cars:
        car.stop()
