"""The rival of `cansight log decode` for MF4: asammdf decodes, whole columns go to Parquet through pyarrow, signal by signal.

python -m cansight.benchmarks.log_rival_asammdf LOG OUT.parquet DBC[@CHANNEL]; prints {"dbc_s": seconds to parse the DBC}.
"""

import json
import re
import sys
import time
from typing import Any


def main(log: str, out: str, dbc: str) -> None:
    import asammdf
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from asammdf.blocks.utils import load_can_database

    path, _, channel = dbc.rpartition("@") if "@" in dbc else (dbc, "", "can0")
    start = time.perf_counter()
    database: Any = load_can_database(path)
    dbc_s = time.perf_counter() - start
    mdf: Any = asammdf.MDF(log)
    start_s = mdf.header.start_time.timestamp()
    options: dict[str, Any] = {"ignore_value2text_conversion": True}
    decoded: Any = mdf.extract_bus_logging({"CAN": [(database, int(channel.removeprefix("can")) + 1)]}, **options)
    word = pa.dictionary(pa.int32(), pa.string())
    kinds = {"timestamp": pa.float64(), "channel": word, "message": word, "signal": word, "value": pa.float64(), "valid": pa.bool_()}
    schema = pa.schema(list(kinds.items()))

    def constant(text: str, n: int) -> Any:
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([text]))

    compression: dict[str, Any] = {"compression": "zstd", "compression_level": 1, "use_dictionary": ["channel", "message", "signal"]}
    with pq.ParquetWriter(out, schema, **compression) as writer:
        for group in range(len(decoded.groups)):
            tables = []
            found = re.search(r"message (\S+) 0x", decoded.groups[group].channel_group.comment)
            message = found[1] if found else ""
            for signal in _signals(decoded, group):
                n = len(signal.samples)
                values = np.asarray(signal.samples, np.float64)
                arrays = [
                    pa.array(start_s + signal.timestamps),
                    constant(channel, n),
                    constant(message, n),
                    constant(signal.name, n),
                    pa.array(values),
                    pa.array(np.ones(n, np.bool_)),
                ]
                tables.append(pa.Table.from_arrays(arrays, schema=schema))
            if tables:
                writer.write_table(pa.concat_tables(tables).unify_dictionaries())
    print(json.dumps({"dbc_s": dbc_s}))  # noqa: T201


def _signals(mdf: Any, group: int) -> Any:
    names = [channel.name for channel in mdf.groups[group].channels if channel.channel_type not in (2, 3)]
    return mdf.select([(name, group, None) for name in names], raw=False, ignore_value2text_conversions=True) if names else []


if __name__ == "__main__":
    main(*sys.argv[1:4])
