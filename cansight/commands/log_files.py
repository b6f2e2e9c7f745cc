"""The DBC files of a log: where they are kept compiled, and which channel one without a channel is for."""

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

LOOK_BLOCKS = 25


def compiled_cache() -> Path | None:
    """Of compiled DBC files; None for a user without a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cansight" / "dbc"
    except RuntimeError:  # Path.home() knows none: a container's user that has no name
        return None


def placed(dbc_files: Sequence[str], log: str, cache: Path | None) -> list[str]:
    """The files, each with its channel: that of the log that has most frames they describe.

    A pipe cannot be looked into beforehand: there it is the default, can0.
    """
    from dbc.compiler import load_compiled
    from dbc.dbc_file import DEFAULT_CHANNEL, parse_file_argument
    from dbc.logs import open_log
    from dbc.logs.info import decoded_by_channel

    files = []
    for text in dbc_files:
        file = parse_file_argument(text)
        channel = file.channel
        if file.path == text and Path(log).is_file():
            with open_log(log) as reader:
                found = decoded_by_channel(list(islice(reader, LOOK_BLOCKS)), load_compiled([text], cache))
            best = max(found, key=found.__getitem__, default=DEFAULT_CHANNEL)
            channel = best if found.get(best) else DEFAULT_CHANNEL
        files.append(f"{file.path}@{channel}")
    return files
