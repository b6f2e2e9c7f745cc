"""Frames to signals in blocks of 400 (100 ms of a loaded bus), against cantools."""

from cansight.benchmarks.material import Material
from cansight.benchmarks.result import Result
from cansight.errors import WorkFailed
from dbc.bench import bench_decode


def decode(material: Material) -> list[Result]:
    """Physical values in float64, frame by frame equal to cantools'."""
    try:
        found = bench_decode(material.log, material.files)
    except ValueError as error:  # a value that is not cantools': no figure is worth anything then
        raise WorkFailed(f"decode: {error}") from error
    what = f"decode {found['frames']:,.0f} frames, {found['signals_per_frame']:.1f} signals each, blocks of {found['block_frames']}"
    return [Result("decode", what, "cantools decode_message", "frames/s", found["ours"], found["rival"], found["ratio"], 10.0)]
