"""A follower as an ONNX graph: one tick of values and the state in; score, p-value, contributions, expected values, `known` and the next
state out, in doubles. The state goes round: what `next_state` gives at one tick is the input `state` of the next (models/runtime.py)."""

import numpy as np
import onnx
from onnx import TensorProto, helper

from models.calibrate import Knots
from models.following import EXCESS, RECENT, STILL, Follower
from models.graph import IR_VERSION, OPSET, PRODUCER, Graph, p_value_nodes
from models.runtime import INPUT, NEXT_STATE, STATE

__all__ = ["build_follower"]


def build_follower(follower: Follower, knots: Knots) -> bytes:
    """The bytes of model.onnx; the same for the same follower. knots: its healthy scores."""
    graph = Graph()
    count = len(follower.start)
    constant, node = graph.constant, graph.node
    one, zero = constant("one", np.array(1.0)), constant("zero", np.array(0.0))
    values = node("Gather", [INPUT, constant("newest", np.array(0))], "values_now", axis=0)
    recent = node("Gather", [STATE, constant("recent_at", np.arange(count))], "recent_before", axis=0)
    level = node("Gather", [STATE, constant("level_at", np.arange(count, 2 * count))], "level_before", axis=0)
    still = node("Gather", [STATE, constant("still_at", np.arange(2 * count, 3 * count))], "still_before", axis=0)

    news = node("Sub", [node("Sub", [values, constant("start", follower.start)], "distance"), recent], "news")
    recent = node("Add", [recent, node("Mul", [constant("recent_weight", np.array(RECENT)), news], "recent_step")], "recent")
    off = node("Sub", [recent, level], "off")
    wandered = node("Mul", [constant("walk", follower.walk), still], "wandered")
    variance = node("Add", [constant("variance", follower.variance), wandered], "variance_now")
    squared = node("Div", [node("Mul", [off, off], "off_squared"), variance], "squared")
    parts = node("Div", [squared, constant("limit", np.array(count + EXCESS))], "parts")
    score = node("ReduceSum", [parts], "score", keepdims=0)

    total = node("Max", [score, constant("tiny", np.array(1e-300))], "score_total")
    node("Div", [parts, total], "contributions")
    node("Sub", [values, off], "expected")
    p_value_nodes(graph, knots, score, "p_value", "healthy")
    node("GreaterOrEqual", [score, zero], "known")

    loud = node("Div", [score, constant("freeze", np.array(follower.freeze))], "loud")
    pace = node("Max", [node("Min", [node("Sub", [one, loud], "rest"), one], "rest_most"), zero], "pace")
    step = node("Mul", [node("Div", [pace, constant("follow", follower.follow)], "pace_share"), off], "level_step")
    level = node("Add", [level, step], "level")
    slower = node("Sub", [node("Add", [still, one], "still_more"), pace], "still_stood")
    slower = node("Sub", [slower, node("Mul", [still, "pace_share"], "still_forgotten")], "still_next")
    still = node("Min", [slower, constant("still_most", np.array(STILL))], "still")
    node("Concat", [recent, level, still], NEXT_STATE, axis=0)

    inputs = {INPUT: [1, count], STATE: [follower.size]}
    outputs = {"score": [], "p_value": [], "contributions": [count], "expected": [count], "known": [], NEXT_STATE: [follower.size]}
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "cansight_follower",
            [helper.make_tensor_value_info(name, TensorProto.DOUBLE, shape) for name, shape in inputs.items()],
            [
                helper.make_tensor_value_info(name, TensorProto.BOOL if name == "known" else TensorProto.DOUBLE, shape)
                for name, shape in outputs.items()
            ],
            graph.constants,
        ),
        producer_name=PRODUCER,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data
