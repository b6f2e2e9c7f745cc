"""A thread that reads a source, so that a silent one (a FIFO without a writer) cannot keep the agent from sealing, sending and stopping."""

import queue
import threading
from collections.abc import Iterator

from dbc.frames import FrameBlock

BLOCKS = 4  # read ahead; more would only be memory, and age
POLL_S = 0.2  # how late the thread sees that it should end
GOODBYES = 3  # after that, nobody takes the blocks any more: it is tried so often


class Reader:
    """Hands a source's blocks over in order. What the source raises, `get` raises.

    A source ends by itself when it is told to stop; until `finished`, what it took from the bus before that still comes.
    """

    def __init__(self, blocks: Iterator[FrameBlock], stop: threading.Event) -> None:
        self._blocks = blocks
        self._stop = stop
        self._queue: queue.Queue[FrameBlock | Exception | None] = queue.Queue(BLOCKS)
        self.finished = False

    def start(self) -> None:
        # A daemon: a read that never returns must not hold the agent's end up.
        threading.Thread(target=self._run, name="source", daemon=True).start()

    def get(self, timeout_s: float) -> FrameBlock | None:
        """The next block; None when there is none yet, or no more (`finished`)."""
        try:
            item = self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(item, FrameBlock):
            return item
        self.finished = True
        if item is not None:
            raise item
        return None

    def _run(self) -> None:
        end: Exception | None = None
        try:
            for block in self._blocks:
                if not self._put(block):
                    return
        except Exception as error:  # noqa: BLE001 - handed to the agent's thread, whatever it is
            end = error
        self._put(end)

    def _put(self, item: FrameBlock | Exception | None) -> bool:
        left = GOODBYES
        while left:
            try:
                self._queue.put(item, timeout=POLL_S)
            except queue.Full:
                left -= self._stop.is_set()
                continue
            return True
        return False
