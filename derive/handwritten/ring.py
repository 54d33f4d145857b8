"""The free algebra of entries: polynomials at one generic index, with (W v)_k as an indeterminate.

    lin(W, u + 2 v) = lin(W, u) + 2 lin(W, v)        products with a matrix are linear, and that is all that is known
    lin(W, f'(a) d)  and  f'(a) lin(W, d)            are different indeterminates: a diagonal does not pass a matrix
    dtanh(a) = 1 - tanh(a)^2,  tanh(-a) = -tanh(a)   relations of the functions

So two expressions with the same polynomial are equal for every size.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from sympy import Expr, pi

from derive.algebra import CLOSED
from derive.zero import BudgetError

__all__ = ["Letter", "Mono", "Number", "Poly", "Ring", "product"]

Mono = tuple[tuple[int, int], ...]  # atoms and their exponents, sorted
Number = int | Fraction
Letter = tuple[str, bool]  # matrix, transposed

MAX_TERMS = 6_000
_ODD = ("tanh", "sin", "erf", "dabs", "softsign")
_EVEN = ("cos", "abs")
_SHIFTED = {"sigmoid": lambda f, x: 1 - f, "softplus": lambda f, x: f + x, "relu": lambda f, x: f + x,
            "drelu": lambda f, x: 1 - f}  # fmt: skip


class Ring:
    """Indeterminates, each made once; ``seeds`` names function values that are known by another name."""

    def __init__(self, max_terms: int = MAX_TERMS) -> None:
        self.index: dict[Any, int] = {}
        self.keys: list[Any] = []
        self.scalar: list[bool] = []
        self.seeds: dict[Any, Poly] = {}
        self.max_terms = max_terms

    def atom(self, key: Any, *, scalar: bool = False) -> Poly:
        """The indeterminate of a key."""
        if key not in self.index:
            self.index[key] = len(self.keys)
            self.keys.append(key)
            self.scalar.append(scalar)
        return Poly(self, {((self.index[key], 1),): 1})

    def constant(self, value: Number) -> Poly:
        """A number."""
        return Poly(self, {(): value} if value else {})

    def number(self, value: Expr) -> Poly:
        """A rational number of SymPy's, or pi."""
        if value is pi:
            return self.atom("pi", scalar=True)
        return self.constant(int(value.p) if value.q == 1 else Fraction(int(value.p), int(value.q)))

    # ------------------------------------------------------------------------------------------------------ functions

    def call(self, name: str, x: Poly) -> Poly:
        """f(x), by the relations that hold for f and otherwise as an indeterminate."""
        if name in CLOSED:
            return CLOSED[name](x, self.call)
        if name == "derf":
            return 2 * self.call("exp", -(x**2)) / self.call("sqrt", self.number(pi))
        if name == "exp":
            return self.exponential(x)
        if x.leads_negative():
            if name in _ODD:
                return -self.function(name, -x)
            if name in _EVEN:
                return self.function(name, -x)
            if name in _SHIFTED:
                return _SHIFTED[name](self.function(name, -x), x)
        return self.function(name, x)

    def function(self, name: str, x: Poly) -> Poly:
        """f(x) as an indeterminate, the same one for equal x."""
        key = ("f", name, x.key)
        if key in self.seeds:
            return self.seeds[key]
        if not x.terms and name in ("tanh", "sin", "erf", "relu", "softsign", "abs"):
            return self.constant(0)
        return self.atom(key, scalar=x.is_scalar)

    def exponential(self, x: Poly) -> Poly:
        """exp of a sum as the product of exp of its terms."""
        if len(x.terms) > 6 or any(abs(Fraction(c).numerator) > 8 for c in x.terms.values()):
            return self.function("exp", x)
        out = self.constant(1)
        for mono, value in x.terms.items():
            times = Fraction(value)
            base = self.function("exp", Poly(self, {mono: Fraction(1, times.denominator)}))
            out = out * base**times.numerator
        return out

    def divide(self, x: Poly) -> Poly:
        """1/x: exact for a monomial, otherwise an indeterminate for x with leading coefficient 1."""
        if not x.terms:
            raise ZeroDivisionError("division by an expression that is zero")
        if len(x.terms) == 1:
            ((mono, value),) = x.terms.items()
            return Poly(self, {tuple((a, -n) for a, n in mono): _exact(Fraction(1) / Fraction(value))})
        lead = x.leading()
        normal = Poly(self, {m: _exact(Fraction(c) / lead) for m, c in x.terms.items()})
        return self.atom(("recip", normal.key), scalar=x.is_scalar) * self.constant(_exact(1 / Fraction(lead)))

    # -------------------------------------------------------------------------------------------------------- products

    def split(self, mono: Mono) -> tuple[Mono, Mono]:
        """Scalar factors and the others."""
        scalar = tuple(x for x in mono if self.scalar[x[0]])
        return (scalar, tuple(x for x in mono if not self.scalar[x[0]])) if scalar else ((), mono)

    def linear(self, kind: Any, x: Poly, *, scalar: bool = False) -> Poly:
        """A linear operation on x, term by term; ``kind`` and a monomial name the indeterminate."""
        out: dict[Mono, Number] = {}
        for mono, value in x.terms.items():
            outside, inside = self.split(mono)
            (atom,) = self.atom((*kind, inside), scalar=scalar).terms
            whole = product(outside, atom)
            out[whole] = out.get(whole, 0) + value
        return self.poly(out)

    def lin(self, letter: Letter, x: Poly) -> Poly:
        """(W x)_k, or (W.T x)_k."""
        return self.linear(("lin", *letter), x)

    def dot(self, x: Poly, y: Poly) -> Poly:
        """The sum over entries of x y, a scalar; the sum of a constant depends on how many entries there are."""
        product = x * y
        if any(not self.split(mono)[1] for mono in product.terms):
            raise BudgetError("the number of entries")
        return self.linear(("dot",), product, scalar=True)

    def poly(self, terms: dict[Mono, Number]) -> Poly:
        """A polynomial without its zero terms, if it is small enough to work with."""
        if len(terms) > self.max_terms:
            raise BudgetError(f"more than {self.max_terms:,} terms")
        return Poly(self, {m: c for m, c in terms.items() if c})


