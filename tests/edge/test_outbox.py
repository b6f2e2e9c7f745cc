"""The outbox's rules, alone and under a machine that does everything in any order."""

import math
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.outbox import MAX_BACK_OFF_S, MAX_IN_FLIGHT, MAX_RETRIES_IN_FLIGHT, RECEIPT_S, REQUEST_S, Batch, Lane, Outbox
from wire.receipts import Status

STREAMS = [bytes([number]) * 16 for number in range(3)]


def tag(stream: bytes, sequence: int, status: Status) -> bytes:
    return stream[:8] + sequence.to_bytes(4, "big") + status.to_bytes(4, "big")


def batch(sequence: int, stream: bytes = STREAMS[0], lane: Lane = Lane.BULK, position: int | None = None) -> Batch:
    lane, position = (Lane.RESERVED, -1) if sequence == 0 else (lane, sequence if position is None else position)
    return Batch(stream, sequence, lane, position, b"sealed", {status: tag(stream, sequence, status) for status in Status})


def outbox(*batches: Batch, uniform: Callable[[float], float] = lambda most: most) -> Outbox:
    made = Outbox(uniform)
    made.connect()
    for one in batches:
        made.put(one)
    return made


def receipt(box: Outbox, one: Batch, now_s: float, status: Status = Status.STORED) -> Batch | None:
    return box.receipt(one.stream, one.sequence, status, one.tags[status], now_s)


def sequences(batches: list[Batch]) -> list[int]:
    return [one.sequence for one in batches]


def test_the_announcement_and_findings_go_before_rows() -> None:
    box = outbox(batch(0), batch(1), batch(2), batch(3, lane=Lane.RESERVED))
    assert sequences(box.due(0.0)) == [0, 3, 1, 2]


def test_at_most_sixteen_are_in_flight() -> None:
    box = outbox(*(batch(sequence) for sequence in range(40)))
    sent = box.due(0.0)
    assert len(sent) == box.in_flight == MAX_IN_FLIGHT
    assert box.due(1.0) == []
    receipt(box, sent[0], 1.0)
    assert sequences(box.due(1.0)) == [16]


@pytest.mark.parametrize("status", list(Status))
def test_a_receipt_with_the_right_tag_ends_custody(status: Status) -> None:
    box = outbox(one := batch(1))
    box.due(0.0)
    assert receipt(box, one, 0.1, status) is one
    assert (one.answered, box.held, box.in_flight) == (status, 0, 0)
    assert box.take_answered() == [one]
    assert box.take_answered() == []


def test_a_forged_receipt_changes_nothing() -> None:
    box = outbox(one := batch(1))
    box.due(0.0)
    assert box.receipt(one.stream, 1, Status.STORED, bytes(16), 0.1) is None
    assert box.receipt(one.stream, 1, Status.STORED, one.tags[Status.REFUSED], 0.1) is None
    assert (box.held, box.in_flight, box.forged) == (1, 1, 2)


def test_a_second_receipt_is_not_ours_any_more() -> None:
    box = outbox(one := batch(1))
    box.due(0.0)
    receipt(box, one, 0.1)
    assert receipt(box, one, 0.2) is None
    assert box.forged == 0


def test_pauses_double_to_five_minutes() -> None:
    box = outbox(one := batch(1))
    now_s, pauses = 0.0, []
    for _ in range(10):
        assert box.due(now_s) == [one]
        timed_out_s = now_s + RECEIPT_S
        assert box.wake_s() == timed_out_s
        assert box.due(timed_out_s) == []
        now_s = box.wake_s() or math.nan
        pauses.append(now_s - timed_out_s)
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300, 300]


def test_silence_lets_one_probe_through_and_a_receipt_ends_it() -> None:
    box = outbox(*(batch(sequence) for sequence in range(1, 41)), uniform=lambda most: most)
    sent = box.due(0.0)
    assert box.due(RECEIPT_S) == []  # nobody has answered: a pause
    probe = box.due(box.wake_s() or math.nan)
    assert len(probe) == 1
    receipt(box, probe[0], 11.0)
    assert len(box.due(11.0)) + box.in_flight >= MAX_IN_FLIGHT
    assert len(sent) == MAX_IN_FLIGHT


def test_after_silence_what_waits_goes_on_at_once() -> None:
    box = outbox(*(batch(sequence) for sequence in range(1, 11)))
    now_s = 0.0
    for _ in range(20):  # the aggregator is away for a while: pauses have grown
        for one in box.due(now_s):
            box.undelivered(one.key, now_s)
        now_s = box.wake_s() or math.nan
    probe = box.due(now_s)
    receipt(box, probe[0], now_s)
    answered = 1
    while due := box.due(now_s):
        for one in due:
            receipt(box, one, now_s)
            answered += 1
    assert answered == 10


