"""InfluxDB line protocol from a batch's columns, against influxdb-client's Point."""

from cansight.benchmarks.material import Material
from cansight.benchmarks.result import Result, medians_s


def lines(material: Material) -> list[Result]:
    """One wide line per bus and tick, the same fields and values on both sides."""
    import numpy as np
    from influxdb_client.client.write.point import Point
    from influxdb_client.domain.write_precision import WritePrecision

    from cloud.events import TickRows
    from cloud.line_protocol import SignalLines

    schema, columns = material.compiled.schema, material.seen.astype(np.int32)
    some = material.snapshots[-20:]
    rows = TickRows(
        vehicle="0" * 16,
        model="benchmark",
        stream=bytes(16),
        sequence=1,
        received_ms=0,
        replay=True,
        schema=schema,
        columns=columns,
        tick_ms=np.array([snapshot.tick_ns // 1_000_000 for snapshot in some]),
        raw=np.stack([snapshot.raw[columns] for snapshot in some]),
        reason=np.stack([snapshot.reason[columns] for snapshot in some]),
    )
    encoder = SignalLines()
    names = [schema.names[column] for column in columns]
    buses = [schema.channels[schema.channel[column]] for column in columns]

    def rival() -> list[str]:
        points = []
        for tick, values in zip(rows.tick_ms.tolist(), rows.value.tolist(), strict=True):
            for bus in sorted(set(buses)):
                point = Point("signals").tag("vehicle", rows.vehicle).tag("model", rows.model).tag("bus", bus).time(tick, WritePrecision.MS)
                for name, value, here in zip(names, values, buses, strict=True):
                    if here == bus and value == value:
                        point.field(name, value)
                points.append(point.to_line_protocol())
        return points

    ours = [line for line in encoder.encode(rows) if line.startswith("signals,")]
    if sorted(map(_parsed, ours)) != sorted(map(_parsed, rival())):
        raise ValueError("the two sides do not write the same points")
    values = rows.value.size
    mine, other = medians_s(lambda: SignalLines().encode(rows), rival)
    what = f"line protocol of {len(names)} signals x {len(some)} ticks"
    return [Result("lines", what, "influxdb-client Point", "values/s", values / mine, values / other, other / mine, 2.0)]


def _parsed(line: str) -> tuple[str, tuple[tuple[str, float], ...], str]:
    """(tags, sorted fields, time) of a line without escapes or strings."""
    tags, fields, time = line.split(" ")
    pairs = (field.partition("=") for field in fields.split(","))
    return ",".join(sorted(tags.split(","))), tuple(sorted((name, float(value)) for name, _, value in pairs)), time
