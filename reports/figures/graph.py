"""What depends on what within a step, with everything between states, inputs and outputs left out.

A state at t is a place of its own: in an LSTM h[t] is reached from c[t], and c[t] from c[t-1] and h[t-1].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sympy import Symbol

from derive.adjoint import partial
from derive.notation import at, time_of
from derive.program import Pointwise, Product, Program

__all__ = ["Edge", "Unrolled", "unrolled"]

Place = tuple[str, int]  # name and step


@dataclass(frozen=True)
class Edge:
    """``source`` at t + ``shift`` (0 or -1) is read by ``target`` at t, through these matrices."""

    source: str
    shift: int
    target: str
    matrices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unrolled:
    """The places of a step by role, what reads what, and the outputs or states that the loss reads.

    ``states`` are in the order in which they can be computed: the last one depends on the others of its step.
    """

    states: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    edges: tuple[Edge, ...]
    seen: tuple[str, ...]

    def recurrent(self) -> tuple[Edge, ...]:
        """Edges from one step to the next, and between the states of a step: the Jacobian is made of them."""
        return tuple(e for e in self.edges if e.source in self.states and e.target in self.states)

    def reaching(self, state: str, step: int, steps: int) -> set[tuple[Place, Place]]:
        """Every edge, as two places, on a way from a state at one step to the loss of that or a later step.

        The losses are places named "", one a step.
        """
        later = {(state, step)}
        forward = [edge for t in range(1, steps + 1) for edge in self.at_step(t)]
        for source, target in forward:
            if source in later:
                later.add(target)
        useful = {("", t) for t in range(1, steps + 1)} & later
        for source, target in reversed(forward):
            if target in useful and source in later:
                useful.add(source)
        return {(s, t) for s, t in forward if s in useful and t in useful}

    def at_step(self, t: int) -> Iterator[tuple[Place, Place]]:
        """The edges into a step, in an order in which they can be computed."""
        order = (*self.states, *self.outputs)
        for target in order:
            yield from (((e.source, t + e.shift), (target, t)) for e in self.edges if e.target == target)
        yield from (((name, t), ("", t)) for name in self.seen)


def unrolled(program: Program) -> Unrolled:
    """The graph of a cell.

    >>> import derive
    >>> found = unrolled(derive.differentiate(derive.load("lstm")).program)
    >>> [f"{e.source}{e.shift}{e.target}" for e in found.recurrent()]
    ['h-1c', 'c-1c', 'h-1h', 'c0h']
    """
    cell = program.cell
    states = tuple(n for n in cell.order if n in cell.states)
    edges = []
    ranks = (*cell.states, *cell.inputs)
    for target in (*states, *cell.outputs):
        found = _sources(program, at(target))
        for name, shift in sorted(found, key=lambda place: (place[1], ranks.index(place[0]))):
            matrices = tuple(m for m in cell.parameters if m in found[name, shift])
            edges.append(Edge(name, shift, target, matrices))
    return Unrolled(states, cell.inputs, cell.outputs, tuple(edges), cell.outputs or cell.states[:1])


def _sources(program: Program, target: Symbol) -> dict[tuple[str, int], set[str]]:
    """The states and inputs that a node is computed from, not through another state of its step, by their matrices."""
    cell, node = program.cell, program.node[target]
    own = {node.matrix} if isinstance(node, Product) else set()
    out: dict[tuple[str, int], set[str]] = {}
    for read in _reads(program, target):
        name, shift = time_of(read)
        if shift is None:
            continue
        if shift == -1 or name in cell.states or name in cell.inputs:
            out.setdefault((name, shift), set()).update(own)
            continue
        for place, matrices in _sources(program, read).items():
            out.setdefault(place, set()).update(own | matrices)
    return out


def _reads(program: Program, symbol: Symbol) -> list[Symbol]:
    """What a node depends on: what its derivative by is not zero."""
    node = program.node[symbol]
    reads = program.reads(node)
    return [r for r in reads if partial(node, r) != 0] if isinstance(node, Pointwise) else list(reads)
