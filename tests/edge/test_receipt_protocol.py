"""The receipt protocol, whole: an outbox on the flash, a cloud with its streams, and a network between them that does its worst.

Messages are lost, repeated and reordered in both directions; both sides are killed and started again; the cloud forgets announcements, and
strangers send receipts. Whatever has happened: the vehicle lets go of a batch only when the cloud has it, and in the end everything that
was recorded has landed, once for each (stream, sequence).
"""

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from outbox_writer import ROOM, Writer, opened

from edge.outbox import RECEIPT_S
from edge.outbox_store import OutboxStore
from edge.streams import Record
from power_cut import fast_folder
from wire.envelope import StreamOpener
from wire.errors import AuthenticationError
from wire.header import Header
from wire.messages import Gap
from wire.receipts import AnnouncementRequest, Receipt, Status, decode_downlink, encode_receipt, encode_request, receipt_tag

SOAK = bool(os.environ.get("CANSIGHT_SOAK"))
Key = tuple[bytes, int]


class Cloud:
    """What the aggregator does: durable are `landed` and `announcements`; `keys` is what the recipient key opens them with."""

    def __init__(self) -> None:
        self.keys: dict[bytes, bytes] = {}
        self.announcements: set[bytes] = set()
        self.landed: dict[Key, bytes] = {}
        self.arrived = 0

    def take(self, data: bytes) -> list[bytes]:
        header = Header.unpack(data)
        if header.sequence == 0:
            self.announcements.add(header.stream)
        elif header.stream not in self.announcements:
            return [encode_request(header.stream)]
        else:
            try:
                StreamOpener(header.vehicle, header.stream, self.keys[header.stream]).open(data)
            except AuthenticationError:
                return []  # a receipt would make the vehicle delete the genuine one
        self.arrived += 1
        kept = self.landed.setdefault((header.stream, header.sequence), data)
        assert kept == data, "one (stream, sequence), two messages"
        tag = receipt_tag(self.keys[header.stream], header.pack(), Status.STORED)
        return [encode_receipt(header.stream, [(header.sequence, Status.STORED, tag)])]


