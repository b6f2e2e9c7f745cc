"""Links of an ASAM MDF4 file that run in a circle, which asammdf would follow without end.

Blocks hang together by links, the file positions of other blocks (ASAM MDF 4.1, 4.2 "General block structure": id, length and number of
links in 24 bytes, then the links). Chains of data groups, channel groups, channels, file history, attachments, events and data lists end
with a link of zero; in a damaged file one may lead back.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

__all__ = ["circular_link"]

HEADER = 64  # where the header block begins, behind the identification block
FIRST_LINK = 24
# Of each kind of block: which of its links are followed, and to what. "next" is of the same kind.
CHAINS: dict[str, tuple[tuple[int, str], ...]] = {
    "header": ((0, "data group"), (1, "file history"), (2, "hierarchy"), (3, "attachment"), (4, "event")),
    "data group": ((0, "data group"), (1, "channel group"), (2, "data")),
    "channel group": ((0, "channel group"), (1, "channel")),
    "channel": ((0, "channel"), (1, "channel"), (5, "data")),
    "file history": ((0, "file history"),),
    "hierarchy": ((0, "hierarchy"), (1, "hierarchy")),
    "attachment": ((0, "attachment"),),
    "event": ((0, "event"),),
    "data": ((0, "data"),),
}
LISTS = (b"##DL", b"##HL", b"##LD")  # blocks of data that have links to others; the rest has none
COMPOSITIONS = (b"##CN", b"##CA")


def circular_link(file: BinaryIO) -> str:
    """What leads back to itself, "" for nothing. Reads each block's links once; the file is left where it was."""
    before = file.tell()
    try:
        return _circle(file)
    finally:
        file.seek(before)


def _circle(file: BinaryIO) -> str:
    """Depth first; a block that is met again while it is still being followed closes a circle."""
    open_blocks: set[tuple[str, int]] = set()
    done: set[tuple[str, int]] = set()
    stack: list[tuple[str, int, bool]] = [("header", HEADER, False)]
    while stack:
        kind, at, left = stack.pop()
        if left:
            open_blocks.discard((kind, at))
            done.add((kind, at))
            continue
        if (kind, at) in open_blocks:
            return f"the {kind} at byte {at} leads back to itself"
        if (kind, at) in done:
            continue
        open_blocks.add((kind, at))
        stack.append((kind, at, True))
        stack += [(to, link, False) for to, link in _links(file, kind, at)]
    return ""


def _links(file: BinaryIO, kind: str, at: int) -> list[tuple[str, int]]:
    chains = CHAINS[kind]
    file.seek(at)
    block = file.read(FIRST_LINK + 8 * (chains[-1][0] + 1))
    if (kind == "data" and block[:4] not in LISTS) or (block[:4] not in COMPOSITIONS and kind == "channel"):
        return []
    found = []
    for number, to in chains:
        where = FIRST_LINK + 8 * number
        if where + 8 <= len(block):
            (link,) = struct.unpack_from("<Q", block, where)
            if 0 < link < 1 << 63:
                found.append((to, link))
    return found
