"""The part of a pack's graph that gives certain outputs: what a vehicle runs at every tick.

Almost all ticks are quiet, and p-values, contributions and expected values of quiet ticks are nobody's. onnxruntime can be asked for some
outputs alone, but still goes through all nodes of the whole graph (1.32: 20 us instead of 22, where the part by itself takes 10), and
keeps in memory what only the others need.
"""

from collections.abc import Sequence

from models.protobuf import Part, as_message, encode_field, fields

__all__ = ["part_of"]

_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_NAME, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 2, 5, 11, 12
_NODE_INPUT, _NODE_OUTPUT = 1, 2
_TENSOR_NAME, _VALUE_NAME = 8, 1
"""onnx/onnx.proto, as models/operators.py."""


def part_of(model: bytes, outputs: Sequence[str]) -> bytes:
    """The ONNX file's bytes with these outputs, every input, and of nodes and weights what the outputs need.

    model: an ONNX file that `check_operators` has passed, so without subgraphs; its nodes stand in the order in which they run, as ONNX
    asks. Raises PackError if it is not protobuf.
    """
    kept: list[Part] = []
    for field, value in fields(memoryview(model)):
        if field == _MODEL_GRAPH:
            kept += encode_field(field, _part(as_message(value), outputs))
        else:
            kept += encode_field(field, value if isinstance(value, int) else [value])
    return b"".join(kept)


def _part(graph: memoryview, outputs: Sequence[str]) -> list[Part]:
    every = [(field, value) for field, value in fields(graph) if not isinstance(value, int)]
    wanted = {name.encode() for name in outputs}
    needed = set(wanted)
    nodes: list[memoryview] = []
    for node in reversed([value for field, value in every if field == _GRAPH_NODE]):
        if needed & set(_names(node, _NODE_OUTPUT)):
            needed.update(_names(node, _NODE_INPUT))
            nodes.append(node)
    kept: list[Part] = []
    for node in reversed(nodes):
        kept += encode_field(_GRAPH_NODE, [node])
    for field, value in every:
        if (
            field in (_GRAPH_NAME, _GRAPH_INPUT)
            or (field == _GRAPH_INITIALIZER and needed & set(_names(value, _TENSOR_NAME)))
            or (field == _GRAPH_OUTPUT and wanted & set(_names(value, _VALUE_NAME)))
        ):
            kept += encode_field(field, [value])
    return kept


def _names(message: memoryview, number: int) -> list[bytes]:
    return [bytes(as_message(value)) for field, value in fields(message) if field == number]
