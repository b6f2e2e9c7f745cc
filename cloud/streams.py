"""Streams: how a sealed message becomes one that can be read.

A stream's content key is held in memory only. After a restart it is unwrapped again from the stored announcement, verified as
of the day it was received: a certificate that has expired since does not make landed data unreadable.
"""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from cryptography import x509
from numpy.typing import NDArray

from cloud.database import Database, StoredStream
from cloud.vehicle_models import VehicleModel
from wire.codec import MAX_CELLS, decode_rows
from wire.envelope import OpenedStream, StreamOpener, read_announcement
from wire.errors import AuthenticationError, FormatError, WireError
from wire.header import Header
from wire.messages import Announcement, Clock, Kind, Message, Rows, decode_message
from wire.receipts import Status, receipt_key, tag_for
from wire.recipients import RecipientKey
from wire.together import decode_together

if TYPE_CHECKING:
    from cloud.events import TickRows

MOST_CELLS = 16 * MAX_CELLS  # decoded at once, 150 MB; a usual group has a hundredth of it
TOGETHER = 4  # batches of rows from which on decoding them at once is cheaper than one by one
REMEMBERED = 20_000  # streams in memory, 6 kB each: 0.1 GB, a fleet of 10,000 with two classes; others are opened again from the table


class UnknownStream(AuthenticationError):
    """No announcement of this stream is known."""


class Revoked(AuthenticationError):
    """The certificate behind it is on the fleet's revocation list."""


class Over(AuthenticationError):
    """Of a stream so old that no vehicle can still be sending it: a replay."""


class Unreadable(FormatError):
    """Authentic, but not to be read as data: quarantined."""


@dataclass(frozen=True)
class Stream:
    """An open stream. `model` is None when no vehicle model of ours has the schema it announced."""

    vehicle: str
    stream: bytes
    announcement: Announcement
    columns: NDArray[np.int32]
    baseline: Rows | None
    model: VehicleModel | None
    opener: StreamOpener
    tag_key: bytes
    serial: int  # of the certificate that the announcement is signed by
    announced_ms: int

    def tag(self, header: Header, status: Status) -> bytes:
        """What a receipt says for one message."""
        return tag_for(self.tag_key, header.pack(), status)


class Opened(msgspec.Struct, eq=False):  # a struct of msgspec's is made in a tenth of a dataclass's time
    """A message in clear. placed: the clock and the event that rows were placed by and as (`cloud.placing`)."""

    header: Header
    received_ms: int
    stream: Stream
    kind: Kind
    message: Rows | Message
    placed: "tuple[Clock | None, TickRows] | None" = None


class Unsealed(msgspec.Struct, frozen=True, eq=False):
    """An authentic message, not decoded yet."""

    header: Header
    received_ms: int
    stream: Stream
    kind: Kind
    body: bytes


