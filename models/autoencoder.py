"""The highest rung: a small autoencoder of what remains of the monitored signals, in NumPy.

m signals -> hidden -> bottleneck -> hidden -> m, tanh between, trained to give back healthy remainders (Adam: Kingma and Ba 2015, ICLR; He
and Glorot's scale of first weights). What it does not give back is judged as a PCA's leftover is. Signals whose relation is curved need
it; on all others the rungs below are as good, and `cansight models ladder` says so.

The same data and seed give the same weights on one machine; on another, thousands of steps may carry a last bit's difference further.
"""

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["Layer", "leftover", "train_layers"]

Layer = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Weights (a, b) and bias (b,)"""

ROWS = 60_000
"""Most of the remainders (n, m) that are trained on, drawn evenly; neighbouring ticks say the same."""
BATCH = 256
STEPS = 4000
RATE = 3e-3
SHARE = 0.4
"""Of m: the bottleneck. Wider ones give back faults, too."""
CLIP = 6.0
"""Standard deviations: a rare excess of a healthy drive is not learned by heart."""


def train_layers(remains: NDArray[np.float64], seed: int) -> tuple[Layer, ...]:
    """Fit on scaled remainders (n, m) of healthy drives; m >= 2."""
    random = np.random.default_rng(seed)
    count = remains.shape[1]
    rows = np.clip(remains[np.linspace(0, len(remains) - 1, min(len(remains), ROWS)).astype(np.int64)], -CLIP, CLIP)
    sizes = [count, 2 * count, max(1, math.ceil(SHARE * count)), 2 * count, count]
    weights = [random.normal(0, math.sqrt(2 / (a + b)), (a, b)) for a, b in pairwise(sizes)]
    biases = [np.zeros(size) for size in sizes[1:]]
    parameters = [*weights, *biases]
    first, second = ([np.zeros_like(one) for one in parameters] for _ in range(2))
    for step in range(1, STEPS + 1):
        batch = rows[random.integers(0, len(rows), BATCH)]
        gradients = _gradients(batch, weights, biases)
        rate = RATE * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        for at, gradient in enumerate(gradients):
            first[at] = 0.9 * first[at] + 0.1 * gradient
            second[at] = 0.999 * second[at] + 0.001 * gradient**2
            parameters[at] -= rate * (first[at] / (1 - 0.9**step)) / (np.sqrt(second[at] / (1 - 0.999**step)) + 1e-8)
    return tuple(zip(weights, biases, strict=True))


def leftover(layers: tuple[Layer, ...], remains: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, m) what the autoencoder does not give back; `remains` itself without layers."""
    if not layers:
        return remains
    value = remains
    for weights, bias in layers[:-1]:
        value = np.tanh(value @ weights + bias)
    weights, bias = layers[-1]
    return np.asarray(remains - (value @ weights + bias), np.float64)


def _gradients(
    batch: NDArray[np.float64], weights: list[NDArray[np.float64]], biases: list[NDArray[np.float64]]
) -> list[NDArray[np.float64]]:
    """Of half the mean squared error: by each weight matrix, then by each bias."""
    values = [batch]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        values.append(np.tanh(values[-1] @ weight + bias))
    delta = (values[-1] @ weights[-1] + biases[-1] - batch) / len(batch)
    by_weight: list[NDArray[np.float64]] = []
    by_bias: list[NDArray[np.float64]] = []
    for at in range(len(weights) - 1, -1, -1):
        by_weight.append(values[at].T @ delta)
        by_bias.append(delta.sum(axis=0))
        if at:
            delta = (delta @ weights[at].T) * (1 - values[at] ** 2)
    return by_weight[::-1] + by_bias[::-1]
