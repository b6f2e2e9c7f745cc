"""What an ONNX file may hold before onnxruntime is given it: known operators, its own weights, nothing that runs without end.

A vehicle has onnxruntime and not the onnx package, so this walks the protobuf itself, reading only the fields that matter here.
Field numbers: onnx/onnx.proto (ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto), stable since IR version 3.
Refused: operators that are not in ALLOWED, other operator domains (custom code), model-local functions, weights in another file (a path
that could point anywhere), and subgraphs (If, Loop, Scan: their run time is not bounded by the file's size).
"""

from collections.abc import Iterator

from models.errors import PackError

__all__ = ["ALLOWED", "check_operators"]

_NAMES = (
    "Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv "
    "ConvTranspose CumSum Div Dropout Einsum Elu Equal Erf Exp Expand Flatten Floor GRU Gather GatherElements Gelu Gemm "
    "GlobalAveragePool Greater GreaterOrEqual HardSigmoid Identity IsNaN LSTM LayerNormalization LeakyRelu Less LessOrEqual "
    "Log LogSoftmax MatMul Max MaxPool Mean Min Mul Neg Not Or PRelu Pad Pow RNN Reciprocal ReduceL1 ReduceL2 ReduceMax "
    "ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize Round ScatterElements Selu Shape Sigmoid "
    "Sign Slice Softmax Softplus Split Sqrt Squeeze Sub Sum Swish Tanh TopK Transpose Unsqueeze Upsample Where"
)
ALLOWED = frozenset(_NAMES.split())

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OP_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14


def check_operators(model: bytes) -> None:
    """Raise PackError, one line that names the operator or the place, unless `model` (an ONNX file's bytes) holds only what is allowed."""
    graphs = 0
    view = memoryview(model)
    for field, value in _fields(view):
        if field == _MODEL_FUNCTIONS:
            raise PackError("model.onnx defines functions of its own, which packs may not; inline them")
        if field == _MODEL_GRAPH:
            graphs += 1
            _check_graph(_bytes(value))
    if graphs != 1:
        raise PackError(f"model.onnx is not an ONNX model: {graphs} graphs in it, expected 1")


def _check_graph(graph: memoryview) -> None:
    for field, value in _fields(graph):
        if field == _GRAPH_NODE:
            _check_node(_bytes(value))
        elif field == _GRAPH_INITIALIZER:
            _check_tensor(_bytes(value))
        elif field == _GRAPH_SPARSE:
            raise PackError("model.onnx holds sparse weights, which packs may not; make them dense")


def _check_node(node: memoryview) -> None:
    operator = domain = ""
    attributes: list[memoryview] = []
    for field, value in _fields(node):
        if field == _NODE_OP_TYPE:
            operator = _text(_bytes(value))
        elif field == _NODE_DOMAIN:
            domain = _text(_bytes(value))
        elif field == _NODE_ATTRIBUTE:
            attributes.append(_bytes(value))
    if domain not in ("", "ai.onnx") or operator not in ALLOWED:
        name = f"{domain}.{operator}" if domain not in ("", "ai.onnx") else operator
        raise PackError(f"model.onnx uses the operator {name!r}, which packs may not; see docs/packs.md for those they may")
    for attribute in attributes:
        for field, value in _fields(attribute):
            if field in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                raise PackError(f"model.onnx: the operator {operator!r} holds a graph of its own, which packs may not")
            if field in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                _check_tensor(_bytes(value))


def _check_tensor(tensor: memoryview) -> None:
    for field, value in _fields(tensor):
        if field == _TENSOR_EXTERNAL or (field == _TENSOR_LOCATION and value != 0):
            raise PackError("model.onnx keeps weights in another file, which packs may not; save it as one file")


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
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


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise PackError("model.onnx is not an ONNX model: a number where a message belongs")
    return value


def _text(value: memoryview) -> str:
    return bytes(value[:100]).decode("utf-8", "replace")
