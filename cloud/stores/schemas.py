"""Schemas as bytes, for a store that keeps them beside the values."""

from typing import Any

import msgspec
import numpy as np

from dbc.schema import Schema

_ARRAYS = {"kind": np.uint8, "scale": np.float64, "offset": np.float64, "minimum": np.float64, "maximum": np.float64}
_ARRAYS |= {"channel": np.uint8, "period_ms": np.float64}


def dump_schema(schema: Schema) -> bytes:
    """`schema` in MessagePack; floats exactly, NaN included."""
    form: dict[str, Any] = {name: getattr(schema, name).tolist() for name in _ARRAYS}
    form |= {"channels": schema.channels, "names": schema.names, "units": schema.units}
    form["choices"] = [None if words is None else {int(raw): str(word) for raw, word in words.items()} for words in schema.choices]
    form["schema_id"] = schema.schema_id
    return msgspec.msgpack.encode(form)


def load_schema(body: bytes) -> Schema:
    """The inverse. Raises ValueError when the bytes are not the schema they name."""
    form: dict[str, Any] = msgspec.msgpack.decode(body, strict=False)
    schema = Schema(
        channels=tuple(form["channels"]),
        names=tuple(form["names"]),
        units=tuple(form["units"]),
        choices=tuple(form["choices"]),
        **{name: np.array(form[name], dtype) for name, dtype in _ARRAYS.items()},
    )
    if schema.schema_id != form["schema_id"]:
        raise ValueError(f"schema {form['schema_id'].hex()} reads back as {schema.schema_id.hex()}")
    return schema
