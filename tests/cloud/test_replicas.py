"""Two aggregators share the vehicles' messages, each with a landing log and tables of its own: nothing is lost, whoever dies."""

import random
from contextlib import ExitStack
from pathlib import Path

import pytest
from cloud_samples import make_schema
from cloud_vehicle import Vehicle, receipts
from test_aggregator import Place, aggregator

from cloud.aggregator import REQUEST_EVERY_MS
from cloud.config import BrokerConfig
from cloud.inlet import Inlet
from cloud.replica_names import share_group
from wire.envelope import Sealed
from wire.receipts import AnnouncementRequest, Status, decode_downlink
from wire.recipients import RecipientKey


@pytest.mark.parametrize("seed", range(3))
def test_what_one_does_not_have_the_other_has_and_every_receipt_is_good(tmp_path: Path, pki: Path, seed: int) -> None:
    chance = random.Random(seed)
    vehicles = [Vehicle(pki, make_schema()) for _ in range(3)]
    for vehicle in vehicles:
        for tick in range(0, 20, 2):
            vehicle.rows(range(tick, tick + 2))
    due: dict[tuple[bytes, int], Sealed] = {(one.header.stream, one.header.sequence): one for vehicle in vehicles for one in vehicle.sent}
    every = dict(due)
    with ExitStack() as stack:
        places: list[Place] = [stack.enter_context(aggregator(tmp_path / name, pki, vehicles[0].schema)) for name in ("a", "b")]
        for round_ in range(60):  # a vehicle sends what has no receipt again, and an announcement that is asked for
            if round_ == 1:
                places[1].aggregator._streams._open.clear()  # as after a restart
            turn = [*due.values()]
            chance.shuffle(turn)
            for sealed in turn:
                answers = chance.choice(places).give(sealed, after_ms=round_ * REQUEST_EVERY_MS)
                if chance.random() < 0.2:
                    continue  # the receipt is lost, so the other one may land it too
                for key, (status, tag) in receipts(answers).items():
                    assert (status, tag) == (Status.STORED, every[key].tags[Status.STORED])
                    due.pop(key, None)
                for _, payload in answers:
                    if isinstance(asked := decode_downlink(payload), AnnouncementRequest):
                        due[asked.stream, 0] = every[asked.stream, 0]
            if not due:
                break
        assert not due
        landed = [place.landed() for place in places]
        assert set(landed[0]) | set(landed[1]) == set(every)
        assert all(len(one) == len(set(one)) for one in landed)
        assert all(landed), "both took part"


def test_replicas_share_under_a_name_that_only_who_has_the_recipient_keys_knows() -> None:
    one, two, other = RecipientKey.generate(), RecipientKey.generate(), RecipientKey.generate()
    keys = {key.key_id: key for key in (one, two)}
    assert share_group(keys) == share_group(dict(reversed(keys.items())))
    assert share_group(keys) != share_group({other.key_id: other})
    broker = BrokerConfig(ca="", certificate="", key="", replica="a")
    assert Inlet(broker, lambda _: None, "name").filters == ("$share/name/cansight/1/+/up", "cansight/1/+/will")
    assert Inlet(BrokerConfig(ca="", certificate="", key=""), lambda _: None, "name").filters[0] == "cansight/1/+/up"
