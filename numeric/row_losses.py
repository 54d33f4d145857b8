"""A loss over the rows of a segment: the value, and the gradient written where the recursion reads it.

The formulas are those of :mod:`numeric.losses`; softmax cross-entropy with class indices, the loss that is used most,
has a form here that allocates nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numeric.arguments import Array, Data
from numeric.inplace import Bound
from numeric.losses import Loss, formula
from numeric.segments import Layout, Segment

__all__ = ["RowLoss"]


class RowLoss:
    """Room for a loss over segments of at most ``rows`` rows; one thread at a time may use it."""

    def __init__(self, rows: int, dtype: np.dtype[Any]) -> None:
        self.most, self.dtype = rows, dtype
        self.room: dict[int, _ClassRoom] = {}
        self.copies: dict[int, Array] = {}

    def start(self, loss: Loss, data: Data, layout: Layout) -> None:
        """Take a call's loss."""
        self.loss, self.data, self.order = loss, data, layout.order
        self.flat = {}
        for root, array in loss.full.items():
            given = array.astype(np.intp, copy=False) if array.dtype.kind in "iu" else array
            every = loss.at == "every" and layout.order is None
            self.flat[root] = given.reshape(-1, *given.shape[2:]) if every else given
        lengths = data.lengths
        self.ends = None if lengths is None or layout.order is None else lengths[layout.order]

    def segment(self, bound: Bound, segment: Segment) -> Any:
        """The part of the loss that stands in a segment, and its gradient in ``bound.locals``."""
        value: Any = 0.0
        for root in self.loss.full:
            y = bound.outputs[root]
            slope = bound.locals.get(root)
            slope = np.empty_like(y) if slope is None else slope  # nothing that is wanted depends on it
            evaluate = self._last if self.loss.at == "last" else self._every
            if y.ndim == slope.ndim == 2:
                value += evaluate(root, y, slope, segment)
            else:  # kept in columns
                rows, own = self._in_rows(0, y), self._in_rows(1, slope)
                value += evaluate(root, rows, own, segment)
                slope[...] = own.reshape(slope.shape)
        return value

    def _in_rows(self, number: int, x: Array) -> Array:
        """A copy of (steps, batch, size) as (rows, size), in room that is kept."""
        size = self.most * x.shape[-1]
        if self.copies.get(number, np.empty(0)).size < size:
            self.copies[number] = np.empty(size, self.dtype)
        room = self.copies[number][: x.size]
        np.copyto(room.reshape(x.shape), x)
        return room.reshape(-1, x.shape[-1])

    def _every(self, root: str, y: Array, slope: Array, segment: Segment) -> Any:
        if self.order is None:
            given = self.flat[root][segment.row : segment.row + segment.rows]
        else:
            part = self.flat[root][segment.first : segment.last, self.order[: segment.batch]]
            given = part.reshape(segment.rows, *part.shape[2:])
        if (before := self.loss.begin - segment.first) > 0:
            cut = min(before * segment.batch, segment.rows)
            slope[:cut] = 0
            y, given, slope = y[cut:], given[cut:], slope[cut:]
        return self._value(y, given, slope) if len(y) else 0.0

    def _last(self, root: str, y: Array, slope: Array, segment: Segment) -> Any:
        """Sequences whose last step is the segment's last."""
        slope[...] = 0
        first = 0
        if self.ends is not None:
            first = int((self.ends > segment.last).sum())
        elif segment.last != self.data.steps:
            return 0.0
        if first == segment.batch:
            return 0.0
        which = np.arange(first, segment.batch) if self.order is None else self.order[first : segment.batch]
        rows = np.arange(segment.rows - segment.batch + first, segment.rows)
        if self.loss.counts is not None:
            counted = self.loss.counts[which]
            which, rows = which[counted], rows[counted]
        found = np.zeros((len(rows), slope.shape[1]), slope.dtype)
        value = self._value(y[rows], self.flat[root][which], found) if len(rows) else 0.0
        slope[rows] = found
        return value

    def _value(self, y: Array, given: Array, slope: Array) -> Any:
        count = self.loss.count
        if self.loss.name == "softmax_cross_entropy" and given.ndim == 1:
            classes = y.shape[1]
            if classes not in self.room:
                self.room[classes] = _ClassRoom(self.most, classes, self.dtype)
            value = self.room[classes].evaluate(y, given, slope)
        elif self.loss.name == "squared_error":
            np.subtract(y, given, slope)
            value = _square(slope) / 2
        else:
            value, found = formula(self.loss.name)(y, given)
            slope[...] = found
        if count != 1:
            np.divide(slope, count, slope)
        return value


def _square(x: Array) -> float:
    """The sum of squares, in double precision."""
    if x.dtype == np.float64 and x.flags.c_contiguous:
        flat = x.reshape(-1)
        return float(flat.dot(flat))
    return float(np.einsum("ij,ij->", x, x, dtype=np.float64, casting="unsafe"))


class _ClassRoom:
    """Softmax cross-entropy of rows of ``classes`` numbers against indices, without temporaries."""

    def __init__(self, rows: int, classes: int, dtype: np.dtype[Any]) -> None:
        self.n = -1
        self.base = np.arange(rows) * classes
        self.top, self.index = np.empty(rows, np.intp), np.empty(rows, np.intp)
        self.rest, self.own = np.empty(rows, dtype), np.empty(rows, dtype)
        self.wide = np.empty(rows, np.float64)
        self.ones = np.ones(classes, dtype)
        self.minus = -self.ones
        # as arrays: to make one of a Python number takes longer than to use it
        self.zero, self.one = np.zeros((), dtype), np.ones((), dtype)

    def evaluate(self, y: Array, target: Array, slope: Array) -> float:
        """The sum of -log p[target]; ``slope`` becomes p - (1 at the target).

        No digit is lost where p is close to one: -log p = log(1 + rest) - (y - top), p - 1 = minus the sum of the rest.
        """
        n = len(y)
        if n != self.n:
            self.views(n)
        if not slope.flags.c_contiguous:
            contiguous = np.empty_like(slope, order="C")
            value = self.evaluate(y, target, contiguous)
            slope[...] = contiguous
            return value
        base, rest, column, own, top, index, wide = self.parts
        flat = slope.reshape(-1)
        y.argmax(1, top)
        np.add(base, top, top)
        np.add(base, target, index)
        if y.flags.c_contiguous:
            y.reshape(-1).take(top, 0, rest, "clip")
        else:
            y.max(axis=1, out=column, keepdims=True)
        np.subtract(y, column, slope)
        flat.take(index, 0, own, "clip")
        np.exp(slope, slope)
        flat[top] = self.zero
        slope.dot(self.ones, rest)
        wide[...] = rest
        np.log1p(wide, wide)
        np.subtract(wide, own, wide)
        np.add(rest, self.one, rest)
        flat[top] = self.one
        np.divide(slope, column, slope)
        flat[index] = self.zero
        slope.dot(self.minus, rest)
        flat[index] = rest
        value = float(np.add.reduce(wide))
        if value - value != 0:  # inf or nan somewhere: what stands there is not one and zero, but nan
            value, found = formula("softmax_cross_entropy")(y, target)
            slope[...] = found
        return float(value)

    def views(self, n: int) -> None:
        """The parts of the room that ``n`` rows use."""
        self.n = n
        rest = self.rest[:n]
        self.parts = (
            self.base[:n], rest, rest[:, None], self.own[:n], self.top[:n], self.index[:n], self.wide[:n]
        )  # fmt: skip
