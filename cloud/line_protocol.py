"""InfluxDB line protocol from columns, fast.

`signals,vehicle=…,model=…,bus=can0 Message.Signal=1.5,… 1700000820000`: one line per bus and tick, every field a float,
times in ms. Only valid, finite values are written, so no line is refused for its form. Where few values have changed since the tick
before, as in most of a car's seconds, only their texts are made again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
import orjson
from numpy.typing import NDArray

from cloud.events import MOST_LAYOUTS, FindingEvent, GapEvent, TickRows
from dbc.validity import Reason

# Keys and tags. A line end cannot be escaped there; what a backslash before a comma means, InfluxDB's own parsers disagree on.
_KEY = str.maketrans({",": "\\,", "=": "\\=", " ": "\\ ", "\n": "\\ ", "\r": "\\ ", "\\": "/"})
_TEXT = str.maketrans({'"': '\\"', "\\": "\\\\", "\n": " ", "\r": " "})
_REASONS = [(int(reason), reason.name.lower()) for reason in Reason]


@dataclass(frozen=True)
class _Layout:
    """Some columns of a schema ordered by bus: the order; ",name=" and a place for a text of each; where each bus begins and ends."""

    order: NDArray[np.intp]
    parts: list[str]
    buses: list[tuple[str, int, int]]


def _texts(values: NDArray[np.float64]) -> list[str]:
    """The shortest text of each value that reads back as it; NaN is "null" here. orjson reads the array itself, in a third of the time that
    msgspec takes for a list of it, and msgspec in a fifth of repr's."""
    return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].decode().split(",")


def escape_key(text: str) -> str:
    """A measurement, tag or field key, or a tag value; none may be empty."""
    return text if text.isalnum() else text.translate(_KEY) or "_"


def quote(text: str) -> str:
    """A string field's value."""
    return f'"{text.translate(_TEXT)}"'


class SignalLines:
    """Lines of `signals` and `quality`. Keeps the escaped names of the layouts it has seen; use from one thread."""

    def __init__(self) -> None:
        self._layouts: dict[tuple[bytes, bytes], _Layout] = {}

    def encode(self, rows: TickRows) -> list[str]:
        """One line per bus and tick that has a value, then a `quality` line per bus and consent class: of how many values how many were
        valid, and how many had each other reason that there is; of how many ticks, received how long after the last of them (not in a
        replayed log)."""
        ticks = rows.tick_ms.tolist()
        if not ticks:
            return []
        layout = self._layout(rows)
        tags = f"vehicle={escape_key(rows.vehicle)},model={escape_key(rows.model)}"
        value = rows.value.take(layout.order, axis=1)
        finite = np.isfinite(value)
        all_finite = np.logical_and.reduce(finite, axis=1)
        lines: list[str] = []
        parts = layout.parts.copy()
        # compared as bits: NaN equals NaN, and -0.0 is not 0.0
        changed = value[1:].view(np.int64) != value[:-1].view(np.int64)
        for number, tick in enumerate(ticks):
            places = changed[number - 1].nonzero()[0] if number else None
            if places is None or len(places) > len(layout.order) * 0.6:
                parts[1::2] = _texts(value[number])
            elif len(places):
                for place, text in zip((2 * places + 1).tolist(), _texts(value[number].take(places)), strict=True):
                    parts[place] = text
            there = None if all_finite[number] else finite[number].repeat(2).tolist()
            for bus, first, end in layout.buses:
                some = parts[2 * first : 2 * end]
                text = "".join(some if there is None else compress(some, there[2 * first : 2 * end]))
                if text:
                    lines.append(f"signals,{tags},bus={bus} {text[1:]} {tick}")
        # how long the batch's last tick took to be received here; the landed record says it, so a rewrite says the same
        late = "" if rows.replay else f",latency_ms={float(rows.received_ms - ticks[-1])!r}"
        tail = f"ticks={len(ticks)}.0{late} {ticks[-1]}"
        reason = rows.reason.take(layout.order, axis=1) if rows.reason.any() else None
        for bus, first, end in layout.buses:
            values = (end - first) * len(ticks)
            counted = f"values={values}.0"
            if reason is None:
                counted += f",valid={values}.0"
            else:
                counts = np.bincount(reason[:, first:end].ravel(), minlength=len(_REASONS)).tolist()
                counted += "".join([f",{name}={counts[code]}.0" for code, name in _REASONS if counts[code] or not code])  # 0 is VALID
            lines.append(f"quality,{tags},bus={bus},class={escape_key(rows.consent_class)} {counted},{tail}")
        return lines

    def _layout(self, rows: TickRows) -> _Layout:
        key = (rows.schema.schema_id, rows.columns.tobytes())
        found = self._layouts.get(key)
        if found is None:
            if len(self._layouts) >= MOST_LAYOUTS:
                self._layouts.clear()
            schema = rows.schema
            channel = schema.channel[rows.columns]
            order = np.argsort(channel, kind="stable")
            numbers, first = np.unique(channel[order], return_index=True)
            ends = [*first[1:].tolist(), len(order)]
            found = self._layouts[key] = _Layout(
                order,
                [part for column in rows.columns[order].tolist() for part in (f",{escape_key(schema.names[column])}=", "")],
                [(escape_key(schema.channels[one]), at, end) for one, at, end in zip(numbers.tolist(), first.tolist(), ends, strict=True)],
            )
        return found


def finding_lines(findings: Sequence[FindingEvent]) -> list[str]:
    """Measurement `findings`: tags vehicle, model, fault_code, state, level; one point per message. No p_value: none was given."""
    lines = []
    for event in findings:
        finding = event.finding
        fields = f"score={float(finding.score)!r},threshold={float(finding.threshold)!r}"
        if finding.p_value is not None:
            fields += f",p_value={float(finding.p_value)!r}"
        fields += f",pack={quote(finding.pack_id)},finding={quote(finding.finding_id.hex())},since_ms={float(finding.since_ms)!r}"
        tags = f"vehicle={escape_key(event.vehicle)},model={escape_key(event.model)},fault_code={escape_key(finding.fault_code)}"
        lines.append(f"findings,{tags},state={finding.state},level={finding.level} {fields} {finding.tick_ms}")
    return lines


def gap_lines(gaps: Sequence[GapEvent]) -> list[str]:
    """Measurement `gaps`: what a vehicle had to drop, at the time its word arrived.

    The tag `sequence`, the word's own, keeps those apart that arrived together: InfluxDB overwrites equal tags and times.
    """
    return [
        f"gaps,vehicle={escape_key(event.vehicle)},model={escape_key(event.model)},sequence={event.sequence},stream={event.gap.stream.hex()}"
        f" first={float(event.gap.first)!r},last={float(event.gap.last)!r},reason={quote(event.gap.reason)} {event.received_ms}"
        for event in gaps
    ]
