"""A log on a disk on which any call fails, once or for a while: what `sync` has taken is there, what it has refused is not."""

import errno
import os
from pathlib import Path

import pytest

from full_disk import FailingCalls, small_disk
from power_cut import folder
from wire.errors import SegmentLogError
from wire.segment_log import SegmentLog


def live(root: Path, disk: FailingCalls) -> None:
    """A log's life; checked after each failure and at the end."""
    expected: dict[int, bytes] = {}
    errors: set[int | None] = set()
    with disk.running():
        number = 0
        while number < 12:
            try:
                with SegmentLog(root / "log", segment_bytes=250, opener=os.open) as log:
                    while number < 12:
                        number += 1
                        group = {}
                        try:
                            for size in (30, 40, 90):
                                payload = bytes([number]) * size
                                group[log.append(payload)] = payload
                            log.sync()
                            expected |= group
                            if number % 5 == 0:
                                log.roll()
                            if number % 6 == 0:
                                log.drop_before(log.next - 8)
                        except SegmentLogError as error:
                            errors.add(error.cause_errno)
                        if disk.calls >= disk.first + disk.count:  # the disk works again
                            expected = {position: payload for position, payload in expected.items() if position >= log.first}
                            assert dict(log.read()) == expected
            except SegmentLogError:  # while opening
                number += 1
    assert errors <= {disk.number}
    with SegmentLog(root / "log", segment_bytes=250) as log:
        found = dict(log.read())
        kept = {position: payload for position, payload in expected.items() if position >= log.first}
        assert found.items() >= kept.items()
        # A group that was refused can be there only when it could not be undone either up to the end.
        assert found == kept or disk.calls < disk.first + disk.count
        assert log.gaps == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_log_survives_a_failure_of_any_call(number: int, count: int) -> None:
    with folder() as root:
        counter = FailingCalls(root)
        live(root, counter)
    assert counter.calls > 50
    for first in range(counter.calls):
        with folder() as root:
            live(root, FailingCalls(root, first, count, number))


def test_a_log_on_a_real_disk_that_is_full_goes_on_when_there_is_room() -> None:
    with small_disk() as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(600 << 10))
        with SegmentLog(disk / "log", segment_bytes=64 << 10) as log:
            synced: dict[int, bytes] = {}
            refused, errors = 0, set()
            for number in range(400):
                group = {}
                for _ in range(3):
                    payload = bytes([number % 256]) * 1500
                    group[log.append(payload)] = payload
                try:
                    log.sync()
                    synced |= group
                except SegmentLogError as error:
                    errors.add(error.cause_errno)
                    refused += 1
                    if refused == 3:
                        ballast.unlink()
                    elif refused > 10:
                        break
            assert refused > 10
            assert errors == {errno.ENOSPC}
            assert dict(log.read()) == synced
            log.drop_before(log.next)
            synced = {position: payload for position, payload in synced.items() if position >= log.first}
            synced[log.append(b"again")] = b"again"
            log.sync()
        with SegmentLog(disk / "log") as log:
            assert dict(log.read()) == synced
            assert log.gaps == []
