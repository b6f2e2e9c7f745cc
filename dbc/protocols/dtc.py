"""Diagnostic trouble codes, out of the payloads of OBD-II, UDS and J1939.

OBD-II modes 03, 07 and 0A   answer 0x43, 0x47, 0x4A: on CAN a count, then two bytes a code (SAE J1979; letters SAE J2012)
UDS 19 02                    answer 0x59 0x02: mask, then three bytes and a status a code (ISO 14229-1, 11.3)
J1939 DM1, DM2               two lamp bytes, then four bytes a code: SPN 19, FMI 5, method 1, count 7 (J1939-73, 5.7)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["DM1_PGN", "DM2_PGN", "Dtc", "DtcReport", "J1939Dtc", "Kind", "Lamps", "from_answer", "from_group", "j2012"]

DM1_PGN, DM2_PGN = 0xFECA, 0xFECB
OBD_STORED, OBD_PENDING, OBD_PERMANENT = 0x43, 0x47, 0x4A
UDS_REPORT, UDS_BY_STATUS_MASK = 0x59, 0x02

CONFIRMED = 0x08  # status bit 3, ISO 14229-1 annex D.2
PENDING = 0x04  # bit 2

FMI_NONE = 31  # with SPN 0: "no code"; all ones in older senders
SPN_ALL_ONES = 0x7FFFF


class Kind(StrEnum):
    """What the sender says about a code."""

    STORED = "stored"
    PENDING = "pending"
    PERMANENT = "permanent"
    ACTIVE = "active"
    PREVIOUS = "previously active"


@dataclass(frozen=True, slots=True)
class Dtc:
    """A code of a road vehicle, with its letter."""

    code: str  # "P0301"; of UDS with the failure type: "P0301-1C"
    kind: Kind
    status: int | None = None  # UDS: the status byte

    def __str__(self) -> str:
        return self.code


@dataclass(frozen=True, slots=True)
class J1939Dtc:
    """A suspect parameter and how it failed."""

    spn: int
    fmi: int
    count: int | None  # how often it became active; None = not available
    kind: Kind
    old_form: bool  # the conversion method bit is set: the SPN's byte order is one of three old ones, and not known from the message

    def __str__(self) -> str:
        return f"SPN {self.spn} FMI {self.fmi}"


@dataclass(frozen=True, slots=True)
class Lamps:
    """Of DM1 and DM2: True = on, False = off, None = not available."""

    malfunction: bool | None
    red_stop: bool | None
    amber_warning: bool | None
    protect: bool | None


@dataclass(frozen=True, slots=True)
class DtcReport:
    """All codes of one answer or group; `truncated` where the payload ended inside a code."""

    codes: tuple[Dtc | J1939Dtc, ...]
    lamps: Lamps | None = None
    truncated: bool = False


def j2012(high: int, low: int) -> str:
    """The five characters of a code of two bytes (SAE J2012): "P0301" of 0x03 0x01, "U0100" of 0xC1 0x00."""
    return f"{'PCBU'[high >> 6]}{high >> 4 & 3}{high & 0xF:X}{low:02X}"


def from_answer(payload: bytes) -> DtcReport | None:
    """Codes of a diagnostic answer, from its service byte on; None where it is another service."""
    if not payload:
        return None
    kinds = {OBD_STORED: Kind.STORED, OBD_PENDING: Kind.PENDING, OBD_PERMANENT: Kind.PERMANENT}
    if payload[0] in kinds and len(payload) >= 2:
        return _obd(payload[1], payload[2:], kinds[payload[0]])
    if payload[0] == UDS_REPORT and len(payload) >= 3 and payload[1] == UDS_BY_STATUS_MASK:
        return _uds(payload[3:])
    return None


def from_group(pgn: int, payload: bytes) -> DtcReport | None:
    """Codes of a J1939 group, reassembled where it had several frames; None where it is neither DM1 nor DM2."""
    if pgn not in (DM1_PGN, DM2_PGN) or len(payload) < 2:
        return None
    kind = Kind.ACTIVE if pgn == DM1_PGN else Kind.PREVIOUS
    lamp = payload[0]
    lamps = Lamps(*(_lamp(lamp >> shift & 3) for shift in (6, 4, 2, 0)))
    body = payload[2:]
    codes: list[Dtc | J1939Dtc] = []
    whole = len(body) // 4 * 4
    for at in range(0, whole, 4):
        low, middle, high, rest = body[at : at + 4]
        spn, fmi = low | middle << 8 | high >> 5 << 16, high & 0x1F
        if (spn, fmi) in ((0, 0), (0, FMI_NONE), (SPN_ALL_ONES, FMI_NONE)):  # "none", and padding
            continue
        count = rest & 0x7F
        codes.append(J1939Dtc(spn, fmi, None if count == 0x7F else count, kind, bool(rest >> 7)))
    # One code fills a single frame of eight bytes with two bytes of padding; anything else left over is a code cut short.
    padding = len(payload) == 8 and set(body[whole:]) <= {0xFF, 0x00}
    return DtcReport(tuple(codes), lamps, truncated=len(body) != whole and not padding)


def _obd(count: int, body: bytes, kind: Kind) -> DtcReport:
    codes = [Dtc(j2012(body[at], body[at + 1]), kind) for at in range(0, min(2 * count, len(body) - 1), 2)]
    return DtcReport(tuple(codes), truncated=len(codes) < count)


def _uds(body: bytes) -> DtcReport:
    whole = len(body) // 4 * 4
    codes = []
    for at in range(0, whole, 4):
        high, low, failure, status = body[at : at + 4]
        kind = Kind.STORED if status & CONFIRMED else Kind.PENDING if status & PENDING else Kind.PREVIOUS
        codes.append(Dtc(f"{j2012(high, low)}-{failure:02X}", kind, status))
    return DtcReport(tuple(codes), truncated=len(body) != whole)


def _lamp(bits: int) -> bool | None:
    return {0: False, 1: True}.get(bits)
