"""NMEA 2000 fast packets."""

from pathlib import Path

import numpy as np
import pytest
from bus_frames import decoded, fast_packet_frames, log_blocks
from hypothesis import given
from hypothesis import strategies as st

from dbc.protocols.fast_packet import MAX_BYTES, FastPackets, is_fast_packet

GNSS = 0x0DF80523


@given(st.binary(min_size=1, max_size=MAX_BYTES), st.integers(0, 7))
def test_any_payload_comes_back(payload: bytes, sequence: int) -> None:
    packets = FastPackets()
    given_back = [packets.feed(0, GNSS, 0, frame) for frame in fast_packet_frames(payload, sequence)]
    assert given_back == [None] * (len(given_back) - 1) + [payload]


def test_two_sequences_of_one_sender_interleave() -> None:
    packets = FastPackets()
    pairs = zip(fast_packet_frames(b"a" * 40, 1), fast_packet_frames(b"b" * 40, 2), strict=True)
    assert [whole for pair in pairs for frame in pair if (whole := packets.feed(0, GNSS, 0, frame))] == [b"a" * 40, b"b" * 40]


@pytest.mark.parametrize("missing", range(1, 7))
def test_a_lost_frame_drops_the_message(missing: int) -> None:
    packets = FastPackets()
    frames = fast_packet_frames(bytes(43))
    del frames[missing]
    assert not any(packets.feed(0, GNSS, 0, frame) for frame in frames)
    packets.finish()
    assert packets.counts.lost == 1
    assert packets.counts.messages == 0


@pytest.mark.parametrize("order", [[0, 1, 3, 2, 4, 5, 6], [0, 1, 1, 2, 3, 4, 5, 6]])
def test_frames_in_another_order_are_no_message(order: list[int]) -> None:
    packets = FastPackets()
    frames = [fast_packet_frames(bytes(range(43)))[number] for number in order]
    assert not any(packets.feed(0, GNSS, 0, frame) for frame in frames)
    assert (packets.counts.lost, packets.counts.messages) == (1, 0)


def test_a_late_frame_by_its_own_stamp_drops_the_message() -> None:
    packets = FastPackets()
    first, *rest = fast_packet_frames(bytes(20))
    packets.feed(0, GNSS, 0, first)
    assert packets.feed(0, GNSS, 751_000_000, rest[0]) is None
    assert (packets.counts.timed_out, packets.counts.orphans) == (1, 1)


def test_which_groups_are_fast_packets() -> None:
    assert is_fast_packet(129029, 43)  # GNSS position data
    assert not is_fast_packet(129025, 8)  # position, rapid update: one frame
    assert is_fast_packet(126208, 8)  # a request: always fast
    assert not is_fast_packet(0xFEE3, 40)  # J1939's own transport


def test_a_recorded_boat_gives_its_position_every_second(data_dir: Path) -> None:
    folder = data_dir / "logs" / "css_electronics"
    series, reassembler = decoded([f"{folder}/tp_nmea.dbc@bus0"], log_blocks(folder / "94C49784-00000002.mf4"))
    stamps, latitude = series["gnssPositionData.latitude"]
    longitude, altitude = series["gnssPositionData.longitude"][1], series["gnssPositionData.altitude"][1]
    assert len(latitude) == 60
    assert np.allclose(np.diff(stamps) / 1e9, 1, atol=0.2)
    assert 42.660 < latitude.min() < latitude.max() < 42.662
    assert -81.213 < longitude.min() < longitude.max() < -81.212
    assert 170 < altitude.min() < altitude.max() < 180
    assert np.allclose(np.diff(series["gnssPositionData.time"][1]), 1, atol=1e-3)  # s of the day
    assert set(series["gnssPositionData.date"][1]) == {18711.0}  # days since 1970: 25 March 2021
    # The message ends before its reference station; those signals are invalid, not zero.
    assert np.isnan(series["gnssPositionData.referenceStationId"][1]).all()
    assert (reassembler.counts.messages, reassembler.counts.dropped) == (60, 0)
