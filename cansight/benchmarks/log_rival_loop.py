"""The rival of `cansight log decode` for candump: python-can reads, cantools decodes, pyarrow writes the same table.

python -m cansight.benchmarks.log_rival_loop LOG OUT.parquet DBC[@CHANNEL]; prints {"dbc_s": seconds to parse the DBC}.
"""

import json
import sys
import time
from typing import Any

ROWS = 1_000_000


def main(log: str, out: str, dbc: str) -> None:
    import can
    import cantools.database
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, _, channel = dbc.rpartition("@") if "@" in dbc else (dbc, "", "can0")
    start = time.perf_counter()
    database: Any = cantools.database.load_file(path, strict=False)
    known = {(message.frame_id, message.is_extended_frame): message for message in database.messages}
    dbc_s = time.perf_counter() - start
    word = pa.dictionary(pa.int32(), pa.string())
    kinds = {"timestamp": pa.float64(), "channel": word, "message": word, "signal": word, "value": pa.float64(), "valid": pa.bool_()}
    schema = pa.schema(list(kinds.items()))
    columns: dict[str, list[Any]] = {name: [] for name in kinds}
    timestamps, channels, messages, signals, values = (columns[name] for name in ("timestamp", "channel", "message", "signal", "value"))
    options: dict[str, Any] = {"compression": "zstd", "compression_level": 1, "use_dictionary": ["channel", "message", "signal"]}
    with pq.ParquetWriter(out, schema, **options) as writer, can.LogReader(log) as reader:

        def flush() -> None:
            columns["valid"] = [True] * len(values)
            writer.write_table(pa.table({name: pa.array(columns[name], kind) for name, kind in kinds.items()}, schema=schema))
            for name in columns:
                columns[name].clear()

        for frame in reader:
            message = known.get((frame.arbitration_id, frame.is_extended_id))
            if message is None or frame.channel != channel:
                continue
            decoded = message.decode(frame.data, decode_choices=False, allow_truncated=True)
            for name, value in decoded.items():
                timestamps.append(frame.timestamp)
                channels.append(frame.channel)
                messages.append(message.name)
                signals.append(name)
                values.append(float(value))
            if len(values) >= ROWS:
                flush()
        flush()
    print(json.dumps({"dbc_s": dbc_s}))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:4])
