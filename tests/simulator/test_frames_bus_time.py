"""The bus time of a frame, against one bit after the other."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.bus_time import frame_time_us

LENGTHS = (*range(9), 12, 16, 20, 24, 32, 48, 64)


def bits(value: int, count: int) -> list[int]:
    return [int(digit) for digit in f"{value:0{count}b}"]


def stuffed(stream: list[int]) -> int:
    """How many bits a stream has once a bit of the other value follows five equal ones."""
    sent: list[int] = []
    for bit in stream:
        sent.append(bit)
        if len(sent) >= 5 and len(set(sent[-5:])) == 1:
            sent.append(1 - bit)
    return len(sent)


def crc15(stream: list[int]) -> list[int]:
    crc = 0
    for bit in stream:
        top = crc >> 14 & 1
        crc = crc << 1 & 0x7FFF
        if top ^ bit:
            crc ^= 0x4599
    return bits(crc, 15)


def classic_us(frame_id: int, payload: bytes) -> float:
    head = [0, *bits(frame_id, 11), 0, 0, 0, *bits(len(payload), 4)]
    body = head + [bit for byte in payload for bit in bits(byte, 8)]
    return (stuffed(body + crc15(body)) + 3 + 7 + 3) * 2.0  # delimiters and acknowledgement, end of frame, interframe space; 500 kbit/s


def fd_us(frame_id: int, payload: bytes) -> float:
    arbitration = [0, *bits(frame_id, 11), 0, 0, 1, 0, 1]
    data = [0, *bits(LENGTHS.index(len(payload)), 4), *(bit for byte in payload for bit in bits(byte, 8))]
    nominal = stuffed(arbitration)
    fast = stuffed(arbitration + data) - nominal
    fixed = 4 + 17 + 6 if len(payload) <= 16 else 4 + 21 + 7  # stuff count, checksum, their fixed stuff bits
    return (nominal + 2 + 7 + 3) * 2.0 + (fast + fixed + 1) * 0.5


@pytest.mark.parametrize("pattern", ["random", "zeros", "ones", "runs"])
def test_the_bits_of_a_frame_are_counted_with_its_stuff_bits(pattern: str) -> None:
    rng = np.random.default_rng(3)
    n = 300
    length = rng.choice(LENGTHS, n)
    frame_id = rng.integers(0, 0x800, n).astype(np.uint32)
    data = {
        "random": rng.integers(0, 256, (n, 64)),
        "zeros": np.zeros((n, 64)),
        "ones": np.full((n, 64), 255),
        "runs": rng.choice([0x00, 0x0F, 0x1F, 0xF8, 0xFF, 0x83], (n, 64)),
    }[pattern].astype(np.uint8)
    expected = [
        (fd_us if size > 8 else classic_us)(int(one), row[:size].tobytes()) for one, size, row in zip(frame_id, length, data, strict=True)
    ]
    assert frame_time_us(frame_id, length.astype(np.uint8), data).tolist() == expected


def test_a_frame_of_eight_bytes_takes_between_111_and_135_bits() -> None:
    """The bounds of Davis, Burns, Bril and Lukkien, Real-Time Systems 35 (2007), equation 1."""
    rng = np.random.default_rng(4)
    data = np.concatenate([rng.integers(0, 256, (2000, 8)), np.zeros((1, 8)), np.full((1, 8), 0x1F)]).astype(np.uint8)
    frame_id = np.append(rng.integers(0, 0x800, 2000), [0, 0x7C1]).astype(np.uint32)
    taken = frame_time_us(frame_id, np.full(len(data), 8, np.uint8), data) / 2
    assert taken.min() >= 111
    assert taken.max() <= 135
    assert taken.max() > 120
