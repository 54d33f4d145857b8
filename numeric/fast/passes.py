"""The two passes over a segment of time, written as one function: forwards, the loss, backwards, the sums."""

from __future__ import annotations

from typing import Any

from sympy import Symbol

from derive.notation import at
from numeric.fast.code import Int, Place
from numeric.fast.entrywise import sum_rows, write_entrywise
from numeric.fast.frame import Frame
from numeric.fast.losses import Losses
from numeric.fast.products import product
from numeric.fast.rows import Steps
from numeric.fast.scaling import Scaling
from numeric.fast.vector import Vec
from numeric.fast.work import Apply, Op, Outers
from numeric.operations import carried_of, d_of

__all__ = ["Passes"]

_FLUSH = 64  # chunks between additions to the gradients: sums of sums lose fewer digits


class Passes:
    """Writes passes into a frame; ``observe``: what is wanted at every step is written into arrays."""

    def __init__(self, frame: Frame, *, observe: bool) -> None:
        self.frame, self.code, self.observe = frame, frame.code, observe
        self.stages = frame.schedule.stages
        self.steps = frame.last - frame.first
        outers, sums = len(frame.schedule.outers), len(frame.schedule.sums)
        self.sums = [*(("outers", i) for i in range(outers)), *(("sum", i) for i in range(sums))]
        self.scaling: Scaling | None = None
        self.chunks = (self.steps + frame.chunk - 1) // frame.chunk
        self.row_block = frame.batch * frame.width["tape"]

    def applies(self, *names: str) -> list[Apply]:
        """The products of some stages."""
        return [op for name in names for op in self.stages.get(name, ()) if isinstance(op, Apply)]

    # ----------------------------------------------------------------------------------------------------- operations

    def write(self, name: str, steps: Steps) -> None:
        """All operations of a stage."""
        for op in self.stages.get(name, ()):
            self.operation(op, steps)

    def operation(self, op: Op, steps: Steps) -> None:
        """One operation over all rows of some steps."""
        if isinstance(op, Apply):
            self.apply(op, steps)
        else:
            write_entrywise(self.frame, op, steps)

    def apply(self, op: Apply, steps: Steps) -> None:
        """Products with one operand, as few as the places of the results allow."""
        frame, code = self.frame, self.code
        packed, stride = frame.region["matrices", op.matrices], frame.extent(op.results)
        terms = frame.operand_size(op)
        for start, stop in frame.runs(op.results):
            results = op.results[start:stop]
            to, width = frame.base(steps, results[0]), frame.width[frame.space[results[0]]]
            right, vectors = packed + frame.extent(op.results[:start]), frame.extent(results) // code.lanes

            def write(
                a: Place,
                step: Int,
                first: Int,
                rows: Int,
                to: Place = to,
                width: Int = width,
                right: Place = right,
                vectors: Int = vectors,
            ) -> None:
                sizes = (rows, terms, vectors)
                product(code, to + first * width, width, a, step, code.int(1), right, stride, sizes, op.adds)

            frame.spans(steps, op.operand, write)

    def outer(self, i: int, outers: Outers, steps: Steps) -> None:
        """Sums of outer products over rows."""
        frame, code = self.frame, self.code
        into, stride = frame.region["outers", i], frame.extent(outers.sources)
        terms = frame.size[frame.axis(outers.operand)]
        for start, stop in frame.runs(outers.sources):
            sources = outers.sources[start:stop]
            ds, width = frame.base(steps, sources[0]), frame.width[frame.space[sources[0]]]
            to, vectors = into + frame.extent(outers.sources[:start]), frame.extent(sources) // code.lanes

            def write(
                a: Place,
                step: Int,
                first: Int,
                rows: Int,
                to: Place = to,
                ds: Place = ds,
                width: Int = width,
                vectors: Int = vectors,
            ) -> None:
                sizes = (terms, rows, vectors)
                product(code, to, stride, a, code.int(1), step, ds + first * width, width, sizes, True)

            frame.spans(steps, outers.operand, write)

    # -------------------------------------------------------------------------------------------------------- forward

    def begin(self) -> None:
        """The states before the segment, padded."""
        self.exchange("state", "initial", into=True)

    def exchange(self, role: str, region: str, *, into: bool) -> None:
        """Between arrays (B, n) of all states and a block of rows."""
        frame, code = self.frame, self.code
        for name in frame.cell.states:
            symbol = carried_of(at(name)) if region == "carried" else at(name)
            width = frame.width["carried" if region == "carried" else "tape"]
            array, n = frame.array(role, name), frame.size[frame.cell.axes[name]]
            with code.loop(frame.batch) as r:
                for k in frame.blocks(frame.cell.axes[name]):
                    inner = frame.region[region] + r * width + frame.offset[symbol] + k
                    outer, mask = array.place + r * n + k, code.mask(k, n)
                    if into:
                        inner.put(outer.vector_where(mask))
                    else:
                        outer.put_where(mask, inner.vector())

    def chunk(self, t: Int, tape: Place, previous: Place) -> Steps:
        """The steps of a chunk that begins at step t."""
        left = self.frame.last - t
        count = self.code.choose(left.is_("<", self.frame.chunk), left, self.frame.chunk)
        return Steps(t, count, tape, previous, self.frame.region["scratch"])

    def forward(self, tape: Place, kept: Any) -> None:
        """All steps; where the tape is not ``kept`` its place is a ring, and ``initial`` ends as the last states."""
        frame, code = self.frame, self.code
        with code.loop(self.chunks) as c:
            done = c * frame.chunk
            here = tape + code.choose(kept, done, 0) * self.row_block
            at_start = c.is_("==", 0)
            fresh = code.builder.or_(at_start, code.builder.not_(kept))
            before = code.choose(fresh, frame.region["initial"], here + (code.int(0) - self.row_block))
            chunk = self.chunk(frame.first + done, here, before)
            self.write("before", chunk)
            with code.loop(chunk.count) as i:
                one = frame.step(chunk, i)
                self.write("loop", one)
            if frame.plans.backward is None:
                self.write("late", chunk)
                self.write_observed(chunk)
            with code.when(code.builder.not_(kept)):
                end = here + (chunk.count - 1) * self.row_block
                code.copy(frame.region["initial"], end, self.row_block)

    def end(self, tape: Place, kept: Any) -> None:
        """The last states into the caller's arrays."""
        with self.code.when(kept):
            end = tape + (self.steps - 1) * self.row_block
            self.code.copy(self.frame.region["initial"], end, self.row_block)
        self.exchange("state", "initial", into=False)

    def write_observed(self, chunk: Steps) -> None:
        """Outputs and states at each step."""
        for name in (*self.frame.cell.outputs, *self.frame.cell.states):
            self.write_array("seen", name, at(name), chunk)

    def write_array(self, role: str, name: str, symbol: Symbol, chunk: Steps) -> None:
        """A value of each row into the caller's array (T, B, n)."""
        frame, axis = self.frame, self.frame.cell.axes[name]
        array = frame.array(role, name)
        with frame.rows(chunk) as row:
            index = row.steps.t * frame.whole_batch + row.r
            for k in frame.blocks(axis):
                to = array.place + index * frame.size[axis] + k
                value = frame.read(symbol, row, k)
                to.put_where(frame.tail(axis, k), value if role == "seen" else self.true_size(value))

    # ------------------------------------------------------------------------------------------------------- backward

    def backward(self, tape: Place, losses: Losses) -> None:
        """All steps, last first, and the gradients."""
        frame, code = self.frame, self.code
        schedule = frame.schedule
        frame.clear("carried", *self.sums)
        self.exchange("carried", "carried", into=True)
        self.scaling = Scaling(frame, self.flush) if losses.sparse else None
        with code.loop(self.chunks, down=True) as c:
            done = c * frame.chunk
            here = tape + done * self.row_block
            before = code.choose(c.is_("==", 0), frame.region["initial"], here + (code.int(0) - self.row_block))
            chunk = self.chunk(frame.first + done, here, before)
            self.write("late", chunk)
            losses.write(chunk)
            self.write("after", chunk)
            if self.scaling:
                self.scaling.adjust(losses.gives())
            with code.loop(chunk.count, down=True) as k:
                one = frame.step(chunk, k)
                self.write("reverse", one)
                self.carry(one)
            self.write("inputs", chunk)
            for i, outers in enumerate(schedule.outers):
                self.outer(i, outers, chunk)
            for i, total in enumerate(schedule.sums):
                sum_rows(frame, total, ("sum", i), chunk)
            if self.observe:
                self.write_derivatives(chunk)
            with code.when((c % _FLUSH).is_("==", 0)):
                self.flush()
        if self.scaling:
            self.scaling.carried_times(self.scaling.inverse())
        self.exchange("carried", "carried", into=False)

    def carry(self, one: Steps) -> None:
        """What the states receive goes to the step before."""
        frame = self.frame
        others = [name for name in frame.cell.states if name not in frame.schedule.in_place]
        if not others:
            return
        with self.code.loop(frame.batch) as r:
            row = frame.row(one, r, r)
            for name in others:
                back, carried = frame.follow(d_of(at(name, -1))), carried_of(at(name))
                for k in frame.blocks(frame.cell.axes[name]):
                    place, _ = frame.entry(carried, row)
                    value = frame.read(back, row, k) if back in frame.offset else self.code.number(0)
                    (place + k).put(value)

    def write_derivatives(self, chunk: Steps) -> None:
        """What is wanted at each step into the caller's arrays; zero where nothing is received."""
        self.write_observed(chunk)
        cell = self.frame.cell
        for role, names in (("d input", cell.inputs), ("d state", cell.states)):
            for name in names:
                if self.frame.follow(d_of(at(name))) in self.frame.offset:
                    self.write_array(role, name, d_of(at(name)), chunk)

    # ------------------------------------------------------------------------------------------------------ gradients

    def flush(self) -> None:
        """Add the sums so far to the caller's gradients, and begin again."""
        frame = self.frame
        for i, outers in enumerate(frame.schedule.outers):
            column = self.code.int(0)
            for d, (name, transposed) in zip(outers.sources, outers.targets, strict=True):
                self.add_matrix(frame.region["outers", i] + column, frame.extent(outers.sources), name, transposed)
                column = column + frame.wide[frame.axis(d)]
        for i, total in enumerate(frame.schedule.sums):
            self.add_vector(frame.region["sum", i], total.parameter, total.axis, scalar=total.scalar)
        frame.clear(*self.sums)

    def true_size(self, x: Vec) -> Vec:
        """A sum or a derivative of the backward pass, scaled back."""
        return x * self.scaling.inverse() if self.scaling else x

    def add_matrix(self, place: Place, stride: Int, name: str, transposed: bool) -> None:
        """Sums that stand with a row for each entry of the operand."""
        code, array = self.code, self.frame.array("gradient", name)
        rows, columns = array.shape
        letters = self.frame.cell.parameters[name]
        if transposed:
            with code.loop(rows) as j:
                for k in self.frame.blocks(letters[1]):
                    to, mask = array.place + j * columns + k, code.mask(k, columns)
                    to.put_where(mask, to.vector_where(mask) + self.true_size((place + j * stride + k).vector()))
            return
        factor = code.builder.load(self.scaling.room) if self.scaling else None
        with code.loop(rows) as m, code.loop(columns) as j:
            to, term = array.place + m * columns + j, (place + j * stride + m).scalar()
            term = term if factor is None else code.builder.fmul(term, factor)
            to.put_scalar(code.builder.fadd(to.scalar(), term))

    def add_vector(self, place: Place, name: str, axis: str, *, scalar: bool) -> None:
        """The sums of a vector or scalar parameter."""
        code, frame = self.code, self.frame
        array = frame.array("gradient", name)
        for k in frame.blocks(axis):
            mask = frame.tail(axis, k)
            if scalar:
                part = code.total(self.true_size((place + k).vector_where(mask)).value)
                array.place.put_scalar(code.builder.fadd(array.place.scalar(), part))
            else:
                to = array.place + k
                to.put_where(mask, to.vector_where(mask) + self.true_size((place + k).vector()))
