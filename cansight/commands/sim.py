"""`cansight sim`: drives of the simulated vehicle with the truth beside them, faults in recorded logs."""

import click

from cansight.commands.sim_dataset import dataset
from cansight.commands.sim_drive import drive, scenario
from cansight.commands.sim_inject import inject


@click.group()
def sim() -> None:
    """Drives of the simulated vehicle, with the truth beside them."""


sim.add_command(drive)
sim.add_command(scenario)
sim.add_command(inject)
sim.add_command(dataset)
