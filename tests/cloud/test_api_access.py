"""Who may ask: tokens and their roles on every route, sessions, same origin, rate limits, TLS."""

import http.client
import itertools
import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from example_fleet import VEHICLE, serving

from cloud.api import Backend, make_app
from cloud.api.application import ROUTES, STORE_THREADS
from cloud.api.guard import api_tls_context
from cloud.api.rates import Bucket, Rate, take
from cloud.api.route import Route
from cloud.config import ApiConfig
from cloud.errors import CloudError
from cloud.roles import Role
from cloud.stores.embedded import EmbeddedStore
from cloud.tickets.service import TicketService
from cloud.tokens import SESSION_MS, Tokens
from full_disk import fill, small_disk

MANY = dict.fromkeys(Role, Rate(1e6, 1e6))


class Asker:
    """One API, asked as exactly as it is written; `cookie` is kept as a browser keeps it."""

    def __init__(self, url: str, tokens: Tokens, routes: list[Route], secrets: dict[Role, str]) -> None:
        self.url, self.tokens, self.routes, self.secrets = url, tokens, routes, secrets

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[http.client.HTTPResponse, Any]:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            said = {name.replace("_", "-"): value for name, value in headers.items()}
            if body is not None:
                said.setdefault("Content-Type", "application/json")
            connection.request(method, path, None if body is None else json.dumps(body), said)
            answer = connection.getresponse()
            text = answer.read()
            is_json = answer.headers.get("Content-Type", "").startswith("application/json")
            return answer, json.loads(text) if is_json else text
        finally:
            connection.close()

    def with_token(self, secret: str, method: str, path: str, body: Any = None) -> tuple[http.client.HTTPResponse, Any]:
        return self.ask(method, path, body, Authorization=f"Bearer {secret}")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    folder = tmp_path_factory.mktemp("access")
    database = f"sqlite:///{folder / 'cansight.db'}"
    with EmbeddedStore(folder / "store.db") as store, TicketService(database) as tickets, Tokens(database) as tokens:
        secrets = {role: tokens.create(f"a {role}", role) for role in Role if role is not Role.OWNER}
        secrets[Role.OWNER] = tokens.create("an owner", Role.OWNER, VEHICLE, 0, 1000)
        app = make_app(Backend(store, tickets, tokens), rates=MANY)
        with serving(app) as url:
            yield Asker(url, tokens, app[ROUTES], secrets)


def test_every_route_is_open_to_its_role_and_those_above_and_to_nobody_else(api: Asker) -> None:
    ladder = [Role.READ_ONLY, Role.SERVICE, Role.OPERATOR]
    for route in api.routes:
        path = route.path.format(vehicle=VEHICLE, id=7)
        status = api.ask(route.method, path)[0].status
        if route.least is None:
            assert status not in (401, 403), path
            continue
        assert status == 401, path
        if route.path in ("/api/session", "/api/events", "/metrics"):
            continue  # the session would end, the stream would not, and there are no counters here
        for role, secret in api.secrets.items():
            status = api.with_token(secret, route.method, path)[0].status
            may = route.owner if role is Role.OWNER else ladder.index(role) >= ladder.index(route.least)
            assert (status != 403) == may, (role, route.method, path, status)
            assert status not in (401, 500), path


def test_what_a_token_is_not_is_refused(api: Asker) -> None:
    good = api.secrets[Role.OPERATOR]
    for header in (f"Bearer {good}x", f"Bearer {good[:-1]}", "Bearer", "Bearer  ", f"Basic {good}", good, "Bearer \u00ff"):
        answer, body = api.ask("GET", "/api/me", Authorization=header)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer"), header
        assert good not in body["error"]
    assert api.ask("GET", f"/api/me?token={good}")[0].status == 401


def test_a_token_ends_when_it_is_revoked_and_its_name_stays_taken(api: Asker, tmp_path: Path) -> None:
    with Tokens(f"sqlite:///{tmp_path / 'tokens.db'}") as tokens:
        secret = tokens.create("Li Wei", Role.SERVICE)
        who = tokens.holder(secret)
        assert who is not None
        assert (who.name, who.role) == ("Li Wei", Role.SERVICE)
        session = tokens.begin_session(who)
        assert tokens.visitor(session) == who
        tokens.revoke("Li Wei")
        assert tokens.holder(secret) is tokens.visitor(session) is None
        for wrong in (lambda: tokens.revoke("Li Wei"), lambda: tokens.create("Li Wei", Role.SERVICE), lambda: tokens.revoke("nobody")):
            with pytest.raises(CloudError, match=r"Li Wei|nobody"):
                wrong()
    assert secret.encode() not in (tmp_path / "tokens.db").read_bytes()


