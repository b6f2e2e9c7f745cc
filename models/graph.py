"""A fitted detector as an ONNX graph: a window of values in; score, p-value, contributions, expected values and `known` out; in doubles.

docs/packs.md has the picture. Whatever turns values into a judgement is in here, so that no runtime can differ from the training.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.calibrate import Knots
from models.fit import LEAST_BASIS, Detector
from models.runtime import BASELINE, INPUT, LEARNED, OFFSET

__all__ = ["IR_VERSION", "OPSET", "PRODUCER", "Graph", "build", "p_value_nodes"]

OPSET = 17
"""The oldest that has every operator used here; onnxruntime 1.20, the oldest supported, reads up to 21."""
IR_VERSION = 8
PRODUCER = "cansight"


class Graph:
    """Nodes and constants in the order in which they are named."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, values: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def finish(self, name: str, inputs: dict[str, list[int]], outputs: dict[str, list[int]]) -> bytes:
        """The bytes of model.onnx, checked; shapes by the names of what goes in and out, all doubles but `known`."""

        def ends(shapes: dict[str, list[int]]) -> list[Any]:
            return [
                helper.make_tensor_value_info(one, TensorProto.BOOL if one == "known" else TensorProto.DOUBLE, shape)
                for one, shape in shapes.items()
            ]

        model = helper.make_model(
            helper.make_graph(self.nodes, name, ends(inputs), ends(outputs), self.constants),
            producer_name=PRODUCER,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        onnx.checker.check_model(model)
        data: bytes = model.SerializeToString(deterministic=True)
        return data


def build(detector: Detector, knots: Knots, learning: Knots | None = None) -> bytes:
    """The bytes of model.onnx; the same for the same detector.

    learning: the healthy scores of vehicles that have no baseline of their own yet; of a detector with baselines alone.
    """
    graph = Graph()
    last = graph.node("Gather", [INPUT, graph.constant("last_tick", np.array(detector.window - 1))], "last", axis=0)
    seen = graph.node("Gather", [INPUT, graph.constant("monitored", detector.monitored)], "monitored_values", axis=1)
    recent = np.zeros(detector.window)
    recent[-detector.average :] = 1 / detector.average
    seen = graph.node("MatMul", [graph.constant("recent", recent), seen], "monitored_mean")
    place = np.zeros((len(detector.monitored), detector.inputs))
    place[np.arange(len(detector.monitored)), detector.monitored] = 1
    to_inputs = graph.constant("place", place)
    point = _operating_point(graph, detector)
    remains = graph.node("Sub", [seen, point], "difference")
    if detector.own:
        remains = _without_own(graph, detector, remains, point, to_inputs)
    remains = _leftover(graph, detector, graph.node("Div", [remains, graph.constant("scale", detector.scale)], "remains"))

    diagonal = np.diag(detector.form)
    pull = graph.node("MatMul", [remains, graph.constant("form", detector.form)], "pull")
    terms = graph.node("Mul", [remains, pull], "terms")
    score = graph.node("ReduceMax" if detector.separate else "ReduceSum", [terms], "whole_score" if detector.own else "score", keepdims=0)
    if detector.own:
        inverse = 1 / detector.learning
        weight = graph.node("Mul", [graph.constant("learning_rest", np.array(1 - inverse)), LEARNED], "learned_weight")
        weight = graph.node("Add", [graph.constant("learning", np.array(inverse)), weight], "weight")
        score = graph.node("Mul", [score, weight], "score")

    strength = graph.node("Div", [graph.node("Mul", [pull, pull], "pull_squared"), graph.constant("diagonal", diagonal)], "strength")
    total = graph.node("ReduceSum", [strength], "strength_sum", keepdims=0)
    total = graph.node("Max", [total, graph.constant("tiny", np.array(1e-300))], "strength_total")
    share = graph.node("Div", [strength, total], "share")
    graph.node("MatMul", [share, to_inputs], "contributions")
    correction = place * (detector.scale / diagonal)[:, None]
    graph.node("Sub", [last, graph.node("MatMul", [pull, graph.constant("correction", correction)], "excess")], "expected")

    if detector.own and learning is not None:
        own = graph.node("Mul", [p_value_nodes(graph, knots, score, "own_p_value", "healthy"), LEARNED], "own_p")
        rest = graph.node("Sub", [graph.constant("whole", np.array(1.0)), LEARNED], "not_learned")
        fleet = graph.node("Mul", [p_value_nodes(graph, learning, score, "fleet_p_value", "fleet"), rest], "fleet_p")
        graph.node("Add", [own, fleet], "p_value")
    else:
        p_value_nodes(graph, knots, score, "p_value", "healthy")

    over = graph.node("GreaterOrEqual", [INPUT, graph.constant("low", detector.low)], "over_low")
    under = graph.node("LessOrEqual", [INPUT, graph.constant("high", detector.high)], "under_high")
    inside = graph.node("Cast", [graph.node("And", [over, under], "inside")], "inside_number", to=TensorProto.DOUBLE)
    inside = graph.node("ReduceMin", [inside], "inside_all", keepdims=0)
    graph.node("Cast", [inside], "known", to=TensorProto.BOOL)

    k = detector.inputs
    inputs = {INPUT: [detector.window, k]} | ({BASELINE: [k], LEARNED: []} if detector.own else {})
    outputs = {"score": [], "p_value": [], "contributions": [k], "expected": [k], "known": []} | ({OFFSET: [k]} if detector.own else {})
    return graph.finish("cansight_detector", inputs, outputs)


def _without_own(graph: Graph, detector: Detector, difference: str, point: str, to_inputs: str) -> str:
    """Name of the (m,) differences with the vehicle's own baseline taken off; names the output of what it would have to be, too."""
    own = graph.node("Gather", [BASELINE, "monitored"], "own", axis=0)
    basis = graph.node("Mul", [graph.constant("slope", detector.slope), point], "basis_of_point")
    basis = graph.node("Add", [graph.constant("fixed", detector.fixed), basis], "basis_free")
    basis = graph.node("Max", [basis, graph.constant("least_basis", np.array(LEAST_BASIS))], "basis")
    graph.node("MatMul", [graph.node("Div", [difference, basis], "own_offset"), to_inputs], OFFSET)
    return graph.node("Sub", [difference, graph.node("Mul", [own, basis], "own_part")], "own_difference")


def p_value_nodes(graph: Graph, knots: Knots, score: str, output: str, name: str) -> str:
    """Name of the () conformal p-value of the score."""
    at_least = graph.node("GreaterOrEqual", [graph.constant(f"{name}_scores", knots.score), score], f"{name}_at_least")
    at_least = graph.node("Cast", [at_least], f"{name}_at_least_number", to=TensorProto.DOUBLE)
    count = graph.node("Mul", [at_least, graph.constant(f"{name}_weights", knots.weight)], f"{name}_at_least_ticks")
    count = graph.node("ReduceSum", [count], f"{name}_at_least_sum", keepdims=0)
    count = graph.node("Add", [count, graph.constant(f"{name}_one", np.array(1.0))], f"{name}_at_least_count")
    return graph.node("Div", [count, graph.constant(f"{name}_count", np.array(knots.ticks + 1.0))], output)


def _leftover(graph: Graph, detector: Detector, remains: str) -> str:
    """Name of the (m,) remainders that an autoencoder does not give back; of themselves without one."""
    value = remains
    for at, (weights, bias) in enumerate(detector.layers):
        value = graph.node("MatMul", [value, graph.constant(f"layer_{at}_weights", weights)], f"layer_{at}_product")
        value = graph.node("Add", [value, graph.constant(f"layer_{at}_bias", bias)], f"layer_{at}_sum")
        if at < len(detector.layers) - 1:
            value = graph.node("Tanh", [value], f"layer_{at}")
    return graph.node("Sub", [remains, value], "leftover") if detector.layers else remains


def _operating_point(graph: Graph, detector: Detector) -> str:
    """Name of the (m,) expected window means of the monitored signals."""
    bias = graph.constant("bias", detector.bias)
    if not len(detector.context):
        return bias
    scaled = graph.node("Gather", [INPUT, graph.constant("context", detector.context)], "context_values", axis=1)
    scaled = graph.node("Sub", [scaled, graph.constant("centre", detector.centre)], "context_centred")
    scaled = graph.node("Div", [scaled, graph.constant("spread", detector.spread)], "context_scaled")
    left = graph.node("Gather", [scaled, graph.constant("pair_left", detector.pairs[:, 0])], "left", axis=1)
    right = graph.node("Gather", [scaled, graph.constant("pair_right", detector.pairs[:, 1])], "right", axis=1)
    terms = graph.node("Concat", [scaled, graph.node("Mul", [left, right], "products")], "terms_of_context", axis=1)
    means = graph.node("MatMul", [graph.constant("kernel", detector.kernel), terms], "means")
    features = graph.node("Reshape", [means, graph.constant("flat", np.array([-1]))], "features")
    weighted = graph.node("MatMul", [features, graph.constant("weights", detector.weights)], "weighted")
    return graph.node("Add", [weighted, bias], "operating_point")
