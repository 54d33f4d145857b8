"""One expression, many readings: evaluating entries over any algebra that has + - * / and powers.

The proof reads a cell over SymPy scalars, over rational functions (:mod:`derive.zero`), over jets that carry
derivatives and over balls; it is always this one evaluator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import sympy
from sympy import Expr, Symbol

from derive.notation import FUNCTIONS, lin, matrix_of

__all__ = ["Algebra", "Entries", "SymPyScalars", "evaluate", "total", "tree_size"]

# The closed forms of the derivatives that are functions of their own.
CLOSED: dict[str, Callable[[Any, Callable[[str, Any], Any]], Any]] = {
    "dtanh": lambda x, call: 1 - call("tanh", x) ** 2,
    "dsigmoid": lambda x, call: call("sigmoid", x) * (1 - call("sigmoid", x)),
    "dsoftsign": lambda x, call: (1 / (1 + call("abs", x))) ** 2,
    "softsign": lambda x, call: x / (1 + call("abs", x)),
}


class Algebra(Protocol):
    """What numbers and functions are; the arithmetic signs are the values' own."""

    def number(self, value: Expr) -> Any:
        """A rational number or pi."""

    def call(self, name: str, x: Any) -> Any:
        """A function of the language, or one of its derivatives, applied to a value."""


class SymPyScalars:
    """SymPy expressions themselves."""

    def number(self, value: Expr) -> Expr:
        """The number itself."""
        return value

    def call(self, name: str, x: Expr) -> Expr:
        """The unevaluated application."""
        return FUNCTIONS[name](x)


def evaluate(e: Expr, leaf: Callable[[Symbol], Any], algebra: Algebra, known: dict[Expr, Any] | None = None) -> Any:
    """The value of an expression without products, each distinct part computed once."""
    known = {} if known is None else known
    out = known.get(e)
    if out is not None:
        return out
    if isinstance(e, Symbol):
        out = leaf(e)
    elif e.is_Rational or e is sympy.pi:
        out = algebra.number(e)
    elif e.is_Add or e.is_Mul:
        first, *rest = (evaluate(a, leaf, algebra, known) for a in e.args)
        out = first
        for value in rest:
            out = out + value if e.is_Add else out * value
    elif e.is_Pow and e.exp.is_Integer:
        base = evaluate(e.base, leaf, algebra, known)
        out = base ** int(e.exp) if e.exp > 0 else (algebra.number(sympy.S.One) / base) ** -int(e.exp)
    else:
        out = algebra.call(type(e).__name__, evaluate(e.args[0], leaf, algebra, known))
    known[e] = out
    return out


class Entries:
    """Entry k of an expression with products: (W v)_k is the sum over j of W[k, j] v[j], spelled out.

    ``vectors`` maps a symbol to its list of entries, ``scalars`` to one value, ``matrices`` a name to rows of entries.
    """

    def __init__(
        self,
        algebra: Algebra,
        vectors: Mapping[Symbol, list[Any]],
        scalars: Mapping[Symbol, Any],
        matrices: Mapping[str, list[list[Any]]],
    ) -> None:
        self.algebra, self.vectors, self.scalars, self.matrices = algebra, vectors, scalars, matrices
        self.known: dict[int, dict[Expr, Any]] = {}

    def entry(self, e: Expr, k: int) -> Any:
        """Entry ``k`` of ``e``."""
        known = self.known.setdefault(k, {})
        for product in _outermost(e):
            if product not in known:
                known[product] = self.product(product, k)
        return evaluate(e, lambda s: self.scalars[s] if s in self.scalars else self.vectors[s][k], self.algebra, known)

    def product(self, e: Expr, k: int) -> Any:
        """Entry ``k`` of a product, spelled out."""
        name, transposed = matrix_of(e)
        matrix = self.matrices[name]
        row = [r[k] for r in matrix] if transposed else matrix[k]
        return total([w * self.entry(e.args[1], j) for j, w in enumerate(row)])


def _outermost(e: Expr) -> list[Expr]:
    """The products of an expression that do not stand inside another one: those whose entry k is asked for."""
    if isinstance(e, lin):
        return [e]
    return list(dict.fromkeys(p for a in e.args for p in _outermost(a)))


def total(values: list[Any]) -> Any:
    """The sum of a nonempty list, over any algebra."""
    out = values[0]
    for value in values[1:]:
        out = out + value
    return out


def tree_size(e: Expr, known: dict[Expr, int] | None = None) -> int:
    """Nodes of an expression written out as a tree, counted on its shared form."""
    known = {} if known is None else known
    if e not in known:
        known[e] = 1 + sum(tree_size(a, known) for a in e.args)
    return known[e]
