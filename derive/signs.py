"""What is visibly positive or not zero: signs read from an expression's form, and from balls where it is a constant.

    signs(1 + x**2) = {1}        signs(x - y) = {-1, 0, 1}        signs(2 + tanh(x)) = {1}        signs(pi - 4) = {-1}

SymPy's own assumptions are not asked: they evaluate constants of any size, and have no limit in time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, reduce
from typing import Any

from sympy import Expr, Integer, oo, pi

from derive.algebra import evaluate
from derive.balls import BITS, Balls, precision
from derive.notation import parameter
from derive.tokens import LIMITS

__all__ = ["bound", "holds", "is_constant", "signs"]

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
