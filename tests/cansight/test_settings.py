"""Settings: what the file says, what the environment overrides, and one clear line for what does not fit."""

from pathlib import Path

import msgspec
import pytest

from cansight.errors import UsageError
from cansight.settings import load


class Broker(msgspec.Struct, forbid_unknown_fields=True):
    host: str
    port: int = 8883


class Config(msgspec.Struct, forbid_unknown_fields=True):
    vehicle: str
    broker: Broker
    packs: list[str] = []


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
        (GOOD + "prot = 1\n", {}, "unknown field prot"),
        (GOOD, {"CANSIGHT_BROKER__PORT": "x"}, "broker.port: expected int, found str"),
        ('vehicle = "01"\n', {}, "missing required field broker"),
        ("vehicle = \n", {}, "not valid TOML: Invalid value (at line 1"),
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
