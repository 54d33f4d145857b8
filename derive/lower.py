"""Syntax tree to SymPy: the second reading of the same text.

A matrix expression left of ``@`` is taken apart until only ``lin(W, v)`` and ``lin(transpose(W), v)`` with single
matrices are left: (U @ W) v = U (W v), (V - V.T) v = V v - V.T v, (r*V) v = r * (V v), (r*V).T v = V.T (r * v).
"""

from __future__ import annotations

from typing import Any

from sympy import Expr, I, Integer, Rational, nan, oo, pi, preorder_traversal, zoo

from derive.algebra import evaluate, tree_size
from derive.balls import BITS, Balls, precision
from derive.dimensions import is_scaling
from derive.errors import CellError, Position
from derive.notation import FUNCTIONS, at, lin, parameter, transpose
from derive.roles import shift_of
from derive.syntax import LIMITS, Binary, Call, Indexed, Name, Negative, Number, Power, Transposed, Tree
from derive.write import write

__all__ = ["Lowering", "holds", "is_constant", "is_positive", "lower"]

MAX_OPERATIONS = 2_000
ALL_DIGITS = LIMITS.digits + LIMITS.decimal_exponent
MAX_NUMBER = 10**ALL_DIGITS


# --------------------------------------------------------------------------------- what is visibly defined


def is_positive(expression: Expr, *, strictly: bool = True) -> bool:
    """Whether an expression is visibly positive (or at least 0) for all real values of its symbols."""
    return _positive_by_form(expression, strictly) or (is_constant(expression) and bool(_enclosure(expression) > 0))


def is_constant(expression: Expr) -> bool:
    """Whether an expression has no symbols; stops at the first one."""
    return not any(part.is_Symbol for part in preorder_traversal(expression))


def _positive_by_form(e: Expr, strictly: bool) -> bool:
    if e.is_Rational or e is pi:
        return bool(e > 0 or (not strictly and e == 0))
    if e.is_Add:
        return all(is_positive(a, strictly=False) for a in e.args) and (not strictly or any(map(is_positive, e.args)))
    if e.is_Mul:
        return all(is_positive(a, strictly=strictly) for a in e.args)
    if e.is_Pow and e.exp.is_Integer:
        return is_positive(e.base, strictly=strictly) or (not strictly and e.exp.is_even)
    name = type(e).__name__
    if name in ("exp", "sigmoid", "softplus"):
        return True
    if name in ("abs", "relu") and not strictly:
        return True
    return name in ("abs", "relu", "sqrt") and is_positive(e.args[0])


def _enclosure(constant: Expr) -> Any:
    """A ball that contains the value of an expression without symbols, whatever its size."""
    with precision(BITS):
        return evaluate(constant, parameter, Balls())


def holds(expression: Expr, relation: str) -> bool | None:
    """Whether ``expression`` is ``!= 0`` or ``> 0`` for all real values of its symbols; None if it depends on them.

    False is: for no values.  A constant that cannot be told from 0 does not hold.
    """
    if expression == 0:
        return False
    if is_positive(expression):
        return True
    if is_positive(-expression, strictly=relation == "!= 0"):
        return relation == "!= 0"
    return False if is_constant(expression) else None


def _shown(expression: Expr) -> str:
    return write(expression) if tree_size(expression) < 100 else "..."


# ----------------------------------------------------------------------------------------------- the reading


