"""`python -m cloud.lake.process FOLDER KEEP`: compaction beside a running cloud, in a process of its own that yields to everything else."""

import logging
import os
import sys
import time
from pathlib import Path

from cloud.errors import CloudError
from cloud.lake.compaction import compact, keep_days
from cloud.lake.folders import Folders

NICE = 15


def main(folder: str, keep: str) -> int:
    """Exit code: 0 done, 1 not; why is on stderr."""
    os.nice(NICE)
    logging.basicConfig(format="%(levelname)s %(message)s")
    try:
        compact(Folders(Path(folder)), keep_days(keep), time.time_ns() // 1_000_000)
    except (CloudError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
