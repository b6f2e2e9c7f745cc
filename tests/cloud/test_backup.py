"""The restore drill: a backup of a cloud under load; killed and wiped, it has everything again, and every receipt is as good as before."""

import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import pytest
from cloud_vehicle import Client, receipts
from sqlalchemy import create_engine, text
from test_cloud_run import DBC, connected, deliver, make_vehicle
from test_replicas_live import FIVE, Replica, caught_up, publish, stored

import processes
import servers
from cansight.commands.cloud_settings import load_config
from cloud.backup import backup
from cloud.database import Database, StoredStream
from cloud.errors import BackupError
from cloud.restore import restore
from cloud.roles import Role
from cloud.tables import parsed
from cloud.tickets.service import TicketService
from cloud.tokens import Tokens
from dbc.compiler import load_compiled
from dbc.schema import Schema
from wire.receipts import Status


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    return load_compiled(DBC, tmp_path_factory.mktemp("dbc")).schema


def cansight(*arguments: str | Path) -> str:
    done = subprocess.run([sys.executable, "-m", "cansight", *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(180)
def test_killed_wiped_and_restored_nothing_of_before_the_backup_is_lost(
    tmp_path: Path, pki: Path, mosquitto: servers.Server, postgres: servers.Postgres, schema: Schema
) -> None:
    process = Replica("", tmp_path, pki, mosquitto.port, {"kind": "embedded"}, postgres.make("before"))
    recipient = pki / "recipient.key"
    vehicle, boot_ms = make_vehicle(pki, schema)
    with ExitStack() as stack:
        stack.callback(lambda: process.dead() or process.end(signal.SIGKILL))
        process.start()
        client: Client = stack.enter_context(connected(vehicle, mosquitto, FIVE))
        client.listen()
        client.paho.publish(vehicle.topic, vehicle.announcement.data, qos=1)
        publish(client, vehicle, range(100))
        vehicle.finding(3)
        deliver(client, vehicle)
        before = receipts(client.heard)
        processes.until(lambda: caught_up(process), "the sinks")
        publish(client, vehicle, range(100, 400))  # while the backup is made
        said = cansight("cloud", "backup", tmp_path / "backup", "--keys", tmp_path / "keys", "-c", process.settings)
        assert "is complete" in said
        deliver(client, vehicle)
        process.end(signal.SIGKILL)
        shutil.rmtree(process.folder / "cloud")
        recipient.unlink()
        url = postgres.make("after")
        process.settings.write_text(process.settings.read_text().replace("/before", "/after"))
        assert url.endswith("/after")
        cansight("cloud", "restore", tmp_path / "backup", "--keys", tmp_path / "keys", "-c", process.settings)
        assert recipient.stat().st_mode & 0o777 == 0o600
        process.start()  # the token of before is good, too: `stats` asks with it
        client.heard = []
        deliver(client, vehicle)  # as an agent does that has heard nothing: it gets the receipts of before, which delete what they did
        again = receipts(client.heard)
        assert before.items() <= again.items()
        assert {status for status, _ in again.values()} == {Status.STORED}
        processes.until(lambda: caught_up(process), "the sinks")
        stored(process, vehicle, schema, boot_ms, 400)
        (ticket,) = process.get("/api/tickets")["tickets"]
        assert (ticket["id"], ticket["occurrences"]) == (1, 1)
        vehicle.finding(9, "cleared")
        vehicle.finding(11, finding_id=b"g" * 16)
        deliver(client, vehicle)
        processes.until(lambda: process.get("/api/tickets/1")["occurrences"] == 2, "the next finding")  # its lines are numbered on
        assert process.end(signal.SIGTERM) == 0
    assert "nothing" in cansight("tickets", "audit", "verify", "-c", process.settings)


@pytest.fixture
def settings(tmp_path: Path, pki: Path) -> Path:
    """Of a cloud on SQLite that has run a little."""
    made, _ = processes.cloud_settings(tmp_path, pki, 1, DBC, {"kind": "embedded"})
    config = load_config(made)
    with Database(config.database_url) as database:
        database.learn([StoredStream(bytes(16), "0" * 16, 1, b"announced")], {})
    (tmp_path / "cloud" / "landing").mkdir()
    (tmp_path / "cloud" / "landing" / "0-1.seg").write_bytes(bytes(3000))
    (tmp_path / "cloud" / "lake" / "fresh").mkdir(parents=True)
    (tmp_path / "cloud" / "lake" / "fresh" / "ticks-1.parquet").write_bytes(b"rows")
    return made


def test_a_backup_that_was_changed_or_not_finished_is_refused_before_anything_is_written(tmp_path: Path, settings: Path) -> None:
    config = load_config(settings)
    folder = tmp_path / "backup"
    backup(config, folder, None, 5)
    with pytest.raises(BackupError, match="expected an empty folder"):
        backup(config, folder, None, 5)
    with pytest.raises(BackupError, match="is there already"):
        restore(config, folder, None)
    shutil.move(tmp_path / "cloud", tmp_path / "elsewhere")
    segment = folder / "landing" / "0-1.seg"
    segment.write_bytes(bytes(2999) + b"1")
    with pytest.raises(BackupError, match=r"0-1.seg: expected 3000 bytes, SHA-256 \w+…, found 3000 bytes"):
        restore(config, folder, None)
    segment.write_bytes(bytes(3000))
    replica = msgspec.structs.replace(config, broker=msgspec.structs.replace(config.broker, replica="a"))
    with pytest.raises(BackupError, match=r"is a backup of replica none, the settings' broker.replica is a"):
        restore(replica, folder, None)
    (folder / "backup.json").rename(folder / "backup.js")
    with pytest.raises(BackupError, match=r"backup\.json: is not there"):
        restore(config, folder, None)
    assert not (tmp_path / "cloud").exists()
    (folder / "backup.js").rename(folder / "backup.json")
    restore(config, folder, None)
    with Database(config.database_url) as database:
        assert database.stream(bytes(16)) is not None
    assert (tmp_path / "cloud" / "lake" / "fresh" / "ticks-1.parquet").read_bytes() == b"rows"
    shutil.rmtree(tmp_path / "cloud" / "lake")
    with pytest.raises(BackupError, match="landing: is there already"):
        restore(config, folder, None)
    shutil.rmtree(tmp_path / "cloud" / "landing")
    with pytest.raises(BackupError, match="table streams has rows already"):
        restore(config, folder, None)
    restore(config, folder, None, tables=False)


def test_the_keys_folder_has_all_that_the_settings_name(tmp_path: Path, settings: Path) -> None:
    policy, secret, dbc = (tmp_path / "named" / name for name in ("tickets.toml", "workshop.secret", "car.dbc"))
    policy.parent.mkdir()
    policy.write_text('[[webhook]]\nname = "workshop"\nurl = "https://workshop.example"\nsecret_file = "workshop.secret"\n')
    secret.write_text("x" * 32)
    dbc.write_text('VERSION "1"\n')
    config = load_config(settings)
    model = msgspec.structs.replace(config.vehicle_model[0], dbc=[f"{dbc}@can0", "builtin:obd2@can1"])
    config = msgspec.structs.replace(config, tickets=str(policy), vehicle_model=[model])
    backup(config, tmp_path / "backup", tmp_path / "keys", 5, settings=settings)
    assert (tmp_path / "keys" / "cloud.toml").read_bytes() == settings.read_bytes()
    shutil.move(tmp_path / "cloud", tmp_path / "elsewhere")
    policy.unlink()
    secret.unlink()
    dbc.write_text('VERSION "2"\n')  # a DBC is a newer one, not another one
    restore(config, tmp_path / "backup", tmp_path / "keys")
    assert (secret.read_text(), secret.stat().st_mode & 0o777) == ("x" * 32, 0o600)
    assert policy.exists()
    assert dbc.read_text() == 'VERSION "2"\n'


def test_a_backup_moves_a_cloud_from_sqlite_to_postgresql(tmp_path: Path, settings: Path, postgres: servers.Postgres) -> None:
    config = load_config(settings)
    with Tokens(config.database_url) as tokens:
        secret = tokens.create("mine", Role.SERVICE)
    backup(config, tmp_path / "backup", None, 5)
    shutil.move(tmp_path / "cloud", tmp_path / "elsewhere")
    moved = msgspec.structs.replace(config, database=msgspec.structs.replace(config.database, url=postgres.make("moved")))
    restore(moved, tmp_path / "backup", None)
    with Tokens(moved.database_url) as tokens:
        assert tokens.holder(secret) is not None
        tokens.create("another", Role.SERVICE)  # numbered after those that were there
    with TicketService(moved.database_url, audit_folder=tmp_path / "audit") as tickets:
        assert tickets.tickets() == []
    engine = create_engine(parsed(moved.database_url))
    with closing(engine.connect()) as db:
        assert db.execute(text("SELECT count(*) FROM streams")).scalar() == 1
    engine.dispose()
