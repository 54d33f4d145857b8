"""A pass that keeps the states of every step, and computes everything else from them once more.

A step is a function of the states before it and of its inputs.  With the states of all steps there, the gates, the
activations and the factors of a segment are no recursion any more: one product each for all of its steps.  Forward,
nothing but the states is computed; backwards, each segment's tape is made from its states, by a graph to which they
are given (``given`` of :class:`numeric.graph.Graph`), where the backward pass reads it.

Bits need not be those of the other plans: products of other shapes may be summed in another order, and derivatives are
taken from values of functions for other stretches of rows at once (:func:`numeric.emit.dtanh`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numeric.arguments import Array, Data
from numeric.inplace import Bound, Compiled, Workspace
from numeric.losses import Loss
from numeric.memory import MemoryPlan, plan_memory
from numeric.segments import ROWS, Layout, Segment
from numeric.session import Passed, Session
from numeric.storage import Storage

__all__ = ["StatesSession"]


class StatesSession(Session):
    """Passes of one shape: ``ahead`` computes the states, ``again`` all that the backward pass reads, and that.

    ``usual`` is the storage of the pass that keeps everything, for what that would take; ``whole`` as for a session.
    """

    def __init__(
        self,
        ahead: Compiled,
        again: Compiled,
        usual: Storage,
        data: Data,
        *,
        rows: int = ROWS,
        whole: Layout | None = None,
    ) -> None:
        self.usual = usual
        self.every: dict[str, Array] = {}  # (rows, size) of each state
        super().__init__(again, data, keep="states", rows=rows, whole=whole)
        work = self.workspace
        self.ahead = Workspace(ahead, data.sizes, work.rows, work.batch, lent=[room for room, _ in work.slabs])

    # ------------------------------------------------------------------------------------------------------------ setup

    def _planned(self) -> MemoryPlan:
        layout, one = self.whole or self.layout, self.dtype.itemsize
        plan = plan_memory(
            "states",
            len(layout.segments),
            max(self._tape_bytes(s.rows, s.batch) for s in layout.segments),
            layout.segments[0].batch * one * sum(x.shape[1] for x in self.current.values()),
            self.usual.tape_bytes(self.workspace.sizes, one, layout.rows, layout.ends),
            layout.rows * one * sum(x.shape[1] for x in self.current.values()),
        )
        return plan.first(len(self.layout.segments))

    def prepare(self, data: Data, whole: Layout | None = None) -> None:
        """Take a call's data."""
        super().prepare(data, whole)
        self.ahead.load(data.params)
        self.start = {name: x.copy() for name, x in self.current.items()}

    def _need_every(self) -> None:
        """Room for the states of this call."""
        for name, x in self.current.items():
            if name not in self.every or len(self.every[name]) < self.layout.rows:
                self.every[name] = np.empty((self.layout.rows, x.shape[1]), self.dtype)

    def bound_ahead(self, segment: Segment) -> Bound:
        """The views of a segment's forward pass; its states are where the backward pass has them."""
        key = "ahead", segment.steps, segment.batch
        if key not in self.bounds:
            self.bound(segment, 0)  # makes room
            names = self.compiled.storage.states
            pool = {b.index: self.pool[names[n].index] for n, b in self.ahead.compiled.storage.states.items()}
            part = self.ahead.part(pool, 0, 0, segment.rows, segment.batch)
            self.bounds[key] = Bound(self.ahead, part, segment.steps, segment.batch)
        return self.bounds[key]

    # ----------------------------------------------------------------------------------------------------------- pieces

    def begin(self, loss: Loss) -> None:
        """Nothing is carried into the last step."""
        super().begin(loss)
        self._need_every()

    def forward(self, segment: Segment, slot: int) -> Bound:
        """One segment forward, from the current states; all of its states are kept."""
        bound = self.bound_ahead(segment)
        self.run_forward(bound, segment)
        for name, x in self.every.items():
            x[segment.row : segment.row + segment.rows] = bound.outputs[name]
        return bound

    def visit(self, segment: Segment, slot: int, passed: Passed | None) -> Any:
        """One segment backwards, once its states have given everything else."""
        bound = self.bound(segment, slot)
        for name, x in self.every.items():
            bound.states[name][0][...] = self.before(segment, name)
            bound.outputs[name][...] = x[segment.row : segment.row + segment.rows]
        bound.run(bound.forward, self.inputs(segment))
        return super().visit(segment, slot, passed)

    def before(self, segment: Segment, name: str) -> Array:
        """A state before a segment's first step, (batch, size): the last rows of the segment before."""
        if segment.row == 0:
            return self.start[name][: segment.batch]
        before = next(s for s in self.layout.segments if s.row + s.rows == segment.row)
        return self.every[name][segment.row - before.batch : segment.row - before.batch + segment.batch]
