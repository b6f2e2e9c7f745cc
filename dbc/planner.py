"""DBC text to schema and plan, through cantools. Only the compiler imports this: cantools takes a quarter of a second and 30 MB."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dbc.errors import DbcFileError
from dbc.integrity import DATA_IDS, PROFILES, protection
from dbc.loader import load_database, message_identifier, unreachable, unusable
from dbc.plan import ANY_SOURCE, NOT_PGN, SELECTOR_BITS, CompiledDbc, DecodePlan
from dbc.protocols.j1939 import NULL_ADDRESS, message_pgn
from dbc.schema import Kind, Schema

if TYPE_CHECKING:
    from dbc.dbc_file import DbcFile
    from dbc.load_report import LoadReport

__all__ = ["load_database", "plan_databases", "plan_files"]

MESSAGES_AT = 32  # message_key = channel << 32 | identifier


def plan_files(files: Sequence[tuple[DbcFile, bytes]], sources: Mapping[int, Sequence[int]] | None = None) -> CompiledDbc:
    """Schema and plan of the files together. Raises DbcFileError with file and line.

    sources: J1939 source addresses by parameter group; see `dbc.compiler.compile_dbc`.
    """
    return plan_databases([(file, *load_database(file, data)) for file, data in files], sources)


def plan_databases(files: Sequence[tuple[DbcFile, Any, LoadReport]], sources: Mapping[int, Sequence[int]] | None = None) -> CompiledDbc:
    """As `plan_files`, of what `load_database` has given for each file: parsing is by far the dearer part."""
    if not files:
        raise DbcFileError("--dbc", "no DBC file given; expected FILE or FILE@CHANNEL")
    channels = tuple(dict.fromkeys(file.channel for file, *_ in files))
    builder = _Builder(channels)
    messages: dict[int, tuple[DbcFile, Any]] = {}
    for file, database, report in files:
        builder.notes += report.notes()
        for message in database.messages:
            if message.is_container:
                continue
            key = channels.index(file.channel) << MESSAGES_AT | message_identifier(message)
            if key in messages and messages[key][0] is not file:
                earlier, other = messages[key][1].name, messages[key][0].path
                builder.notes.append(
                    f"{file.path}: {message.name} replaces {earlier} of {other}: both have the identifier {message.frame_id:#x}"
                )
            messages[key] = (file, message)
    repeated = {name for name, count in Counter((key >> MESSAGES_AT, m.name) for key, (_, m) in messages.items()).items() if count > 1}
    groups = Counter((key >> MESSAGES_AT, message_pgn(message)) for key, (_, message) in messages.items())
    for key, (_, message) in sorted(messages.items()):
        # Two messages of one name on one channel: only the identifier tells them apart.
        name = f"{message.name}#{key & 0xFFFF_FFFF:X}" if (key >> MESSAGES_AT, message.name) in repeated else message.name
        for source, own_key, suffix in _sources(key, message, groups, sources or {}):
            builder.add_message(own_key, name, message, source, suffix)
    try:
        return builder.finish()
    except OverflowError as error:  # Python reads a number of any size; the arrays hold what float64 and int64 hold
        raise DbcFileError(", ".join(file.path for file, *_ in files), f"has a number that is out of range: {error}") from error


def _sources(
    key: int, message: Any, groups: Mapping[tuple[int, int | None], int], sources: Mapping[int, Sequence[int]]
) -> list[tuple[int, int, str]]:
    """(source address, key, suffix of the names) of each message that this one stands for on its bus: one, or one for each J1939 source."""
    group = message_pgn(message)
    if group is None:
        return [(ANY_SOURCE, key, "")]
    addresses = sorted(set(sources.get(group, ())))
    if addresses:
        return [(one, key & ~0xFF | one, f"@{one:02X}" if len(addresses) > 1 else "") for one in addresses]
    own = key & 0xFF
    # Two messages of one group tell each other apart by the source that their identifiers name; one alone is of any.
    return [(own if groups[key >> MESSAGES_AT, group] > 1 and own < NULL_ADDRESS else ANY_SOURCE, key, "")]


@dataclass
class _Builder:
    """Collects rows, nodes and slots; `finish` numbers the signals and makes the arrays."""

    channels: tuple[str, ...]
    notes: list[str] = field(default_factory=list)
    signals: list[tuple[int, str, Any, Any]] = field(default_factory=list)  # channel, "Message.Signal", message, signal
    messages: list[tuple[str, int, int, int, int, int]] = field(default_factory=list)  # name, key, length, root node, J1939 group, source
    nodes: list[list[int]] = field(default_factory=list)  # message, first row, rows, need, first slot, slots
    rows: list[tuple[int, bool, int, int, bool, bool, int]] = field(default_factory=list)
    checks: list[tuple[int, int, int, int, bytes]] = field(default_factory=list)  # message, rows of counter and checksum, profile, data id
    slots: list[int] = field(default_factory=list)  # row of the multiplexer
    children: list[tuple[int, int]] = field(default_factory=list)  # key, node

    def add_message(self, key: int, name: str, message: Any, source: int = ANY_SOURCE, suffix: str = "") -> None:
        numbers: dict[int, int] = {}  # id() of a cantools signal -> number in the schema
        known = {signal.name: signal for signal in message.signals}
        for signal in message.signals:
            if unusable(signal) or unreachable(signal, known):  # the file's report says so
                continue
            numbers[id(signal)] = len(self.signals)
            self.signals.append((key >> MESSAGES_AT, f"{name}.{signal.name}{suffix}", message, signal))
        present = [signal for signal in message.signals if id(signal) in numbers]
        number = len(self.messages)
        root = self._add_node(number, [s for s in present if s.multiplexer_signal is None], present, numbers, {})
        self._add_check(number, name, message, root)
        group = message_pgn(message)
        self.messages.append((name + suffix, key, min(message.length, 0xFFFF), root, NOT_PGN if group is None else group, source))

    def _add_check(self, number: int, name: str, message: Any, root: int) -> None:
        try:
            found = protection(message)
        except ValueError as error:
            self.notes.append(f"{name} is not checked: {error}")
            return
        if found is None:
            return
        first, count = self.nodes[root][1:3]
        rows = {self.signals[self.rows[row][0]][3].name: row for row in range(first, first + count)}
        counter, checksum = rows.get(found.counter or "", -1), rows.get(found.checksum or "", -1)
        profile = list(PROFILES).index(found.profile) if found.profile else -1
        if counter >= 0 or checksum >= 0:
            self.checks.append((number, counter, checksum, profile, found.data_id.ljust(DATA_IDS, b"\0")))

    def _add_node(
        self, message: int, mine: Sequence[Any], present: Sequence[Any], numbers: dict[int, int], known: dict[tuple[int, ...], int]
    ) -> int:
        """A node of the signals `mine`, and below it what their multiplexers select. Returns its number."""
        node, first, slot = len(self.nodes), len(self.rows), len(self.slots)
        self.nodes.append([])
        mine = sorted(mine, key=lambda signal: bool(signal.byte_order == "big_endian"))  # one byte order after the other: see DecodePlan
        for signal in mine:
            self.rows.append(_row(numbers[id(signal)], signal))
        below = [(place, [s for s in present if s.multiplexer_signal == signal.name]) for place, signal in enumerate(mine)]
        below = [(place, signals) for place, signals in below if signals and mine[place].is_multiplexer]
        self.slots.extend(first + place for place, _ in below)
        need = max((row[-1] for row in self.rows[first:]), default=0)
        self.nodes[node] = [message, first, len(mine), need, slot, len(below)]
        for number, (_, signals) in enumerate(below, slot):
            by_value: dict[int, list[Any]] = {}
            for signal in signals:
                for value in signal.multiplexer_ids or ():
                    if 0 <= value < 2**SELECTOR_BITS:
                        by_value.setdefault(value, []).append(signal)
            for value, chosen in by_value.items():
                # Values that select the same signals share a node: a signal may be valid for thousands of values.
                same = tuple(numbers[id(signal)] for signal in chosen)
                if same not in known:
                    known[same] = self._add_node(message, chosen, present, numbers, known)
                self.children.append((number << SELECTOR_BITS | value, known[same]))
        return node

    def finish(self) -> CompiledDbc:
        short = Counter(name for _, name, _, _ in self.signals)
        full = [f"{self.channels[channel]}:{name}" if short[name] > 1 else name for channel, name, _, _ in self.signals]
        taken: Counter[str] = Counter()
        names = []
        for name in full:  # a message that has two signals of one name
            taken[name] += 1
            names.append(name if taken[name] == 1 else f"{name}#{taken[name]}")
        these = [signal for _, _, _, signal in self.signals]
        schema = Schema(
            channels=self.channels,
            names=tuple(names),
            units=tuple(signal.unit or "" for signal in these),
            kind=np.array([_kind(signal) for signal in these], np.uint8),
            scale=np.array([signal.scale for signal in these], np.float64),
            offset=np.array([signal.offset for signal in these], np.float64),
            minimum=_bounds([signal.minimum for signal in these]),
            maximum=_bounds([signal.maximum for signal in these]),
            channel=np.array([channel for channel, _, _, _ in self.signals], np.uint8),
            period_ms=np.array([_period_ms(message) for _, _, message, _ in self.signals], np.float64),
            choices=tuple({int(raw): str(word) for raw, word in signal.choices.items()} if signal.choices else None for signal in these),
        )
        return CompiledDbc(schema, self._plan(), tuple(self.notes))

    def _plan(self) -> DecodePlan:
        names, keys, lengths, roots, groups, sources = zip(*self.messages, strict=True) if self.messages else ((),) * 6
        nodes = np.array(self.nodes, np.int32).reshape(-1, 6).T
        rows = np.array(self.rows, np.int64).reshape(-1, 7).T
        children = sorted(self.children)
        checked = {message: check for check, (message, *_) in enumerate(self.checks)}
        _, counters, checksums, profiles, data_ids = zip(*self.checks, strict=True) if self.checks else ((),) * 5
        return DecodePlan(
            message_names=tuple(names),
            message_key=np.array(keys, np.uint64),
            message_length=np.array(lengths, np.uint16),
            message_node=np.array(roots, np.int32),
            message_check=np.array([checked.get(number, -1) for number in range(len(self.messages))], np.int32),
            message_pgn=np.array(groups, np.int32),
            message_source=np.array(sources, np.int16),
            node_message=nodes[0].copy(),
            node_first=nodes[1].copy(),
            node_count=nodes[2].copy(),
            node_need=nodes[3].astype(np.uint16),
            node_slot_first=nodes[4].copy(),
            node_slot_count=nodes[5].copy(),
            row_signal=rows[0].astype(np.int32),
            row_big=rows[1].astype(np.bool_),
            row_bit=rows[2].astype(np.uint16),
            row_length=rows[3].astype(np.uint8),
            row_signed=rows[4].astype(np.bool_),
            row_half=rows[5].astype(np.bool_),
            row_need=rows[6].astype(np.uint16),
            slot_row=np.array(self.slots, np.int32),
            child_key=np.array([key for key, _ in children], np.uint64),
            child_node=np.array([node for _, node in children], np.int32),
            check_counter=np.array(counters, np.int32),
            check_checksum=np.array(checksums, np.int32),
            check_profile=np.array(profiles, np.int8),
            check_data_id=np.frombuffer(b"".join(data_ids), np.uint8).reshape(-1, DATA_IDS),
        )


def _row(number: int, signal: Any) -> tuple[int, bool, int, int, bool, bool, int]:
    big = signal.byte_order == "big_endian"
    bit = 8 * (signal.start // 8) + 7 - signal.start % 8 if big else signal.start
    need = min((bit + signal.length - 1) // 8 + 1, 0xFFFF)
    half = signal.is_float and signal.length == 16
    return number, big, min(bit, 0xFFFF), signal.length, signal.is_signed and not signal.is_float, half, need


def _kind(signal: Any) -> Kind:
    if signal.is_float:
        return Kind.FLOAT64 if signal.length == 64 else Kind.FLOAT32
    return Kind.INT if signal.is_signed else Kind.UINT


def _bounds(values: Sequence[float | None]) -> Any:
    return np.array([math.nan if value is None else value for value in values], np.float64)


def _period_ms(message: Any) -> float:
    try:
        period = float(message.cycle_time or 0)
    except (TypeError, ValueError):  # the attribute's definition allows text
        period = 0.0
    return period if period > 0 else math.nan
