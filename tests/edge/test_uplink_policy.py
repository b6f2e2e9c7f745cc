"""The uplink's rules without a socket: pauses, liveness, bandwidth, conditions."""

import errno
import itertools
import logging
import os
import socket
import ssl
from pathlib import Path

import pytest

from edge.bandwidth import BURST_S, MESSAGE_BYTES, TokenBucket
from edge.config import Share, UploadConfig
from edge.ignition import Ignition
from edge.liveness import DEAF_S, Liveness
from edge.outbox import MAX_BACK_OFF_S, Batch, Lane, Outbox, Turn
from edge.reconnect import STEADY_S, Ending, Pauses, ending_by, ending_of
from edge.session import CONNECT_S
from edge.upload import Conditions, ConditionsFile, share

LONGEST = {ending: ending.value[1] for ending in Ending}


def test_a_pause_is_drawn_from_a_range_that_doubles_up_to_its_ending_s_longest() -> None:
    for ending in Ending:
        pauses = Pauses(lambda most: most)
        drawn = [pauses.next_s(ending, 0.0) for _ in range(9)]
        assert drawn[0] == ending.value[0]
        assert drawn == sorted(drawn)
        assert set(drawn) <= {min(LONGEST[ending], ending.value[0] * 2**n) for n in range(9)}
        assert drawn[-1] == LONGEST[ending] or ending is Ending.UNREACHED
    assert Pauses(lambda _: 0.0).next_s(Ending.TAKEN, 0.0) == 0.0


def test_after_days_without_coverage_the_first_try_that_can_succeed_comes_within_ten_seconds() -> None:
    """The worst case: coverage returns right after an attempt's last SYN (0, 1, 3, 7 s: Linux doubles), and every draw is the longest."""
    pauses = Pauses(lambda most: most)
    pauses_s = [pauses.next_s(Ending.LOST if n % 2 else Ending.UNREACHED, 0.0) for n in range(100_000)]
    assert max(pauses_s) + CONNECT_S - 7.0 < 10.0
    assert LONGEST[Ending.CLOSED] < 10.0


def test_a_connection_that_held_begins_the_pauses_anew() -> None:
    pauses = Pauses(lambda most: most)
    for _ in range(8):
        pauses.next_s(Ending.REJECTED, 0.0)
    assert pauses.next_s(Ending.REJECTED, STEADY_S - 1) == 60.0
    assert pauses.next_s(Ending.REJECTED, STEADY_S) == 1.0


def test_hours_without_a_route_do_not_lengthen_the_pauses_of_a_broker() -> None:
    pauses = Pauses(lambda most: most)
    for _ in range(1000):
        pauses.next_s(Ending.UNREACHED, 0.0)
    assert pauses.next_s(Ending.REFUSED, 0.0) == 1.0


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), Ending.REFUSED),
        (TimeoutError("timed out"), Ending.LOST),
        (ConnectionResetError(errno.ECONNRESET, "reset"), Ending.LOST),
        (OSError(errno.ENETUNREACH, "no network"), Ending.UNREACHED),
        (OSError(errno.EHOSTUNREACH, "no route"), Ending.UNREACHED),
        (socket.gaierror(socket.EAI_AGAIN, "no name server"), Ending.UNREACHED),
        (ssl.SSLCertVerificationError(1, "not the fleet's"), Ending.REJECTED),
        (ssl.SSLEOFError(8, "hung up in the handshake"), Ending.REJECTED),
        (ValueError("malformed"), Ending.REJECTED),
    ],
)
def test_what_an_error_means(error: Exception, ending: Ending) -> None:
    assert ending_of(error) is ending


def test_what_a_reason_code_means() -> None:
    assert {ending_by(code) for code in (0x88, 0x89, 0x97, 0x9F)} == {Ending.BUSY}
    assert ending_by(0x8E) is Ending.TAKEN
    assert {ending_by(code) for code in (0x80, 0x85, 0x87, 0x8A, 0x95, 0x9C)} == {Ending.REJECTED}


def test_a_connection_is_dead_when_an_answer_is_owed_and_nothing_moves() -> None:
    link = Liveness()
    assert not any(link.is_dead(float(s), owed=False, heard=False, queued=0) for s in range(100))
    assert [link.is_dead(100.0 + s, owed=True, heard=False, queued=500) for s in (0, DEAF_S / 2, DEAF_S - 0.1, DEAF_S)] == [
        False,
        False,
        False,
        True,
    ]


def test_a_slow_link_is_not_dead_while_bytes_come_or_are_acknowledged() -> None:
    link = Liveness()
    assert not any(link.is_dead(s * 5.0, owed=True, heard=True, queued=900) for s in range(100))
    assert not any(link.is_dead(500 + s * 5.0, owed=True, heard=False, queued=900 - s) for s in range(100))
    assert link.is_dead(500 + 99 * 5.0 + DEAF_S, owed=True, heard=False, queued=801)


