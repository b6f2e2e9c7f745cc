"""`cansight sim gallery`: pictures of the simulated car to be judged by an engineer."""

from pathlib import Path

import click

from cansight.errors import UsageError


@click.command()
@click.argument("names", metavar="[NAME...]", nargs=-1)
@click.option("-o", "--output", "folder", type=click.Path(file_okay=False, path_type=Path), help="The folder of the pictures.")
@click.option("--format", "kind", type=click.Choice(["png", "svg", "pdf"]), default="png", show_default=True)
def gallery(names: tuple[str, ...], folder: Path | None, kind: str) -> None:
    """Draw drives, charging, winter and summer, and every fault from onset to failure, some minutes' work; without -o: list the names."""
    from simulator.gallery import draw_gallery, pictures

    if folder is None:
        if names:
            raise UsageError("-o: is missing; expected the folder of the pictures")
        click.echo("\n".join(pictures()))
        return
    draw_gallery(folder, names, f".{kind}", lambda name: click.echo(f"{folder / name}.{kind}"))
