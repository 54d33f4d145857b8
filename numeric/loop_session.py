"""The compiled time loop behind the same driver: segments, memory plans, ragged batches.

Needs the extra `fast` (Numba).  :mod:`numeric.fast` compiles the loop from the same plans as everything else.

What is not kept is gone through again step by step, for ``keep="states"`` as well: measured from LSTM H20 B1 to tanh
H256 B32, that makes a pass 1.0 to 1.3 times as long as keeping everything does, and computing all steps of a segment at
once from their states 1.3 to 4.4 times, in more memory.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np

from numeric.arguments import Array, Data
from numeric.losses import Loss
from numeric.memory import Keep
from numeric.segments import ROWS, Layout, Segment
from numeric.session import Passed, Session

__all__ = ["LoopSession"]


class LoopSession(Session):
    """Passes of one shape with a compiled loop, a :class:`numeric.fast.loop.Loop`."""

    limit = nullcontext()  # no BLAS here

    def __init__(
        self, loop: Any, data: Data, *, keep: Keep = "all", rows: int = ROWS, whole: Layout | None = None
    ) -> None:
        self.loop, self.cell, self.dtype = loop, loop.cell, data.dtype
        self.width = loop.width(data.sizes)
        self.memory = np.empty(0, data.dtype)
        self.carries: tuple[Array, ...] = ()
        self.grads: tuple[Array, ...] = ()
        self._set_up(data, keep, rows, whole)

    # ------------------------------------------------------------------------------------------------------------ setup

    def _tape_bytes(self, rows: int, ends: int) -> int:
        return rows * self.width * self.dtype.itemsize

    def prepare(self, data: Data, whole: Layout | None = None) -> None:
        """Take a call's data; sequences are sorted, longest first."""
        self.data = data
        if self.ragged:
            self._lay_out(data, whole)
            self.plan = self._planned()
        order = self.layout.order
        self.params = tuple([data.params[name] for name in self.cell.parameters])
        self.start = tuple([data.initial[name] for name in self.cell.states])
        self.inputs_ = tuple([np.ascontiguousarray(data.inputs[name]) for name in self.cell.inputs])
        if order is not None:
            self.start = tuple(np.ascontiguousarray(x[order]) for x in self.start)
            self.inputs_ = tuple(np.ascontiguousarray(x[:, order]) for x in self.inputs_)
        if self.ragged or not self.memory.size:
            all_kept = self.plan.tapes == self.plan.segments
            rows = self.layout.rows if all_kept else self.plan.tapes * self.layout.most
            if self.memory.size < rows * self.width and self.loop.loss is not None:
                self.memory = np.empty(rows * self.width, self.dtype)

    def tape(self, segment: Segment, slot: int) -> Array:
        """A segment's part of the memory."""
        row = segment.row if self.plan.tapes == self.plan.segments else slot * self.layout.most
        return self.memory[row * self.width : (row + segment.rows) * self.width]

    # ----------------------------------------------------------------------------------------------------------- passes

    def value_and_grad(self, loss: Loss) -> tuple[Any, dict[str, Array]]:
        """The loss and the parameters' gradients."""
        if len(self.layout.segments) > 1:
            return super().value_and_grad(loss)
        self.begin(loss)
        (segment,) = self.layout.segments
        value = self.loop.both(
            self.params, self.inputs_, self.start, self.memory, self.targets, self.carries, self.grads,
            segment.first, segment.last, segment.batch, self.scale, self.ends, (), loss.begin,
        )  # fmt: skip
        return value, self.gradients()

    def outputs(self) -> dict[str, Array]:
        """The forward pass alone."""
        data, names = self.data, (*self.cell.outputs, *self.cell.states)
        shape = data.steps, data.batch
        seen = {n: np.zeros((*shape, data.sizes[self.cell.axes[n]]), self.dtype) for n in names}
        self._through(tuple(seen.values()))
        passed = Passed(0.0, {}, {}, {}, {}, seen, self._last())
        self._restore(passed)
        return passed.outputs

    def advance(self) -> dict[str, Array]:
        """The last states, from the forward pass alone."""
        self.outputs()
        return self._last()

    def _run(self, loss: Loss, passed: Passed | None) -> Any:
        self._return()
        return super()._run(loss, passed)

    def _return(self) -> None:
        """Go back to the initial states."""
        for name, x in zip(self.cell.states, self.start, strict=True):
            self.current[name][...] = x

    def _through(self, seen: tuple[Array, ...]) -> None:
        self._return()
        states, empty = tuple(self.current.values()), self.memory[:0]
        for s in self.layout.segments:
            self.loop.forward(self.params, self.inputs_, states, empty, s.first, s.last, s.batch, seen)

    # ----------------------------------------------------------------------------------------------------------- pieces

    def begin(self, loss: Loss) -> None:
        """Nothing is carried into the last step; nothing is summed yet."""
        data, order = self.data, self.layout.order
        self.scale, self.since = 1.0 / loss.count, loss.begin
        targets = [loss.full[root] for root in self.loop.roots]
        if loss.classes:
            targets = [array.astype(np.int64, copy=False) for array in targets]
        if order is not None:
            targets = [np.ascontiguousarray(x[order] if loss.at == "last" else x[:, order]) for x in targets]
        self.targets = tuple([np.ascontiguousarray(x) for x in targets])
        self.ends = None
        if loss.at == "last":
            lengths = np.full(data.batch, data.steps) if data.lengths is None else data.lengths
            ends = lengths - 1 if loss.counts is None else np.where(loss.counts, lengths - 1, -1)
            self.ends = np.ascontiguousarray(ends if order is None else ends[order], np.int64)
        self.carries = tuple([np.zeros(x.shape, self.dtype) for x in self.start])
        self.grads = tuple([np.zeros(x.shape, self.dtype) for x in self.params])
        self.starts: dict[int, tuple[Array, ...]] = {}

    def forward(self, segment: Segment, slot: int) -> None:  # type: ignore[override]
        """One segment forward, from the current states."""
        states = tuple(self.current.values())
        self.starts[slot] = tuple(x.copy() for x in states)
        tape = self.tape(segment, slot)
        self.loop.forward(self.params, self.inputs_, states, tape, segment.first, segment.last, segment.batch)

    def visit(self, segment: Segment, slot: int, passed: Passed | None) -> Any:
        """One segment backwards: readout, loss, recursion, sums."""
        derived: tuple[Array, ...] = ()
        if passed is not None and passed.outputs:
            derived = (*passed.inputs.values(), *passed.states.values(), *passed.outputs.values())
        value = self.loop.backward(
            self.params, self.inputs_, self.starts[slot], self.tape(segment, slot), self.targets, self.carries,
            self.grads, segment.first, segment.last, segment.batch, self.scale, self.ends, derived, self.since,
        )  # fmt: skip
        return value / self.scale

    def gradients(self) -> dict[str, Array]:
        """The parameters' gradients."""
        return dict(zip(self.cell.parameters, self.grads, strict=True))

    def carried(self) -> dict[str, Array]:
        """What the first step hands back to the initial states."""
        return dict(zip(self.cell.states, self.carries, strict=True))
