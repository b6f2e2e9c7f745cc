"""What is wrong is said in one line, with exit code 2, before anything is started; and the settings are what docs/edge.md says."""

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from edge_helpers import PATIENCE_S, VEHICLE, Car, write_log

import servers
from cloud import pki as fleet
from edge.config import EdgeConfig, resolved

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def car(tmp_path: Path, pki: Path) -> Car:
    return Car(tmp_path / "car", pki, servers.free_port(), str(write_log(tmp_path / "drive.log", 4)))


def cansight(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "cansight", *arguments], capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def remove(setting: str) -> Callable[[Car], None]:
    def spoil(car: Car) -> None:
        section, key = setting.split(".")
        found = car.document[section][key]
        for path in found if isinstance(found, list) else [found]:
            (car.folder / path).unlink()

    return spoil


def garble(setting: str) -> Callable[[Car], None]:
    def spoil(car: Car) -> None:
        section, key = setting.split(".")
        found = car.document[section][key]
        for path in found if isinstance(found, list) else [found]:
            (car.folder / path).chmod(0o600)
            (car.folder / path).write_text("nonsense\n")

    return spoil


def another_vehicle(car: Car) -> None:
    other = car.pki / "vehicles" / fleet.vehicle(car.pki)
    car.overrides["broker"] = {"certificate": f"{other}.pem", "key": f"{other}.key"}


def another_key(car: Car) -> None:
    car.overrides["broker"] = {"key": str(car.pki / "vehicles" / f"{fleet.vehicle(car.pki)}.key")}


def another_fleets_certificate(car: Car) -> None:
    fleet.init(car.folder / "other")
    other = car.folder / "other" / "vehicles" / fleet.vehicle(car.folder / "other", VEHICLE)
    car.overrides["broker"] = {"certificate": f"{other}.pem", "key": f"{other}.key"}


def another_fleet(car: Car) -> None:
    fleet.init(car.folder / "other")
    car.overrides["recipients"] = {"files": [str(car.folder / "other" / "recipient.json")]}


def packs_without_key(car: Car) -> None:
    car.overrides["packs"] = {"folders": ["somewhere"]}


def state_is_a_file(car: Car) -> None:
    (car.folder / "state").write_text("")


def log_is_a_folder(car: Car) -> None:
    car.overrides["source"] = {"log": str(car.folder)}


def catalogue_of_another_car(car: Car) -> None:
    path = car.folder / "catalogue.toml"
    path.write_text(path.read_text().replace("Cabin.Owner", "Cabin.Ownr"))


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (remove("broker.ca"), r"broker.ca: .*fleet-ca.pem: cannot be read: No such file"),
        (remove("broker.certificate"), r"broker.certificate: .*\.pem: cannot be read: No such file"),
        (remove("broker.key"), r"broker.key: .*\.key: cannot be read: No such file"),
        (remove("recipients.files"), r"recipients.files: .*recipient.json: cannot be read: No such file"),
        (remove("dbc.files"), r"car.dbc: .*"),
        (remove("dbc.catalogue"), r"catalogue.toml: cannot be read: No such file"),
        (remove("source.log"), r"source.log: .*drive.log: cannot be read: No such file"),
        (garble("broker.ca"), r"broker.ca: .*expected a PEM certificate"),
        (garble("broker.certificate"), r"broker.certificate: .*expected a PEM certificate"),
        (garble("broker.key"), r"broker.key: .*expected a PEM private key"),
        (garble("recipients.files"), r"recipients.files: .*not a recipient document"),
        (garble("dbc.files"), r"car.dbc: is not a DBC"),
        (garble("dbc.catalogue"), r"catalogue.toml: is not TOML"),
        (garble("source.log"), r"drive.log: "),
        (another_vehicle, rf"expected the common name {VEHICLE} \(vehicle\), found [0-9a-f]{{16}}"),
        (another_key, r"is not the key of the certificate"),
        (another_fleets_certificate, r"broker.certificate: .*\.pem: was not issued by the fleet CA .*fleet-ca.pem \(broker.ca\)"),
        (another_fleet, r"the fleet CA did not sign this key"),
        (packs_without_key, r"packs.trusted_key: is not set"),
        (state_is_a_file, r"state: .*cannot be made"),
        (log_is_a_folder, r"source.log: .*is a folder"),
        (catalogue_of_another_car, r"Cabin.Ownr"),
    ],
    ids=lambda value: getattr(value, "__qualname__", "").split(".")[0] or None,
)
def test_what_is_wrong_is_one_line_and_exit_code_2(car: Car, spoil: Callable[[Car], None], expected: str) -> None:
    spoil(car)
    done = cansight("edge", "run", "-c", str(car.settings()))
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert re.search(expected, done.stderr), done.stderr
    assert done.stderr.startswith("cansight: ")
    assert not (car.state / "status.json").exists()


def test_a_second_agent_on_one_state_folder_is_refused(car: Car, tmp_path: Path) -> None:
    car.overrides["run"] = {"stop_when_drained": False}
    car.start()
    try:
        from edge_helpers import until

        until(lambda: car.status, "the first agent")
        done = cansight("edge", "run", "-c", str(car.settings()))
    finally:
        car.stop()
    assert done.returncode == 2
    assert "another process has this log open" in done.stderr


