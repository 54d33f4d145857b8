"""A pass over all segments: forward through time, then backwards, with buffers that are kept between calls."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from numeric.arguments import Array, Data
from numeric.blas_threads import one_blas_thread
from numeric.inplace import Bound, Compiled, Tape, Workspace
from numeric.losses import Loss
from numeric.memory import Keep, MemoryPlan, plan_memory
from numeric.row_losses import RowLoss
from numeric.segments import ROWS, Layout, Segment, lay_out, lay_out_part

__all__ = ["Passed", "Session"]

_BOUND = 8  # segments whose views are kept


@dataclass
class Passed:
    """What a backward pass gives, all in arrays of its own."""

    loss: Any
    params: dict[str, Array]
    inputs: dict[str, Array]
    initial: dict[str, Array]
    states: dict[str, Array]
    outputs: dict[str, Array]
    final: dict[str, Array]


class Session:
    """Passes of one shape: ``sizes``, T steps and B sequences; ragged ones bind their views at each call.

    ``keep`` says what is kept of the forward pass, ``rows`` the steps times sequences of a segment.  Where ``data`` is
    a part of a batch, ``whole`` is the layout of all of it: segments and plan are those of the whole.
    """

    #: What a pass runs in.
    limit: AbstractContextManager[None] = one_blas_thread

    def __init__(
        self, compiled: Compiled, data: Data, *, keep: Keep = "all", rows: int = ROWS, whole: Layout | None = None
    ) -> None:
        self.compiled, self.cell, self.dtype = compiled, compiled.graph.cell, data.dtype
        most = _most(data, rows, whole)
        self.workspace = Workspace(compiled, data.sizes, most, data.batch)
        self.row_loss = RowLoss(most, data.dtype)
        self.pool: Tape = {}
        self.room = (0, 0)
        self.bounds: dict[Any, Bound] = {}
        self.rows_of: tuple[Segment | None, dict[str, Array]] = (None, {})
        self._set_up(data, keep, rows, whole)

    def _set_up(self, data: Data, keep: Keep, rows: int, whole: Layout | None) -> None:
        self.ragged, self.keep, self.segment_rows = data.lengths is not None, keep, rows
        self._lay_out(data, whole)
        self.current = {
            name: np.empty((data.batch, data.sizes[self.cell.axes[name]]), data.dtype) for name in self.cell.states
        }
        self.saved: dict[int, dict[str, Array]] = {}
        self.spare: list[dict[str, Array]] = []
        self.plan = self._planned()

    # ------------------------------------------------------------------------------------------------------------ setup

    def _lay_out(self, data: Data, whole: Layout | None) -> None:
        self.whole = whole
        self.layout = lay_out(data, self.segment_rows) if whole is None else lay_out_part(whole, data)

    def _tape_bytes(self, rows: int, ends: int) -> int:
        """What the tapes of segments take, with so many rows and sequences in all."""
        return self.workspace.pool_bytes(rows, ends)

    def _planned(self) -> MemoryPlan:
        """What is kept of this call's forward pass."""
        layout = self.whole or self.layout
        plan = plan_memory(
            self.keep,
            len(layout.segments),
            max(self._tape_bytes(s.rows, s.batch) for s in layout.segments),
            layout.segments[0].batch * sum(x.shape[1] * x.itemsize for x in self.current.values()),
            self._tape_bytes(layout.rows, layout.ends),
        )
        return plan.first(len(self.layout.segments))

    def prepare(self, data: Data, whole: Layout | None = None) -> None:
        """Take a call's data."""
        if self.ragged:
            self._lay_out(data, whole)
            self.bounds = {}
            self.plan = self._planned()
        self.data = data
        self.rows_of = None, {}
        self.workspace.load(data.params)
        order = self.layout.order
        for name, state in self.current.items():
            state[...] = data.initial[name] if order is None else data.initial[name][order]

    def bound(self, segment: Segment, slot: int) -> Bound:
        """The views of a segment over a tape; with all tapes kept, each has its own part of one."""
        whole = self.plan.tapes == self.plan.segments
        at = (segment.row, segment.end) if whole else (slot,)  # a segment's own hash is slow
        key = (*at, segment.steps, segment.batch)
        if key not in self.bounds:
            self._need_room()
            row, end = (segment.row, segment.end) if whole else (slot * self.layout.most, slot * self.data.batch)
            part = self.workspace.part(self.pool, row, end, segment.rows, segment.batch)
            if len(self.bounds) >= _BOUND:  # the views of a long time would take more than its numbers
                self.bounds.clear()
            self.bounds[key] = Bound(self.workspace, part, segment.steps, segment.batch)
        return self.bounds[key]

    def _need_room(self) -> None:
        plan, layout = self.plan, self.layout
        whole = plan.tapes == plan.segments
        need = (layout.rows, layout.ends) if whole else (plan.tapes * layout.most, plan.tapes * self.data.batch)
        if self.room[0] < need[0] or self.room[1] < need[1]:
            self.pool, self.room = self.workspace.pool(*need), need

    def inputs(self, segment: Segment) -> dict[str, Array]:
        """A segment's inputs, (rows, size); those of the last segment that was asked for are kept."""
        if self.rows_of[0] is not segment:
            self.rows_of = segment, self._inputs(segment)
        return self.rows_of[1]

    def _inputs(self, segment: Segment) -> dict[str, Array]:
        order, first, last = self.layout.order, segment.first, segment.last
        if order is None:
            return {n: x[first:last].reshape(segment.rows, -1) for n, x in self.data.inputs.items()}
        which = order[: segment.batch]
        return {n: x[first:last, which].reshape(segment.rows, -1) for n, x in self.data.inputs.items()}

    # ----------------------------------------------------------------------------------------------------------- passes

    def value_and_grad(self, loss: Loss) -> tuple[Any, dict[str, Array]]:
        """The loss and the parameters' gradients."""
        return self._run(loss, None), self.gradients()

    def lean(self, loss: Loss) -> Passed:
        """The same, with the last states."""
        passed = Passed(0.0, {}, {}, {}, {}, {}, {})
        passed.loss, passed.params = self._run(loss, passed), self.gradients()
        return passed

    def advance(self) -> dict[str, Array]:
        """The last states, from the forward pass alone."""
        for segment in self.layout.segments:
            self.forward(segment, 0)
        return self._last()

    def _last(self) -> dict[str, Array]:
        """Copies of the current states, in the user's order."""
        order = self.layout.order
        back = None if order is None else np.argsort(order)
        return {n: x.copy() if back is None else x[back] for n, x in self.current.items()}

    def backward(self, loss: Loss) -> Passed:
        """The loss and everything that was computed."""
        data = self.data
        shape = data.steps, data.batch
        of_states = {n: np.zeros((*shape, x.shape[1]), self.dtype) for n, x in self.current.items()}
        outputs = {n: np.zeros((*shape, data.sizes[self.cell.axes[n]]), self.dtype) for n in self.cell.outputs}
        outputs |= {n: np.zeros_like(x) for n, x in of_states.items()}
        inputs = {n: np.zeros(x.shape, self.dtype) for n, x in data.inputs.items()}
        passed = Passed(0.0, {}, inputs, {}, of_states, outputs, {})
        passed.loss, passed.params = self._run(loss, passed), self.gradients()
        passed.initial = self.carried()
        self._restore(passed)
        return passed

    def outputs(self) -> dict[str, Array]:
        """The forward pass alone."""
        data = self.data
        out = {
            n: np.zeros((data.steps, data.batch, data.sizes[self.cell.axes[n]]), self.dtype)
            for n in (*self.cell.outputs, *self.cell.states)
        }
        passed = Passed(0.0, {}, {}, {}, {}, out, {})
        for segment in self.layout.segments:
            bound = self.forward(segment, 0)
            bound.run(bound.after, self.inputs(segment))
            self._keep(out, bound.outputs, segment)
        passed.final = self._last()
        self._restore(passed)
        return passed.outputs

    def _run(self, loss: Loss, passed: Passed | None) -> Any:
        """Forward and backwards through all segments; returns the loss."""
        segments = self.layout.segments
        self.begin(loss)
        value: Any = 0.0
        for what, first, last in self.plan.actions():
            if what == "save":
                self._save(first)
            elif what == "restore":
                self._recall(first)
            elif what == "advance":
                for segment in segments[first:last]:
                    self.forward(segment, 0)
            else:
                for k in range(first, last) if what == "reverse" else ():
                    self.forward(segments[k], k - first)
                if last == len(segments) and passed is not None:
                    passed.final = self._last()
                for k in reversed(range(first, last)):
                    value += self.visit(segments[k], k - first, passed)
        return float(value / loss.count)

    def _save(self, block: int) -> None:
        if self.plan.tapes == self.plan.segments:
            return  # nothing is gone through again
        room = self.spare.pop() if self.spare else {n: np.empty_like(x) for n, x in self.current.items()}
        for name, x in self.current.items():
            room[name][...] = x
        self.saved[block] = room

    def _recall(self, block: int) -> None:
        """Go back to a state; those of later blocks are not needed any more."""
        for later in [b for b in self.saved if b > block]:
            self.spare.append(self.saved.pop(later))
        for name, x in self.saved[block].items():
            self.current[name][...] = x

    # ------------------------------------------------------------------------------------------------------------pieces

    def begin(self, loss: Loss) -> None:
        """Nothing is carried into the last step."""
        self.row_loss.start(loss, self.data, self.layout)
        for buffer in self.compiled.storage.carries.values():
            self.workspace.work[buffer.index].fill(0)
        self.workspace.carried = 0

    def forward(self, segment: Segment, slot: int) -> Bound:
        """One segment forward, from the current states."""
        bound = self.bound(segment, slot)
        self.run_forward(bound, segment)
        return bound

    def run_forward(self, bound: Bound, segment: Segment) -> None:
        """The steps of a segment, which take the current states on."""
        for name, (start, _) in bound.states.items():
            start[...] = self.current[name][: segment.batch]
        bound.run(bound.forward, self.inputs(segment))
        for name, (_, end) in bound.states.items():
            self.current[name][: segment.batch] = end

    def visit(self, segment: Segment, slot: int, passed: Passed | None) -> Any:
        """One segment backwards: readout, loss, recursion, sums."""
        bound, inputs = self.bound(segment, slot), self.inputs(segment)
        bound.run(bound.after, inputs)
        if passed is not None and passed.outputs:
            self._keep(passed.outputs, bound.outputs, segment)
        value = self.row_loss.segment(bound, segment)
        bound.take_carried()
        bound.run(bound.reverse, inputs)
        bound.add(inputs)
        if passed is not None:
            self._keep(passed.states, bound.d_states, segment)
            self._keep(passed.inputs, bound.d_inputs, segment)
        return value

    def gradients(self) -> dict[str, Array]:
        """The parameters' gradients, in arrays of their own."""
        return self.workspace.gradients()

    def carried(self) -> dict[str, Array]:
        """What the first step hands back to the initial states."""
        carries = self.bound(self.layout.segments[0], 0).carries
        return {name: carries[name][0].reshape(x.shape).copy() for name, x in self.current.items()}

    def _keep(self, target: Mapping[str, Array], found: Mapping[str, Array], segment: Segment) -> None:
        for name, x in found.items():
            if name in target:
                target[name][segment.first : segment.last, : segment.batch] = x.reshape(
                    segment.steps, segment.batch, -1
                )

    def _restore(self, passed: Passed) -> None:
        """Sequences in the user's order again; beyond its end a sequence keeps its last states."""
        order, lengths = self.layout.order, self.data.lengths
        if order is None or lengths is None:
            return
        back = np.argsort(order)
        for group in (passed.inputs, passed.states, passed.outputs):
            for name in group:
                group[name] = group[name][:, back]
        for name in passed.initial:
            passed.initial[name] = passed.initial[name][back]
        beyond = np.arange(self.data.steps)[:, None] >= lengths
        for name, x in passed.final.items():
            np.copyto(passed.outputs[name], x, where=beyond[:, :, None])


def _most(data: Data, rows: int, whole: Layout | None) -> int:
    """The rows of the largest segment; a ragged call may have larger ones than the one before."""
    if data.lengths is None:
        return (lay_out(data, rows) if whole is None else lay_out_part(whole, data)).most
    batch = data.batch if whole is None else whole.segments[0].batch
    bound = max(rows, batch) + batch
    if whole is not None:  # a part has its share, and rounded up
        bound = bound * data.batch // batch + data.steps
    return min(data.steps * data.batch, bound)
