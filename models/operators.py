"""What an ONNX file may hold before onnxruntime is given it: known operators, its own weights, nothing that runs without end.

A vehicle has onnxruntime and not the onnx package, so this walks the protobuf itself, reading only the fields that matter here.
Field numbers: onnx/onnx.proto (ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto), stable since IR version 3.
Refused: operators that are not in ALLOWED, other operator domains (custom code), model-local functions, weights in another file (a path
that could point anywhere), and subgraphs (If, Loop, Scan: their run time is not bounded by the file's size).
"""

from models.errors import PackError
from models.protobuf import as_message, as_text, fields

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

_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OP_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14


def check_operators(model: bytes) -> None:
    """Raise PackError, one line that names the operator or the place, unless `model` (an ONNX file's bytes) holds only what is allowed."""
    graphs = 0
    view = memoryview(model)
    for field, value in fields(view):
        if field == _MODEL_FUNCTIONS:
            raise PackError("model.onnx defines functions of its own, which packs may not; inline them")
        if field == _MODEL_GRAPH:
            graphs += 1
            _check_graph(as_message(value))
    if graphs != 1:
        raise PackError(f"model.onnx is not an ONNX model: {graphs} graphs in it, expected 1")


def _check_graph(graph: memoryview) -> None:
    for field, value in fields(graph):
        if field == _GRAPH_NODE:
            _check_node(as_message(value))
        elif field == _GRAPH_INITIALIZER:
            _check_tensor(as_message(value))
        elif field == _GRAPH_SPARSE:
            raise PackError("model.onnx holds sparse weights, which packs may not; make them dense")


def _check_node(node: memoryview) -> None:
    operator = domain = ""
    attributes: list[memoryview] = []
    for field, value in fields(node):
        if field == _NODE_OP_TYPE:
            operator = as_text(as_message(value))
        elif field == _NODE_DOMAIN:
            domain = as_text(as_message(value))
        elif field == _NODE_ATTRIBUTE:
            attributes.append(as_message(value))
    if domain not in ("", "ai.onnx") or operator not in ALLOWED:
        name = f"{domain}.{operator}" if domain not in ("", "ai.onnx") else operator
        raise PackError(f"model.onnx uses the operator {name!r}, which packs may not; see docs/packs.md for those they may")
    for attribute in attributes:
        for field, value in fields(attribute):
            if field in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                raise PackError(f"model.onnx: the operator {operator!r} holds a graph of its own, which packs may not")
            if field in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                _check_tensor(as_message(value))


def _check_tensor(tensor: memoryview) -> None:
    for field, value in fields(tensor):
        if field == _TENSOR_EXTERNAL or (field == _TENSOR_LOCATION and value != 0):
            raise PackError("model.onnx keeps weights in another file, which packs may not; save it as one file")
