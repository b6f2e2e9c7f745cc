"""Multiplexers as one table machine: which signals a frame has is looked up, level by level, for all frames at once.

A *state* is a place on the way down a message's multiplexers; it either reads one more selector, whose value picks the next state, or is
final. A final state stands for a *variant*: the run of rows (ways to cut a signal) that its frames have, those of the multiplexers
above included, so that a frame is cut out with a single gather. Where a node has several multiplexers side by side the message has
several *runs*, each following one of them; only the first run carries the rows above.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dbc.errors import DbcError
from dbc.plan import SELECTOR_BITS, DecodePlan

__all__ = ["NOTHING", "Variants", "build"]

Index = NDArray[np.intp]

NOTHING = 0  # state and segment of frames that no DBC knows
DIRECT_BITS = 10  # a selector of so many bits is a table's index; values of longer ones are searched for
MOST_STATES = 1 << 20  # a hostile file may nest multiplexers so that the combinations explode
MOST_SPARSE = 1 << (63 - SELECTOR_BITS)


@dataclass(frozen=True)
class Variants:
    """s states, g segments (a variant's rows of one byte order), r rows."""

    root: Index  # (messages,) state at which the message's first run starts
    # states
    runs: Index  # (s,) runs of a message that starts here; 1 elsewhere
    whole: NDArray[np.uint16]  # (s,) payload bytes that all signals of a message that starts here need together; 0 elsewhere
    selector: Index  # (s,) plan row of the selector to read; -1 = final
    base: Index  # (s,) first entry in `follow`; where values are searched for, the default comes after theirs
    default: Index  # (s,) next state for values without signals, and for frames that end before the selector
    sparse: Index  # (s,) number of a state whose values are searched for; -1 = the value is the index
    segment: Index  # (s,) first segment of the variant, where it is final
    two: NDArray[np.bool_]  # (s,) the variant has rows of both byte orders: the second segment follows the first
    follow: Index  # next states
    sparse_key: NDArray[np.uint64]  # sorted; sparse << 48 | value
    sparse_first: Index  # of each sparse number: its first key,
    sparse_count: Index  # and how many it has
    # segments; 0 is empty
    first: Index  # (g,)
    count: Index  # (g,)
    big: NDArray[np.bool_]  # (g,)
    need: NDArray[np.uint16]  # (g,) payload bytes of its rows
    rows: Index  # (r,) of the plan


def build(plan: DecodePlan) -> Variants:
    """Raises DbcError where the multiplexers have too many combinations."""
    return _Builder(plan).build()


class _Builder:
    def __init__(self, plan: DecodePlan) -> None:
        self.plan = plan
        self.big: list[bool] = plan.row_big.tolist()
        first, count = plan.node_first.tolist(), plan.node_count.tolist()
        self.node_rows = [tuple(range(a, a + n)) for a, n in zip(first, count, strict=True)]
        self.node_slots = [range(a, a + n) for a, n in zip(plan.node_slot_first.tolist(), plan.node_slot_count.tolist(), strict=True)]
        self.children: dict[int, list[tuple[int, int]]] = {}
        for key, node in zip(plan.child_key.tolist(), plan.child_node.tolist(), strict=True):
            self.children.setdefault(key >> SELECTOR_BITS, []).append((key & (1 << SELECTOR_BITS) - 1, node))
        # state: variant, runs, selector row, base, default, sparse
        self.states: list[list[int]] = []
        self.follow: list[int] = []
        self.keys: list[int] = []
        self.sparse_first: list[int] = []
        self.variants: dict[tuple[int, ...], int] = {}
        self.finals: dict[int, int] = {}
        self.known: dict[tuple[int, tuple[int, ...], tuple[int, ...]], int] = {}

    def build(self) -> Variants:
        self._final(())  # NOTHING
        roots = []
        for node in self.plan.message_node.tolist():
            rows = self.node_rows[node]
            if not self.node_slots[node]:
                roots.append(self._new(rows))
                continue
            more = sorted(self._ways(node, (), set()))
            below = [self._below(node, (), rows), *(self._below(node, way, ()) for way in more)]
            roots.append(len(self.states))  # the states at which the runs start stand side by side
            self.states += [[*self.states[start]] for start in below]
            self.states[roots[-1]][1] = len(below)
        return self._arrays(roots)

    def _ways(self, node: int, way: tuple[int, ...], seen: set[tuple[int, tuple[int, ...]]]) -> set[tuple[int, ...]]:
        """The runs after the first: at each level the number of the multiplexer that is followed, up to the last that is not 0."""
        found: set[tuple[int, ...]] = set()
        if (node, way) in seen:
            return found
        seen.add((node, way))
        for number, slot in enumerate(self.node_slots[node]):
            if number:
                found.add((*way, number))
            for child in {child for _, child in self.children.get(slot, [])}:
                if self.node_slots[child]:
                    found |= self._ways(child, (*way, number), seen)
        return found

    def _below(self, node: int, way: tuple[int, ...], rows: tuple[int, ...]) -> int:
        """The state of frames that are at `node` with `rows` so far."""
        number = way[0] if way else 0
        if number >= len(self.node_slots[node]):
            return self._final(rows)
        known = (node, way, rows)
        if known in self.known:
            return self.known[known]
        rest, slot = way[1:], self.node_slots[node][number]
        targets = {
            value: self._below(child, rest, () if rest else rows + self.node_rows[child]) for value, child in self.children.get(slot, [])
        }
        default = self._final(rows)
        state = self._new(rows)
        row = int(self.plan.slot_row[slot])
        sparse, bits = -1, int(self.plan.row_length[row])
        values = sorted(targets) if bits > DIRECT_BITS else list(range(1 << bits))
        if bits > DIRECT_BITS:
            sparse = len(self.sparse_first)
            self.sparse_first.append(len(self.keys))
            self.keys += [sparse << SELECTOR_BITS | value for value in values]
        self.states[state][2:] = [row, len(self.follow), default, sparse]
        self.follow += [targets.get(value, default) for value in values] + [default]
        if len(self.follow) > MOST_STATES or len(self.sparse_first) > MOST_SPARSE:
            raise DbcError("a message's multiplexers have over a million combinations")
        self.known[known] = state
        return state

    def _new(self, rows: tuple[int, ...]) -> int:
        variant = self.variants.setdefault(tuple(sorted(rows, key=self.big.__getitem__)), len(self.variants))
        self.states.append([variant, 1, -1, 0, 0, -1])
        return len(self.states) - 1

    def _final(self, rows: tuple[int, ...]) -> int:
        variant = self.variants.setdefault(tuple(sorted(rows, key=self.big.__getitem__)), len(self.variants))
        if variant not in self.finals:
            self.finals[variant] = self._new(rows)
        return self.finals[variant]

    def _whole(self, roots: list[int]) -> NDArray[np.uint16]:
        of_message = np.zeros(len(roots), np.uint16)
        np.maximum.at(of_message, self.plan.node_message, self.plan.node_need)
        whole = np.zeros(len(self.states), np.uint16)
        whole[roots] = of_message
        return whole

    def _arrays(self, roots: list[int]) -> Variants:
        need = self.plan.row_need.tolist()
        segments: list[tuple[int, int, bool, int]] = []  # first, count, big, need
        of_variant: list[tuple[int, bool]] = []
        rows: list[int] = []
        for variant in self.variants:
            parts = [[row for row in variant if not self.big[row]], [row for row in variant if self.big[row]]]
            of_variant.append((len(segments), bool(parts[0]) and bool(parts[1])))
            for big, part in enumerate(parts):
                if part or (not big and not variant):
                    segments.append((len(rows), len(part), bool(big), max((need[row] for row in part), default=0)))
                    rows += part
        states = np.array(self.states, np.int64).T
        first, count, bigs, needs = zip(*segments, strict=True)
        place = np.array([start for start, _ in of_variant], np.intp)
        two = np.array([both for _, both in of_variant], np.bool_)
        return Variants(
            root=np.array(roots, np.intp),
            runs=states[1].astype(np.intp),
            whole=self._whole(roots),
            selector=states[2].astype(np.intp),
            base=states[3].astype(np.intp),
            default=states[4].astype(np.intp),
            sparse=states[5].astype(np.intp),
            segment=place[states[0]],
            two=two[states[0]],
            follow=np.array(self.follow or [NOTHING], np.intp),
            sparse_key=np.array(self.keys, np.uint64),
            sparse_first=np.array(self.sparse_first, np.intp),
            sparse_count=np.diff([*self.sparse_first, len(self.keys)]).astype(np.intp),
            first=np.array(first, np.intp),
            count=np.array(count, np.intp),
            big=np.array(bigs, np.bool_),
            need=np.array(needs, np.uint16),
            rows=np.array(rows, np.intp),
        )
