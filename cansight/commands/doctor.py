"""`cansight doctor`: what is installed, reachable, misconfigured."""

import importlib.metadata
import json
import shutil
import socket
import sys
from dataclasses import asdict, dataclass

import click

from cansight.extras import requirements

SERVERS = {"mosquitto": "broker", "influxd": "time-series store", "postgres": "database", "chromium": "browser for the tests"}


@dataclass(frozen=True)
class Check:
    """One line of the report; `ok` None means: not there, and only some uses need it."""

    name: str
    ok: bool | None
    found: str


def checks() -> list[Check]:
    """Everything that can be told without settings."""
    found = [Check("Python", sys.version_info >= (3, 11), sys.version.split()[0] + " (3.11 or newer is needed)")]
    found += [_extra(extra) for extra in ("edge", "cloud", "sim", "log", "poll", "train", "dev")]
    found.append(_socketcan())
    search = "/usr/local/sbin:/usr/sbin:/sbin"  # where servers lie, and an ordinary PATH does not look
    for program, use in SERVERS.items():
        path = shutil.which(program) or shutil.which(program, path=search)
        found.append(Check(program, True if path else None, path or f"not installed ({use})"))
    return found


def _extra(extra: str) -> Check:
    """Whether every package of an extra is installed in a version that pyproject.toml allows."""
    wrong = []
    for requirement in requirements(extra):
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(requirement.name)
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} ({requirement.specifier} is needed)")
    return Check(f"cansight[{extra}]", None if wrong else True, f"lacks {', '.join(wrong)}" if wrong else "complete")


def _socketcan() -> Check:
    try:
        socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW).close()
    except OSError as error:
        return Check("SocketCAN", None, f"this kernel has none ({error.strerror}); recorded logs and the simulator work all the same")
    return Check("SocketCAN", True, "the kernel has it")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a list of {name, ok, found}.")
def doctor(as_json: bool) -> int:
    """What is installed, reachable, misconfigured; exit code 1 when something that everything needs is wrong."""
    found = checks()
    if as_json:
        click.echo(json.dumps([asdict(check) for check in found], indent=2))
    else:
        width = max(len(check.name) for check in found)
        for check in found:
            mark = {True: "ok", False: "wrong", None: "-"}[check.ok]
            click.echo(f"{mark:5} {check.name:{width}}  {check.found}")
    return 1 if any(check.ok is False for check in found) else 0
