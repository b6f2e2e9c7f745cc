"""What a finding means, in words that a service advisor understands, in English and Chinese.

One function for the console, the command line and the reports: what the fault is called, each signal with its unit, the range that a
healthy car shows at this operating point, what was seen instead, since when, and which known fault the finding looks like. Nothing here
guesses: every sentence follows from a field of the finding or of the signal catalogue.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol

from dbc.catalogue import Catalogue, Words
from dbc.network import figure_of
from models.figure_words import figure_seen, figure_source, figure_words
from models.likeness import resembles

__all__ = ["Explanation", "Language", "Part", "SignalLine", "explain", "unit_words"]

Language = Literal["en", "zh"]
LEAST_SHARE, LEAST_OF_FIRST = 0.05, 0.25
"""Of the score, and of the first signal's share; one with less is not worth a sentence. What a detector expects of a good tyre depends on
the flat one, so the good ones have a little of the score, too, and a sentence on each would call them too full."""
MOST_SIGNALS = 3
AT_ONCE_MS = 60_000
ANOMALY = "anomaly"  # the fault code of a detector that was trained without one
RAREST = 1e-3
"""A p-value over this says how little the pack was calibrated on, and nothing about the car: one second in a quarter of an hour."""
_MANNERS = {"sensor_stuck": "still", "sensor_noise": "noisy"}
"""Faults that are not a value too high or too low, by code."""

_UNITS = {
    "degC": "°C",
    "deg": "°",
    "deg/s": "°/s",
    "Ohm": "Ω",
    "mOhm": "mΩ",
    "kOhm": "kΩ",
    "MOhm": "MΩ",
    "N*m": "N·m",
    "Nm": "N·m",
    "A*h": "Ah",
    "m/s2": "m/s²",
    "m3/h": "m³/h",
    "W/m2": "W/m²",
    "ug/m3": "µg/m³",
    "kWh/100km": "kWh/100 km",
}
_UNITS_ZH = {"rpm": "转/分", "min": "分钟", "h": "小时", "d": "天", "s": "秒"}


class Part(Protocol):
    """A signal's part in a finding: share 0..1 of the score; expected, seen and margin in `unit`, None where they are not known.

    margin: how far healthy cars are from `expected`, at this operating point.
    """

    @property
    def signal(self) -> str: ...

    @property
    def unit(self) -> str: ...

    @property
    def expected(self) -> float | None: ...

    @property
    def seen(self) -> float | None: ...

    @property
    def share(self) -> float: ...

    @property
    def margin(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class SignalLine:
    """One signal's sentence. signal: its name on the bus; words: what it is called."""

    signal: str
    words: str
    text: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Sentences, "" where there is nothing to say.

    fault: what it is called. summary: that, with the signal that says most of it. since: when it began and when it was noticed.
    rarity: how seldom healthy cars are so far off. likeness: which known faults it looks like, but the one that it is called.
    level: that it is not confirmed yet, where it is not. action: what to do.
    """

    fault: str
    summary: str
    signals: tuple[SignalLine, ...]
    since: str
    rarity: str
    likeness: str
    level: str
    action: str

    def lines(self) -> list[str]:
        """Everything there is to say, one sentence a line, the summary aside."""
        said = [self.level, *(one.text for one in self.signals), self.since, self.rarity, self.likeness, self.action]
        return [line for line in said if line]


def utc(ms: int) -> str:
    """A time as it is said where nobody asked for another: to the minute, in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def explain(
    fault_code: str,
    parts: Sequence[Part],
    catalogue: Catalogue | None = None,
    language: Language = "en",
    *,
    since_ms: int | None = None,
    noticed_ms: int | None = None,
    p_value: float | None = None,
    level: str = "ticket",
    when: Callable[[int], str] = utc,
) -> Explanation:
    """The finding in words.

    parts: in any order. catalogue: of the vehicle's model; without one signals and faults keep their names. since_ms, noticed_ms: UTC, when
    the first of the ticks that raised it was, and when it was raised. level: as in a finding, `seen` or `ticket`. when: how a time is said.
    """
    say = _SENTENCES[language]
    known = catalogue if catalogue is not None else Catalogue.empty()
    fault = known.faults.get(fault_code)
    name = _of(fault.words, language) if fault is not None else say["anomaly"] if fault_code == ANOMALY else fault_code
    least = max(LEAST_SHARE, LEAST_OF_FIRST * max((part.share for part in parts), default=0.0))
    chosen = sorted((part for part in parts if part.share >= least), key=lambda part: -part.share)[:MOST_SIGNALS]
    manner = _MANNERS.get(fault_code, "")
    lines = tuple(_line(part, known, manner, language) for part in chosen)
    alike = [
        say["alike"].format(fault=_of(other.words, language), likeness=round(100 * likeness))
        for other, likeness in resembles(parts, known.faults)
        if other.code != fault_code
    ]
    return Explanation(
        fault=name,
        summary=say["summary"].format(fault=name, signal=_short(chosen[0], lines[0].words, known, manner, language)) if lines else name,
        signals=lines,
        since=_since(since_ms, noticed_ms, when, language),
        rarity=say["rarity"].format(seconds=f"{_round_down(1 / p_value):,}") if p_value is not None and 0 < p_value < RAREST else "",
        likeness=say["likeness" if fault is None else "others"].format(faults=say["and"].join(alike)) if alike else "",
        level=say["level"] if level == "seen" else "",
        action=_of(fault.action, language) if fault is not None else "",
    )


