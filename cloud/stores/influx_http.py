"""Speaking to an InfluxDB server: which version it is, the write call, InfluxQL queries, and what its refusals mean."""

import base64
import contextlib
import gzip
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import msgspec

from cloud.config import InfluxConfig
from cloud.errors import CloudError
from cloud.store import StoreUnavailable
from cloud.stores.http import Answer, HttpClient, HttpError

_NAMED = re.compile(r"unable to parse '(.*?)': ", re.DOTALL)
_DROPPED = re.compile(r"\bdropped=(\d+)")
TURNED_AWAY = (401, 403)
GZIP_LEVEL = 1  # lines become a seventh for 0.13 µs a value; level 6 makes a tenth of them for 0.33 µs
_MISSING = re.compile(r"database not found|bucket .*not found", re.IGNORECASE)


class QuerySeries(msgspec.Struct):
    """One series of an answer; the first value of a row is its time, ms."""

    values: list[list[Any]] = []
    columns: list[str] = []
    tags: dict[str, str] = {}

    @property
    def rows(self) -> list[list[Any]]:
        return self.values


class _Result(msgspec.Struct):
    series: list[QuerySeries] = []
    error: str = ""


class _Answer(msgspec.Struct):
    results: list[_Result] = []
    error: str = ""


_ANSWER = msgspec.json.Decoder(_Answer)


@dataclass
class Refused(Exception):
    """The server will never take some of these lines. `dropped`: how many, where it says so."""

    reason: str
    status: int
    dropped: int | None = field(init=False)

    def __post_init__(self) -> None:
        found = _DROPPED.search(self.reason)
        # a parse error says dropped=0: it counts only points that had been read
        self.dropped = int(found[1]) if found and int(found[1]) else None

    def named(self, lines: Sequence[str]) -> list[int]:
        """Places of the lines that the refusal quotes (it cuts long ones)."""
        quoted = tuple(text for text in _NAMED.findall(self.reason) if text)
        return [place for place, line in enumerate(lines) if quoted and line.startswith(quoted)]


