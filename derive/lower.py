"""Syntax tree to SymPy: the second reading of the same text.

A matrix expression left of ``@`` is taken apart until only ``lin(W, v)`` and ``lin(transpose(W), v)`` with single
matrices are left: (U @ W) v = U (W v), (V - V.T) v = V v - V.T v, (r*V) v = r * (V v), (r*V).T v = V.T (r * v).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, reduce
from typing import Any

from sympy import Expr, I, Integer, Pow, Rational, nan, oo, pi, zoo

from derive.algebra import evaluate, tree_size
from derive.balls import BITS, Balls, precision
from derive.dimensions import is_scaling
from derive.errors import CellError, Position
from derive.notation import FUNCTIONS, at, lin, parameter, transpose
from derive.roles import shift_of
from derive.syntax import LIMITS, Binary, Call, Indexed, Name, Negative, Number, Power, Transposed, Tree
from derive.write import write

__all__ = ["Lowering", "holds", "is_constant", "lower", "signs"]

MAX_OPERATIONS = 2_000


# --------------------------------------------------------------------------------- what is visibly defined


Signs = frozenset[int]  # of -1, 0 and 1

_ANY = frozenset((-1, 0, 1))

# The signs of f(x) by those of x, where they can be told.
_SIGN_OF: dict[str, Callable[[int], int]] = {
    **dict.fromkeys(("exp", "sigmoid", "softplus", "sqrt"), lambda s: 1),
    **dict.fromkeys(("tanh", "erf", "softsign"), lambda s: s),
    "abs": abs,
    "relu": lambda s: max(s, 0),
}

_BOUNDED = ("tanh", "sigmoid", "sin", "cos", "erf", "softsign")  # |f(x)| is at most 1


@lru_cache(maxsize=4096)
def signs(e: Expr) -> Signs:
    """The signs that an expression may have over all real values of its symbols, as far as its form and balls tell."""
    if e.is_Rational or e is pi:
        return _sign(e)
    by_form = _signs_by_form(e)
    if len(by_form) == 1 or not is_constant(e):
        return by_form
    with precision(BITS):
        ball = evaluate(e, parameter, Balls())
        return by_form if ball.contains(0) and not ball.is_zero() else _sign(ball)


def _sign(value: Any) -> Signs:
    return frozenset((bool(value > 0) - bool(value < 0),))


def _signs_by_form(e: Expr) -> Signs:
    if e.is_Add:
        number, rest = e.as_coeff_Add()
        return _sign(number) if bound(rest) < abs(number) else reduce(_sum_signs, map(signs, e.args))
    if e.is_Mul:
        return reduce(lambda a, b: frozenset(x * y for x in a for y in b), map(signs, e.args))
    if e.is_Pow:
        return frozenset(s ** (2 - int(e.exp) % 2) for s in signs(e.base) if s or e.exp > 0)
    sign_of = _SIGN_OF.get(type(e).__name__)
    return frozenset(map(sign_of, signs(e.args[0]))) if sign_of else _ANY


def _sum_signs(a: Signs, b: Signs) -> Signs:
    return _ANY if {1, -1} <= a | b else frozenset(x or y for x in a for y in b)


@lru_cache(maxsize=4096)
def bound(e: Expr) -> Expr:
    """A number that the size of an expression does not exceed; oo if its form tells none."""
    if e.is_Rational:
        return abs(e)
    if e.is_Add or e.is_Mul:
        out = e.func(*map(bound, e.args))
    elif e.is_Pow and e.exp > 0:
        out = bound(e.base) ** e.exp
    else:
        out = Integer(1) if type(e).__name__ in _BOUNDED else oo
    return out if out < LIMITS.number else oo


@lru_cache(maxsize=4096)
def is_constant(expression: Expr) -> bool:
    """Whether an expression has no symbols."""
    return not expression.is_Symbol and all(map(is_constant, expression.args))


def holds(expression: Expr, relation: str) -> bool | None:
    """Whether ``expression`` is ``!= 0`` or ``> 0`` for all real values of its symbols; None if it depends on them.

    False is: for no values.  A constant that cannot be told from 0 does not hold.
    """
    right = {1, -1} if relation == "!= 0" else {1}
    found = signs(expression)
    return found <= right or (None if found & right and not is_constant(expression) else False)


def _raised(base: Expr, exponent: int) -> Expr:
    """``base ** exponent``; SymPy would ask of a sum, at any cost, whether it is infinite, and leave it as it is."""
    if base.is_Pow and base.exp.is_Integer:
        base, exponent = base.base, int(base.exp) * exponent
    return Pow(base, exponent, evaluate=False) if base.is_Add and exponent not in (0, 1) else base**exponent


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
            if max(abs(number.p), number.q) >= LIMITS.number:
                wanted = f"at most {LIMITS.digits + LIMITS.decimal_exponent} digits"
                raise CellError("a number is out of range", tree.position, expected=wanted)
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
        self.check_divisor(b, position)
        return a * _raised(b, -1)

    @staticmethod
    def check_divisor(e: Expr, position: Position) -> None:
        """Refuse what is 0, or a constant that may be."""
        if holds(e, "!= 0") is False:
            why = "division by zero" if signs(e) == {0} else "this divisor cannot be told from 0"
            raise CellError(why, position, found=_shown(e), expected="a divisor that is not 0")

    def power(self, base: Expr, exponent: int, position: Position) -> Expr:
        """``base ** exponent``."""
        if exponent < 0:
            self.check_divisor(base, position)
        return _raised(base, exponent)

    def call(self, name: str, x: Expr, position: Position) -> Expr:
        """``name(x)``."""
        if FUNCTIONS[name].positive and holds(x, "> 0") is False:
            why = "sqrt has no derivative at 0" if name == "sqrt" and x == 0 else f"{name} is undefined here"
            why = f"the argument of {name} cannot be told to be positive" if 1 in signs(x) else why
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
