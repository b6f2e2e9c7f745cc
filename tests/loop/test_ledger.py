"""The ledger: what vehicles recorded against what the store's query returns, while everything between them is killed at random.

A tick is in an agent's ledger once it is durable on the vehicle. It must be in the store once, with its own value, in order. A tick that
the store has and the ledger lacks was durable when its agent was killed, in the moment before its line was written: at most one batch for
each kill. Beside that every batch must be in the landing log once, and no sequence of a stream may be missing.

The short form: ten vehicles, 2,000 batches, 20 kills, 6 failures of links. The long form (CANSIGHT_SOAK=1): twenty vehicles, 100,000
batches, 300 kills, 60 failures.
CANSIGHT_LEDGER_SEED repeats a run's decisions, as far as a machine's timing lets it.
"""

import os
import random
import time
from pathlib import Path

import ledger_blows
import ledger_books
import pytest
from ledger_loop import Loop

import servers

SOAK = os.environ.get("CANSIGHT_SOAK") == "1"
VEHICLES = 20 if SOAK else 10
BATCH_TICKS = 2
BATCHES, KILLS, CUTS, UNHEARD, TICKS_S = (100_000, 300, 50, 10, 10.0) if SOAK else (2_000, 20, 6, 0, 14.0)


@pytest.mark.timeout(3600 if SOAK else 300)
def test_nothing_is_lost_and_nothing_comes_twice_whoever_is_killed(
    tmp_path: Path, pki: Path, mosquitto: servers.Server, influxdb: servers.HttpServer
) -> None:
    seed = int(os.environ.get("CANSIGHT_LEDGER_SEED") or random.SystemRandom().randrange(10_000))
    began_s = time.monotonic()
    with Loop(tmp_path, pki, mosquitto, influxdb, VEHICLES, TICKS_S) as loop:
        print(f"seed {seed}; up {time.monotonic() - began_s:.0f} s")
        loop.work(BATCHES * BATCH_TICKS, ledger_blows.blows(seed, KILLS, CUTS, UNHEARD))
        print(f"struck {dict(loop.struck)}, {dict(loop.faults)}; {time.monotonic() - began_s:.0f} s")
        loop.drain()
        print(f"drained {time.monotonic() - began_s:.0f} s")
        loop.stop()
        books = ledger_books.compared(influxdb.url, loop.fleet.vehicles, loop.cloud_config)
        killed_agents = loop.struck[ledger_blows.AGENT]
        kills = loop.struck.total() - loop.struck[ledger_blows.LINK]
    print(f"{loop.sent} messages sent, {books}; {time.monotonic() - began_s:.0f} s")
    assert kills >= KILLS
    assert books.rows >= BATCHES
    assert (books.ticks.lost, books.ticks.duplicated, books.ticks.out_of_order, books.ticks.different) == (0, 0, 0, 0), seed
    assert books.ticks.unknown <= BATCH_TICKS * killed_agents, seed
    assert books.torn <= killed_agents, seed
    assert books.faults == {}, seed
    assert books.ticks.expected == books.ticks.found - books.ticks.unknown > 0
