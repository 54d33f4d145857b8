"""Arrays of balls: every entry an interval that certainly holds the exact value.

The arithmetic is python-flint's (F. Johansson, "Arb: efficient arbitrary-precision midpoint-radius interval
arithmetic", IEEE Transactions on Computers 66 (2017) 1281-1292).  Entries lie in one list, so that an operation is one
pass in C; products of matrices are flint's own.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from itertools import repeat
from math import prod
from typing import Any

import flint
import numpy as np
from sympy import Expr

from derive.balls import Balls
from numeric.arguments import Array

__all__ = ["BallArithmetic", "BallArray", "enclose"]

Shape = tuple[int, ...]
_ZERO, _ONE = flint.arb(0), flint.arb(1)


class BallArray:
    """Balls with a shape; arithmetic with numbers and arrays whose shape is the last part of the other's."""

    __slots__ = ("entries", "shape")
    __array_ufunc__ = None  # NumPy leaves the signs to this class

    def __init__(self, shape: Shape, entries: list[Any]) -> None:
        self.shape, self.entries = shape, entries

    def __repr__(self) -> str:
        return f"<BallArray {self.shape}>"

    def spread(self, shape: Shape) -> BallArray:
        """The same entries along new axes in front."""
        if shape == self.shape:
            return self
        times, rest = divmod(prod(shape), len(self.entries))
        if rest or shape[len(shape) - len(self.shape) :] != self.shape:
            raise ValueError(f"an array of shape {self.shape} where {shape} was expected")
        return BallArray(shape, self.entries * times)

    def _with(self, f: Callable[[Any, Any], Any], other: Any) -> BallArray:
        if not isinstance(other, BallArray):
            return BallArray(self.shape, list(map(f, self.entries, repeat(other))))
        if len(other.entries) == 1 and len(self.shape) >= len(other.shape):
            return BallArray(self.shape, list(map(f, self.entries, repeat(other.entries[0]))))
        a, b = self, other
        if a.shape != b.shape:
            whole = max(a.shape, b.shape, key=lambda s: (len(s), prod(s)))
            a, b = a.spread(whole), b.spread(whole)
        return BallArray(a.shape, list(map(f, a.entries, b.entries)))

    def __add__(self, other: Any) -> BallArray:
        return self._with(operator.add, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> BallArray:
        return self._with(operator.sub, other)

    def __rsub__(self, other: Any) -> BallArray:
        return self._with(lambda a, b: b - a, other)

    def __mul__(self, other: Any) -> BallArray:
        return self._with(operator.mul, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> BallArray:
        return self._with(operator.truediv, other)

    def __rtruediv__(self, other: Any) -> BallArray:
        return self._with(lambda a, b: b / a, other)

    def __pow__(self, n: int) -> BallArray:
        return BallArray(self.shape, [x**n for x in self.entries])

    def __neg__(self) -> BallArray:
        return BallArray(self.shape, list(map(operator.neg, self.entries)))

    def map(self, f: Callable[[Any], Any]) -> BallArray:
        """f of every entry."""
        return BallArray(self.shape, list(map(f, self.entries)))


def enclose(x: Array) -> BallArray:
    """The exact values of floats."""
    return BallArray(x.shape, list(map(flint.arb, np.asarray(x, np.float64).ravel().tolist())))


def _dsigmoid(x: Any) -> Any:
    """e / (1 + e)^2 with e = exp(-|x|): narrow in both tails."""
    e = (-abs(x)).exp()
    return e / (1 + e) ** 2


_NARROW: dict[str, Callable[[Any], Any]] = {"dtanh": lambda x: x.sech() ** 2, "dsigmoid": _dsigmoid}


class BallArithmetic:
    """Arrays of balls in flint's working precision."""

    def __init__(self) -> None:
        self.scalars = Balls()

    def lift(self, x: Array) -> BallArray:
        """The exact values of a float array."""
        return enclose(x)

    def number(self, value: Expr) -> Any:
        """A rational number or pi."""
        return BallArray((), [self.scalars.number(value)])

    def call(self, name: str, x: BallArray) -> BallArray:
        """A function of every entry."""
        return x.map(_NARROW.get(name) or (lambda entry: self.scalars.call(name, entry)))

    # ----------------------------------------------------------------------------------------------------- products

    def matrix(self, x: Array) -> tuple[Any, Any]:
        """A matrix and its transpose."""
        m = flint.arb_mat(*x.shape, enclose(x).entries)
        return m, m.transpose()

    def apply(self, matrix: tuple[Any, Any], transposed: bool, rows: BallArray) -> BallArray:
        """W r, or W.T r, for every row r."""
        right = matrix[0] if transposed else matrix[1]
        found = flint.arb_mat(*rows.shape, rows.entries) * right
        return BallArray((rows.shape[0], found.ncols()), found.entries())

    def outer(self, left: Sequence[BallArray], right: Sequence[BallArray]) -> BallArray:
        """The sum of l r.T over all rows."""
        a, b = (flint.arb_mat(*self.stacked(x).shape, self.stacked(x).entries) for x in (left, right))
        found = a.transpose() * b
        return BallArray((found.nrows(), found.ncols()), found.entries())

    @staticmethod
    def stacked(steps: Sequence[BallArray]) -> BallArray:
        """(B, size) at several steps as rows."""
        return BallArray((sum(x.shape[0] for x in steps), steps[0].shape[1]), [e for x in steps for e in x.entries])

    # -------------------------------------------------------------------------------------------------------- shapes

    def spread(self, x: BallArray, shape: tuple[int, int]) -> BallArray:
        """``x`` as (B, size)."""
        return x.spread(shape)

    def over_batch(self, rows: BallArray) -> BallArray:
        """The sum of the rows."""
        n = rows.shape[1]
        return BallArray((n,), [sum(rows.entries[k::n], _ZERO) for k in range(n)])

    def total(self, x: BallArray) -> BallArray:
        """The sum of all entries."""
        return BallArray((), [sum(x.entries, _ZERO)])

    def select(self, chosen: Array, x: BallArray, other: BallArray) -> BallArray:
        """Rows of one or the other."""
        n = x.shape[1]
        out: list[Any] = []
        for b, one in enumerate(chosen):
            out += (x if one else other).entries[b * n : (b + 1) * n]
        return BallArray(x.shape, out)

    def stack(self, steps: Sequence[BallArray]) -> BallArray:
        """(T, B, size)."""
        return BallArray((len(steps), *steps[0].shape), [e for x in steps for e in x.entries])

    # -------------------------------------------------------------------------------------------------------- losses

    def loss(self, name: str, y: BallArray, given: Array) -> tuple[BallArray, BallArray]:
        """Each row's loss (B, 1), and its gradient by y."""
        n, costs, slopes = y.shape[1], [], []
        for b in range(y.shape[0]):
            cost, slope = _LOSSES[name](y.entries[b * n : (b + 1) * n], given[b])
            costs.append(cost)
            slopes += slope
        return BallArray((y.shape[0], 1), costs), BallArray(y.shape, slopes)


def _exactly(row: Array) -> list[Any]:
    return [flint.arb(float(v)) for v in row]


def _linear(y: list[Any], cotangent: Array) -> tuple[Any, list[Any]]:
    c = _exactly(cotangent)
    return sum(map(operator.mul, c, y), _ZERO), c


def _squared_error(y: list[Any], target: Array) -> tuple[Any, list[Any]]:
    d = list(map(operator.sub, y, _exactly(target)))
    return sum((x * x for x in d), _ZERO) / 2, d


def _cross_entropy(y: list[Any], target: Array) -> tuple[Any, list[Any]]:
    """-sum target log p; p - 1 is minus the sum of the others."""
    top = max(range(len(y)), key=lambda k: float(y[k]))
    shifted = [v - y[top] for v in y]
    e = [_ONE if k == top else v.exp() for k, v in enumerate(shifted)]
    rest = sum((v for k, v in enumerate(e) if k != top), _ZERO)
    whole, log_whole = 1 + rest, rest.log1p()
    if np.ndim(target) == 0:
        i = int(target)
        slope = [v / whole for v in e]
        slope[i] = -sum((v for k, v in enumerate(slope) if k != i), _ZERO)
        return log_whole - shifted[i], slope
    t = _exactly(target)
    s = sum(t, _ZERO)
    cost = sum((a * (log_whole - v) for a, v in zip(t, shifted, strict=True)), _ZERO)
    slope = [v / whole * s - a for v, a in zip(e, t, strict=True)]
    others = sum((a for k, a in enumerate(t) if k != top), _ZERO)
    slope[top] = (others - t[top] * rest) / whole
    return cost, slope


_LOSSES = {"linear": _linear, "squared_error": _squared_error, "softmax_cross_entropy": _cross_entropy}