def batch(position: int, lane: Lane = Lane.BULK, size: int = 870, live_until_s: float = float("inf")) -> Batch:
    return Batch(b"s" * 16, position + 1, lane, position, b"x" * size, {}, live_until_s)


def test_what_goes_up_keeps_to_the_cap_and_live_goes_first() -> None:
    rate = 1000.0
    outbox = Outbox(lambda most: most)
    outbox.cap = TokenBucket(rate)
    outbox.connect()
    for position in range(200):
        outbox.put(batch(position, live_until_s=float("-inf")))  # 200 kB that an outage has left
    sent: list[tuple[float, Batch]] = []
    live = {}
    for now_s in itertools.takewhile(lambda now_s: now_s < 60, itertools.count(0.0, 0.1)):
        if round(now_s * 10) % 20 == 0:  # 500 bytes each 2 s: a quarter of the cap
            live[len(live)] = made = batch(1000 + len(live), size=500 - MESSAGE_BYTES)
            outbox.put(made)
        for found in outbox.due(now_s):
            sent.append((now_s, found))
            outbox._take_back(found)
            outbox._held.pop(found.key)
    total = sum(len(found.data) + MESSAGE_BYTES for _, found in sent)
    assert total <= rate * (60 + BURST_S) + 1000
    assert total >= rate * 59
    waits = [at_s - 2 * (found.position - 1000) for at_s, found in sent if found.position >= 1000]
    assert len(waits) == len(live)
    assert max(waits) < 1.0, "the backlog stands in front of a live batch for less than one of its own"


def test_a_batch_larger_than_the_bucket_goes_and_is_paid_for_afterwards() -> None:
    outbox = Outbox(lambda most: most)
    outbox.cap = TokenBucket(100.0)
    outbox.connect()
    outbox.put(batch(0, size=10_000))
    outbox.put(batch(1))
    assert len(outbox.due(0.0)) == 1
    wake_s = outbox.wake_s()
    assert wake_s is not None
    assert 5.0 <= wake_s <= 100.0


def test_a_batch_that_is_held_back_says_nothing_about_the_others() -> None:
    outbox = Outbox(lambda most: most)
    outbox.connect()
    for position in range(3):
        outbox.put(batch(position))
    assert [found.position for found in outbox.due(0.0, 1)] == [0]
    outbox.hold_back(batch(0).key, 0.0)
    assert [found.position for found in outbox.due(0.0)] == [1, 2]
    assert outbox._silence == 0
    assert batch(0).key not in outbox._in_flight
    assert MAX_BACK_OFF_S == 300.0


@pytest.mark.parametrize(
    ("allowed", "positions"),
    [("nothing", []), ("findings", [2, 0]), ("live", [2, 3, 0]), ("all", [2, 3, 0, 1])],
)
def test_whose_turn_it_may_be(allowed: Share, positions: list[int], tmp_path: Path) -> None:
    (tmp_path / "link").write_text('{"metered": true}')
    file = ConditionsFile(UploadConfig(conditions=str(tmp_path / "link"), metered=allowed))
    assert file.look() is (allowed != "all")
    outbox = Outbox(lambda most: most)
    outbox.connect()
    outbox.allow(file.turns)
    outbox.put(batch(0, Lane.RESERVED, live_until_s=float("-inf")))
    outbox.put(batch(1, live_until_s=float("-inf")))
    outbox.put(batch(2, Lane.RESERVED))
    outbox.put(batch(3))
    outbox._age(0.0)
    assert [found.position for found in outbox.due(0.0)] == positions
    assert outbox.wake_s() in (None, 5.0) or not positions
    assert len(Turn) == 4


def test_the_narrowest_condition_counts_and_what_nobody_knows_restricts_nothing() -> None:
    config = UploadConfig(metered="live", weak_signal="findings", ignition_off="nothing")
    assert share(config, Conditions()) == ("all", "")
    assert share(config, Conditions(metered=False, signal=100, ignition=True)) == ("all", "")
    assert share(config, Conditions(metered=True, signal=20)) == ("live", "metered")
    assert share(config, Conditions(metered=True, signal=19)) == ("findings", "weak signal")
    assert share(config, Conditions(metered=True, signal=19, ignition=False)) == ("nothing", "ignition off")


def test_a_conditions_file_that_cannot_be_read_is_said_once_and_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "link.json"
    file = ConditionsFile(UploadConfig(conditions=str(path)))
    assert not file.look()
    path.write_text('{"signal": 5}')
    assert file.look()
    assert file.share == "live"
    ignition = Ignition(str(path))
    for number, words in enumerate(
        (b'{"signal": 5', b'{"signal": "low"}', b'{"signal": "low" }', b'{"\xff": 5}', b'{"signal": 5, "speed": 3}')
    ):
        path.write_bytes(words)
        os.utime(path, ns=(number, number))
        assert not file.look()
        assert not ignition.went_off()
        assert file.share == "live"
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == len(set(said)) == 4
    assert "`speed`" in said[-1]
    path.unlink()
    assert file.look()
    assert file.share == "all"
