"""The vehicles that come with the project: a folder each, with a DBC for every bus and the signal catalogue beside them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["CATALOGUE", "DBC_FILES", "FOLDER"]

FOLDER = Path(__file__).resolve().parent / "cansight_ev"
DBC_FILES = (f"{FOLDER / 'drive.dbc'}@can0", f"{FOLDER / 'body.dbc'}@can1")  # as `compile_dbc` and the command line take them
CATALOGUE = FOLDER / "catalogue.toml"
