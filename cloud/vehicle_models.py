"""Vehicle models: how a schema id in an announcement becomes names, units and words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloud.config import VehicleModelConfig
from dbc.catalogue import Catalogue
from dbc.compiler import load_compiled
from dbc.schema import Schema


@dataclass(frozen=True)
class VehicleModel:
    """A model's name, the schema that its vehicles send by, and its catalogue (empty when none is configured)."""

    name: str
    schema: Schema
    catalogue: Catalogue | None


def load_models(configs: Sequence[VehicleModelConfig], cache_folder: Path) -> dict[str, VehicleModel]:
    """Models by name. Raises DbcError naming the file that does not load."""
    return {
        config.name: VehicleModel(
            name=config.name,
            schema=load_compiled(config.dbc, cache_folder).schema,
            catalogue=Catalogue.load(Path(config.catalogue)) if config.catalogue else None,
        )
        for config in configs
    }


def by_schema(models: Mapping[str, VehicleModel]) -> dict[bytes, VehicleModel]:
    """Models by schema id. Two models with one and the same DBC are one to a vehicle's announcement: the first named wins."""
    found: dict[bytes, VehicleModel] = {}
    for model in models.values():
        found.setdefault(model.schema.schema_id, model)
    return found