def _exact(value: Fraction) -> Number:
    return int(value) if value.denominator == 1 else value


def product(a: Mono, b: Mono) -> Mono:
    """The product of two monomials."""
    if not a or not b:
        return a or b
    powers = dict(a)
    for atom, n in b:
        powers[atom] = powers.get(atom, 0) + n
    return tuple(sorted((atom, n) for atom, n in powers.items() if n))


class Poly:
    """A polynomial in the indeterminates of a ring, negative exponents allowed: an entry of a vector, or a scalar."""

    __slots__ = ("ring", "terms")

    def __init__(self, ring: Ring, terms: dict[Mono, Number]) -> None:
        self.ring, self.terms = ring, terms

    def coerce(self, other: Any) -> Poly:
        """A number as a polynomial."""
        return other if isinstance(other, Poly) else self.ring.constant(other)

    def __add__(self, other: Any) -> Poly:
        if not isinstance(other, Poly | int | Fraction):
            return NotImplemented
        terms = dict(self.terms)
        for mono, value in self.coerce(other).terms.items():
            terms[mono] = terms.get(mono, 0) + value
        return self.ring.poly(terms)

    def __mul__(self, other: Any) -> Poly:
        if not isinstance(other, Poly | int | Fraction):
            return NotImplemented
        other = self.coerce(other)
        if len(self.terms) * len(other.terms) > 40 * self.ring.max_terms:
            raise BudgetError(f"a product of {len(self.terms)} and {len(other.terms)} terms")
        terms: dict[Mono, Number] = {}
        for a, c in self.terms.items():
            for b, e in other.terms.items():
                mono = product(a, b)
                terms[mono] = terms.get(mono, 0) + c * e
        return self.ring.poly(terms)

    def __neg__(self) -> Poly:
        return Poly(self.ring, {m: -c for m, c in self.terms.items()})

    def __sub__(self, other: Any) -> Poly:
        return self + (-self.coerce(other))

    def __rsub__(self, other: Any) -> Poly:
        return -self + other

    def __truediv__(self, other: Any) -> Poly:
        return self * self.ring.divide(self.coerce(other))

    def __rtruediv__(self, other: Any) -> Poly:
        return self.coerce(other) * self.ring.divide(self)

    def __pow__(self, n: int) -> Poly:
        if n < 0:
            return self.ring.divide(self) ** -n
        out = self.ring.constant(1)
        for _ in range(n):
            out = out * self
        return out

    __radd__, __rmul__ = __add__, __mul__

    @property
    def is_zero(self) -> bool:
        """Whether there is no term."""
        return not self.terms

    @property
    def is_scalar(self) -> bool:
        """Whether every factor is a scalar."""
        return all(self.ring.scalar[atom] for mono in self.terms for atom, _ in mono)

    @property
    def key(self) -> Any:
        """Equal for equal polynomials."""
        return frozenset(self.terms.items())

    def leading(self) -> Fraction:
        """The coefficient of the largest monomial."""
        return Fraction(self.terms[max(self.terms)])

    def leads_negative(self) -> bool:
        """Whether the leading coefficient is negative."""
        return bool(self.terms) and self.leading() < 0

    def cleared(self) -> Poly:
        """Multiplied by its divisors until none is left; zero if and only if this is."""
        out = self
        for _ in range(8):
            divisor = next((a for m in out.terms for a, _ in m if out.is_divisor(a)), None)
            if divisor is None:
                return out
            out = out.without(divisor)
        return out

    def is_divisor(self, atom: int) -> bool:
        """Whether an indeterminate is the reciprocal of a sum."""
        key = self.ring.keys[atom]
        return isinstance(key, tuple) and key[0] == "recip"

    def without(self, atom: int) -> Poly:
        """Multiplied by a divisor until its reciprocal is gone."""
        below = Poly(self.ring, dict(self.ring.keys[atom][1]))
        most = max(dict(m).get(atom, 0) for m in self.terms)
        out = self.ring.constant(0)
        for n in sorted({dict(m).get(atom, 0) for m in self.terms}):
            part = {tuple(x for x in m if x[0] != atom): c for m, c in self.terms.items() if dict(m).get(atom, 0) == n}
            out = out + Poly(self.ring, part) * below ** (most - n)
        return out