def test_the_settings_in_the_documentation_are_settings() -> None:
    text = (Path(__file__).parents[2] / "docs" / "edge.md").read_text(encoding="utf-8")
    document = tomllib.loads(text.partition("```toml")[2].partition("```")[0])
    assert msgspec.convert(document, EdgeConfig).packs.folders == ["packs"]


def test_relative_paths_are_relative_to_the_settings_file() -> None:
    document = {
        "vehicle": VEHICLE,
        "state": "state",
        "source": {"log": "-"},
        "dbc": {"files": ["a.dbc@can0", "sub/b.dbc"], "catalogue": "c.toml"},
        "packs": {"folders": ["packs/x"], "trusted_key": "k.pem"},
        "broker": {"ca": "ca.pem", "certificate": "/abs/v.pem", "key": "v.key"},
        "recipients": {"files": ["r.json"]},
    }
    config = resolved(msgspec.convert(document, EdgeConfig), Path("/etc/cansight"))
    assert config.source.log == "-"
    assert config.dbc.files == ["/etc/cansight/a.dbc@can0", "/etc/cansight/sub/b.dbc"]
    assert (config.dbc.catalogue, config.state) == ("/etc/cansight/c.toml", "/etc/cansight/state")
    assert (config.packs.folders, config.packs.trusted_key) == (["/etc/cansight/packs/x"], "/etc/cansight/k.pem")
    assert (config.broker.ca, config.broker.certificate, config.broker.key) == ("/etc/cansight/ca.pem", "/abs/v.pem", "/etc/cansight/v.key")
    assert (config.recipients.files, config.health.ledger) == (["/etc/cansight/r.json"], "")


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("broker", "prot", 1, "broker.prot: is no setting; did you mean port?"),
        ("batch", "ticks", 0, "batch.ticks"),
        ("outbox", "bytes", 1000, "outbox.bytes"),
        ("source", "speed", -1, "source.speed"),
        ("recipients", "files", [], "recipients.files"),
    ],
)
def test_a_wrong_setting_is_named(car: Car, section: str, key: str, value: object, expected: str) -> None:
    car.overrides[section] = {key: value}
    done = cansight("edge", "config", "--resolved", "-c", str(car.settings()))
    assert done.returncode == 2
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_config_resolved_prints_settings_that_can_be_run_with(car: Car, tmp_path: Path) -> None:
    done = cansight("edge", "config", "--resolved", "-c", str(car.settings()))
    assert done.returncode == 0
    again = tmp_path / "again.toml"
    again.write_text(done.stdout)
    assert cansight("edge", "config", "--resolved", "-c", str(again)).stdout == done.stdout
    as_json = json.loads(cansight("edge", "config", "--resolved", "--json", "-c", str(again)).stdout)
    assert as_json["batch"] == {"ticks": 2}
    assert as_json["dbc"]["files"] == [str(car.folder / "car.dbc")]


def test_the_environment_overrides(car: Car) -> None:
    environment = os.environ | {"CANSIGHT_BATCH__TICKS": "7"}
    command = [sys.executable, "-m", "cansight", "edge", "config", "--resolved", "--json", "-c", str(car.settings())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True, env=environment)
    assert json.loads(done.stdout)["batch"]["ticks"] == 7


def test_status_before_the_first_run_says_so(car: Car) -> None:
    done = cansight("edge", "status", "-c", str(car.settings()))
    assert done.returncode == 2
    assert "the agent has not run" in done.stderr


@pytest.mark.parametrize("said", ["", "nonsense", "[]", "{}", '{"vehicle": 5}'])
def test_a_status_that_is_none_is_one_line(car: Car, said: str) -> None:
    car.state.mkdir(parents=True, exist_ok=True)
    (car.state / "status.json").write_text(said)
    done = cansight("edge", "status", "-c", str(car.settings()))
    assert done.returncode == 2
    assert "status.json: cannot be read as the agent's status" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_config_as_json_is_json_also_when_it_is_not_resolved(car: Car) -> None:
    done = cansight("edge", "config", "--json", "-c", str(car.settings()))
    assert json.loads(done.stdout)["vehicle"] == VEHICLE


def test_every_setting_is_in_the_reference_and_nothing_else() -> None:
    rows = re.findall(r"^\| (`[^|]*`) \|[^|]*\|[^|]*\|$", (ROOT / "docs" / "edge.md").read_text(), re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`([a-z_.]+)`", row)}
    found = set()
    for field in msgspec.structs.fields(EdgeConfig):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found |= {f"{field.name}.{inner.name}" for inner in msgspec.structs.fields(field.type)}
        else:
            found.add(field.name)
    assert documented == found


def test_a_hangup_before_the_agent_is_ready_does_not_end_it(tmp_path: Path) -> None:
    settings = tmp_path / "edge.toml"
    os.mkfifo(settings)
    command = [sys.executable, "-m", "cansight", "edge", "run", "-c", str(settings)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as agent:
        with settings.open("w") as said:  # opens when the agent reads it
            agent.send_signal(signal.SIGHUP)
            said.write("vehicle = 1\n")
        _, errors = agent.communicate(timeout=PATIENCE_S)
    assert agent.returncode == 2
    assert "vehicle" in errors
