"""A recorded log with a fault put into it, through its DBC, and the truth about it.

First pass (files only): the log's times, what the signal is like, which counters and checksums the log proves. Second pass: the frames,
from reader to writer, a block at a time. Frames that are not touched stay as they are, in their order, with their stamps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dbc.logs import LogReader, open_log
from dbc.logs.writers import open_log_writer
from dbc.plan import CompiledDbc
from simulator.checks import RuleSearch
from simulator.errors import InjectionError
from simulator.fault_kinds import FaultKind
from simulator.injection import Injection, InjectionPlan
from simulator.target import Target
from simulator.truth import Spread, TouchedFrames

__all__ = ["InjectOrder", "Injected", "inject_log"]

Progress = Callable[[LogReader], None]


@dataclass(frozen=True)
class InjectOrder:
    """What to do with a log. targets: see InjectionPlan. from_s: after the log's earliest frame (a pipe's first); for_s: how long."""

    kind: FaultKind
    targets: tuple[Target, ...]
    from_s: float
    for_s: float
    seed: int
    parameters: Mapping[str, float]


@dataclass(frozen=True)
class Injected:
    """What became of it."""

    frames_in: int
    frames_out: int
    skipped: int  # broken lines of the log, which are not in the output
    truth: dict[str, Any]


class _Survey:
    """The first pass."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = targets
        self.first_ns = self.last_ns = 0
        self.frames = 0
        self.of_targets = 0
        self.seen = Spread()
        self.search = RuleSearch(targets[0].fields, targets[0].signal)

    def read(self, log: str) -> _Survey:
        with open_log(log) as reader:
            for block in reader:
                if not len(block):
                    continue
                low, high = int(block.timestamp_ns.min()), int(block.timestamp_ns.max())
                self.first_ns = min(self.first_ns, low) if self.frames else low
                self.last_ns = max(self.last_ns, high) if self.frames else high
                self.frames += len(block)
                for number, target in enumerate(self.targets):
                    mine = target.frames(block)
                    self.of_targets += int(np.count_nonzero(mine))
                    if number == 0 and mine.any():
                        data = np.ascontiguousarray(block.data[mine][:, : target.encoder.length])
                        self.search.feed(data)
                        for part in target.signal:
                            there = part.place.present(data, block.length[mine])
                            told = data[there]
                            self.seen.feed(np.where(part.place.read(told) > np.uint64(part.highest), np.nan, part.value(told)))
        return self


def inject_log(
    log: str, compiled: CompiledDbc, order: InjectOrder, output: Path, truth: Path | None, progress: Progress | None
) -> Injected:
    """Read `log`, write `output` (its format by its suffix) and the truth. progress: called after each block of the second pass.

    A pipe is read once: there nothing is learned, and sizes that are not given come from the DBC. Raises LogFormatError, ScenarioError,
    InjectionError where the fault finds no frame, TruthError.
    """
    survey = _Survey(order.targets)
    targets, is_file = order.targets, log != "-" and Path(log).is_file()
    if is_file:
        if output.exists() and output.samefile(log):
            raise InjectionError(f"{output}: is the log itself; expected another name for the output")
        survey.read(log)
        _look(log, survey, order)
        targets = (targets[0].with_checks(survey.search.result()), *targets[1:])
    with contextlib.ExitStack() as stack:
        rows = stack.enter_context(TouchedFrames(truth)) if truth is not None else None
        writer = stack.enter_context(open_log_writer(output))
        reader = stack.enter_context(open_log(log))
        injection: Injection | None = None
        frames_in = frames_out = first_ns = 0
        for block in reader:
            if injection is None and len(block):
                first_ns = survey.first_ns if is_file else int(block.timestamp_ns[0])
                from_ns = first_ns + round(order.from_s * 1e9)
                plan = InjectionPlan(order.kind, targets, from_ns, from_ns + round(order.for_s * 1e9), order.seed, order.parameters)
                injection = Injection(plan, survey.seen if is_file else None, rows.add if rows is not None else None)
            changed = injection.feed(block) if injection is not None else block
            writer.write(changed)
            frames_in, frames_out = frames_in + len(block), frames_out + len(changed)
            if progress is not None:
                progress(reader)
        if injection is None or injection.changed + injection.added + injection.removed == 0:
            raise InjectionError(_nothing(log, order, injection))
        head: dict[str, Any] = {
            "log": Path(log).name,
            "output": output.name,
            "log_first_ns": injection.plan.from_ns - round(order.from_s * 1e9),
        }
        document = head | injection.truth()
        document["frames"] = {"in": frames_in, "out": frames_out} | document["frames"]
        if rows is not None:
            rows.write(document)
    return Injected(frames_in, frames_out, reader.skipped, document)


def _look(log: str, survey: _Survey, order: InjectOrder) -> None:
    span_s = (survey.last_ns - survey.first_ns) / 1e9
    if not survey.frames:
        raise InjectionError(f"{log}: has no frames")
    if order.from_s >= span_s:
        raise InjectionError(f"{log}: is {span_s:.3f} s long; expected --from before its end, found {order.from_s:g} s")
    if not survey.of_targets:
        names = ", ".join(f"{target.name} (0x{target.frame_id:X} on {target.channel})" for target in order.targets[:3])
        raise InjectionError(f"{log}: has no frame of {names}; `cansight log info LOG --dbc FILE` shows what it has")


def _nothing(log: str, order: InjectOrder, injection: Injection | None) -> str:
    names = ", ".join(target.name for target in order.targets[:3])
    window = f"{order.from_s:g} s to {order.from_s + order.for_s:g} s"
    if injection is not None and injection.before.count:
        return (
            f"{log}: {order.kind.code} changes nothing from {window}: {injection.target.signal_name} already says so; choose other values"
        )
    return f"{log}: {order.kind.code} finds no frame of {names} to change from {window}"
