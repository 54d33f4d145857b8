"""What is computed in one step of a cell and back, with the rounding of each local result beside it.

Local results are the nodes, the factors df/dv by which derivatives are multiplied, and the numbers that are not exact.
What depends on parameters only is the same at every step and in every sequence, and so is its rounding.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sympy import Expr, Symbol

from derive.adjoint import Flow, Through, differentiate_step
from derive.cell import Cell
from derive.notation import at, parameter
from derive.program import Pointwise
from numeric.compile import compile_steps
from numeric.nodewise import Nodes, evaluator
from numeric.rounding import is_exact, named_numbers, rounding
from numeric.tangent import program_of

__all__ = ["NoiseProgram", "noise_program"]


class NoiseProgram:
    """The derived program of a cell in local results.

    ``nodes`` run forward, ``factors`` and ``factor_of`` give every flow's factor by name (None for a product or a
    factor that is exact), ``roundings`` the size of the rounding of nodes and factors where it is not zero, ``numbers``
    the inexact numbers, ``fixed`` the symbols that are the same at every step.
    """

    def __init__(self, cell: Cell, from_values: bool) -> None:
        self.cell, self.program = cell, program_of(cell)
        self.backward = differentiate_step(self.program)
        names: dict[Expr, Symbol] = {}
        expressions = {
            node.symbol: named_numbers(node.expression, names)
            for node in self.program.nodes
            if isinstance(node, Pointwise)
        }
        self.nodes = Nodes(cell, expressions)
        self.factor_of: dict[Flow, Symbol | float] = {}
        factors: dict[Expr, Symbol] = {}
        for flow in (f for flows in self.backward.flows.values() for f in flows):
            e = flow.factor if isinstance(flow, Through) else flow.scale
            if is_exact(e):
                self.factor_of[flow] = float(e)
            else:
                e = named_numbers(e, names)
                self.factor_of[flow] = factors.setdefault(e, Symbol(f"factor {len(factors)}", real=True))
        self.numbers = {symbol: _nearest(e) for e, symbol in names.items()}
        own = expressions | {symbol: e for e, symbol in factors.items()}
        self.factors = evaluator({symbol: e for e, symbol in factors.items()})
        sizes = {s: rounding(e, from_values=from_values) for s, e in own.items()}
        self.rounded = frozenset(s for s, r in sizes.items() if r != 0)
        self.roundings = evaluator({s: sizes[s] for s in own if s in self.rounded})
        self.fixed = self._fixed(own)
        operands = {pair.operand for pairs in self.backward.matrices.values() for pair in pairs}
        self.stored = operands | {s for e in factors for s in e.free_symbols} | set(factors.values())

    def _fixed(self, own: dict[Symbol, Expr]) -> frozenset[Symbol]:
        """Parameters, numbers, and what is computed from these alone."""
        out = {parameter(n) for n, shape in self.cell.parameters.items() if len(shape) < 2} | set(self.numbers)
        for node in self.program.nodes:
            reads = own[node.symbol].free_symbols if isinstance(node, Pointwise) else {node.operand}
            if reads <= out:
                out.add(node.symbol)
        return frozenset(out | {s for s, e in own.items() if e.free_symbols <= out})

    def first_values(self) -> set[Symbol]:
        """What a step is given: previous states and inputs."""
        return {at(n, -1) for n in self.cell.states} | {at(n) for n in self.cell.inputs}


def _nearest(e: Expr) -> Any:
    result = Symbol("result", real=True)
    return compile_steps((), ((result, e),), (result,))()[0]


@lru_cache(maxsize=64)
def noise_program(cell: Cell, from_values: bool) -> NoiseProgram:
    """The program of a cell; made once."""
    return NoiseProgram(cell, from_values)
