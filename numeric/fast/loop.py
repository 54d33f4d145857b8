"""A cell's whole time loop as compiled code: what the driver of a pass calls, segment by segment.

Within a segment the batch is constant.  Arrays are C-contiguous, aligned and of the loop's dtype, and this is not
checked: the driver has.  Sizes are read off the arrays.  Time-major arrays are whole, (T, B, n); of them, and of the
(B, n) arrays, steps ``first`` to ``last`` - 1 and sequences 0 to ``batch`` - 1 are read or written, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from numeric.arguments import Array
from numeric.fast.code import Code
from numeric.fast.frame import Frame
from numeric.fast.losses import Losses
from numeric.fast.passes import Passes
from numeric.fast.rows import Argument, unpack
from numeric.fast.schedule import schedule_of
from numeric.fast.store import compiled_function
from numeric.fast.vector import LANE_BYTES
from numeric.fast.work import Schedule
from numeric.plan import Plans

__all__ = ["Loop", "compile_loop"]

Arrays = Sequence[Array]


@lru_cache(maxsize=256)
def compile_loop(
    plans: Plans, dtype: str, loss: str | None, at: str = "every", classes: bool = False, full: bool = False
) -> Loop:
    """The loop for the loss that ``plans`` was made for; it is compiled when it is first called, or taken from disk.

    ``loss`` is a name of :data:`derive.losses.LOSSES`, or None for a forward pass alone (then ``plans`` has no backward
    pass); ``at`` is "every", "last", or "from" where only the steps from one on count; ``classes`` says that the
    targets are class indices.  ``full``: the backward pass also gives outputs, states and the derivatives by inputs and
    states at every step.
    """
    return Loop(plans, dtype, loss, at, classes, full)


class Loop:
    """The passes of one cell, loss and dtype.  It holds no state between calls; calls do not hold the GIL.

    ``roots`` are the names that the loss reads, in the order in which their targets are handed over.
    """

    def __init__(self, plans: Plans, dtype: str, loss: str | None, at: str, classes: bool, full: bool) -> None:
        self.plans, self.cell = plans, plans.cell
        self.dtype = np.dtype(dtype)
        self.loss, self.at, self.classes, self.full = loss, at, classes, full
        self.last, self.begins = at == "last", at == "from"
        self.schedule: Schedule = schedule_of(plans, full=full or loss is None)
        self.roots = tuple(sorted(plans.backward.active)) if plans.backward else ()
        self._entries: dict[str, Callable[[tuple[Any, ...]], float]] = {}

    def width(self, sizes: Mapping[str, int]) -> int:
        """Numbers of tape per step and sequence, for sizes by letter."""
        lanes = LANE_BYTES // self.dtype.itemsize
        taped = (field.axis for field in self.schedule.fields if field.space == "tape")
        return sum(-(-sizes[axis] // lanes) * lanes for axis in taped)

    # --------------------------------------------------------------------------------------------------------- calls

    def forward(
        self,
        params: Arrays,
        inputs: Arrays,
        states: Arrays,
        tape: Array,
        first: int,
        last: int,
        batch: int,
        seen: Arrays = (),
    ) -> None:
        """Steps ``first`` to ``last`` - 1, at least one.

        ``params`` and ``inputs``, (T, B, n), are in the cell's order, and so are ``states``, (B, n): before the segment
        they hold the states before it, afterwards those at its end.  ``tape`` is flat, with (last - first) * batch *
        width numbers, or has length 0 where nothing is to be kept.  ``seen``, only without a loss, are arrays (T, B, n)
        for the outputs, then the states.
        """
        self.entry("forward")((*params, *inputs, *states, tape, *seen, first, last, batch))

    def backward(
        self,
        params: Arrays,
        inputs: Arrays,
        start: Arrays,
        tape: Array,
        targets: Arrays,
        carried: Arrays,
        grads: Arrays,
        first: int,
        last: int,
        batch: int,
        scale: float,
        ends: Array | None = None,
        derived: Arrays = (),
        begin: int = 0,
    ) -> float:
        """The loss of the segment, and its backward pass over the tape that ``forward`` left.

        ``start`` are the states before the segment, (B, n); ``targets`` one array for each of ``roots``: class indices,
        int64 (T, B), or reals (T, B, n); with at="last" without the time axis, and then ``ends``, int64 (B,), holds
        each sequence's last step, counted from 0; with at="from" only steps from ``begin`` on, counted from 0, have a
        loss.  ``carried``, (B, n), is what the states receive from later steps, and afterwards what they hand to
        earlier ones.  ``grads`` are added to.  The loss, returned in double precision, and all derivatives of it are
        multiplied by ``scale``; ``carried`` is taken as it is.

        ``derived``, for a full loop, are arrays (T, B, n) for the derivatives by the inputs, by the states, then for
        the outputs and the states themselves; a derivative that is always zero is not written.
        """
        own = () if ends is None else (ends,)
        rest = (first, last, batch, scale, begin) if self.begins else (first, last, batch, scale)
        return self.entry("backward")(
            (*params, *inputs, *start, tape, *targets, *own, *carried, *grads, *derived, *rest)
        )

    def both(
        self,
        params: Arrays,
        inputs: Arrays,
        start: Arrays,
        tape: Array,
        targets: Arrays,
        carried: Arrays,
        grads: Arrays,
        first: int,
        last: int,
        batch: int,
        scale: float,
        ends: Array | None = None,
        derived: Arrays = (),
        begin: int = 0,
    ) -> float:
        """The forward pass from ``start``, which stays as it is, then the backward pass, in one call."""
        own = () if ends is None else (ends,)
        rest = (first, last, batch, scale, begin) if self.begins else (first, last, batch, scale)
        return self.entry("both")((*params, *inputs, *start, tape, *targets, *own, *carried, *grads, *derived, *rest))

    def entry(self, name: str) -> Callable[[tuple[Any, ...]], float]:
        """ "forward", "backward" or "both" as the compiled function: one tuple of all arguments, in the order above."""
        if name not in self._entries:
            self._entries[name] = self._compiled(name)
        return self._entries[name]

    # ----------------------------------------------------------------------------------------------------- arguments

    def _arguments(self, name: str) -> list[Argument]:
        cell = self.cell

        def arrays(role: str, names: Sequence[str], ndim: int) -> list[Argument]:
            return [Argument(role, n, ndim) for n in names]

        params = [(n, len(shape)) for n, shape in cell.parameters.items()]
        seen = arrays("seen", (*cell.outputs, *cell.states), 3)
        out = [Argument("parameter", n, ndim) for n, ndim in params]
        out += arrays("input", cell.inputs, 3) + arrays("state", cell.states, 2) + arrays("tape", [""], 1)
        if name != "forward":
            out += arrays("target", self.roots, 3 - self.last - self.classes)
            out += arrays("last", [""] if self.last else [], 1) + arrays("carried", cell.states, 2)
            out += [Argument("gradient", n, ndim) for n, ndim in params]
            if self.full:
                out += arrays("d input", cell.inputs, 3) + arrays("d state", cell.states, 3) + seen
        elif self.loss is None:
            out += seen
        out += [Argument(role) for role in ("first", "last", "batch")]
        return out if name == "forward" else [*out, Argument("scale"), *[Argument("begin")] * self.begins]

    def _kind(self, argument: Argument) -> Any:
        """Numba's type."""
        if argument.ndim is None:
            return types.float64 if argument.role == "scale" else types.int64
        integral = argument.role == "last" or (argument.role == "target" and self.classes)
        real = types.float64 if self.dtype == np.float64 else types.float32
        return types.Array(types.int64 if integral else real, argument.ndim, "C")

    # ------------------------------------------------------------------------------------------------------- compiled

    def _compiled(self, name: str) -> Callable[[tuple[Any, ...]], float]:
        arguments = self._arguments(name)
        kinds = [self._kind(a) for a in arguments]

        @intrinsic
        def body(typing: Any, given: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                parts = cgutils.unpack_tuple(builder, values[0], len(kinds))
                unpacked = [unpack(context, builder, k, v) for k, v in zip(kinds, parts, strict=True)]
                frame = Frame(self.plans, self.schedule, Code(builder, self.dtype), arguments, unpacked)
                write = self._write_forward if name == "forward" else self._write_backward
                return write(context, frame, name)

            return types.float64(given), generate

        cell = self.cell
        roles = (dict(cell.parameters), dict(cell.axes), cell.inputs, cell.states, cell.outputs)
        whole = (name, roles, self.schedule.described(), str(self.dtype), self.loss, self.at, self.classes, self.full)
        return compiled_function(body, kinds, repr(whole))

    def _write_forward(self, context: Any, frame: Frame, name: str) -> Any:
        passes, code = Passes(frame, observe=self.loss is None), frame.code
        stages = ("before", "loop", "late") if self.loss is None else ("before", "loop")
        frame.allocate(context, passes.applies(*stages), ring=True, gradients=False)
        passes.begin()
        given = frame.array("tape")
        kept = given.shape[0].is_(">", 0)
        tape = code.choose(kept, given.place, frame.region["ring"])
        passes.forward(tape, kept)
        passes.end(tape, kept)
        frame.release(context)
        return ir.Constant(ir.DoubleType(), 0.0)

    def _write_backward(self, context: Any, frame: Frame, name: str) -> Any:
        assert self.loss is not None
        passes, both = Passes(frame, observe=self.full), name == "both"
        stages = ("late", "after", "reverse", "inputs", *(("before", "loop") if both else ()))
        frame.allocate(context, passes.applies(*stages), ring=False, gradients=True)
        passes.begin()
        tape = frame.array("tape").place
        if both:
            passes.forward(tape, ir.Constant(ir.IntType(1), 1))
        losses = Losses(frame, self.loss, self.at, self.classes)
        passes.backward(tape, losses)
        frame.release(context)
        return losses.value()