class ReceiptProtocol(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="cansight-protocol-", dir=fast_folder()))
        self.cloud = Cloud()
        self.now_s = 0.0
        self.recorded: dict[Key, bytes] = {}  # durable on the vehicle
        self.up: list[bytes] = []
        self.down: list[bytes] = []
        self.gaps: list[Gap] = []
        self.start()

    def start(self) -> None:
        self.stack = ExitStack()
        self.store: OutboxStore = self.stack.enter_context(opened(self.folder, ROOM))
        self.writers: dict[str, Writer] = {}
        self.connected = True

    @initialize()
    def begin(self) -> None:
        self.open_stream("technical")

    @rule(consent_class=st.sampled_from(["technical", "driving"]))
    def open_stream(self, consent_class: str) -> None:
        """A start, or a rotation."""
        writer = self.writers[consent_class] = Writer(consent_class)
        self.cloud.keys[writer.sealer.stream] = writer.sealer.key
        self.keep([writer.announcement()])

    @precondition(lambda self: self.writers)
    @rule(data=st.data(), rows=st.integers(0, 20), findings=st.integers(0, 2))
    def record(self, data: st.DataObject, rows: int, findings: int) -> None:
        writer = self.writers[data.draw(st.sampled_from(sorted(self.writers)))]
        self.keep([*(writer.rows(5) for _ in range(rows)), *(writer.finding(5) for _ in range(findings))])

    def keep(self, records: list[Record]) -> None:
        for record in records:
            self.store.append(record)
        self.store.commit()
        self.recorded |= {(record.sealed.header.stream, record.sealed.header.sequence): record.sealed.data for record in records}

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, RECEIPT_S, 40.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.gaps += self.store.maintain(self.now_s)

    @rule()
    def send(self) -> None:
        self.up += [batch.data for batch in self.store.outbox.due(self.now_s)]

    @precondition(lambda self: self.up)
    @rule(order=st.randoms(use_true_random=False), lose=st.integers(0, 4), repeat=st.booleans(), alter=st.booleans())
    def carry_up(self, order: object, lose: int, repeat: bool, alter: bool) -> None:
        order.shuffle(self.up)  # type: ignore[attr-defined]
        messages, self.up = self.up[lose:], []
        for message in messages + (messages if repeat else []):
            self.down += self.cloud.take(message)
        if alter and messages and Header.unpack(messages[0]).sequence:
            before = self.cloud.arrived
            self.cloud.take(messages[0][:-1] + bytes([messages[0][-1] ^ 1]))
            assert self.cloud.arrived == before

    @precondition(lambda self: self.down)
    @rule(order=st.randoms(use_true_random=False), lose=st.integers(0, 4), repeat=st.booleans())
    def carry_down(self, order: object, lose: int, repeat: bool) -> None:
        order.shuffle(self.down)  # type: ignore[attr-defined]
        messages, self.down = self.down[lose:], []
        for message in messages + (messages if repeat else []):
            self.hear(message)

    def hear(self, message: bytes) -> None:
        said = decode_downlink(message)
        if isinstance(said, AnnouncementRequest):
            self.store.outbox.request(said.stream, self.now_s)
        else:
            assert isinstance(said, Receipt)
            for entry in said.entries:
                self.store.outbox.receipt(said.stream, entry.sequence, entry.status, entry.tag, self.now_s)

    @precondition(lambda self: self.recorded)
    @rule(data=st.data(), tag=st.binary(min_size=16, max_size=16), status=st.sampled_from(Status))
    def forge(self, data: st.DataObject, tag: bytes, status: Status) -> None:
        stream, sequence = data.draw(st.sampled_from(sorted(self.recorded)))
        before = self.store.outbox.held
        self.hear(encode_receipt(stream, [(sequence, status, tag)]))
        assert self.store.outbox.held == before

    @rule()
    def cut_the_link(self) -> None:
        self.up.clear()
        self.down.clear()
        self.store.outbox.disconnect(self.now_s)
        self.store.outbox.connect()

    @rule(in_order=st.booleans())
    def restart_the_vehicle(self, in_order: bool) -> None:
        """Killed, or ended: keys and streams are gone, the flash is not. What is under way stays under way."""
        if in_order:
            self.store.close()
        self.stack.close()
        self.start()

    @rule()
    def the_cloud_forgets_announcements(self) -> None:
        """Restored from a backup that is older than its landing log. It asks for the ones that are still needed."""
        held = {batch.stream for batch in self.store.outbox._held.values()}
        on_flash = {bytes.fromhex(path.name) for path in (self.folder / "streams").iterdir() if len(path.name) == 32}
        self.cloud.announcements -= held & on_flash

    @invariant()
    def what_is_let_go_has_landed(self) -> None:
        missing = sum(key not in self.cloud.landed for key in self.recorded if key[1])
        assert self.store.pending >= missing
        assert not self.gaps

    def teardown(self) -> None:
        """With a network that works everything arrives."""
        try:
            for _ in range(5_000):
                self.gaps += self.store.maintain(self.now_s)
                due = self.store.outbox.due(self.now_s)
                for batch in due:
                    for answer in self.cloud.take(batch.data):
                        self.hear(answer)
                if not self.store.pending and not due:
                    break
                if not due:
                    self.now_s = max(self.now_s + 0.1, self.store.outbox.wake_s() or 0.0)
            assert not self.gaps
            assert self.store.pending == 0
            assert {key: data for key, data in self.recorded.items() if key[1]}.items() <= self.cloud.landed.items()
            assert self.cloud.landed.items() <= self.recorded.items()
        finally:
            self.stack.close()
            shutil.rmtree(self.folder)


ReceiptProtocol.TestCase.settings = settings(max_examples=2000 if SOAK else 60, stateful_step_count=80 if SOAK else 40, deadline=None)
TestReceiptProtocol = ReceiptProtocol.TestCase
