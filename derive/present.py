"""The backward program as a person writes it: equations in named quantities, products and operands put back in
place."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from sympy import Add, Expr, Integer, Symbol

from derive.adjoint import Adjoint, Backward
from derive.notation import FUNCTIONS, applications, at, entry_sum, lin, outer, parameter, time_of, time_sum, transpose
from derive.program import Pointwise, Product

__all__ = ["Presented", "shifted"]


def shifted(e: Expr, by: int) -> Expr:
    """The same expression ``by`` steps later."""
    moved = {}
    for symbol in e.free_symbols:
        name, shift = time_of(symbol)
        if shift is not None:
            moved[symbol] = at(name, shift + by)
    return e.xreplace(moved)


class Presented:
    """Equations for every named derivative of a backward program.

    ``d`` + a name is the derivative of the loss by it; products W r and their unnamed operands are written out.
    """

    def __init__(self, backward: Backward) -> None:
        self.backward, self.program = backward, backward.program
        self.cell = backward.program.cell

    @cached_property
    def inline(self) -> Mapping[Symbol, Expr]:
        """What each unnamed node stands for."""
        out: dict[Symbol, Expr] = {}
        for node in self.program.nodes:
            if isinstance(node, Product):
                w = parameter(node.matrix)
                whole = lin(transpose(w) if node.transposed else w, out.get(node.operand, node.operand))
                out[node.symbol] = whole
            elif self.is_unnamed(node.symbol):
                out[node.symbol] = node.expression.xreplace(out)
        return out

    def is_unnamed(self, symbol: Symbol) -> bool:
        """Whether a node is a product, or an operand that only exists to be multiplied."""
        name = time_of(symbol)[0]
        node = self.program.node.get(symbol)
        return isinstance(node, Product) or (
            node is not None and name.startswith("q_") and name not in self.cell.equations
        )

    @cached_property
    def preactivations(self) -> dict[str, Expr]:
        """The arguments of functions that were given a name, such as a_i."""
        found = {}
        for node in self.program.nodes:
            name = time_of(node.symbol)[0]
            if isinstance(node, Pointwise) and name not in self.cell.equations and not self.is_unnamed(node.symbol):
                found[name] = node.expression.xreplace(self.inline)
        return found

    @cached_property
    def value_of(self) -> Mapping[Expr, Symbol]:
        """Named nodes that are f of something: tanh(a_h) is h."""
        return {
            node.expression: node.symbol
            for node in self.program.nodes
            if isinstance(node, Pointwise) and type(node.expression).__name__ in FUNCTIONS
        }

    def readable(self, e: Expr) -> Expr:
        """A factor with dtanh(a) as 1 - h^2 where h = tanh(a), and unnamed nodes written out."""
        for prime in applications(e):
            name = type(prime).__name__[1:]
            if type(prime).__name__ in ("dtanh", "dsigmoid"):
                value = FUNCTIONS[name](prime.args[0])
                e = e.xreplace({prime: FUNCTIONS[name].closed(prime.args[0], self.value_of.get(value, value))})
            else:
                e = e.xreplace({prime: self.value_of.get(prime, prime)})
        return e.xreplace(dict(self.inline))

    @cached_property
    def prefix(self) -> str:
        """What a derivative's name begins with: d, or dL_d where the cell has a name such as dh beside h."""
        names = {*self.cell.axes, *self.cell.parameters, *self.preactivations}
        return "dL_d" if any(f"d{name}" in names for name in names) else "d"

    def d_name(self, name: str) -> str:
        """The name of the derivative by a name."""
        return self.prefix + name

    def d(self, symbol: Symbol) -> Expr:
        """The derivative by a node: its name, or, for an unnamed node, what it equals."""
        if self.is_unnamed(symbol):
            return self.sum_of(symbol)
        name, shift = time_of(symbol)
        return at(self.d_name(name), shift or 0)

    def terms(self, symbol: Symbol) -> list[Expr]:
        """The flows into a symbol."""
        out = []
        for flow in self.backward.flows[symbol]:
            d = self.d(flow.source)
            if d == 0:  # a wrong program may have no way to a node
                continue
            if isinstance(flow, Adjoint):
                w = parameter(flow.matrix)
                out.append(self.readable(flow.scale) * lin(transpose(w) if flow.transposed else w, d))
            else:
                out.append(self.readable(flow.factor) * d)
        return out

    def sum_of(self, symbol: Symbol) -> Expr:
        """The sum of the flows into a symbol."""
        return Add(*self.terms(symbol))

    def equation(self, name: str) -> Expr:
        """d of a node at t; a state's includes what comes back from t + 1.  The local loss is not part of it."""
        here = self.terms(at(name)) if at(name) in self.backward.flows else []
        later = [shifted(e, 1) for e in self.terms(at(name, -1))] if name in self.cell.states else []
        return Add(*here, *later)

    def gradient(self, name: str) -> Expr:
        """The gradient of a parameter, a sum over time."""
        shape = self.cell.parameters[name]
        if len(shape) == 2:
            terms = []
            for pair in self.backward.matrices[name]:
                d, operand = self.d(pair.source), self.readable(pair.operand)
                if d != 0:
                    terms.append(outer(operand, d) if pair.transposed else outer(d, operand))
            return time_sum(Add(*terms)) if terms else Integer(0)
        whole = self.sum_of(parameter(name))
        if whole == 0:
            return Integer(0)
        return time_sum(whole if shape else entry_sum(whole))

    @cached_property
    def named(self) -> tuple[str, ...]:
        """Named nodes in the order in which the backward pass reaches them."""
        names = [time_of(s)[0] for s in self.backward.flows if s in self.program.node and not self.is_unnamed(s)]
        return tuple(names)
