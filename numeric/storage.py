"""In which order a pass is done, and where each value lives.

Calls are chosen so that neighbours are done together.  A family's buffer holds all steps of a segment where something
outside of its own loop reads it, else one step.  A result takes over the buffer of an argument of the same shape that
nothing reads any more: pre-activations become factors, and factors derivatives, in place.

A step is kept in rows, (sequences, features), or in columns, (features, sequences), as :mod:`numeric.columns` says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from numeric.graph import AFTER, CONST, D_LOOP, LOOP, PHASES, SUMS, Graph, Op
from numeric.lanes import families_of, runs_of

__all__ = ["FOREVER", "Buffer", "Call", "Place", "Storage", "from_input"]

_LOOPS = (LOOP, D_LOOP)
FOREVER = 10**9


@dataclass(frozen=True)
class Call:
    """One call: equal operations whose results are neighbours."""

    ops: tuple[Op, ...]

    @property
    def kind(self) -> str:
        """Of all of them."""
        return self.ops[0].kind


@dataclass(eq=False)
class Buffer:
    """Room for a family: ``axes`` are the sizes of its members, in order.

    ``kind`` is "slab" (every step of a segment), "step" (one step), "const" (no step), "state" (every step and the one
    before), or "carry" (one step, twice: old and new).  ``tape`` says that the backward pass reads what the forward
    pass left there, ``columns`` that each step is kept as (features, sequences).
    """

    kind: str
    axes: tuple[str | None, ...]
    name: str = ""
    tape: bool = False
    columns: bool = False
    index: int = -1


@dataclass(frozen=True)
class Place:
    """A member of a buffer."""

    buffer: Buffer
    at: int


def from_input(call: Call) -> bool:
    """Whether a call reads an input, which is there for all rows only."""
    return any(a.kind == "input" for op in call.ops for a in op.args)


class Storage:
    """``calls`` by phase; ``place`` of every operation that has a value; ``buffers``."""

    def __init__(self, graph: Graph, *, columns: bool = False) -> None:
        self.graph = graph
        self.families = families_of(graph)
        self.spot = {op: (n, k) for n, family in enumerate(self.families) for k, op in enumerate(family)}
        self.calls: dict[int, list[Call]] = {phase: self._ordered(phase) for phase in PHASES if phase != SUMS}
        self.buffers: list[Buffer] = []
        self.place: dict[Op, Place] = {}
        self._times()
        self._leaves()
        self._assign()
        if columns:
            self._stand_in_columns()

    def lives(self) -> dict[int, tuple[int, int]]:
        """From when to when the numbers in a slab that is no tape are needed, in turns; loops are one turn."""
        turns = self._turns()
        lives: dict[int, tuple[int, int]] = {}
        for op, place in self.place.items():
            buffer = place.buffer
            if buffer.kind != "slab" or buffer.tape:
                continue
            made = turns[op]
            end = max([made, *(turns[u] for u in op.users if u in self.made)])
            end = FOREVER if self.last[op] == FOREVER else end
            first, last = lives.get(buffer.index, (made, end))
            lives[buffer.index] = min(first, made), max(last, end)
        return lives

    def _turns(self) -> dict[Op, int]:
        """When each value is made: calls over stretches of rows take turns, so that they are at the same time."""
        turns: dict[Op, int] = {}
        now = 0
        for phase in (phase for phase in PHASES if phase != SUMS):
            now += 1
            # what the loss gives is there before the first derivative
            turns |= {op: now for op in self.graph.live if op.is_leaf and op.phase == phase}
            for call in self.calls[phase]:
                whole = phase not in _LOOPS and (call.kind in ("product", "gather") or from_input(call))
                now += whole
                turns |= dict.fromkeys(call.ops, now)
                now += whole
        return turns

    def tape_bytes(self, sizes: Mapping[str, int], itemsize: int, rows: int, ends: int) -> int:
        """What a tape of ``rows`` rows takes, with ``ends`` more for the states before segments."""
        total = 0
        for buffer in self.buffers:
            width = sum(1 if axis is None else sizes[axis] for axis in buffer.axes)
            total += width * (rows + ends if buffer.kind == "state" else rows if buffer.tape else 0)
        return itemsize * total

    # ----------------------------------------------------------------------------------------------------------- order

    def _ordered(self, phase: int) -> list[Call]:
        pending = [op for op in self.graph.live if op.phase == phase and not op.is_leaf]
        waiting = set(pending)
        calls: list[Call] = []
        while pending:
            ready = [op for op in pending if not waiting.intersection(op.args)]
            groups: dict[object, list[Op]] = defaultdict(list)
            for op in ready:
                groups[self._key(op)].append(op)
            complete = [g for key, g in groups.items() if len(g) == sum(self._key(op) == key for op in pending)]
            group = min(complete or groups.values(), key=lambda g: min(op.index for op in g))
            group.sort(key=lambda op: self.spot[op])
            runs = [group] if group[0].kind == "product" else runs_of(group, self.spot)
            calls += [Call(tuple(run)) for run in runs]
            waiting.difference_update(group)
            pending = [op for op in pending if op in waiting]
        return calls

    def _key(self, op: Op) -> object:
        if op.kind == "product":
            return "product", op.args[0], self.spot[op][0]
        return op.kind, op.data, self.spot[op][0]

    def _times(self) -> None:
        """When each value is made, and when it is read for the last time."""
        order = [call for phase in PHASES if phase != SUMS for call in self.calls[phase]]
        self.made = {op: k for k, call in enumerate(order) for op in call.ops}
        self.last = {op: max((self.made[u] for u in op.users if u in self.made), default=-1) for op in self.graph.live}
        self.last |= dict.fromkeys(self.graph.wanted, FOREVER)

    # ---------------------------------------------------------------------------------------------------------- places

    def _new(self, kind: str, members: Sequence[Op], name: str = "") -> Buffer:
        buffer = Buffer(kind, tuple(op.axis for op in members), name, index=len(self.buffers))
        self.buffers.append(buffer)
        for k, op in enumerate(members):
            self.place[op] = Place(buffer, k)
        return buffer

    def _leaves(self) -> None:
        graph = self.graph
        self.states = {name: self._new("state", [op], name) for name, op in graph.states.items()}
        self.carries = {}
        for name in graph.cell.states if graph.plans.backward else ():
            op = graph.carried.get(name)
            axis = graph.cell.axes[name]
            buffer = self.carries[name] = Buffer("carry", (axis,), name, index=len(self.buffers))
            self.buffers.append(buffer)
            if op is not None:
                self.place[op] = Place(buffer, 0)
        for op in graph.live:
            if op.kind == "local":
                self._new("slab", [op], str(op.data))
            elif op.kind in ("scalar", "number"):
                self._new("const", [op])

    def _assign(self) -> None:
        """Families in the order in which they are made, so that a buffer can be taken over."""
        families = [f for f in self.families if not any(op in self.place for op in f)]
        families.sort(key=lambda f: min(self.made.get(op, -1) for op in f))
        for family in families:
            if family[0].phase == CONST:
                self._new("const", family)
            elif (old := self._free_for(family)) is not None:
                for k, op in enumerate(family):
                    self.place[op] = Place(old.buffer, old.at + k)
            else:
                self._new(self._kind(family), family)
        for op, place in self.place.items():
            if place.buffer.kind == "slab" and not op.is_leaf and op.phase <= LOOP:
                users = (u for u in op.users if u in self.made)
                if self.last[op] == FOREVER or any(u.phase >= AFTER for u in users):
                    place.buffer.tape = True

    def buffer_of(self, op: Op) -> Buffer | None:
        """Where a value stands; None for an input."""
        if op.kind == "input":
            return None
        if op.kind in ("previous", "carried"):
            return (self.states if op.kind == "previous" else self.carries)[str(op.data)]
        return self.place[op].buffer

    def _stand_in_columns(self) -> None:
        """What the loops use, and what meets it entry by entry before and after them."""
        for buffer in (*self.states.values(), *self.carries.values()):
            buffer.columns = True
        meeting = [self._touched(call) for phase in _LOOPS for call in self.calls[phase]]
        for buffer in (b for touched in meeting for b in touched):
            buffer.columns = True
        meeting = [
            self._touched(call)
            for phase in PHASES
            if phase not in (CONST, SUMS)
            for call in self.calls[phase]
            if call.kind not in ("product", "gather")
        ]
        found = meeting[0] if meeting else []
        while found:
            found = [b for touched in meeting if any(x.columns for x in touched) for b in touched if not b.columns]
            for buffer in found:
                buffer.columns = True

    def _touched(self, call: Call) -> list[Buffer]:
        """The buffers of rows that a call reads or writes."""
        found = (self.buffer_of(op) for o in call.ops for op in (o, *o.args))
        return [b for b in found if b is not None and b.kind != "const"]

    def _kind(self, family: Sequence[Op]) -> str:
        if family[0].phase not in _LOOPS:
            return "slab"
        inside = all(u.phase == op.phase for op in family for u in op.users if u in self.made)
        return "step" if inside and not any(self.last[op] == FOREVER for op in family) else "slab"

    def _free_for(self, family: Sequence[Op]) -> Place | None:
        """Where arguments stand, side by side, that these operations read last, member by member."""
        for position in range(max(len(op.args) for op in family)):
            arguments = [op.args[position] for op in family if len(op.args) > position]
            places = [self.place[a] for a in arguments if a in self.place and not a.is_leaf]
            if len(places) < len(family):
                continue
            first = places[0]
            if any(p != Place(first.buffer, first.at + k) for k, p in enumerate(places)):
                continue
            if first.buffer.kind not in ("slab", "step"):
                continue
            if first.buffer.kind == "step" and self._kind(family) == "slab":
                continue
            if all(self._dies(a, op) for a, op in zip(arguments, family, strict=True)):
                return first
        return None

    def _dies(self, argument: Op, op: Op) -> bool:
        """Whether nothing reads what stands in the place of ``argument`` after ``op`` has read it."""
        if op.kind in ("product", "gather") or argument.axis != op.axis:
            return False
        place = self.place[argument]
        return all(self.last[o] <= self.made[op] for o, p in self.place.items() if p == place)
