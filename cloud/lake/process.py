"""`python -m cloud.lake.process FOLDER KEEP`: compaction beside a running cloud, in a process of its own that yields to everything else."""

import logging
import os
import sys
import time
from pathlib import Path

from cloud.config import kept_days
from cloud.errors import CloudError
from cloud.lake.compaction import compact
from cloud.lake.errors import LakeBusy
from cloud.lake.folders import DAY_MS, Folders

NICE = 15


def main(folder: str, keep: str) -> int:
    """Exit code: 0 done, 1 not; why is on stderr."""
    os.nice(NICE)
    logging.basicConfig(format="%(levelname)s %(message)s")
    folders, now_ms = Folders(Path(folder)), time.time_ns() // 1_000_000
    try:
        compact(folders, kept_days(keep), now_ms, whole=now_ms - folders.looked_ms >= DAY_MS)
    except LakeBusy:
        return 0  # another replica whose lake this is, too, is at it, or somebody at the command line
    except (CloudError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
