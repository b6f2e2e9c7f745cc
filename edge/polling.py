"""Active polling: what may be asked, and when. Pure; `edge/poller.py` does the sending.

The agent listens. Where its owner switches polling on, it asks the ECUs for values that they do not send by themselves, and only

- OBD modes 01 and 09, and UDS 19, 22 and 3E, in the default session: requests that read, and change nothing;
- while the vehicle's speed is known and 0, so that nothing it might do can matter to someone who drives;
- until another tester speaks: two of them on one bus mix up each other's answers. It then stays silent until it is started again.

What is answered is heard by the agent as everything on the bus is (`dbc.protocols`); nothing is decoded here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from dbc.frames import EFF_FLAG, EFF_MASK, ERR_FLAG, RTR_FLAG, SFF_MASK, FrameBlock
from dbc.protocols.uds import is_identity
from edge.errors import ConfigError

__all__ = ["Link", "Polling", "Silence", "checked_request", "identifier"]

OBD_CURRENT, OBD_VEHICLE = 0x01, 0x09
UDS_READ_CODES, UDS_READ, UDS_TESTER_PRESENT = 0x19, 0x22, 0x3E
ALLOWED = (OBD_CURRENT, OBD_VEHICLE, UDS_READ_CODES, UDS_READ, UDS_TESTER_PRESENT)
MOST_BYTES = {OBD_CURRENT: 7, OBD_VEHICLE: 2, UDS_READ_CODES: 6, UDS_READ: 7, UDS_TESTER_PRESENT: 2}  # all of them fit a single frame
LEAST_BYTES = {OBD_CURRENT: 2, OBD_VEHICLE: 2, UDS_READ_CODES: 2, UDS_READ: 3, UDS_TESTER_PRESENT: 2}

SPEED_AGE_NS = 2_000_000_000  # a speed is known for so long after its tick: two ticks
ANSWER_NS = 5_000_000_000  # P2* of ISO 14229-2: an ECU that said "response pending" may take so long
ECHO_NS = 1_000_000_000  # within which a frame of ours comes back to us
PAUSE_MOST_NS = 300_000_000_000
FRUITLESS = 3  # requests without an answer, after which the pause doubles

# Identifiers on which testers speak: ISO 15765-4, and with 29 bits every one whose source is a tester's address.
FUNCTIONAL, PHYSICAL_FIRST = 0x7DF, 0x7E0
ANSWER_FIRST, ANSWER_LAST = 0x7E8, 0x7EF
SFF_DIGITS = 3  # of an 11-bit identifier
FIXED_FORMATS = (0x18DA, 0x18DB)
TESTER_FIRST, TESTER_LAST = 0xF0, 0xFD  # ISO 15765-2 with SAE J1939-84: off-board tools, of which F1 is the usual one


def identifier(text: str) -> int:
    """An identifier as the settings have it: hexadecimal, more than three digits = 29 bits, with EFF_FLAG. Raises ConfigError."""
    number = int(text, 16)
    if number > (EFF_MASK if len(text) > SFF_DIGITS else SFF_MASK):
        raise ConfigError(f"polling: {text} is no identifier: expected at most 7FF, or eight digits up to 1FFFFFFF")
    return number | EFF_FLAG if len(text) > SFF_DIGITS else number


class Silence(StrEnum):
    """Why nothing is sent now."""

    SPEED_UNKNOWN = "the speed is not known"
    MOVING = "the vehicle moves"
    OTHER_TESTER = "another tester has spoken"
    WAITING = "an answer is awaited"
    PAUSE = "the next request is not due"


@dataclass(frozen=True, slots=True)
class Link:
    """Where requests go and answers come from. Identifiers carry EFF_FLAG where they have 29 bits."""

    channel: str
    request_id: int
    answer_id: int


def checked_request(text: str) -> bytes:
    """A request as hexadecimal text ("01 0C", "22 F4 0C"). Raises ConfigError for whatever polling never sends."""
    try:
        request = bytes.fromhex(text)
    except ValueError as error:
        raise ConfigError(f"polling.requests: {text!r}: expected hexadecimal bytes, as in '01 0C'") from error
    service = request[0] if request else -1
    if service not in ALLOWED:
        raise ConfigError(
            f"polling.requests: {text!r}: only OBD 01 and 09 and UDS 19, 22 and 3E are sent; every other service may change something"
        )
    if not LEAST_BYTES[service] <= len(request) <= MOST_BYTES[service] or (service == UDS_READ and len(request) % 2 == 0):
        raise ConfigError(f"polling.requests: {text!r}: {len(request)} bytes; service {service:02X} has other requests")
    if service == UDS_TESTER_PRESENT and request[1] not in (0x00, 0x80):
        raise ConfigError(f"polling.requests: {text!r}: expected 3E 00 or 3E 80")
    identifiers = [request[at : at + 2] for at in range(1, len(request), 2)] if service == UDS_READ else []
    if is_identity(request) or any(is_identity(bytes([UDS_READ]) + identifier) for identifier in identifiers):
        raise ConfigError(f"polling.requests: {text!r}: asks for the VIN, which identifies the vehicle and is never recorded")
    return request


class Polling:
    """The rules. The owner tells it what it sees (`speed`, `hear`, `answered`), and asks what to send (`next`).

    now_ns is any clock that does not jump; frames are heard at the now_ns of their block.
    """

    def __init__(self, link: Link, requests: Iterable[bytes], interval_ns: int) -> None:
        """interval_ns: between one request and the next."""
        self._link = link
        self._requests = tuple(requests)
        self._interval_ns = interval_ns
        self._turn = 0
        self._speed: tuple[float, int] | None = None  # value, when
        self._due_ns = 0
        self._waiting_since: int | None = None
        self._expects_ns = -ANSWER_NS  # answers until then plus ANSWER_NS are to us
        self._fruitless = 0
        self._sent: list[tuple[bytes, int]] = []  # frames of ours that have not come back
        self.other_tester: int | None = None  # identifier on which one spoke
        self.asked = self.unanswered = 0

    def speed(self, value: float | None, now_ns: int) -> None:
        """The vehicle's speed at a tick, in any unit; None = not known."""
        self._speed = None if value is None or not np.isfinite(value) else (value, now_ns)

    def silence(self, now_ns: int) -> Silence | None:
        """Why nothing may be sent now; None = the next request may."""
        if self.other_tester is not None:
            return Silence.OTHER_TESTER
        if self._speed is None or not 0 <= now_ns - self._speed[1] <= SPEED_AGE_NS:
            return Silence.SPEED_UNKNOWN
        if self._speed[0] != 0:
            return Silence.MOVING
        if self._waiting_since is not None and now_ns - self._waiting_since < ANSWER_NS:
            return Silence.WAITING
        return Silence.PAUSE if now_ns < self._due_ns else None

    def next(self, now_ns: int) -> bytes | None:
        """The request to send now; None = none (`silence` says why). It counts as sent."""
        if self._waiting_since is not None and now_ns - self._waiting_since >= ANSWER_NS:
            self.unanswered += 1
            self._fruitless += 1
            self._waiting_since = None
            doubled = self._interval_ns << min(self._fruitless // FRUITLESS, 16)
            self._due_ns = max(self._due_ns, now_ns + min(doubled, PAUSE_MOST_NS) - self._interval_ns)
        if not self._requests or self.silence(now_ns) is not None:
            return None
        request = self._requests[self._turn % len(self._requests)]
        self._turn += 1
        self._due_ns = now_ns + self._interval_ns
        self._waiting_since = None if request == b"\x3e\x80" else now_ns  # "no answer, please"
        self._expects_ns = now_ns
        self.asked += 1
        return request

    def answered(self, now_ns: int) -> None:
        """The awaited answer has come, positive or not. "Response pending" is none."""
        self._waiting_since = None
        self._fruitless = 0

    def sending(self, payload: bytes, now_ns: int) -> None:
        """A frame of ours goes out (requests, flow control): it may be heard again."""
        self._sent = [(data, since) for data, since in self._sent if now_ns - since <= ECHO_NS]
        self._sent.append((payload, now_ns))

    def hear(self, block: FrameBlock, now_ns: int) -> None:
        """Look for another tester among the frames of the bus."""
        if self.other_tester is not None:
            return
        suspects = [identifier for identifier in np.unique(block.frame_id).tolist() if _of_tester(identifier)]
        if not suspects:
            return
        numbers = [number for number, name in enumerate(block.channels) if name == self._link.channel]
        for frame in np.flatnonzero(np.isin(block.frame_id, suspects) & np.isin(block.channel, numbers)).tolist():
            self.hear_one(int(block.frame_id[frame]), block.data[frame, : block.length[frame]].tobytes(), now_ns)

    def hear_one(self, identifier: int, payload: bytes, now_ns: int) -> None:
        """The same for one frame of the link's channel. identifier: with EFF_FLAG where it has 29 bits."""
        if self.other_tester is None and _of_tester(identifier) and not self._is_ours(identifier, payload, now_ns):
            self.other_tester = identifier

    def _is_ours(self, identifier: int, payload: bytes, now_ns: int) -> bool:
        if identifier == self._link.request_id:
            for place, (data, since) in enumerate(self._sent):
                if now_ns - since <= ECHO_NS and payload.startswith(data):
                    del self._sent[place]  # once: the same request again is somebody else's
                    return True
            return False
        # An answer that nobody here has asked for is somebody's; ours may still be on its way.
        return _is_answer(identifier) and identifier == self._link.answer_id and now_ns - self._expects_ns <= ANSWER_NS


def _is_answer(identifier: int) -> bool:
    if identifier & EFF_FLAG:
        return TESTER_FIRST <= (identifier >> 8 & 0xFF) <= TESTER_LAST
    return ANSWER_FIRST <= identifier <= ANSWER_LAST


def _of_tester(identifier: int) -> bool:
    """Whether a tester sends frames of this identifier, or they answer one."""
    if not identifier & EFF_FLAG:
        return identifier == FUNCTIONAL or PHYSICAL_FIRST <= identifier <= ANSWER_LAST
    if identifier & (RTR_FLAG | ERR_FLAG) or identifier >> 16 & 0x1FFF not in FIXED_FORMATS:
        return False
    return any(TESTER_FIRST <= address <= TESTER_LAST for address in (identifier & 0xFF, identifier >> 8 & 0xFF))
