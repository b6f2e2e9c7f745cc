"""The cloud's settings, as its commands are given them."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cloud.config import CloudConfig

CONFIG = click.option(
    "-c",
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("cloud.toml"),
    show_default=True,
    help="settings",
)


def load_config(config_file: Path) -> "CloudConfig":
    """The settings, checked, with every path absolute."""
    from cansight import settings
    from cloud.config import CloudConfig, resolved

    return resolved(settings.load(config_file, CloudConfig), config_file.absolute().parent)
