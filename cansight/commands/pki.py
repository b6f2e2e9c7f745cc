"""`cansight pki`: the fleet's certificates and keys."""

import json
from pathlib import Path

import click

_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group()
def pki() -> None:
    """Fleet certificates and keys."""


@pki.command()
@click.argument("folder", type=_FOLDER)
@click.option(
    "--host", "hosts", multiple=True, metavar="NAME", help="Name or address of the broker; repeat for more. Default: this machine."
)
@click.option(
    "--days", type=click.IntRange(1, 3650), default=825, show_default=True, help="Validity of broker's and aggregator's certificates."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def init(folder: Path, hosts: tuple[str, ...], days: int, as_json: bool) -> None:
    """Make the fleet's CA, broker and aggregator certificates, recipient key and pack key in FOLDER. Nothing is overwritten."""
    from cloud import pki as keys

    keys.init(folder, hosts=hosts or keys.DEFAULT_HOSTS, days=days)
    files = sorted(str(path) for path in folder.iterdir() if path.suffix in (".pem", ".key", ".json"))
    if as_json:
        click.echo(json.dumps({"folder": str(folder), "files": files}))
        return
    click.echo("\n".join(files))
    click.echo(f"Keep {folder / 'fleet-ca.key'} offline. Next: cansight pki vehicle {folder}")


@pki.command()
@click.argument("folder", type=_FOLDER)
@click.option(
    "--id", "vehicle_id", metavar="ID", help="16 lower-case hexadecimal digits; random when not given. Never derive it from a VIN."
)
@click.option("--days", type=click.IntRange(1, 7300), default=825, show_default=True, help="Validity of the certificate.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def vehicle(folder: Path, vehicle_id: str | None, days: int, as_json: bool) -> None:
    """Make the certificate and key of one vehicle in FOLDER/vehicles and print its id."""
    from cloud import pki as keys

    made = keys.vehicle(folder, vehicle_id, days=days)
    stem = folder / "vehicles" / made
    if as_json:
        click.echo(json.dumps({"vehicle": made, "certificate": f"{stem}.pem", "key": f"{stem}.key"}))
        return
    click.echo(made)
