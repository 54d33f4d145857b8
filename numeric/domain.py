"""What a reading of equations asks of its values, for batches of sequences: numbers, functions, products and sums."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from sympy import Expr, Symbol

from derive.handwritten.values import UNDEFINED, ZERO, plus
from numeric.arguments import Array
from numeric.batches import Diag, Mat, Matrix, Outers, Vec, check_sizes
from numeric.compile import check_constants, compile_steps
from numeric.functions import FUNCTIONS

__all__ = ["Batches", "added", "over_batch", "over_time"]

_RESULT = Symbol("result", real=True)


# ------------------------------------------------------------------------------------------------------------- sums


def added(terms: Iterable[Any]) -> Any:
    """The sum of the values of single steps; ZERO where there is none."""
    total: Any = ZERO
    parts: list[tuple[Array, Array]] = []
    for term in terms:
        if isinstance(term, Outers):
            check_sizes("matrices", term.shape, (parts[0][0].shape[-1], parts[0][1].shape[-1]) if parts else term.shape)
            parts += term.parts
        else:
            total = plus(total, term)
    return plus(Outers(tuple(parts), wide=False), total) if parts else total


def over_time(value: Any, steps: int) -> Any:
    """The sum of a value for ``steps`` steps at once."""
    if value is ZERO or value is UNDEFINED:
        return value
    if isinstance(value, Vec) and value.wide:
        return Vec(value.array.sum(0), scalar=value.scalar)
    if isinstance(value, Outers) and value.wide:
        return Outers(value.parts, wide=False)
    if isinstance(value, Diag) and value.vector.wide:
        return Diag(over_time(value.vector, steps))
    return value * steps


def over_batch(value: Vec | Matrix, batch: int) -> Array:
    """The sum over ``batch`` sequences: (n,) or (r, c)."""
    if isinstance(value, Outers):
        a, b = (np.broadcast_to(x, (len(x), batch, x.shape[-1])).reshape(-1, x.shape[-1]) for x in value.sides())
        return a.T @ b
    own, array = (1, value.array) if isinstance(value, Vec) else (2, value.dense())
    return np.broadcast_to(array, (batch, *array.shape[-own:])).sum(0)


# ----------------------------------------------------------------------------------------------------------- domain


class Batches:
    """What a reading asks of its values: numbers, functions, products; ``sizes`` are those of the letters."""

    def __init__(self, dtype: np.dtype[Any], sizes: Mapping[str, int]) -> None:
        self.dtype, self.sizes = dtype, sizes
        self.numbers: dict[Expr, Vec] = {}

    def number(self, value: Expr) -> Vec:
        """A scalar; raises ValueError for a constant that the dtype cannot hold."""
        if value not in self.numbers:
            check_constants([value], self.dtype)
            (nearest,) = compile_steps((), ((_RESULT, value),), (_RESULT,))()
            self.numbers[value] = Vec(np.array([nearest], self.dtype), scalar=True)
        return self.numbers[value]

    def call(self, name: str, x: Vec) -> Vec:
        """f of every entry."""
        return Vec(FUNCTIONS[name](x.array), scalar=x.scalar)

    def dot(self, a: Vec, b: Vec) -> Vec:
        """The sum of a b over entries."""
        return Vec((a * b).array.sum(-1, keepdims=True), scalar=True)

    def outer(self, a: Vec, b: Vec) -> Outers:
        """a b.T."""
        lead = np.broadcast_shapes(a.array.shape[:-1], b.array.shape[:-1], (1,))
        whole = lead if len(lead) > 1 else (1, *lead)
        left, right = (np.broadcast_to(x, (*whole, x.shape[-1])) for x in (a.array, b.array))
        return Outers(((left, right),), wide=len(lead) > 1)

    def diag(self, v: Vec) -> Diag:
        """The diagonal matrix of a vector."""
        return Diag(v)

    def scale_rows(self, v: Vec, m: Matrix) -> Matrix:
        """diag(v) m, or a scalar times m."""
        return m.rows_scaled(v)

    def identity(self, axis: str) -> Mat:
        """The identity matrix of a size."""
        return Mat(np.eye(self.sizes[axis], dtype=self.dtype))

    def is_matrix(self, x: Any) -> bool:
        """Whether a value is a matrix."""
        return isinstance(x, Matrix)
