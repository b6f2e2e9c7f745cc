"""What the cloud has custody of and cannot use today is used when it can be: nothing is skipped for good, nothing counts twice."""

import os
from pathlib import Path

import pytest
from cloud_samples import START_MS, make_schema
from cloud_vehicle import Vehicle, receipts
from hypothesis import given, settings
from hypothesis import strategies as st
from test_aggregator import aggregator
from test_sinks import Cloud, Memory, nothing, opened, until

from cloud.aggregator import Aggregator
from cloud.quarantine import Kept, Quarantine, Source, read_only
from cloud.replays import AT_START, chunks, missing
from cloud.streams import Opened, Stream, Streams, Unsealed
from wire.errors import SegmentLogError
from wire.header import Header
from wire.messages import Clock
from wire.receipts import Status
from wire.recipients import RecipientKey


@pytest.fixture
def vehicle(pki: Path) -> Vehicle:
    return Vehicle(pki, make_schema())


def take_key(vehicle: Vehicle) -> str:
    """Another key lies where the recipient's was; returns what was there."""
    path = vehicle.pki / "recipient.key"
    before = path.read_text()
    path.write_text(RecipientKey.generate().to_pem())
    return before


def give_key(vehicle: Vehicle, text: str) -> None:
    (vehicle.pki / "recipient.key").write_text(text)


def replay(aggregator: Aggregator, quarantine: Quarantine, positions: tuple[int, ...] = ()) -> int:
    return sum(len(aggregator.replay(group).released) for group in chunks(quarantine, positions))


def at_start(cloud: Cloud) -> int:
    return sum(len(cloud.aggregator.replay(group).released) for group in chunks(cloud.quarantine, (), AT_START))


def test_what_landed_and_has_no_key_today_is_kept_once_and_taken_when_the_key_is_back(tmp_path: Path, vehicle: Vehicle) -> None:
    sent = [vehicle.announcement, vehicle.rows(range(2)), vehicle.finding(5), vehicle.rows(range(2, 4))]
    with opened(tmp_path / "c", vehicle) as cloud:
        cloud.land(*sent)
    key = take_key(vehicle)
    for _ in range(2):  # a second start finds it in the quarantine already
        with opened(tmp_path / "c", vehicle) as cloud:
            sinks = [Memory("a"), Memory("b"), Memory("c")]
            cloud.run(sinks, nothing)
            assert at_start(cloud) == 0
            assert [sink.events for sink in sinks] == [[], [], []]
            assert [item.data for item in cloud.quarantine.items()] == [sealed.data for sealed in sent]
            assert {(item.source, "none of our recipient keys" in item.reason) for item in cloud.quarantine.items()} == {
                (Source.LANDED, True)
            }
            assert [runner.behind for runner in cloud.runners] == [0, 0, 0]
    give_key(vehicle, key)
    with opened(tmp_path / "c", vehicle) as cloud:
        assert at_start(cloud) == 4
        sinks = [Memory("a"), Memory("b"), Memory("c"), Memory("new")]
        cloud.run(sinks, nothing)
        assert [sink.sequences for sink in sinks[:3]] == [[1, 2, 3]] * 3
        assert sorted(sinks[3].sequences) == [1, 1, 2, 2, 3, 3]  # a sink takes a message twice as once
        assert cloud.quarantine.held == 0
        assert at_start(cloud) == 0
        late = receipts(cloud.aggregator.replay([]).answers)
        assert late == {}


def test_what_landed_and_whose_dbc_is_gone_comes_back_with_it(tmp_path: Path, vehicle: Vehicle) -> None:
    with opened(tmp_path / "c", vehicle) as cloud:
        cloud.land(vehicle.announcement, vehicle.rows(range(2)), vehicle.finding(3))
    schema, vehicle.schema = vehicle.schema, make_schema(signals=3)
    sink = Memory()
    with opened(tmp_path / "c", vehicle) as cloud:
        cloud.run([sink], nothing)
        assert sink.sequences == [2]  # findings need no DBC
        (item,) = cloud.quarantine.items()
        assert "is not of any vehicle model in the settings; add its DBC files" in item.reason
    vehicle.schema = schema
    with opened(tmp_path / "c", vehicle) as cloud:
        assert at_start(cloud) == 1
        cloud.run([sink], nothing)
    assert sink.sequences == [2, 1]