def test_probes_alternate_so_that_batches_never_answered_cannot_block_the_others() -> None:
    box = outbox(*(batch(sequence) for sequence in range(1, 41)))
    dead = set(sequences(box.due(0.0)))
    now_s = 0.0
    probed: list[int] = []
    while len(probed) < 4:
        now_s = box.wake_s() or math.nan
        probed += sequences(box.due(now_s))
    assert [sequence in dead for sequence in probed].count(False) == 2


def test_batches_never_answered_leave_room_for_new_ones() -> None:
    box = outbox(*(batch(sequence) for sequence in range(1, 400)), uniform=lambda most: most / 2)
    dead = set(sequences(box.due(0.0)))
    now_s = 0.0
    answered = 0
    while answered < 200:
        now_s = max(now_s + 0.05, box.wake_s() or now_s)
        assert now_s < 2000
        for one in box.due(now_s):
            if one.sequence not in dead:
                assert receipt(box, one, now_s) is one
                answered += 1


def test_retries_take_a_quarter_of_the_places_while_there_is_something_new() -> None:
    box = outbox(*(batch(sequence) for sequence in range(1, 41)), uniform=lambda most: 0.0)
    first = box.due(0.0)
    receipt(box, first[0], 6.0)  # late, but somebody is there
    assert first[1].attempts == 1
    sent = box.due(RECEIPT_S + 1.0)
    assert sum(one.attempts == 2 for one in sent) == MAX_RETRIES_IN_FLIGHT
    assert len(sent) == MAX_IN_FLIGHT


def test_undelivered_is_as_good_as_no_receipt() -> None:
    box = outbox(one := batch(1))
    box.due(0.0)
    box.undelivered(one.key, 0.01)
    assert box.in_flight == 0
    assert box.wake_s() == 5.01
    assert box.due(5.01) == [one]


def test_what_was_in_flight_goes_first_after_a_reconnection() -> None:
    box = outbox(*(batch(sequence) for sequence in range(1, 31)))
    sent = box.due(0.0)
    box.disconnect(1.0)
    assert (box.due(2.0), box.wake_s(), box.in_flight) == ([], None, 0)
    box.connect()
    again = sequences(box.due(3.0))
    assert again[:MAX_RETRIES_IN_FLIGHT] == sequences(sent)[:MAX_RETRIES_IN_FLIGHT]


def test_an_announcement_is_sent_again_on_request_even_when_it_was_receipted() -> None:
    box = outbox(announcement := batch(0), one := batch(1))
    box.due(0.0)
    receipt(box, announcement, 0.1)
    assert box.request(announcement.stream, 1.0)
    assert box.due(1.0) == [announcement]
    assert not box.request(announcement.stream, 1.0 + REQUEST_S / 2)
    receipt(box, announcement, 1.5)
    assert box.take_answered() == [announcement]  # once
    assert not box.request(b"unknown stream..", 9.0)
    assert box.held == 1
    receipt(box, one, 2.0)
    box.forget_stream(announcement.stream)
    assert not box.request(announcement.stream, 99.0)


def test_batches_that_went_out_before_anybody_listened_begin_again_with_their_announcement() -> None:
    first = [batch(0, lane=Lane.RESERVED), *map(batch, range(1, 4))]
    box = outbox(*first)
    assert sequences(box.due(0.0)) == [0, 1, 2, 3]
    for one in first:
        box.undelivered(one.key, 0.1)
    assert sequences(box.due(100.0)) == [0], "without the key of its stream no other batch can be answered"
    receipt(box, first[0], 100.1)
    assert sequences(box.due(100.1)) == [1, 2, 3]


def test_what_the_cloud_asks_for_goes_at_once_also_in_silence() -> None:
    announcement, *others = [batch(0, lane=Lane.RESERVED), *map(batch, range(1, 40))]
    box = outbox(announcement, *others)
    box.due(0.0)
    receipt(box, announcement, 0.1)  # the cloud loses it afterwards
    now_s = 1000.0
    while box.in_flight != 1:
        box.due(now_s)
        now_s += 1000.0
    assert box.request(STREAMS[0], now_s - 999.0)
    assert box.wake_s() == -math.inf
    assert sequences(box.due(now_s - 999.0)) == [0]


def test_what_the_store_dropped_is_not_sent() -> None:
    box = outbox(batch(0), *(batch(sequence) for sequence in range(1, 31)))
    box.due(0.0)
    box.forget(Lane.BULK, 20)
    assert box.in_flight == 1
    assert sequences(box.due(0.1)) == list(range(20, 31))


def test_a_batch_is_taken_over_once() -> None:
    box = outbox(batch(1))
    with pytest.raises(ValueError, match="is held already"):
        box.put(batch(1))


