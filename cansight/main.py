"""`cansight`: nouns, then verbs. Exit code 0 ok, 1 the work failed, 2 wrong usage or bad input.

A noun's file is imported when its noun is used: `cansight edge run` on a telematics unit must not pay for the cloud's packages.
"""

import importlib
import os
import sys
from typing import Any

import click

from cansight import __version__
from cansight.errors import UsageError

NOUNS = {
    "demo": "a vehicle's fault becomes a ticket, on this machine",
    "doctor": "what is installed, reachable, misconfigured",
    "dbc": "look into and check DBC files",
    "log": "look into recorded CAN logs",
    "sim": "drives of the simulated vehicle, with the truth beside them",
    "models": "train, score, evaluate and inspect detectors",
    "edge": "the agent on the vehicle",
    "cloud": "the aggregator, its stores, tickets and page",
    "lake": "every vehicle's ticks as Parquet: SQL, what is in it, compaction",
    "tickets": "the ticket queue",
    "pki": "fleet certificates and keys",
    "bench": "every benchmark, with its rival in the same run",
}

# Each package has one base error whose message is the one line to show and whose exit_code says which kind of failure it is.
PACKAGE_ERRORS = {
    "dbc.errors": "DbcError",
    "wire.errors": "WireError",
    "models.errors": "ModelsError",
    "edge.errors": "EdgeError",
    "cloud.errors": "CloudError",
    "simulator.errors": "SimulatorError",
}


class Nouns(click.Group):
    """The command group that imports `cansight.commands.NOUN` when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(NOUNS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in NOUNS:
            return None
        module = importlib.import_module(f"cansight.commands.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(NOUNS.items()))


@click.command(cls=Nouns, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cansight")
def cli() -> None:
    """Vehicle telematics that sees a breakdown coming."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; whatever goes wrong by the user's input or the world is one line on stderr, never a traceback."""
    try:
        result: Any = cli.main(args=arguments, prog_name="cansight", standalone_mode=False)
        sys.exit(result if isinstance(result, int) else 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:  # nothing was asked: what can be
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.ClickException as error:
        _complain(error.format_message())
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone (| head)
        sys.stderr.close()
        sys.exit(1)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in ("cansight", "cloud", "dbc", "edge", "models", "simulator", "wire"):
            raise
        from cansight.extras import bringing

        extras = " or ".join(bringing(error.name))
        _complain(f"the package {error.name} is not installed; install {f'{extras}, which brings it' if extras else 'it'}")
        sys.exit(2)
    except Exception as error:
        if isinstance(error, (UsageError, *_package_errors())):
            _complain(str(error))
            sys.exit(getattr(error, "exit_code", 2))
        if isinstance(error, OSError):
            named = error.filename is not None
            _complain(f"{os.fsdecode(error.filename)}: {error.strerror}" if named else error.strerror or str(error))
            sys.exit(2 if named else 1)  # without a name: the disk or the network, not what was asked for
        raise


def _package_errors() -> tuple[type[Any], ...]:
    """The base errors of the packages that are loaded; one that is not loaded cannot have raised."""
    return tuple(getattr(sys.modules[module], name) for module, name in PACKAGE_ERRORS.items() if module in sys.modules)


def _complain(message: str) -> None:
    click.echo(f"cansight: {' '.join(message.split())}", err=True)


if __name__ == "__main__":
    main()
