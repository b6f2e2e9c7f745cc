"""Faults in recorded logs of real cars: what changes is what the truth says, and nothing else."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dbc.compiler import load_compiled
from dbc.decoder import Decoder
from dbc.frames import CANFD_BRS, CANFD_FDF, FrameBlock
from dbc.logs import open_log, write_candump
from dbc.plan import CompiledDbc
from simulator.checks import RuleSearch
from simulator.injection import SHORT_NAMES
from simulator.network_faults import Added, insert, keep
from simulator.target import signal_target

MUSTANG = ("logs/mustang_s550/mustang_s550.log", "logs/mustang_s550/ford_lincoln_base_pt.dbc")
HEATING = ("logs/kona_ev/250105-1-2020-comp-can-heating.csv", "dbc/kona-ev/comp_can.dbc")
BEGIN = {MUSTANG: "20s", HEATING: "34s"}  # the Kona's log begins in its middle: its first third stands last
SPEED = "EngVehicleSpThrottle2.Veh_V_ActlEng"
VALUE_KINDS = ("stuck", "drift", "noise", "offset", "dropout", "plateau", "continuous_drift", "playback")


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command in this process: its imports cost more than its work."""
    from cansight.main import main

    out, complaint = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(complaint):
        try:
            main(["sim", "inject", *map(str, arguments)])
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    return subprocess.CompletedProcess([], code, out.getvalue(), complaint.getvalue())


class Made:
    """A log with a fault, made by the command, beside the log that it was made of."""

    def __init__(self, data_dir: Path, folder: Path, of: tuple[str, str], *arguments: str, suffix: str = ".log") -> None:
        self.log, self.dbc = data_dir / of[0], data_dir / of[1]
        self.output, truth = folder / f"made{suffix}", folder / "truth.json"
        done = command(self.log, "--dbc", self.dbc, "--from", BEGIN[of], "--for", "10s", *arguments, "-o", self.output, "--truth", truth)
        assert done.returncode == 0, done.stderr
        self.said = done.stdout
        self.truth: dict[str, Any] = json.loads(truth.read_text())

    def rows(self) -> list[list[Any]]:
        touched: list[list[Any]] = self.truth["touched"]
        return touched


Make = Callable[..., Made]


