"""Time cut into segments, each with a fixed number of sequences.

Where a segment ends depends on the sizes and lengths only, never on how much memory there is: sums over time are taken
segment by segment, so that every memory plan adds the same numbers in the same order.  Sequences are sorted, longest
first; a segment ends where one of them ends, and has no work for those that have ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from numeric.arguments import Array, Data

__all__ = ["ROWS", "Layout", "Segment", "check_segment", "lay_out", "lay_out_part", "rows_for"]

#: Steps times sequences of a segment: so many that adding the segments' gradients costs little beside the products.
ROWS = 4096
_LARGE = 120_000  # entries of the matrices from which twice as many are taken


@dataclass(frozen=True)
class Segment:
    """Steps ``first`` to ``last``, the last not included, of the first ``batch`` sequences; ``rows`` is their product.

    ``row`` and ``end`` count the rows and the sequences of all segments before.
    """

    first: int
    last: int
    batch: int
    row: int
    end: int

    @property
    def steps(self) -> int:
        """How many steps."""
        return self.last - self.first

    @property
    def rows(self) -> int:
        """Steps times sequences."""
        return self.steps * self.batch


@dataclass(frozen=True)
class Layout:
    """The segments of a call; ``order`` sorts the sequences, None where they are all of one length."""

    segments: tuple[Segment, ...]
    order: Array | None

    @property
    def rows(self) -> int:
        """Rows of all segments."""
        return self.segments[-1].row + self.segments[-1].rows

    @property
    def ends(self) -> int:
        """Sequences of all segments, one segment after the other."""
        return self.segments[-1].end + self.segments[-1].batch

    @property
    def most(self) -> int:
        """Rows of the largest segment."""
        return max(s.rows for s in self.segments)


def rows_for(matrices: int) -> int:
    """The rows of a segment of a cell whose matrices have so many entries."""
    return 2 * ROWS if matrices >= _LARGE else ROWS


def check_segment(rows: object) -> int | None:
    """The rows of a segment, None for what suits the sizes; raises ValueError for what is no positive whole number."""
    if rows is None:
        return None
    if isinstance(rows, bool) or not isinstance(rows, int | np.integer) or rows < 1:
        raise ValueError(f"segment is {rows!r}; expected a whole number of rows, steps times sequences, from 1 on")
    return int(rows)


def lay_out(data: Data, rows: int = ROWS) -> Layout:
    """Segments of about ``rows`` rows, as equal as can be."""
    if data.lengths is None:
        return Layout(_cut([(data.steps, data.batch)], rows), None)
    order = np.argsort(-data.lengths, kind="stable")
    ends = np.unique(data.lengths)
    return Layout(_cut([(int(t), int((data.lengths >= t).sum())) for t in ends], rows), order)


def lay_out_part(whole: Layout, data: Data) -> Layout:
    """The same stretches of time for a part of the sequences, ``data``; without those after its last step."""
    order = None if data.lengths is None else np.argsort(-data.lengths, kind="stable")
    out: list[Segment] = []
    row = end = 0
    for s in whole.segments:
        batch = data.batch if data.lengths is None else int((data.lengths >= s.last).sum())
        if not batch:
            break
        out.append(Segment(s.first, s.last, batch, row, end))
        row, end = row + s.steps * batch, end + batch
    return Layout(tuple(out), order)


def _cut(stretches: list[tuple[int, int]], rows: int) -> tuple[Segment, ...]:
    """Segments of stretches of time, each said by its end and its sequences."""
    out: list[Segment] = []
    start = row = end = 0
    for stop, batch in stretches:
        count = max(1, -(-(stop - start) * batch // max(rows, batch)))
        edges = [start + (stop - start) * k // count for k in range(count + 1)]
        for first, last in pairwise(edges):
            out.append(Segment(first, last, batch, row, end))
            row, end = row + (last - first) * batch, end + batch
        start = stop
    return tuple(out)