class Lowering:
    """Trees of one cell to expressions in generic entries; each tree is read once.

    ``parameters`` maps each parameter to its sizes.
    """

    def __init__(self, parameters: dict[str, tuple[str, ...]]) -> None:
        self.scalars = {name: "scalar" for name, shape in parameters.items() if shape == ()}
        self.size: dict[Expr, int] = {}
        self.known: dict[int, Expr] = {}  # by the identity of a tree: trees are deep, so neither hashed nor compared

    def checked(self, expression: Expr, tree: Tree) -> Expr:
        """``expression``, if it is small enough to work with."""
        if tree_size(expression, self.size) > MAX_OPERATIONS:
            wanted = f"at most {MAX_OPERATIONS} operations an equation; name a part of it"
            raise CellError("the equation is too large", tree.position, expected=wanted)
        for part in (expression, *expression.args):
            number = part.as_coeff_Mul()[0]
            if max(abs(number.p), number.q) >= MAX_NUMBER:
                raise CellError("a number is out of range", tree.position, expected=f"at most {ALL_DIGITS} digits")
            if part.is_Pow and abs(part.exp) > LIMITS.power:
                wanted = f"at most {LIMITS.power}"
                raise CellError("the exponent is too large", tree.position, found=str(part.exp), expected=wanted)
        return expression

    def vector(self, tree: Tree) -> Expr:
        """The value of a vector or scalar tree; raises :class:`CellError` for what is visibly undefined."""
        known = self.known.get(id(tree))
        if known is None:
            known = self.known[id(tree)] = self.checked(self.pointwise(tree), tree)
        return known

    def pointwise(self, tree: Tree) -> Expr:
        """One node of a tree, its parts read already or now."""
        match tree:
            case Number(value=value):
                return Rational(value.numerator, value.denominator)
            case Name(name=name):
                return pi if name == "pi" else parameter(name)
            case Indexed(name=name):
                return at(name, shift_of(tree))
            case Negative(operand=x):
                return -self.vector(x)
            case Power(base=base, exponent=n):
                return self.power(self.vector(base), n, tree.position)
            case Call(name=name, arguments=(x,)):
                return self.call(name, self.vector(x), tree.position)
            case Binary(sign="@", left=left, right=right):
                return self.product(left, self.vector(right), transposed=False)
            case Binary(sign=sign, left=left, right=right):
                return self.binary(sign, self.vector(left), self.vector(right), right.position)
        raise CellError("this has no value", tree.position, expected="a vector or a scalar")

    def binary(self, sign: str, a: Expr, b: Expr, position: Position) -> Expr:
        """``a sign b``, entry by entry."""
        if sign == "+":
            return a + b
        if sign == "-":
            return a - b
        if sign == "*":  # SymPy would ask of 0*b whether b is finite, at any cost
            return Integer(0) if a == 0 or b == 0 else a * b
        if holds(b, "!= 0") is False:
            raise CellError(
                "division by zero", position, found=f"the divisor {_shown(b)}", expected="a divisor that is not 0"
            )
        return a / b

    def power(self, base: Expr, exponent: int, position: Position) -> Expr:
        """``base ** exponent``."""
        if exponent < 0 and holds(base, "!= 0") is False:
            found = f"{_shown(base)} to the power {exponent}"
            raise CellError("division by zero", position, found=found, expected="a base that is not 0")
        return base**exponent

    def call(self, name: str, x: Expr, position: Position) -> Expr:
        """``name(x)``."""
        if FUNCTIONS[name].positive and holds(x, "> 0") is False:
            why = "sqrt has no derivative at 0" if name == "sqrt" and x == 0 else f"{name} is undefined here"
            raise CellError(why, position, found=f"{name}({_shown(x)})", expected="a positive argument")
        return FUNCTIONS[name](x)

    def product(self, matrix: Tree, v: Expr, *, transposed: bool) -> Expr:
        """(matrix) v, or (matrix).T v."""
        match matrix:
            case Name(name=name):
                w = parameter(name)
                out = lin(transpose(w) if transposed else w, v)
            case Negative(operand=x):
                out = -self.product(x, v, transposed=transposed)
            case Transposed(operand=x):
                out = self.product(x, v, transposed=not transposed)
            case Binary(sign="+" | "-" as sign, left=a, right=b):
                first, second = (self.product(x, v, transposed=transposed) for x in (a, b))
                out = self.binary(sign, first, second, matrix.position)
            case Binary(sign="@", left=a, right=b):
                outer, inner = (b, a) if transposed else (a, b)
                out = self.product(outer, self.product(inner, v, transposed=transposed), transposed=transposed)
            case Binary(sign="/", left=a, right=scale):
                out = self.binary("/", self.product(a, v, transposed=transposed), self.vector(scale), scale.position)
            case Binary(sign="*", left=a, right=b):
                if is_scaling(b, self.scalars) and not is_scaling(a, self.scalars):
                    a, b = b, a
                out = self.scaled(self.vector(a), b, v, transposed)
            case _:
                raise CellError("this is not a matrix", matrix.position, expected="a matrix expression left of '@'")
        return self.checked(out, matrix)

    def scaled(self, scale: Expr, matrix: Tree, v: Expr, transposed: bool) -> Expr:
        """(scale*matrix) v, or its transpose's product."""
        if transposed:
            return self.product(
                matrix, self.checked(self.binary("*", scale, v, matrix.position), matrix), transposed=True
            )
        return self.binary("*", scale, self.product(matrix, v, transposed=False), matrix.position)

    def equation(self, tree: Tree) -> Expr:
        """The right side of an equation."""
        expression = self.vector(tree)
        if expression.has(nan, zoo, oo, -oo, I):
            raise CellError("this is undefined", tree.position, found=_shown(expression), expected="a finite value")
        return expression


def lower(tree: Tree, parameters: dict[str, tuple[str, ...]]) -> Expr:
    """The right side of an equation as a SymPy expression in generic entries.

    ``parameters`` maps each parameter to its sizes.  Raises :class:`CellError` for what is visibly undefined.
    """
    return Lowering(parameters).equation(tree)
