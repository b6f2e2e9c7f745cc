"""The decoder against cantools, on every DBC of the test material that cantools loads, and against a bit-by-bit reading."""

from __future__ import annotations

import logging
import math
import struct
from pathlib import Path
from typing import Any

import cantools.database
import numpy as np
import pytest

from dbc.compiler import CompiledDbc, compile_dbc
from dbc.dbc_file import parse_file_argument
from dbc.decoder import Decoder
from dbc.errors import DbcFileError
from dbc.frames import EFF_FLAG, ERR_FLAG, RTR_FLAG, FrameBlock
from dbc.planner import load_database, plan_databases
from dbc.validity import Reason

PAYLOADS = 6  # random payloads a message


@pytest.fixture(autouse=True)
def _quiet_cantools() -> Any:
    logging.disable(logging.WARNING)  # cantools warns of every repeated identifier
    yield
    logging.disable(logging.NOTSET)


def block_of(frames: list[tuple[int, bytes]], width: int = 8, channel: str = "can0") -> FrameBlock:
    data = np.zeros((len(frames), width), np.uint8)
    for number, (_, payload) in enumerate(frames):
        data[number, : len(payload)] = list(payload)
    return FrameBlock(
        channels=(channel,),
        timestamp_ns=np.arange(len(frames), dtype=np.int64) * 1_000_000,
        frame_id=np.array([frame_id for frame_id, _ in frames], np.uint32),
        channel=np.zeros(len(frames), np.uint8),
        length=np.array([len(payload) for _, payload in frames], np.uint8),
        data=data,
        entered_ns=0,
    )


def decoded(compiled: CompiledDbc, block: FrameBlock) -> list[dict[str, float]]:
    """Per frame: physical values by name of all signals that the frame is long enough for, also of patterns that say "not available"."""
    signals = Decoder(compiled, block.channels).decode(block)
    values = compiled.schema.physical(signals.raw, signals.signal)
    valid = signals.reason == Reason.VALID
    np.testing.assert_array_equal(signals.value[valid].view(np.int64), values[valid].view(np.int64))  # to the bit
    assert np.isnan(signals.value[~valid]).all()
    frames: list[dict[str, float]] = [{} for _ in range(len(block))]
    for frame, signal, value, reason in zip(signals.frame, signals.signal, values, signals.reason, strict=True):
        if reason != Reason.SHORT_FRAME:
            frames[frame][compiled.schema.names[signal]] = float(value)
    assert (np.diff(signals.frame) >= 0).all()
    np.testing.assert_array_equal(signals.timestamp_ns, block.timestamp_ns[signals.frame])
    return frames


def put(payload: bytearray, signal: Any, value: int) -> None:
    for bit, (byte, shift) in enumerate(reversed(list(bits_of(signal)))):
        payload[byte] = payload[byte] & ~(1 << shift) | (value >> bit & 1) << shift


def bits_of(signal: Any) -> list[tuple[int, int]]:
    """(byte, bit) of a signal from the most significant bit down, by the format's own rule; knows nothing of words and shifts."""
    if signal.byte_order == "little_endian":
        return [divmod(signal.start + bit, 8) for bit in reversed(range(signal.length))]
    byte, bit = divmod(signal.start, 8)
    places = []
    for _ in range(signal.length):
        places.append((byte, bit))
        byte, bit = (byte, bit - 1) if bit else (byte + 1, 7)
    return places


