"""The vehicles that come with the project: a folder each, with a DBC for every bus and the signal catalogue beside them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["BUSES", "CATALOGUE", "DBC_FILES", "FOLDER"]

FOLDER = Path(__file__).resolve().parent / "cansight_ev"
BUSES = {"can0": "drive.dbc", "can1": "body.dbc", "can2": "energy.dbc"}  # classic CAN, classic CAN, CAN FD
DBC_FILES = tuple(f"{FOLDER / name}@{channel}" for channel, name in BUSES.items())  # as `compile_dbc` and the command line take them
CATALOGUE = FOLDER / "catalogue.toml"
