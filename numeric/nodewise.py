"""The nodes of a cell run as they were derived, one after the other, over arrays with any axes in front of the entries.

The plainest way to a value that is still fast: no node waits for another kernel, none is moved out of the time loop.
What looks at single nodes (sensitivities, rounding noise) runs here; :class:`numeric.Engine` is what runs fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from sympy import Expr, Symbol

from derive.cell import Cell
from derive.notation import at, parameter
from derive.program import Pointwise, Product
from numeric.arguments import Array, Data
from numeric.compile import compile_steps
from numeric.operations import symbols_of
from numeric.tangent import program_of

__all__ = ["Nodes", "Values", "apply", "evaluator"]

Values = dict[Symbol, Any]


def evaluator(expressions: Mapping[Symbol, Expr]) -> Callable[[Mapping[Symbol, Any]], Values]:
    """A function from the values of symbols to those of entrywise expressions, under the names given to these."""
    if not expressions:
        return lambda values: {}
    reads = tuple(dict.fromkeys(s for e in expressions.values() for s in symbols_of(e)))
    compiled = compile_steps(reads, tuple(expressions.items()), tuple(expressions))

    def run(values: Mapping[Symbol, Any]) -> Values:
        return dict(zip(expressions, compiled(*(values[s] for s in reads)), strict=True))

    return run


def apply(matrix: Array, transposed: bool, rows: Array) -> Array:
    """W r, or W.T r, for every row r."""
    return rows @ (matrix if transposed else matrix.T)


class Nodes:
    """The nodes of one step, compiled one by one; ``expressions`` may replace those of pointwise nodes."""

    def __init__(self, cell: Cell, expressions: Mapping[Symbol, Expr] | None = None) -> None:
        self.cell, self.program = cell, program_of(cell)
        self.pointwise = {
            node.symbol: evaluator({node.symbol: (expressions or {}).get(node.symbol, node.expression)})
            for node in self.program.nodes
            if isinstance(node, Pointwise)
        }

    def constants(self, data: Data) -> Values:
        """Vector and scalar parameters."""
        return {parameter(n): p if p.ndim else p[()] for n, p in data.params.items() if p.ndim < 2}

    def step(
        self, data: Data, values: Values, then: Callable[[Symbol, Any], Any] = lambda symbol, value: value
    ) -> Values:
        """Add to the previous states, inputs and constants of a step its nodes; each passes through ``then``."""
        for node in self.program.nodes:
            if isinstance(node, Product):
                found = apply(data.params[node.matrix], node.transposed, values[node.operand])
            else:
                found = self.pointwise[node.symbol](values)[node.symbol]
            size, found = data.sizes[node.axis], np.asarray(found, data.dtype)
            if found.shape[-1:] != (size,):  # nothing but numbers and scalars in it
                found = np.broadcast_to(found, (*found.shape[:-1], size))
            values[node.symbol] = then(node.symbol, found)
        return values

    def along(self, data: Data, keep: Iterable[Symbol] | None = None) -> list[Values]:
        """Every step's values, (B, size) or, where only parameters are in them, (size,); all, or those in ``keep``."""
        previous, tape = dict(data.initial), []
        wanted = None if keep is None else frozenset(keep)
        for t in range(data.steps):
            values = self.constants(data) | {at(n, -1): s for n, s in previous.items()}
            values |= {at(n): x[t] for n, x in data.inputs.items()}
            values = self.step(data, values)
            previous = {n: frozen(data, t, values[at(n)], s) for n, s in previous.items()}
            tape.append({s: v for s, v in values.items() if wanted is None or s in wanted})
        return tape


def frozen(data: Data, t: int, state: Array, before: Array) -> Array:
    """A state after step t, (..., B, size): a sequence that has ended keeps its last one."""
    state = np.broadcast_to(state, before.shape)
    return state if data.mask is None else np.where(data.mask[t][:, None], state, before)
