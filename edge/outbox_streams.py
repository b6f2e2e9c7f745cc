"""The announcements on the flash: `streams/` holds one file per stream, u32 CRC-32 | record, until nothing of the stream is left.

Beside it `ends` says of the streams that earlier runs left where in the logs the last record of each can be. Without it every start would
take them all for as long as the newest, and a vehicle that is started often, and always has a backlog, would keep each for ever.
"""

import logging
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from edge.errors import OutboxError
from edge.files import replace_file
from edge.outbox import Batch, Lane
from edge.outbox_record import decode_record
from wire.folder import sync_folder

ENDS_FILE = "ends"
_NAME_DIGITS = 32
_CRC = struct.Struct(">I")

logger = logging.getLogger(__name__)


Ends = dict[Lane, int]
"""The position behind a stream's last record in each lane's log."""


class StreamFiles:
    """Reads and writes them. A file that cannot be written or removed is said and does not stop the agent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sizes: dict[bytes, int] = {}
        self._ends_file = folder.parent / ENDS_FILE

    def __contains__(self, stream: bytes) -> bool:
        return stream in self._sizes

    def open(self) -> list[bytes]:
        """Make the folder, its name durable; returns the streams that an earlier run left. Raises OutboxError."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_folder(self.folder.parent)
            sync_folder(self.folder.parent.parent)
            for path in self.folder.iterdir():
                if len(path.name) == _NAME_DIGITS:
                    self._sizes[bytes.fromhex(path.name)] = path.stat().st_size
        except OSError as error:
            raise OutboxError(
                f"{self.folder}: cannot be used: {error.strerror}; the agent must be able to write its state folder"
            ) from error
        return list(self._sizes)

    def ends(self, left: list[bytes], now: Ends) -> dict[bytes, Ends]:
        """Where the streams that earlier runs left end. now: where the logs end, and at the latest a run that was killed."""
        try:
            known = msgspec.json.decode(self._ends_file.read_bytes(), type=dict[str, tuple[int, int]])
        except (OSError, ValueError):  # msgspec's errors, UnicodeDecodeError; not there, or torn: all end where the logs do
            known = {}
        latest = now[Lane.BULK], now[Lane.RESERVED]
        found = {stream: known.get(stream.hex(), latest) for stream in left}
        ends = {
            stream: {Lane.BULK: min(bulk, latest[0]), Lane.RESERVED: min(reserved, latest[1])} for stream, (bulk, reserved) in found.items()
        }
        self.write_ends(ends)
        return ends

    def write_ends(self, ends: Mapping[bytes, Ends]) -> None:
        """Remember them for the next start."""
        try:
            if ends:
                document = {stream.hex(): (found[Lane.BULK], found[Lane.RESERVED]) for stream, found in ends.items()}
                replace_file(self._ends_file, msgspec.json.encode(document), durable=False)
            else:
                self._ends_file.unlink(missing_ok=True)
        except OSError as error:  # the streams are kept for longer
            logger.warning("%s: cannot be written: %s", self._ends_file, error.strerror)

    @property
    def size_bytes(self) -> int:
        return sum(self._sizes.values())

    def write(self, stream: bytes, record: bytes) -> None:
        """Durable when this returns; without it the announcement is sent all the same, and only a restart before its receipt loses it."""
        try:
            replace_file(self._path(stream), _CRC.pack(zlib.crc32(record)) + record, durable=True)
            self._sizes[stream] = _CRC.size + len(record)
        except OSError as error:
            logger.error("%s: cannot be written: %s", self._path(stream), error.strerror)

    def read(self, stream: bytes) -> Batch | None:
        """The announcement as backlog; None when there is none that is intact: then nobody can read the stream's batches."""
        try:
            data = self._path(stream).read_bytes()
        except OSError:
            return None
        if len(data) < _CRC.size or _CRC.unpack_from(data)[0] != zlib.crc32(data[_CRC.size :]):
            return None
        return decode_record(data[_CRC.size :], -1, Lane.RESERVED)

    def remove(self, stream: bytes) -> None:
        self._sizes.pop(stream, None)
        try:
            self._path(stream).unlink(missing_ok=True)
        except OSError as error:  # the next start finds it again, and that nothing needs it
            logger.warning("%s: cannot be removed: %s", self._path(stream), error.strerror)

    def _path(self, stream: bytes) -> Path:
        return self.folder / stream.hex()