def unit_words(unit: str, language: Language = "en") -> str:
    """A DBC's unit as people write it: `degC` is °C."""
    found = _UNITS.get(unit, unit)
    return _UNITS_ZH.get(found, found) if language == "zh" else found


def _line(part: Part, known: Catalogue, manner: str, language: Language) -> SignalLine:
    if figure_of(part.signal) is not None:
        words = figure_words(part.signal, known, language)
        if part.seen is None:
            return SignalLine(part.signal, words, _SENTENCES[language]["blind"].format(signal=words))
        most = None if part.expected is None or part.margin is None else part.expected + part.margin
        return SignalLine(part.signal, words, figure_seen(part.signal, part.seen, most, known, language))
    words = _of(known.words(part.signal), language)
    return SignalLine(part.signal, words, _signal(part, words, manner, language))


def _signal(part: Part, words: str, manner: str, language: Language) -> str:
    say, unit = _SENTENCES[language], _with_unit(part.unit, language)
    if part.seen is None:
        return say["blind"].format(signal=words)
    if part.expected is None:
        return say["unknown"].format(signal=words, seen=_number(part.seen, 3) + unit)
    if manner == "still" and part.margin is None:
        return say["still"].format(signal=words, seen=f"{_plain(part.seen)}{unit}")
    off = part.seen - part.expected
    decimals = _decimals(part.margin, off)
    seen, middle, gap = (f"{value:.{decimals}f}{unit}" for value in (part.seen, part.expected, abs(off)))
    if part.margin is None:
        expected = say["about"].format(value=middle)
    else:
        low, high = (f"{part.expected + side * part.margin:.{decimals}f}" for side in (-1, 1))
        if abs(off) <= part.margin and not manner:
            return say["inside"].format(signal=words, seen=seen, low=low, high=high + unit)
        expected = say["range"].format(value=middle, low=low, high=high)
    if manner == "noisy":
        return say["noisy"].format(signal=words, seen=seen, expected=expected)
    return say["off"].format(signal=words, seen=seen, expected=expected, how=say["low" if off < 0 else "high"].format(gap=gap))


def _short(part: Part, words: str, known: Catalogue, manner: str, language: Language) -> str:
    say = _SENTENCES[language]
    if figure_of(part.signal) is not None:
        return figure_source(part.signal, known, language)
    if part.seen is None or part.expected is None or manner:
        return words
    return say["short_low" if part.seen < part.expected else "short_high"].format(signal=words)


def _since(since_ms: int | None, noticed_ms: int | None, when: Callable[[int], str], language: Language) -> str:
    say = _SENTENCES[language]
    if since_ms is None:
        return ""
    if noticed_ms is None:
        return say["since"].format(since=when(since_ms))
    if noticed_ms - since_ms < AT_ONCE_MS:
        return say["since"].format(since=when(since_ms))
    return say["noticed"].format(since=when(since_ms), later=_span(max(0, noticed_ms - since_ms) / 1000, language))