def test_what_arrived_without_its_dbc_is_landed_when_it_is_there(tmp_path: Path, pki: Path, vehicle: Vehicle) -> None:
    batches = [vehicle.rows(range(tick, tick + 2)) for tick in range(0, 10, 2)]
    with aggregator(tmp_path / "cloud", pki, None) as place:
        place.give(vehicle.announcement, *batches)
        assert replay(place.aggregator, place.quarantine) == 0
        (still,) = place.aggregator.replay(list(place.quarantine.items())).still.items()
        assert still[0].endswith("add its DBC files")
        assert still[1] == 5
    with aggregator(tmp_path / "cloud", pki, vehicle.schema) as place:
        received = {item.received_ms for item in place.quarantine.items()}
        assert replay(place.aggregator, place.quarantine) == 5
        assert [sequence for _, sequence in place.landed()] == [0, 1, 2, 3, 4, 5]
        assert {received_ms for _, received_ms, _ in list(place.landing.raw(0))[1:]} == received
        # the vehicle asks again: it is stored now
        assert {status for status, _ in receipts(place.give(*batches)).values()} == {Status.STORED}
        assert place.quarantine.held == 0


def test_a_kill_between_landing_and_release_costs_a_repeat_and_loses_nothing(
    tmp_path: Path, pki: Path, vehicle: Vehicle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with aggregator(tmp_path / "cloud", pki, None) as place:
        place.give(vehicle.announcement, vehicle.rows(range(2)))
    with aggregator(tmp_path / "cloud", pki, vehicle.schema) as place, monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise SegmentLogError("cannot write", 28)

        patch.setattr(place.quarantine, "release", full)
        with pytest.raises(SegmentLogError):
            replay(place.aggregator, place.quarantine)
    with aggregator(tmp_path / "cloud", pki, vehicle.schema) as place:
        assert replay(place.aggregator, place.quarantine) == 1
        assert [sequence for _, sequence in place.landed()] == [0, 1, 1]
        assert place.quarantine.held == 0


def test_a_boot_whose_clock_comes_while_the_key_is_missing(tmp_path: Path, pki: Path) -> None:
    vehicle = Vehicle(pki, make_schema(), clock=None)
    sink = Memory()
    with opened(tmp_path / "c", vehicle) as cloud:
        cloud.land(vehicle.announcement, vehicle.rows(range(2)))
        cloud.run([sink], nothing)
        cloud.land(vehicle.say(Clock(boot_ms=0, utc_ms=START_MS, source="system")))
        with pytest.MonkeyPatch.context() as patch:
            read = cloud.landing.read
            gone = [(1, SegmentLogError("stands for any error that a message cannot be opened by"))]
            patch.setattr(cloud.landing, "read", lambda position, limit: gone if position == 1 else read(position, limit))
            cloud.run([sink], nothing)
        assert sink.events == []
        assert [item.source for item in cloud.quarantine.items()] == [Source.LANDED]
    with opened(tmp_path / "c", vehicle) as cloud:
        assert at_start(cloud) == 1
        cloud.run([sink], nothing)
    assert sink.sequences == [1]


def test_what_a_sink_choked_on_is_tried_when_asked_for_and_not_at_every_start(tmp_path: Path, vehicle: Vehicle) -> None:
    sink = Memory()
    sink.poison = {2}
    with opened(tmp_path / "c", vehicle) as cloud:
        cloud.land(vehicle.announcement, *(vehicle.rows(range(tick, tick + 2)) for tick in range(0, 6, 2)))
        cloud.run([sink], nothing)
        assert sink.sequences == [1, 3]
        assert at_start(cloud) == 0
        (item,) = cloud.quarantine.items()
        assert replay(cloud.aggregator, cloud.quarantine, (item.position,)) == 1
        cloud.run([sink], nothing)  # chokes again, and puts it back
        assert sink.sequences == [1, 3]
        (again,) = cloud.quarantine.items()
        assert (again.data, again.reason) == (item.data, item.reason)
        assert missing(cloud.quarantine, [item.position, again.position]) == [item.position]
        sink.poison = set()
        assert replay(cloud.aggregator, cloud.quarantine) == 1
        cloud.run([sink], nothing)
        assert sink.sequences == [1, 3, 2]


def test_a_full_disk_holds_the_sink_up_that_wants_to_put_something_aside(
    tmp_path: Path, vehicle: Vehicle, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, other = Memory(), Memory("other")
    sink.poison = {1}
    with opened(tmp_path / "c", vehicle) as cloud:
        put, failures = cloud.quarantine.put, [SegmentLogError("cannot write", 28)] * 2

        def full(item: Kept) -> None:
            if failures:
                raise failures.pop()
            put(item)

        monkeypatch.setattr(cloud.quarantine, "put", full)

        async def story(cloud: Cloud) -> None:
            cloud.land(vehicle.announcement, vehicle.rows(range(2)), vehicle.rows(range(2, 4)))
            await until(lambda: sink.sequences == [2])

        cloud.run([sink, other], story)
        assert other.sequences == [1, 2]
        assert [item.data for item in cloud.quarantine.items()] == [vehicle.sent[1].data]


def test_an_event_that_cannot_be_placed_stops_nobody(tmp_path: Path, vehicle: Vehicle, monkeypatch: pytest.MonkeyPatch) -> None:
    from cloud import runner as module

    place = module.place

    def choking(message: object, clock: object) -> object:
        if message.header.sequence == 1:  # type: ignore[attr-defined]
            raise OverflowError("a time that no calendar has")
        return place(message, clock)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "place", choking)
    sink = Memory()
    with opened(tmp_path / "c", vehicle) as cloud:
        cloud.land(vehicle.announcement, vehicle.rows(range(2)), vehicle.rows(range(2, 4)))
        cloud.run([sink], nothing)
        (item,) = cloud.quarantine.items()
    assert sink.sequences == [2]
    assert item.reason == "sink memory: placing: OverflowError: a time that no calendar has"


def test_a_later_version_is_judged_by_the_program_that_knows_it(tmp_path: Path, pki: Path, vehicle: Vehicle) -> None:
    """The program's own version stands for the later one: it lies in the quarantine as an earlier program has put it there."""
    batch = vehicle.rows(range(2))
    forged = batch.data[:-1] + bytes([batch.data[-1] ^ 1])
    with aggregator(tmp_path / "cloud", pki, vehicle.schema) as place:
        kept = [vehicle.announcement.data, forged, batch.data, b"\x09" + batch.data[1:]]
        place.quarantine.put_all([Kept(Source.LATER, place.now_ms, "of a later version", data) for data in kept])
    with aggregator(tmp_path / "cloud", pki, vehicle.schema) as place:
        done = place.aggregator.replay(list(place.quarantine.items()))
        assert receipts(done.answers) == {
            (sealed.header.stream, sealed.header.sequence): (Status.STORED, sealed.tags[Status.STORED]) for sealed in vehicle.sent
        }
        assert [sequence for _, sequence in place.landed()] == [0, 1]
        assert [item.data[0] for item in place.quarantine.items()] == [1, 9]  # the forged one, and what is still unknown


@pytest.mark.parametrize("source", [Source.LATER, Source.ARRIVAL])
def test_a_message_that_no_replay_can_judge_stays_and_stops_nobody(
    tmp_path: Path, pki: Path, vehicle: Vehicle, monkeypatch: pytest.MonkeyPatch, source: Source
) -> None:
    kept = [vehicle.rows(range(tick, tick + 2)).data for tick in (0, 2)]
    with aggregator(tmp_path / "cloud", pki, vehicle.schema) as place:
        place.give(vehicle.announcement)
        place.quarantine.put_all([Kept(source, place.now_ms, "for a later program", data) for data in kept])
        unseal = Streams.unseal_of

        def breaking(streams: Streams, stream: Stream, header: Header, data: bytes, received_ms: int) -> Unsealed | Opened:
            if data == kept[0]:
                raise RecursionError("a fault of ours")
            return unseal(streams, stream, header, data, received_ms)

        monkeypatch.setattr(Streams, "unseal_of", breaking)
        done = place.aggregator.replay(list(place.quarantine.items()))
        assert dict(done.still) == {"cannot be judged: RecursionError: a fault of ours": 1}
        assert [item.data for item in place.quarantine.items()] == kept[:1]
        assert [sequence for _, sequence in place.landed()] == [0, 2]


def message(number: int, *, stream: int = 0) -> bytes:
    return Header("00" * 8, bytes([stream]) * 16, number).pack() + b"sealed"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["put", "release", "reopen"]), st.integers(0, 7), st.sampled_from([1, 3, 4])), max_size=20))
