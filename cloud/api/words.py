"""Words for what comes off a vehicle, in the language that was asked for."""

from typing import TYPE_CHECKING, Literal

import msgspec

from cloud.roles import END_MS
from models.figure_words import figure_words

if TYPE_CHECKING:
    from dbc.catalogue import Catalogue
    from dbc.schema import Schema

__all__ = ["Language", "Languages", "choice_of", "signal_words"]

Languages = Literal["en", "zh"]


class Language(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The language of words."""

    lang: Languages = "en"


def signal_words(catalogue: "Catalogue | None", signal: str, language: Languages) -> str:
    """What a signal, or a figure of the bus, is in words; empty where the catalogue does not say."""
    if catalogue is None:
        return ""
    entry = catalogue.entry(signal)
    if entry is None:
        return figure_words(signal, catalogue, language)
    return entry.words.zh if language == "zh" else entry.words.en


def choice_of(schema: "Schema | None", number: int | None, value: float) -> str | None:
    """The DBC's word for an enumerated value; None where it has none."""
    choices = schema.choices[number] if schema is not None and number is not None else None
    if schema is None or number is None or not choices:
        return None
    scale = float(schema.scale[number])
    raw = (value - float(schema.offset[number])) / scale if scale else 0.0
    return choices.get(round(raw)) if abs(raw) < END_MS else None
