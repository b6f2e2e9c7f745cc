"""Looks after the lake while a cloud runs: starts compaction when it is time, and ends it when the cloud ends."""

import asyncio
import logging
import sys
import time
from typing import Any

from cloud.lake.folders import KINDS, Folders

__all__ = ["look_after"]

COMPACT_EVERY_S = 3600.0
MOST_FRESH = 512  # files of the sink's: then it is time, however short ago the last time was
LOOK_EVERY_S = 60.0

log = logging.getLogger(__name__)


async def look_after(folders: Folders, keep: str, told: dict[str, Any]) -> None:
    """Until cancelled. `told`: what is said of it on the page and in the metrics; `error` is the last compaction's."""
    last_s = time.monotonic()
    while True:
        fresh = await asyncio.to_thread(lambda: sum(len(folders.fresh_files(kind)) for kind in KINDS))
        told["fresh_files"] = fresh
        if fresh and (fresh >= MOST_FRESH or time.monotonic() - last_s >= COMPACT_EVERY_S):
            last_s = time.monotonic()
            error = await _compact(folders, keep)
            if error:
                log.warning("the lake cannot be compacted (%s); trying again", error)
            told |= {"error": error, "compacted_s": round(time.monotonic() - last_s, 3)}
        await asyncio.sleep(LOOK_EVERY_S)


async def _compact(folders: Folders, keep: str) -> str:
    command = (sys.executable, "-m", "cloud.lake.process", str(folders.root), keep)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE)
    try:
        _, words = await process.communicate()
    except asyncio.CancelledError:
        process.kill()  # at any moment: files are whole or not there
        await process.wait()
        raise
    lines = words.decode(errors="replace").strip().splitlines()
    return (lines[-1] if lines else f"exit code {process.returncode}") if process.returncode else ""
