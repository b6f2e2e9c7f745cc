"""Files that appear whole or not at all."""

import os
from pathlib import Path

from wire.folder import sync_folder


def replace_file(path: Path, data: bytes, *, durable: bool) -> None:
    """Write beside and rename over `path`, readable by the owner alone. durable: on the flash when this returns.

    Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        if durable:
            os.fsync(descriptor)
    temporary.replace(path)
    if durable:
        sync_folder(path.parent)
