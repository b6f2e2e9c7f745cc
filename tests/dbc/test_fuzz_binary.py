"""A great many damaged binary and packed logs: no crash, no hang, no frame that nobody wrote.

BLF containers and gzip carry checksums: whatever is damaged in them, frames that are read were written, in their order, and what is
missing is told. MF4 has none: there a damaged file gives frames of the right shape, or one line. CANSIGHT_SOAK=1: a million inputs
for each format.
"""

from __future__ import annotations

import gzip
import io
import os
import random
from pathlib import Path

import can
import numpy as np
import pytest
from test_fuzz_logs import check
from test_fuzz_readers import no_hang

from dbc.errors import LogFormatError
from dbc.frames import EFF_FLAG, FrameBlock
from dbc.logs import open_log
from dbc.logs.blf import read_blf
from dbc.logs.lines import Frame
from dbc.logs.packed import Unpacker
from dbc.logs.writers import open_log_writer

SOAK = bool(os.environ.get("CANSIGHT_SOAK"))
INPUTS = 1_000_000 if SOAK else 2_000
MF4_PARTS = 4
MF4_INPUTS = INPUTS // MF4_PARTS if SOAK else 60
BATCH = 100
FRAMES = 24
BLF_HEADER = 144
OBJECT_HEADERS = 32  # of a container: its own, and how it is compressed


def damaged(rng: random.Random, data: bytes) -> bytes:
    """A few bytes changed, taken out, doubled or cut off; numbers set to what they should not be."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not out:
            break
        at, size = rng.randrange(len(out)), rng.choice((1, 1, 2, 4, 8, 40))
        match rng.randrange(7):
            case 0:
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                out[at : at + size] = rng.randbytes(size)
            case 2:
                del out[at : at + size]
            case 3:
                out[at:at] = out[at : at + size]
            case 4:
                out = out[:at]
            case 5:
                out[at : at + 4] = rng.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\0\0\0", b"\xff\xff\xff\x7f", b"LOBJ"))
            case _:
                other = rng.randrange(len(out))
                out[at : at + size] = out[other : other + size]
    return bytes(out)


def blf_log(rng: random.Random) -> bytes:
    """Several small containers, as they are when a recording is long."""
    stream = io.BytesIO()
    writer = can.BLFWriter(stream)
    writer.max_container_size = rng.choice((150, 300, 100_000))
    for number in range(FRAMES):
        extended, fd = rng.random() < 0.5, rng.random() < 0.3
        writer.on_message_received(
            can.Message(
                timestamp=1.7e9 + number / 100,
                arbitration_id=rng.randrange(1 << 29 if extended else 1 << 11),
                is_extended_id=extended,
                is_fd=fd,
                is_remote_frame=not fd and rng.random() < 0.1,
                channel=rng.randrange(3),
                data=rng.randbytes(rng.choice((0, 8, 8, 12, 64) if fd else (0, 3, 8, 8))),
            )
        )
    file = io.BytesIO()
    stream.close = lambda: file.write(stream.getvalue()) and None  # type: ignore[method-assign]
    writer.stop()
    return file.getvalue()


def read(data: bytes) -> tuple[list[Frame], list[str]]:
    told: list[str] = []
    try:
        containers = [frames for _, frames in read_blf(io.BytesIO(data), "log", told.append)]
    except LogFormatError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return [], [str(error)]
    assert not any("\n" in line for line in told)
    if any("cut off" in line for line in told):
        containers = containers[:-1]  # its checksum is cut off too: what is damaged besides cannot be known
    return [frame for frames in containers for frame in frames], told


def is_part(part: list[Frame], whole: list[Frame]) -> bool:
    """Whether `part` is `whole` with some left out; stamps count from the file's header, which has no checksum."""
    rest = iter(whole)
    return all(any(frame[1:] == other[1:] for other in rest) for frame in part)


@pytest.mark.timeout(3600 if SOAK else 120)
def test_damaged_blf_logs() -> None:
    rng = random.Random(4)
    logs = [(data, read(data)[0]) for data in (blf_log(rng) for _ in range(50 if SOAK else 8))]
    assert all(len(frames) == FRAMES for _, frames in logs)
    done = whole = parts = 0
    while done < INPUTS:
        with no_hang():
            for _ in range(BATCH):
                data, expected = rng.choice(logs)
                text = damaged(rng, data)
                frames, told = read(text)
                assert is_part(frames, expected), (text, frames, expected, told)
                assert told or len(frames) == len(expected) or headers_differ(text, data), text
                whole += len(frames) == len(expected)
                parts += 0 < len(frames) < len(expected)
        done += BATCH
    assert parts > INPUTS // 20
    assert whole > INPUTS // 50


def headers_differ(text: bytes, data: bytes) -> bool:
    """Damage to an object's type or to the file's header cannot be told from another kind of object, or another header."""
    if text[:BLF_HEADER] != data[:BLF_HEADER] or len(text) != len(data):
        return True
    starts = [at for at in range(BLF_HEADER, len(data)) if data.startswith(b"LOBJ", at)]
    return any(text[at : at + OBJECT_HEADERS] != data[at : at + OBJECT_HEADERS] for at in starts)