def _span(seconds: float, language: Language) -> str:
    """A length of time in the largest unit of which there are two: 119 s, 2 min, 36 h, 3 d."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{round(seconds / length)} {unit_words(unit, language)}"
    return f"{round(seconds)} {unit_words('s', language)}"


def _decimals(margin: float | None, off: float) -> int:
    """So many that the healthy range is no single number and what was seen stands outside of it; without a range, two figures of the gap.

    A figure more would be one that nobody reads: of 400 km/h where 117.3 to 117.5 are healthy, thousandths say nothing.
    """
    if not margin or not math.isfinite(margin):
        size = abs(off) / 10
    else:
        gap = abs(off) - margin
        size = min(2 * margin, gap) if gap > 0.2 * margin else margin / 5
    if not size or not math.isfinite(size):
        return 1
    return min(6, max(0, -math.floor(math.log10(size))))


def _number(value: float, figures: int) -> str:
    return f"{value:.{min(6, max(0, figures - 1 - math.floor(math.log10(abs(value)))))}f}" if value else "0"


def _plain(value: float) -> str:
    """To four figures, without zeros at the end."""
    text = _number(value, 4)
    return text.rstrip("0").rstrip(".") if "." in text else text


def _round_down(value: float) -> int:
    """To one figure: of what was counted in a sample the rest is not known."""
    scale = 10 ** math.floor(math.log10(value) + 1e-9)
    return int(value / scale + 1e-9) * int(scale)


def _with_unit(unit: str, language: Language) -> str:
    words = unit_words(unit, language)
    return words if words in ("", "°") else f" {words}"


def _of(words: Words, language: Language) -> str:
    return words.zh if language == "zh" else words.en


_SENTENCES: dict[Language, dict[str, str]] = {
    "en": {
        "anomaly": "Unusual behaviour",
        "summary": "{fault}: {signal}",
        "short_low": "{signal} is too low",
        "short_high": "{signal} is too high",
        "still": "{signal}: stands still at {seen}; in a healthy car it keeps moving.",
        "noisy": "{signal}: jumps about more than a healthy sensor does; just now {seen} seen, {expected} expected.",
        "off": "{signal}: {seen} seen; a healthy car shows {expected} at this operating point, so it is {how}.",
        "inside": "{signal}: {seen} seen; by itself that is healthy ({low} to {high} here), but not together with the other signals.",
        "low": "{gap} too low",
        "high": "{gap} too high",
        "range": "{value} ({low} to {high})",
        "about": "about {value}",
        "blind": "{signal}: there is no valid value.",
        "unknown": "{signal}: {seen} seen; what a healthy car shows here is not known.",
        "since": "First seen on {since}.",
        "noticed": "First seen on {since}; reported {later} later.",
        "rarity": "Healthy cars are this far off in at most one of {seconds} seconds.",
        "likeness": "By its signals it looks like: {faults}.",
        "others": "Other faults that show in these signals: {faults}.",
        "alike": "{fault} ({likeness} % alike)",
        "and": ", ",
        "level": "Seen, and not confirmed yet: no ticket is opened before later drives show it again.",
    },
    "zh": {
        "anomaly": "异常状况",
        "summary": "{fault}：{signal}",
        "short_low": "{signal}偏低",
        "short_high": "{signal}偏高",
        "still": "{signal}：停留在{seen}不变；正常车辆上该值会变化。",
        "noisy": "{signal}：跳动大于正常传感器；此刻实测{seen}，应{expected}。",
        "off": "{signal}：实测{seen}；在此工况下，正常车辆{expected}，{how}。",
        "inside": "{signal}：实测{seen}；单独来看属于正常（此工况下为{low}至{high}），但与其他信号不相符。",
        "low": "偏低{gap}",
        "high": "偏高{gap}",
        "range": "为{value}（{low}至{high}）",
        "about": "约为{value}",
        "blind": "{signal}：没有有效数值。",
        "unknown": "{signal}：实测{seen}；此工况下的正常范围未知。",
        "since": "首次出现于{since}。",
        "noticed": "首次出现于{since}，{later}后报告。",
        "rarity": "正常车辆出现如此偏差的时间不超过每{seconds}秒中的1秒。",
        "likeness": "从信号上看，类似：{faults}。",
        "others": "其他可能表现为这些信号的故障：{faults}。",
        "alike": "{fault}（相似度{likeness}%）",
        "and": "、",
        "level": "已发现但尚未确认：后续行程再次出现之前不会开工单。",
    },
}