def test_a_session_ends_by_itself(tmp_path: Path) -> None:
    now = [1_000]
    with Tokens(f"sqlite:///{tmp_path / 'tokens.db'}", lambda: now[0]) as tokens:
        who = tokens.holder(tokens.create("somebody", Role.OPERATOR))
        assert who is not None
        session = tokens.begin_session(who)
        now[0] += SESSION_MS - 1
        assert tokens.visitor(session) == who
        now[0] += 1
        assert tokens.visitor(session) is None


def test_a_full_disk_keeps_nobody_from_signing_in_and_out() -> None:
    with small_disk() as disk, Tokens(f"sqlite:///{disk / 'tokens.db'}") as tokens:
        who = tokens.holder(tokens.create("reader", Role.READ_ONLY))
        assert who is not None
        before = tokens.begin_session(who)
        ballast = fill(disk)
        during = tokens.begin_session(who)
        assert tokens.visitor(before) == tokens.visitor(during) == who
        tokens.end_session(before)
        tokens.end_session(during)
        assert (tokens.visitor(before), tokens.visitor(during)) == (None, None)
        kept = tokens.begin_session(who)
        ballast.unlink()
        tokens.begin_session(who)  # and what has ended is forgotten
        with Tokens(f"sqlite:///{disk / 'tokens.db'}") as others:
            assert others.visitor(before) is None
        tokens.revoke("reader")
        assert tokens.visitor(kept) is None


def test_a_session_is_a_cookie_that_scripts_and_other_sites_cannot_use(api: Asker) -> None:
    secret, port = api.secrets[Role.OPERATOR], api.url.rpartition(":")[2]
    answer, me = api.ask("POST", "/api/session", {"token": secret})
    assert (answer.status, me) == (200, {"name": "a operator", "role": "operator"})
    said = answer.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(said.split("; "))
    cookie = said.partition(";")[0]
    assert cookie.startswith(f"cansight-{port}=")
    assert secret not in cookie
    assert api.ask("GET", "/api/me", Cookie=cookie)[1] == me
    change = {"name": "mine", "query": {"handling": "new"}}
    for headers in (
        {},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "none"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"https://127.0.0.1:{port}"},
        {"Origin": "http://127.0.0.1:1"},
    ):
        assert api.ask("POST", "/api/filters", change, Cookie=cookie, **headers)[0].status == 403, headers
    for headers in ({"Sec_Fetch_Site": "same-origin"}, {"Origin": api.url}):
        assert api.ask("POST", "/api/filters", change, Cookie=cookie, **headers)[0].status == 200, headers
    # a form of another site cannot send JSON, and no body but JSON is taken
    assert api.ask("POST", "/api/filters", change, Cookie=cookie, Origin=api.url, Content_Type="text/plain")[0].status == 415
    assert api.ask("POST", "/api/session", {"token": secret}, Origin="http://evil.example")[0].status == 403
    ended, _ = api.ask("DELETE", "/api/session", Cookie=cookie, Origin=api.url)
    assert "Max-Age=0" in ended.headers["Set-Cookie"]
    assert api.ask("GET", "/api/me", Cookie=cookie)[0].status == 401
    assert api.ask("POST", "/api/session", {"token": "wrong"})[0].status == 401


def test_a_bucket_fills_steadily_and_holds_so_much() -> None:
    rate = Rate(per_s=2.0, most=4.0)
    bucket: Bucket | None = None
    waits = []
    for at_s in (0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 100.0, 100.0, 100.0, 100.0, 100.0):
        bucket, wait_s = take(bucket, rate, 1.0, at_s)
        waits.append(wait_s)
    assert waits == [0, 0, 0, 0, 0.5, 0, 0.5, 0, 0, 0, 0, 0.5]
    assert take(None, rate, 100.0, 0.0)[1] == 0  # dearer than a bucket: it takes the whole of it
    assert take(bucket, rate, 1.0, 90.0)[1] > 0  # a clock that goes back gives nothing


def test_who_asks_too_often_is_told_when_to_come_again(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'cansight.db'}"
    with EmbeddedStore(tmp_path / "store.db") as store, TicketService(database) as tickets, Tokens(database) as tokens:
        one, other = (tokens.create(name, Role.READ_ONLY) for name in ("one", "other"))
        app = make_app(Backend(store, tickets, tokens), rates=MANY | {Role.READ_ONLY: Rate(0.001, 3.0)})
        with serving(app) as url:
            api = Asker(url, tokens, app[ROUTES], {})
            answers = [api.with_token(one, "GET", "/api/me")[0] for _ in range(5)]
            assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
            assert int(answers[-1].headers["Retry-After"]) > 100
            assert api.with_token(other, "GET", "/api/me")[0].status == 200
            # a stranger guesses fifty times from one address, then not so fast
            guesses = (api.with_token(f"guess {number}", "GET", "/api/me")[0].status for number in range(1000))
            told = list(itertools.takewhile(lambda status: status != 429, guesses))
            assert set(told) == {401}
            assert 50 <= len(told) < 1000  # on a slow machine, some more come back meanwhile


