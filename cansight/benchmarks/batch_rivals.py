"""What others send for the same ticks: JSON columns + zlib, and protobuf + snappy as AWS IoT FleetWise's edge agent does."""

import json
import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cansight.errors import UsageError

Batch = tuple[list[int], NDArray[np.float64]]  # ticks in ms; (t, m) physical values, NaN = not valid


def json_columns(names: list[str]) -> tuple[Callable[[Batch], bytes], Callable[[bytes], Batch]]:
    """Encoder and decoder: times and one named column for each signal, compressed."""

    def encode(batch: Batch) -> bytes:
        ticks, values = batch
        columns = [[None if value != value else value for value in column] for column in values.T.tolist()]
        document = {"t": ticks, **dict(zip(names, columns, strict=True))}
        return zlib.compress(json.dumps(document, separators=(",", ":")).encode())

    def decode(data: bytes) -> Batch:
        document = json.loads(zlib.decompress(data))
        ticks = document.pop("t")
        return ticks, np.array([document[name] for name in names], dtype=np.float64).T

    return encode, decode


def protobuf_signals() -> tuple[Callable[[Batch], bytes], Callable[[bytes], dict[tuple[int, int], float]]]:
    """Encoder and decoder: one message {signal id, relative time, double} for each valid value, snappy over the whole.

    The layout is vehicle_data.proto's of aws-iot-fleetwise-edge (Apache-2.0): VehicleData{campaign, decoder, event id, event time,
    CapturedSignal{signal_id, relative_time_ms, double_value}}. The decoder gives (tick in ms, signal) -> value.
    """
    try:  # not imports, because there are no types of them
        snappy: Any = import_module("snappy")
        descriptor_pb2, descriptor_pool, message_factory = (
            import_module(f"google.protobuf.{name}") for name in ("descriptor_pb2", "descriptor_pool", "message_factory")
        )
    except ImportError as error:
        raise UsageError(f"bench batch: the rival needs {error.name}; `pip install protobuf python-snappy`") from error

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="vehicle_data.proto", package="rival", syntax="proto3")
    signal = file.message_type.add(name="CapturedSignal")
    for number, (name, kind) in enumerate((("signal_id", kinds.TYPE_UINT32), ("relative_time_ms", kinds.TYPE_SINT64)), 1):
        signal.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    signal.oneof_decl.add(name="value")  # a field of a oneof is sent also when it is 0
    signal.field.add(name="double_value", number=3, type=kinds.TYPE_DOUBLE, label=kinds.LABEL_OPTIONAL, oneof_index=0)
    data = file.message_type.add(name="VehicleData")
    heads = (("campaign_sync_id", kinds.TYPE_STRING), ("decoder_sync_id", kinds.TYPE_STRING), ("event_id", kinds.TYPE_UINT32))
    for number, (name, kind) in enumerate((*heads, ("event_time_ms", kinds.TYPE_UINT64)), 1):
        data.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    data.field.add(
        name="captured_signals", number=5, type=kinds.TYPE_MESSAGE, label=kinds.LABEL_REPEATED, type_name=".rival.CapturedSignal"
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    vehicle_data: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("rival.VehicleData"))

    def encode(batch: Batch) -> bytes:
        ticks, values = batch
        message = vehicle_data(campaign_sync_id="default", decoder_sync_id="drive", event_id=1, event_time_ms=ticks[0])
        for tick_ms, row in zip(ticks, values.tolist(), strict=True):
            for number, value in enumerate(row):
                if value == value:
                    message.captured_signals.add(signal_id=number, relative_time_ms=tick_ms - ticks[0], double_value=value)
        packed: bytes = snappy.compress(message.SerializeToString())
        return packed

    def decode(data: bytes) -> dict[tuple[int, int], float]:
        message = vehicle_data.FromString(snappy.uncompress(data))
        return {(message.event_time_ms + one.relative_time_ms, one.signal_id): one.double_value for one in message.captured_signals}

    return encode, decode
