"""DBC files of the installed package opendbc, by the names that the package itself has for them."""

from __future__ import annotations

import difflib
import importlib.util
import re
from pathlib import Path

from dbc.errors import DbcFileError

__all__ = ["OPENDBC", "read_opendbc"]

OPENDBC = "opendbc:"
GENERATED = "_generated"  # NAME_generated is NAME of the generator's folder together with the files that it imports
IMPORT = re.compile(rb'CM_ "IMPORT ([\w.-]+)";\r?\n?')


def read_opendbc(path: str) -> bytes:
    """opendbc:NAME. Raises DbcFileError where the package is not installed or has no such file."""
    name = path.removeprefix(OPENDBC).removesuffix(".dbc")
    package = importlib.util.find_spec("opendbc")  # finds it without importing it: an agent does not need its code
    if package is None or not package.submodule_search_locations:
        raise DbcFileError(path, "the package opendbc is not installed; install it with `pip install opendbc`, or name a file")
    found = [file for folder in package.submodule_search_locations for file in Path(folder).rglob("*.dbc")]
    found.sort(key=lambda file: "generator" not in file.parts)  # where two have one name, the finished one is meant
    files = {file.stem: file for file in found}
    templates = {f"{stem}{GENERATED}": file for stem, file in files.items() if "generator" in file.parts and not stem.startswith("_")}
    try:
        if name in files:
            return files[name].read_bytes()
        if template := templates.get(name):
            text = template.read_bytes()
            imported = [(template.parent / included.decode()).read_bytes() for included in IMPORT.findall(text)]
            return b"\n".join([*imported, IMPORT.sub(b"", text)])
    except OSError as error:
        raise DbcFileError(path, f"cannot be read: {error.strerror or error}") from error
    close = difflib.get_close_matches(name, [*files, *templates], n=3)
    hint = f"; did you mean {' or '.join(close)}?" if close else f"; its {len(found)} are in {package.submodule_search_locations[0]}"
    raise DbcFileError(path, f"the package opendbc has no DBC of this name{hint}")
