"""The outbox's rules, alone and under a machine that does everything in any order."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.outbox import (
    BACK_OFF_S,
    BACKLOG_BYTES_S,
    MAX_BACK_OFF_S,
    MAX_BACKLOG_BYTES,
    MAX_BACKLOG_IN_FLIGHT,
    MAX_IN_FLIGHT,
    MAX_RETRIES_IN_FLIGHT,
    RECEIPT_S,
    REQUEST_S,
    Batch,
    Lane,
    Outbox,
)
from wire.receipts import Status

STREAMS = [bytes([number]) * 16 for number in range(3)]


def tag(stream: bytes, sequence: int, status: Status) -> bytes:
    return stream[:8] + sequence.to_bytes(4, "big") + status.to_bytes(4, "big")


def batch(
    sequence: int,
    stream: bytes = STREAMS[0],
    lane: Lane = Lane.BULK,
    position: int | None = None,
    live_until_s: float = math.inf,
    size: int = 6,
) -> Batch:
    lane, position = (Lane.RESERVED, -1) if sequence == 0 else (lane, sequence if position is None else position)
    return Batch(stream, sequence, lane, position, bytes(size), {status: tag(stream, sequence, status) for status in Status}, live_until_s)


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


def test_a_round_that_nobody_listened_to_counts_as_one_silence() -> None:
    box = outbox(*(batch(sequence) for sequence in range(1, MAX_IN_FLIGHT + 1)))
    for one in box.due(0.0):
        box.undelivered(one.key, 0.1)
    assert box.wake_s() == pytest.approx(0.1 + BACK_OFF_S)  # not the longer pause that a second round without an answer makes


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


def test_an_announcement_that_an_earlier_run_sent_is_sent_on_request_too() -> None:
    """Its receipt comes before this run has sent it, and then the cloud loses it."""
    box = outbox(announcement := batch(0), batch(1))
    receipt(box, announcement, 0.0)
    assert sequences(box.due(0.0)) == [1]
    assert box.request(announcement.stream, 0.1)
    assert box.due(0.1) == [announcement]


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


def test_findings_go_before_live_rows_and_both_before_the_backlog() -> None:
    backlog = [batch(1, live_until_s=-math.inf), batch(2, lane=Lane.RESERVED, live_until_s=-math.inf)]
    box = outbox(batch(0), *backlog, batch(3), batch(4, lane=Lane.RESERVED), batch(5))
    assert sequences(box.due(0.0)) == [0, 4, 3, 5, 2, 1]


def test_what_has_waited_too_long_is_backlog() -> None:
    box = outbox(batch(1, live_until_s=30.0), batch(2, live_until_s=60.0))
    box.disconnect(0.0)
    box.connect()
    assert [(one.sequence, one.as_backlog) for one in box.due(40.0)] == [(2, False), (1, True)]


def test_an_announcement_that_waits_in_the_backlog_goes_before_a_live_batch_of_its_stream() -> None:
    box = outbox(batch(0, live_until_s=10.0), *(batch(sequence, live_until_s=-math.inf) for sequence in range(1, 40)), batch(40))
    assert sequences(box.due(20.0))[:2] == [0, 40]


def test_the_backlog_leaves_places_free() -> None:
    box = outbox(*(batch(sequence, live_until_s=-math.inf) for sequence in range(1, 40)))
    assert len(box.due(0.0)) == MAX_BACKLOG_IN_FLIGHT
    assert box.wake_s() == RECEIPT_S
    box.put(batch(40))
    box.put(batch(41, lane=Lane.RESERVED))
    assert sequences(box.due(0.0)) == [41, 40]


def test_large_batches_of_a_backlog_do_not_fill_a_slow_link() -> None:
    box = outbox(*(batch(sequence, live_until_s=-math.inf, size=20_000) for sequence in range(1, 40)))
    sent = box.due(0.0)
    assert len(sent) == 2
    assert MAX_BACKLOG_BYTES <= 2 * 20_000
    later_s = RECEIPT_S - 0.5
    assert later_s * BACKLOG_BYTES_S > 10 * MAX_BACKLOG_BYTES
    assert box.due(later_s) == []  # the rate would let it, but the link still has the first two in its queue
    receipt(box, sent[0], later_s)
    assert sequences(box.due(later_s)) == [3]


def test_the_backlog_keeps_to_its_rate() -> None:
    box = outbox(*(batch(sequence, live_until_s=-math.inf, size=1000) for sequence in range(1, 3001)))
    now_s, answered = 0.0, 0
    while answered < 3000:
        for one in box.due(now_s):
            receipt(box, one, now_s)  # at once: only the rate holds it back
            answered += 1
        now_s = max(now_s, box.wake_s() or now_s)
    assert now_s == pytest.approx(3000 * 1000 / BACKLOG_BYTES_S, rel=0.02)


@pytest.mark.parametrize("broker_says", ["nothing", "no subscribers", "away"])
@pytest.mark.parametrize("seed", range(5))
def test_after_an_hour_of_outage_live_batches_are_in_time_at_once_while_the_backlog_drains(broker_says: str, seed: int) -> None:
    """A batch every 2 s, a finding every 20 s; the network takes 0.1 s. The cloud is away for an hour, in three ways."""
    chance = random.Random(seed)
    box = outbox(batch(0, live_until_s=30.0), uniform=lambda most: chance.uniform(0, most))
    backlog = [batch(sequence, STREAMS[1], live_until_s=-math.inf, size=300) for sequence in range(20_000)]  # a week's rest: on the flash
    begin_s, end_s = 20.0, 3620.0 + chance.uniform(0, 10)
    arriving: list[tuple[float, Batch]] = []
    recorded: dict[int, float] = {}
    late: dict[int, float] = {}
    sequence, next_s, now_s, old_done, away = 0, 0.0, 0.0, 0, False
    while now_s < end_s + 60.0:
        if not away and begin_s <= now_s < end_s:
            away = True
            if broker_says == "away":
                box.disconnect(now_s)
        if away and now_s >= end_s:
            away = False
            if broker_says == "away":
                box.connect()
        if now_s >= next_s:
            for lane in (Lane.BULK, Lane.RESERVED)[: 2 if sequence % 10 == 0 else 1]:
                sequence += 1
                box.put(batch(sequence, lane=lane, live_until_s=now_s + 30.0, size=300))
                recorded[sequence] = now_s
            next_s += 2.0
        while backlog and box.held < 2500 and backlog[0].sequence < 20_000:
            box.put(backlog.pop(0))
        for one in box.due(now_s):
            if not away:
                arriving.append((now_s + 0.1, one))
            elif broker_says == "no subscribers":
                box.undelivered(one.key, now_s)
        for time_s, one in [entry for entry in arriving if entry[0] <= now_s]:
            arriving.remove((time_s, one))
            if receipt(box, one, now_s) is not None:
                if one.stream == STREAMS[0] and one.sequence:
                    late[one.sequence] = now_s - recorded[one.sequence]
                old_done += one.stream == STREAMS[1]
        step_s = box.wake_s()
        times = [next_s, *(time_s for time_s, _ in arriving), *([step_s] if step_s is not None else [])]
        now_s = max(now_s + 0.01, min(min(times), begin_s if now_s < begin_s else end_s if now_s < end_s else math.inf))
    after = [late[number] for number, time_s in recorded.items() if end_s + 10.0 <= time_s < end_s + 50.0]
    assert len(after) > 15
    assert max(after) < 1.0
    soon = [late[number] for number, time_s in recorded.items() if end_s <= time_s < end_s + 10.0]
    assert max(soon) < 10.0
    assert old_done > 5000, "and the backlog drains"


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

    @rule(
        stream=st.sampled_from(STREAMS),
        lane=st.sampled_from(Lane),
        count=st.integers(1, 30),
        live_s=st.sampled_from([-math.inf, 1, 30, math.inf]),
    )
    def put(self, stream: bytes, lane: Lane, count: int, live_s: float) -> None:
        for _ in range(count):
            sequence = self.next_sequence[stream]
            one = batch(sequence, stream, lane, self.next_position[lane], self.now_s + live_s)
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

    @precondition(lambda self: self.custody)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        """The store takes a batch back, and gives it again."""
        one = self.custody[data.draw(st.sampled_from(sorted(self.custody)))]
        if one.sequence and self.box.withdraw(one):
            assert not self.box.withdraw(one)
            again = batch(one.sequence, one.stream, one.lane, one.position, -math.inf)
            self.custody[one.key] = again
            self.box.put(again)

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
        flying = [one for one in self.box._in_flight.values() if one.as_backlog]
        assert (self.box._backlog_in_flight, self.box._backlog_bytes) == (len(flying), sum(len(one.data) for one in flying))

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
