"""Steps kept as (features, sequences), and the sums over time and sequences of what is kept like that.

A step's numbers are a block of memory either way, so much for each sequence, or for each feature:

    rows      (sequences, features)     a product is  h U'   with h's rows as the operand that is cut into small parts
    columns   (features, sequences)     a product is  U h    with the matrix in that place

Which is faster depends on the machine's products.  Calls see a step of columns as its transpose, (sequences, features),
so that they are the same text; all steps at once are (steps, sequences, features), and a product is one for each step.
What is in the loops is kept in columns then, and whatever meets it entry by entry; the rest, losses too, in rows.

The gradient of a matrix,  sum over t of d_t r_t',  is one product where each feature has all of its steps side by
side.  d is copied that way, some features at a time, once for all that it is multiplied by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, starmap
from typing import TYPE_CHECKING

import numpy as np

from numeric.arguments import Array

if TYPE_CHECKING:
    from numeric.emit import Ref
    from numeric.inplace import Bound

__all__ = ["ColumnSums", "all_steps", "one_step"]

_BLOCK = 1 << 25  # bytes of the features of d that are copied at once
_LEAST = 64  # features, so that a product is worth its call


def one_step(flat: Array, batch: int, width: int) -> Array:
    """A step that is kept in columns, as (batch, width)."""
    return flat[: batch * width].reshape(width, batch).T


def all_steps(flat: Array, steps: int, batch: int, width: int) -> Array:
    """Steps that are kept in columns, as (steps, batch, width)."""
    return flat[: steps * batch * width].reshape(steps, width, batch).transpose(0, 2, 1)


class ColumnSums:
    """The sums of a segment; ``bound`` has views of d and of operands, (rows, width) or (steps, batch, width)."""

    def __init__(self, bound: Bound) -> None:
        self.bound, self.workspace, self.rows = bound, bound.workspace, bound.rows
        compiled = self.workspace.compiled
        self.groups: dict[Ref, tuple[Array, list[int], list[int]]] = {}
        for k, (outer, (_, d)) in enumerate(zip(compiled.outers, bound.outers, strict=True)):
            self.groups.setdefault(outer.d, (d, [], []))[1].append(k)
        for k, (rows, terms) in enumerate(zip(compiled.rows, bound.terms, strict=True)):
            self.groups.setdefault(rows.terms, (terms, [], []))[2].append(k)

    def take(self, inputs: Mapping[str, Array], into: Sequence[Array]) -> None:
        """Write all sums: those of outer products (d, operand), then those of rows."""
        first = len(self.bound.outers)
        ones = self.workspace.ones[: self.rows]
        states: dict[int, Array] = {}
        for d, outers, rows in self.groups.values():
            operands = [(self.operand(k, inputs, states), k) for k in outers]
            for part, features in self.parts(d):
                for r, k in operands:
                    _outer_sum(features, r, into[k][part])
                for k in rows:
                    np.matmul(features, ones, into[first + k][part])

    def operand(self, k: int, inputs: Mapping[str, Array], states: dict[int, Array]) -> Array:
        """An operand as (rows, width), or (width,) where it is the same at every step; states are copied once."""
        x, bound = self.bound.outers[k][0], self.bound
        if isinstance(x, str):
            return inputs[x]
        if x.ndim < 3:
            return x
        ref = self.workspace.compiled.place(self.workspace.compiled.outers[k].operand)
        if ref.buffer.kind != "state":
            return self.copied(x, slice(None), f"operand {k}").T
        index = ref.buffer.index
        if index not in states:
            steps = all_steps(bound.flat[index], bound.steps + 1, bound.batch, x.shape[2])
            states[index] = self.copied(steps, slice(None), f"state {index}").T
        first = bound.batch if ref.shift else 0
        return states[index][first : first + self.rows]

    def parts(self, d: Array) -> Iterator[tuple[slice, Array]]:
        """Some features at a time, as (features, rows)."""
        if d.ndim < 3:
            yield slice(None), np.broadcast_to(d, (self.rows, d.shape[-1])).T
            return
        width = d.shape[2]
        most = max(_LEAST, _BLOCK // (self.rows * d.itemsize))
        count = -(-width // most)
        edges = [width * k // count for k in range(count + 1)]
        for part in starmap(slice, pairwise(edges)):
            yield part, self.copied(d, part, "d")

    def copied(self, x: Array, features: slice, purpose: str) -> Array:
        """Features of (steps, batch, width) as (features, rows)."""
        source = x[:, :, features].transpose(2, 0, 1)
        room = self.workspace.column_room(purpose, source.size)
        np.copyto(room.reshape(source.shape), source)
        return room.reshape(len(source), -1)


def _outer_sum(features: Array, operand: Array, out: Array) -> None:
    if operand.ndim == 1:
        np.multiply(features.sum(axis=1)[:, None], operand[None, :], out=out)
    else:
        np.matmul(features, operand, out)
