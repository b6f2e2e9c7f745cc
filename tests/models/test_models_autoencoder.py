"""The highest rung: its gradients are right, it learns a curve that a plane cannot hold, and the same seed gives the same pack."""

from pathlib import Path

import numpy as np
import pytest

from models import autoencoder
from models.autoencoder import _gradients, leftover, train_layers
from models.runtime import PackRuntime
from models.tables import Drive, Table
from models.train import Options, train_pca


def test_gradients_are_those_of_small_steps() -> None:
    random = np.random.default_rng(4)
    sizes = [3, 5, 2, 5, 3]
    weights = [random.normal(0, 0.5, (sizes[at], sizes[at + 1])) for at in range(4)]
    biases = [random.normal(0, 0.1, size) for size in sizes[1:]]
    batch = random.normal(0, 1, (16, 3))

    def loss() -> float:
        return float((leftover(tuple(zip(weights, biases, strict=True)), batch) ** 2).sum() / 2 / len(batch))

    gradients = _gradients(batch, weights, biases)
    for parameter, gradient in zip([*weights, *biases], gradients, strict=True):
        for place in np.ndindex(parameter.shape):
            kept, step = parameter[place], 1e-6
            parameter[place] = kept + step
            above = loss()
            parameter[place] = kept - step
            below = loss()
            parameter[place] = kept
            assert gradient[place] == pytest.approx((above - below) / 2 / step, abs=1e-7)


def test_without_layers_everything_is_left() -> None:
    remains = np.ones((4, 2))
    assert leftover((), remains) is remains


def test_a_curve_is_learned_and_what_leaves_it_is_found(tmp_path: Path) -> None:
    """y = x² on healthy drives: a point off the curve lies in the middle of both ranges, where a PCA sees nothing."""

    def drive(seed: int) -> Drive:
        random = np.random.default_rng(seed)
        x = random.uniform(-2, 2, 400)
        rows = np.column_stack([x, x**2, 0.5 * x]) + random.normal(0, 0.03, (400, 3))
        return Drive(str(seed), 1000 * np.arange(400), rows)

    table = Table(("A.x", "A.y", "A.z"), ("", "", ""), tuple(drive(seed) for seed in range(12)))
    off = np.array([1.0, 3.0, 0.5])
    on = np.array([1.0, 1.0, 0.5])
    runtimes = {}
    for rung in ("pca", "autoencoder"):
        pack = train_pca(table, Options(rung, "x", rung=rung, seed=3), tmp_path / rung)  # type: ignore[arg-type]
        runtimes[rung] = PackRuntime(pack)
    curved, plain = (runtimes[rung].score(off).score for rung in ("autoencoder", "pca"))
    assert curved is not None
    assert plain is not None
    assert plain < runtimes["pca"].pack.manifest.threshold.raise_at
    assert curved > 2 * runtimes["autoencoder"].pack.manifest.threshold.raise_at
    healthy = runtimes["autoencoder"].score(on).score
    assert healthy is not None
    assert healthy < 1.5


def test_the_same_seed_gives_the_same_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoder, "STEPS", 200)
    remains = np.random.default_rng(0).normal(0, 1, (500, 3))
    one, two, other = train_layers(remains, 1), train_layers(remains, 1), train_layers(remains, 2)
    assert all((a[0] == b[0]).all() and (a[1] == b[1]).all() for a, b in zip(one, two, strict=True))
    assert (one[0][0] != other[0][0]).any()
