"""The announcements on the flash: `streams/` holds one file per stream, u32 CRC-32 | record, until nothing of the stream is left."""

import logging
import struct
import zlib
from pathlib import Path

from edge.errors import OutboxError
from edge.files import replace_file, sync_folder
from edge.outbox import Batch, Lane
from edge.outbox_record import decode_record

_NAME_DIGITS = 32
_CRC = struct.Struct(">I")

logger = logging.getLogger(__name__)


class StreamFiles:
    """Reads and writes them. A file that cannot be written or removed is said and does not stop the agent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sizes: dict[bytes, int] = {}

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
