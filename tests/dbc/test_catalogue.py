"""The signal catalogue: complete for our vehicle, strict about its form."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbc.catalogue import PRIVACY_CLASSES, Catalogue
from dbc.compiler import compile_dbc
from dbc.errors import CatalogueError
from dbc.vehicles import CATALOGUE, DBC_FILES

SMALL = """
vehicle = "x"
[subsystems]
s = { en = "S", zh = "系" }
[purposes]
p = { en = "P", zh = "用" }
[faults.f]
en = "F"
zh = "障"
subsystem = "s"
action_en = "Do"
action_zh = "做"
signals = ["M.A"]
[signals]
"M.A" = { subsystem = "s", purpose = "p", privacy = "location", en = "A", zh = "甲" }
"""


def test_every_signal_of_the_vehicle_has_an_entry_and_no_entry_is_without_a_signal() -> None:
    catalogue, schema = Catalogue.load(CATALOGUE), compile_dbc(DBC_FILES).schema
    catalogue.check(schema.names)
    assert set(catalogue.signals) == set(schema.names)
    assert {entry.privacy for entry in catalogue.signals.values()} == set(PRIVACY_CLASSES)
    assert next(iter(catalogue.faults)) == "coolant_leak"


def test_words_are_in_both_languages() -> None:
    catalogue = Catalogue.load(CATALOGUE)
    words = [entry.words for entry in catalogue.signals.values()] + [w for f in catalogue.faults.values() for w in (f.words, f.action)]
    for both in [*words, *catalogue.subsystems.values(), *catalogue.purposes.values()]:
        assert both.en.isascii(), both
        assert any("\u4e00" <= letter <= "\u9fff" for letter in both.zh), both


def test_identity_and_location_are_where_they_must_be() -> None:
    catalogue = Catalogue.load(CATALOGUE)
    assert {name for name, entry in catalogue.signals.items() if entry.privacy == "identity"} == {
        f"GW_Vin.VinCharacter{number:02d}" for number in range(1, 18)
    }
    assert catalogue.consent_class("GNSS_Position.Latitude") == "location"
    assert catalogue.consent_class("can1:GNSS_Position.Latitude") == "location"
    assert catalogue.consent_class("ESP_Motion.VehicleSpeed") == "driving"
    assert catalogue.consent_class("Some.Other") == "technical"
    # The leak's detector must not fall silent because the owner keeps the driving to himself.
    assert {catalogue.consent_class(name) for name in catalogue.fault("coolant_leak").signals} == {"technical"}


def test_an_unknown_fault_code_is_told_with_those_there_are(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.toml"
    path.write_text(SMALL, encoding="utf-8")
    catalogue = Catalogue.load(path)
    assert catalogue.fault("f").action.zh == "做"
    assert catalogue.words("M.A").en == "A"
    assert catalogue.words("M.B").zh == "M.B"
    with pytest.raises(CatalogueError, match="it has: f"):
        catalogue.fault("g")
    with pytest.raises(CatalogueError, match=r"M\.A"):
        catalogue.check(["M.B"])
    assert Catalogue.empty().consent_class("M.A") == "technical"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('vehicle = "x"', "", "lacks vehicle"),
        ('privacy = "location"', 'privacy = "secret"', 'signals."M.A".privacy: expected one of technical'),
        ('purpose = "p"', 'purpose = "q"', "purpose: expected one of p; found 'q'"),
        ('zh = "甲"', 'zh = ""', "zh: expected text"),
        ('zh = "甲"', 'zh = "甲", more = 1', "unknown key more"),
        ('signals = ["M.A"]', "signals = [1]", "faults.f.signals: expected a list"),
        ('"M.A" = {', '"M.A" = [', "is not TOML"),
        ("[faults.f]", "[[faults.f]]", "faults.f: expected a table"),
        ("\nvehicle", "\nother = 3\nvehicle", "unknown key other"),
    ],
)
def test_what_does_not_fit_is_named_with_file_and_key(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    path = tmp_path / "catalogue.toml"
    path.write_text(SMALL.replace(old, new), encoding="utf-8")
    with pytest.raises(CatalogueError) as error:
        Catalogue.load(path)
    assert str(error.value).startswith(f"{path}: ")
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_or_binary_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="cannot be read"):
        Catalogue.load(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(CatalogueError, match="not UTF-8"):
        Catalogue.load(tmp_path / "binary.toml")


@pytest.mark.parametrize(
    ("signal", "consent_class"),
    [
        ("ENG1S51.VIN_1", "identity"),
        ("can1:Ident.IDT_VIN_14", "identity"),
        ("ID405VIN.VINB405", "identity"),
        ("GW_Vin.VinPart", "identity"),
        ("STANDSTILL.WHEELS_MOVING", "technical"),
        ("TCU_DCT13.Clutch_Driving_Tq", "technical"),
        ("ENG1F03.DVINF", "technical"),
    ],
)
def test_a_signal_that_no_catalogue_lists_is_identity_when_its_name_says_vin(signal: str, consent_class: str) -> None:
    assert Catalogue.empty().consent_class(signal) == consent_class
