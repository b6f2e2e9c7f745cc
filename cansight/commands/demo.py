"""`cansight demo`: the whole loop on this machine."""

import json
from pathlib import Path

import click

from cansight.errors import UsageError
from cansight.extras import missing


@click.command()
@click.option("--once", is_flag=True, help="End by itself: exit code 0 if the leak became a ticket and nothing was lost, else 1.")
@click.option("--vehicles", default=2, show_default=True, type=click.IntRange(1, 50), help="How many; the first one leaks coolant.")
@click.option("--speed", default=10.0, show_default=True, type=click.FloatRange(0.1, 100), help="Times real time.")
@click.option("--log", "log", type=click.Path(path_type=Path), help="Your own recording instead of the simulator.")
@click.option("--dbc", multiple=True, metavar="FILE[@CHANNEL]", help="The DBC of your recording; more than once for more buses.")
@click.option(
    "--broker", default="", metavar="URL", help="mqtts://HOST:PORT with --pki, or `mosquitto` to start one here. Embedded by default."
)
@click.option("--influx", default="", metavar="URL", help="http://HOST:PORT, or `influxd` to start one here. Embedded store by default.")
@click.option("--pki", type=click.Path(path_type=Path, file_okay=False), help="Certificates that the broker of --broker trusts.")
@click.option("--port", default=8460, show_default=True, type=click.IntRange(1, 65535), help="Of the page, on 127.0.0.1.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keep everything here instead of in a temporary folder.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=0), help="Of the first vehicle's drive.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def demo(
    once: bool,
    vehicles: int,
    speed: float,
    log: Path | None,
    dbc: tuple[str, ...],
    broker: str,
    influx: str,
    pki: Path | None,
    port: int,
    folder: Path | None,
    seed: int,
    as_json: bool,
) -> int:
    """A simulated vehicle's coolant leak becomes a ticket; or your own log takes the same way."""
    if lacking := missing("edge", "cloud", "sim"):
        raise UsageError(f"the demonstration needs {', '.join(lacking)}: install cansight[edge,cloud,sim]")
    if dbc and log is None:
        raise UsageError(f"--dbc {dbc[0]}: describes a recording, and none is named; give --log LOG too")

    from rich.console import Console

    from cansight.demo.report import show
    from cansight.demo.run import Demonstration, Options, follow

    console = Console(stderr=as_json, soft_wrap=True)
    options = Options(
        vehicles=1 if log else vehicles,
        speed=speed,
        seed=seed,
        log=log and log.absolute(),
        dbc=tuple(_absolute(entry) for entry in dbc),
        broker=broker,
        influx=influx,
        pki=pki and pki.absolute(),
        port=port,
        folder=folder,
    )
    with Demonstration(options) as demonstration:
        console.print("Starting broker, aggregator and agents", highlight=False)
        demonstration.start()
        console.print(f"The page: {demonstration.url}", highlight=False)
        follow(demonstration, console)
        report = demonstration.report()
        if as_json:
            click.echo(json.dumps(report.as_json(), indent=2))
        else:
            show(report, console)
        if not once:
            console.print(f"\nThe page stays open: {demonstration.url}  (Ctrl-C ends)", highlight=False)
            demonstration.supervise_until_interrupted()
    return 1 if report.problems else 0


def _absolute(entry: str) -> str:
    """`FILE[@CHANNEL]` with the file's absolute path: the settings that are written lie in another folder."""
    path, at, channel = entry.rpartition("@") if "@" in Path(entry).name else (entry, "", "")
    return f"{Path(path).absolute()}{at}{channel}"