@pytest.fixture(scope="module")
def make(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A log with a fault, by the command's arguments; made once."""

    @functools.cache
    def made(of: tuple[str, str], *arguments: str, suffix: str = ".log") -> Made:
        return Made(data_dir, tmp_path_factory.mktemp("made"), of, *arguments, suffix=suffix)

    return made


@functools.cache
def compiled_for(dbc: Path) -> CompiledDbc:
    return load_compiled([f"{dbc}@can0"], None)


def whole(log: Path) -> FrameBlock:
    blocks = list(open_log(log))
    parts = [np.concatenate([getattr(block, name) for block in blocks]) for name in ("timestamp_ns", "frame_id", "channel", "length")]
    return FrameBlock(blocks[-1].channels, *parts, np.concatenate([block.data for block in blocks]), 0)


original = functools.cache(whole)  # of a log that is only read


def decoded(block: FrameBlock, dbc: Path, name: str) -> tuple[Sequence[int], Sequence[float]]:
    """Stamps and values of one signal."""
    compiled = compiled_for(dbc)
    signals = Decoder(compiled).decode(block)
    mine = signals.signal == compiled.schema.index(name)
    return signals.timestamp_ns[mine].tolist(), signals.value[mine].tolist()


def same(one: float | None, two: float) -> bool:
    return np.isnan(two) if one is None else one == two


@pytest.mark.parametrize("kind", VALUE_KINDS)
@pytest.mark.parametrize(("of", "signal"), [(MUSTANG, SPEED), (HEATING, "HeaterStatus.HeaterPower")], ids=["mustang", "kona"])
def test_the_decoded_values_are_those_of_the_truth_and_everything_else_is_as_it_was(
    make: Make, of: tuple[str, str], signal: str, kind: str
) -> None:
    made = make(of, "--fault", kind, "--signal", signal)
    before, after = original(made.log), whole(made.output)
    touched = {row[0]: row for row in made.rows()}
    assert touched
    for name in ("timestamp_ns", "frame_id", "length"):
        assert (getattr(before, name) == getattr(after, name)).all()
    different = np.flatnonzero((before.data != after.data).any(axis=1))
    assert len(different) == made.truth["frames"]["changed"] > 100
    assert set(before.frame_id[different].tolist()) == {int(made.truth["messages"][0]["frame_id"], 16)}
    assert set(before.timestamp_ns[different].tolist()) <= set(touched)
    # Read back through the decoder.
    stamps, was = decoded(before, made.dbc, signal)
    _, now = decoded(after, made.dbc, signal)
    for stamp, old, new in zip(stamps, was, now, strict=True):
        if stamp in touched:
            assert made.truth["from_ns"] <= stamp < made.truth["to_ns"]
            assert same(touched[stamp][3], old)
            assert same(touched[stamp][4], new)
        else:
            assert old == new or (np.isnan(old) and np.isnan(new))


@pytest.mark.parametrize("kind", VALUE_KINDS)
def test_a_value_fault_does_what_its_name_says(make: Make, kind: str) -> None:
    made = make(MUSTANG, "--fault", kind, "--signal", SPEED)
    parameters, rows = made.truth["parameters"], made.rows()
    before, after = (np.array([row[column] for row in rows]) for column in (3, 4))
    elapsed = (np.array([row[0] for row in rows]) - made.truth["from_ns"]) / 1e9
    inside = (after > 0.0) & (after < 655.0)  # not clipped
    half_step = 0.00501
    if kind == "stuck":
        assert len(set(after.tolist())) == 1
        assert abs(after[0] - before[0]) < 0.5
    elif kind in ("drift", "continuous_drift"):
        assert np.abs(after - before - parameters["rate"] * elapsed)[inside].max() < half_step
    elif kind == "offset":
        assert np.abs(after - before - parameters["amount"])[inside].max() < half_step
    elif kind == "noise":
        assert np.std((after - before)[inside]) > parameters["deviation"] / 4
        assert made.truth["frames"]["clipped"] > 0  # a speed below 0 has no bits
        assert after.min() == 0.0
    elif kind == "dropout":
        assert set(after.tolist()) == {0.0}  # the DBC has no word for "no value" here
        assert 0.2 * 307 < len(rows) < 0.8 * 307
    elif kind == "plateau":
        assert set(after.tolist()) == {parameters["value"]}
    else:
        stamps, was = decoded(original(made.log), made.dbc, SPEED)
        then = np.array([row[0] for row in rows]) - round(parameters["delay_s"] * 1e9)
        played = np.array(was)[np.searchsorted(np.array(stamps), then, side="right") - 1]
        assert np.abs(after - played).max() < half_step


def ford_sum(data: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Of 0x202, as opendbc's safety code for Ford computes it: counter, quality and both bytes of the speed, from 0xFF down."""
    part = data.astype(int)
    return (0xFF - ((part[:, 2] >> 3 & 0xF) + (part[:, 4] >> 5 & 3) + part[:, 6] + part[:, 7])) & 0xFF


@pytest.mark.parametrize("kind", [*VALUE_KINDS, "babbling_ecu", "flooding"])
def test_fords_checksum_stays_right_under_an_attack(make: Make, kind: str) -> None:
    made = make(MUSTANG, "--fault", kind, "--signal", SPEED)
    for block in (original(made.log), whole(made.output)):
        data = block.data[block.frame_id == 0x202]
        assert (data[:, 1] == ford_sum(data)).all()
    assert made.truth["checks"]["kept_right"] == ["EngVehicleSpThrottle2.VehVActlEng_No_Cs"]
    assert "kept right: EngVehicleSpThrottle2.VehVActlEng_No_Cs (the log)" in made.said


def test_damaged_checksums_are_wrong_in_every_frame_and_nothing_else_is(make: Make) -> None:
    made = make(MUSTANG, "--fault", "checksum_errors", "--signal", SPEED)
    before, after = original(made.log), whole(made.output)
    mine = (before.frame_id == 0x202) & (before.timestamp_ns >= made.truth["from_ns"]) & (before.timestamp_ns < made.truth["to_ns"])
    assert (after.data[mine][:, 1] != ford_sum(after.data[mine])).all()
    different = (before.data != after.data).any(axis=0)
    assert np.flatnonzero(different).tolist() == [1]


def test_a_counter_that_stands_still_keeps_its_checksum(make: Make) -> None:
    made = make(MUSTANG, "--fault", "counter_errors", "--message", "SteeringPinion_Data_Alt")
    rows = made.rows()
    assert len({row[4] for row in rows}) == 1
    assert len({row[3] for row in rows}) == 16
    assert made.truth["checks"]["damaged"] == "counter"
    assert made.truth["checks"]["checksums"][0]["proved_by_frames"] == 7002
    # The rule that the untouched log proves holds in the damaged one too.
    target = signal_target(compiled_for(made.dbc), "SteeringPinion_Data_Alt.StePinRelInit_An_Sns")
    search = RuleSearch(target.fields, target.signal)
    block = whole(made.output)
    search.feed(block.data[target.frames(block)])
    assert search.result().checksums[0].frames == 7002


@pytest.mark.parametrize("kind", ["silent_ecu", "suppression"])
def test_a_silent_message_is_gone_for_its_time_and_the_rest_is_byte_for_byte_the_same(make: Make, kind: str) -> None:
    made = make(MUSTANG, "--fault", kind, "--message", "EngVehicleSpThrottle2")
    lines = made.log.read_bytes().splitlines()
    begin, end = made.truth["from_ns"], made.truth["to_ns"]
    stays = [line for line in lines if not (b" 202#" in line and begin <= round(float(line[1:18]) * 1e6) * 1000 < end)]
    assert made.output.read_bytes().splitlines() == stays
    assert len(lines) - len(stays) == made.truth["frames"]["removed"] == len(made.rows()) == 307


@pytest.mark.parametrize(("kind", "rate_hz"), [("babbling_ecu", 500), ("flooding", 200)])
def test_added_frames_come_at_their_rate_between_frames_that_stay(make: Make, kind: str, rate_hz: int) -> None:
    made = make(MUSTANG, "--fault", kind, "--signal", SPEED)
    assert made.truth["frames"]["added"] == len(made.rows()) == rate_hz * 10
    rest = iter(made.output.read_bytes().splitlines())
    assert all(line in rest for line in made.log.read_bytes().splitlines())  # all of them, in their order
    stamps = whole(made.output).timestamp_ns
    assert (np.diff(stamps) >= 0).all()


def test_forged_frames_count_on_from_the_real_one(make: Make) -> None:
    made = make(MUSTANG, "--fault", "flooding", "--signal", "SteeringPinion_Data_Alt.StePinRelInit_An_Sns")
    block = whole(made.output)
    forged = {row[0] for row in made.rows()}
    mine = np.flatnonzero(block.frame_id == 0x07E) if (block.frame_id == 0x07E).any() else np.array([], int)
    counter = block.data[mine, 5] >> 4
    is_forged = np.array([int(stamp) in forged for stamp in block.timestamp_ns[mine]])
    for number in np.flatnonzero(is_forged):
        assert counter[number] == (counter[number - 1] + 1) % 16


@pytest.mark.parametrize("suffix", [".asc", ".blf", ".mf4"])
def test_any_format_that_can_be_written_has_the_same_frames(make: Make, suffix: str) -> None:
    arguments = ("--fault", "offset", "--signal", "HeaterStatus.HeaterPower")
    text = whole(make(HEATING, *arguments).output)
    other = whole(make(HEATING, *arguments, suffix=suffix).output)
    order = np.argsort(text.timestamp_ns, kind="stable") if suffix == ".mf4" else np.arange(len(text))
    assert (text.frame_id[order] == other.frame_id).all()
    assert (text.data[order] == other.data).all()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_log(make: Make) -> None:
    logs = []
    for seed in ("3", "03", "4"):
        made = make(HEATING, "--fault", "noise", "--signal", "HeaterStatus.HeaterPower", "--seed", seed)
        logs.append(made.output.read_bytes())
    assert logs[0] == logs[1] != logs[2]


def test_a_node_falls_silent_with_all_of_its_messages(data_dir: Path, tmp_path: Path) -> None:
    log, dbc, output = data_dir / "logs/kona_ev/bms-idle-30sec.asc", data_dir / "dbc/kona-ev/pcan.dbc", tmp_path / "made.asc"
    done = command(log, "--dbc", dbc, "--from", "10s", "--for", "5s", "--fault", "silent_ecu", "--node", "BMS", "-o", output, "--json")
    assert done.returncode == 0, done.stderr
    truth = json.loads(done.stdout)
    silent = {int(message["frame_id"], 16) for message in truth["messages"]}
    block = whole(output)
    inside = (block.timestamp_ns >= truth["from_ns"]) & (block.timestamp_ns < truth["to_ns"])
    assert not set(block.frame_id[inside].tolist()) & silent
    assert truth["frames"]["removed"] > 500


def test_can_fd_frames_stay_what_they_are_and_added_ones_are_as_their_message() -> None:
    n, fd = 4, CANFD_FDF | CANFD_BRS
    identifier, said = np.array([1, 2, 3, 2], np.uint32), np.array([0, fd, CANFD_FDF, fd], np.uint8)
    zeros = np.zeros(n, np.uint8)
    block = FrameBlock(("can0",), np.arange(n), identifier, zeros, np.full(n, 8, np.uint8), np.zeros((n, 8), np.uint8), 0, said)
    kept = keep(block, identifier != 3)
    assert kept.flags is not None
    assert kept.flags.tolist() == [0, fd, fd]
    for number, flags in ((2, fd), (1, 0), (9, 0)):
        more = insert(block, Added(np.array([1, 4]), np.array([0, 9]), number, 0, 8, np.ones((2, 8), np.uint8)))
        assert more.flags is not None
        assert more.flags.tolist() == [0, flags, *said[1:].tolist(), flags]
    assert insert(replace(block, flags=None), Added(np.array([1]), np.array([0]), 1, 0, 8, np.ones((1, 8), np.uint8))).flags is None


def test_every_kind_is_named_in_the_help() -> None:
    words = command("--help").stdout
    assert all(name in words for name in SHORT_NAMES)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--fault", "rust", "--signal", "HeaterPower"), "no fault 'rust' that can be injected; there are: stuck"),
        (("--fault", "stuck", "--signal", "HeaterPowr"), "no signal 'HeaterPowr'"),
        (("--fault", "stuck", "--message", "HeaterStatus"), "expected one signal, found the message HeaterStatus"),
        (("--fault", "stuck"), "expected one of --signal, --message and --node, found 0"),
        (("--fault", "silent_ecu", "--node", "Nobody"), "no message of the DBC is sent by 'Nobody'"),
        (("--fault", "silent_ecu", "--message", "Heater"), "did you mean HeaterStatus"),
        (("--fault", "drift", "--signal", "HeaterPower", "--set", "speed=3"), "no parameter 'speed'; expected rate"),
        (("--fault", "drift", "--signal", "HeaterPower", "--set", "rate=fast"), "expected KEY=NUMBER"),
        (("--fault", "dropout", "--signal", "HeaterPower", "--set", "share=2"), "share: expected more than 0 and at most 1"),
        (("--fault", "stuck", "--signal", "HeaterPower", "--from", "90s"), "is 46.514 s long; expected --from before its end"),
        (("--fault", "counter_errors", "--message", "HeaterStatus"), "no alive counter is declared and none was found"),
        (("--fault", "checksum_errors", "--message", "HeaterStatus"), "no checksum is declared and no rule was found"),
        (("--fault", "stuck", "--signal", "HeaterPower", "--check", "HeaterStatus:counter=Nope"), "HeaterStatus.Nope"),
        (("--fault", "stuck", "--signal", "HeaterPower", "--check", "x"), "expected MESSAGE:counter=SIGNAL"),
        (("--fault", "stuck", "--signal", "HeaterPower", "-o", "x.txt"), "is no kind of log that can be written"),
    ],
)
def test_what_cannot_be_done_is_one_line(data_dir: Path, tmp_path: Path, arguments: tuple[str, ...], complaint: str) -> None:
    done = command(
        data_dir / HEATING[0], "--dbc", data_dir / HEATING[1], "--from", "20s", "--for", "5s", "-o", tmp_path / "made.log", *arguments
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert complaint in done.stderr
    assert not (tmp_path / "made.log").exists()


DBC = """VERSION ""
NS_ :
BS_:
BU_: ECU
BO_ 291 Engine: 8 ECU
 SG_ Speed : 0|16@1+ (0.01,0) [0|655] "km/h" ECU
 SG_ AliveCounter : 16|4@1+ (1,0) [0|15] "" ECU
 SG_ Checksum : 56|8@1+ (1,0) [0|255] "" ECU
"""


def recorded(path: Path, frames: int, constant: int = 0x5A) -> Path:
    """A 100 Hz message with a counter and the XOR of its bytes and a constant, as it would stand in a log of hours."""
    with path.open("wb") as stream:
        for first in range(0, frames, 50_000):
            number = np.arange(first, min(first + 50_000, frames))
            data = np.zeros((len(number), 8), np.uint8)
            data[:, :2] = (5000 + 1000 * np.sin(number / 300)).astype("<u2").view(np.uint8).reshape(-1, 2)
            data[:, 2] = number % 16
            data[:, 7] = np.bitwise_xor.reduce(data[:, :7], axis=1) ^ constant
            ones = np.ones(len(number), np.uint8)
            write_candump(stream, FrameBlock(("can0",), number * 10_000_000, (291 * ones.astype(np.uint32)), 0 * ones, 8 * ones, data, 0))
    return path


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    dbc = tmp_path / "engine.dbc"
    dbc.write_text(DBC)
    peaks = []
    for frames in (20_000, 600_000):
        log = recorded(tmp_path / f"{frames}.log", frames)
        arguments = [
            str(log),
            "--dbc",
            f"{dbc}@can0",
            "--fault",
            "drift",
            "--signal",
            "Speed",
            "--from",
            "10s",
            "--for",
            f"{frames // 200}s",
        ]
        program = (  # not getrusage: its peak begins with what the process that started this one held
            "from cansight.main import cli; "
            f"cli.main(['sim', 'inject', *{arguments!r}, '-o', {str(tmp_path / 'made.log')!r}, '--truth', {str(tmp_path / 't.json')!r}], "
            "standalone_mode=False); print(*[line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')])"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=250)
        assert done.returncode == 0, done.stderr
        assert "kept right: Engine.Checksum (the log)" in done.stdout
        peaks.append(int(done.stdout.splitlines()[-1]) // 1024)
    assert peaks[1] < peaks[0] + 25  # MB; the longer log has 27 MB, its truth 20 MB


def test_a_check_that_the_log_is_too_short_to_prove_can_be_named(tmp_path: Path) -> None:
    dbc, log, output = tmp_path / "engine.dbc", recorded(tmp_path / "short.log", 12, constant=0), tmp_path / "made.log"
    dbc.write_text(DBC)
    arguments = (log, "--dbc", f"{dbc}@can0", "--fault", "plateau", "--signal", "Speed", "--from", "0s", "--for", "1s", "-o", output)
    assert "checksums     none known" in command(*arguments, "--set", "value=99").stdout
    said = command(*arguments, "--set", "value=99", "--check", "Engine:counter=AliveCounter,checksum=Checksum,profile=XOR").stdout
    assert "kept right: Engine.Checksum (declared as XOR)" in said
    made = whole(output)
    assert (np.bitwise_xor.reduce(made.data, axis=1) == 0).all()
    assert (np.ascontiguousarray(made.data[:, :2]).view("<u2") == 9900).all()
