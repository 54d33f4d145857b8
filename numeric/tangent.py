"""The tangent of a cell: the chain rule forwards, node by node, and the cell that carries values and tangents at once.

With v' the derivative of v along a direction in the space of parameters, inputs and initial states,

    v = f(u, w, ...)     v' = df/du u' + df/dw w' + ...          (pointwise; df/du by SymPy)
    v = W u              v' = W u' + W' u
    v = W.T u            v' = W.T u' + W'.T u

This uses the forward derivative of each node, :func:`derive.adjoint.partial`, and nothing of the backward program.
R. E. Wengert, "A simple automatic derivative evaluation program", Communications of the ACM 7 (1964) 463-464.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType

from sympy import Add, Expr, Mul, Symbol

from derive.adjoint import partial
from derive.cell import Cell
from derive.notation import at, lin, parameter, time_of, transpose
from derive.program import Pointwise, Product, Program, cut

__all__ = ["Terms", "dual", "prefix_of", "program_of", "tangent_terms"]

Terms = Mapping[Symbol, tuple[tuple[Symbol, Expr], ...]]


@lru_cache(maxsize=64)
def program_of(cell: Cell) -> Program:
    """The nodes of one step of a cell."""
    return cut(cell)


def tangent_terms(program: Program) -> Terms:
    """For every pointwise node what its tangent is a sum of: (u, df/du), where df/du is not zero everywhere.

    >>> import derive
    >>> terms = tangent_terms(cut(derive.load("tanh_rnn")))
    >>> terms[at("h")]
    ((a_h[t], dtanh(a_h[t])),)
    """
    out = {}
    for node in program.nodes:
        if isinstance(node, Pointwise):
            factors = ((read, partial(node, read)) for read in program.reads(node))
            out[node.symbol] = tuple((read, factor) for read, factor in factors if factor != 0)
    return out


def prefix_of(cell: Cell) -> str:
    """What tangents are called: this in front of a name; no name of the cell or of its nodes starts like it."""
    taken = {*cell.axes, *cell.parameters, *(time_of(n.symbol)[0] for n in program_of(cell).nodes)}
    prefix = "dot_"
    while any(name.startswith(prefix) for name in taken):
        prefix = f"d{prefix}"
    return prefix


class _Doubled:
    """Writes the equations of nodes and of their tangents; products stand where they are read."""

    def __init__(self, cell: Cell) -> None:
        self.program, self.prefix = program_of(cell), prefix_of(cell)
        self.products = {node.symbol: node for node in self.program.nodes if isinstance(node, Product)}

    def named(self, symbol: Symbol) -> Symbol:
        """The symbol of a tangent."""
        name, shift = time_of(symbol)
        return parameter(self.prefix + name) if shift is None else at(self.prefix + name, shift)

    def value(self, symbol: Symbol) -> Expr:
        """A symbol, or the product that it stands for."""
        node = self.products.get(symbol)
        return symbol if node is None else lin(self.matrix(node, ""), self.value(node.operand))

    def matrix(self, node: Product, prefix: str) -> Expr:
        whole = parameter(prefix + node.matrix)
        return transpose(whole) if node.transposed else whole

    def tangent(self, symbol: Symbol) -> Expr:
        """A symbol's tangent; a product's is two products."""
        node = self.products.get(symbol)
        if node is None:
            return self.named(symbol)
        own, moved = self.matrix(node, ""), self.matrix(node, self.prefix)
        return lin(own, self.tangent(node.operand)) + lin(moved, self.value(node.operand))

    def inlined(self, e: Expr) -> Expr:
        """An expression with the products that it reads."""
        return e.xreplace({s: self.value(s) for s in e.free_symbols if s in self.products})

    def equations(self) -> dict[str, Expr]:
        """Every pointwise node and, after it, its tangent."""
        terms, out = tangent_terms(self.program), {}
        for node in self.program.nodes:
            if isinstance(node, Pointwise):
                name, _ = time_of(node.symbol)
                out[name] = self.inlined(node.expression)
                parts = [Mul(self.inlined(factor), self.tangent(read)) for read, factor in terms[node.symbol]]
                out[self.prefix + name] = Add(*parts)
        return out


@lru_cache(maxsize=64)
def dual(cell: Cell) -> Cell:
    """The cell that computes its own tangents.

    Every state, input, output and parameter has one under its name with :func:`prefix_of` in front.  Its derivatives of
    functions (tanh', ...) are not in the language of a text, so it is for running only.
    """
    work = _Doubled(cell)
    prefix, equations = work.prefix, work.equations()

    def doubled(names: tuple[str, ...]) -> tuple[str, ...]:
        return (*names, *(prefix + name for name in names))

    nodes = {time_of(node.symbol)[0]: node.axis for node in work.program.nodes if isinstance(node, Pointwise)}
    axes = {**cell.axes, **nodes}
    observed = {*doubled(cell.states), *doubled(cell.outputs)}
    return replace(
        cell,
        name=f"tangent of {cell.name}",
        states=doubled(cell.states),
        inputs=doubled(cell.inputs),
        outputs=doubled(cell.outputs),
        intermediates=tuple(name for name in equations if name not in observed),
        parameters=MappingProxyType(
            {**cell.parameters, **{prefix + name: shape for name, shape in cell.parameters.items()}}
        ),
        axes=MappingProxyType({**axes, **{prefix + name: axis for name, axis in axes.items()}}),
        equations=MappingProxyType(equations),
        trees=MappingProxyType({}),
        order=tuple(equations),
        hypotheses=(),
        notes=(),
    )
