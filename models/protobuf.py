"""Just enough of protobuf's wire format to look into an ONNX file and to leave parts of it out: a vehicle has no onnx package.

https://protobuf.dev/programming-guides/encoding/: a message is a run of fields, each a key (number << 3 | wire type) and a value.
"""

from collections.abc import Iterator, Sequence

from models.errors import PackError

__all__ = ["Part", "as_message", "as_text", "encode_field", "fields"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Part = bytes | memoryview


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, varint or bytes) of each field; fixed-width ones are skipped. Raises PackError on what is not protobuf."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            number, at = _varint(message, at)
            yield field, number
        elif wire == _BYTES:
            length, at = _varint(message, at)
            if length > end - at:
                raise PackError("model.onnx is not an ONNX model: it ends in the middle of a field")
            yield field, message[at : at + length]
            at += length
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        else:
            raise PackError(f"model.onnx is not an ONNX model: wire type {wire} at byte {at}")
    if at > end:
        raise PackError("model.onnx is not an ONNX model: it ends in the middle of a field")


def encode_field(field: int, value: int | Sequence[Part]) -> list[Part]:
    """A field as `fields` gives it, in the pieces that its bytes are joined of: a model's weights are copied once, at the end.

    value: a number, or the pieces of its bytes.
    """
    if isinstance(value, int):
        return [_encoded(field << 3 | _VARINT), _encoded(value)]
    return [_encoded(field << 3 | _BYTES), _encoded(sum(map(len, value))), *value]


def as_message(value: int | memoryview) -> memoryview:
    """A field's value where only a message can stand. Raises PackError."""
    if isinstance(value, int):
        raise PackError("model.onnx is not an ONNX model: a number where a message belongs")
    return value


def as_text(value: memoryview) -> str:
    """The first hundred bytes, whatever they are: for names and for messages to people."""
    return bytes(value[:100]).decode("utf-8", "replace")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 64:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise PackError(f"model.onnx is not an ONNX model: no number at byte {at}")


def _encoded(value: int) -> bytes:
    taken = bytearray()
    while value > 0x7F:
        taken.append(value & 0x7F | 0x80)
        value >>= 7
    taken.append(value)
    return bytes(taken)
