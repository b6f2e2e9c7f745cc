"""Where a list goes on: the position after the last row that was given, as text that only this API reads."""

import base64
import binascii
from typing import Any, TypeVar

import msgspec

from cloud.api.guard import BadRequest

__all__ = ["MAX_LIMIT", "cursor_at", "position_of"]

MAX_LIMIT = 1000

T = TypeVar("T")


def cursor_at(position: Any) -> str:
    """`position`: what JSON can hold."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).rstrip(b"=").decode()


def position_of(cursor: str, kind: type[T]) -> T:
    """The position in a cursor. Raises BadRequest for what is none."""
    try:
        return msgspec.json.decode(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True), type=kind)
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        raise BadRequest(f"cursor: expected the `next` of an answer to the same question, found {cursor[:60]!r}") from None
