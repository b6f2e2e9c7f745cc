"""The message that a fault is put into: how its frames are known, its signals, what protects it."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dbc.encoder import MessageEncoder, message_encoders
from dbc.errors import SignalUnknown
from dbc.frames import EFF_FLAG, EFF_MASK, ERR_FLAG, RTR_FLAG, FrameBlock
from dbc.plan import ANY_SOURCE, NOT_PGN, CompiledDbc
from dbc.protocols.j1939 import pgns_of
from simulator.checks import MessageChecks, declared_checks
from simulator.errors import ScenarioError
from simulator.fields import Field, message_fields

__all__ = ["Target", "message_target", "signal_target"]

MOST_BYTES = 64


@dataclass(frozen=True)
class Target:
    """One message of a DBC on its channel; `signal`: the fields of the one that is changed, () = the whole message is meant."""

    name: str
    number: int  # in the plan
    channel: str
    encoder: MessageEncoder
    fields: tuple[Field, ...]
    signal: tuple[Field, ...]
    pgn: int
    source: int
    checks: MessageChecks

    @property
    def frame_id(self) -> int:
        return self.encoder.frame_id & EFF_MASK

    @property
    def signal_name(self) -> str | None:
        return self.signal[0].name if self.signal else None

    @property
    def unit(self) -> str:
        return self.signal[0].schema.units[self.signal[0].number] if self.signal else ""

    def frames(self, block: FrameBlock) -> NDArray[np.bool_]:
        """(n,) which frames of the block are of this message and whole."""
        if self.channel not in block.channels:
            return np.zeros(len(block), np.bool_)
        if self.pgn == NOT_PGN:
            found: NDArray[np.bool_] = block.frame_id == np.uint32(self.encoder.frame_id)
        else:
            data = block.frame_id & np.uint32(EFF_FLAG | RTR_FLAG | ERR_FLAG) == EFF_FLAG
            found = data & (pgns_of(block.frame_id) == self.pgn)
            if self.source != ANY_SOURCE:
                found &= (block.frame_id & np.uint32(0xFF)) == self.source
        found &= block.channel == np.uint8(block.channels.index(self.channel))
        found &= block.length >= self.encoder.length
        return found

    def with_checks(self, learned: MessageChecks) -> Target:
        """With what the log proved, where nothing is declared."""
        counter = self.checks.counter or learned.counter
        return dataclasses.replace(self, checks=MessageChecks(counter, self.checks.checksums or learned.checksums))


def message_target(compiled: CompiledDbc, name: str) -> Target:
    """The message of this name, "Message" or "channel:Message". Raises ScenarioError."""
    channel, _, short = name.rpartition(":")
    names = compiled.plan.message_names
    found = [
        encoder for encoder in enumerate(message_encoders(compiled)) if names[encoder[0]] == short and channel in ("", encoder[1].channel)
    ]
    if not found:
        close = difflib.get_close_matches(short, names, 3)
        raise ScenarioError(f"no message {name!r} in the DBC{'; did you mean ' + ' or '.join(close) + '?' if close else ''}")
    if len(found) > 1:
        there = ", ".join(f"{encoder.channel}:{short}" for _, encoder in found)
        raise ScenarioError(f"message {name!r} is on several channels; write one of {there}")
    return _target(compiled, *found[0], ())


def signal_target(compiled: CompiledDbc, name: str) -> Target:
    """The message of a signal, "Message.Signal" as the schema has it, or "Signal" where only one message has it. Raises SignalUnknown."""
    schema = compiled.schema
    if "." not in name:
        several = [full for full in schema.names if full.rpartition(".")[2] == name]
        if len(several) > 1:
            raise ScenarioError(f"signal {name!r} is in several messages; write one of {', '.join(several[:5])}")
        name = several[0] if several else name
    try:
        full = schema.names[schema.index(name)]
    except SignalUnknown as error:
        short = [other for other in schema.names if other.rpartition(".")[2].lower() == name.rpartition(".")[2].lower()]
        raise SignalUnknown(name, short[:3] or error.close) from None
    for number, encoder in enumerate(message_encoders(compiled)):
        if full in encoder.signals:
            target = _target(compiled, number, encoder, ())
            return dataclasses.replace(target, signal=tuple(field for field in target.fields if field.name == full))
    raise ScenarioError(f"signal {name!r} lies beyond the end of its message; nothing can be written there")


def _target(compiled: CompiledDbc, number: int, encoder: MessageEncoder, signal: Sequence[Field]) -> Target:
    plan = compiled.plan
    if encoder.length > MOST_BYTES:
        raise ScenarioError(
            f"message {encoder.name} of {encoder.length} bytes comes in several frames; expected one of at most {MOST_BYTES}"
        )
    fields = message_fields(compiled, encoder)
    return Target(
        encoder.name,
        number,
        encoder.channel,
        encoder,
        tuple(fields),
        tuple(signal),
        int(plan.message_pgn[number]),
        int(plan.message_source[number]),
        declared_checks(compiled, number, encoder, fields),
    )
