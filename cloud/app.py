"""The cloud in one process: inlet -> aggregator -> landing log -> receipts, and from the landing log to each sink; the API beside it.

Threads: the inlet's (the socket), the aggregator's (verify, open, fdatasync), one for each sink, and the API's pool. The event
loop only passes things between them and never blocks.
"""

import asyncio
import contextlib
import logging
import signal
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from aiohttp import web

from cloud.aggregator import Aggregator, Arrival
from cloud.api import MAX_LINE_BYTES, Backend, make_app
from cloud.api.guard import api_tls_context
from cloud.check import aggregators_certificate
from cloud.config import CloudConfig
from cloud.database import Database
from cloud.delays import Delays
from cloud.errors import CloudError
from cloud.housekeeping import Housekeeping
from cloud.inlet import Inlet, tls_context
from cloud.lake.folders import Folders
from cloud.lake.keeper import look_after
from cloud.landing import Landing
from cloud.pki_files import load_certificates
from cloud.quality.sink import QualitySink
from cloud.quality.tables import QualityTables
from cloud.quality.telling import fleet_now
from cloud.quarantine import Quarantine, Source
from cloud.refused import Refused
from cloud.replays import AT_START, Outcome, chunks, drop, missing
from cloud.replica_names import share_group
from cloud.revocation import Revocations
from cloud.runner import Runner, paced_s
from cloud.sinks import HealthSink, SeldomSink, Sink, StoreSink, TicketSink
from cloud.store import Store, StoreUnavailable
from cloud.stores import make_store
from cloud.streams import Streams
from cloud.tables import TABLES_AWAY, one_line
from cloud.tickets.service import TicketService
from cloud.tickets.settings import load_policy
from cloud.tickets.watch import Heard
from cloud.tickets.worker import run_tickets
from cloud.tokens import Tokens
from cloud.vehicle_models import VehicleModel, by_schema, load_models
from cloud.windows import Downsampling, StaleWindows
from wire.errors import SegmentLogError
from wire.recipients import RecipientKey, load_recipient_keys

GROUP = 512  # messages in one write of the landing log
PACE_S = 0.045  # between two writes that are not full: each is an fdatasync, receipts and five threads' waking, whatever is in it
QUALITY_S = 60.0  # how often the metrics are told of the fleet's data quality
REPLAY_PAUSE_S = 60.0
SELDOM_S = 120.0  # how long the lake keeps what it has taken in memory; after a kill it is taken again
BEAT_S = 1.0
ASLEEP = ("bus_asleep", "stopping")  # what a vehicle says before it is silent on purpose
DOWNSAMPLE_S = 10.0
ASKED_S = 1.0  # how often the tables are asked whether somebody wants a replay
DISK_PAUSE_S = 1.0
DATABASE_S = 2.0
ELSEWHERE_S = 15.0
GOODBYE_S = 5.0
DRAIN_S = 10.0  # for the sinks to take what has landed; a long backlog waits in the landing log for the next start

log = logging.getLogger(__name__)


