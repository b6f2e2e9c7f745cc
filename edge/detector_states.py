"""What the detectors remember of this vehicle over an end of the agent: baselines, drives, active findings.

`detectors.json` in the state folder: thirty drives' means of a few signals for each pack, tens of kilobytes, written where a drive has
ended or a finding has changed, at most once a minute, and when the agent ends. Readable by the agent alone, whole or not at all.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from edge.detector import Detector, Kept
from edge.files import replace_file
from models.errors import StateError

__all__ = ["DetectorStates"]

FILE = "detectors.json"
LEAST_S = 60.0  # between two writings

log = logging.getLogger(__name__)


class _Document(msgspec.Struct):
    """packs: by pack id, of the version that rules and of that in shadow. said: what the signals said that record a change."""

    packs: dict[str, list[Kept]] = {}
    said: dict[str, float] = {}


class DetectorStates:
    """The file. What cannot be read counts as not there; what cannot be written is one line in the log, once."""

    def __init__(self, state: Path) -> None:
        self._file = state / FILE
        self._document = _Document()
        self._revisions: dict[str, int] = {}
        self._due_s = float("-inf")
        self._failed = False

    @property
    def said(self) -> dict[str, float]:
        """Of the signals that record a change, at the last writing."""
        return self._document.said

    def read(self) -> None:
        """Take what an earlier run has left."""
        try:
            self._document = msgspec.json.decode(self._file.read_bytes(), type=_Document)
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.error("%s: cannot be read: %s; every pack learns this vehicle anew", self._file, error)

    def restore(self, detector: Detector) -> None:
        """Let a fresh detector go on where its version left off, or another one of the same model."""
        kept = self._document.packs.get(detector.pack.manifest.pack_id, [])
        for one in sorted(kept, key=lambda one: one.identity != detector.identity):
            try:
                if detector.restore(one):
                    return
            except StateError as error:
                log.error("%s", error)

    def write(self, detectors: Iterable[Detector], said: dict[str, float], now_s: float | None = None) -> None:
        """Keep them, where something has changed that is worth it; without now_s (monotonic) at once, with the drives at hand."""
        every = list(detectors)
        revisions = {f"{one.pack.manifest.pack_id} {one.identity}": one.revision for one in every}
        if now_s is not None:
            if revisions == self._revisions or now_s < self._due_s:
                return
            self._due_s = now_s + LEAST_S
        packs: dict[str, list[Kept]] = {}
        for one in every:
            packs.setdefault(one.pack.manifest.pack_id, []).append(one.keep())
        document = _Document(packs, said)
        try:
            replace_file(self._file, msgspec.json.encode(document) + b"\n", durable=True)
        except OSError as error:
            if not self._failed:
                log.error("%s: cannot be written: %s", self._file, error.strerror)
            self._failed = True
            return
        self._document, self._revisions, self._failed = document, revisions, False
