"""Parts that ought to be alike: kept though they are copies, and what parts them is judged, however rough the road they share."""

from pathlib import Path

import numpy as np

from models.alarm import Transition
from models.runtime import PackRuntime
from models.scoring import score_drive_ticks
from models.tables import Drive, Table
from models.train import Options, train_pca

NAMES = ("Disc.Left", "Disc.Right")


def drives(seeds: range, apart: float = 0.0) -> Table:
    """Two discs that are heated and cooled alike; from the middle of the drive on the left one is warmer."""
    found = []
    for seed in seeds:
        random = np.random.default_rng(seed)
        heat = np.round(20 + 30 * np.abs(np.cumsum(random.normal(0, 0.1, 300))), 1)
        left = heat + apart * (np.arange(300) >= 150)
        found.append(Drive(f"{seed}", 1_700_000_000_000 + 1000 * np.arange(300), np.stack([left, heat], axis=1)))
    return Table(NAMES, ("degC", "degC"), tuple(found))


def raised(folder: Path, data: Table) -> list[int]:
    from models.pack import Pack

    runtime = PackRuntime(Pack.load(folder))
    return [sum(tick.transition is Transition.RAISED for tick in score_drive_ticks(runtime, drive)) for drive in data.drives]


def test_what_parts_twins_is_found_and_what_they_share_is_not(tmp_path: Path) -> None:
    options = Options(pack_id="discs", fault_code="brake_drag", context=("Disc.Right",), twins=("Disc.*",), average=5, window=5)
    pack = train_pca(drives(range(40)), options, tmp_path / "discs")
    assert pack.manifest.training.dropped == {}
    assert pack.manifest.threshold.raise_at >= 1
    assert raised(tmp_path / "discs", drives(range(100, 110))) == [0] * 10
    assert raised(tmp_path / "discs", drives(range(100, 110), apart=0.1)) == [0] * 10  # the last digit of a healthy one
    assert raised(tmp_path / "discs", drives(range(100, 110), apart=40.0)) == [1] * 10
