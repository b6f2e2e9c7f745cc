"""Alive counters and checksums: the catalogue's check values, the tables against the byte-by-byte reading, and counters over time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dbc import frame_checks
from dbc.catalogue import Catalogue
from dbc.compiler import CompiledDbc, compile_dbc
from dbc.decoder import Decoder
from dbc.errors import CatalogueError, DbcError
from dbc.frames import FrameBlock
from dbc.integrity import PROFILES, Protection, checksum, with_checks
from dbc.payload import Payload
from dbc.validity import Reason

DATA_ID = {"E2E_P02": bytes(range(100, 116))}


def made(tmp_path: Path, profile: str, *, length: int = 8, start: int = 0, bits: int = 8, counter: int = 20) -> CompiledDbc:
    data_id = DATA_ID.get(profile, b"").hex() or "0x1234"
    file = tmp_path / "made.dbc"
    file.write_text(
        f'VERSION ""\n\nBU_: ECU\n\nBO_ 291 Made: {length} ECU\n SG_ Sum : {start}|{bits}@1+ (1,0) [0|0] "" ECU\n'
        f' SG_ Alive : {counter}|4@1+ (1,0) [0|0] "" ECU\n SG_ Value : 32|16@1+ (1,0) [0|0] "" ECU\n\n'
        'BA_DEF_ SG_ "SignalRole" ENUM "Value","Counter","Checksum";\nBA_DEF_ BO_ "ChecksumProfile" STRING ;\n'
        'BA_DEF_ BO_ "ChecksumDataId" STRING ;\nBA_ "SignalRole" SG_ 291 Sum 2;\nBA_ "SignalRole" SG_ 291 Alive 1;\n'
        f'BA_ "ChecksumProfile" BO_ 291 "{profile}";\nBA_ "ChecksumDataId" BO_ 291 "{data_id}";\n'
    )
    compiled = compile_dbc([str(file)])
    assert compiled.notes == ()
    return compiled


def block_of(payloads: list[bytes]) -> FrameBlock:
    n, width = len(payloads), max(8, max(map(len, payloads)))
    data = np.array([list(payload.ljust(width, b"\0")) for payload in payloads], np.uint8)
    length = np.array([len(payload) for payload in payloads], np.uint8)
    return FrameBlock(("can0",), np.arange(n) * 10_000_000, np.full(n, 291, np.uint32), np.zeros(n, np.uint8), length, data, 0)


def reasons(decoder: Decoder, payloads: list[bytes]) -> list[int]:
    signals = decoder.decode(block_of(payloads))
    found = {int(frame): int(reason) for frame, reason in zip(signals.frame, signals.reason, strict=True)}
    return [found[frame] for frame in range(len(payloads))]


@pytest.mark.parametrize(("profile", "value"), [("CRC8_J1850", 0x4B), ("CRC8_H2F", 0xDF), ("CRC16_CCITT", 0x29B1), ("XOR", 0x31)])
def test_the_check_values_of_the_standard(profile: str, value: int) -> None:
    """Of "123456789": AUTOSAR SWS CRC Library, 7.2."""
    assert checksum(profile, 0, b"123456789", (), b"", 0) == value


# A profile over the whole frame is of classic frames, 8 bytes at most.
@pytest.mark.parametrize(
    ("profile", "length"), [(name, n) for name, one in PROFILES.items() for n in ((8,) if one.whole_frame else (8, 24))]
)
def test_a_right_checksum_is_valid_and_a_flipped_bit_is_not(tmp_path: Path, profile: str, length: int) -> None:
    bits = PROFILES[profile].bits
    decoder = Decoder(made(tmp_path, profile, length=length, start=0, bits=bits), ("can0",))
    random = np.random.default_rng(length)
    data_id = DATA_ID.get(profile, (0x1234).to_bytes(4, "little"))
    modulus = PROFILES[profile].modulus or 16
    good, bad = [], []
    for number in range(64):
        payload = bytearray(random.bytes(length))
        payload[2] = payload[2] & 0x0F | number % modulus << 4
        place = tuple(range(bits // 8))
        payload[: bits // 8] = checksum(profile, 291, bytes(payload), place, data_id, number % modulus).to_bytes(bits // 8, "little")
        good.append(bytes(payload))
        byte = int(random.choice([at for at in range(length) if at != 2]))
        payload[byte] ^= 1 << int(random.integers(8))
        bad.append(bytes(payload))
    assert reasons(decoder, good) == [Reason.VALID] * 64
    assert reasons(Decoder(made(tmp_path, profile, length=length, bits=bits)), bad) == [Reason.CHECKSUM] * 64


def alive(*counters: int) -> list[bytes]:
    return [bytes([0, 0, counter << 4, 0, 1, 0, 0, 0]) for counter in counters]


def test_a_counter_that_stands_still_or_jumps_is_told_also_across_blocks(tmp_path: Path) -> None:
    compiled = made(tmp_path, "")
    decoder = Decoder(compiled, ("can0",))
    ok, bad = int(Reason.VALID), int(Reason.COUNTER)
    assert reasons(decoder, alive(5, 6, 7, 7, 8, 10, 13, 0, 4)) == [ok, ok, ok, bad, ok, ok, ok, ok, bad]
    assert reasons(decoder, alive(5, 5)) == [ok, bad]
    assert reasons(decoder, alive(5)) == [bad]
    signals = decoder.decode(block_of(alive(5, 6)))
    assert np.isnan(signals.value[:3]).all()
    assert not np.isnan(signals.value[3:]).any()


def test_a_short_frame_is_short_and_nothing_else(tmp_path: Path) -> None:
    decoder = Decoder(made(tmp_path, "CRC8_J1850"), ("can0",))
    signals = decoder.decode(block_of([bytes(3), bytes(8)]))
    assert set(signals.reason[signals.frame == 0]) == {Reason.VALID, Reason.SHORT_FRAME}


def test_an_unknown_profile_is_noted_and_not_checked(tmp_path: Path) -> None:
    file = tmp_path / "odd.dbc"
    made(tmp_path, "XOR")
    file.write_text((tmp_path / "made.dbc").read_text().replace('"XOR"', '"CRC99"'))
    compiled = compile_dbc([str(file)])
    assert "CRC99" in compiled.notes[0]
    assert reasons(Decoder(compiled), alive(1, 1)) == [Reason.VALID] * 2


def test_a_catalogue_may_declare_what_the_dbc_does_not(tmp_path: Path) -> None:
    file = tmp_path / "plain.dbc"
    made(tmp_path, "XOR")
    file.write_text("\n".join(line for line in (tmp_path / "made.dbc").read_text().splitlines() if not line.startswith("BA_")))
    compiled = compile_dbc([str(file)])
    assert reasons(Decoder(compiled), alive(1, 1)) == [Reason.VALID] * 2
    catalogue = tmp_path / "catalogue.toml"
    head = 'vehicle = "car"\n[subsystems]\n[purposes]\n[signals]\n[faults]\n'
    catalogue.write_text(head + '[checks.Made]\ncounter = "Alive"\nchecksum = "Sum"\nprofile = "E2E_P01"\ndata_id = "0x1234"\n')
    checked = with_checks(compiled, Catalogue.load(catalogue).checks)
    assert checked.schema == compiled.schema
    payload = alive(3)[0]
    right = checksum("E2E_P01", 291, payload, (0,), (0x1234).to_bytes(4, "little"), 3)
    assert reasons(Decoder(checked), [bytes([right]) + payload[1:], payload]) == [Reason.VALID, Reason.CHECKSUM]
    for wrong in ('profile = "NONE"', 'checksum = "Sum"', "counter = 1", 'other = "x"'):
        catalogue.write_text(f"{head}[checks.Made]\n{wrong}\n")
        with pytest.raises(CatalogueError, match=r"checks\.Made"):
            Catalogue.load(catalogue)
    for message, signal in (("Other", "Alive"), ("Made", "Nothing")):
        with pytest.raises(DbcError, match=message):
            with_checks(compiled, {message: Protection(signal, None, None)})


def test_counters_of_one_byte_are_judged_as_any_others() -> None:
    """The quick way against the general one, over blocks that begin and end anywhere in a message's frames."""
    random = np.random.default_rng(7)
    messages, bits = 9, 4
    byte, bit = random.integers(0, 8, messages), random.integers(0, 5, messages)
    quick = frame_checks._ByteCounters(byte, bit, bits)
    nothing = np.zeros(0, np.intp)
    counted = np.zeros(messages, np.int64)
    last: dict[int, int] = {}
    for _ in range(200):
        number = random.integers(0, messages, random.integers(1, 40))
        data = random.integers(0, 256, (len(number), 8)).astype(np.uint8)
        expected = []
        for row, one in enumerate(number.tolist()):
            counted[one] += random.choice([0, 1, 1, 1, 1, 2, 3, 4, 9])
            value = int(counted[one]) % 16
            mask = 0xF << int(bit[one]) & 0xFF
            data[row, byte[one]] = int(data[row, byte[one]]) & ~mask & 0xFF | value << int(bit[one])
            if one in last and (value - last[one] - 1) % 16 >= frame_checks.MOST_JUMP:
                expected.append(row)
            last[one] = value
        late = quick.late(Payload(data, np.full(len(data), 8)), nothing, number, data)
        assert sorted([] if late is None else late.tolist()) == expected
