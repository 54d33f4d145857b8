"""The unrolled network as a graph: which value is computed from which, at every step.

A place is a name and a time: ("h", 2), ("L", 3) for the loss of step 3, ("Loss", 0) for their sum, and ("W_hh", 0) for
a parameter.  The edges are those of the program of one step (:mod:`derive.program`), so that a product and a
pre-activation are places too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from sympy import Expr, Symbol

from derive.adjoint import backward_of
from derive.cell import Cell
from derive.notation import applications, time_of
from derive.program import Pointwise, Product

__all__ = ["Network", "Place", "unrolled"]

Place = tuple[str, int]
LOSS: Place = ("Loss", 0)


@dataclass(frozen=True, eq=False)
class Network:
    """``reads`` maps every place to what it is computed from; ``steps`` is T.

    ``matrix`` names the matrix of a place that is a product; ``functions``, by what a place is computed from, the
    functions around each of its occurrences, which need not be the same: h[t-1] + tanh(h[t-1]).
    """

    cell: Cell
    steps: int
    reads: Mapping[Place, tuple[Place, ...]]
    matrix: Mapping[Place, str]
    functions: Mapping[Place, Mapping[Place, tuple[tuple[str, ...], ...]]]

    @cached_property
    def order(self) -> tuple[Place, ...]:
        """Every place after what it is computed from; raises ValueError if there is a circle."""
        done: dict[Place, bool] = {}
        out: list[Place] = []
        for start in self.reads:
            stack: list[tuple[Place, Iterator[Place]]] = [(start, iter(self.reads[start]))]
            if start in done:
                continue
            done[start] = False
            while stack:
                place, rest = stack[-1]
                following = next(rest, None)
                if following is None:
                    done[place] = True
                    out.append(place)
                    stack.pop()
                elif following not in done:
                    done[following] = False
                    stack.append((following, iter(self.reads.get(following, ()))))
                elif not done[following]:
                    raise ValueError(f"a circle through {following[0]} at {following[1]}")
        return tuple(out)

    def named(self, place: Place) -> tuple[Place, ...]:
        """What a place of a named equation is computed from, through products and pre-activations."""
        out: dict[Place, None] = {}
        waiting = list(self.reads.get(place, ()))
        while waiting:
            at = waiting.pop(0)
            if self.is_named(at):
                out[at] = None
            else:
                waiting += self.reads.get(at, ())
        return tuple(out)

    def is_named(self, place: Place) -> bool:
        """Whether the author gave it a name: a value of the cell, a parameter, a loss."""
        return place[0] in self.cell.axes or place[0] in self.cell.parameters or place[0] in ("L", "Loss")

    def readers(self, place: Place) -> tuple[Place, ...]:
        """The named places that are computed from this one directly."""
        return tuple(at for at in self.order if self.is_named(at) and place in self.named(at))

    def before(self, place: Place) -> frozenset[Place]:
        """Everything that a place depends on, itself left out."""
        seen: set[Place] = set()
        waiting = list(self.reads.get(place, ()))
        while waiting:
            at = waiting.pop()
            if at not in seen:
                seen.add(at)
                waiting += self.reads.get(at, ())
        return frozenset(seen)

    def counts(self, start: Place, end: Place, what: tuple[str, ...]) -> tuple[int, int] | None:
        """The fewest and the most of ``what`` on paths from ``start`` to ``end``; None where there is no path.

        Names of values and losses, matrices and functions are counted; ``start`` is not counted itself.
        """
        found: dict[Place, tuple[int, int]] = {start: (0, 0)}
        for place in self.order:
            before = [
                (found[at][0] + n, found[at][1] + n)
                for at in self.reads[place]
                if at in found
                for n in self.weights(place, at, what)
            ]
            if before and place != start:
                found[place] = min(low for low, _ in before), max(high for _, high in before)
        return found.get(end)

    def weights(self, place: Place, at: Place, what: tuple[str, ...]) -> tuple[int, ...]:
        """How many of some names there are on the ways into a place from another."""
        own = sum((place[0] == name) + (self.matrix.get(place) == name) for name in what)
        around = self.functions.get(place, {}).get(at) or ((),)
        return tuple(own + sum(applied.count(name) for name in what) for applied in around)


@lru_cache(maxsize=64)
def unrolled(cell: Cell, steps: int, loss: str = "every") -> Network:
    """A cell over some steps, under a loss of every step or of the last alone."""
    program = backward_of(cell).program
    reads: dict[Place, tuple[Place, ...]] = {}
    matrix: dict[Place, str] = {}
    functions: dict[Place, dict[Place, tuple[tuple[str, ...], ...]]] = {}
    for t in range(1, steps + 1):
        for node in program.nodes:
            place = _place(node.symbol, t)
            reads[place] = tuple(_place(s, t) for s in program.reads(node))
            if isinstance(node, Product):
                matrix[place] = node.matrix
                reads[place] += ((node.matrix, 0),)
            elif isinstance(node, Pointwise):
                functions[place] = {_place(s, t): found for s, found in _around(node.expression).items()}
        if loss == "every" or t == steps:
            reads[("L", t)] = tuple((name, t) for name in cell.outputs or cell.states)
    reads[LOSS] = tuple(place for place in reads if place[0] == "L")
    for place in [p for found in reads.values() for p in found]:
        reads.setdefault(place, ())
    return Network(cell, steps, reads, matrix, functions)


def _around(expression: Expr) -> dict[Symbol, tuple[tuple[str, ...], ...]]:
    """For each symbol the functions around each of its occurrences."""
    found: dict[Symbol, dict[tuple[str, ...], None]] = {}
    waiting: list[tuple[Expr, tuple[str, ...]]] = [(expression, ())]
    while waiting:
        e, applied = waiting.pop()
        if isinstance(e, Symbol):
            found.setdefault(e, {})[applied] = None
        inner = (*applied, str(e.func)) if e in applications(e)[-1:] else applied
        waiting += [(part, inner) for part in e.args]
    return {s: tuple(ways) for s, ways in found.items()}


def _place(symbol: Symbol, t: int) -> Place:
    name, shift = time_of(symbol)
    return (name, 0) if shift is None else (name, t + shift)