class OutboxMachine(RuleBasedStateMachine):
    """Any order of anything. The model: what was put and neither receipted nor dropped is held, and is sent again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.jitter = 0.5
        self.box = Outbox(lambda most: most * self.jitter)
        self.custody: dict[tuple[bytes, int], Batch] = {}
        self.announced: set[bytes] = set()
        self.sent: dict[tuple[bytes, int], int] = {}
        self.connected = False
        self.next_sequence = dict.fromkeys(STREAMS, 0)
        self.next_position = dict.fromkeys(Lane, 0)

    @initialize(jitter=st.floats(0, 1))
    def choose_jitter(self, jitter: float) -> None:
        self.jitter = jitter

    @rule(stream=st.sampled_from(STREAMS), lane=st.sampled_from(Lane), count=st.integers(1, 30))
    def put(self, stream: bytes, lane: Lane, count: int) -> None:
        for _ in range(count):
            sequence = self.next_sequence[stream]
            one = batch(sequence, stream, lane, self.next_position[lane])
            if sequence:
                self.next_position[lane] += 1
            self.next_sequence[stream] += 1
            self.custody[one.key] = one
            self.box.put(one)

    @rule()
    def connect(self) -> None:
        self.connected = True
        self.box.connect()

    @rule()
    def disconnect(self) -> None:
        self.connected = False
        self.box.disconnect(self.now_s)

    @rule(seconds=st.floats(0, 400))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def send(self) -> None:
        due = self.box.due(self.now_s)
        assert self.connected or not due
        assert len({one.key for one in due}) == len(due)
        for one in due:
            assert self.custody.get(one.key) is one or one.sequence == 0
            if one.sequence == 0:
                self.announced.add(one.stream)
            assert one.stream in self.announced, "a batch went before its stream's announcement"
            self.sent[one.key] = self.sent.get(one.key, 0) + 1

    @precondition(lambda self: self.custody)
    @rule(data=st.data(), status=st.sampled_from(Status))
    def receipt(self, data: st.DataObject, status: Status) -> None:
        one = self.custody.pop(data.draw(st.sampled_from(sorted(self.custody))))
        assert receipt(self.box, one, self.now_s, status) is one
        assert one in self.box.take_answered()
        if one.sequence == 0:  # without being sent: an earlier run had sent it
            self.announced.add(one.stream)

    @precondition(lambda self: self.custody)
    @rule(data=st.data(), status=st.sampled_from(Status), forged=st.binary(min_size=16, max_size=16))
    def forge(self, data: st.DataObject, status: Status, forged: bytes) -> None:
        one = self.custody[data.draw(st.sampled_from(sorted(self.custody)))]
        if forged != one.tags[status]:
            assert self.box.receipt(one.stream, one.sequence, status, forged, self.now_s) is None

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def undelivered(self, data: st.DataObject) -> None:
        self.box.undelivered(data.draw(st.sampled_from(sorted(self.sent))), self.now_s)

    @rule(stream=st.sampled_from(STREAMS))
    def request(self, stream: bytes) -> None:
        if self.box.request(stream, self.now_s):
            assert self.next_sequence[stream] > 0
            if (stream, 0) not in self.custody:  # receipted before: asked for again, it is answered again, but not counted again
                self.box.receipt(stream, 0, Status.STORED, tag(stream, 0, Status.STORED), self.now_s)
                assert self.box.take_answered() == []

    @rule(lane=st.sampled_from(Lane), share=st.floats(0, 1))
    def drop(self, lane: Lane, share: float) -> None:
        before = int(self.next_position[lane] * share)
        self.box.forget(lane, before)
        for one in [one for one in self.custody.values() if one.sequence and one.lane is lane and one.position < before]:
            del self.custody[one.key]

    @invariant()
    def nothing_is_held_but_what_is_in_custody(self) -> None:
        assert self.box.held == len(self.custody)
        assert self.box.in_flight <= MAX_IN_FLIGHT

    @invariant()
    def what_is_in_custody_will_be_sent(self) -> None:
        """There is always a next time, no later than a receipt's wait and the longest pause from now."""
        if self.connected and self.custody:
            wake_s = self.box.wake_s()
            assert wake_s is not None
            assert wake_s <= self.now_s + RECEIPT_S + MAX_BACK_OFF_S

    def teardown(self) -> None:
        """Whatever has happened: with a cloud that answers, everything is delivered."""
        self.box.connect()
        for _ in range(20_000):
            if not self.custody:
                break
            for one in self.box.due(self.now_s):
                self.custody.pop(one.key, None)
                receipt(self.box, one, self.now_s)
            self.now_s = max(self.now_s, self.box.wake_s() or self.now_s)
        assert not self.custody
        assert self.box.held == 0


OutboxMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestOutboxMachine = OutboxMachine.TestCase
