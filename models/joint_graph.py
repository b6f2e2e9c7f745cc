"""A joint detector (models/joint.py) as an ONNX graph, in doubles: a window of values in, what every pack says of it out.

Averages of what remains are what remains of averaged features, because the regression is linear: so the window is averaged first, and the
large product is made once for each box and not for each tick. Columns are picked where there are few rows, or after turning them into rows:
onnxruntime copies rows at once and columns one number at a time.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from models.calibrate import Knots
from models.graph import PRODUCER, Graph, p_value_nodes
from models.joint import CLIP, JUDGES, STILL_SHARE, STILL_TINY, TESTS, Joint, JudgeName
from models.runtime import INPUT

__all__ = ["build_joint", "joint_of"]

NAME = "cansight_joint"


def build_joint(joint: Joint, knots: Knots) -> bytes:
    """The bytes of model.onnx; the same for the same detector. knots: its healthy scores."""
    graph = Graph()
    constant, node = graph.constant, graph.node
    k, m = len(joint.centre), len(joint.monitored)
    scaled = node("Sub", [INPUT, constant("centre", joint.centre)], "centred")
    scaled = node("Mul", [scaled, node("Reciprocal", [constant("spread", joint.spread)], "per_spread")], "scaled_wide")
    scaled = node("Clip", [scaled, constant("least", np.array(-CLIP)), constant("most", np.array(CLIP))], "scaled")
    constant("monitored", joint.monitored)
    if len(joint.weights):
        left = _remains(graph, joint, scaled)
    else:
        left = node("Gather", [scaled, "monitored"], "own", axis=1) if joint.judge == "still" else ""
    limits = constant("limits", joint.limits)
    if joint.judge in TESTS:
        tests = node("MatMul", [constant("apart", TESTS[joint.judge]), left], "tests")
        ratio = node("Div", [tests, limits], "ratio")
        strength = node("ReduceMax", [node("Mul", [ratio, ratio], "ratio_squared")], "strength", axes=[0], keepdims=0)
    else:
        count = len(joint.boxes)
        earlier = np.arange(count - 1) if joint.judge == "still" else np.arange(1, count)
        steps = node(
            "Sub",
            [
                node("Gather", [left, constant("later", earlier + 1 if joint.judge == "still" else earlier - 1)], "later_left", axis=0),
                node("Gather", [left, constant("earlier", earlier)], "earlier_left", axis=0),
            ],
            "steps",
        )
        limit = node("Reshape", [limits, constant("as_vector", np.array([-1]))], "limit")
        if joint.judge == "still":
            moved = node("ReduceMean", [node("Abs", [steps], "sizes")], "moved", axes=[0], keepdims=0)
            floor = constant("floor", joint.limits[0] * STILL_SHARE + STILL_TINY)
            strength = node("Div", [limit, node("Add", [moved, floor], "moved_at_least")], "strength")
        else:
            square = node("ReduceMean", [node("Mul", [steps, steps], "squares")], "square", axes=[0], keepdims=0)
            strength = node("Div", [square, node("Mul", [limit, limit], "limit_squared")], "strength")
    score = node("ReduceMax", [strength], "score", keepdims=0)

    total = node("ReduceSum", [strength], "strength_sum", keepdims=0)
    share = node("Div", [strength, node("Max", [total, constant("tiny", np.array(1e-300))], "strength_total")], "share")
    place = np.full(k, m)  # of each input among the monitored ones; behind them stands a 0
    place[joint.monitored] = np.arange(m)
    place_of, nothing = constant("place", place), constant("nothing", np.zeros(1))
    node("Gather", [node("Concat", [share, nothing], "share_and_nothing", axis=0), place_of], "contributions", axis=0)
    last = node("Gather", [INPUT, constant("last_tick", np.array(joint.window - 1))], "last", axis=0)
    if joint.judge == "still":
        node("Identity", [last], "expected")
    else:
        now = node("Gather", [left, constant("first_box", np.array(0))], "remains_now", axis=0)
        excess = node("Gather", [node("Concat", [now, nothing], "remains_and_nothing", axis=0), place_of], "excess_scaled", axis=0)
        node("Sub", [last, node("Mul", [excess, "spread"], "excess")], "expected")
    p_value_nodes(graph, knots, score, "p_value", "healthy")
    over = node("GreaterOrEqual", [node("ReduceMin", [INPUT], "lowest", axes=[0], keepdims=0), constant("low", joint.low)], "over_low")
    under = node("LessOrEqual", [node("ReduceMax", [INPUT], "highest", axes=[0], keepdims=0), constant("high", joint.high)], "under_high")
    inside = node("Cast", [node("And", [over, under], "inside")], "inside_number", to=TensorProto.DOUBLE)
    node("Cast", [node("ReduceMin", [inside], "inside_all", keepdims=0)], "known", to=TensorProto.BOOL)

    outputs: dict[str, list[int]] = {"score": [], "p_value": [], "contributions": [k], "expected": [k], "known": []}
    return graph.finish(f"{NAME}_{joint.judge}", {INPUT: [joint.window, k]}, outputs)


def joint_of(model: bytes) -> Joint | None:
    """The constants of a graph that `build_joint` made; None of any other."""
    graph = onnx.load_from_string(model)
    kind = graph.graph.name.removeprefix(f"{NAME}_")
    judge: JudgeName | None = next((name for name in JUDGES if name == kind), None)
    if graph.producer_name != PRODUCER or judge is None or not graph.graph.name.startswith(NAME):
        return None
    of = {one.name: numpy_helper.to_array(one) for one in graph.graph.initializer}
    whole = "weights_small" in of
    m = len(of["monitored"])
    pairs = np.stack([of["pair_left"], of["pair_right"]], axis=1) if whole else np.zeros((0, 2), np.int64)
    if "multiplied" in of:  # without it, as until November 2026, they are of the inputs themselves
        pairs = of["multiplied"][pairs]
    return Joint(
        judge=judge,
        monitored=of["monitored"],
        centre=of["centre"],
        spread=of["spread"],
        pairs=pairs,
        spans=tuple(sorted(int(name.removeprefix("boxes_")) for name in of if name.startswith("boxes_") and name != "boxes_recent")),
        weights=of["weights_small"].astype(np.float64) if whole else np.zeros((0, m)),
        bias=of["bias"] if whole else np.zeros(m),
        limits=of["limits"],
        low=of["low"],
        high=of["high"],
    )


def _remains(graph: Graph, joint: Joint, scaled: str) -> str:
    """Name of (b, m) what remains of the monitored signals, averaged over each box."""
    constant, node = graph.constant, graph.node
    boxes = _kernel(joint, 0)
    parts = [node("MatMul", [constant("boxes", boxes), scaled], "now")]
    for span in joint.spans:
        means = node("MatMul", [constant(f"boxes_{span}", _kernel(joint, span)), scaled], f"all_means_{span}")
        parts.append(node("Gather", [means, "monitored"], f"means_{span}", axis=1))
    newest = int(np.flatnonzero(boxes.any(axis=0))[0])  # products are only needed where a box lies
    multiplied, of_pairs = np.unique(joint.pairs, return_inverse=True)
    of_pairs = of_pairs.reshape(joint.pairs.shape)
    recent = node("Gather", [scaled, constant("multiplied", multiplied)], "multiplied_values", axis=1)
    recent = node("Gather", [recent, constant("recent_ticks", np.arange(newest, joint.window))], "recent", axis=0)
    recent = node("Transpose", [recent], "recent_rows", perm=[1, 0])
    left = node("Gather", [recent, constant("pair_left", of_pairs[:, 0])], "left", axis=0)
    right = node("Gather", [recent, constant("pair_right", of_pairs[:, 1])], "right", axis=0)
    products = node("MatMul", [node("Mul", [left, right], "products"), constant("boxes_recent", boxes[:, newest:].T)], "product_columns")
    parts.append(node("Transpose", [products], "product_means", perm=[1, 0]))
    features = node("Concat", parts, "features", axis=1)
    # Kept as floats: half of the file. onnxruntime makes doubles of them once, when it starts.
    weights = node("Cast", [constant("weights_small", joint.weights.astype(np.float32))], "weights", to=TensorProto.DOUBLE)
    return node("Sub", [node("MatMul", [features, weights], "product"), constant("bias", joint.bias)], "remains")


def _kernel(joint: Joint, span: int) -> NDArray[np.float64]:
    """(b, window) weights of the ticks: of each box, and, with a span, of the means over the span before each of its ticks."""
    kernel = np.zeros((len(joint.boxes), joint.window))
    for row, (lag, size) in enumerate(joint.boxes):
        for back in range(lag, lag + size):
            tick = joint.window - 1 - back
            if span:
                kernel[row, tick - span : tick] += 1 / span / size
            else:
                kernel[row, tick] += 1 / size
    return kernel
