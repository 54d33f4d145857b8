"""How much one entrywise expression is moved by the rounding of its own operations, as an expression.

In units of u, to first order, with |e| for the size of what an operation gives:

    x, 1/2, W r       0: a symbol is a local result of its own, and so is a number that is not exact
    a + b             r(a) + r(b) + |a + b|;  of three and more terms  sum r(a) + sum |a|
    a b               |b| r(a) + |a| r(b) + |a b|
    a^n               |n a^(n-1)| r(a) + (|n| - 1) |a^n|
    f(a)              |f'(a)| r(a) + |f(a)|
    f'(a)             as it is computed from the value y = f(a), rounded, by the closed form that papers print: for
                      tanh'(a) = 1 - y^2 it is  2 y^2 + y^2 + |1 - y^2|

The last line is what an implementation that works from values does; in the tail of tanh it is 3, where tanh'(a) itself
is nearly nothing.  ``from_values=False`` takes f'(a) as a function of its own, exact to its last place.

These are the local errors of a running error analysis: N. J. Higham, "Accuracy and Stability of Numerical Algorithms",
2nd ed., SIAM 2002, section 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping

from sympy import Add, Dummy, Expr, Integer, Mul, Pow, Rational, S, Symbol

from derive.notation import FUNCTIONS, PRIMES

__all__ = ["is_exact", "named_numbers", "rounding"]

_BITS = 24  # float32's

#: Functions whose value is exact wherever their argument is.
_EXACT = ("relu", "abs", "drelu", "dabs")


def is_exact(number: Expr) -> bool:
    """Whether a number without symbols is one of float32."""
    if not isinstance(number, Rational):
        return False
    power_of_two = number.q & (number.q - 1) == 0 and number.q.bit_length() < 100
    return power_of_two and abs(number.p).bit_length() <= _BITS


def named_numbers(e: Expr, names: dict[Expr, Symbol]) -> Expr:
    """``e`` with a symbol for every number in it that has to be rounded; ``names`` collects them.

    >>> names = {}
    >>> named_numbers(Rational(1, 10) * Symbol("x") / 2 + 1, names), names
    (number 0*x + 1, {1/20: number 0})
    """
    if not e.free_symbols:
        return e if is_exact(e) else names.setdefault(e, Symbol(f"number {len(names)}", real=True))
    if not e.args:
        return e
    if e.is_Pow:
        return Pow(named_numbers(e.base, names), e.exp, evaluate=False)
    constant = [a for a in e.args if not a.free_symbols]
    whole = [named_numbers(e.func(*constant), names)] if constant else []
    return e.func(*whole, *(named_numbers(a, names) for a in e.args if a.free_symbols))


def size(e: Expr) -> Expr:
    """|e|."""
    return S.Zero if e == 0 else FUNCTIONS["abs"](e)


def rounding(e: Expr, *, from_values: bool = True, given: Mapping[Symbol, Expr] | None = None) -> Expr:
    """The size of an expression's own rounding, in units of u; ``given`` holds what symbols bring along.

    >>> from derive.notation import at
    >>> rounding(1 - at("z"))
    abs(1 - z[t])
    """
    given = given or {}

    def inner(part: Expr) -> Expr:
        return rounding(part, from_values=from_values, given=given)

    if isinstance(e, Symbol):
        return given.get(e, S.Zero)
    if not e.free_symbols:
        return S.Zero
    if e.is_Add:
        own = [size(e)] if len(e.args) == 2 else [size(a) for a in e.args]
        return Add(*map(inner, e.args), *own)
    if e.is_Mul:
        moved = [size(Mul(*(b for b in e.args if b is not a))) * r for a in e.args if (r := inner(a)) != 0]
        products = len(e.args) - 1 - sum(_is_power_of_two(a) for a in e.args)
        return Add(*moved, products * size(e))
    if e.is_Pow:
        n = e.exp
        moved = size(n * Pow(e.base, n - 1)) * inner(e.base)
        return moved + (Integer(1) if n == -1 else abs(n) - 1) * size(e)
    return _of_function(e, inner(e.args[0]), from_values)


def _is_power_of_two(e: Expr) -> bool:
    return bool(e.is_Rational and e != 0 and abs(e.p) & (abs(e.p) - 1) == 0 and e.q & (e.q - 1) == 0)


def _of_function(e: Expr, before: Expr, from_values: bool) -> Expr:
    """f(a), or f'(a), where ``before`` is the rounding of a."""
    name, (x,) = type(e).__name__, e.args
    moved = S.Zero if before == 0 else size(e.diff(x) if isinstance(x, Symbol) else e.fdiff(1)) * before
    if name in _EXACT:
        return moved
    if name not in PRIMES or not from_values:
        return moved + size(e)
    y, function = Dummy("y", real=True), FUNCTIONS[name[1:]]
    closed = rounding(function.closed(x, y), given={y: size(y)})
    return moved + closed.xreplace({y: function(x)})
