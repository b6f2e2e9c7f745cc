"""The aggregator: verifies and opens what arrives, lands it, and says what has landed.

It works in groups: everything that has arrived while the last group was being written. One `fdatasync` makes a group durable, then
its receipts go out and the broker gets its acknowledgements; so a busy aggregator writes in large groups and a quiet one waits for
nothing. No receipt is ever given for what does not authenticate: it would make a vehicle delete the genuine batch of that sequence.
"""

import hashlib
import itertools
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from cloud.database import Database, StoredStream
from cloud.landed import Landed
from cloud.landing import Landing
from cloud.placing import credible
from cloud.quarantine import Item, Kept, Quarantine, Source
from cloud.refused import Refused
from cloud.revocation import Revocations
from cloud.streams import Opened, Over, Revoked, Stream, Streams, UnknownStream, Unsealed
from cloud.tables import TABLES_AWAY
from wire.errors import FormatError, SegmentLogError, Unsupported, WireError
from wire.header import Header
from wire.messages import Announcement, Clock, Kind
from wire.receipts import MAX_ENTRIES, Status, encode_receipt, encode_request
from wire.topics import down, up, vehicle_of

REQUEST_EVERY_MS = 5_000  # how often one stream's announcement is asked for
MAX_REQUESTS = 20_000  # streams that are remembered as asked for
MAX_LATER_BYTES = 64 << 20  # of messages of a later version: they have no receipt, so the vehicle keeps them too
FORGET_MS = 100 * 86_400_000  # an outbox keeps nothing for longer than 90 days, so no older stream sends again
OPENED_AT_ONCE = 10_000  # messages of the landing log that are read again at the start

log = logging.getLogger(__name__)


class Swapped(FormatError):
    """One vehicle's message under another's name."""


class Scattered(FormatError):
    """Its stream has more sequences, or further apart, than one that counts them can have."""


class Arrival(msgspec.Struct, frozen=True, eq=False):
    """One MQTT message. `token` is what the inlet acknowledges it by."""

    topic: str
    data: bytes
    received_ms: int
    token: object = None


@dataclass
class Counts:
    """Messages since this process started."""

    landed: int = 0
    duplicates: int = 0
    quarantined: int = 0
    refused: int = 0
    receipts: int = 0
    requests: int = 0
    findings: int = 0
    unknown: int = 0  # messages of streams whose announcement is not there, or cannot be looked up or kept now: they come again
    replayed: int = 0  # messages that were released from the quarantine
    refusals: Counter[str] = field(default_factory=Counter)  # by what was wrong


@dataclass
class _Group:
    """What is decided about a group before it is durable."""

    without_tables: bool = False
    authentic: list[tuple[Stream, Header, Arrival]] = field(default_factory=list)
    unsealed: list[Unsealed | Opened | WireError] = field(default_factory=list)  # of each of these, to be decoded together
    pending: set[tuple[bytes, int]] = field(default_factory=set)  # of these
    repeats: list[tuple[Stream, Header]] = field(default_factory=list)  # of what is pending: answered as it is
    landed: list[tuple[Opened | Unsealed, bytes]] = field(default_factory=list)
    quarantined: list[tuple[Header, str, Kept]] = field(default_factory=list)  # with their kind
    receipts: list[tuple[Stream, Header, Status]] = field(default_factory=list)
    streams: list[StoredStream] = field(default_factory=list)
    clocks: dict[tuple[str, bytes], Clock] = field(default_factory=dict)
    seen: dict[tuple[bytes, int], Status] = field(default_factory=dict)
    later: dict[bytes, Kept] = field(default_factory=dict)  # by digest: of a version that this program does not know
    later_bytes: int = 0
    duplicates: int = 0
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    refused: list[tuple[str, Kept]] = field(default_factory=list)  # with their kind
    unknown: int = 0  # of streams whose announcement is not there

    def refuse(self, arrival: Arrival, error: WireError) -> None:
        self.refused.append((type(error).__name__, Kept(Source.REFUSED, arrival.received_ms, str(error), arrival.data)))


