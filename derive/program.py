"""A cell cut into nodes: the straight-line program of one time step.

    Pointwise   v = expression in the entries of other nodes, inputs, previous states and parameters
    Product     v = W r  or  v = W.T r

The cut is made at every named equation, at the argument of a function that contains a product (the pre-activation of a
gate, ``a_i`` for ``i[t] = sigmoid(...)``), at every product and at every product's operand.  Nothing is inlined, so
that expressions stay small and each node's derivative is what papers print.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from sympy import Expr, Symbol

from derive.cell import Cell
from derive.notation import applications, at, lin, matrix_of, parameter, time_of

__all__ = ["Node", "Pointwise", "Product", "Program", "cut"]


@dataclass(frozen=True)
class Pointwise:
    """``symbol`` = ``expression``, entry by entry; ``axis`` is the letter of its size."""

    symbol: Symbol
    expression: Expr
    axis: str


@dataclass(frozen=True)
class Product:
    """``symbol`` = W ``operand``, or W.T ``operand`` where ``transposed``."""

    symbol: Symbol
    matrix: str
    transposed: bool
    operand: Symbol
    axis: str


Node = Pointwise | Product


@dataclass(frozen=True, eq=False)
class Program:
    """The nodes of one step in an order in which they can be computed."""

    cell: Cell
    nodes: tuple[Node, ...]

    @cached_property
    def axes(self) -> Mapping[Symbol, str]:
        """Size letter of every vector symbol that a step reads or computes."""
        cell = self.cell
        known = {node.symbol: node.axis for node in self.nodes}
        known |= {at(name): cell.axes[name] for name in cell.inputs}
        known |= {at(name, -1): cell.axes[name] for name in cell.states}
        return known | {parameter(n): shape[0] for n, shape in cell.parameters.items() if len(shape) == 1}

    @cached_property
    def node(self) -> Mapping[Symbol, Node]:
        """Each node by its symbol."""
        return {node.symbol: node for node in self.nodes}

    def reads(self, node: Node) -> tuple[Symbol, ...]:
        """Symbols that a node is computed from, matrices left out, in a fixed order."""
        if isinstance(node, Product):
            return (node.operand,)
        return _symbols_of(node.expression)


@lru_cache(maxsize=4096)
def _symbols_of(expression: Expr) -> tuple[Symbol, ...]:
    return tuple(sorted(expression.free_symbols, key=str))


class _Cutter:
    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.nodes: list[Node] = []
        self.known: dict[Expr, Symbol] = {}  # what has a node already
        self.taken = {*cell.axes, *cell.parameters}
        self.axis = {at(name): cell.axes[name] for name in cell.inputs}
        self.axis |= {at(name, -1): cell.axes[name] for name in cell.states}
        self.axis |= {parameter(name): shape[0] for name, shape in cell.parameters.items() if len(shape) == 1}

    def fresh(self, wanted: str) -> Symbol:
        name = wanted
        count = 2
        while name in self.taken:
            name, count = f"{wanted}{count}", count + 1
        self.taken.add(name)
        return at(name)

    def add(self, symbol: Symbol, expression: Expr, axis: str) -> Symbol:
        self.nodes.append(Pointwise(symbol, expression, axis))
        self.axis[symbol] = axis
        self.known.setdefault(expression, symbol)
        return symbol

    def axis_of(self, expression: Expr, name: str) -> str:
        """Size of what an expression computes: that of any vector in it, or of the equation it stands in."""
        found = (self.axis[s] for s in sorted(expression.free_symbols, key=str) if s in self.axis)
        return next(found, self.cell.axes[name])

    def equation(self, name: str) -> None:
        """Cut one equation; the last node is the named one."""
        expression = self.cell.equations[name]
        for call in applications(expression):
            argument = call.args[0]
            if argument.has(lin):
                resolved = self.resolve(argument, name)
                if resolved not in self.known:
                    self.add(self.fresh(f"a_{name}"), resolved, self.axis_of(resolved, name))
        whole = self.resolve(expression, name)
        self.add(at(name), whole, self.cell.axes[name])
        # a later use of the same value reads the named node only if that is what the author wrote
        self.known = {e: s for e, s in self.known.items() if s != at(name)}

    def resolve(self, e: Expr, owner: str) -> Expr:
        """``e`` with every cut part replaced by its node's symbol; products are cut on the way."""
        if not e.args:
            return e
        if isinstance(e, lin):
            return self.product(e, owner)
        out = e.func(*(self.resolve(a, owner) for a in e.args))
        return self.known.get(out, out) if not out.is_number else out

    def product(self, e: Expr, owner: str) -> Symbol:
        matrix, transposed = matrix_of(e)
        rows, columns = self.cell.parameters[matrix][:: -1 if transposed else 1]
        operand = self.resolve(e.args[1], owner)
        if not isinstance(operand, Symbol):
            operand = self.known.get(operand) or self.add(self.fresh(f"q_{owner}"), operand, columns)
        whole = lin(e.args[0], operand)
        if whole not in self.known:
            name, shift = time_of(operand)
            back = "_prev" if shift else ""
            symbol = self.fresh(f"{matrix}{'T' if transposed else ''}_{name}{back}")
            self.nodes.append(Product(symbol, matrix, transposed, operand, rows))
            self.axis[symbol] = rows
            self.known[whole] = symbol
        return self.known[whole]


def cut(cell: Cell) -> Program:
    """The program of one step of ``cell``.

    >>> import derive
    >>> [str(node.symbol) for node in cut(derive.load("tanh_rnn")).nodes]
    ['W_hh_h_prev[t]', 'W_xh_x[t]', 'a_h[t]', 'h[t]', 'W_hy_h[t]', 'y[t]']
    """
    cutter = _Cutter(cell)
    for name in cell.order:
        cutter.equation(name)
    return Program(cell, tuple(cutter.nodes))