class InfluxServer:
    """One server. `open` reads the secrets; nothing is sent before the first write or query."""

    def __init__(self, config: InfluxConfig) -> None:
        self.url = config.url.rstrip("/")
        self._config = config
        self._headers: tuple[str, ...] = ()  # that say who asks
        self._token = ""
        self._http: HttpClient | None = None
        self._client: Any = None
        self._lock = threading.Lock()
        self.told = ""  # the version the server said, once it was asked
        self._version: str | None = None if config.version == "auto" else config.version

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def open(self) -> None:
        """Raises CloudError when a secret's file cannot be read."""
        self._read_secrets()
        self._http = HttpClient(self.url, self._config.timeout_s)

    def _read_secrets(self) -> None:
        config = self._config
        if config.token_file:
            self._token = _secret("store.influx.token_file", config.token_file)
            self._headers = (f"Authorization: Token {self._token}",)
        elif config.username:
            password = _secret("store.influx.password_file", config.password_file) if config.password_file else ""
            basic = base64.b64encode(f"{config.username}:{password}".encode()).decode()
            self._headers = (f"Authorization: Basic {basic}",)

    def _turned_away(self) -> str:
        """After a 401 or 403: what to do, if anything. The secret's file is read again, so what an operator writes there counts from the
        next try on, without a restart."""
        before = self._headers
        try:
            self._read_secrets()
        except CloudError as error:
            return f"; {error}"
        if self._headers != before:
            with self._lock:
                self._client = None  # it keeps the token it was made with
        file = self._config.token_file or self._config.password_file
        return f"; is {file} right? It is read again at each try" if file else "; store.influx names no token_file and no username"

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None
            if self._http is not None:
                self._http.close()
                self._http = None

    def version(self, *, ask: bool = False) -> str:
        """ "1" or "2" ("2" also for later ones: they take the same write call). Asked once, where the settings do not say it; `ask`: ask
        in any case, to see whether the server is there."""
        if self._version is None or ask:
            self.told = self._ping().headers.get("x-influxdb-version", "").lstrip("v")
            self._version = self._version or ("1" if self.told.startswith(("0.", "1.")) else "2")
        return self._version

    def write(self, database: str, body: bytes) -> None:
        """Write lines with times in ms. Raises Refused for lines it will never take, StoreUnavailable for anything that may pass."""
        if not body:
            return
        first = self.version() == "1"
        where = {"db": database} if first else {"org": self._config.organisation or "-", "bucket": database}
        path = f"{'/write' if first else '/api/v2/write'}?{urlencode(where | {'precision': 'ms'})}"
        encoding: tuple[str, ...] = ()
        if self._config.gzip:
            body, encoding = gzip.compress(body, GZIP_LEVEL, mtime=0), ("Content-Encoding: gzip",)
        answer = self._post(path, body, ("Content-Type: text/plain; charset=utf-8", *encoding))
        if answer.status == 404 and first:
            self._create(database)
            answer = self._post(path, body, ("Content-Type: text/plain; charset=utf-8", *encoding))
        status, reason = answer.status, _reason(answer.body)
        if status in (400, 413, 422):
            raise Refused(reason, status)
        if status >= 300:
            what = self._turned_away() if status in TURNED_AWAY else ""
            raise StoreUnavailable(f"{self.url}: writing to {database!r} answered {status}: {reason}{what}")

    def query(self, database: str, text: str) -> list[QuerySeries]:
        """All series of an InfluxQL query, times in ms. A database that is not there yet has none. Raises StoreUnavailable."""
        answer = self._post("/query", urlencode({"db": database, "epoch": "ms", "q": text}).encode())
        try:
            decoded = _ANSWER.decode(answer.body)
        except ValueError as error:  # msgspec's errors, UnicodeDecodeError
            raise StoreUnavailable(f"{self.url}/query: answered {answer.status} with what is not an InfluxQL answer: {error}") from error
        message = decoded.error or next((result.error for result in decoded.results if result.error), "")
        if _MISSING.search(message):
            return []
        if message or answer.status >= 300:
            what = self._turned_away() if answer.status in TURNED_AWAY else ""
            raise StoreUnavailable(f"{self.url}/query: answered {answer.status}: {_one_line(message)}{what}")
        return [series for result in decoded.results for series in result.series if series.values]

    def client(self) -> Any:
        """influxdb-client's own object for a 2.x server: buckets, deleting."""
        from influxdb_client.client.influxdb_client import InfluxDBClient

        with self._lock:
            if self._client is None:
                timeout = int(self._config.timeout_s * 1000)
                config = self._config
                self._client = InfluxDBClient(
                    self.url, self._token, org=config.organisation or "-", timeout=timeout, retries=False, enable_gzip=config.gzip
                )
            return self._client

    def _create(self, database: str) -> None:
        """1.x: its default retention policy, autogen, keeps everything."""
        answer = self._post("/query", urlencode({"q": f"CREATE DATABASE {identifier(database)}"}).encode())
        if answer.status >= 300:
            raise StoreUnavailable(f"{self.url}: the database {database!r} is missing and cannot be made: {_reason(answer.body)}")

    def _ping(self) -> Answer:
        with self._reached() as http:
            return http.get("/ping", self._headers)

    def _post(self, path: str, body: bytes, headers: Sequence[str] = ()) -> Answer:
        with self._reached() as http:
            return http.post(path, body, (*self._headers, *headers))

    @contextlib.contextmanager
    def _reached(self) -> Iterator[HttpClient]:
        """Raises StoreUnavailable where no answer comes."""
        assert self._http is not None, "the store is used outside its `with`"
        try:
            yield self._http
        except HttpError as error:
            raise StoreUnavailable(f"{self.url}: {error}") from error


def literal(text: str) -> str:
    """An InfluxQL string."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def identifier(text: str) -> str:
    """An InfluxQL name."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _secret(key: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CloudError(f"{path}: {key} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _reason(body: bytes) -> str:
    """`{"error": …}` (1.x) or `{"message": …}` (2.x), else the text itself."""
    try:
        decoded = msgspec.json.decode(body)
    except ValueError:
        decoded = None
    if isinstance(decoded, dict):
        return str(decoded.get("error") or decoded.get("message") or decoded).strip()
    return body.decode(errors="replace").strip()


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]