@dataclass
class Replayed:
    """What became of items of the quarantine. answers: (topic, payload) to publish; still: why how many stay where they are."""

    released: list[Item] = field(default_factory=list)
    answers: list[tuple[str, bytes]] = field(default_factory=list)
    still: Counter[str] = field(default_factory=Counter)


class Aggregator:
    """All methods run in one thread. `open` first; `take` for each group; `save` now and then and at the end."""

    def __init__(
        self,
        database: Database,
        streams: Streams,
        landing: Landing,
        quarantine: Quarantine,
        revocations: Revocations | None = None,
        samples: Refused | None = None,
    ) -> None:
        self._revocations = revocations if revocations is not None else Revocations(None, ())
        self._samples = samples
        self._database = database
        self._streams = streams
        self._landing = landing
        self._quarantine = quarantine
        self._landed = Landed(database.landed)
        self._later: dict[bytes, int] = {}  # digest -> bytes of the messages of a later version that are kept
        self._later_bytes = 0  # of all of them
        self._asked: OrderedDict[bytes, int] = OrderedDict()
        self._new: dict[bytes, StoredStream] = {}  # announcements whose row is not durable yet
        self.counts = Counts()
        self.heard_ms: dict[str, int] = {}  # when each vehicle was last heard, UTC ms
        self.tables_away = False  # what needs them gets no answer, and comes again; for who watches them to set back

    def open(self) -> None:
        """Rebuild what has landed: what was saved is looked up when it is asked for, what the landing log has after it is added."""
        self._landed = Landed(self._database.landed)
        position = self._database.checkpoint()
        records = self._landing.raw(position if position <= self._landing.next else 0)  # beyond its end: of another log, see `Runner.run`
        while some := [Header.unpack(data) for _, _, data in itertools.islice(records, OPENED_AT_ONCE)]:
            self._landed.look_up(header.stream for header in some)
            for header in some:
                self._landed.add(header.stream, header.sequence)
        for item in self._quarantine.items():
            if item.header is None:
                self._note_later(_digest(item.data), len(item.data))

    def save(self, now_ms: int) -> None:
        """Save what has landed, so that the next start need not read the whole log.

        Raises SQLAlchemy's errors; the next call then saves this too.
        """
        self._database.save_landed(self._landing.next, self._landed.unsaved(), now_ms)
        self._landed.saved()

    def take(self, arrivals: Sequence[Arrival]) -> list[tuple[str, bytes]]:
        """Judge, land and answer a group; returns (topic, payload) to publish. It is durable when this returns.

        Raises SegmentLogError or SQLAlchemy's errors when the disk does not take it: nothing is counted then, and the same group
        may be given again. Where the tables were away, streams that are known go on then, without what is new to the tables.
        """
        try:
            return self._take(arrivals)
        except TABLES_AWAY:
            self.tables_away = True
            raise

    def _take(self, arrivals: Sequence[Arrival]) -> list[tuple[str, bytes]]:
        group = _Group(self.tables_away)  # as it is now: another thread may change it
        named = [(arrival, header) for arrival in arrivals if (header := self._read_header(arrival, group)) is not None]
        if group.without_tables:
            known = [(arrival, header) for arrival, header in named if self._is_at_hand(header.stream)]
            group.unknown += len(named) - len(known)
            named = known
        self._landed.look_up(header.stream for _, header in named)
        for arrival, header in named:
            self._judge(arrival, header, group)
        self._decode(group)
        try:
            self._commit(group)
        except BaseException:
            self._landing.abandon()
            raise
        self._count(group)
        if group.refused and self._samples is not None:
            self._samples.add(group.refused)
        return [*self._receipts(group.receipts), *((down(vehicle), encode_request(stream)) for vehicle, stream in group.requests)]

    def replay(self, items: Sequence[Item]) -> Replayed:
        """Land again what can be opened by now, and release it from the quarantine; the rest stays, with today's reason.

        Raises as `take`: the same items may be given again then. What had landed by then lands twice, which every sink takes as once.
        """
        done = Replayed()
        group = _Group()
        opened: list[Item] = []
        for item in items:
            try:
                if item.source is Source.LATER:
                    self._judge_again(item, done)
                else:
                    self._open_again(item, group)
                    opened.append(item)
            except (SegmentLogError, SQLAlchemyError, OSError):
                raise
            except WireError as error:
                done.still[str(error)] += 1
            except Exception as error:  # noqa: BLE001 - one message must not end the cloud at each of its starts
                done.still[f"cannot be judged: {type(error).__name__}: {error}"] += 1
        self._landed.look_up(opened.header.stream for opened, _ in group.landed)  # once they are on the disk nothing may fail
        try:
            self._commit(group)
        except BaseException:
            self._landing.abandon()
            raise
        self._quarantine.release(done.released + opened)
        done.released += opened
        self.counts.replayed += len(done.released)
        return done

    def drop(self, items: Sequence[Item]) -> None:
        """Give up what the quarantine holds there. Raises SegmentLogError."""
        self._quarantine.release(items)
        for item in items:
            if item.source is Source.LATER:
                self._later_bytes -= self._later.pop(_digest(item.data), 0)

    def leave_out(self, arrival: Arrival, error: Exception) -> None:
        """A message that cannot even be judged, which is a fault of ours: counted and kept as a sample. Its vehicle sends it again."""
        reason = f"{type(error).__name__}: {error}"
        self.counts.refused += 1
        _say_once(self.counts, log.error, f"cannot be judged: {type(error).__name__}", str(error))
        if self._samples is not None:
            self._samples.add([("cannot be judged", Kept(Source.REFUSED, arrival.received_ms, reason, arrival.data))])

    def _open_again(self, item: Item, group: _Group) -> None:
        """Nothing is judged anew: what is in the quarantine was authentic when it came. Raises WireError."""
        header = Header.unpack(item.data)
        if header.sequence == 0:
            stored = StoredStream(header.stream, header.vehicle, item.received_ms, item.data)
            self._streams.admit(stored)
            self._new[header.stream] = stored
        unsealed = self._streams.unseal(item.data, item.received_ms)
        (opened,) = self._streams.decode([unsealed])
        if isinstance(opened, WireError):
            raise opened
        group.landed.append((unsealed, item.data))  # not decoded: many that are large may be replayed at once
        self._note_clock(opened, group)

    def _judge_again(self, item: Item, done: Replayed) -> None:
        """A message that no program could check before is as if it came now."""
        header = item.header
        if header is None:
            done.still["of a version that this program does not know"] += 1
            return
        done.answers += self.take([Arrival(up(header.vehicle), item.data, item.received_ms)])
        if self._status((header.stream, header.sequence), _Group()):
            done.released.append(item)
            self._later_bytes -= self._later.pop(_digest(item.data), 0)
        else:
            done.still["refused, or its stream is not known"] += 1

    def _read_header(self, arrival: Arrival, group: _Group) -> Header | None:
        """None: whatever it is, it is not judged by its stream."""
        try:
            try:
                header = Header.unpack(arrival.data)
            except Unsupported as error:
                self._keep(arrival, str(error), group)
                return None
            if arrival.topic != up(header.vehicle) and vehicle_of(arrival.topic) != header.vehicle:
                raise Swapped(f"vehicle {header.vehicle} sent on another's topic")
        except WireError as error:
            group.refuse(arrival, error)
            return None
        return header

    def _is_at_hand(self, stream: bytes) -> bool:
        """Whether it can be judged, opened and placed without the tables."""
        return stream not in self._new and self._landed.has_at_hand(stream) and self._streams.has_at_hand(stream)

    def _judge(self, arrival: Arrival, header: Header, group: _Group) -> None:
        try:
            self._admit(arrival, header, group)
        except UnknownStream:
            group.unknown += 1
            if self._may_ask(header.stream, arrival.received_ms):
                group.requests.append((header.vehicle, header.stream))
        except WireError as error:
            group.refuse(arrival, error)

    def _keep(self, arrival: Arrival, why: str, group: _Group) -> None:
        """A message of a later version is kept for a later program. Nothing in it can be checked, so there is no receipt."""
        vehicle = vehicle_of(arrival.topic)
        digest = _digest(arrival.data)
        if digest in self._later or digest in group.later:
            group.duplicates += 1
        elif self._later_bytes + group.later_bytes + len(arrival.data) > MAX_LATER_BYTES:
            raise FormatError(f"{why}; {MAX_LATER_BYTES} bytes of such messages are kept already")
        else:
            group.later[digest] = Kept(Source.LATER, arrival.received_ms, f"vehicle {vehicle}: {why}", arrival.data)
            group.later_bytes += len(arrival.data)

    def _note_later(self, digest: bytes, size: int) -> None:
        if digest not in self._later:
            self._later[digest] = size
            self._later_bytes += size

    def _admit(self, arrival: Arrival, header: Header, group: _Group) -> None:
        key = (header.stream, header.sequence)
        stream = known = self._streams.find(header.stream)
        if known is not None:
            self._permit(known, arrival.received_ms)
        status = self._status(key, group)
        if status or key in group.pending:
            if known is None:
                raise UnknownStream(f"stream {header.stream.hex()}: no announcement is known")
            if known.vehicle != header.vehicle:
                raise Swapped(f"vehicle {header.vehicle} sent in a stream of another's")
            group.duplicates += 1
            if status:
                group.receipts.append((known, header, status))
            else:
                group.repeats.append((known, header))
            return
        if header.sequence == 0:
            stored = StoredStream(header.stream, header.vehicle, arrival.received_ms, arrival.data)
            stream = self._streams.admit(stored, lambda new: self._permit(new, arrival.received_ms), is_new=known is None)
            self._new[header.stream] = stored
        if stream is None:
            raise UnknownStream(f"stream {header.stream.hex()}: no announcement is known")
        if not self._landed.has_room(*key):
            raise Scattered(f"vehicle {header.vehicle}: stream {header.stream.hex()} is too large, or its sequences are too far apart")
        try:
            group.unsealed.append(self._streams.unseal_of(stream, header, arrival.data, arrival.received_ms))
        except Unsupported as error:
            group.unsealed.append(error)
        group.authentic.append((stream, header, arrival))
        group.pending.add(key)

    def _decode(self, group: _Group) -> None:
        """What is authentic is landed where it can be read, else put into the quarantine."""
        start = 0
        while start < len(group.unsealed):
            decoded = self._streams.decode(group.unsealed[start:] if start else group.unsealed)
            for at, opened in enumerate(decoded, start):
                stream, header, arrival = group.authentic[at]
                if group.without_tables and isinstance(opened, Opened) and isinstance(opened.message, Clock):
                    group.unknown += 1  # a clock has to be kept with what it dates
                    continue
                status = Status.STORED if isinstance(opened, Opened) else Status.QUARANTINED
                group.receipts.append((stream, header, status))
                group.seen[header.stream, header.sequence] = status
                if isinstance(opened, Opened):
                    # of a group that is too large for the memory only the first part is kept decoded: the sinks read the rest again
                    kept = group.unsealed[at] if start else opened
                    group.landed.append((kept if isinstance(kept, Unsealed) else opened, arrival.data))
                    self._note_clock(opened, group)
                else:
                    aside = Kept(Source.ARRIVAL, arrival.received_ms, str(opened), arrival.data)
                    group.quarantined.append((header, type(opened).__name__, aside))
            start += len(decoded)
        repeats = [(stream, header, group.seen.get((header.stream, header.sequence))) for stream, header in group.repeats]
        group.receipts += [(stream, header, status) for stream, header, status in repeats if status is not None]

    def _permit(self, stream: Stream, now_ms: int) -> None:
        """Raises for who may not send any more; what had landed before stays."""
        if stream.serial in self._revocations:
            raise Revoked(f"vehicle {stream.vehicle}: its certificate {stream.serial:x} is revoked")
        if (age_ms := now_ms - stream.announced_ms) > FORGET_MS:
            raise Over(f"vehicle {stream.vehicle}: stream {stream.stream.hex()} was announced {age_ms // 86_400_000} days ago")

    def _status(self, key: tuple[bytes, int], group: _Group) -> Status | None:
        """What was said about this sequence before, if anything."""
        if key in group.seen:
            return group.seen[key]
        if key in self._landed:
            return Status.STORED
        return Status.QUARANTINED if self._quarantine.holds_arrival(*key) else None

    def _note_clock(self, opened: Opened, group: _Group) -> None:
        message = opened.message
        clock = message.clock if isinstance(message, Announcement) else message
        if isinstance(clock, Clock) and credible(clock, opened.received_ms):
            group.clocks.setdefault((opened.header.vehicle, opened.stream.announcement.boot_id), clock)

    def _may_ask(self, stream: bytes, now_ms: int) -> bool:
        if now_ms - self._asked.get(stream, -REQUEST_EVERY_MS) < REQUEST_EVERY_MS:
            return False
        self._asked[stream] = now_ms
        self._asked.move_to_end(stream)
        while len(self._asked) > MAX_REQUESTS:
            self._asked.popitem(last=False)
        return True

    def _commit(self, group: _Group) -> None:
        """Streams first: a landed message whose announcement is lost could never be opened again."""
        if (self._new or group.clocks) and not group.without_tables:
            self._database.learn(self._new.values(), group.clocks)
            self._new.clear()
        self._quarantine.put_all([*(kept for *_, kept in group.quarantined), *group.later.values()])
        for digest, kept in group.later.items():
            self._note_later(digest, len(kept.data))
        for opened, data in group.landed:
            self._landing.append(opened, data)
        self._landing.commit()
        for opened, _ in group.landed:
            self._landed.add(opened.header.stream, opened.header.sequence)

    def _count(self, group: _Group) -> None:
        counts = self.counts
        counts.landed += len(group.landed)
        counts.duplicates += group.duplicates
        counts.quarantined += len(group.quarantined) + len(group.later)
        counts.refused += len(group.refused)
        counts.receipts += len(group.receipts)
        counts.requests += len(group.requests)
        counts.unknown += group.unknown
        counts.findings += sum(opened.kind is Kind.FINDING for opened, _ in group.landed)
        for opened, _ in group.landed:
            self.heard_ms[opened.header.vehicle] = max(opened.received_ms, self.heard_ms.get(opened.header.vehicle, 0))
        for header, kind, kept in group.quarantined:
            _say_once(counts, log.warning, f"quarantined: {kind}", f"vehicle {header.vehicle}: {kept.reason}")
        for kept in group.later.values():
            _say_once(counts, log.warning, "a later version, kept", kept.reason)
        for kind, kept in group.refused:
            _say_once(counts, log.warning, f"refused: {kind}", kept.reason)

    def _receipts(self, receipts: Iterable[tuple[Stream, Header, Status]]) -> list[tuple[str, bytes]]:
        """One downlink message per stream, or several where one would grow too long."""
        by_stream: dict[bytes, tuple[str, list[tuple[int, Status, bytes]]]] = {}
        for stream, header, status in receipts:
            _, entries = by_stream.setdefault(stream.stream, (header.vehicle, []))
            entries.append((header.sequence, status, stream.tag(header, status)))
        return [
            (down(vehicle), encode_receipt(stream, entries[start : start + MAX_ENTRIES]))
            for stream, (vehicle, entries) in by_stream.items()
            for start in range(0, len(entries), MAX_ENTRIES)
        ]


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _say_once(counts: Counts, say: Callable[..., None], kind: str, reason: str) -> None:
    """Say each kind of refusal once, then count it: a hostile or misconfigured vehicle must not fill the log.

    A kind is a name of this program's, never what a message holds: each is a time series of /metrics.
    """
    counts.refusals[kind] += 1
    if counts.refusals[kind] == 1:
        say("%s: %s (said once; later ones are counted)", kind, reason)
