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
from models.likeness import resembles

__all__ = ["Explanation", "Language", "Part", "SignalLine", "explain", "unit_words"]

Language = Literal["en", "zh"]
LEAST_SHARE = 0.05
"""Of the score; a signal with less is not worth a sentence."""
MOST_SIGNALS = 3
ANOMALY = "anomaly"  # the fault code of a detector that was trained without one

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
    chosen = sorted((part for part in parts if part.share >= LEAST_SHARE), key=lambda part: -part.share)[:MOST_SIGNALS]
    lines = tuple(
        SignalLine(part.signal, words := _of(known.words(part.signal), language), _signal(part, words, language)) for part in chosen
    )
    alike = [
        say["alike"].format(fault=_of(other.words, language), likeness=round(100 * likeness))
        for other, likeness in resembles(parts, known.faults)
        if other.code != fault_code
    ]
    return Explanation(
        fault=name,
        summary=say["summary"].format(fault=name, signal=_short(chosen[0], lines[0].words, language)) if lines else name,
        signals=lines,
        since=_since(since_ms, noticed_ms, when, language),
        rarity=say["rarity"].format(seconds=f"{_round_down(1 / p_value):,}") if p_value is not None and 0 < p_value < 0.1 else "",
        likeness=say["likeness" if fault is None else "others"].format(faults=say["and"].join(alike)) if alike else "",
        level=say["level"] if level == "seen" else "",
        action=_of(fault.action, language) if fault is not None else "",
    )


def unit_words(unit: str, language: Language = "en") -> str:
    """A DBC's unit as people write it: `degC` is °C."""
    found = _UNITS.get(unit, unit)
    return _UNITS_ZH.get(found, found) if language == "zh" else found


def _signal(part: Part, words: str, language: Language) -> str:
    say, unit = _SENTENCES[language], _with_unit(part.unit, language)
    if part.seen is None:
        return say["blind"].format(signal=words)
    if part.expected is None:
        return say["unknown"].format(signal=words, seen=_number(part.seen, 3) + unit)
    off = part.seen - part.expected
    decimals = _decimals(part.margin, off)
    seen = f"{part.seen:.{decimals}f}{unit}"
    if part.margin is None:
        expected = say["about"].format(value=f"{part.expected:.{decimals}f}{unit}")
    else:
        low, high = part.expected - part.margin, part.expected + part.margin
        expected = say["range"].format(low=f"{low:.{decimals}f}", high=f"{high:.{decimals}f}{unit}")
    if part.margin is not None and abs(off) <= part.margin:
        return say["inside"].format(signal=words, seen=seen, expected=expected)
    how = say["low" if off < 0 else "high"].format(gap=f"{abs(off):.{decimals}f}{unit}")
    return say["off"].format(signal=words, seen=seen, expected=expected, how=how)


def _short(part: Part, words: str, language: Language) -> str:
    say = _SENTENCES[language]
    if part.seen is None or part.expected is None:
        return words
    return say["short_low" if part.seen < part.expected else "short_high"].format(signal=words)


def _since(since_ms: int | None, noticed_ms: int | None, when: Callable[[int], str], language: Language) -> str:
    say = _SENTENCES[language]
    if since_ms is None:
        return ""
    if noticed_ms is None:
        return say["since"].format(since=when(since_ms))
    return say["noticed"].format(since=when(since_ms), later=_span(max(0, noticed_ms - since_ms) / 1000, language))


def _span(seconds: float, language: Language) -> str:
    """A length of time in the largest unit of which there are two: 119 s, 2 min, 36 h, 3 d."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{round(seconds / length)} {unit_words(unit, language)}"
    return f"{round(seconds)} {unit_words('s', language)}"


def _decimals(margin: float | None, off: float) -> int:
    """So many that the margin, or without one the difference, has two figures."""
    size = margin if margin else abs(off)
    if not size or not math.isfinite(size):
        return 1
    return min(6, max(0, 1 - math.floor(math.log10(size))))


def _number(value: float, figures: int) -> str:
    return f"{value:.{min(6, max(0, figures - 1 - math.floor(math.log10(abs(value)))))}f}" if value else "0"


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
        "off": "{signal}: {seen} seen; a healthy car shows {expected} at this operating point, so it is {how}.",
        "inside": "{signal}: {seen} seen; by itself that is healthy ({expected} here), but not together with the other signals.",
        "low": "{gap} too low",
        "high": "{gap} too high",
        "range": "{low} to {high}",
        "about": "about {value}",
        "blind": "{signal}: there is no valid value.",
        "unknown": "{signal}: {seen} seen; what a healthy car shows here is not known.",
        "since": "It began on {since}.",
        "noticed": "It began on {since} and was noticed {later} later.",
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
        "off": "{signal}：实测{seen}；在此工况下，正常车辆为{expected}，{how}。",
        "inside": "{signal}：实测{seen}；单独来看属于正常（此工况下为{expected}），但与其他信号不相符。",
        "low": "偏低{gap}",
        "high": "偏高{gap}",
        "range": "{low}至{high}",
        "about": "约{value}",
        "blind": "{signal}：没有有效数值。",
        "unknown": "{signal}：实测{seen}；此工况下的正常范围未知。",
        "since": "始于{since}。",
        "noticed": "始于{since}，{later}后被发现。",
        "rarity": "正常车辆出现如此偏差的时间不超过每{seconds}秒中的1秒。",
        "likeness": "从信号上看，类似：{faults}。",
        "others": "其他可能表现为这些信号的故障：{faults}。",
        "alike": "{fault}（相似度{likeness}%）",
        "and": "、",
        "level": "已发现但尚未确认：后续行程再次出现之前不会开工单。",
    },
}
