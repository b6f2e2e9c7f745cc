"""`cansight bench`: each hot path against a rival in the same run. The figure is the ratio: machines differ, and so do their loads."""

import json

import click


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--log", type=click.Path(exists=True, dir_okay=False), help="Measure on this recording instead of the simulated drive.")
@click.option("--dbc", multiple=True, metavar="FILE[@CHANNEL]", help="The recording's DBC.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of results.")
def bench(names: tuple[str, ...], log: str | None, dbc: tuple[str, ...], as_json: bool) -> int:
    """Benchmarks by NAME, or all of them. Exit code 1 when one falls short of its floor.

    \b
    the data path     decode bulk batch offline lines log-parquet mf4-parquet
    the running agent live agent latency packs
    the workbench     replay sim-ticks sim-frames fleet
    the cloud         cloud replicas console
    """
    from cansight.benchmarks import BENCHMARKS, benchmark
    from cansight.benchmarks.material import Material
    from cansight.errors import UsageError

    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        raise UsageError(f"bench {unknown[0]}: no such benchmark; there are {', '.join(BENCHMARKS)}")
    if bool(log) != bool(dbc):
        raise UsageError("bench: a recording needs its DBC and a DBC its recording: give --log and --dbc together")
    material = Material(log, tuple(dbc))
    results = []
    for name in names or BENCHMARKS:
        found = benchmark(name)(material)
        results += found
        if not as_json:
            for result in found:
                click.echo(result.line())
    if as_json:
        click.echo(json.dumps([result.as_json() for result in results], indent=2))
    return 0 if all(result.reached for result in results) else 1