class Cloud:
    """`await Cloud(config).run()` until SIGTERM or SIGINT (or `stop`); what has landed by then is given to the sinks that are there."""

    def __init__(self, config: CloudConfig) -> None:
        self.config = config
        self.url = ""
        self._stop = asyncio.Event()
        self._queue: deque[Arrival] = deque()
        self._arrived = asyncio.Event()
        self._runners: list[Runner] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="aggregator")
        self._downsampler = ThreadPoolExecutor(1, thread_name_prefix="downsampler")
        self._windows: StaleWindows | None = None
        self._delays = Delays()
        self._lake: dict[str, Any] = {"fresh_files": 0, "error": "", "compacted_s": None}
        self._fleet: dict[str, float | None] = {}
        self._elsewhere_ms: dict[str, int] = {}
        self._said_full = False
        self._landing_error = self._database_error = ""

    def stop(self) -> None:
        self._stop.set()

    async def run(self, ready: Callable[[str], None] = lambda url: None, alive: Callable[[], None] = lambda: None) -> None:
        """`ready` is called with the page's URL once everything stands, `alive` once a second from then on.

        Raises CloudError, DbcError, WireError for what cannot be used.
        """
        parts = Parts(self.config)
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.stop)
                stack.callback(loop.remove_signal_handler, number)
            state = Path(self.config.state)
            database = stack.enter_context(Database(self.config.database_url, self.config.broker.replica))
            streams = Streams(database, parts.recipient_keys, parts.fleet_cas, by_schema(parts.models))
            self._landing = stack.enter_context(Landing(state / "landing", streams))
            self._quarantine = quarantine = stack.enter_context(Quarantine(state / "quarantine"))
            store = stack.enter_context(make_store(self.config, parts.models))
            catalogues = {name: model.catalogue for name, model in parts.models.items()}
            queue = TicketService(self.config.database_url, catalogues, policy=parts.ticket_policy, audit_folder=state / "audit")
            tickets = stack.enter_context(queue)
            refused = stack.enter_context(Refused(state / "refused"))
            self._revocations = parts.revocations
            self._aggregator = Aggregator(database, streams, self._landing, quarantine, parts.revocations, refused)
            self._database = database
            self._tickets = tickets
            stack.callback(self._thread.shutdown)
            await loop.run_in_executor(self._thread, self._aggregator.open)
            group = share_group(parts.recipient_keys)
            self._inlet = Inlet(self.config.broker, lambda arrival: self._deliver(loop, arrival), group)
            tokens = stack.enter_context(Tokens(self.config.database_url))
            self._quality = stack.enter_context(QualityTables(self.config.database_url))
            await self._serve(stack, store, tickets, tokens, parts)
            if isinstance(store, Downsampling) and self.config.store.influx.downsample:
                self._windows = StaleWindows(database, store, _now_ms)
            stack.callback(self._downsampler.shutdown, cancel_futures=True)
            sinks = (StoreSink(store, self._windows, self._delays), TicketSink(tickets), HealthSink(database), self._seldom(parts))
            self._runners = [Runner(sink, self._landing, quarantine, database) for sink in sinks]
            self._house = Housekeeping(self.config, self._aggregator, self._landing, quarantine, database, self._quality, self._runners)
            self._inlet.start()
            ready(self.url)
            beat = asyncio.create_task(_beat(alive), name="heartbeat")
            stack.callback(beat.cancel)
            await self._work()

    def _seldom(self, parts: "Parts") -> Sink:
        """The sinks that keep what they are given for a minute or two."""
        catalogues = {name: model.catalogue for name, model in parts.models.items()}
        quality = QualitySink(self._quality, catalogues)
        if not self.config.lake.enabled:
            return SeldomSink("quality", [quality], SELDOM_S)
        from cloud.lake.sink import LakeSink

        # the lake last: what it is given twice it writes twice
        return SeldomSink("lake", [quality, LakeSink(self.config.lake_folder, catalogues)], SELDOM_S)

    async def _work(self) -> None:
        """Run the tasks; when one fails, or at `stop`, drain and end all."""
        sinks = [asyncio.create_task(runner.run(), name=f"sink {runner.sink.name}") for runner in self._runners]
        work = {"aggregator": self._aggregate(), "housekeeping": self._house.run(self._thread), "replays": self._replay_what_can_be()}
        work["database"] = self._watch_database()
        work["tickets"] = run_tickets(self._tickets, self._vehicles_heard, _now_ms)
        work["quality"] = self._tell_quality()
        if self.config.broker.replica:
            work["elsewhere"] = self._hear_of_others()
        if self.config.lake.enabled:
            work["lake"] = look_after(Folders(self.config.lake_folder), self.config.lake.keep, self._lake)
        if self._windows is not None:
            work["downsampling"] = self._downsample(self._windows)
        others = [asyncio.create_task(task, name=name) for name, task in work.items()]
        stop = asyncio.create_task(self._stop.wait(), name="stop")
        await asyncio.wait([stop, *sinks, *others], return_when=asyncio.FIRST_COMPLETED)
        # the aggregator ends its group and its receipts go out before the connection does
        for task in (*others, stop):
            task.cancel()
        await asyncio.gather(*others, stop, return_exceptions=True)
        await asyncio.to_thread(self._inlet.stop, GOODBYE_S)
        for runner in self._runners:
            runner.stop()
        _, unfinished = await asyncio.wait(sinks, timeout=DRAIN_S)
        if unfinished:
            for runner in self._runners:
                runner.halt()
            await asyncio.wait(unfinished)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._house.save, _now_ms())
        for task in (*sinks, *others):
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def _deliver(self, loop: asyncio.AbstractEventLoop, arrival: Arrival) -> None:
        """In the inlet's thread. What waits here is bounded by what the inlet lets be unacknowledged."""
        self._queue.append(arrival)
        if len(self._queue) > 1:
            return  # whoever empties it looks again before it waits
        with contextlib.suppress(RuntimeError):  # the loop has ended: nothing is acknowledged, so it comes again
            loop.call_soon_threadsafe(self._arrived.set)

    async def _aggregate(self) -> None:
        loop = asyncio.get_running_loop()
        landed_s, last = 0.0, 0
        while True:
            while not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
            pause_s = landed_s + paced_s(PACE_S, last) - loop.time()  # what comes after a silence waits for nothing
            if pause_s > 0 and len(self._queue) < GROUP and not self._stop.is_set():
                await asyncio.sleep(pause_s)
            landed_s = loop.time()
            group = [self._queue.popleft() for _ in range(min(GROUP, len(self._queue)))]
            last = len(group)
            # shielded: a group that is being written is also answered
            await asyncio.shield(asyncio.ensure_future(self._land(group)))

    async def _land(self, group: list[Arrival]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                answers = await loop.run_in_executor(self._thread, self._aggregator.take, group)
                break
            except TABLES_AWAY as error:  # what is known to us lands without them; who watches them says how they are
                log.info("what is new to the tables waits for them (%s)", one_line(error))
            except (SegmentLogError, OSError) as error:
                if isinstance(error, SegmentLogError) and error.cause_errno is None:
                    raise  # only opening the log again helps
                if not self._landing_error:
                    log.error("nothing can be landed (%s); vehicles keep what they have, trying again", one_line(error))
                self._landing_error = one_line(error)
                if self._stop.is_set():
                    return
                await asyncio.sleep(DISK_PAUSE_S)
            except Exception as error:  # noqa: BLE001 - one message must not stop the rest
                if len(group) > 1:
                    for arrival in group:
                        await self._land([arrival])
                    return
                await loop.run_in_executor(self._thread, self._aggregator.leave_out, group[0], error)
                self._inlet.acknowledge(group)
                return
        if self._landing_error:
            self._landing_error = ""
            log.warning("landing again")
        self._inlet.acknowledge(group)
        self._inlet.publish(answers)
        self._landing.let_go(min(runner.position for runner in self._runners))
        for runner in self._runners:
            runner.wake()

    async def _replay_what_can_be(self) -> None:
        """What waits for a key, a DBC or a later program is tried once at the start; after that, what somebody asks for."""
        loop = asyncio.get_running_loop()
        at_start = True
        while True:
            try:
                if at_start:
                    outcome = await self._replay((), AT_START)
                    at_start = False
                    if outcome.released or outcome.still:
                        still = "; ".join(f"{number}: {why}" for why, number in outcome.still.most_common(3)) or "none"
                        log.info("quarantine: %d messages replayed; still there: %s", outcome.released, still)
                await loop.run_in_executor(self._thread, self._revocations.refresh)
                for number, positions, dropped in await asyncio.to_thread(self._database.asked_replays):
                    outcome = await (self._drop(positions) if dropped else self._replay(positions, frozenset(Source)))
                    await asyncio.to_thread(self._database.answer_replay, number, outcome.as_dict())
            except (SegmentLogError, OSError, *TABLES_AWAY) as error:
                log.warning("the quarantine cannot be replayed (%s); trying again", error)
                await asyncio.sleep(REPLAY_PAUSE_S)
            await asyncio.sleep(ASKED_S)

    async def _replay(self, positions: Sequence[int], sources: Collection[Source]) -> Outcome:
        """In the aggregator's thread, a few messages at a time, so that what arrives meanwhile does not wait."""
        loop = asyncio.get_running_loop()
        outcome = Outcome(missing=await loop.run_in_executor(self._thread, missing, self._quarantine, positions))
        groups = chunks(self._quarantine, positions, sources)
        while group := await loop.run_in_executor(self._thread, lambda: next(groups, None)):
            done = await loop.run_in_executor(self._thread, self._aggregator.replay, group)
            outcome.add(done)
            self._inlet.publish(done.answers)
            for runner in self._runners:
                runner.wake()
        return outcome

    async def _drop(self, positions: Sequence[int]) -> Outcome:
        """In the aggregator's thread, as `_replay`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, drop, self._aggregator, self._quarantine, positions)

    async def _downsample(self, windows: StaleWindows) -> None:
        """Minutes and hours of what has become quiet, one at a time, so that the end does not wait for long."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                made = await loop.run_in_executor(self._downsampler, windows.work, 1)
            except (StoreUnavailable, *TABLES_AWAY) as error:
                log.warning("minutes and hours cannot be made (%s); trying again", error)
                made = 0
            if not made:
                await asyncio.sleep(DOWNSAMPLE_S)

    async def _tell_quality(self) -> None:
        """The fleet's data quality of today, for the metrics."""
        while True:
            with contextlib.suppress(*TABLES_AWAY):  # the watch says so
                self._fleet = await asyncio.to_thread(fleet_now, self._quality, _now_ms())
            await asyncio.sleep(QUALITY_S)

    async def _watch_database(self) -> None:
        """Whether the tables answer, for the page and the metrics: what needs them tries again by itself."""
        while True:
            try:
                await asyncio.to_thread(self._database.ping)
                if self._database_error:
                    log.warning("the database is back")
                self._database_error = ""
            except TABLES_AWAY as error:
                if not self._database_error:
                    log.error(
                        "the database is away (%s); streams that are known land, what is new and the sinks wait for it", one_line(error)
                    )
                self._database_error = one_line(error)
            self._aggregator.tables_away = bool(self._database_error)
            await asyncio.sleep(DATABASE_S)

    async def _hear_of_others(self) -> None:
        """When vehicles were heard by other replicas: of what one says once a minute this one may be told nothing for a while."""
        while True:
            with contextlib.suppress(*TABLES_AWAY):  # the watch says so
                heard = await asyncio.to_thread(self._database.all_heard)
                self._elsewhere_ms = {vehicle: at_ms for vehicle, (at_ms, _) in heard.items()}
            await asyncio.sleep(ELSEWHERE_S)

    def _online(self) -> dict[str, int]:
        """When each vehicle was heard last, here or, not much later, elsewhere."""
        online = self._aggregator.heard_ms.copy()
        for vehicle, at_ms in self._elsewhere_ms.items():
            if at_ms > online.get(vehicle, 0):
                online[vehicle] = at_ms
        return online

    def _vehicles_heard(self) -> dict[str, Heard]:
        """When each vehicle was heard last, here or by another replica, and whether it said that it goes to sleep. Blocks."""
        heard = {vehicle: Heard(at_ms, state in ASLEEP) for vehicle, (at_ms, state) in self._database.all_heard().items()}
        for vehicle, at_ms in self._aggregator.heard_ms.copy().items():
            known = heard.get(vehicle)
            heard[vehicle] = Heard(max(at_ms, known.at_ms if known is not None else 0), known is not None and known.asleep)
        return heard

    async def _serve(self, stack: AsyncExitStack, store: Store, tickets: TicketService, tokens: Tokens, parts: "Parts") -> None:
        described = {name: (model.schema, model.catalogue) for name, model in parts.models.items()}
        backend = Backend(
            store, tickets, tokens, self.stats, described, self._database.heard, self._quarantine, self._database, self._quality
        )
        server = web.AppRunner(make_app(backend, parts.api_tls is not None), access_log=None, max_line_size=MAX_LINE_BYTES)
        await server.setup()
        stack.push_async_callback(server.cleanup)
        host, port = self.config.api.host, self.config.api.port
        try:
            await web.TCPSite(server, host, port, ssl_context=parts.api_tls).start()
        except OSError as error:
            raise CloudError(f"api {host}:{port}: cannot listen: {error.strerror or error}; choose another api.port") from error
        bound = server.addresses[0]
        scheme = "http" if parts.api_tls is None else "https"
        self.url = f"{scheme}://{f'[{bound[0]}]' if ':' in bound[0] else bound[0]}:{bound[1]}"

    def stats(self) -> dict[str, Any]:
        """Counters since the start, for /api/stats; from any thread. Does not block."""
        counts = self._aggregator.counts
        online_ms = self._online()
        return {
            "landed": counts.landed,
            "duplicates": counts.duplicates,
            "quarantined": counts.quarantined,
            "refused": counts.refused,
            "receipts": counts.receipts,
            "requests": counts.requests,
            "vehicles": len(self._aggregator.heard_ms),
            "findings": counts.findings,
            "replayed": counts.replayed,
            "unknown": counts.unknown,
            "revoked": len(self._revocations),
            "held": self._quarantine.held,
            "connected": self._inlet.connected,
            "waiting": len(self._queue),
            "refusals": dict(counts.refusals),
            "landing_gaps": self._landing.gaps,
            "landing_error": self._landing_error,
            "database_error": self._database_error,
            "replica": self.config.broker.replica,
            "delays": self._delays.summary(_now_ms()),
            "within": self._delays.within(),
            "lake": dict(self._lake),
            "quality": self._fleet,
            "windows_made": self._windows.done if self._windows is not None else 0,
            "online_ms": online_ms,
            "gone_ms": {one: ms for one, ms in self._inlet.gone_ms.copy().items() if ms > online_ms.get(one, 0)},
            "sinks": {
                runner.sink.name: {
                    "position": runner.position,
                    "behind": runner.behind,
                    "error": runner.error,
                    "unreadable": runner.unreadable,
                }
                for runner in self._runners
            },
        }


class Parts:
    """What the settings name, read and checked before anything is opened."""

    def __init__(self, config: CloudConfig) -> None:
        self.api_tls = api_tls_context(config.api)
        tls_context(config.broker)
        aggregators_certificate(config.broker)
        self.fleet_cas = tuple(load_certificates(Path(config.fleet_ca)))
        self.revocations = Revocations(config.revocation_file, self.fleet_cas)
        self.revocations.load()
        self.ticket_policy = load_policy(Path(config.tickets) if config.tickets else None)
        self.recipient_keys: dict[bytes, RecipientKey] = load_recipient_keys(config.recipient_keys)
        cache = Path(config.state) / "cache"
        self.models: dict[str, VehicleModel] = load_models(config.vehicle_model, cache)


async def _beat(alive: Callable[[], None]) -> None:
    while True:
        alive()
        await asyncio.sleep(BEAT_S)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