def read_bits(payload: bytes, signal: Any) -> float | None:
    places = bits_of(signal)
    if any(byte >= len(payload) for byte, _ in places):
        return None
    raw = 0
    for byte, bit in places:
        raw = raw << 1 | payload[byte] >> bit & 1
    if signal.is_float:
        form = {16: "<e", 32: "<f", 64: "<d"}[signal.length]
        return signal.conversion.raw_to_scaled(struct.unpack(form, raw.to_bytes(signal.length // 8, "little"))[0], False)
    if signal.is_signed and raw >> (signal.length - 1):
        raw -= 1 << signal.length
    return signal.conversion.raw_to_scaled(raw, False)


def selections(message: Any, codec: Any = None) -> list[dict[str, int]]:
    """Multiplexer values that lead to every node of the message, a few of each."""
    found: list[dict[str, int]] = [{}]
    for name, children in (codec or message._codecs)["multiplexers"].items():
        for value in sorted(children)[:20]:
            found += [{name: value} | below for below in selections(message, children[value])]
    return found


def sample_payloads(message: Any, random: np.random.Generator) -> list[bytes]:
    payloads = [bytes(message.length), b"\xff" * message.length]
    chosen = selections(message)
    for number in range(max(PAYLOADS, len(chosen))):
        payload = bytearray(random.bytes(message.length))
        for name, value in chosen[number % len(chosen)].items():
            put(payload, message.get_signal_by_name(name), value)
        payloads.append(bytes(payload))
    return payloads


def same(left: float, right: float | None) -> bool:
    left, right = float(left), float(math.nan if right is None else right)
    return left == right or (math.isnan(left) and math.isnan(right))


def well_formed(message: Any) -> bool:
    """Overlapping signals, and signals beyond the message's length, cantools decodes wrongly or not at all."""
    try:
        message.refresh(strict=True)
    except cantools.database.Error:
        return False
    finally:
        message.refresh(strict=False)
    return True


def both_readings(path: Path) -> tuple[CompiledDbc, dict[int, Any]]:
    """The compiled file, and cantools' messages by identifier; repaired where cantools refuses the file."""
    file = parse_file_argument(str(path))
    database, report = load_database(file)
    messages = {message.frame_id | (EFF_FLAG if message.is_extended_frame else 0): message for message in database.messages}
    return plan_databases([(file, database, report)]), messages


def test_every_value_equals_cantools_on_every_dbc_that_it_loads(data_dir: Path) -> None:
    compared = refused = 0
    for file in sorted(data_dir.glob("**/*.dbc")):
        try:
            compiled, messages = both_readings(file)
        except (DbcFileError, cantools.database.UnsupportedDatabaseFormatError):
            refused += 1
            continue
        random = np.random.default_rng(len(str(file.name)))
        frames = [
            (key, payload) for key, message in messages.items() if message.length <= 64 for payload in sample_payloads(message, random)
        ]
        width = 64 if any(len(payload) > 8 for _, payload in frames) else 8
        ok = {key: well_formed(message) for key, message in messages.items()}
        for (key, payload), ours in zip(frames, decoded(compiled, block_of(frames, width)), strict=True):
            message = messages[key]
            theirs: dict[str, Any] | None = None
            if ok[key]:
                try:
                    theirs = message.decode(payload, decode_choices=False)
                except cantools.database.DecodeError:
                    theirs = None  # a multiplexer value that the DBC does not know
            ours = {name.rpartition(".")[2]: value for name, value in ours.items()}
            for name, value in ours.items():
                read = read_bits(payload, message.get_signal_by_name(name))
                assert same(value, read), (file.name, message.name, name, payload.hex())
            if theirs is not None:
                assert ours.keys() == theirs.keys(), (file.name, message.name, payload.hex(), ours.keys() ^ theirs.keys())
                assert all(same(ours[name], float(theirs[name])) for name in ours), (file.name, message.name, payload.hex())
                compared += len(theirs)
    assert compared > 100_000
    assert refused < 20


def test_every_value_of_a_real_drive_equals_cantools(data_dir: Path) -> None:
    from dbc.logs import open_log

    folder = data_dir / "logs" / "mustang_s550"
    file = folder / "ford_lincoln_base_pt.dbc"
    compiled, messages = both_readings(file)
    seen = compared = 0
    for block in open_log(folder / "mustang_s550.log", block_frames=4000):
        for number, ours in enumerate(decoded(compiled, block)):
            message = messages.get(int(block.frame_id[number]))
            if message is None:
                assert not ours
                continue
            seen += 1
            payload = block.data[number, : block.length[number]].tobytes()
            theirs = message.decode(payload, decode_choices=False, allow_truncated=True)
            assert {f"{message.name}.{name}": float(value) for name, value in theirs.items()} == ours
            compared += len(ours)
    assert seen > 84_000
    assert compared > 500_000


def test_fd_blocks_decode_classic_messages_as_classic_blocks_do(data_dir: Path) -> None:
    compiled = compile_dbc([str(data_dir / "logs" / "kuksa" / "Model3CAN.dbc")])
    random = np.random.default_rng(5)
    keys = compiled.plan.message_key[random.integers(0, len(compiled.plan.message_key), 600)]
    frames = [(int(key), random.bytes(8)) for key in keys]
    assert decoded(compiled, block_of(frames, 8)) == decoded(compiled, block_of([*frames, (0x7FF, bytes(64))], 64))[:-1]


def bits_dbc(tmp_path: Path, signal_lines: str, length: int = 8, more: str = "") -> CompiledDbc:
    file = tmp_path / "made.dbc"
    file.write_text(f'VERSION ""\n\nBU_: ECU\n\nBO_ 256 Made: {length} ECU\n{signal_lines}\n{more}')
    return compile_dbc([str(file)])


def test_64_bit_unsigned_values_are_exact(tmp_path: Path) -> None:
    compiled = bits_dbc(tmp_path, ' SG_ Big : 0|64@1+ (1,0) [0|0] "" ECU')
    block = block_of([(256, b"\xff" * 8), (256, b"\x01" + bytes(6) + b"\x80")])
    signals = Decoder(compiled, ("can0",)).decode(block)
    assert signals.raw.view(np.uint64).tolist() == [2**64 - 1, 2**63 + 1]
    assert compiled.schema.physical(signals.raw, signals.signal).tolist() == [float(2**64 - 1), float(2**63 + 1)]


def test_wide_integers_are_scaled_as_whole_numbers(tmp_path: Path) -> None:
    compiled = bits_dbc(tmp_path, ' SG_ Wide : 0|60@1- (3,-7) [0|0] "" ECU')
    raw = np.array([[2**53 + 1], [-(2**55) - 3], [5]], np.int64)
    assert compiled.schema.physical(raw)[:, 0].tolist() == [float(value * 3 - 7) for value in (2**53 + 1, -(2**55) - 3, 5)]


def test_a_short_frame_gives_the_signals_that_are_whole_and_names_the_others(tmp_path: Path) -> None:
    compiled = bits_dbc(tmp_path, ' SG_ Whole : 0|16@1+ (1,0) [0|0] "" ECU\n SG_ Cut : 16|16@1+ (1,0) [0|0] "" ECU')
    signals = Decoder(compiled, ("can0",)).decode(block_of([(256, b"\x01\x02\xff"), (256, bytes(8))]))
    assert signals.reason.tolist() == [Reason.VALID, Reason.SHORT_FRAME, Reason.VALID, Reason.VALID]
    assert signals.raw.tolist() == [0x0201, 0, 0, 0]


def test_remote_error_and_unknown_frames_give_nothing(tmp_path: Path) -> None:
    compiled = bits_dbc(tmp_path, ' SG_ One : 0|8@1+ (1,0) [0|0] "" ECU')
    frames = [(256 | RTR_FLAG, bytes(8)), (256 | ERR_FLAG, bytes(8)), (256 | EFF_FLAG, bytes(8)), (257, bytes(8)), (0x1FFF_FFFF, bytes(8))]
    assert len(Decoder(compiled, ("can0",)).decode(block_of(frames))) == 0
    assert len(Decoder(compiled, ("can0",)).decode(block_of([(256, bytes(8))], channel="can7"))) == 0
    assert len(Decoder(compiled, ("can0",)).decode(block_of([]))) == 0


def test_the_same_message_on_two_channels_is_two_signals(tmp_path: Path) -> None:
    bits_dbc(tmp_path, ' SG_ One : 0|8@1+ (1,0) [0|0] "" ECU')
    compiled = compile_dbc([f"{tmp_path}/made.dbc@left", f"{tmp_path}/made.dbc@right"])
    assert compiled.schema.names == ("left:Made.One", "right:Made.One")
    assert decoded(compiled, block_of([(256, b"\x07")], channel="right")) == [{"right:Made.One": 7.0}]


def test_random_layouts_equal_the_bit_by_bit_reading(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    for length, width in ((8, 8), (64, 64)):
        lines, bits = [], 8 * length
        for number in range(300):
            size = int(random.integers(1, 65))
            big = bool(random.integers(2))
            first = int(random.integers(0, bits - size + 1))
            start = 8 * (first // 8) + 7 - first % 8 if big else first
            sign = "-" if random.integers(2) else "+"
            lines.append(f' SG_ S{number} : {start}|{size}@{int(not big)}{sign} (1,0) [0|0] "" ECU')
        compiled = bits_dbc(tmp_path, "\n".join(lines), length)
        message = cantools.database.load_file(tmp_path / "made.dbc", strict=False).messages[0]
        payloads = [random.bytes(length) for _ in range(8)]
        for payload, ours in zip(payloads, decoded(compiled, block_of([(256, p) for p in payloads], width)), strict=True):
            for signal in message.signals:
                assert ours[f"Made.{signal.name}"] == float(read_bits(payload, signal) or 0)


def test_half_floats_are_widened(tmp_path: Path) -> None:
    compiled = bits_dbc(tmp_path, ' SG_ Half : 0|16@1- (2,1) [0|0] "" ECU', more="SIG_VALTYPE_ 256 Half : 1;\n")
    assert decoded(compiled, block_of([(256, struct.pack("<e", 1.5))])) == [{"Made.Half": 4.0}]


def present(message: Any, payload: bytes, codec: Any = None) -> set[str]:
    """Names of the signals that a payload of any length has, followed down the multiplexers one by one."""
    codec = codec or message._codecs
    found = {signal.name for signal in codec["signals"] if read_bits(payload, signal) is not None}
    for name, children in codec["multiplexers"].items():
        signal = message.get_signal_by_name(name)
        if name in found:
            raw = 0
            for byte, bit in bits_of(signal):
                raw = raw << 1 | payload[byte] >> bit & 1
            if raw in children:
                found |= present(message, payload, children[raw])
    return found


def test_frames_of_every_length_give_what_is_there_and_name_what_is_cut_off(data_dir: Path) -> None:
    random = np.random.default_rng(11)
    compared = cut = 0
    for file in sorted(data_dir.glob("dbc/**/*.dbc")):
        try:
            compiled, messages = both_readings(file)
        except DbcFileError:
            continue
        usual = {key: m for key, m in messages.items() if m.length <= 64 and all(1 <= s.length <= 64 for s in m.signals)}
        usual = {key: m for key, m in usual.items() if len({s.name for s in m.signals}) == len(m.signals)}
        frames = []
        for key, message in usual.items():
            for payload in sample_payloads(message, random)[-3:]:
                longest = 8 if message.length <= 8 else 64
                length = int(random.integers(0, longest + 1))
                frames.append((key, (payload + random.bytes(64))[:length]))
        names = {key: {s.name for s in m.signals} for key, m in usual.items()}
        width = 64 if any(len(payload) > 8 for _, payload in frames) else 8
        block = block_of(frames, width)
        signals = Decoder(compiled, block.channels).decode(block)
        ours: list[tuple[set[str], set[str]]] = [(set(), set()) for _ in frames]
        for frame, signal, reason in zip(signals.frame, signals.signal, signals.reason, strict=True):
            name = compiled.schema.names[signal].rpartition(".")[2]
            ours[frame][int(reason == Reason.SHORT_FRAME)].add(name)
        for (key, payload), (there, short) in zip(frames, ours, strict=True):
            if not all(name in names[key] for name in there | short):
                continue  # two messages of one name, or two signals of one
            assert there == present(usual[key], payload), (file.name, usual[key].name, payload.hex())
            compared += len(there)
            cut += len(short)
    assert compared > 10_000
    assert cut > 5_000


def test_large_multiplexer_values_are_found(tmp_path: Path) -> None:
    lines = ' SG_ Which M : 0|16@1+ (1,0) [0|0] "" ECU\n' + "\n".join(
        f' SG_ Of{value} m{value} : 16|8@1+ (1,0) [0|0] "" ECU' for value in (0, 3, 4660, 65535)
    )
    compiled = bits_dbc(tmp_path, lines)
    payloads = [struct.pack("<HB", value, 7) + bytes(5) for value in (0, 1, 3, 4660, 4661, 65535)]
    names = [sorted(frame) for frame in decoded(compiled, block_of([(256, payload) for payload in payloads]))]
    assert names == [
        ["Made.Of0", "Made.Which"],
        ["Made.Which"],
        ["Made.Of3", "Made.Which"],
        ["Made.Of4660", "Made.Which"],
        ["Made.Which"],
        ["Made.Of65535", "Made.Which"],
    ]


def test_payloads_of_any_width_are_decoded(tmp_path: Path) -> None:
    """Reassembled ones are longer than a frame, and their lengths do not fit a byte."""
    compiled = bits_dbc(
        tmp_path,
        ' SG_ First : 0|8@1+ (1,0) [0|0] "" ECU\n SG_ Little : 2396|32@1+ (1,0) [0|0] "" ECU\n SG_ Big : 2493|40@0- (1,0) [0|0] "" ECU',
        length=330,
    )
    random = np.random.default_rng(2)
    message = cantools.database.load_file(tmp_path / "made.dbc", strict=False).messages[0]
    for width in (330, 331, 1785):
        payload = random.bytes(330)
        data = np.zeros((2, width), np.uint8)
        data[0, :330] = list(payload)
        data[1, :300] = list(payload[:300])
        block = FrameBlock(
            ("can0",), np.zeros(2, np.int64), np.full(2, 256, np.uint32), np.zeros(2, np.uint8), np.array([330, 300], np.uint16), data, 0
        )
        whole, short = decoded(compiled, block)
        assert whole == {f"Made.{signal.name}": read_bits(payload, signal) for signal in message.signals}
        assert short == {"Made.First": float(payload[0])}


def test_extended_identifiers_are_told_apart_by_all_their_bits(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    keys = sorted({int(key) for key in random.integers(0, 2**29, 500)})
    file = tmp_path / "many.dbc"
    messages = "".join(f'BO_ {key | EFF_FLAG} M{key}: 8 ECU\n SG_ One : 0|8@1+ (1,0) [0|0] "" ECU\n\n' for key in keys)
    file.write_text(f'VERSION ""\n\nBU_: ECU\n\n{messages}')
    compiled = compile_dbc([str(file)])
    frames = [(key | EFF_FLAG, bytes([key & 255] * 8)) for key in keys] + [(key ^ 1 << 28 | EFF_FLAG, bytes(8)) for key in keys]
    ours = decoded(compiled, block_of(frames))
    assert ours[: len(keys)] == [{f"M{key}.One": float(key & 255)} for key in keys]
    assert not any(ours[len(keys) :])
