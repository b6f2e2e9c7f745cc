"""What a bus says besides its signals: messages that fall silent, come too often, fail their checks or carry no value.

Once a second, of every message, figures beside the signals' values; each is 0 where nothing is odd:

    Message.#silence   how long it is overdue, in periods: 1 = one frame is missing. By the bus's newest frame, so a bus that falls asleep
                       leaves nobody overdue, and by when it woke. 0 of messages without a period
    Message.#repeated  frames of the tick beyond what its period gives, where nearly as many fail their counter or checksum: the same again
    Message.#excess    frames beyond what its period gives, where fewer do: somebody counts on
    Message.#counter   frames whose counter stands still or jumps, in a tick without frames too many: those make real ones jump, too
    Message.#checksum  frames whose checksum is wrong, likewise
    Message.#absent    most "no value" that a signal of it said in the tick, or frames that were too short for one

and of every bus `BUS.#unknown`: frames of the tick that the DBC does not know.

And it tells which messages stay away: their signals still have the last value, which is no evidence of anything.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dbc.clock import TICK_NS
from dbc.schema import Schema
from dbc.validity import STALE_FLOOR_MS

__all__ = ["KINDS", "SILENCE", "UNKNOWN", "NetworkWatch", "figure_of", "network_names", "network_periods", "network_units"]

SILENCE, UNKNOWN = "#silence", "#unknown"
KINDS = (SILENCE, "#repeated", "#excess", "#counter", "#checksum", "#absent")
SAME = 0.9  # of the frames too many: so many fail their check where one is said again and again; who counts on makes only real ones fail
_FIGURES = frozenset((*KINDS, UNKNOWN))
AWAKE_NS = 2 * TICK_NS  # a bus without a frame for so long has slept, and nobody was late meanwhile
AWAY_MS = 3_000.0  # a message stays away when it has not come for so long,
AWAY_PERIODS = 3.0  # for so many of its periods (intervals up to so many medians count as steady; dbc/history.py),
AWAY_GAPS = 2.0  # and for so many of the longest gap that it has had while its bus was awake: real cars' periods are wishes


def figure_of(name: str) -> tuple[str, str] | None:
    """The message, or the bus, and the kind of a figure, as `KINDS` or `UNKNOWN`; None: the name is that of a signal."""
    of, dot, kind = name.rpartition(".")
    return (of, kind) if dot and kind in _FIGURES else None


def network_names(schema: Schema) -> tuple[str, ...]:
    """Names of the figures, in the order of `NetworkWatch.tick`: message by message, then the buses."""
    messages, _ = _messages(schema)
    return (*(f"{message}.{kind}" for message in messages for kind in KINDS), *(f"{channel}.{UNKNOWN}" for channel in schema.channels))


def network_units(schema: Schema) -> tuple[str, ...]:
    """Their units."""
    return tuple("" if name.endswith(SILENCE) else "1/s" for name in network_names(schema))


def network_periods(schema: Schema) -> NDArray[np.float64]:
    """(figures,) ms, what the DBC declares of the message; NaN = nothing, and of buses."""
    messages, of = _messages(schema)
    first = np.array([int(np.argmax(of == number)) for number in range(len(messages))], np.intp)
    return np.concatenate([schema.period_ms[first].repeat(len(KINDS)), np.full(len(schema.channels), np.nan)])


class NetworkWatch:
    """The figures of one tick after the other. It keeps what the sampler does not: the frames that no DBC knows, and when a bus woke."""

    def __init__(self, schema: Schema) -> None:
        messages, of = _messages(schema)
        # Signals message by message, so that a maximum over runs is one over the signals of each message.
        self._of = of
        self._order = np.argsort(of, kind="stable")
        self._first = np.searchsorted(of[self._order], np.arange(len(messages)))
        self._channel = schema.channel[self._order[self._first]].astype(np.intp) if len(messages) else np.zeros(0, np.intp)
        self._heard_ns = np.zeros(len(schema.channels), np.int64)
        self._woke_ns = np.zeros(len(schema.channels), np.int64)
        self._late_ms, self._gap_ms = np.zeros(len(messages)), np.zeros(len(messages))  # at the tick before; the longest that ended
        self.away: NDArray[np.bool_] | None = None
        """(n,) signals whose message stays away at the newest tick; None: no message does. One without a period never does."""
        self._unknown: dict[tuple[int, int], int] = {}  # (tick, channel) -> frames
        self.figures = len(KINDS) * len(messages) + len(schema.channels)

    def unknown(self, stamp_ns: NDArray[np.int64], channel: NDArray[np.uint8], known: NDArray[np.bool_]) -> None:
        """Frames (n,) of a block, and which of them the DBC knows. channel: numbers of the schema's channels."""
        if known.all():
            return
        where = np.flatnonzero(~known & (channel < len(self._heard_ns)))
        pairs, counts = np.unique(np.stack([stamp_ns[where] // TICK_NS + 1, channel[where]]), axis=1, return_counts=True)
        for (tick, bus), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
            self._unknown[tick, bus] = self._unknown.get((tick, bus), 0) + count

    def tick(
        self,
        tick: int,
        count: NDArray[np.intp],
        invalid: NDArray[np.intp],
        wrong: tuple[NDArray[np.intp], NDArray[np.intp]],
        seen_ns: NDArray[np.int64],
        period_ms: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """(figures,) of the tick of this number.

        count: (n,) valid values of each signal in the tick. invalid: (n,) the others; wrong: of these, for their counter (n,) and
        for their checksum (n,). seen_ns: (n,) the last one of any kind, 0 = never. period_ms: (n,) NaN = none.
        """
        frames = self._of_messages(count + invalid)
        seen = self._of_messages(seen_ns)
        period = period_ms[self._order[self._first]]
        heard, before = self._heard_ns.copy(), self._heard_ns
        np.maximum.at(heard, self._channel, seen)
        woke = heard - before > AWAKE_NS
        self._woke_ns[woke] = heard[woke]
        self._heard_ns = heard
        now, woken = heard[self._channel], self._woke_ns[self._channel]
        counter, checksum = (self._of_messages(part) for part in wrong)
        with np.errstate(invalid="ignore"):
            late_ms = (now - np.maximum(seen, woken)) / 1e6
            overdue = late_ms / period - 1
            beyond = np.where(np.isnan(period), 0.0, np.maximum(frames - np.ceil(1e3 / period), 0.0))
        again = counter + checksum > SAME * beyond
        repeated, excess = np.where(again, beyond, 0.0), np.where(again, 0.0, beyond)
        of_message = np.stack(
            [
                np.maximum(np.nan_to_num(overdue, nan=0.0), 0.0),
                repeated,
                excess,
                np.where(beyond > 0, 0.0, counter),
                np.where(beyond > 0, 0.0, checksum),
                self._of_messages(invalid - wrong[0] - wrong[1]),
            ],
            axis=1,
        )
        came = (frames > 0) & (self._late_ms <= STALE_FLOOR_MS)  # what was silent for longer was no gap, and is nothing to get used to
        np.maximum(self._gap_ms, self._late_ms, out=self._gap_ms, where=came)
        self._late_ms = late_ms
        with np.errstate(invalid="ignore"):
            since_ms = (heard.max(initial=0) - np.maximum(seen, woken)) / 1e6  # by any bus: where one alone is dead, its values are old
            limit_ms = np.maximum(np.maximum(AWAY_MS, AWAY_PERIODS * period), AWAY_GAPS * self._gap_ms)
            away = (seen > 0) & (since_ms > limit_ms)
        self.away = away[self._of] if away.any() else None
        of_bus = np.zeros(len(heard))
        for at, bus in [pair for pair in self._unknown if pair[0] <= tick]:
            of_bus[bus] += self._unknown.pop((at, bus))
        return np.concatenate([of_message.ravel(), of_bus])

    def shift(self, by_ns: int) -> None:
        """The clock was set."""
        self._heard_ns += by_ns
        self._woke_ns += by_ns
        self._unknown.clear()

    def _of_messages(self, of_signals: NDArray[np.int64] | NDArray[np.intp]) -> NDArray[np.int64]:
        """(messages,) the largest of each message's signals: a multiplexed one is not in every frame, its multiplexer is."""
        return np.asarray(
            np.maximum.reduceat(of_signals[self._order], self._first) if len(self._first) else np.zeros(0, np.int64), np.int64
        )


def _messages(schema: Schema) -> tuple[list[str], NDArray[np.intp]]:
    """Names of the messages in the schema's order, and (n,) which one each signal is of."""
    numbers: dict[str, int] = {}
    of = []
    for name in schema.names:
        message, _, signal = name.rpartition(".")
        _, at, source = signal.partition("@")
        of.append(numbers.setdefault(message + at + source, len(numbers)))
    return list(numbers), np.array(of, np.intp)
