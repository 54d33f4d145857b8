"""The backward recursion of one step, by the chain rule, for any cell.

With d_v the derivative of the loss by node v, in reverse order of the program:

    v read by u = f(..., v, ...)     d_v += d_u  df/dv                       (pointwise; df/dv by SymPy)
    v read by u = W v                d_v += W.T d_u          dW += d_u v.T
    v read by u = W.T v              d_v += W d_u            dW += v d_u.T

A state's d at [t-1] is carried to the step before; a parameter's is summed over time, batch and, for a scalar, entries.
This is the transpose of the chain rule; see e.g. A. Griewank, A. Walther, "Evaluating Derivatives", 2nd ed., SIAM 2008,
section 3.2, for the general form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from sympy import Expr, S, Symbol

from derive.cell import Cell
from derive.notation import at, parameter
from derive.program import Pointwise, Product, Program, cut

__all__ = ["Adjoint", "Backward", "Flow", "Outer", "Through", "backward_of", "differentiate_step"]


@dataclass(frozen=True)
class Through:
    """``factor`` * d(``source``), entry by entry."""

    source: Symbol
    factor: Expr


@dataclass(frozen=True)
class Adjoint:
    """M d(``source``), M the matrix or, where ``transposed``, its transpose: already the one that is applied.

    ``scale`` multiplies the result entry by entry; it is 1 in every right derivation.
    """

    source: Symbol
    matrix: str
    transposed: bool
    scale: Expr = S.One


Flow = Through | Adjoint


@dataclass(frozen=True)
class Outer:
    """d(``source``) ``operand``.T, or ``operand`` d(``source``).T where ``transposed``: a term of a matrix gradient."""

    source: Symbol
    operand: Symbol
    transposed: bool


@dataclass(frozen=True, eq=False)
class Backward:
    """The backward program: for every symbol the flows whose sum is its derivative, one step's worth.

    ``flows`` is ordered so that each source comes before what it flows into: nodes, then inputs, previous states,
    vector
    and scalar parameters.  ``matrices`` holds the outer products of each matrix.  A state's own d starts from what is
    carried in from the next step, an output's and a state's from the local loss.
    """

    program: Program
    flows: Mapping[Symbol, tuple[Flow, ...]]
    matrices: Mapping[str, tuple[Outer, ...]]

    def replaced(
        self,
        *,
        flows: Mapping[Symbol, tuple[Flow, ...]] | None = None,
        matrices: Mapping[str, tuple[Outer, ...]] | None = None,
    ) -> Backward:
        """The same program with some sums replaced; this is how a mistake is planted."""
        return Backward(
            self.program,
            MappingProxyType({**self.flows, **(flows or {})}),
            MappingProxyType({**self.matrices, **(matrices or {})}),
        )

    def __repr__(self) -> str:
        return f"<Backward of {self.program.cell.name}: {len(self.flows)} sums, {len(self.matrices)} matrices>"


def differentiate_step(program: Program) -> Backward:
    """The backward program of one step of a cell."""
    cell = program.cell
    flows: dict[Symbol, list[Flow]] = {node.symbol: [] for node in reversed(program.nodes)}
    flows |= {at(name): [] for name in cell.inputs}
    flows |= {at(name, -1): [] for name in cell.states}
    flows |= {parameter(name): [] for name, shape in cell.parameters.items() if len(shape) < 2}
    matrices: dict[str, list[Outer]] = {name: [] for name, shape in cell.parameters.items() if len(shape) == 2}
    for node in reversed(program.nodes):
        if isinstance(node, Product):
            flows[node.operand].append(Adjoint(node.symbol, node.matrix, not node.transposed))
            matrices[node.matrix].append(Outer(node.symbol, node.operand, node.transposed))
            continue
        for read in program.reads(node):
            factor = partial(node, read)
            if factor != 0:
                flows[read].append(Through(node.symbol, factor))
    return Backward(
        program,
        MappingProxyType({s: tuple(f) for s, f in flows.items()}),
        MappingProxyType({m: tuple(f) for m, f in matrices.items()}),
    )


def backward_of(cell: Cell) -> Backward:
    """The backward program of a cell, derived once however many engines and files ask for it."""
    return _backward(cell, cell.title)


@lru_cache(maxsize=64)
def _backward(cell: Cell, _title: str) -> Backward:
    # cells are equal whatever their titles are; a program hands out its own cell, title and all
    return differentiate_step(cut(cell))


@lru_cache(maxsize=4096)
def partial(node: Pointwise, read: Symbol) -> Expr:
    """d(node)/d(read), a scalar derivative at a generic entry."""
    return node.expression.diff(read)
