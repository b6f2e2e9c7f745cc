"""`cansight sim fleet` as its user runs it, on a real mosquitto and the real aggregator: all is receipted, ledger and store agree."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import processes
import servers
from cansight.main import main
from cloud.pki import init
from dbc.vehicles import CATALOGUE, DBC_FILES


@dataclass
class Stack:
    """A broker and an aggregator with InfluxDB, shared by the tests: each runs a fleet of its own seed, so of other vehicles."""

    folder: Path
    pki: Path
    broker: servers.Server
    settings: Path
    api: str
    influx: str
    cloud: subprocess.Popen[bytes]
    seed: int = 0

    @property
    def url(self) -> str:
        return f"mqtts://localhost:{self.broker.port}"

    def start_cloud(self) -> None:
        self.cloud = processes.cansight("cloud", "run", "-c", self.settings, log=self.folder / "cloud.log")
        processes.until(lambda: (processes.get(f"{self.api}/api/stats") or {}).get("connected", False), "the aggregator")

    def fleet(self, *arguments: str) -> list[str]:
        """The command of the next fleet; `ledger` is its ledger then."""
        self.seed += 1
        command = [sys.executable, "-m", "cansight", "sim", "fleet", "--broker", self.url, "--pki", str(self.pki), "--json", *arguments]
        return [*command, "--ledger", str(self.ledger), "--seed", str(self.seed)]

    @property
    def ledger(self) -> Path:
        return self.folder / f"ledger{self.seed}.db"

    @property
    def landed(self) -> int:
        return int((processes.get(f"{self.api}/api/stats") or {}).get("landed", 0))

    def compare(self, *where: str) -> dict[str, Any]:
        token = self.folder / "operator.token"
        token.write_text(processes.TOKENS[self.api])
        by_api = ("--api", self.api, "--token-file", str(token))
        code, out, err = run("sim", "fleet-ledger", str(self.ledger), "--json", *(where or by_api))
        assert code == 0, (out, err)
        found: dict[str, Any] = json.loads(out)
        return found


def run(*arguments: str, command: list[str] | None = None) -> tuple[int, str, str]:
    done = subprocess.run(
        command or [sys.executable, "-m", "cansight", *arguments], capture_output=True, text=True, timeout=200, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("fleet")
    pki = folder / "pki"
    init(pki)
    for name in ("mosquitto", "influxdb"):
        (folder / name).mkdir(mode=0o700)
    broker, influx = servers.mosquitto(folder / "mosquitto", pki), servers.influxdb(folder / "influxdb")
    model = {"name": "cansight_ev", "dbc": list(DBC_FILES), "catalogue": str(CATALOGUE)}
    store = {"kind": "influx", "influx": {"url": influx.url}}
    settings, api = processes.cloud_settings(folder, pki, broker.port, [], store, vehicle_model=[model])
    stack = Stack(folder, pki, broker, settings, api, influx.url, None)  # type: ignore[arg-type]
    try:
        broker.start()
        influx.start()
        stack.start_cloud()
        yield stack
    finally:
        if stack.cloud is not None:
            stack.cloud.kill()
            stack.cloud.wait()
        broker.stop()
        influx.stop()


def no_faults(ticks: dict[str, int]) -> bool:
    return not any(ticks[name] for name in ("lost", "duplicated", "out_of_order", "different", "unknown"))


@pytest.mark.parametrize("prepared", [False, True])
def test_every_batch_is_receipted_and_the_store_has_what_the_ledger_says(stack: Stack, prepared: bool) -> None:
    code, out, err = run(command=stack.fleet("--vehicles", "10", "--duration", "6s", *(["--prepared"] if prepared else [])))
    assert code == 0, (out, err)
    report = json.loads(out)
    assert (report["vehicles"], report["signals"], report["complete"]) == (10, 200, True)
    assert report["counts"]["sealed"] == report["counts"]["stored"] == 40  # an announcement and three batches each
    assert report["counts"]["values"] == 10 * 6 * 200
    told = stack.compare()
    assert told["batches"] == {"sealed": 40, "stored": 40, "quarantined": 0, "refused": 0, "unreceipted": 0}
    assert (told["ticks"]["expected"], told["ticks"]["found"]) == (60, 60)
    assert no_faults(told["ticks"])


@pytest.mark.parametrize("jitter", [True, False])
def test_outages_and_the_storm_after_them_lose_nothing(stack: Stack, jitter: bool) -> None:
    command = stack.fleet("--vehicles", "10", "--duration", "10s", "--outages", "30%@1s+3s", "--outages", "100%@6s+2s")
    code, out, err = run(command=[*command, "--jitter" if jitter else "--no-jitter"])
    assert code == 0, (out, err)
    report = json.loads(out)
    assert [outage["vehicles"] for outage in report["outages"]] == [3, 10]
    assert report["counts"]["connections"] >= 10 + 10  # with jitter a vehicle may be pausing from one outage into the next
    assert all(outage["drained_s"] is not None for outage in report["outages"])
    told = stack.compare()
    assert (told["batches"]["sealed"], told["batches"]["stored"], told["ticks"]["expected"]) == (60, 60, 100)
    assert no_faults(told["ticks"])


def test_kills_of_broker_and_aggregator_lose_nothing(stack: Stack) -> None:
    before = stack.landed
    with subprocess.Popen(stack.fleet("--vehicles", "5", "--duration", "12s"), stdout=subprocess.PIPE, text=True) as fleet:
        processes.until(lambda: stack.landed >= before + 10, "batches")
        stack.broker.kill()
        stack.broker.start()
        processes.until(lambda: stack.landed >= before + 18, "batches after the broker's end")
        stack.cloud.kill()
        stack.cloud.wait()
        stack.start_cloud()
        out, _ = fleet.communicate(timeout=120)
    report = json.loads(out)
    assert (fleet.returncode, report["unreceipted"]) == (0, 0)
    assert report["counts"]["connections"] >= 10
    told = stack.compare()
    assert (told["batches"]["stored"], told["ticks"]["expected"]) == (35, 60)
    assert no_faults(told["ticks"])


def test_a_mix_of_scenarios_at_ten_times_real_time_is_a_replay_in_influxdb(stack: Stack, tmp_path: Path) -> None:
    mix = tmp_path / "mix.toml"
    mix.write_text('[[vehicles]]\nscenario = "healthy"\nshare = 0.75\n\n[[vehicles]]\nscenario = "coolant_leak"\nshare = 0.25\n')
    command = stack.fleet("--vehicles", "4", "--duration", "30s", "--speed", "10", "--signals", "50", "--ticks-per-batch", "5")
    code, out, err = run(command=[*command, "--scenario-mix", str(mix)])
    assert code == 0, (out, err)
    assert json.loads(out)["signals"] == 50
    told = stack.compare("--influx", stack.influx)
    assert (told["batches"]["stored"], told["ticks"]["expected"], told["ticks"]["found"]) == (28, 120, 120)
    assert no_faults(told["ticks"])
    with sqlite3.connect(stack.ledger) as ledger:
        scenarios = [name for (name,) in ledger.execute("SELECT scenario FROM vehicles")]
    assert sorted(scenarios) == ["coolant_leak", "healthy", "healthy", "healthy"]
    lost = tmp_path / "lost.db"
    lost.write_bytes(stack.ledger.read_bytes())
    with sqlite3.connect(lost) as ledger:  # by this ledger, a batch was stored at other times
        ledger.execute("UPDATE batches SET first_ms = first_ms + 500 WHERE id = (SELECT max(id) FROM batches)")
    code, out, err = run("sim", "fleet-ledger", str(lost), "--influx", stack.influx, "--wait", "1s")
    assert code == 1
    assert "5 ticks are lost" in err


def test_without_an_aggregator_the_ledger_says_what_is_still_held(tmp_path: Path, pki: Path, mosquitto: servers.Server) -> None:
    ledger = tmp_path / "ledger.db"
    arguments = ["--vehicles", "3", "--duration", "2s", "--drain", "1s", "--ledger", str(ledger)]
    code, out, err = run("sim", "fleet", "--broker", f"mqtts://localhost:{mosquitto.port}", "--pki", str(pki), *arguments)
    assert code == 1
    assert "6 of 6 batches have no receipt after 1 s; is an aggregator there?" in err
    assert "6 without receipt" in out
    with sqlite3.connect(ledger) as read:
        assert read.execute("SELECT count(*) FROM batches WHERE status IS NULL").fetchone() == (6,)


def test_an_interrupt_ends_the_drive_and_keeps_the_report(stack: Stack) -> None:
    before = stack.landed
    with subprocess.Popen(stack.fleet("--vehicles", "5", "--duration", "1h"), stdout=subprocess.PIPE, text=True) as fleet:
        processes.until(lambda: stack.landed >= before + 10, "batches")
        fleet.send_signal(signal.SIGINT)
        out, _ = fleet.communicate(timeout=60)
    assert fleet.returncode == 0
    assert json.loads(out)["complete"]
    assert no_faults(stack.compare()["ticks"])


def test_wrong_usage_is_one_line_with_exit_code_2_and_a_broker_that_is_away_1(
    tmp_path: Path, pki: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    away = f"mqtts://localhost:{servers.free_port()}"
    bad_mix, unknown = tmp_path / "mix.toml", tmp_path / "unknown.toml"
    bad_mix.write_text('[[vehicles]]\nscenario = "healthy"\nshare = 0\n')
    unknown.write_text('[[vehicles]]\nscenario = "helthy"\nshare = 1\n')
    (tmp_path / "there.db").write_text("")
    folder = ["--pki", str(pki)]
    two = ["--vehicles", "2"]
    cases = {
        ("--broker", "localhost:8883", *two, *folder): (2, "expected mqtts://HOST[:PORT]"),
        ("--broker", "mqtt://localhost", *two, *folder): (2, "expected mqtts://HOST[:PORT]"),
        ("--broker", "mqtts://localhost:no", *two, *folder): (2, "expected mqtts://HOST[:PORT]"),
        ("--broker", away, *two, "--pki", str(tmp_path / "none")): (2, "fleet-ca.pem: cannot be read"),
        ("--broker", away, *two, *folder): (1, "cannot connect: Connection refused"),
        ("--broker", away, *two, *folder, "--signals", "9999"): (2, "of the class technical"),
        ("--broker", away, *two, *folder, "--outages", "all"): (2, "expected SHARE%@START+LENGTH"),
        ("--broker", away, *two, *folder, "--scenario-mix", str(bad_mix)): (2, "vehicles[0].share: expected"),
        ("--broker", away, *two, *folder, "--scenario-mix", str(unknown)): (2, "no scenario 'helthy'"),
        ("--broker", away, *two, *folder, "--ledger", str(tmp_path / "there.db")): (2, "is there already"),
        ("--broker", away, *two, *folder, "--duration", "1s"): (2, "at least one batch"),
        ("--broker", away, "--vehicles", "0", *folder): (2, "0"),
    }
    for arguments, (code, words) in cases.items():
        with pytest.raises(SystemExit) as ended:
            main(["sim", "fleet", *arguments])
        out, err = capsys.readouterr()
        assert (ended.value.code, out) == (code, ""), (arguments, err)
        assert words in err, (arguments, err)
        assert len(err.strip().splitlines()) == 1, err


def test_too_few_open_files_are_named(tmp_path: Path, pki: Path) -> None:
    command = [sys.executable, "-m", "cansight", "sim", "fleet", "--vehicles", "200", "--broker", "mqtts://localhost:1", "--pki", str(pki)]
    limited = ["sh", "-c", 'ulimit -n 100; exec "$@"', "sh", *command]
    code, _, err = run(command=limited)
    assert (code, os.linesep in err.strip()) == (1, False)
    assert "200 vehicles need 264 open files, and this process may have 100 (ulimit -Hn)" in err
