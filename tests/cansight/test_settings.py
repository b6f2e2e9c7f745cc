"""Settings: what the file says, what the environment overrides, and one clear line for what does not fit."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest

from cansight.errors import UsageError
from cansight.settings import load


class Broker(msgspec.Struct, forbid_unknown_fields=True):
    host: str
    port: Annotated[int, msgspec.Meta(le=65535)] = 8883
    store: Literal["embedded", "influx"] = "embedded"
    keep: Annotated[str, msgspec.Meta(pattern=r"^[0-9]+d\Z", description="days like 90d")] = "90d"


class VehicleModel(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class Config(msgspec.Struct, forbid_unknown_fields=True):
    vehicle: str
    broker: Broker
    packs: list[str] = []
    vehicle_model: list[VehicleModel] = []


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "edge.toml"
    path.write_text(text)
    return path


GOOD = 'vehicle = "01"\n[broker]\nhost = "localhost"\n'


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    config = load(
        path, Config, {"CANSIGHT_BROKER__PORT": "1", "CANSIGHT_VEHICLE": "02 b", "CANSIGHT_PACKS": '["a"]', "CANSIGHT_TEST_DATA": "/x"}
    )
    assert config == Config(vehicle="02 b", broker=Broker("localhost", 1), packs=["a"])


@pytest.mark.parametrize(
    ("text", "environment", "said"),
    [
        ('vehicle = "01"\n[broker]\nhost = 1\n', {}, "broker.host: expected str, found int"),
        (GOOD + "prot = 1\n", {}, "broker.prot: is no setting; did you mean port?"),
        (GOOD, {"CANSIGHT_BROKER__PORT": "x"}, "broker.port: expected int, found str"),
        ('vehicle = "01"\n', {}, "broker: is missing"),
        ("vehicle = \n", {}, "not valid TOML: Invalid value (at line 1"),
        (GOOD + "port = 70000\n", {}, "broker.port: expected int <= 65535, found 70000"),
        (GOOD + 'store = "nope"\n', {}, "broker.store: expected one of embedded, influx, found 'nope'"),
        (GOOD + 'keep = "8"\n', {}, "broker.keep: expected days like 90d, found '8'"),
        (GOOD + f'store = "{"x" * 500}"\n', {}, "xxx…"),
        (GOOD + "[[vehicle_model]]\nnam = 1\n", {}, "vehicle_model[0].nam: is no setting; did you mean name?"),
        (GOOD + "[colours]\n", {}, "colours: is no setting; there are vehicle, broker, packs, vehicle_model"),
        ('vehicle = "01"\nbroker = 5\n', {"CANSIGHT_BROKER__PORT": "1"}, "broker: expected table, found int"),
    ],
)
def test_what_does_not_fit_is_one_line_with_file_and_key(tmp_path: Path, text: str, environment: dict[str, str], said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load(path, Config, environment)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load(tmp_path / "none.toml", Config, {})


def test_bytes_that_are_no_text_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    path.write_bytes(b"vehicle = \xff\n")
    with pytest.raises(UsageError, match="expected settings in TOML, found something else than UTF-8 text at byte 10"):
        load(path, Config, {})
