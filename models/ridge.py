"""Ridge regression over drives: coefficients, the penalty, and what remains on drives that they were not fitted on."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["regress"]

RIDGE = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Penalties tried, relative to the number of rows; features have unit variance."""
FOLDS = 5


def regress(
    features: list[NDArray[np.float64]], targets: list[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], dict[int, float]]:
    """Ridge weights (f, m), bias (m,), cross-validated remainders (n, m) and each target's penalty.

    The penalty is chosen, and the remainders are taken, on drives that the fold was not fitted on: what remains on the drives of the fit
    would promise less noise than the road has.
    """
    count = targets[0].shape[1]
    folds = min(FOLDS, len(features))
    fold_of = [at % folds for at in range(len(features))]
    if features[0].shape[1] == 0:
        everything = np.concatenate(targets)
        mean = everything.mean(axis=0)
        return np.zeros((0, count)), mean, everything - mean, {}
    errors = np.zeros((len(RIDGE), count))
    remains = np.zeros((len(RIDGE), sum(map(len, targets)), count))
    starts = np.cumsum([0, *map(len, targets)])
    for fold in range(folds):
        inside = [at for at, of in enumerate(fold_of) if of != fold or folds == 1]
        solve = _Ridge(np.concatenate([features[at] for at in inside]), np.concatenate([targets[at] for at in inside]))
        for which, penalty in enumerate(RIDGE):
            weights, bias = solve(penalty)
            for at in (at for at, of in enumerate(fold_of) if of == fold):
                left = targets[at] - (features[at] @ weights + bias)
                remains[which, starts[at] : starts[at + 1]] = left
                errors[which] += (left**2).sum(axis=0)
    best = errors.argmin(axis=0)
    solve = _Ridge(np.concatenate(features), np.concatenate(targets))
    weights = np.zeros((features[0].shape[1], count))
    bias = np.zeros(count)
    for which, penalty in enumerate(RIDGE):
        chosen = best == which
        if chosen.any():
            some, offset = solve(penalty)
            weights[:, chosen], bias[chosen] = some[:, chosen], offset[chosen]
    return weights, bias, np.take_along_axis(remains, best[None, None, :], axis=0)[0], {at: RIDGE[which] for at, which in enumerate(best)}


class _Ridge:
    """Ridge regression with unpenalised intercept, for several penalties over one factorisation."""

    def __init__(self, features: NDArray[np.float64], targets: NDArray[np.float64]) -> None:
        self._mean, self._target_mean = features.mean(axis=0), targets.mean(axis=0)
        centred = features - self._mean
        deviation = centred.std(axis=0)
        self._deviation = np.where(deviation > 1e-9, deviation, np.inf)
        centred = centred / self._deviation
        self._values, self._vectors = np.linalg.eigh(centred.T @ centred / len(centred))
        self._projected = self._vectors.T @ (centred.T @ (targets - self._target_mean) / len(centred))

    def __call__(self, penalty: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        weights = self._vectors @ (self._projected / (np.maximum(self._values, 0) + penalty)[:, None]) / self._deviation[:, None]
        return weights, self._target_mean - self._mean @ weights
