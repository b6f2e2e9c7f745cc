"""A small pack, trained once a run on a coolant loop of the tests' own."""

import shutil
from pathlib import Path

import pytest
from thermal_loop import CONTEXT, table

from models.pack import Pack
from models.tables import Table
from models.train import Options, train_pca


@pytest.fixture(scope="session")
def healthy() -> Table:
    """40 healthy drives of 10 minutes."""
    return table(range(40))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, healthy: Table) -> Pack:
    """The pack of the healthy drives; not to be written to."""
    folder = tmp_path_factory.mktemp("packs") / "loop"
    return train_pca(healthy, Options("loop", "coolant_leak", context=CONTEXT, average=10, window=20), folder)


@pytest.fixture
def pack_folder(tmp_path: Path, trained: Pack) -> Path:
    """A copy of the pack that a test may damage."""
    return Path(shutil.copytree(trained.folder, tmp_path / "loop"))
