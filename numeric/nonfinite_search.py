"""Both passes of a cell, node by node and step by step, until a value or a derivative is not finite.

Of the tape the states alone are kept; on the way back a step's other values are computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sympy import Expr, Symbol

from derive.adjoint import Adjoint, Flow, differentiate_step
from derive.cell import Cell
from derive.notation import at, time_of
from derive.program import Product, Program
from numeric.arguments import Array, Data
from numeric.nodewise import Nodes, Values, apply, evaluator, frozen

__all__ = ["Hit", "Recursion", "Search"]

_FACTOR = Symbol("factor")


@dataclass(frozen=True)
class Hit:
    """A tensor that is not finite at step ``t``, from 0; a sum over sequences has neither ``sequence`` nor ``entry``.

    ``within`` is the equation that a part without a name of its own belongs to.
    """

    tensor: str
    t: int
    sequence: int | None
    entry: int | None
    value: Any
    within: str | None = None


class Search:
    """One problem: first :meth:`forwards` and, where that finds nothing, :meth:`backwards`; steps count from 0 here."""

    def __init__(self, cell: Cell, data: Data, roots: tuple[str, ...]) -> None:
        self.cell, self.data, self.nodes = cell, data, Nodes(cell)
        self.states = [dict(data.initial)]  # before step 0, after step 0, ...
        self.roots: dict[str, list[Array]] = {name: [] for name in roots}
        self.labels = dict(_labels(self.nodes.program))

    def outputs(self) -> dict[str, Array]:
        """The outputs and states that the loss reads, (T, B, size)."""
        return {name: np.stack(steps) for name, steps in self.roots.items()}

    def forwards(self) -> Hit | None:
        """The first of the values."""
        for t in range(self.data.steps):
            values = self.values(t)
            for node in self.nodes.program.nodes:
                tensor, within = self.labels[node.symbol]
                if hit := self._hit(values[node.symbol], t, tensor, t, within):
                    return hit
            self.states.append({n: frozen(self.data, t, values[at(n)], s) for n, s in self.states[t].items()})
            for name, steps in self.roots.items():
                size = self.data.sizes[self.cell.axes[name]]
                steps.append(np.broadcast_to(values[at(name)], (self.data.batch, size)))
        return None

    def backwards(self, local: Mapping[str, Array]) -> Hit | None:
        """The first of the derivatives as the recursion comes to them, from the loss's by its roots, (T, B, size).

        A derivative by an input is named only where there is nothing else to name: not every pass computes it.
        """
        recursion, of_input = Recursion(self.nodes.program, self.data), None
        for t in reversed(range(self.data.steps)):
            here = {name: x[t] for name, x in local.items()}
            for symbol, d in recursion.step(self.values(t), here, self._inside(t)):
                name, shift = time_of(symbol)
                tensor, within = self.labels.get(symbol, (name, None))
                tensor = f"dL/d({tensor})" if "[" in tensor else f"dL/d{tensor}"
                if hit := self._hit(d, t, tensor, t + (shift or 0), within):
                    if name not in self.cell.inputs:
                        return hit
                    of_input = of_input or hit
            for name, total in recursion.sums.items():
                if not (good := np.isfinite(total)).all():
                    return Hit(f"dL/d{name}", t, None, None, total[~good].flat[0])
        return of_input

    def values(self, t: int) -> Values:
        """All nodes at step t; what a sequence that has ended holds there means nothing."""
        values = self.nodes.constants(self.data) | {at(n, -1): s for n, s in self.states[t].items()}
        return self.nodes.step(self.data, values | {at(n): x[t] for n, x in self.data.inputs.items()})

    def _inside(self, t: int) -> Array:
        """(B, 1), True for the sequences that have not ended before step t."""
        return np.ones((self.data.batch, 1), bool) if self.data.mask is None else self.data.mask[t][:, None]

    def _hit(self, x: Any, t: int, tensor: str, said: int, within: str | None) -> Hit | None:
        """The first bad entry of what is (B, size), or (size,) for every sequence; ``said`` is the step to be named."""
        bad = self._inside(t) & ~np.isfinite(x)
        if not bad.any():
            return None
        b, k = (int(i) for i in np.argwhere(bad)[0])
        return Hit(tensor, said, b, k, np.broadcast_to(x, bad.shape)[b, k], within)


def _labels(program: Program) -> Iterator[tuple[Symbol, tuple[str, str | None]]]:
    """What each node is called, and which equation it is a part of: None where it is an equation of its own."""
    parts: list[tuple[Symbol, str]] = []
    for node in program.nodes:
        name = time_of(node.symbol)[0]
        if name in program.cell.equations:
            yield from ((symbol, (text, name)) for symbol, text in parts)
            yield node.symbol, (name, None)
            parts = []
        elif isinstance(node, Product):
            parts.append((node.symbol, f"{node.matrix}{'.T' if node.transposed else ''} @ {node.operand}"))
        else:
            parts.append((node.symbol, name))


class Recursion:
    """The derivatives of one step after the other, last step first; ``sums`` are the parameters' gradients so far."""

    def __init__(self, program: Program, data: Data) -> None:
        self.program, self.data = program, data
        self.backward = differentiate_step(program)
        self.carried = {name: np.zeros_like(s) for name, s in data.initial.items()}
        self.sums = {name: np.zeros_like(p) for name, p in data.params.items()}
        self.factors: dict[Expr, Callable[[Mapping[Symbol, Any]], Values]] = {}

    def step(self, values: Values, local: Mapping[str, Array], inside: Array) -> Iterator[tuple[Symbol, Array]]:
        """d of nodes, inputs and previous states, (B, size) each, as it comes; zero outside of a sequence."""
        d: dict[Symbol, Array] = {}
        for target, flows in self.backward.flows.items():
            terms = [np.where(inside, self.term(flow, values, d), 0) for flow in flows]
            name, shift = time_of(target)
            if shift is None:
                for term in terms:
                    self.sums[name] += term.sum(axis=0) if self.sums[name].ndim else term.sum()
                continue
            total = np.zeros((self.data.batch, self.data.sizes[self.program.axes[target]]), self.data.dtype)
            if target in self.program.node:
                total = total + local.get(name, 0) + self.carried.get(name, 0)
            d[target] = sum(terms, total)
            yield target, d[target]
        self.carried = {n: np.where(inside, d[at(n, -1)], before) for n, before in self.carried.items()}
        for name, pairs in self.backward.matrices.items():
            for pair in pairs:
                term = d[pair.source].T @ np.where(inside, values[pair.operand], 0)
                self.sums[name] += term.T if pair.transposed else term

    def term(self, flow: Flow, values: Values, d: Mapping[Symbol, Array]) -> Array:
        """One of the terms that a derivative is a sum of."""
        e = flow.scale if isinstance(flow, Adjoint) else flow.factor
        factor = self.factors.setdefault(e, evaluator({_FACTOR: e}))(values)[_FACTOR]
        if isinstance(flow, Adjoint):
            return apply(self.data.params[flow.matrix], flow.transposed, d[flow.source]) * factor
        return factor * d[flow.source]
