"""`cansight log dtc`: the trouble codes that ECUs report in recorded logs."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from cansight.commands.log_notes import tell_damage, utc

if TYPE_CHECKING:
    from dbc.protocols.trouble import TroubleEvent

EFF_FLAG, HEX_MOST = 0x8000_0000, 0x1FFF_FFFF
LAMPS = ("malfunction", "red_stop", "amber_warning", "protect")


class Identifier(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Hexadecimal; more than three digits: 29 bits."""

    name = "identifier"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = int(str(value), 16)
        except ValueError:
            number = -1
        extended = len(str(value).removeprefix("0x")) > 3
        if not 0 <= number <= (HEX_MOST if extended else 0x7FF):
            self.fail(f"{value!r} is no identifier; expected hexadecimal, as 612 or 18DAF110", param, ctx)
        return number | EFF_FLAG if extended else number


@dataclass
class Entry:
    """A code of an ECU, as long as it reports it."""

    log: str
    channel: str
    ecu: str  # hexadecimal: a J1939 source address, or the identifier of the answers
    protocol: str
    code: str
    kind: str
    first_ns: int
    last_ns: int  # of the last report that changed, or of the first one without it
    to_the_end: bool = True  # the ECU's last report has it
    times: int | None = None  # J1939: how often it became active
    status: int | None = None  # UDS: the status byte
    lamps: tuple[str, ...] = ()  # J1939: those that are on


@click.command()
@click.argument("logs", metavar="LOG...", nargs=-1, required=True)
@click.option(
    "--answer", "answers", metavar="ID", multiple=True, type=Identifier(), help="Further identifiers of answers; may be repeated."
)
@click.option("--strict", is_flag=True, help="Stop at the first broken line or damage, with exit code 2.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def dtc(logs: tuple[str, ...], answers: tuple[int, ...], strict: bool, as_json: bool) -> None:
    """Trouble codes that ECUs report: OBD-II modes 03, 07, 0A, UDS 19 02, J1939 DM1 and DM2. No DBC is needed.

    Answers on 7E8-7EF and 18DAF1xx are known; --answer names others. "-" is standard input.
    """
    from dbc.logs import open_log
    from dbc.protocols import TroubleCodes

    entries: list[Entry] = []
    for path in logs:
        codes, collected = TroubleCodes(answers), _Collected(path)
        reader = open_log(path, strict=strict)
        for block in reader:
            for event in codes.feed(block):
                collected.take(event)
        reader.refuse_empty()
        tell_damage(reader)
        entries += collected.entries
        if not as_json:
            _print(path, collected)
    if as_json:
        click.echo(json.dumps([_as_json(entry) for entry in entries], ensure_ascii=False, indent=2))


class _Collected:
    """Codes of one log, in the order in which they were first reported."""

    def __init__(self, log: str) -> None:
        self.log = log
        self.entries: list[Entry] = []
        self.ecus: set[tuple[str, str]] = set()  # that have reported, be it that they have no code
        self._open: dict[tuple[str, int, int | None, int], dict[str, Entry]] = {}

    def take(self, event: "TroubleEvent") -> None:
        """A report replaces the one before it of the same ECU and service."""
        from dbc.protocols.dtc import J1939Dtc

        ecu = f"{event.identifier & HEX_MOST:X}" if event.source is None else f"{event.source:02X}"
        self.ecus.add((event.channel, ecu))
        lamps = tuple(name for name in LAMPS if event.report.lamps is not None and getattr(event.report.lamps, name))
        before = self._open.get((event.channel, event.identifier, event.source, event.service), {})
        now: dict[str, Entry] = {}
        for code in event.report.codes:
            key = f"{code} {code.kind}"
            if (entry := before.pop(key, None)) is None:
                protocol = "J1939" if isinstance(code, J1939Dtc) else "OBD-II" if code.status is None else "UDS"
                entry = Entry(self.log, event.channel, ecu, protocol, str(code), str(code.kind), event.timestamp_ns, event.timestamp_ns)
                self.entries.append(entry)
            now[key] = entry
            entry.last_ns, entry.lamps = event.timestamp_ns, lamps
            if isinstance(code, J1939Dtc):
                entry.times = code.count
            else:
                entry.status = code.status
        for gone in before.values():
            gone.to_the_end, gone.last_ns = False, event.timestamp_ns
        self._open[event.channel, event.identifier, event.source, event.service] = now


def _print(path: str, collected: _Collected) -> None:
    if not collected.ecus:
        click.echo(f"{path}: no ECU reports trouble codes (nobody may have asked for them)")
        return
    for entry in collected.entries:
        more = [f"{entry.times} times" if entry.times is not None else "", f"status {entry.status:02X}" if entry.status is not None else ""]
        more += [f"lamp {lamp.replace('_', ' ')}" for lamp in entry.lamps]
        until = "" if entry.to_the_end else f", gone at {utc(entry.last_ns)}"
        detail = ", ".join(filter(None, more))
        click.echo(
            f"{entry.channel} {entry.ecu:8} {entry.protocol:6} {entry.kind:17} {entry.code:20} since {utc(entry.first_ns)}{until}"
            f"{f' ({detail})' if detail else ''}"
        )
    codes, ecus = len(collected.entries), len(collected.ecus)
    click.echo(f"{path}: {codes} {'code' if codes == 1 else 'codes'}; {ecus} {'ECU reports' if ecus == 1 else 'ECUs report'}")


def _as_json(entry: Entry) -> dict[str, Any]:
    names = ("log", "channel", "ecu", "protocol", "code", "kind")
    return {name: getattr(entry, name) for name in names} | {
        "first": utc(entry.first_ns),
        "last_change": utc(entry.last_ns),
        "to_the_end": entry.to_the_end,
        "times": entry.times,
        "status": entry.status,
        "lamps": list(entry.lamps),
    }
