"""`cansight sim`: drives of the simulated vehicle, faults in recorded logs, replay onto a bus, fleets that load a cloud."""

import click

from cansight.commands.sim_dataset import dataset
from cansight.commands.sim_drive import drive, scenario
from cansight.commands.sim_fleet import fleet, fleet_ledger
from cansight.commands.sim_gallery import gallery
from cansight.commands.sim_inject import inject
from cansight.commands.sim_replay import replay


@click.group()
def sim() -> None:
    """The workbench: simulated drives with their truth, faults in recorded logs, replay, fleets."""


for command in (drive, scenario, gallery, dataset, inject, replay, fleet, fleet_ledger):
    sim.add_command(command)
