"""Vectors and matrices for a batch of sequences, with the signs that a reading of equations uses.

    Vec       (n,) where it is the same for every sequence, (B, n), or (S, B, n) for S steps at once
    Mat       (r, c), or (B, r, c)
    Diag      the diagonal matrix of a vector, never written out where it is only applied
    Outers    a sum of products a b.T, kept as its two sides: a sum over all steps is one product of matrices

A matrix for each of S steps at once is never made: what would need it raises :class:`WideError`, and is done one step
at a time.  Sizes are compared, never broadcast: two vectors of unlike size raise ValueError.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from numeric.arguments import Array

__all__ = ["Diag", "Mat", "Matrix", "Outers", "Vec", "WideError", "check_sizes"]

MOST_PARTS = 64  # a matrix that collects a product at every step is written out from here on


class WideError(Exception):
    """What cannot be done for all steps at once."""


def check_sizes(what: str, a: Any, b: Any) -> None:
    """Raise ValueError unless two sizes are the same."""
    if a != b:
        raise ValueError(f"{what} of sizes {a} and {b}")


# ---------------------------------------------------------------------------------------------------------- vectors


class Vec:
    """A vector (..., n); a scalar is (..., 1) and goes with every size."""

    __slots__ = ("array", "scalar")

    def __init__(self, array: Array, *, scalar: bool = False) -> None:
        self.array, self.scalar = array, scalar

    @property
    def wide(self) -> bool:
        """Whether it has an axis for steps."""
        return self.array.ndim > 2

    def _with(self, other: Any, sign: Callable[[Any, Any], Any]) -> Any:
        if isinstance(other, Vec):
            if not (self.scalar or other.scalar):
                check_sizes("vectors", self.array.shape[-1], other.array.shape[-1])
            return Vec(sign(self.array, other.array), scalar=self.scalar and other.scalar)
        return NotImplemented if isinstance(other, Matrix) else Vec(sign(self.array, other), scalar=self.scalar)

    def __add__(self, other: Any) -> Any:
        return self._with(other, lambda x, y: x + y)

    def __sub__(self, other: Any) -> Any:
        return self._with(other, lambda x, y: x - y)

    def __mul__(self, other: Any) -> Any:
        return self._with(other, lambda x, y: x * y)

    def __truediv__(self, other: Any) -> Any:
        return self._with(other, lambda x, y: x / y)

    def __pow__(self, n: int) -> Vec:
        return Vec(self.array**n, scalar=self.scalar)

    def spread(self, size: int) -> Array:
        """The entries; those of a scalar ``size`` times."""
        return np.broadcast_to(self.array, (*self.array.shape[:-1], size)) if self.scalar else self.array


# --------------------------------------------------------------------------------------------------------- matrices


class Matrix(ABC):
    """What every matrix can do; ``dense`` writes it out."""

    __slots__ = ()

    @abstractmethod
    def dense(self) -> Array:
        """(r, c) or (B, r, c); raises WideError for a matrix for each step."""

    @abstractmethod
    def rows_scaled(self, v: Vec) -> Matrix:
        """diag(v) times this; a scalar scales every row."""

    @property
    @abstractmethod
    def T(self) -> Matrix:
        """The transpose."""

    def __add__(self, other: Matrix) -> Matrix:
        a, b = self.dense(), other.dense()
        check_sizes("matrices", a.shape[-2:], b.shape[-2:])
        return Mat(a + b)

    def __sub__(self, other: Matrix) -> Matrix:
        return self + other * -1

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """Of the entries."""

    def __mul__(self, factor: Any) -> Matrix:
        if not isinstance(factor, Vec):
            factor = Vec(np.array([factor]).astype(self.dtype), scalar=True)
        return self.rows_scaled(factor)

    __rmul__ = __mul__

    def __truediv__(self, factor: Vec) -> Matrix:
        return self.rows_scaled(Vec(1 / factor.array, scalar=True))

    def __matmul__(self, other: Any) -> Any:
        return Mat(self.dense()) @ other


class Mat(Matrix):
    """A matrix, (r, c), or one a sequence, (B, r, c)."""

    __slots__ = ("array",)

    def __init__(self, array: Array) -> None:
        self.array = array

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the entries."""
        return self.array.dtype

    def dense(self) -> Array:
        """The array itself."""
        return self.array

    @property
    def T(self) -> Mat:
        """The transpose."""
        return Mat(np.swapaxes(self.array, -1, -2))

    def rows_scaled(self, v: Vec) -> Mat:
        """diag(v) times this."""
        if v.wide:
            raise WideError
        if not v.scalar:
            check_sizes("a vector that scales rows, and a matrix,", v.array.shape[-1], self.array.shape[-2])
        return Mat(self.array * v.array[..., None])

    def __matmul__(self, other: Any) -> Any:
        columns = self.array.shape[-1]
        if isinstance(other, Vec):
            x = other.spread(columns)
            check_sizes("a matrix and a vector", columns, x.shape[-1])
            if self.array.ndim == 2:
                return Vec(x @ self.array.T)
            return Vec((self.array @ x[..., None])[..., 0])
        if isinstance(other, Diag | Outers):
            return (other.T @ self.T).T
        check_sizes("matrices", columns, other.array.shape[-2])
        return Mat(self.array @ other.array)


