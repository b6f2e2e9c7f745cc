"""The stores that `cloud.store.Store` describes, and the choice between them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cloud.config import CloudConfig
from cloud.store import Store

if TYPE_CHECKING:
    from cloud.vehicle_models import VehicleModel


def make_store(config: CloudConfig, models: Mapping[str, "VehicleModel"]) -> Store:
    """The store that the settings name; it opens in its `with`."""
    state = Path(config.state)
    if config.store.kind == "influx":
        from cloud.stores.influx import InfluxStore

        return InfluxStore(config.store.influx, models, quarantine=state / "quarantine" / "influx.lp")
    from cloud.stores.embedded import EmbeddedStore

    return EmbeddedStore(state / "store.db")