@pytest.mark.timeout(3600 if SOAK else 120)
def test_damaged_gzip_files() -> None:
    rng = random.Random(6)
    text = b"".join(b"(1700000%03d.298000) can0 085#%016X\n" % (number, rng.getrandbits(64)) for number in range(30))
    packed = [
        gzip.compress(text, 6, mtime=0),
        gzip.compress(text[:400], mtime=0) + gzip.compress(text[400:], mtime=0),
        gzip.compress(text, 0),
    ]
    done = same = 0
    while done < INPUTS:
        with no_hang():
            for _ in range(BATCH):
                told: list[str] = []
                unpacker = Unpacker(io.BytesIO(damaged(rng, rng.choice(packed))), told.append)
                parts, size = [], rng.choice((50, 1000, 100_000))
                while part := unpacker.read(size):
                    assert len(part) <= size
                    parts.append(part)
                found = b"".join(parts)
                assert told or found == text or text in (found, found[: len(text)]) or found in (text[:400], text[400:], b""), found
                same += found == text
        done += BATCH
    assert same > INPUTS // 200


@pytest.mark.timeout(3600 if SOAK else 120)
@pytest.mark.parametrize("part", range(MF4_PARTS))
def test_damaged_mf4_logs(tmp_path: Path, part: int, capfd: pytest.CaptureFixture[str]) -> None:
    rng, path = random.Random(part), tmp_path / "log"
    logs = [mf4_log(rng, tmp_path / f"{number}.mf4") for number in range(6)]
    done = frames = 0
    while done < MF4_INPUTS:
        with no_hang():
            for _ in range(20):
                data = rng.choice(logs)
                path.write_bytes(rng.choice(MF4_DAMAGE)(rng, data))
                reader = open_log(path, block_frames=50)
                try:
                    for block in reader:
                        assert len(block) <= 50
                        frames += len(block)
                        if reader.format == "mf4":
                            check(block)
                except LogFormatError as error:
                    assert str(error).startswith(str(path)), error  # noqa: PT017
                    assert "\n" not in str(error)  # noqa: PT017
        done += 20
        assert capfd.readouterr() == ("", "")  # asammdf prints tracebacks
    assert frames > MF4_INPUTS


def unfinished(rng: random.Random, data: bytes) -> bytes:
    """As a recording that was cut off says it: "UnFinMF", and the flags of what its header lacks (ASAM MDF 4.1, identification block)."""
    return b"UnFinMF " + data[8:60] + bytes([rng.randrange(64)]) + data[61:]


def linked_elsewhere(rng: random.Random, data: bytes) -> bytes:
    """A link to a block (a multiple of 8 within the file) leads to where another one leads."""
    links = [
        at for at in range(64, len(data) - 8, 8) if 64 <= (to := int.from_bytes(data[at : at + 8], "little")) < len(data) and to % 8 == 0
    ]
    at, other = rng.choice(links), rng.choice(links)
    return data[:at] + data[other : other + 8] + data[at + 8 :]


MF4_DAMAGE = (damaged,) * 8 + (lambda rng, data: damaged(rng, unfinished(rng, data)), linked_elsewhere)


def mf4_log(rng: random.Random, path: Path) -> bytes:
    n, width = FRAMES, rng.choice((8, 64))
    extended = np.array([rng.random() < 0.5 for _ in range(n)])
    identifier = np.array([rng.randrange(1 << 11) for _ in range(n)], np.uint32)
    length = np.array([rng.randrange(9 if width == 8 else 65) for _ in range(n)], np.uint8)
    data = np.frombuffer(rng.randbytes(n * width), np.uint8).reshape(n, width).copy()
    data[np.arange(width) >= length[:, None]] = 0
    stamps = 1_700_000_000_000_000_000 + np.arange(n) * 10_000_000
    channel = np.array([rng.randrange(2) for _ in range(n)], np.uint8)
    block = FrameBlock(("can0", "can1"), stamps, identifier | np.where(extended, EFF_FLAG, 0).astype(np.uint32), channel, length, data, 0)
    with open_log_writer(path) as writer:
        writer.write(block)
    return path.read_bytes()


def test_mf4_links_in_a_circle_are_one_line(tmp_path: Path) -> None:
    """A data group's link to the next one leads to itself: asammdf would count its channel groups for ever."""
    path = tmp_path / "circle.mf4"
    data = bytearray(mf4_log(random.Random(1), path))
    first = int.from_bytes(data[88:96], "little")
    data[first + 24 : first + 32] = first.to_bytes(8, "little")
    path.write_bytes(data)
    with (
        no_hang(),
        pytest.raises(LogFormatError, match=rf"circle.mf4: damaged MF4 log: the data group at byte {first} leads back to itself"),
    ):
        list(open_log(path))
