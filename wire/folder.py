"""What every part that keeps files needs of a folder."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make names that were added to the folder, or taken from it, durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