class Diag(Matrix):
    """The diagonal matrix of a vector."""

    __slots__ = ("vector",)

    def __init__(self, vector: Vec) -> None:
        self.vector = vector

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the entries."""
        return self.vector.array.dtype

    def dense(self) -> Array:
        """Written out."""
        if self.vector.wide:
            raise WideError
        x = self.vector.array
        return np.eye(x.shape[-1], dtype=x.dtype) * x[..., None, :]

    @property
    def T(self) -> Diag:
        """Itself."""
        return self

    def rows_scaled(self, v: Vec) -> Diag:
        """diag(v) times this."""
        return Diag(self.vector * v)

    def __matmul__(self, other: Any) -> Any:
        if isinstance(other, Diag):
            return Diag(self.vector * other.vector)
        return self.vector * other if isinstance(other, Vec) else other.rows_scaled(self.vector)


class Outers(Matrix):
    """A sum of a b.T: ``parts`` holds (a, b), (N, B, r) and (N, B, c), summed over N.

    Where ``wide``, the terms of N are those of N steps, and the sum is still to be taken; it is linear in them.
    """

    __slots__ = ("parts", "wide")

    def __init__(self, parts: tuple[tuple[Array, Array], ...], *, wide: bool) -> None:
        self.parts, self.wide = parts, wide

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the entries."""
        return self.parts[0][0].dtype

    @property
    def shape(self) -> tuple[int, int]:
        """(r, c)."""
        a, b = self.parts[0]
        return a.shape[-1], b.shape[-1]

    def sides(self) -> tuple[Array, Array]:
        """(N, B, r) and (N, B, c) of all parts together."""
        if len(self.parts) == 1:
            return self.parts[0]
        batch = max(max(a.shape[1], b.shape[1]) for a, b in self.parts)
        left, right = (
            np.concatenate([np.broadcast_to(x, (len(x), batch, x.shape[-1])) for x in side])
            for side in zip(*self.parts, strict=True)
        )
        return left, right

    def dense(self) -> Array:
        """Written out, (B, r, c)."""
        if self.wide:
            raise WideError
        a, b = self.sides()
        return a.transpose(1, 2, 0) @ b.transpose(1, 0, 2)

    @property
    def T(self) -> Outers:
        """The transpose."""
        return Outers(tuple((b, a) for a, b in self.parts), wide=self.wide)

    def __add__(self, other: Matrix) -> Matrix:
        if isinstance(other, Outers) and other.wide == self.wide:
            check_sizes("matrices", self.shape, other.shape)
            if self.wide or len(self.parts) + len(other.parts) <= MOST_PARTS:
                return Outers(self.parts + other.parts, wide=self.wide)
        return super().__add__(other)

    def rows_scaled(self, v: Vec) -> Outers:
        """diag(v) times this."""
        if v.wide and not self.wide:
            raise WideError
        if not v.scalar:
            check_sizes("a vector that scales rows, and a matrix,", v.array.shape[-1], self.shape[0])
        return Outers(tuple((a * v.array, b) for a, b in self.parts), wide=self.wide)

    def __matmul__(self, other: Any) -> Any:
        if isinstance(other, Diag):
            return self.T.rows_scaled(other.vector).T
        if isinstance(other, Mat) and other.array.ndim == 2:
            check_sizes("matrices", self.shape[1], other.array.shape[0])
            return Outers(tuple((a, b @ other.array) for a, b in self.parts), wide=self.wide)
        if isinstance(other, Vec) and not (self.wide or other.wide):
            a, b = self.sides()
            x = other.spread(b.shape[-1])
            check_sizes("a matrix and a vector", b.shape[-1], x.shape[-1])
            return Vec((a * (b * x).sum(-1, keepdims=True)).sum(0))
        return super().__matmul__(other)
