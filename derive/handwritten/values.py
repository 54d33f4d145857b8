"""Values at explicit small sizes, and the two that stand for no value: a zero of any shape, and an undefined one.

A derivative beyond the last step is ``ZERO`` and takes its whole term with it, whatever else stands in the term;
``UNDEFINED`` is a value that does not exist, such as h[T+1].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["UNDEFINED", "ZERO", "Mat", "Nothing", "Vec", "applied", "minus", "plus", "scaled", "times", "turned"]


class Nothing:
    """A zero of any shape, or an undefined value."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


ZERO, UNDEFINED = Nothing("ZERO"), Nothing("UNDEFINED")


def plus(a: Any, b: Any) -> Any:
    """a + b."""
    if a is UNDEFINED or b is UNDEFINED:
        return UNDEFINED
    if a is ZERO:
        return b
    return a if b is ZERO else a + b


def scaled(a: Any, by: int) -> Any:
    """A value times an integer."""
    return a if isinstance(a, Nothing) else a * by


def minus(a: Any, b: Any) -> Any:
    """a - b."""
    return plus(a, scaled(b, -1))


def times(a: Any, b: Any, product: Callable[[Any, Any], Any] = lambda a, b: a * b) -> Any:
    """A bilinear product of a and b."""
    if a is ZERO or b is ZERO:
        return ZERO
    return UNDEFINED if a is UNDEFINED or b is UNDEFINED else product(a, b)


def applied(a: Any, b: Any) -> Any:
    """a @ b."""
    return times(a, b, lambda a, b: a @ b)


def turned(a: Any) -> Any:
    """The transpose of a matrix."""
    return a if isinstance(a, Nothing) else a.T


class Vec:
    """Entries of a vector over any algebra; a scalar is one entry that goes with every other."""

    __slots__ = ("entries", "scalar")

    def __init__(self, entries: list[Any], *, scalar: bool = False) -> None:
        self.entries, self.scalar = entries, scalar

    def _pairwise(self, other: Any, sign: Callable[[Any, Any], Any]) -> Vec:
        if not isinstance(other, Vec):
            return Vec([sign(x, other) for x in self.entries], scalar=self.scalar)
        if self.scalar and not other.scalar:
            return Vec([sign(self.entries[0], y) for y in other.entries])
        if other.scalar:
            return Vec([sign(x, other.entries[0]) for x in self.entries], scalar=self.scalar)
        return Vec([sign(x, y) for x, y in zip(self.entries, other.entries, strict=True)])

    def __add__(self, other: Any) -> Vec:
        return self._pairwise(other, lambda x, y: x + y)

    def __sub__(self, other: Any) -> Vec:
        return self._pairwise(other, lambda x, y: x - y)

    def __mul__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, Mat) else self._pairwise(other, lambda x, y: x * y)

    def __truediv__(self, other: Any) -> Vec:
        return self._pairwise(other, lambda x, y: x / y)

    def __rsub__(self, other: Any) -> Vec:
        return Vec([other - x for x in self.entries], scalar=self.scalar)

    def __rtruediv__(self, other: Any) -> Vec:
        return Vec([other / x for x in self.entries], scalar=self.scalar)

    def __neg__(self) -> Vec:
        return self * -1

    def __pow__(self, n: int) -> Vec:
        return Vec([x**n for x in self.entries], scalar=self.scalar)

    __radd__, __rmul__ = __add__, __mul__


class Mat:
    """A matrix, row by row, over any algebra."""

    __slots__ = ("rows",)

    def __init__(self, rows: list[list[Any]]) -> None:
        self.rows = rows

    def __add__(self, other: Mat) -> Mat:
        return Mat([[x + y for x, y in zip(a, b, strict=True)] for a, b in zip(self.rows, other.rows, strict=True)])

    def __sub__(self, other: Mat) -> Mat:
        return self + other * -1

    def __mul__(self, other: Any) -> Mat:
        factor = other.entries[0] if isinstance(other, Vec) else other
        return Mat([[x * factor for x in row] for row in self.rows])

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Mat:
        factor = other.entries[0] if isinstance(other, Vec) else other
        return Mat([[x / factor for x in row] for row in self.rows])

    @property
    def T(self) -> Mat:
        """The transpose."""
        return Mat([list(column) for column in zip(*self.rows, strict=True)])

    def __matmul__(self, other: Any) -> Any:
        if isinstance(other, Vec):
            entries = other.entries * len(self.rows[0]) if other.scalar else other.entries
            return Vec([_dot(row, entries) for row in self.rows])
        columns = list(zip(*other.rows, strict=True))
        return Mat([[_dot(row, column) for column in columns] for row in self.rows])


def _dot(a: Any, b: Any) -> Any:
    pairs = [x * y for x, y in zip(a, b, strict=True)]
    out = pairs[0]
    for x in pairs[1:]:
        out = out + x
    return out
