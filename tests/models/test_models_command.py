"""`cansight models`: the four commands from healthy tables to a deployed pack, and its one-line errors, through the real command line."""

import csv
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from thermal_loop import CONTEXT, NAMES, drive, write_csv

from cansight.main import main
from models.pack import Pack
from models.runtime import PackRuntime
from models.scoring import score_drive_ticks
from models.tables import read_tables


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("tables")
    return [write_csv(folder / f"{seed}.csv", drive(seed)) for seed in range(12)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tables: list[Path]) -> Path:
    """Trained by the command line."""
    folder = tmp_path_factory.mktemp("trained") / "loop"
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "models",
                "train",
                *map(str, tables),
                "--context",
                ",".join(CONTEXT),
                "--average",
                "10",
                "--window",
                "20",
                "--fault",
                "coolant_leak",
                "-o",
                str(folder),
            ]
        )
    assert not stop.value.code
    return folder


def test_train_inspect_sign_verify(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    code, out, _ = run(capsys, "models", "inspect", folder)
    assert code == 0
    assert "fault coolant_leak" in out
    assert "monitored Loop.Flow" in out
    assert json.loads(run(capsys, "models", "inspect", folder, "--json")[1])["pack_id"] == "loop"

    key = Ed25519PrivateKey.generate()
    (tmp_path / "pack.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "pack.pub.pem").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    code, _, err = run(capsys, "models", "verify", folder, "--key", tmp_path / "pack.pub.pem")
    assert code == 2
    assert "not signed" in err
    assert run(capsys, "models", "sign", folder, "--key", tmp_path / "pack.key")[0] == 0
    code, out, _ = run(capsys, "models", "verify", folder, "--key", tmp_path / "pack.pub.pem")
    assert code == 0
    assert "whole, and signed by this key" in out


def test_score_writes_a_row_for_each_row_and_agrees_with_the_runtime(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    leak = write_csv(tmp_path / "leak.csv", drive(77, ticks=300, leak_at=60))
    code, out, _ = run(capsys, "models", "score", folder, leak, "-o", tmp_path / "scores.csv", "--json")
    assert code == 0
    (alarm,) = json.loads(out)["alarms"]
    assert alarm["fault_code"] == "coolant_leak"
    assert alarm["contributions"][0]["signal"] in ("Loop.Flow", "Loop.OutletTemperature")

    pack = Pack.load(folder)
    table = read_tables([str(leak)])
    table = table.choose([table.names.index(name) for name in pack.manifest.names])
    ticks = list(score_drive_ticks(PackRuntime(pack), table.drives[0]))
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 300
    for row, tick in zip(rows, ticks, strict=True):
        assert float(row["timestamp"]) * 1000 == tick.tick_ms
        assert (float(row["score"]) if row["score"] else None) == tick.score.score
        assert (float(row["p_value"]) if row["p_value"] else None) == tick.score.p_value
        assert row["alarm"] == str(int(tick.alarm))


def test_scores_go_to_standard_output(capsys: pytest.CaptureFixture[str], folder: Path, tables: list[Path]) -> None:
    code, out, err = run(capsys, "models", "score", folder, tables[0])
    assert code == 0
    assert out.startswith("timestamp,score,p_value,alarm,contributors\n")
    assert out.count("\n") == 601
    assert "600 ticks, 581 scored" in err


def test_what_cannot_be_scored_is_said_why(capsys: pytest.CaptureFixture[str], folder: Path, tables: list[Path], tmp_path: Path) -> None:
    rows = list(csv.DictReader(tables[0].read_text().splitlines()))
    blind = tmp_path / "blind.csv"
    blind.write_text("\n".join([",".join(rows[0]), *(",".join({**row, "Loop.Flow": "nan"}.values()) for row in rows[:50])]) + "\n")
    code, _, err = run(capsys, "models", "score", folder, blind)
    assert code == 0
    assert "50 ticks, 0 scored" in err
    assert "nothing could be scored: no valid value of Loop.Flow (50 of 50 ticks)" in err


def test_bad_input_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], folder: Path, tables: list[Path], tmp_path: Path
) -> None:
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    output = tmp_path / "pack"
    for arguments, words in [
        (("score", tmp_path / "none", tables[0]), "no such folder"),
        (("score", folder, other), "other.csv has no column 'Pack.Current'"),
        (("score", folder, tables[0], "-o", "x.txt"), "scores are written as .csv or .parquet"),
        (("score", folder, tmp_path / "none.csv"), "cannot be read"),
        (("train", other, "-o", output), "1 tick of a second, expected at least 60"),
        (("train", tables[0], "-o", output, "--persistence", "9/3"), "expected N/M"),
        (("train", tables[0], "-o", output, "--window", "60"), "--window 60: is how far it looks back on the context signals"),
        (("train", tables[0], "-o", output, "--rows", "9"), "--rows 9: expected A:B"),
        (("train", tables[0], "-o", output, "--rows", "10:60"), "50 ticks of a second, expected at least 60"),
        (("train", tables[0], "-o", output, "--fault", "Leak!"), "--fault Leak!"),
        (("train", tables[0], "-o", output, "--pack-version", "1"), "expected X.Y.Z"),
        (("train", tables[0], "-o", output, "--dbc", tmp_path / "none.dbc"), "none.dbc"),
        (("train", "-o", output), "DATA"),
    ]:
        code, out, err = run(capsys, "models", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert err.startswith("cansight: ")
        assert words in err
    assert not output.exists()


def test_a_column_without_values_is_left_out_and_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines = write_csv(tmp_path / "drive.csv", drive(3, 90)).read_text().splitlines()
    (tmp_path / "drive.csv").write_text("\n".join([f"{lines[0]},Loop.Broken", *(f"{line},nan" for line in lines[1:])]) + "\n")
    code, out, err = run(capsys, "models", "train", tmp_path / "drive.csv", "--rung", "pca", "-o", tmp_path / "pack")
    assert (code, err) == (0, "")
    assert "trained  2 stretches, 60 ticks" in out
    assert "never valid (1): Loop.Broken" in out


def test_scores_of_rows_five_minutes_apart_keep_their_times_and_read_back_from_parquet(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    leak = write_csv(tmp_path / "leak.csv", drive(77, ticks=120, leak_at=60))
    lines = leak.read_text().splitlines()
    slow = tmp_path / "slow.csv"
    slow.write_text(
        "\n".join(
            [f"when;note;{lines[0].split(',', 1)[1].replace(',', ';')}"]
            + [f"{300 * at};x;{line.split(',', 1)[1].replace(',', ';')}" for at, line in enumerate(lines[1:])]
        )
    )
    code, _, err = run(capsys, "models", "score", folder, slow, "--time-column", "when")
    assert code == 2
    assert "write --period 300" in err
    options = ("--time-column", "0", "--separator", ";", "--period", "300", "--ignore", "note")
    for name in ("s.csv", "s.parquet"):
        assert run(capsys, "models", "score", folder, slow, *options, "-o", tmp_path / name)[0] == 0
    rows = list(csv.DictReader((tmp_path / "s.csv").open()))
    table = pq.read_table(tmp_path / "s.parquet")
    assert table.column_names == list(rows[0]) == ["timestamp", "score", "p_value", "alarm", "contributors"]
    assert table["timestamp"].to_pylist() == [300.0 * at for at in range(120)] == [float(row["timestamp"]) for row in rows]
    assert table["score"].to_pylist() == [float(row["score"]) if row["score"] else None for row in rows]
    plain = list(score_drive_ticks(PackRuntime(Pack.load(folder)), read_tables([str(leak)]).drives[0].choose(columns_of(folder, leak))))
    assert table["score"].to_pylist() == [tick.score.score for tick in plain]
    assert table["alarm"].to_pylist() == [tick.alarm for tick in plain]


def columns_of(folder: Path, path: Path) -> list[int]:
    names = read_tables([str(path)]).names
    return [names.index(name) for name in Pack.load(folder).manifest.names]


def write_dbc(path: Path, names: tuple[str, ...]) -> Path:
    """A DBC of 32-bit signals of these names."""
    lines = []
    for at, message in enumerate(dict.fromkeys(name.split(".")[0] for name in names)):
        lines.append(f"BO_ {256 + at} {message}: 8 Vector__XXX")
        signals = [name.split(".")[1] for name in names if name.startswith(f"{message}.")]
        lines += [f' SG_ {signal} : {32 * bit}|32@1- (0.001,0) [0|0] "" Vector__XXX' for bit, signal in enumerate(signals)]
    path.write_text('VERSION ""\n\nBU_: Vector__XXX\n\n' + "\n".join(lines) + "\n")
    return path


def test_deploy_puts_a_pack_where_the_agent_finds_it(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    (tmp_path / "pack.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "pack.pub.pem").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    write_dbc(tmp_path / "car.dbc", NAMES)
    write_dbc(tmp_path / "other.dbc", NAMES[1:])
    settings = """vehicle = "0123456789abcdef"
state = "state"
source.log = "drive.log"
dbc.files = ["car.dbc"]
broker = { host = "localhost", ca = "a", certificate = "b", key = "c" }
recipients.files = ["d"]
packs = { folders = ["packs"], trusted_key = "pack.pub.pem" }
"""
    config = tmp_path / "edge.toml"
    config.write_text(settings)
    unsigned = tmp_path / "loop"
    shutil.copytree(folder, unsigned, ignore=shutil.ignore_patterns("*.sig"))
    deploy = ("models", "deploy", unsigned, "-c", config)
    code, _, err = run(capsys, *deploy)
    assert (code, err.count("\n")) == (2, 1)
    assert "not signed" in err
    assert not (tmp_path / "packs" / "loop").exists()
    for _ in range(2):
        code, out, err = run(capsys, *deploy, "--key", tmp_path / "pack.key")
        assert (code, err) == (0, "")
    assert "a running agent takes it up within 15 s" in out
    assert [entry.name for entry in (tmp_path / "packs").iterdir()] == ["loop"]
    assert Pack.load(tmp_path / "packs" / "loop", key.public_key()).manifest.pack_id == "loop"
    for change, words in (
        (("car.dbc", "other.dbc"), f"the DBC has no signal {NAMES[0]}"),
        (('folders = ["packs"]', "folders = []"), "names no folder of packs"),
        ((', trusted_key = "pack.pub.pem"', ""), "packs.trusted_key: is not set"),
    ):
        config.write_text(settings.replace(*change))
        code, _, err = run(capsys, *deploy, "--key", tmp_path / "pack.key")
        assert (code, err.count("\n")) == (2, 1)
        assert words in err
