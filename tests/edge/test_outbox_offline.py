"""A week without a connection (an hour in the short form): the outbox's size, and what is written for each byte kept."""

import os

from cansight.benchmarks.material import Material
from cansight.benchmarks.offline import DAYS, MOST_ALWAYS_MB, MOST_WRITTEN, drive_offline
from power_cut import folder

HOURS = DAYS * 24 if os.environ.get("CANSIGHT_SOAK") else 1


def test_days_offline_take_little_flash_and_little_writing() -> None:
    with folder() as root:
        flash = drive_offline(Material(), root, HOURS)
    print(f"{HOURS} h: {flash.kept / 1e6:.1f} MB, {flash.written / flash.payload:.2f} file bytes written a byte of payload")
    assert flash.kept / flash.hours * DAYS * 24 < MOST_ALWAYS_MB * 1e6
    assert flash.written < MOST_WRITTEN * flash.payload
    assert flash.kept > flash.payload, "nothing was dropped"
