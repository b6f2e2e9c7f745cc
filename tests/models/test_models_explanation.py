"""Findings in words: the range a healthy car shows, what was seen, since when, and what else it may be, in English and Chinese."""

from dataclasses import dataclass

import pytest

from dbc.catalogue import Catalogue
from dbc.network import KINDS, UNKNOWN
from dbc.vehicles import CATALOGUE
from models.explanation import _SENTENCES, Language, explain, unit_words
from models.figure_words import figure_words

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
    One(INLET, "degC", 27.3, 27.35, 0.2, 0.4),
    One("Gone.Unimportant", "", 1.0, 2.0, 0.01),
    One(FLOW, "L/min", 12.0512, 10.412, 0.79, 0.1234),
)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.load(CATALOGUE)


def test_a_leak_in_english(catalogue: Catalogue) -> None:
    said = explain("coolant_leak", LEAK, catalogue, since_ms=BEGAN_MS, noticed_ms=BEGAN_MS + 300_000, p_value=1 / 48_123)
    assert said.summary == "Coolant leak in the battery loop: Battery coolant flow is too low"
    assert [line.signal for line in said.signals] == [FLOW, INLET]
    assert said.lines() == [
        "Battery coolant flow: 10.4 L/min seen; a healthy car shows 12.1 L/min (11.9 to 12.2) at this operating point, "
        "so it is 1.6 L/min too low.",
        "Battery coolant temperature, inlet: 27.35 °C seen; by itself that is healthy (26.90 to 27.70 °C here), but not together with the "
        "other signals.",
        "First seen on 2025-11-23 01:07 UTC; reported 5 min later.",
        "Healthy cars are this far off in at most one of 40,000 seconds.",
        "Other faults that show in these signals: Battery coolant pump is wearing out (48 % alike).",
        catalogue.fault("coolant_leak").action.en,
    ]


def test_a_leak_in_chinese_before_it_is_confirmed(catalogue: Catalogue) -> None:
    said = explain("coolant_leak", LEAK[2:], catalogue, "zh", since_ms=BEGAN_MS, noticed_ms=BEGAN_MS, level="seen", when=lambda _: "今天")
    assert said.summary == "电池冷却回路冷却液泄漏：电池冷却液流量偏低"
    assert said.lines()[:3] == [
        "已发现但尚未确认：后续行程再次出现之前不会开工单。",
        "电池冷却液流量：实测10.4 L/min；在此工况下，正常车辆为12.1 L/min（11.9至12.2），偏低1.6 L/min。",
        "首次出现于今天。",
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


def test_what_a_bus_says_of_a_message_is_said_of_the_message(catalogue: Catalogue) -> None:
    def told(code: str, signal: str, seen: float, margin: float, language: Language) -> tuple[str, str]:
        said = explain(code, [One(signal, "1/s", 0.0, seen, 1.0, margin)], catalogue, language, p_value=1 / 400)
        assert said.rarity == ""  # of 400 seconds that the pack was calibrated on
        return said.summary, said.signals[0].text

    silent = "control_unit_silent", "can1:BMS_Pack.#silence", 66.0, 50.0
    assert told(*silent, "en") == (
        "A control unit has fallen silent: message can1:BMS_Pack (Traction battery)",
        "Message can1:BMS_Pack (Traction battery): overdue by 66 of its periods; in a healthy car at most 50.",
    )
    assert told(*silent, "zh")[1] == "报文can1:BMS_Pack（动力电池）：已超时66个周期；正常车辆最多50。"
    dropout = "sensor_dropout", "No_Such.#absent", 12.0, 0.9
    assert told(*dropout, "en")[1] == "Message No_Such: 12 times a second without a value; in a healthy car none."
    assert told(*dropout, "zh")[1] == "报文No_Such：每秒12次没有数值；正常车辆没有。"
    assert told("attack_flooding", "can0.#unknown", 134.0, 20.0, "en")[1] == (
        "Bus can0: 134 frames a second that nobody on it should send; in a healthy car at most 20."
    )
    for kind in (*KINDS, UNKNOWN):
        assert {figure_words(f"M.{kind}", catalogue, language) == "" for language in ("en", "zh")} == {False}
    assert figure_words(FLOW, catalogue, "en") == ""


def test_a_sensor_that_stands_still_or_jumps_is_not_called_too_high(catalogue: Catalogue) -> None:
    still = explain("sensor_stuck", [One(FLOW, "L/min", 11.8, 11.8, 1.0)], catalogue)
    assert (still.summary, still.signals[0].text) == (
        "A sensor's value stands still: Battery coolant flow",
        "Battery coolant flow: stands still at 11.8 L/min; in a healthy car it keeps moving.",
    )
    noisy = explain("sensor_noise", [One(FLOW, "L/min", 11.59, 8.32, 0.7, 0.31), One(INLET, "degC", 27.3, 27.4, 0.15, 0.01)], catalogue)
    assert noisy.lines()[:1] == [
        "Battery coolant flow: jumps about more than a healthy sensor does; just now 8.3 L/min seen, 11.6 L/min (11.3 to 11.9) expected."
    ]
    assert [line.signal for line in noisy.signals] == [FLOW]  # what follows from the first is not worth a sentence


@pytest.mark.parametrize(
    ("seen", "expected", "margin", "said"),
    [
        (400.0, 117.4345, 0.0875, "400.0 km/h seen; a healthy car shows 117.4 km/h (117.3 to 117.5)"),
        (36.3, 36.41595, 0.00435, "36.300 km/h seen; a healthy car shows 36.416 km/h (36.412 to 36.420)"),
        (149.0, 251.0, 24.0, "149 km/h seen; a healthy car shows 251 km/h (227 to 275)"),
        (10.0, 10.52, 0.5, "10.0 km/h seen; a healthy car shows 10.5 km/h (10.0 to 11.0)"),
    ],
)
def test_a_value_has_as_many_figures_as_tell_it_from_the_healthy_range(seen: float, expected: float, margin: float, said: str) -> None:
    assert said in explain("anomaly", [One("A.B", "km/h", expected, seen, 1.0, margin)]).signals[0].text


def test_both_languages_have_every_sentence() -> None:
    english, chinese = _SENTENCES["en"], _SENTENCES["zh"]
    assert english.keys() == chinese.keys()
    for key, sentence in english.items():
        assert {part.split("}")[0] for part in sentence.split("{")[1:]} == {part.split("}")[0] for part in chinese[key].split("{")[1:]}
    assert (unit_words("degC"), unit_words("rpm", "zh"), unit_words("Nm"), unit_words("furlong")) == ("°C", "转/分", "N·m", "furlong")
