"""The API's tokens and the page's sessions, in the aggregator's database.

A token is 256 random bits; the table holds its SHA-256 (a digest that need not be slow: nobody guesses 256 bits). A session stands for its
token in a browser's cookie, with an end, and dies with the token. While the database is away, who was known within OUTAGE_MS still is:
else nobody could look at a cloud whose database is away. A session that the database has no room for is this process's alone, and one
that it could not be made to forget is over in this process and deleted with the next write: people sign in to see what is wrong, and out,
while the disk is full. All calls block; they may come from several threads and processes.
"""

import hashlib
import logging
import secrets
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Select,
    String,
    Table,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from cloud.errors import CloudError
from cloud.roles import Principal, Role
from cloud.tables import TABLES_AWAY, Tables, one_line

__all__ = ["SESSION_MS", "Token", "Tokens"]

SECRET_BYTES = 32
OUTAGE_MS = 15 * 60_000
MOST_KNOWN = 10_000
PREFIX = "cansight_"  # so that a scanner of leaked secrets can tell what it found
SESSION_MS = 7 * 24 * 3_600_000

log = logging.getLogger(__name__)

META = MetaData()
TOKENS = Table(
    "api_tokens",
    META,
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("role", String, nullable=False),
    Column("vehicle", String),
    Column("from_ms", BigInteger),
    Column("to_ms", BigInteger),
    Column("created_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
)
SESSIONS = Table(
    "api_sessions",
    META,
    Column("digest", LargeBinary, primary_key=True),
    Column("token_id", Integer, ForeignKey("api_tokens.id"), nullable=False, index=True),
    Column("ends_ms", BigInteger, nullable=False, index=True),
)


class Token(msgspec.Struct, frozen=True):
    """A token as it is listed; its secret is nowhere."""

    name: str
    role: Role
    vehicle: str | None
    from_ms: int | None
    to_ms: int | None
    created_ms: int
    revoked_ms: int | None


class Tokens:
    """`with Tokens(database_url) as tokens`. `now_ms` is the wall clock."""

    def __init__(self, database_url: str, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._tables = Tables(database_url, "the tokens")
        self._now_ms = now_ms
        self._known: dict[tuple[str, bytes], tuple[int, Principal]] = {}  # when each was found good
        self._unwritten: dict[bytes, tuple[int, int]] = {}  # sessions of this process alone: digest -> (token, end)
        self._over: set[bytes] = set()  # sessions that have ended and may still be in the database

    def __enter__(self) -> Self:
        """Open the database. Raises TablesUnusable."""
        self._tables.open(make_folder=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._tables.close()

    # tokens

    def create(self, name: str, role: Role, vehicle: str | None = None, from_ms: int | None = None, to_ms: int | None = None) -> str:
        """A new token's secret, which is not kept. Raises CloudError where the name is taken or vehicle and period do not fit the role."""
        if (role is Role.OWNER) != (vehicle is not None and from_ms is not None):
            raise CloudError("an owner's token needs a vehicle and the period's beginning, and no other token has them")
        if from_ms is not None and to_ms is not None and to_ms <= from_ms:
            raise CloudError(f"the period's end: expected a time after its beginning ({from_ms}), found {to_ms}")
        secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        row = {"name": name, "digest": _digest(secret), "role": role.value, "vehicle": vehicle, "from_ms": from_ms, "to_ms": to_ms}
        try:
            with self._tables.writing() as db:
                db.execute(insert(TOKENS).values(row | {"created_ms": self._now_ms()}))
        except IntegrityError:
            # a revoked one's too: the name stands in tickets' histories
            raise CloudError(f"token {name!r}: there is, or was, a token of this name; choose another") from None
        return secret

    def all(self) -> list[Token]:
        """Every token, the revoked ones too, in the order of their making."""
        with self._tables.reading() as db:
            rows = db.execute(select(TOKENS).order_by(TOKENS.c.id)).all()
        return [Token(row.name, Role(row.role), row.vehicle, row.from_ms, row.to_ms, row.created_ms, row.revoked_ms) for row in rows]

    def revoke(self, name: str) -> None:
        """End a token and its sessions. Raises CloudError where there is none of this name, or it was revoked before."""
        mine = select(TOKENS.c.id).where(TOKENS.c.name == name).scalar_subquery()
        with self._tables.writing() as db:
            change = update(TOKENS).where(TOKENS.c.name == name, TOKENS.c.revoked_ms.is_(None))
            if not db.execute(change.values(revoked_ms=self._now_ms())).rowcount:
                raise CloudError(f"token {name!r}: there is no such token, or it is revoked already")
            db.execute(delete(SESSIONS).where(SESSIONS.c.token_id == mine))

    def holder(self, secret: str) -> Principal | None:
        """Who holds this token; None where it is none, or revoked."""
        query = select(TOKENS).where(TOKENS.c.digest == _digest(secret), TOKENS.c.revoked_ms.is_(None))
        return self._found("token", secret, query)

    # sessions

    def begin_session(self, who: Principal) -> str:
        """A secret that stands for the token until SESSION_MS from now. Sessions that have ended are forgotten on the way."""
        secret, now_ms = secrets.token_urlsafe(SECRET_BYTES), self._now_ms()
        digest, ends_ms, over = _digest(secret), now_ms + SESSION_MS, set(self._over)
        try:
            with self._tables.writing() as db:
                db.execute(delete(SESSIONS).where((SESSIONS.c.ends_ms <= now_ms) | SESSIONS.c.digest.in_(over)))
                db.execute(insert(SESSIONS).values(digest=digest, token_id=who.token, ends_ms=ends_ms))
        except TABLES_AWAY as error:
            if len(self._unwritten) >= MOST_KNOWN:
                self._unwritten.clear()
            self._unwritten[digest] = who.token, ends_ms
            self._known["session", digest] = now_ms, who  # where it cannot be read either
            log.warning("a session is kept in memory alone, until this process ends: %s", one_line(error))
        else:
            self._over -= over
        return secret

    def visitor(self, session: str) -> Principal | None:
        """Whose session this is; None where it has ended, or its token has."""
        digest, now_ms = _digest(session), self._now_ms()
        token, ends_ms = self._unwritten.get(digest, (None, now_ms))
        if digest in self._over or (token is not None and ends_ms <= now_ms):
            return None
        query = select(TOKENS).where(TOKENS.c.revoked_ms.is_(None))
        if token is not None:
            query = query.where(TOKENS.c.id == token)
        else:
            query = query.join(SESSIONS, SESSIONS.c.token_id == TOKENS.c.id)
            query = query.where(SESSIONS.c.digest == digest, SESSIONS.c.ends_ms > now_ms)
        return self._found("session", session, query)

    def end_session(self, session: str) -> None:
        digest = _digest(session)
        self._known.pop(("session", digest), None)
        if self._unwritten.pop(digest, None) is not None:
            return
        try:
            with self._tables.writing() as db:
                db.execute(delete(SESSIONS).where(SESSIONS.c.digest == digest))
        except TABLES_AWAY as error:
            if len(self._over) >= MOST_KNOWN:
                raise
            self._over.add(digest)
            log.warning("a session that has ended is still in the database, until something can be written: %s", one_line(error))

    def _found(self, kind: str, secret: str, query: Select[Any]) -> Principal | None:
        key, now_ms = (kind, _digest(secret)), self._now_ms()
        try:
            with self._tables.reading() as db:
                who = _principal(db.execute(query).one_or_none())
        except TABLES_AWAY:
            at_ms, known = self._known.get(key, (0, None))
            if known is None or now_ms - at_ms > OUTAGE_MS:
                raise
            return known
        self._known.pop(key, None)
        if who is not None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key] = (now_ms, who)
        return who


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _principal(row: Row[*tuple[Any, ...]] | None) -> Principal | None:
    if row is None:
        return None
    return Principal(row.id, row.name, Role(row.role), row.vehicle, row.from_ms, row.to_ms)