def test_the_quarantine_holds_what_was_put_and_not_released(
    tmp_path_factory: pytest.TempPathFactory, story: list[tuple[str, int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("q")
    model: dict[tuple[int, int], None] = {}
    quarantine = Quarantine(folder)
    quarantine.__enter__()
    for what, number, source in story:
        if what == "put":
            quarantine.put_all([Kept(Source(source), 5, "sink x: no", message(number))] * 2)
            model.setdefault((source, number))
        elif what == "release":
            gone = [item for item in quarantine.items() if item.data == message(number)]
            quarantine.release(gone)
            model = {key: None for key in model if key[1] != number}
        else:
            quarantine.__exit__(None, None, None)
            quarantine = Quarantine(folder)
            quarantine.__enter__()
        expected = [(source, message(number)) for source, number in model]
        assert [(item.source, item.data) for item in quarantine.items()] == expected
        assert [(item.source, item.data) for item in read_only(folder)] == expected
        assert [(item.source, item.data) for item in quarantine.listed()] == expected
        assert quarantine.held == len(model) == sum(quarantine.reasons(1).values())
        assert quarantine.holds(Kept(Source(source), 0, "sink x: other words", message(number))) is ((source, number) in model)
    quarantine.__exit__(None, None, None)


def test_what_is_released_leaves_the_disk(tmp_path: Path) -> None:
    with Quarantine(tmp_path) as quarantine:
        quarantine.put_all([Kept(Source.ARRIVAL, 5, "no", message(number) + os.urandom(200_000)) for number in range(12)])
        items = list(quarantine.items())
        before = quarantine.size_bytes
        quarantine.release(items[1:])
        assert quarantine.size_bytes > before  # the oldest one is still held
        quarantine.release(items[:1])
        assert quarantine.size_bytes == 0
    with Quarantine(tmp_path) as quarantine:
        assert (quarantine.held, list(quarantine.items()), read_only(tmp_path)) == (0, [], [])
        quarantine.put(Kept(Source.ARRIVAL, 5, "no", message(1)))
        assert quarantine.held == 1


def test_a_damaged_record_is_not_held_and_does_not_hold_up_the_rest(tmp_path: Path) -> None:
    with Quarantine(tmp_path) as quarantine:
        quarantine.put_all([Kept(Source.ARRIVAL, 5, "no", message(number)) for number in range(3)])
    (segment,) = tmp_path.glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[60] ^= 1
    segment.write_bytes(data)
    with Quarantine(tmp_path) as quarantine:
        assert quarantine.held == 2
        quarantine.release(list(quarantine.items()))
        assert (quarantine.held, quarantine.size_bytes) == (0, 0)
