"""MQTT topics: up and down, renew and certificate, and last will; the vehicle's part is its certificate's common name."""

import re

from wire.errors import FormatError

UP_FILTER = "cansight/1/+/up"
DOWN_FILTER = "cansight/1/+/down"
RENEW_FILTER = "cansight/1/+/renew"
CERTIFICATE_FILTER = "cansight/1/+/certificate"
WILL_FILTER = "cansight/1/+/will"
WILL = b"\1"  # a last will's payload: its version
VEHICLE_PATTERN = re.compile(r"[0-9a-f]{16}", re.ASCII)
_UP = re.compile(r"cansight/1/([0-9a-f]{16})/up", re.ASCII)
_WILL = re.compile(r"cansight/1/([0-9a-f]{16})/will", re.ASCII)
_RENEW = re.compile(r"cansight/1/([0-9a-f]{16})/renew", re.ASCII)


def check_vehicle(vehicle: str) -> str:
    """Returns `vehicle` when it is 16 lower-case hexadecimal digits; FormatError otherwise."""
    if VEHICLE_PATTERN.fullmatch(vehicle) is None:
        raise FormatError(f"vehicle id {vehicle[:40]!r}: expected 16 lower-case hexadecimal digits")
    return vehicle


def up(vehicle: str) -> str:
    """The topic a vehicle publishes its batches to."""
    return f"cansight/1/{check_vehicle(vehicle)}/up"


def down(vehicle: str) -> str:
    """The topic a vehicle reads its receipts and requests from."""
    return f"cansight/1/{check_vehicle(vehicle)}/down"


def renew(vehicle: str) -> str:
    """The topic a vehicle asks for a new certificate on."""
    return f"cansight/1/{check_vehicle(vehicle)}/renew"


def certificate(vehicle: str) -> str:
    """The topic a vehicle reads its new certificate from."""
    return f"cansight/1/{check_vehicle(vehicle)}/certificate"


def will(vehicle: str) -> str:
    """The topic on which the broker says that a vehicle went away without a word."""
    return f"cansight/1/{check_vehicle(vehicle)}/will"


def gone(topic: str) -> str | None:
    """The vehicle that a will topic belongs to; None for any other topic."""
    match = _WILL.fullmatch(topic)
    return None if match is None else match[1]


def renewing(topic: str) -> str:
    """The vehicle that a renew topic belongs to; FormatError for any other topic."""
    match = _RENEW.fullmatch(topic)
    if match is None:
        raise FormatError(f"topic {topic[:80]!r}: expected cansight/1/VEHICLE/renew")
    return match[1]


def vehicle_of(topic: str) -> str:
    """The vehicle that an up topic belongs to; FormatError for any other topic."""
    match = _UP.fullmatch(topic)
    if match is None:
        raise FormatError(f"topic {topic[:80]!r}: expected cansight/1/VEHICLE/up")
    return match[1]
