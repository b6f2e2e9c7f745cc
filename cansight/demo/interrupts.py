"""Ctrl-C, SIGTERM and SIGHUP while the demonstration runs: each ends it, none leaves anything behind."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the demonstration as Ctrl-C does: through the `with` blocks, leaving nothing behind.

    Only the first of them counts: one that came before the clean-up has begun would leave that out. Who started this program with a signal
    ignored (nohup) goes on ignoring it.
    """
    before = {number: handler for number in INTERRUPTS if (handler := signal.getsignal(number)) is not signal.SIG_IGN}

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in before:
            signal.signal(number, _ignore)
        raise KeyboardInterrupt

    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Not SIG_IGN: Python prints a trace for a signal that came just before it."""


@contextlib.contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """A second Ctrl-C must not cut the clean-up short; it is bounded in time by itself."""
    before = {number: signal.signal(number, _ignore) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def holding_interrupts() -> Iterator[None]:
    """What is made in this block is also noted down: an interrupt between the two would leave it behind. It is obeyed after the block."""
    held: list[int] = []

    def hold(number: int, _frame: FrameType | None) -> None:
        held.append(number)

    before = {number: signal.signal(number, hold) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if held:
        signal.raise_signal(held[0])
