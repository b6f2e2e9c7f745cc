"""The step between frames and decoder for buses whose messages are more than one frame, or are not matched by their identifier.

    FrameBlock ──▶ Reassembler ──▶ FrameBlock ──▶ Decoder
                   J1939: the identifier becomes the one that the plan has for the parameter group
                   J1939 transport, NMEA 2000 fast packet, ISO-TP: the frame that completes a message carries the whole payload

Which identifier means what is found out once for each identifier, and kept as arrays: an ordinary frame costs a table look-up. Only the
frames of multi-frame messages that the DBC wants are looked at one by one.

What identifies the vehicle (OBD 09 02, DID F190, J1939's group FEEC) is never put together, whatever the DBC says.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbc.frames import EFF_FLAG, ERR_FLAG, RTR_FLAG, FrameBlock
from dbc.plan import ANY_SOURCE, NOT_PGN, CompiledDbc
from dbc.protocols.fast_packet import FastPackets, is_fast_packet
from dbc.protocols.isotp import IsoTp
from dbc.protocols.j1939 import NULL_ADDRESS, TRANSPORT_FORMATS, VIN_PGN, Transport, pgn_of, pgns_of
from dbc.protocols.obd2 import MODE_01_ANSWER, PID_BYTES, split
from dbc.protocols.transfers import Counts
from dbc.protocols.uds import Answers, answers, is_identity

__all__ = ["HIDDEN", "Reassembler"]

HIDDEN = ERR_FLAG | RTR_FLAG  # set in the identifier of a frame that is not a message by itself: no DBC has such an identifier
MAX_ROUTES = 16_384  # identifiers kept; a hostile bus has 2^29. Beyond, they are found out anew
MOST_PASSING = 4096  # beyond so many only those that are for us are kept

CHANNEL_AT = 32  # keys are channel << 32 | identifier, as the plan's


class _Route(IntEnum):
    PASS = 0  # not for us: the identifier itself decides
    RENAME = 1  # a J1939 group in one frame
    TRANSPORT = 2  # a frame of J1939's transport protocols
    FAST = 3  # a frame of a fast packet
    ISOTP = 4
    ISOTP_EXTENDED = 5


@dataclass(frozen=True, slots=True)
class _Group:
    """A message of the plan that is matched by its parameter group."""

    identifier: int  # under which the plan decodes it, with EFF_FLAG
    source: int  # ANY_SOURCE = the first one seen
    fast: bool


class Reassembler:
    """`feed` every block in order. A DBC that needs nothing of this gets its blocks back as they are (`needed` is False)."""

    def __init__(self, compiled: CompiledDbc) -> None:
        plan = compiled.plan
        self._channels = compiled.schema.channels
        self._answers: dict[int, Answers] = answers(plan)
        self._groups: dict[tuple[int, int], list[_Group]] = {}  # (channel, group)
        need = np.maximum(plan.node_need, 0).astype(np.int64)
        self._longest = int(need.max(initial=0))  # bytes of a payload that any signal reaches
        for message, pgn in enumerate(plan.message_pgn.tolist()):
            if pgn != NOT_PGN:
                key = int(plan.message_key[message])
                group = _Group(key & 0xFFFF_FFFF, int(plan.message_source[message]), is_fast_packet(pgn, int(plan.message_length[message])))
                self._groups.setdefault((key >> CHANNEL_AT, pgn), []).append(group)
        self._bound: dict[tuple[int, int], int] = {}  # (channel, group) of one message for any source: the source it is bound to
        self._j1939_channels = frozenset(channel for channel, _ in self._groups)
        self._wanted = np.array(sorted(channel << CHANNEL_AT | pgn for channel, pgn in self._groups), np.int64)
        self._answer_keys = np.array(sorted(self._answers), np.uint64)
        self.parts = 0  # frames of the last block that are parts of messages of several frames, and completed none
        self._bindings = 0  # how often one was made or moved
        self._maps: dict[tuple[str, ...], NDArray[np.uint64]] = {}
        self._forget()
        self._transport, self._fast, self._isotp = Transport(), FastPackets(), IsoTp()

    @property
    def needed(self) -> bool:
        """Whether the DBC has any message that is more than a frame with its identifier."""
        return bool(self._groups or self._answers)

    @property
    def counts(self) -> Counts:
        """What became of the multi-frame messages so far."""
        total = Counts()
        for part in (self._transport, self._fast, self._isotp):
            total += part.counts
        return total

    @property
    def held_bytes(self) -> int:
        """Payload bytes that unfinished messages may grow to: bounded, whatever the bus says."""
        return self._transport.held_bytes + self._fast.held_bytes + self._isotp.held_bytes

    @property
    def sources(self) -> dict[tuple[str, int], int]:
        """(channel, parameter group) to the source address that it is bound to, of the messages that take the first."""
        return {(self._channels[channel], pgn): source for (channel, pgn), source in self._bound.items()}

    def finish(self) -> None:
        """No more frames come: what is unfinished counts as lost."""
        for part in (self._transport, self._fast, self._isotp):
            part.finish()

    def feed(self, block: FrameBlock) -> FrameBlock:
        """The block that the decoder reads: as many frames or more, in the same order, with the same stamps.

        Frames that carry a part of a message, or a J1939 group of another source, get an identifier with the flags HIDDEN.
        """
        self.parts = 0
        if not len(block) or not self.needed:
            return block
        place = self._place(block)
        route = self._route.take(place)
        if not route.any():
            return block
        identifier = np.where(route == _Route.RENAME, self._target.take(place), block.frame_id)
        work = _Work(block, identifier, block.length)
        hot = route >= _Route.TRANSPORT
        isotp = route >= _Route.ISOTP
        if isotp.any():
            hot &= ~isotp | self._single_frames(work, route, isotp)
        bindings = self._bindings
        for frame in np.flatnonzero(hot).tolist():
            self._one(work, frame, int(route[frame]), int(self._target[place[frame]]))
        self.parts = int(np.count_nonzero(hot)) - work.whole
        if self._bindings != bindings:
            self._forget()
        return work.block(self._longest)

    def _single_frames(self, work: _Work, route: NDArray[np.uint8], isotp: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(n,) the frames to look at one by one. While no message of several frames is under way, single frames only lose their padding."""
        block = work.source
        extended = (route == _Route.ISOTP_EXTENDED).astype(np.intp)
        first = block.data[np.arange(len(block)), extended]
        odd: NDArray[np.bool_] = (first == 0) | (first > 7 - extended) | (first.astype(np.int64) + extended >= block.length)
        odd |= (block.data[:, 1] == MODE_01_ANSWER) & (first != 2 + PID_BYTES.take(block.data[:, 2]))  # several PIDs in one answer
        if self._isotp.open or (isotp & (first >= 0x10)).any():
            odd[:] = True
        plain = isotp & ~odd
        if plain.any():
            work.length = np.where(plain, first + extended + 1, block.length).astype(block.length.dtype)
            self._isotp.counts.messages += int(np.count_nonzero(plain))
        return odd

    def _one(self, work: _Work, frame: int, route: int, target: int) -> None:
        block = work.source
        identifier = int(block.frame_id[frame])
        stamp_ns, channel = int(block.timestamp_ns[frame]), self._channel_number(block, frame)
        payload = block.data[frame, : block.length[frame]].tobytes()
        if route == _Route.TRANSPORT:
            group = self._transport.feed(channel, identifier, stamp_ns, payload)
            if group is not None and group.pgn != VIN_PGN:
                found = self._find(channel, group.pgn, group.source)
                if found is not None:
                    work.put(frame, found.identifier, group.payload)
            return
        if route == _Route.FAST:
            whole = self._fast.feed(channel, identifier, stamp_ns, payload)
            if whole is None or target & HIDDEN:
                work.identifier[frame] = identifier | HIDDEN
            else:
                work.put(frame, target, whole)
            return
        extended = route == _Route.ISOTP_EXTENDED
        whole = self._isotp.feed(channel, identifier, stamp_ns, payload, extended=extended)
        if whole is None or is_identity(whole):
            work.identifier[frame] = identifier | HIDDEN
            return
        answer = bytes([len(whole) & 0xFF]) + whole
        if extended:
            work.put(frame, identifier, payload[:1] + answer)
            return
        first, *more = split(answer)
        work.put(frame, identifier, first)
        for part in more:
            work.insert(frame, identifier, part)

    # which identifier means what

    def _forget(self) -> None:
        self._keys = np.zeros(0, np.uint64)  # sorted
        self._route: NDArray[np.uint8] = np.zeros(1, np.uint8)  # one more than keys: the last is for what is not kept, PASS
        self._target: NDArray[np.uint32] = np.zeros(1, np.uint32)

    def _place(self, block: FrameBlock) -> NDArray[np.intp]:
        """(n,) of each frame: its entry in the tables."""
        key = self._channel_map(block.channels).take(block.channel) | block.frame_id
        place, missing = self._look_up(key)
        if missing.any():
            unique, first = np.unique(key[missing], return_index=True)
            relevant = self._relevant(unique)
            if len(self._keys) + len(unique) > MOST_PASSING:  # identifiers that are nobody's are kept for speed alone
                unique, first, relevant = unique[relevant], first[relevant], relevant[relevant]
            if len(unique):
                # In the order in which they came: the first source of a group is the one that it is bound to.
                order = first.argsort()
                self._add(unique[order].tolist(), relevant[order].tolist())
                place, _ = self._look_up(key)
        return place

    def _look_up(self, key: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        if not len(self._keys):
            return np.zeros(len(key), np.intp), np.ones(len(key), np.bool_)
        place = self._keys.searchsorted(key)
        missing = self._keys.take(place, mode="clip") != key
        place[missing] = len(self._keys)
        return place, missing

    def _relevant(self, key: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """(n,) keys that a message of the plan may be behind. Frames with the flags of remote and error frames are none."""
        channel = (key >> np.uint64(CHANNEL_AT)).astype(np.int64)
        identifier = (key & np.uint64(0xFFFF_FFFF)).astype(np.uint32)
        extended = (identifier & np.uint32(EFF_FLAG | HIDDEN)) == EFF_FLAG
        group = np.isin(channel << CHANNEL_AT | pgns_of(identifier), self._wanted)
        transport = np.isin((identifier >> np.uint32(16)) & np.uint32(0xFF), TRANSPORT_FORMATS)
        transport &= (
            (identifier >> np.uint32(24)) & np.uint32(3)
        ) == 0  # data pages 0: what PDU format these groups have on others is theirs
        transport &= np.isin(channel, list(self._j1939_channels))
        relevant: NDArray[np.bool_] = np.isin(key, self._answer_keys) | (extended & (group | transport))
        return relevant

    def _add(self, keys: list[int], relevant: list[bool]) -> None:
        if len(self._keys) + len(keys) > MAX_ROUTES:
            self._forget()
            keys, relevant = keys[:MAX_ROUTES], relevant[:MAX_ROUTES]
        before = self._bindings
        for key in itertools.compress(keys, relevant):
            self._resolve(key)  # binds groups to sources
        if self._bindings != before:  # what was found out of other identifiers may no longer hold
            keys = self._keys.tolist() + keys
            relevant = (self._route[:-1] != _Route.PASS).tolist() + relevant
            self._forget()
        found = [self._resolve(key) if ours else (_Route.PASS, 0) for key, ours in zip(keys, relevant, strict=True)]
        every = np.concatenate([self._keys, np.array(keys, np.uint64)])
        order = every.argsort()
        self._keys = every[order]
        routes = np.concatenate([self._route[:-1], np.array([route for route, _ in found], np.uint8)])
        targets = np.concatenate([self._target[:-1], np.array([target for _, target in found], np.uint32)])
        self._route = np.append(routes[order], np.uint8(_Route.PASS))
        self._target = np.append(targets[order], np.uint32(0))

    def _resolve(self, key: int) -> tuple[int, int]:
        """(route, target identifier) of a relevant key; binds its group to its source where that is still open."""
        if key in self._answers:
            return (_Route.ISOTP_EXTENDED if self._answers[key].extended else _Route.ISOTP), 0
        channel, identifier = key >> CHANNEL_AT, key & 0xFFFF_FFFF
        pgn, source = pgn_of(identifier), identifier & 0xFF
        groups = self._groups.get((channel, pgn))
        if groups is None:
            return _Route.TRANSPORT, 0
        group = self._find(channel, pgn, source)
        if groups[0].fast:
            return _Route.FAST, identifier | HIDDEN if group is None else group.identifier
        return _Route.RENAME, identifier | HIDDEN if group is None else group.identifier

    def _find(self, channel: int, pgn: int, source: int) -> _Group | None:
        """The message for a group of this source; None where it is of another source, or unknown."""
        group = None
        for one in self._groups.get((channel, pgn), []):
            if one.source == source:
                return one
            if one.source == ANY_SOURCE and group is None:
                group = one
        if group is None:
            return None
        bound = self._bound.get((channel, pgn))
        declared = group.identifier & 0xFF
        if bound is None or (source == declared != bound and declared != NULL_ADDRESS):
            bound = self._bound[channel, pgn] = source  # the first seen stands in until the declared one comes
            self._bindings += 1
        return group if source == bound else None

    def _channel_map(self, channels: tuple[str, ...]) -> NDArray[np.uint64]:
        """Of a block's channels: number of each in the schema, as the high half of a key; one beyond where no DBC is for it."""
        known = self._maps.get(channels)
        if known is None:
            numbers = [self._channels.index(name) if name in self._channels else len(self._channels) for name in channels]
            known = np.array(numbers or [len(self._channels)], np.uint64) << np.uint64(CHANNEL_AT)
            self._maps[channels] = known
        return known

    def _channel_number(self, block: FrameBlock, frame: int) -> int:
        return int(self._channel_map(block.channels)[block.channel[frame]]) >> CHANNEL_AT


@dataclass
class _Work:
    """A block on its way to what the decoder reads."""

    source: FrameBlock
    identifier: NDArray[np.uint32]  # (n,)
    length: NDArray[np.uint8]  # (n,)

    def __post_init__(self) -> None:
        self._whole: dict[int, bytes] = {}  # frame to the payload that it completes
        self._more: list[tuple[int, int, bytes]] = []  # frame, identifier and payload of what comes after it

    @property
    def whole(self) -> int:
        """Frames that completed a message."""
        return len(self._whole)

    def put(self, frame: int, identifier: int, payload: bytes) -> None:
        self.identifier[frame] = identifier
        self._whole[frame] = payload

    def insert(self, frame: int, identifier: int, payload: bytes) -> None:
        self._more.append((frame, identifier, payload))

    def block(self, longest: int) -> FrameBlock:
        """longest: bytes of a payload that any signal reaches; what is behind them is left out."""
        block = self.source
        if not self._whole:
            return replace(block, frame_id=self.identifier, length=self.length)
        n = len(block)
        counts = np.ones(n, np.intp)
        for frame, _, _ in self._more:
            counts[frame] += 1
        place = counts.cumsum() - counts  # of each old frame
        parts = [(int(place[frame]), self.identifier[frame], payload) for frame, payload in self._whole.items()]
        last = -1
        for frame, identifier, payload in self._more:
            last = max(last, int(place[frame])) + 1
            parts.append((last, np.uint32(identifier), payload))
        limit = max(longest, 8)
        width = max(block.data.shape[1], *(min(len(payload), limit) for _, _, payload in parts))
        width = -(-width // 8) * 8
        origin = np.arange(n).repeat(counts)
        data = np.zeros((len(origin), width), np.uint8)
        data[:, : block.data.shape[1]] = block.data[origin]
        length: NDArray[Any] = self.length[origin].astype(np.uint16 if width > 0xFF else self.length.dtype)
        identifiers = self.identifier[origin]
        for row, identifier, payload in parts:
            kept = payload[:width]
            data[row] = 0
            data[row, : len(kept)] = np.frombuffer(kept, np.uint8)
            length[row] = len(kept)
            identifiers[row] = identifier
        flags = None if block.flags is None else block.flags[origin]
        return FrameBlock(
            block.channels, block.timestamp_ns[origin], identifiers, block.channel[origin], length, data, block.entered_ns, flags
        )
