"""Housekeeping goes wrong without ending the cloud: what it does can be done later."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cloud_samples import START_MS, make_rows
from sqlalchemy.exc import OperationalError

from cloud.config import QualityConfig
from cloud.database import Database
from cloud.housekeeping import Housekeeping
from cloud.lake.folders import DAY_MS
from cloud.landing import Landing
from cloud.quality.sink import QualitySink
from cloud.quality.tables import QualityTables
from cloud.quarantine import Quarantine
from cloud.streams import Streams
from wire.errors import SegmentLogError

DAY_S = DAY_MS // 1000


def locked(*_: object) -> None:
    raise OperationalError("INSERT", {}, Exception("database is locked"))


def keeping(quality: str = "forever") -> Any:
    return SimpleNamespace(landing=SimpleNamespace(keep_bytes=10), quality=QualityConfig(quality))


def test_a_locked_database_or_a_failing_disk_does_not_end_the_cloud(caplog: pytest.LogCaptureFixture) -> None:
    def failing(_position: int) -> None:
        raise SegmentLogError("cannot delete a segment", 5)

    dropped: list[int] = []
    landing: Any = SimpleNamespace(size_bytes=100, first=0, next=50, drop_before=dropped.append)
    database: Any = SimpleNamespace(oldest_unplaced=lambda: None, unplaced_before=lambda _position, _most: [])
    aggregator: Any = SimpleNamespace(save=locked)
    nobody: Any = None
    runner: Any = SimpleNamespace(saved=40)
    house = Housekeeping(keeping(), aggregator, landing, nobody, database, nobody, [runner])
    assert not house.tidy(START_MS)
    assert dropped == [], "what is not noted in the tables must stay in the log"
    aggregator.save = lambda _now_ms: None
    landing.drop_before = failing
    assert not house.tidy(START_MS)
    assert "database is locked" in caplog.text
    assert "cannot delete a segment" in caplog.text
    landing.drop_before = dropped.append
    house.tidy(START_MS)
    assert dropped == [40]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize(("keep", "left"), [("forever", [0, 1, 2, 10]), ("8d", [2, 10]), ("1d", [10]), ("11d", [0, 1, 2, 10])])
def test_data_quality_is_kept_as_long_as_the_settings_say(
    tmp_path: Path,
    make_tables: Callable[[str], str],
    kind: str,
    keep: str,
    left: list[int],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    today = START_MS // DAY_MS + 10
    url = make_tables(kind)
    nobody: Any = None
    with Database(url) as database, QualityTables(url) as quality:
        streams = Streams(database, {}, (), {})
        with Landing(tmp_path / "landing", streams) as landing, Quarantine(tmp_path / "quarantine") as quarantine:
            sink = QualitySink(quality, {}, lambda: START_MS)
            sink.take([make_rows([day * DAY_S, day * DAY_S + 1], vehicle=vehicle) for vehicle in "ab" for day in (0, 1, 2, 10)])
            sink.flush()
            house = Housekeeping(keeping(keep), nobody, landing, quarantine, database, quality, [])
            with monkeypatch.context() as away:
                away.setattr(quality, "forget", locked)
                assert house.forget(today * DAY_MS) == (keep == "forever")
            assert house.forget(today * DAY_MS)
            assert house.forget(today * DAY_MS)
        for vehicle in "ab":
            assert [day - (today - 10) for day in quality.of(vehicle, 0, today)] == left
    assert ("database is locked" in caplog.text) == (keep != "forever")
