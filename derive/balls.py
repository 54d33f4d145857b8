"""Refutation: a point at which two expressions are certainly different.

Ball arithmetic (python-flint's ``arb``) encloses both values at small rational numbers; if the balls do not meet, the
expressions differ, whatever relations hold between function values.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import flint
from sympy import Expr, Symbol, pi

from derive.algebra import CLOSED, evaluate

if TYPE_CHECKING:
    from derive.zero import Field, Quotient

__all__ = ["Balls", "Difference", "find_difference", "is_nonzero", "precision"]

BITS = 128


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """flint's working precision, which is global, set and put back."""
    before = flint.ctx.prec
    flint.ctx.prec = bits
    try:
        yield
    finally:
        flint.ctx.prec = before


class Balls:
    """The algebra of real balls."""

    def number(self, value: Expr) -> Any:
        """An exact number as a ball."""
        return flint.arb.pi() if value is pi else flint.arb(flint.fmpq(int(value.p), int(value.q)))

    def call(self, name: str, x: Any) -> Any:
        """An enclosure of f(x)."""
        x = flint.arb(x)
        if name in CLOSED:
            return CLOSED[name](x, self.call)
        return _BALLS[name](x)


def _step(x: Any, above: Any, below: Any) -> Any:
    if x > 0:
        return above
    return below if x < 0 else flint.arb("nan")


_BALLS: dict[str, Callable[[Any], Any]] = {
    "tanh": lambda x: x.tanh(),
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "softplus": lambda x: x.exp().log1p(),
    "exp": lambda x: x.exp(),
    "log": lambda x: x.log(),
    "sin": lambda x: x.sin(),
    "cos": lambda x: x.cos(),
    "sqrt": lambda x: x.sqrt(),
    "erf": lambda x: x.erf(),
    "abs": abs,
    "reciprocal": lambda x: 1 / x,
    "relu": lambda x: x if x.is_zero() else _step(x, x, flint.arb(0)),
    "drelu": lambda x: _step(x, flint.arb(1), flint.arb(0)),
    "dabs": lambda x: _step(x, flint.arb(1), flint.arb(-1)),
    "derf": lambda x: 2 * (-x * x).exp() / flint.arb.pi().sqrt(),
}


class Difference:
    """A point, and the two values there."""

    def __init__(self, point: dict[str, str], first: Any, second: Any) -> None:
        self.point, self.first, self.second = point, first, second

    def __str__(self) -> str:
        shown = ", ".join(f"{name} = {value}" for name, value in self.point.items())
        return f"at {shown}: derived {_short(self.first)}, right {_short(self.second)}"


def _short(ball: Any) -> str:
    return str(flint.arb(ball.mid()).str(6, radius=False))


def _small(source: random.Random) -> Any:
    """A small rational number, not zero."""
    return flint.fmpq(source.choice([-3, -2, -1, 1, 2, 3]), source.choice([1, 2]))


def is_nonzero(expressions: Sequence[Expr], tries: int = 3) -> bool:
    """Whether a point was found at which one of the expressions is certainly not zero."""
    with precision(BITS):
        for seed in range(tries):
            source, chosen = random.Random(seed), dict[Symbol, Any]()

            def leaf(symbol: Symbol, chosen: dict[Symbol, Any] = chosen, source: random.Random = source) -> Any:
                return chosen.setdefault(symbol, flint.arb(_small(source)))

            known: dict[Expr, Any] = {}
            for e in expressions:
                value = flint.arb(evaluate(e, leaf, Balls(), known))
                if value.is_finite() and not value.contains(0):
                    return True
    return False


class _Point:
    """Values of a field's generators at one random point, function values computed from their arguments."""

    def __init__(self, field: Field, seed: int) -> None:
        self.field, self.random, self.balls = field, random.Random(seed), Balls()
        self.values: dict[int, Any] = {}
        self.chosen: dict[int, str] = {}

    def generator(self, i: int) -> Any:
        if i not in self.values:
            if i in self.field.arguments:
                name, x = self.field.arguments[i]
                self.values[i] = self.balls.call(name, self.value(x))
            elif self.field.names[i] == "pi":
                self.values[i] = flint.arb.pi()
            else:
                number = _small(self.random)
                self.values[i], self.chosen[i] = flint.arb(number), str(number)
        return self.values[i]

    def value(self, q: Quotient) -> Any:
        above = self.polynomial(q.above)
        return above if q.below is None else above / self.polynomial(q.below)

    def polynomial(self, p: Any) -> Any:
        out = flint.arb(0)
        for powers, coefficient in p.to_dict().items():
            term = flint.arb(coefficient)
            for i, n in enumerate(powers):
                if n:
                    term = term * self.generator(i) ** int(n)
            out += term
        return out


def find_difference(first: Quotient, second: Quotient, tries: int = 8) -> Difference | None:
    """A point where the two values certainly differ, or None if none was found."""
    field = first.field
    with precision(BITS):
        for seed in range(tries):
            point = _Point(field, seed)
            a, b = point.value(first), point.value(second)
            if a.is_finite() and b.is_finite() and not (a - b).contains(0):
                names = {str(field.names[i]): value for i, value in sorted(point.chosen.items())}
                return Difference(names, a, b)
    return None
