"""What a bus says besides its signals: the sampler's figures of messages that are late, too many, wrong or without a value."""

import numpy as np
import pytest

from dbc.compiler import compile_dbc
from dbc.decoder import Decoder
from dbc.frames import FrameBlock
from dbc.network import network_names, network_periods, network_units
from dbc.sampler import Sampler, Snapshot

TICK = 1_000_000_000
DBC = """VERSION ""
NS_ :
BS_:
BU_: ECU
BO_ 256 Motor: 8 ECU
 SG_ Speed : 0|16@1+ (1,0) [0|60000] "rpm" ECU
 SG_ AliveCounter : 16|4@1+ (1,0) [0|15] "" ECU
BO_ 512 Tyre: 8 ECU
 SG_ Pressure : 0|8@1+ (1,0) [0|250] "kPa" ECU
BO_ 768 Door: 8 ECU
 SG_ Open : 0|1@1+ (1,0) [0|1] "" ECU
BA_DEF_ BO_ "GenMsgCycleTime" INT 0 65535;
BA_DEF_ SG_ "SignalRole" STRING ;
BA_DEF_DEF_ "GenMsgCycleTime" 0;
BA_DEF_DEF_ "SignalRole" "";
BA_ "GenMsgCycleTime" BO_ 256 100;
BA_ "GenMsgCycleTime" BO_ 512 1000;
BA_ "SignalRole" SG_ 256 AliveCounter "COUNTER";
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("dbc") / "network.dbc"
    path.write_text(DBC)
    return compile_dbc([f"{path}@can0"])


def frames(times_ms, frame_id, payloads) -> list[tuple[int, int, bytes]]:
    return [(int(at * 1_000_000), frame_id, bytes(payload)) for at, payload in zip(times_ms, payloads, strict=True)]


def motor(times_ms, first: int = 0, counts: bool = True) -> list[tuple[int, int, bytes]]:
    return frames(times_ms, 256, [[0, 1, (first + at if counts else first) % 16, 0, 0, 0, 0, 0] for at in range(len(times_ms))])


def tyre(times_ms, value: int = 200) -> list[tuple[int, int, bytes]]:
    return frames(times_ms, 512, [[value, 0, 0, 0, 0, 0, 0, 0]] * len(times_ms))


def ticks(compiled, said, size: int = 10_000) -> list[dict[str, float]]:
    """The figures that are not 0, of each tick. size: frames of a block."""
    names = network_names(compiled.schema)
    found = snapshots(compiled, said, size)
    return [{name: value for name, value in zip(names, one.network.tolist(), strict=True) if value} for one in found]


def snapshots(compiled, said, size: int = 10_000) -> list[Snapshot]:
    said = sorted(said)
    sampler, decoder = Sampler(compiled.schema), Decoder(compiled, compiled.schema.channels)
    found: list[Snapshot] = []
    for first in range(0, len(said), size):
        part = said[first : first + size]
        data = np.frombuffer(b"".join(payload for _, _, payload in part), np.uint8).reshape(-1, 8)
        stamps, ids = np.array([at for at, _, _ in part], np.int64), np.array([number for _, number, _ in part], np.uint32)
        block = FrameBlock(("can0",), stamps, ids, np.zeros(len(part), np.uint8), np.full(len(part), 8, np.uint8), data, 0)
        found += sampler.feed(block, decoder.decode(block))
    return found + sampler.finish()


def test_a_healthy_bus_says_nothing_and_neither_does_one_that_falls_asleep_and_wakes(compiled):
    awake = np.arange(0, 5300, 100)  # ends in the middle of a tick
    again = np.arange(60_000, 64_000, 100)
    said = [*motor(awake), *motor(again, len(awake)), *tyre([500, 1500, 2500, 3500, 4500, 60_700, 61_700, 62_700, 63_700])]
    assert all(one == {} for one in ticks(compiled, said))


def test_a_message_that_falls_silent_is_overdue_by_the_newest_frame_of_its_bus(compiled):
    said = [*motor(np.arange(0, 6000, 100)), *tyre([500, 1500])]
    overdue = [one.get("Tyre.#silence", 0.0) for one in ticks(compiled, said)]
    assert overdue[:2] == [0.0, 0.0]
    assert overdue[2:] == pytest.approx([0.4, 1.4, 2.4, 3.4])  # 2.9 s - 1.5 s is 1.4 periods, one of which is its due


def test_a_detector_does_not_know_what_a_message_that_stays_away_said_last(compiled):
    speed, pressure = (compiled.schema.names.index(name) for name in ("Motor.Speed", "Tyre.Pressure"))
    awake = [*np.arange(0, 5000, 100), *np.arange(9000, 12_000, 100), *np.arange(16_000, 17_000, 100)]
    found = snapshots(compiled, [*motor(awake), *tyre(np.arange(500, 26_000, 1000))])
    known = ["".join(".x"[int(np.isfinite(one.inputs(np.array([at]))[0]))] for one in found) for at in (speed, pressure)]
    # Three seconds are a pause. The second pause of four seconds is what this message does; twice as long is not.
    assert known == ["xxxxxxxx.xxxxxxxxxxxxxxx..", "x" * 26]
    assert np.isfinite([one.value[speed] for one in found]).all()  # good to show


def test_frames_too_many_are_the_same_again_or_counted_on(compiled):
    real = [*motor(np.arange(0, 4000, 100)), *tyre([500, 1500, 2500, 3500])]
    again = motor(np.arange(1000, 2000, 10) + 3, first=9, counts=False)
    assert ticks(compiled, real + again)[1] == {"Motor.#repeated": 100.0}
    forged = motor(np.arange(1000, 2000, 10) + 3, first=10)
    assert ticks(compiled, real + forged)[1] == {"Motor.#excess": 100.0}


def test_a_counter_that_stands_still_a_sender_without_a_value_and_an_unknown_frame(compiled):
    real = motor(np.arange(0, 1000, 100))
    still = motor(np.arange(1000, 2000, 100), first=9, counts=False)
    silent = tyre([1500], 255)
    strange = frames([1200, 1300], 1, [[0] * 8] * 2)
    found = ticks(compiled, [*real, *still, *tyre([500]), *silent, *strange, *motor([2000, 2100], 10)])
    assert found[1] == {"Motor.#counter": 10.0, "Tyre.#absent": 1.0, "can0.#unknown": 2.0}


def test_figures_do_not_depend_on_how_frames_are_cut_into_blocks(compiled):
    said = [*motor(np.arange(0, 5000, 100)), *tyre([500, 1500]), *frames([900, 1100, 3300], 1, [[0] * 8] * 3)]
    assert ticks(compiled, said) == ticks(compiled, said, size=7)


def test_names_units_and_periods_go_together(compiled):
    names, units, periods = network_names(compiled.schema), network_units(compiled.schema), network_periods(compiled.schema)
    assert len(names) == len(units) == len(periods) == 3 * 6 + 1
    assert (names[0], units[0], periods[0]) == ("Motor.#silence", "", 100.0)
    assert (names[-1], units[-1], np.isnan(periods[-1])) == ("can0.#unknown", "1/s", True)
