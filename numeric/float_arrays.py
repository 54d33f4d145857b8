"""The processor's floats as an arithmetic of :mod:`numeric.interpret`: float64, or longer ones where there are any.

NumPy's longdouble has 64 bits of mantissa on x86, 113 elsewhere or, where the compiler has nothing longer, the 53 of
float64: :data:`EXTENDED_BITS` says which.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flint
import numpy as np
from sympy import Expr, pi

from derive.balls import Balls
from numeric.arguments import Array
from numeric.functions import FUNCTIONS

__all__ = ["EXTENDED_BITS", "FloatArithmetic"]

EXTENDED_BITS = int(np.finfo(np.longdouble).nmant) + 1


class FloatArithmetic:
    """Arrays of one float type."""

    def __init__(self, dtype: Any = np.float64) -> None:
        self.dtype = np.dtype(dtype)

    def lift(self, x: Array) -> Array:
        """The same values in this type."""
        return np.asarray(x, self.dtype)

    def number(self, value: Expr) -> Any:
        """A rational number or pi, rounded."""
        if value is pi:
            return self.dtype.type("3.14159265358979323846264338327950288419716939937510582")
        return self.dtype.type(int(value.p)) / self.dtype.type(int(value.q))

    def call(self, name: str, x: Any) -> Any:
        """A function of every entry."""
        if self.dtype != np.longdouble:
            return FUNCTIONS[name](np.asarray(x, self.dtype))
        x = np.asarray(x)
        return _EXTENDED[name](x) if name in _EXTENDED else _by_balls(name, x)

    def matrix(self, x: Array) -> Array:
        """The same matrix."""
        return self.lift(x)

    def apply(self, matrix: Array, transposed: bool, rows: Array) -> Array:
        """W r, or W.T r, for every row r."""
        found: Array = rows @ (matrix if transposed else matrix.T)
        return found

    def outer(self, left: Sequence[Array], right: Sequence[Array]) -> Array:
        """The sum of l r.T over all rows."""
        found: Array = np.concatenate(left).T @ np.concatenate(right)
        return found

    def spread(self, x: Any, shape: tuple[int, int]) -> Array:
        """``x`` as (B, size)."""
        return np.broadcast_to(np.asarray(x, self.dtype), shape)

    def over_batch(self, rows: Array) -> Array:
        """The sum of the rows."""
        return np.asarray(rows.sum(axis=0))

    def total(self, x: Array) -> Array:
        """The sum of all entries."""
        return np.asarray(x.sum())

    def select(self, chosen: Array, x: Array, other: Array) -> Array:
        """Rows of one or the other."""
        return np.where(chosen[:, None], x, other)

    def stack(self, steps: Sequence[Array]) -> Array:
        """(T, B, size)."""
        return np.stack(steps)

    def loss(self, name: str, y: Array, given: Array) -> tuple[Array, Array]:
        """Each row's loss (B, 1), and its gradient by y."""
        if name == "softmax_cross_entropy":
            return self.cross_entropy(y, given)
        given = self.lift(given)
        if name == "linear":
            return (given * y).sum(axis=1, keepdims=True), given
        d = y - given
        return (d * d).sum(axis=1, keepdims=True) / 2, d

    def cross_entropy(self, y: Array, given: Array) -> tuple[Array, Array]:
        """-sum target log p; where a class is given, p - 1 is minus the sum of the others."""
        classes = np.arange(y.shape[1])
        one = given[:, None] == classes if given.ndim == 1 else None
        target = self.lift(given if one is None else one)
        shifted = y - y.max(axis=1, keepdims=True)
        top = np.argmax(y, axis=1)[:, None] == classes
        e = np.exp(shifted)
        rest = np.where(top, 0, e).sum(axis=1, keepdims=True)
        p = e / (1 + rest)
        cost = (target * (np.log1p(rest) - shifted)).sum(axis=1, keepdims=True)
        if one is not None:
            return cost, np.where(one, -np.where(one, 0, p).sum(axis=1, keepdims=True), p)
        slope = p * target.sum(axis=1, keepdims=True) - target
        others = np.where(top, 0, target).sum(axis=1, keepdims=True)
        return cost, np.where(top, (others - target * rest) / (1 + rest), slope)


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def _dsigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.asarray(e / (1 + e) ** 2)


_EXTENDED: dict[str, Callable[[Array], Any]] = {
    **{name: getattr(np, name) for name in ("tanh", "exp", "log", "sin", "cos", "sqrt", "abs")},
    "sigmoid": _sigmoid,
    "dsigmoid": _dsigmoid,
    "dtanh": lambda x: 4 * _dsigmoid(2 * x),
    "relu": lambda x: np.maximum(x, 0),
    "drelu": lambda x: np.where(x > 0, x.dtype.type(1), x.dtype.type(0)),
    "dabs": np.sign,
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "dsoftsign": lambda x: 1 / (1 + np.abs(x)) ** 2,
}


def _by_balls(name: str, x: Array) -> Array:
    """A function that the processor does not have, entry by entry."""
    balls, out = Balls(), np.empty(x.shape, x.dtype)
    for where in np.ndindex(x.shape):
        high = float(x[where])
        y = balls.call(name, flint.arb(high) + float(x[where] - high)).mid()
        out[where] = np.longdouble(float(y)) + np.longdouble(float(y - float(y)))
    return out
