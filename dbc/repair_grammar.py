"""The entries of a DBC as they are met, which is more than the format allows."""

from __future__ import annotations

import re

from dbc.repair_entries import KEYWORDS

BIT_31 = 0x8000_0000  # the format's mark of a 29-bit identifier
STANDARD, EXTENDED = 0x7FF, 0x1FFF_FFFF
NO_NODE = "Vector__XXX"
UNASSIGNED = "VECTOR__INDEPENDENT_SIG_MSG"  # holds signals that are in no message
LONGEST_MESSAGE = 8191  # bytes: what the plan's 16-bit bit numbers reach; J1939 transport has 1,785, fast packet 223
WIDEST_SIGNAL = 8 * 64  # bits. Wider than 64 is no number either, but cantools takes it
MOST_SELECTORS = 1 << 16  # multiplexer values of one message; a range is written out value by value

# Quantifiers are possessive (*+, ++) wherever repetitions meet: a text that nearly fits must not be tried in all its partitions.
NUMBER = r"(?>[-+]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][-+]?[0-9]++)?)"
STRING = r'"(?:\\"|[^"])*+"'
RANGE_OF_VALUES = r"\s*+[0-9]++\s*+-\s*+[0-9]++\s*+"
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# For fullmatch with Entry.body, which has neither space around it nor the ";".
MESSAGE = re.compile(r"BO_\s++(\S+)\s++(\S+?)\s*+:\s*+(\S+)(?:\s++(\S+))?(.*)", re.DOTALL)
SIGNAL = re.compile(
    r"SG_\s++(?P<name>[^\s:]+)(?:\s++(?P<mux>[^\s:]+))?\s*+:\s*+(?P<start>[0-9]++)\s*+\|\s*+(?P<size>[0-9]++)\s*+@\s*+(?P<order>[01])\s*+"
    rf"(?P<sign>[-+])\s*+\(\s*+(?P<scale>{NUMBER})\s*+,\s*+(?P<offset>{NUMBER})\s*+\)(?P<rest>.*)",
    re.DOTALL,
)
RANGE = re.compile(rf"\s*+\[\s*+({NUMBER})\s*+\|\s*+({NUMBER})\s*+\]")
UNIT = re.compile(rf"\s*+({STRING})")
RECEIVERS = re.compile(r"\s*+(?:\w++\s*+(?:,\s*+\w++\s*+)*+)?")
PLAIN_COMMENT = re.compile(rf"CM_\s++(?:SG_\s++\S++\s++\S++|(?:BO_|BU_|EV_)\s++\S++)?\s*+{STRING}", re.DOTALL)
NUMBERED_COMMENT = re.compile(rf"CM_\s++(?:(SG_|BO_)\s++)?([0-9]++)\s*+{STRING}", re.DOTALL)
VALUES = re.compile(rf"VAL_\s++(?:(?P<id>[0-9]\S*+)\s++)?(?P<name>\S++)(?P<pairs>(?:\s*+{NUMBER}\s*+{STRING})*+)", re.DOTALL)
DAMAGED_VALUES = re.compile(r"VAL_\s++([0-9]++)\s++(\S++)\s(.*)", re.DOTALL)
PAIR = re.compile(rf"({NUMBER})\s*+({STRING})", re.DOTALL)
FLOAT = re.compile(r"SIG_VALTYPE_\s++(\S++)\s++([^\s:]++)\s*+:?\s*+([0-3])")
SELECTORS = re.compile(rf"SG_MUL_VAL_\s++(\S++)\s++(\S++)\s++(\S++)\s({RANGE_OF_VALUES}(?:,{RANGE_OF_VALUES})*+)")
VALUE_RANGE = re.compile(r"([0-9]++)\s*+-\s*+([0-9]++)")
ABOUT_SIGNAL = re.compile(r"\w++\s++([0-9]++)\s++([^\s:]++)")
DEFINITION = re.compile(rf"BA_DEF_\s++((?:SG_|BO_|EV_|BU_)\s++)?({STRING})\s++([A-Z]++)(.*)", re.DOTALL)
DEFAULT = re.compile(rf"BA_DEF_DEF_\s++({STRING})\s*+({NUMBER}|{STRING})", re.DOTALL)
ATTRIBUTE = re.compile(
    rf"BA_\s++({STRING})\s*+(?:(?P<kind>BO_|BU_|EV_)\s++(?P<of>\S++)\s++|(?P<about>SG_)\s++(?P<message>\S++)\s++(?P<signal>\S++)\s++)?"
    rf"(?P<value>{NUMBER}|{STRING})",
    re.DOTALL,
)
WORDS = re.compile(rf"{STRING}\s*+(?:,\s*+{STRING}\s*+)*+", re.DOTALL)
BOUNDS = re.compile(rf"{NUMBER}\s++{NUMBER}")

# Numbers that make cantools take the machine's memory: bits and bytes are written out one by one.
_HUGE_MESSAGE = re.compile(r"\bBO_\s++\S+\s++\S+?\s*+:\s*+([0-9]{5,})")
_HUGE_SIGNAL = re.compile(r":\s*+([0-9]++)\s*+\|\s*+([0-9]++)\s*+@")


def is_monstrous(text: str) -> bool:
    """Whether cantools must not see the text as it is."""
    selectors = sum(
        max(0, int(high[:19]) - int(low[:19]) + 1)
        for entry in re.finditer(r"\bSG_MUL_VAL_[^;]*+", text)
        for low, high in VALUE_RANGE.findall(entry[0])
    )
    return (
        selectors > 4 * MOST_SELECTORS
        or any(int(found[1][:19]) > LONGEST_MESSAGE for found in _HUGE_MESSAGE.finditer(text))
        or any(len(start) > 6 or len(size) > 4 or int(size) > WIDEST_SIGNAL for start, size in _HUGE_SIGNAL.findall(text))
    )


def is_word(text: str) -> bool:
    """Whether it may be the name of a message or signal: a C identifier, and no keyword of the format."""
    return WORD.fullmatch(text) is not None and text not in KEYWORDS


def whole(text: str) -> int | None:
    """A whole number, decimal or 0x…, also as 8.0; None for anything else."""
    if re.fullmatch(r"[-+]?[0-9]{1,40}", text):
        return int(text)
    if re.fullmatch(r"0[xX][0-9A-Fa-f]{1,16}", text):
        return int(text, 16)
    if re.fullmatch(r"[-+]?[0-9]{1,40}\.0*", text):
        return int(text.partition(".")[0])
    return None


def leading_zero(number: str) -> str:
    """.5 as 0.5, which cantools needs."""
    return re.sub(r"^([-+]?)\.", r"\g<1>0.", number)


def excerpt(text: str, width: int = 60) -> str:
    """On one line of at most `width` characters, for a report."""
    words = " ".join(text.split())
    return words if len(words) <= width else words[: width - 1] + "…"


def plain_name(name: str) -> str:
    """The name as a word of the format."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return plain if is_word(plain) else f"_{plain}"
