"""A follower as an ONNX graph: one tick of values and the state in; score, p-value, contributions, expected values, `known` and the next
state out, in doubles. The state goes round: what `next_state` gives at one tick is the input `state` of the next (models/runtime.py)."""

import numpy as np
import onnx
from onnx import TensorProto, helper

from models.calibrate import Knots
from models.following import (
    CLEAR,
    FORGET,
    FREEDOM,
    GROWS,
    HELD,
    HOLD,
    LARGEST_STEP,
    LEAST_SPREAD,
    NOTHING,
    PENALTY,
    PERSISTENCE,
    RETURN,
    SPREAD,
    STATE_SCALARS,
    STILL,
    TICKS,
    Follower,
)
from models.graph import IR_VERSION, OPSET, PRODUCER, Graph, p_value_nodes
from models.runtime import INPUT, NEXT_STATE, STATE

__all__ = ["build_follower"]


def build_follower(follower: Follower, knots: Knots) -> bytes:
    """The bytes of model.onnx; the same for the same follower. knots: its healthy scores."""
    graph = Graph()
    count, scales, size = len(follower.start), len(TICKS), follower.variance.size
    need, of = PERSISTENCE
    node, constant = graph.node, graph.constant

    def number(name: str, value: float) -> str:
        return constant(name, np.array(value))

    one, zero, tiny = number("one", 1.0), number("zero", 0.0), number("tiny", 1e-300)
    freeze, follows = number("freeze", follower.freeze), constant("follow", follower.follow)

    def state(name: str, first: int, *shape: int) -> str:
        return node(
            "Gather", [STATE, constant(f"{name}_at", first + np.arange(int(np.prod(shape))).reshape(shape))], f"{name}_before", axis=0
        )

    last, spread = state("last", 0, count), state("spread", count, count)
    recent, level, change = (state(name, 2 * count + at * size, scales, 2 * count) for at, name in enumerate(("recent", "level", "change")))
    still = state("still", 2 * count + 3 * size, scales, 1)
    over, under, alarm, memory, held = (state(name, 2 * count + 3 * size + scales + at) for at, name in enumerate(STATE_SCALARS))

    values = node("Gather", [INPUT, constant("newest", np.array(0))], "values_now", axis=0)
    now = node("Div", [node("Sub", [values, constant("start", follower.start)], "distance"), constant("unit", follower.unit)], "now")
    step = node("Sub", [now, last], "step")
    step = node("Div", [node("Mul", [step, step], "step_squared"), number("two", 2.0)], "step_half")
    step = node("Sub", [node("Min", [step, number("largest_step", LARGEST_STEP)], "step_most"), one], "step_over")
    spread_news = node("Div", [node("Sub", [step, spread], "spread_news"), number("spread_ticks", SPREAD)], "spread_step")
    spread = node("Add", [spread, spread_news], "spread")
    scatter = node("Log", [node("Add", [number("least_spread", 1 + LEAST_SPREAD), spread], "spread_whole")], "scatter")
    features = node("Concat", [now, node("Sub", [scatter, constant("centre", follower.centre)], "scatter_off")], "features", axis=0)
    news = node("Sub", [features, recent], "news")
    recent = node("Add", [recent, node("Div", [news, constant("ticks", follower.ticks)], "recent_step")], "recent")
    off = node("Sub", [recent, level], "off")
    wandered = node("Mul", [constant("walk", follower.walk), still], "wandered")
    variance = node("Add", [constant("variance", follower.variance), wandered], "variance_now")

    weighed = node("Div", [change, variance], "change_weighed")
    both = node("ReduceSum", [node("Mul", [off, weighed], "off_change")], "off_change_sum", keepdims=0)
    alone = node("ReduceSum", [node("Mul", [change, weighed], "change_squared")], "change_squared_sum", keepdims=0)
    back = node("Div", [both, node("Max", [alone, number("nothing", NOTHING)], "change_size")], "back")
    returned = node("Less", [back, number("return", RETURN)], "returned")
    forgiven = node("Mul", [memory, node("Max", [back, zero], "back_positive")], "forgiven_most")
    forgiven = node("Where", [returned, forgiven, zero], "forgiven")
    rest = node("Sub", [off, node("Mul", [forgiven, change], "drifted")], "rest")

    far = node("Div", [node("Mul", [rest, rest], "rest_squared"), variance], "far")
    far = node("Add", [one, node("Div", [far, number("freedom", FREEDOM)], "far_freedom")], "far_one")
    evidence = node("Mul", [number("half_freedom", (FREEDOM + 1) / 2), node("Log", [far], "far_log")], "likelihood")
    evidence = node("Sub", [evidence, number("penalty", PENALTY)], "evidence")
    evidence = node("Max", [node("ReduceMax", [evidence], "evidence_greatest", axes=[0], keepdims=0), zero], "evidence_positive")
    pairs = node("Reshape", [evidence, constant("pairs_shape", np.array([2, count]))], "evidence_pairs")
    each = node("ReduceSum", [pairs, constant("first_axis", np.array([0]))], "evidence_each", keepdims=0)
    parts = node("Div", [each, number("limit", follower.limit)], "parts")
    total = node("ReduceSum", [parts], "parts_sum", keepdims=0)

    was = node("Greater", [alarm, zero], "was")
    held = node("Mul", [held, number("holds", 1 - 1 / HOLD)], "held_now")
    holds = node("And", [was, node("Not", [returned], "returned_not")], "holds_now")
    score = node("Max", [total, node("Where", [holds, held, zero], "held_score")], "score")
    node("Div", [parts, node("Max", [total, tiny], "parts_total")], "contributions")
    middling = node("Gather", [off, constant("middling", np.array(1))], "off_middling", axis=0)
    middling = node("Gather", [middling, constant("levels", np.arange(count))], "off_levels", axis=0)
    node("Sub", [values, node("Mul", [middling, "unit"], "off_values")], "expected")
    p_value_nodes(graph, knots, score, "p_value", "healthy")
    node("GreaterOrEqual", [score, zero], "known")

    most, ended = number("need", float(need)), number("of", float(of))
    more = node("Min", [node("Add", [over, one], "over_more"), most], "over_at_most")
    less = node("Max", [node("Sub", [over, one], "over_less"), zero], "over_at_least")
    over = node("Where", [node("GreaterOrEqual", [score, freeze], "is_over"), more, less], "over")
    longer = node("Min", [node("Add", [under, one], "under_more"), ended], "under_at_most")
    clear = number("clear", CLEAR * follower.freeze)
    under = node("Where", [node("Less", [score, clear], "is_under"), longer, zero], "under")
    rises = node("And", [node("Not", [was], "was_not"), node("GreaterOrEqual", [over, most], "persists")], "rises")
    ends = node("And", [was, node("GreaterOrEqual", [under, ended], "has_ended")], "ends")
    stays = node("And", [was, node("Not", [ends], "ends_not")], "stays")
    active = node("Or", [rises, stays], "active")
    farther = node("And", [stays, node("Greater", [back, one], "is_farther")], "farther")
    grown = node("Mul", [number("grows", GROWS), node("Sub", [off, change], "change_news")], "change_step")
    change = node("Where", [farther, node("Add", [change, grown], "change_grown"), change], "change_kept")
    change = node("Where", [rises, off, change], "change")
    held = node("Where", [rises, node("Mul", [number("held_more", HELD), score], "held_new"), held], "held")
    alarm = node("Where", [active, one, zero], "alarm")
    over = node("Where", [ends, zero, over], "over_next")
    memory = node("Where", [active, one, node("Mul", [memory, number("remembers", 1 - 1 / FORGET)], "memory_less")], "memory")

    loud = node("Div", [score, freeze], "loud")
    pace = node("Max", [node("Min", [node("Sub", [one, loud], "quiet"), one], "quiet_most"), zero], "pace_quiet")
    pace = node("Where", [active, zero, pace], "pace")
    share = node("Div", [pace, follows], "pace_share")
    level = node("Add", [level, node("Mul", [share, off], "level_step")], "level")
    stood = node("Sub", [node("Add", [still, one], "still_more"), pace], "still_stood")
    stood = node("Sub", [stood, node("Mul", [still, share], "still_forgotten")], "still_next")
    still = node("Min", [stood, number("still_most", STILL)], "still")
    flat = constant("flat", np.array([-1]))
    after = (now, spread, recent, level, change, still, over, under, alarm, memory, held)
    node("Concat", [node("Reshape", [name, flat], f"{name}_flat") for name in after], NEXT_STATE, axis=0)

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
