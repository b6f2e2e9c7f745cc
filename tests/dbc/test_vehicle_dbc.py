"""The DBC files of the cansight_ev, and the encoder that fills them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cantools
import numpy as np
import pytest

from dbc.compiler import compile_dbc
from dbc.encoder import message_encoders, pack_message
from dbc.errors import SignalUnknown
from dbc.vehicles import BUSES, DBC_FILES, FOLDER


@pytest.fixture(scope="module")
def databases() -> dict[str, Any]:
    return {channel: cantools.database.load_file(FOLDER / name, strict=True) for channel, name in BUSES.items()}


def test_three_buses_of_at_least_250_signals_with_periods_comments_and_ranges(databases: dict[str, Any]) -> None:
    signals = [(m, s) for database in databases.values() for m in database.messages for s in m.signals]
    assert len(signals) >= 250
    assert len({f"{m.name}.{s.name}" for m, s in signals}) == len(signals)
    for message, signal in signals:
        if message.send_type == "Event":
            assert not message.cycle_time, message.name
        else:
            assert 10 <= message.cycle_time <= 1000, message.name
            assert 1000 % message.cycle_time == 0, message.name
        assert message.comment, message.name
        assert signal.comment, signal.name
        assert signal.minimum is not None, signal.name
        assert signal.minimum < signal.maximum, signal.name
        assert not message.is_extended_frame
    assert sum(1 for database in databases.values() for m in database.messages if m.is_multiplexed()) == 5
    assert sum(1 for database in databases.values() for m in database.messages if m.send_type == "Event") == 3
    assert sum(1 for _, s in signals if s.choices) > 40


def test_the_third_bus_is_can_fd_with_bit_rate_switch(databases: dict[str, Any]) -> None:
    for channel, database in databases.items():
        for message in database.messages:
            assert message.is_fd == (channel == "can2"), message.name
            # A log does not say of a frame of up to 8 bytes that it was FD: those here are longer.
            assert message.length in ((12, 16, 20, 24, 32, 48, 64) if message.is_fd else range(1, 9)), message.name
    attributes = databases["can2"].dbc.attributes
    assert (attributes["Baudrate"].value, attributes["BaudrateCANFD"].value) == (500_000, 2_000_000)
    assert all(message.dbc.attributes["CANFD_BRS"].value == 1 for message in databases["can2"].messages)


def test_our_files_compile_without_a_note() -> None:
    compiled = compile_dbc(DBC_FILES)
    assert compiled.notes == ()
    assert compiled.schema.channels == ("can0", "can1", "can2")
    assert not any(":" in name for name in compiled.schema.names)


def test_encoded_messages_decode_with_cantools_to_the_same_raw_values(databases: dict[str, Any]) -> None:
    rng = np.random.default_rng(5)
    for encoder in message_encoders(compile_dbc(DBC_FILES)):
        message = databases[encoder.channel].get_message_by_frame_id(encoder.frame_id)
        raw = np.zeros((40, len(encoder.signals)), np.int64)
        for column, name in enumerate(encoder.signals):
            signal = message.get_signal_by_name(name.partition(".")[2])
            if signal.is_multiplexer:
                raw[:, column] = np.arange(40) % (int(signal.maximum) + 1)
            else:
                low, high = (-(2 ** (signal.length - 1)), 2 ** (signal.length - 1)) if signal.is_signed else (0, 2**signal.length)
                raw[:, column] = rng.integers(low, high, 40)
        for row, payload in zip(raw, encoder.pack(raw), strict=True):
            decoded = message.decode(payload.tobytes(), scaling=False, decode_choices=False)
            assert decoded == {name: row[encoder.signals.index(f"{message.name}.{name}")] for name in decoded}


LONG = """VERSION ""
BU_: A
BO_ 2147483705 Long: 64 A
 SG_ Selector M : 0|8@1+ (1,0) [0|0] "" A
 SG_ Little m0 : 10|37@1- (1,0) [0|0] "" A
 SG_ Big m1 : 100|33@0+ (1,0) [0|0] "" A
 SG_ Always : 301|20@0- (1,0) [0|0] "" A
 SG_ Wide : 448|64@1+ (1,0) [0|0] "" A
"""


def test_long_messages_and_both_byte_orders_encode(tmp_path: Path) -> None:
    path = tmp_path / "long.dbc"
    path.write_text(LONG)
    compiled = compile_dbc([str(path)])
    wide = np.array([2**64 - 3, 5], np.uint64)
    raw = {"Selector": [0, 1], "Little": [-(2**36), 7], "Big": [9, 2**33 - 2], "Always": [-5, 2**19 - 1], "Wide": wide.view(np.int64)}
    payload = pack_message(compiled, "Long", {name: np.asarray(value, np.int64) for name, value in raw.items()})
    assert payload.shape == (2, 64)
    message = cantools.database.load_file(path).get_message_by_name("Long")
    first, second = (message.decode(row.tobytes(), scaling=False) for row in payload)
    assert first == {"Selector": 0, "Little": -(2**36), "Always": -5, "Wide": 2**64 - 3}
    assert second == {"Selector": 1, "Big": 2**33 - 2, "Always": 2**19 - 1, "Wide": 5}


def test_unknown_messages_and_signals_are_named() -> None:
    compiled = compile_dbc(DBC_FILES)
    with pytest.raises(SignalUnknown, match="Nope"):
        pack_message(compiled, "Nope", {})
    with pytest.raises(SignalUnknown, match=r"BMS_Pack\.Nope"):
        pack_message(compiled, "BMS_Pack", {"Nope": np.zeros(1, np.int64)})
