"""Jets: values that carry their derivatives, so that differentiating is evaluating.

A jet is a value with its derivatives by chosen leaves; arithmetic follows the sum, product and quotient rules,
functions
the chain rule with their own derivative.  This is differentiation forward through the unrolled network: it shares
nothing with the backward program that it is compared to.
"""

from __future__ import annotations

from typing import Any

from sympy import Expr, Integer, Symbol

from derive.algebra import evaluate
from derive.notation import FUNCTIONS
from derive.sample import Sample
from derive.zero import Field

__all__ = ["Jet", "Jets"]

_X = Symbol("x", real=True)


class Jet:
    """``value`` and its derivatives ``d`` by leaf; a leaf that is missing has derivative zero."""

    __slots__ = ("d", "value")

    def __init__(self, value: Any, d: dict[Any, Any]) -> None:
        self.value, self.d = value, d

    def __add__(self, other: Any) -> Jet:
        if not isinstance(other, Jet):
            return Jet(self.value + other, self.d)
        d = dict(self.d)
        for leaf, slope in other.d.items():
            d[leaf] = d[leaf] + slope if leaf in d else slope
        return Jet(self.value + other.value, d)

    def __mul__(self, other: Any) -> Jet:
        if not isinstance(other, Jet):
            return Jet(self.value * other, {leaf: slope * other for leaf, slope in self.d.items()})
        d = {leaf: slope * other.value for leaf, slope in self.d.items()}
        for leaf, slope in other.d.items():
            term = slope * self.value
            d[leaf] = d[leaf] + term if leaf in d else term
        return Jet(self.value * other.value, d)

    def __truediv__(self, other: Jet) -> Jet:
        return self * other.reciprocal()

    def reciprocal(self) -> Jet:
        """1/u, with derivative -u'/u^2."""
        one = 1 / self.value
        return Jet(one, {leaf: -(slope * one * one) for leaf, slope in self.d.items()})

    def __pow__(self, n: int) -> Jet:
        slope = n * self.value ** (n - 1) if n > 1 else self.value**0
        return Jet(self.value**n, {leaf: slope * s for leaf, s in self.d.items()})

    __radd__, __rmul__ = __add__, __mul__


class Jets:
    """The algebra of jets over rational functions, or over values at a point."""

    def __init__(self, field: Field | Sample) -> None:
        self.field = field

    def number(self, value: Expr) -> Jet:
        """A constant."""
        return Jet(self.field.number(value), {})

    def call(self, name: str, x: Jet) -> Jet:
        """f(u), with derivative f'(u) u'."""
        value = self.field.call(name, x.value)
        if not x.d:
            return Jet(value, {})
        slope = evaluate(FUNCTIONS[name].prime(_X), lambda _: x.value, self.field)
        return Jet(value, {leaf: slope * s for leaf, s in x.d.items()})

    def leaf(self, key: object) -> Jet:
        """An indeterminate that derivatives are taken by."""
        value = self.field.generator(key)
        return Jet(value, {key: self.field.number(Integer(1))})
