"""Housekeeping goes wrong without ending the cloud: what it does can be done later."""

from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from cloud.app import Cloud
from wire.errors import SegmentLogError


def test_a_locked_database_or_a_failing_disk_does_not_end_the_cloud(caplog: pytest.LogCaptureFixture) -> None:
    config: Any = SimpleNamespace(landing=SimpleNamespace(keep_bytes=10))
    cloud = Cloud(config)

    def locked(_now_ms: int) -> None:
        raise OperationalError("INSERT", {}, Exception("database is locked"))

    def failing(_position: int) -> None:
        raise SegmentLogError("cannot delete a segment", 5)

    dropped: list[int] = []
    landing = SimpleNamespace(size_bytes=100, first=0, next=50, drop_before=dropped.append)
    made: Any = cloud
    made._landing, made._database = landing, SimpleNamespace(oldest_unplaced=lambda: None, unplaced_before=lambda _position, _most: [])
    made._quarantine = None
    made._runners = [SimpleNamespace(saved=40)]
    made._aggregator = SimpleNamespace(save=locked)
    cloud._tidy()
    assert dropped == [], "what is not noted in the tables must stay in the log"
    made._aggregator = SimpleNamespace(save=lambda _now_ms: None)
    landing.drop_before = failing
    cloud._tidy()
    assert "database is locked" in caplog.text
    assert "cannot delete a segment" in caplog.text
    landing.drop_before = dropped.append
    cloud._tidy()
    assert dropped == [40]