class HangingStore:
    """A store that does not answer until it is told to."""

    def __init__(self) -> None:
        self.asked, self.go = threading.Semaphore(0), threading.Event()

    def newest(self, vehicle: str) -> int | None:
        self.asked.release()
        assert self.go.wait(60)
        return None


def test_a_store_that_hangs_keeps_nobody_from_the_tickets(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'cansight.db'}"
    store = HangingStore()
    with TicketService(database) as tickets, Tokens(database) as tokens:
        secret = tokens.create("somebody", Role.OPERATOR)
        app = make_app(Backend(store, tickets, tokens))  # type: ignore[arg-type]
        with serving(app) as url:
            api = Asker(url, tokens, app[ROUTES], {})
            waiting = [threading.Thread(target=api.with_token, args=[secret, "GET", f"/api/vehicles/{n}/newest"]) for n in range(40)]
            for one in waiting:
                one.start()
            for _ in range(STORE_THREADS):
                assert store.asked.acquire(timeout=60)
            assert api.with_token(secret, "GET", "/api/tickets")[0].status == 200
            store.go.set()
            for one in waiting:
                one.join()


def test_over_tls_any_host_is_served_and_the_cookie_is_secure(tmp_path: Path, pki: Path) -> None:
    certificate = {"certificate": str(pki / "broker.pem"), "key": str(pki / "broker.key")}
    context = api_tls_context(ApiConfig(host="0.0.0.0", **certificate))
    database = f"sqlite:///{tmp_path / 'cansight.db'}"
    with EmbeddedStore(tmp_path / "store.db") as store, TicketService(database) as tickets, Tokens(database) as tokens:
        secret = tokens.create("somebody", Role.OPERATOR)
        with serving(make_app(Backend(store, tickets, tokens), tls=True), context) as url:
            connection = http.client.HTTPSConnection(
                urlsplit(url).netloc, timeout=30, context=ssl.create_default_context(cafile=str(pki / "fleet-ca.pem"))
            )
            connection.request(
                "POST", "/api/session", json.dumps({"token": secret}), {"Content-Type": "application/json", "Host": "fleet.example"}
            )
            answer = connection.getresponse()
            assert answer.status == 200
            assert "Secure" in answer.headers["Set-Cookie"]
            assert answer.headers["Set-Cookie"].startswith("__Host-")
            assert "max-age" in answer.headers["Strict-Transport-Security"]
            connection.close()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"certificate": "broker.pem"}, "api.key: is missing"),
        ({"key": "broker.key"}, "api.certificate: is missing"),
        ({"certificate": "none.pem", "key": "broker.key"}, "cannot be used: No such file"),
        ({"certificate": "broker.pem", "key": "aggregator.key"}, "cannot be used: KEY_VALUES_MISMATCH"),
        ({"certificate": "broker.key", "key": "broker.key"}, "cannot be used"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_one_line(pki: Path, given: dict[str, str], words: str) -> None:
    config = ApiConfig(host="0.0.0.0", **{name: str(pki / file) for name, file in given.items()})
    with pytest.raises(CloudError) as refusal:
        api_tls_context(config)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_token_command(tmp_path: Path, pki: Path) -> None:
    import processes

    settings, _ = processes.cloud_settings(tmp_path, pki, 1, ["car.dbc"], {"kind": "embedded"})

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cansight", "cloud", "token", *arguments, "-c", str(settings)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    owner = ("create", "--role", "owner", "--name", "Wang", "--vehicle", VEHICLE, "--from", "2026-01-01", "--to", "2026-07-01T12:00+08:00")
    secret = run(*owner).stdout.strip()
    listed = json.loads(run("list", "--json").stdout)[-1]
    assert listed == {
        "name": "Wang",
        "role": "owner",
        "vehicle": VEHICLE,
        "from_ms": 1_767_225_600_000,
        "to_ms": 1_782_878_400_000,
        "created_ms": listed["created_ms"],
        "revoked_ms": None,
    }
    with Tokens(f"sqlite:///{tmp_path / 'cloud' / 'cansight.db'}") as tokens:
        who = tokens.holder(secret)
    assert msgspec.to_builtins(who)["name"] == "Wang"
    for arguments, words in (
        (owner, "token 'Wang': there is, or was, a token of this name"),
        (("create", "--role", "owner", "--name", "Zhao"), "an owner's token needs both"),
        ((*owner[:4], "Zhao", *owner[5:8], "yesterday"), "--from: expected a time such as 2026-11-23"),
        (("create", "--role", "service", "--name", "Zhao", "--to", "2026-01-01"), "name its beginning"),
        (("revoke", "nobody"), "token 'nobody': there is no such token"),
    ):
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
    assert run("revoke", "Wang").stdout == "revoked Wang\n"
    assert "2026-01-01 00:00" in run("list").stdout
