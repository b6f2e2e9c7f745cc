"""Findings in words: the range a healthy car shows, what was seen, since when, and what else it may be, in English and Chinese."""

from dataclasses import dataclass

import pytest

from dbc.catalogue import Catalogue
from dbc.vehicles import CATALOGUE
from models.explanation import _SENTENCES, Language, explain, unit_words

FLOW, INLET = "TMS_BatteryLoop.BatteryCoolantFlow", "TMS_BatteryLoop.BatteryCoolantInletTemperature"
BEGAN_MS = 1_763_860_020_000


@dataclass(frozen=True)
class One:
    signal: str
    unit: str
    expected: float | None
    seen: float | None
    share: float
    margin: float | None = None


LEAK = (
    One(INLET, "degC", 27.3, 27.35, 0.06, 0.4),
    One("Gone.Unimportant", "", 1.0, 2.0, 0.01),
    One(FLOW, "L/min", 12.0512, 10.412, 0.93, 0.1234),
)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.load(CATALOGUE)


def test_a_leak_in_english(catalogue: Catalogue) -> None:
    said = explain("coolant_leak", LEAK, catalogue, since_ms=BEGAN_MS, noticed_ms=BEGAN_MS + 300_000, p_value=1 / 48_123)
    assert said.summary == "Coolant leak in the battery loop: Battery coolant flow is too low"
    assert [line.signal for line in said.signals] == [FLOW, INLET]
    assert said.lines() == [
        "Battery coolant flow: 10.41 L/min seen; a healthy car shows 11.93 to 12.17 L/min at this operating point, "
        "so it is 1.64 L/min too low.",
        "Battery coolant temperature, inlet: 27.35 °C seen; by itself that is healthy (26.90 to 27.70 °C here), but not together with the "
        "other signals.",
        "It began on 2025-11-23 01:07 UTC and was noticed 5 min later.",
        "Healthy cars are this far off in at most one of 40,000 seconds.",
        "Other faults that show in these signals: Battery coolant pump is wearing out (50 % alike).",
        catalogue.fault("coolant_leak").action.en,
    ]


def test_a_leak_in_chinese_before_it_is_confirmed(catalogue: Catalogue) -> None:
    said = explain("coolant_leak", LEAK[2:], catalogue, "zh", since_ms=BEGAN_MS, noticed_ms=BEGAN_MS, level="seen", when=lambda _: "今天")
    assert said.summary == "电池冷却回路冷却液泄漏：电池冷却液流量偏低"
    assert said.lines()[:3] == [
        "已发现但尚未确认：后续行程再次出现之前不会开工单。",
        "电池冷却液流量：实测10.41 L/min；在此工况下，正常车辆为11.93至12.17 L/min，偏低1.64 L/min。",
        "始于今天，0 秒后被发现。",
    ]
    assert said.action == catalogue.fault("coolant_leak").action.zh


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_is_not_known_is_said_so(language: Language) -> None:
    parts = [
        One("A.Blind", "V", 12.0, None, 0.5),
        One("A.Unknown", "rpm", None, 1234.5, 0.3),
        One("A.Near", "deg", 0.0, -0.2, 0.2),
        One("A.Zero", "", 0.0, 0.0, 0.1, 0.0),
    ]
    said = explain("anomaly", parts, None, language)
    assert [line.words for line in said.signals] == ["A.Blind", "A.Unknown", "A.Near"]
    assert (said.since, said.rarity, said.likeness, said.level, said.action) == ("",) * 5
    assert "-0.20°" in said.signals[2].text
    assert all("None" not in line and "nan" not in line for line in said.lines())
    assert explain("anomaly", [], None, language).lines() == []
    assert explain("no_such_code", parts[3:], None, language).fault == "no_such_code"


def test_both_languages_have_every_sentence() -> None:
    english, chinese = _SENTENCES["en"], _SENTENCES["zh"]
    assert english.keys() == chinese.keys()
    for key, sentence in english.items():
        assert {part.split("}")[0] for part in sentence.split("{")[1:]} == {part.split("}")[0] for part in chinese[key].split("{")[1:]}
    assert (unit_words("degC"), unit_words("rpm", "zh"), unit_words("Nm"), unit_words("furlong")) == ("°C", "转/分", "N·m", "furlong")
