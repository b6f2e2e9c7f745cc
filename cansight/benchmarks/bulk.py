"""A recording's frames to signals in blocks of 4,000, against cantools and against asammdf."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from cansight.benchmarks.decode import drive
from cansight.benchmarks.material import Material
from cansight.benchmarks.result import Result
from dbc.bench import bench_decode, compare, recorded_blocks
from dbc.compiler import compile_dbc
from dbc.dbc_file import parse_file_argument
from dbc.decoder import Decoder
from dbc.frames import FrameBlock
from dbc.vehicles import DBC_FILES

BLOCK_FRAMES = 4000
FRAMES = 200_000
FRAMES_CANTOOLS = 40_000


def bulk(material: Material) -> list[Result]:
    """Physical values in float64, validity included."""
    source = drive(material)
    found = bench_decode(material.log, material.files, block_frames=BLOCK_FRAMES, frames=FRAMES_CANTOOLS, source=source)
    what = f"decode {found['frames']:,.0f} frames, {found['signals_per_frame']:.1f} signals each, blocks of {BLOCK_FRAMES}"
    results = [Result("bulk", what, "cantools decode_message", "frames/s", found["ours"], found["rival"], found["ratio"], 30.0)]
    return [*results, _against_asammdf(material, source)]


def _against_asammdf(material: Material, source: list[FrameBlock]) -> Result:
    """asammdf has the same frames as an MF4 file, open, and leaves its values unscaled until they are asked for; ours are scaled."""
    import asammdf
    from asammdf.blocks.utils import load_can_database

    from dbc.logs.writers import open_log_writer

    file = parse_file_argument(material.files[0] if material.files else DBC_FILES[0]).path
    compiled = compile_dbc([file])
    blocks = recorded_blocks(material.log, source, compiled, BLOCK_FRAMES, FRAMES)
    decoder = Decoder(compiled, blocks[0].channels)
    database: Any = load_can_database(file)
    with tempfile.TemporaryDirectory(prefix="cansight-bench-") as folder:
        log = Path(folder) / "log.mf4"
        with open_log_writer(log) as writer:
            for block in blocks:
                writer.write(block)
        with asammdf.MDF(log) as mdf:

            def theirs() -> Any:
                options: dict[str, Any] = {"ignore_value2text_conversion": True}
                return mdf.extract_bus_logging({"CAN": [(database, 1)]}, **options)

            def ours() -> None:
                for block in blocks:
                    _ = decoder.decode(block).value

            values = _check(compiled.schema.names, decoder, blocks, theirs())
            total = sum(map(len, blocks))
            speeds = compare({"ours": ours, "rival": theirs}, total)
    what = f"decode {total:,} frames, {values:,} values, blocks of {BLOCK_FRAMES}"
    rival = "asammdf extract_bus_logging"
    return Result("bulk", what, rival, "frames/s", speeds["ours"], speeds["rival"], speeds["ours"] / speeds["rival"], 5.0)


def _check(names: tuple[str, ...], decoder: Decoder, blocks: list[FrameBlock], decoded: Any) -> int:
    """Every signal of asammdf's has our values, where ours are valid. Returns how many were compared."""
    parts = [decoder.decode(block) for block in blocks]
    signal = np.concatenate([part.signal for part in parts])
    value = np.concatenate([part.value for part in parts])
    order = signal.argsort(kind="stable")
    bounds = signal[order].searchsorted(np.arange(len(names) + 1))
    ours = {name: value[order[bounds[i] : bounds[i + 1]]] for i, name in enumerate(names)}
    compared = 0
    for group in range(len(decoded.groups)):
        channels = [channel.name for channel in decoded.groups[group].channels if channel.channel_type not in (2, 3)]
        if not channels:
            continue
        signals = decoded.select([(name, group, None) for name in channels], raw=False, ignore_value2text_conversions=True)
        for name, read in zip(channels, signals, strict=True):
            mine = [found for full, found in ours.items() if full.endswith(f".{name}") and len(found)]
            other = np.asarray(read.samples, np.float64)
            if not any(len(found) == len(other) and bool(((found == other) | np.isnan(found)).all()) for found in mine):
                raise ValueError(f"{name}: asammdf's {len(other)} values are not ours")
            compared += len(other)
    return compared
