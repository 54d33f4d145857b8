"""Is this expression zero?  Decided exactly: rational functions over the rationals, with atoms for function values.

Every application f(u) becomes one indeterminate, equal arguments (compared as rational functions) the same one.
What is
left is a quotient of polynomials, and a polynomial is zero when it has no terms.  A yes is a proof.  A no is not yet a
refutation, because atoms may be related (exp(a) exp(b) = exp(a+b), tanh in terms of exp); so the relations that the
language's functions have are used first, and a refutation is a point where balls enclose a nonzero value.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import sympy
from sympy import Expr

from derive.algebra import CLOSED, evaluate
from derive.balls import is_nonzero
from derive.notation import applications

__all__ = ["Budget", "BudgetError", "Field", "Quotient", "is_zero"]


class BudgetError(Exception):
    """A computation would take longer, or grow larger, than it may."""


class Budget:
    """Size of a polynomial (terms times symbols) and seconds that a computation may take.

    The size decides in practice, so that the same proof stops at the same place everywhere; the clock is the last
    resort.
    """

    def __init__(self, size: int = 3_000_000, seconds: float = 20.0) -> None:
        self.size, self.seconds = size, seconds
        self.renew()

    def renew(self) -> None:
        """Start the clock again."""
        self.end = time.monotonic() + self.seconds

    def check(self, terms: int, symbols: int) -> None:
        """Raise :class:`BudgetError` if a polynomial is too large or time is up."""
        if terms * symbols > self.size:
            raise BudgetError(f"a polynomial of more than {self.size // symbols:,} terms in {symbols} symbols")
        if time.monotonic() > self.end:
            raise BudgetError(f"more than {self.seconds:g} s")


class Quotient:
    """A quotient of polynomials in lowest terms, the divisor with leading coefficient 1."""

    __slots__ = ("above", "below", "field")

    def __init__(self, field: Field, above: Any, below: Any = None) -> None:
        self.field, self.above, self.below = field, above, below

    @staticmethod
    def reduced(field: Field, above: Any, below: Any) -> Quotient:
        """Lowest terms."""
        field.check(max(len(above), len(below)))
        if below.is_constant():
            return Quotient(field, above / below.leading_coefficient())
        # flint's gcd cannot be interrupted and can take very long: only small ones are tried
        if len(above) * len(below) > MAX_GCD:
            raise BudgetError(f"the greatest common divisor of polynomials of {len(above):,} and {len(below):,} terms")
        common = above.gcd(below)
        above, below = above / common, below / common
        lead = below.leading_coefficient()
        above, below = above / lead, below / lead
        return Quotient(field, above, None if below.is_constant() else below)

    def coerce(self, other: Any) -> Quotient:
        """A number as a quotient."""
        return other if isinstance(other, Quotient) else Quotient(self.field, self.field.one * other)

    def __add__(self, other: Any) -> Quotient:
        other = self.coerce(other)
        if self.below is None and other.below is None:
            self.field.check(max(len(self.above), len(other.above)))
            return Quotient(self.field, self.above + other.above)
        if self.below == other.below:
            return Quotient.reduced(self.field, self.above + other.above, self.below)
        a, b = self.divisor, other.divisor
        return Quotient.reduced(self.field, self.above * b + other.above * a, a * b)

    def __mul__(self, other: Any) -> Quotient:
        other = self.coerce(other)
        self.field.check(len(self.above) * len(other.above) // 20)
        above = self.above * other.above
        if self.below is None and other.below is None:
            return Quotient(self.field, above)
        return Quotient.reduced(self.field, above, self.divisor * other.divisor)

    def __truediv__(self, other: Any) -> Quotient:
        other = self.coerce(other)
        if other.is_zero:
            raise ZeroDivisionError("division by an expression that is zero")
        if self.field.level == 0 and not other.above.is_constant():
            return self * self.field.reciprocal(other)
        return Quotient.reduced(self.field, self.above * other.divisor, self.divisor * other.above)

    def __pow__(self, n: int) -> Quotient:
        self.field.check(math.comb(len(self.above) + n - 1, n) if n else 1)
        return Quotient(self.field, self.above**n, None if self.below is None else self.below**n)

    def __neg__(self) -> Quotient:
        return Quotient(self.field, -self.above, self.below)

    def __sub__(self, other: Any) -> Quotient:
        return self + (-self.coerce(other))

    def __rsub__(self, other: Any) -> Quotient:
        return -self + other

    def __rtruediv__(self, other: Any) -> Quotient:
        return self.coerce(other) / self

    __radd__, __rmul__ = __add__, __mul__

    @property
    def divisor(self) -> Any:
        """The polynomial below the line."""
        return self.field.one if self.below is None else self.below

    @property
    def is_zero(self) -> bool:
        """Whether this is identically zero."""
        return self.above.is_zero()

    @property
    def key(self) -> tuple[str, str]:
        """Equal for equal rational functions."""
        return str(self.above), "" if self.below is None else str(self.below)


class Field:
    """Rational functions over the rationals in symbols and in atoms for function values.

    ``size`` bounds the number of symbols and atoms together.  ``level`` says which relations are used: 0,
    reciprocals and
    derivatives such as tanh' are atoms too, so that everything is a polynomial, and a short one; 1, quotients in lowest
    terms, and tanh' = 1 - tanh^2; 2, sigmoid, tanh and softplus in exponentials as well.  Zero at any level is zero.
    """

    def __init__(self, size: int, budget: Budget, *, level: int = 0) -> None:
        import flint  # deferred: only proofs need it

        self.budget = budget
        self.context = flint.fmpq_mpoly_ctx.get([f"v{i}" for i in range(max(size, 1))], "lex")
        self.one = self.context.constant(1)
        self.rational = flint.fmpq
        self.level = level
        self.index: dict[object, int] = {}
        self.names: list[object] = []
        self.arguments: dict[int, tuple[str, Quotient]] = {}  # what an atom is the function value of

    def check(self, terms: int) -> None:
        """Raise :class:`BudgetError` if a polynomial of so many terms is too large."""
        self.budget.check(terms, self.context.nvars())

    def generator(self, key: object) -> Quotient:
        """The indeterminate that stands for ``key``."""
        if key not in self.index:
            if len(self.names) == self.context.nvars():
                raise BudgetError(f"more than {self.context.nvars()} symbols and function values")
            self.index[key] = len(self.names)
            self.names.append(key)
        return Quotient(self, self.context.gen(self.index[key]))

    def number(self, value: Expr) -> Quotient:
        """A rational number, or pi as an indeterminate."""
        if value is sympy.pi:
            return self.generator("pi")
        return Quotient(self, self.one * self.rational(int(value.p), int(value.q)))

    def call(self, name: str, x: Any) -> Quotient:
        """f(x), by the relations that hold for f and otherwise as an atom."""
        x = x if isinstance(x, Quotient) else Quotient(self, self.one * x)
        if name in CLOSED and self.level > 0:
            return CLOSED[name](x, self.call)
        if name == "derf" and self.level > 0:
            return 2 * self.call("exp", -(x**2)) / self.call("sqrt", self.number(sympy.pi))
        if self.level == 2 and name in _IN_EXPONENTIALS:
            return _IN_EXPONENTIALS[name](x, self.call)
        if name == "exp":
            return self.exponential(x)
        if name in _REFLECT and not x.is_zero and x.above.leading_coefficient() < 0:
            return _REFLECT[name](self.atom(name, -x), x)
        return self.atom(name, x)

    def atom(self, name: str, x: Quotient) -> Quotient:
        """f(x) as an indeterminate, the same one for equal x."""
        out = self.generator((name, x.key))
        self.arguments[self.index[name, x.key]] = (name, x)
        return out

    def reciprocal(self, x: Quotient) -> Quotient:
        """1/x as an atom, x with leading coefficient 1."""
        lead = x.above.leading_coefficient()
        return self.atom("reciprocal", Quotient(self, x.above / lead)) * Quotient(self, self.one / lead)

    def exponential(self, x: Quotient) -> Quotient:
        """exp of a sum as a product of exp of its monomials, so that exp(a) exp(b) is exp(a + b)."""
        if x.is_zero:
            return Quotient(self, self.one)
        if x.below is not None:
            return self.atom("exp", x)
        out = Quotient(self, self.one)
        terms = [(m, Fraction(int(c.p), int(c.q))) for m, c in x.above.to_dict().items()]
        if len(terms) > 6 or any(abs(c.numerator) > 8 for _, c in terms):
            return self.atom("exp", x)
        for powers, value in terms:
            monomial = Quotient(self, self.context.from_dict({powers: self.rational(1, value.denominator)}))
            base = self.atom("exp", monomial)
            out = out * base**value.numerator if value > 0 else out / base**-value.numerator
        return out


MAX_GCD = 20_000


def _is_reciprocal(e: Expr) -> bool:
    return bool(e.is_Pow and e.exp.is_negative)


# f(x) in terms of f(-x); x is given to choose one sign for each argument.
_REFLECT: dict[str, Any] = {
    "tanh": lambda f, x: -f,
    "sin": lambda f, x: -f,
    "erf": lambda f, x: -f,
    "dabs": lambda f, x: -f,
    "softsign": lambda f, x: -f,
    "dtanh": lambda f, x: f,
    "dsigmoid": lambda f, x: f,
    "derf": lambda f, x: f,
    "dsoftsign": lambda f, x: f,
    "cos": lambda f, x: f,
    "abs": lambda f, x: f,
    "sigmoid": lambda f, x: 1 - f,
    "softplus": lambda f, x: f + x,
    "relu": lambda f, x: f + x,
    "drelu": lambda f, x: 1 - f,
}

_IN_EXPONENTIALS: dict[str, Any] = {
    "sigmoid": lambda x, call: 1 / (1 + call("exp", -x)),
    "tanh": lambda x, call: 1 - 2 / (call("exp", 2 * x) + 1),
    "softplus": lambda x, call: call("log", 1 + call("exp", x)),
}


def is_zero(expressions: Expr | Iterable[Expr], budget: Budget | None = None) -> bool:
    """Whether every expression is identically zero; True is a proof, False means not shown.

    Raises :class:`BudgetError` where deciding would take too long.

    >>> from derive.notation import FUNCTIONS, at
    >>> s, x = FUNCTIONS["sigmoid"], at("x")
    >>> is_zero(s(-x) - (1 - s(x))), is_zero(s(x) - (1 + FUNCTIONS["tanh"](x / 2)) / 2), is_zero(s(x) - x)
    (True, True, False)
    """
    listed = [expressions] if isinstance(expressions, Expr) else list(expressions)
    budget = budget or Budget()
    atoms = dict.fromkeys(a for e in listed for a in applications(e))
    symbols = dict.fromkeys(s for e in listed for s in sorted(e.free_symbols, key=str))
    divisors = sum(e.count(_is_reciprocal) for e in listed)
    for level in (0, 1, 2):
        field = Field(len(symbols) + 5 * len(atoms) + divisors + 8, budget, level=level)
        known: dict[Expr, Any] = {}
        if all(evaluate(e, field.generator, field, known).is_zero for e in listed):
            return True
        if level == 0 and is_nonzero(listed):
            return False
    return False