class Streams:
    """The open streams, and the way to the ones that are in the table. May be used from several threads."""

    def __init__(
        self,
        database: Database,
        recipient_keys: Mapping[bytes, RecipientKey],
        fleet_ca: x509.Certificate | Sequence[x509.Certificate],
        models: Mapping[bytes, VehicleModel],
    ) -> None:
        self._database = database
        self._recipient_keys = recipient_keys
        self._fleet_cas = (fleet_ca,) if isinstance(fleet_ca, x509.Certificate) else tuple(fleet_ca)  # two while one replaces another
        self._models = models  # by schema id
        self._open: OrderedDict[bytes, Stream] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, stream: bytes) -> Stream | None:
        """From memory, else from the stored announcement. Raises WireError when that cannot be opened (any more)."""
        with self._lock:
            found = self._open.get(stream)
            if found is not None:
                self._open.move_to_end(stream)
                return found
        stored = self._database.stream(stream)
        if stored is not None and not stored.announcement:
            raise Over(f"vehicle {stored.vehicle}: stream {stream.hex()} is over: its announcement is forgotten")
        return None if stored is None else self._remember(self.read(stored.announcement, stored.received_ms))

    def has_at_hand(self, stream: bytes) -> bool:
        """Whether `find` has it in memory."""
        return stream in self._open

    def read(self, announcement: bytes, received_ms: int) -> Stream:
        """Verify and open sequence 0, without remembering it. Raises WireError."""
        now = datetime.fromtimestamp(received_ms / 1000, UTC)
        opened = self._verified(announcement, now)
        header = opened.header
        return Stream(
            vehicle=header.vehicle,
            stream=header.stream,
            announcement=opened.announcement,
            columns=opened.columns.astype(np.int32),
            baseline=opened.baseline,
            model=self._models.get(opened.announcement.schema_id),
            opener=StreamOpener(header.vehicle, header.stream, opened.key),
            tag_key=receipt_key(opened.key),
            serial=opened.certificate.serial_number,
            announced_ms=received_ms,
        )

    def _verified(self, announcement: bytes, now: datetime) -> OpenedStream:
        *others, last = self._fleet_cas
        for ca in others:
            with contextlib.suppress(AuthenticationError):  # before any private key is used; the last CA's error says what is wrong
                return read_announcement(announcement, self._recipient_keys, ca, now)
        return read_announcement(announcement, self._recipient_keys, last, now)

    def admit(self, stored: StoredStream, permit: Callable[[Stream], None] = lambda stream: None, is_new: bool = False) -> Stream:
        """Open a new announcement and remember its stream. Raises WireError, also when the stream is another announcement's.

        `permit` raises for a stream that is not to be remembered; `is_new`: `find` has just said that it is not known.
        """
        known = None if is_new else self.find(stored.stream)
        if known is None:
            new = self.read(stored.announcement, stored.received_ms)
            permit(new)
            return self._remember(new)
        again = self.read(stored.announcement, stored.received_ms)
        if again.vehicle != known.vehicle or again.tag_key != known.tag_key or again.announcement != known.announcement:
            raise AuthenticationError(f"stream {stored.stream.hex()}: announced before, by other words")
        return known

    def open(self, data: bytes, received_ms: int) -> Opened:
        """Decrypt and decode a message.

        Raises UnknownStream, AuthenticationError or FormatError (not what a vehicle sealed), and Unreadable for what is authentic
        and still cannot be read; wire's Unsupported likewise.
        """
        (opened,) = self.decode([self.unseal(data, received_ms)])
        if isinstance(opened, WireError):
            raise opened
        return opened

    def open_all(self, messages: Iterable[tuple[bytes, int]]) -> list[Opened | WireError]:
        """The same of many (data, received_ms), each as it is or what `open` raises; of the first ones, as `decode` says."""
        found: list[Unsealed | Opened | WireError] = []
        for data, received_ms in messages:
            try:
                found.append(self.unseal(data, received_ms))
            except WireError as error:
                found.append(error)
        return self.decode(found)

    def unseal(self, data: bytes, received_ms: int) -> Unsealed | Opened:
        """Decrypt a message; raises what `open` raises but Unreadable. An announcement is read already."""
        header = Header.unpack(data)
        stream = self.find(header.stream)
        if stream is None:
            raise UnknownStream(f"stream {header.stream.hex()}: no announcement is known")
        return self.unseal_of(stream, header, data, received_ms)

    def unseal_of(self, stream: Stream, header: Header, data: bytes, received_ms: int) -> Unsealed | Opened:
        """The same of a message whose header is read and whose stream is found."""
        if header.sequence == 0:
            return Opened(header, received_ms, stream, Kind.ANNOUNCEMENT, stream.announcement)
        _, kind, body = stream.opener.open(data, header)
        return Unsealed(header, received_ms, stream, kind, body)

    def decode(self, messages: Sequence[Unsealed | Opened | WireError]) -> list[Opened | WireError]:
        """Decode unsealed messages, rows of many at once; what cannot be read is Unreadable, an error stays what it is.

        Of the first ones alone, of one at least, where they have MOST_CELLS between them: what a group may take of the memory is bounded.
        """
        rows = [one for one in messages if isinstance(one, Unsealed) and one.kind is Kind.ROWS]
        together: dict[int, Rows | None] = {}
        end: Unsealed | None = None
        if len(rows) >= TOGETHER:
            decoded = decode_together([one.body for one in rows], [one.stream.baseline for one in rows], MOST_CELLS)
            together = {id(one): found for one, found in zip(rows, decoded, strict=False)}
            end = rows[len(decoded)] if len(decoded) < len(rows) else None
        found: list[Opened | WireError] = []
        cells = 0
        for one in messages:
            if not isinstance(one, Unsealed):
                found.append(one)
                continue
            if one is end or cells >= MOST_CELLS:
                break
            try:
                message = _decode(one.stream, one.kind, one.body, together.get(id(one)))
            except Unreadable as error:
                found.append(error)
                continue
            if isinstance(message, Rows):
                cells += message.raw.size
            found.append(Opened(one.header, one.received_ms, one.stream, one.kind, message))
        return found

    def _remember(self, stream: Stream) -> Stream:
        with self._lock:
            kept = self._open.setdefault(stream.stream, stream)
            while len(self._open) > REMEMBERED:
                self._open.popitem(last=False)
            return kept


def _decode(stream: Stream, kind: Kind, body: bytes, rows: Rows | None) -> Rows | Message:
    """rows: where they are decoded already. Raises Unreadable."""
    try:
        if kind is not Kind.ROWS:
            return decode_message(kind, body)
        if rows is None:
            rows = decode_rows(body, stream.baseline)
    except FormatError as error:
        raise Unreadable(str(error)) from error
    except Exception as error:  # authentic, so it is kept, for the program that can read it
        raise Unreadable(f"cannot be decoded: {type(error).__name__}: {error}") from error
    if stream.model is None:
        raise Unreadable(f"schema {stream.announcement.schema_id.hex()} is not of any vehicle model in the settings; add its DBC files")
    if rows.raw.shape[1] != len(stream.columns):
        raise Unreadable(f"rows: expected the {len(stream.columns)} announced columns, found {rows.raw.shape[1]}")
    if len(stream.columns) and stream.columns[-1] >= len(stream.model.schema):
        raise Unreadable(f"column {stream.columns[-1]} is announced, the schema has {len(stream.model.schema)} signals")
    return rows
