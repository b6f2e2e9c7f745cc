"""What is asked of an InfluxDB beside writing and reading: which databases there are, making one, its retention, deleting a vehicle.

1.x by InfluxQL; 2.x by its buckets and its delete call, through influxdb-client. InfluxDB 3 Core can neither delete by a tag nor change a
retention: it says so itself, and the refusal is passed on.
"""

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Protocol

import urllib3

from cloud.errors import CloudError
from cloud.store import StoreUnavailable
from cloud.stores.influx_http import InfluxServer, identifier, literal

__all__ = ["Admin", "admin"]

MEASUREMENTS = ("signals", "quality", "findings", "gaps")
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


class Admin(Protocol):
    """The databases of one server."""

    def databases(self) -> dict[str, int]:
        """Name -> how long it keeps a point, seconds, 0 = for ever. Raises StoreUnavailable."""

    def create(self, name: str, keep_s: int) -> None: ...

    def retain(self, name: str, keep_s: int) -> None: ...

    def delete(self, name: str, vehicle: str, from_ms: int, to_ms: int) -> None:
        """Every point of a vehicle with from_ms <= time < to_ms. Raises CloudError where the server cannot."""


def admin(server: InfluxServer) -> Admin:
    """That of the server's version."""
    return _One(server) if server.version() == "1" else _Two(server)


class _One:
    def __init__(self, server: InfluxServer) -> None:
        self._server = server

    def databases(self) -> dict[str, int]:
        names = [row[0] for series in self._server.query("", "SHOW DATABASES") for row in series.rows if row[0] != "_internal"]
        found: dict[str, int] = {}
        for name in names:
            for series in self._server.query(name, f"SHOW RETENTION POLICIES ON {identifier(name)}"):
                columns = {column: place for place, column in enumerate(series.columns)}
                default = next(row for row in series.rows if row[columns["default"]])
                found[name] = _seconds(default[columns["duration"]])
        return found

    def create(self, name: str, keep_s: int) -> None:
        self._server.query(name, f"CREATE DATABASE {identifier(name)}")
        self.retain(name, keep_s)

    def retain(self, name: str, keep_s: int) -> None:
        """The server's default policy is `autogen`, unless somebody has made another the default."""
        policies = self._server.query(name, f"SHOW RETENTION POLICIES ON {identifier(name)}")
        default = next(row[0] for series in policies for row in series.rows if row[series.columns.index("default")])
        keep = f"{keep_s}s" if keep_s else "INF"
        # a shard is dropped as a whole: a day's is little beside the retention, a week's is cheaper where nothing is dropped
        shard = "1d" if 0 < keep_s <= 180 * 86_400 else "7d"
        self._server.query(
            name, f"ALTER RETENTION POLICY {identifier(default)} ON {identifier(name)} DURATION {keep} SHARD DURATION {shard}"
        )

    def delete(self, name: str, vehicle: str, from_ms: int, to_ms: int) -> None:
        when = f"time >= {from_ms * 1_000_000} AND time < {to_ms * 1_000_000}"
        for measurement in MEASUREMENTS:
            self._server.query(name, f"DELETE FROM {identifier(measurement)} WHERE vehicle = {literal(vehicle)} AND {when}")


class _Two:
    def __init__(self, server: InfluxServer) -> None:
        self._server = server

    def databases(self) -> dict[str, int]:
        with self._refusals():
            return {bucket.name: _rule_s(bucket) for bucket in self._server.client().buckets_api().find_buckets_iter()}

    def create(self, name: str, keep_s: int) -> None:
        with self._refusals():
            self._server.client().buckets_api().create_bucket(bucket_name=name, retention_rules=_rules(keep_s))

    def retain(self, name: str, keep_s: int) -> None:
        with self._refusals():
            buckets = self._server.client().buckets_api()
            bucket = buckets.find_bucket_by_name(name)
            bucket.retention_rules = _rules(keep_s)
            buckets.update_bucket(bucket=bucket)

    def delete(self, name: str, vehicle: str, from_ms: int, to_ms: int) -> None:
        def time(ms: int) -> datetime:
            return datetime.fromtimestamp(ms / 1000, UTC)

        quoted = vehicle.replace("\\", "\\\\").replace('"', '\\"')
        with self._refusals():
            self._server.client().delete_api().delete(time(from_ms), time(to_ms), f'vehicle="{quoted}"', bucket=name)

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        from influxdb_client.rest import ApiException

        try:
            yield
        except ApiException as error:
            reason = " ".join(str(error.body or error.reason).split())[:300]
            if error.status in (404, 405, 501):
                raise CloudError(f"{self._server.url}: InfluxDB {self._server.told or '2'} does not offer this: {reason}") from error
            if error.status in (401, 403):
                raise CloudError(f"{self._server.url}: the token may not do this (store.influx.token_file): {reason}") from error
            raise StoreUnavailable(f"{self._server.url}: answered {error.status}: {reason}") from error
        except urllib3.exceptions.HTTPError as error:
            raise StoreUnavailable(f"{self._server.url}: {' '.join(str(error).split())[:300]}") from error


def _seconds(duration: str) -> int:
    """Go's way of writing one: 2160h0m0s."""
    found = _DURATION.fullmatch(duration)
    if found is None:
        raise StoreUnavailable(f"expected a duration like 2160h0m0s, found {duration[:40]!r}")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


def _rules(keep_s: int) -> list[Any]:
    from influxdb_client.domain.bucket_retention_rules import BucketRetentionRules

    return [BucketRetentionRules(type="expire", every_seconds=keep_s)]


def _rule_s(bucket: Any) -> int:
    return max((rule.every_seconds for rule in bucket.retention_rules or []), default=0)
