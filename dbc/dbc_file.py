"""A DBC file as the user names it: a path, and the channel whose frames it describes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dbc.errors import DbcFileError
from dbc.opendbc_files import OPENDBC, read_opendbc
from dbc.protocols.obd2 import builtin_text

__all__ = ["DEFAULT_CHANNEL", "DbcFile", "absolute_argument", "parse_file_argument"]

DEFAULT_CHANNEL = "can0"
BUILTIN = "builtin:"


@dataclass(frozen=True)
class DbcFile:
    """One DBC on one channel, as the user named it: "PATH" or "PATH@CHANNEL".

    "opendbc:NAME" in the place of a path is a DBC of the installed package opendbc, "builtin:obd2" the PIDs of OBD-II.
    """

    path: str
    channel: str

    def read(self) -> bytes:
        if not self.path:
            raise DbcFileError(f"@{self.channel}", "names no file; expected FILE or FILE@CHANNEL")
        if self.path.startswith(BUILTIN):
            return builtin_text(self.path).encode()
        if self.path.startswith(OPENDBC):
            return read_opendbc(self.path)
        try:
            return Path(self.path).read_bytes()
        except OSError as error:
            raise DbcFileError(self.path, f"cannot be read: {error.strerror or error}") from error


def parse_file_argument(text: str) -> DbcFile:
    """ "PATH@CHANNEL", or "PATH" for the channel can0. A path that itself has an "@" needs the channel."""
    path, separator, channel = text.rpartition("@")
    if not separator or "/" in channel or not channel:
        return DbcFile(text, DEFAULT_CHANNEL)
    return DbcFile(path, channel)


def absolute_argument(text: str, base: Path) -> str:
    """The argument with a relative path made absolute against `base`; what names no path stays as it is."""
    file = parse_file_argument(text)
    if not file.path or file.path.startswith((BUILTIN, OPENDBC)):
        return text
    return str((base / file.path).absolute()) + text[len(file.path) :]
