"""A compiled pass bound to arrays: buffers, views into them, and the sums over time and sequences.

Compiled     a cell's pass for one kind of loss, without sizes: blocks of calls
Workspace    the same with sizes: parameters side by side, buffers, gradients as they add up
Bound        a segment of s steps with b sequences: every view that its blocks use, made once
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from numeric.arguments import Array
from numeric.columns import ColumnSums, all_steps, one_step
from numeric.emit import BLOCK_ROWS, Ref, Routine, Stack, emit
from numeric.graph import AFTER, BEFORE, CONST, D_AFTER, D_BEFORE, D_LOOP, LOOP, Graph, Op
from numeric.storage import Buffer, Storage
from numeric.turned import copy_turned

__all__ = ["Bound", "Compiled", "Tape", "Workspace"]

_CHUNK = 1 << 18  # bytes of the widest buffer in a stretch of rows: the working set stays in the second-level cache
_COPY = 64  # rows from which a transposed copy of a matrix pays
_TURN = 1 << 20  # entries of a matrix from which it pays where steps are kept in columns

_LINE = 64  # bytes of a cache line

Tape = dict[int, Array]


@dataclass(frozen=True)
class _Outer:
    """Sums of d r.T for neighbours d: ``d`` is where they stand, ``parts`` the matrices, by position."""

    operand: Op
    d: Ref
    parts: tuple[tuple[str, int, bool], ...]


@dataclass(frozen=True)
class _Rows:
    """Sums of rows of neighbours."""

    terms: Ref
    parameters: tuple[str, ...]


class Compiled:
    """The blocks of a pass, for any sizes; ``columns`` says how steps are kept, as :mod:`numeric.columns` says."""

    def __init__(self, graph: Graph, dtype: np.dtype[Any], *, fused: bool = False, columns: bool = False) -> None:
        self.graph, self.dtype, self.fused, self.columns = graph, dtype, fused, columns
        kernels = str(dtype) if fused else None
        self.storage = storage = Storage(graph, columns=columns)
        self.const = emit(storage, [CONST])
        self.forward = emit(storage, [BEFORE, LOOP], kernels)
        self.after = emit(storage, [AFTER], kernels)
        self.reverse = emit(storage, [D_AFTER, D_LOOP, D_BEFORE], kernels)
        self.outers = tuple(self._outers())
        self.rows = tuple(self._rows())

    def place(self, op: Op) -> Ref:
        """Where one value stands."""
        if op.kind == "previous":
            return Ref(self.storage.states[str(op.data)], 0, 1, shift=0)
        place = self.storage.place[op]
        return Ref(place.buffer, place.at, place.at + 1)

    def _neighbours(self, ops: Sequence[Op]) -> list[list[Op]]:
        """Different values, in runs that stand side by side."""
        place = self.storage.place
        runs: list[list[Op]] = []
        for op in sorted(dict.fromkeys(ops), key=lambda op: (place[op].buffer.index, place[op].at)):
            last = place[runs[-1][-1]] if runs else None
            if last is not None and (last.buffer, last.at + 1) == (place[op].buffer, place[op].at):
                runs[-1].append(op)
            else:
                runs.append([op])
        return runs

    def _span(self, run: Sequence[Op]) -> Ref:
        first = self.storage.place[run[0]]
        return Ref(first.buffer, first.at, first.at + len(run))

    def _outers(self) -> list[_Outer]:
        by_operand: dict[Op, list[Any]] = {}
        for term in self.graph.outer_sums:
            by_operand.setdefault(term.operand, []).append(term)
        out = []
        for operand, terms in by_operand.items():
            for run in self._neighbours([term.d for term in terms]):
                parts = tuple((t.matrix, run.index(t.d), t.transposed) for t in terms if t.d in run)
                out.append(_Outer(operand, self._span(run), parts))
        return out

    def _rows(self) -> list[_Rows]:
        terms = self.graph.row_sums
        out = []
        left = list(terms)
        while left:  # a value that several parameters sum enters several times
            taken = {term.term: term for term in reversed(left)}
            for run in self._neighbours(list(taken)):
                out.append(_Rows(self._span(run), tuple(taken[op].parameter for op in run)))
            left = [term for term in left if taken[term.term] is not term]
        return out


class Workspace:
    """Buffers for segments of at most ``rows`` = steps times sequences and ``batch`` sequences.

    One thread at a time may use it.  ``load`` takes a call's parameters; segments add to the sums; ``gradients`` gives
    new arrays.
    """

    def __init__(self, compiled: Compiled, sizes: Mapping[str, int], rows: int, batch: int) -> None:
        self.compiled, self.sizes, self.dtype = compiled, sizes, compiled.dtype
        self.rows, self.batch = rows, batch
        self.widths = {b.index: [0, *accumulate(self.size(a) for a in b.axes)] for b in compiled.storage.buffers}
        self.const: dict[int, Array] = {}
        self.loads: list[tuple[str, Array]] = []
        self._constants()
        self.stacks: dict[Stack, Array] = {}
        self.direct: dict[Stack, tuple[str, bool]] = {}
        self._stacks()
        storage = compiled.storage
        batch_of = {b.index: 2 if b.kind == "carry" else 1 for b in storage.buffers}
        self.work: Tape = {
            b.index: self.room(b, batch * batch_of[b.index]) for b in storage.buffers if b.kind in ("step", "carry")
        }
        self.work |= {b.index: self.room(b, rows) for b in storage.buffers if b.kind == "slab" and not b.tape}
        self.ones = np.ones(rows, self.dtype)
        self.scratch: dict[int, Array] = {}
        self.rooms: dict[str, Array] = {}
        self.carried = 0  # sequences of the step that what is carried comes from
        self.sums: list[tuple[Array, Array]] = [
            (np.empty(shape, self.dtype), np.empty(shape, self.dtype)) for shape in self._sum_shapes()
        ]
        self.row_sums = [
            (np.empty(width, self.dtype), np.empty(width, self.dtype))
            for width in map(self._width, (r.terms for r in compiled.rows))
        ]
        self.empty = True
        self.params: Mapping[str, Array] = {}
        self.const_arrays = [
            np.empty_like(self.constant(ref)) if ref.source == "scratch" else self.constant(ref)
            for _, _, ref in compiled.const.refs
        ]

    # ------------------------------------------------------------------------------------------------------------- room

    def size(self, axis: str | None) -> int:
        """The length of a vector, 1 for a scalar."""
        return 1 if axis is None else self.sizes[axis]

    def room(self, buffer: Buffer, rows: int) -> Array:
        """Memory for that many rows of a buffer."""
        return _aligned(rows * self.widths[buffer.index][-1], self.dtype)

    def pool(self, rows: int, ends: int) -> Tape:
        """Memory for what forward passes leave: of ``rows`` rows, and ``ends`` more for the states before segments."""
        storage = self.compiled.storage
        out = {b.index: self.room(b, rows + ends) for b in storage.buffers if b.kind == "state"}
        return out | {b.index: self.room(b, rows) for b in storage.buffers if b.tape}

    def part(self, pool: Tape, row: int, end: int, rows: int, batch: int) -> Tape:
        """A segment's part of a pool, behind ``row`` rows and ``end`` states of other segments."""
        out = {}
        for b in (b for b in self.compiled.storage.buffers if b.index in pool):
            state, width = b.kind == "state", self.widths[b.index][-1]
            start = (row + end if state else row) * width
            out[b.index] = pool[b.index][start : start + (rows + batch if state else rows) * width]
        return out

    def pool_bytes(self, rows: int, ends: int) -> int:
        """What :meth:`pool` takes."""
        buffers = self.compiled.storage.buffers
        states = sum(self.widths[b.index][-1] for b in buffers if b.kind == "state")
        tape = sum(self.widths[b.index][-1] for b in buffers if b.tape)
        return self.dtype.itemsize * ((rows + ends) * states + rows * tape)

    def _width(self, ref: Ref) -> int:
        edges = self.widths[ref.buffer.index]
        return edges[ref.stop] - edges[ref.start]

    def _sum_shapes(self) -> list[tuple[int, int]]:
        shapes = [(self.size(o.operand.axis), self._width(o.d)) for o in self.compiled.outers]
        return [(d, r) for r, d in shapes] if self.compiled.columns else shapes

    def _scratch(self, ref: Ref, rows: int) -> Array:
        """Room like some members of a buffer, shared by all that need such room for a moment."""
        width = self._width(ref)
        if self.scratch.get(width, np.empty(0)).size < rows * width:
            self.scratch[width] = np.empty(rows * width, self.dtype)
        return self.scratch[width][: rows * width].reshape(rows, width)

    def column_room(self, purpose: str, size: int) -> Array:
        """Room for what is copied for a moment."""
        if self.rooms.get(purpose, np.empty(0)).size < size:
            self.rooms[purpose] = _aligned(size, self.dtype)
        return self.rooms[purpose][:size]

    # ------------------------------------------------------------------------------------------------------- parameters

    def _constants(self) -> None:
        storage = self.compiled.storage
        for b in storage.buffers:
            if b.kind == "const":
                self.const[b.index] = np.zeros(() if b.axes == (None,) else self.widths[b.index][-1], self.dtype)
        for op, place in storage.place.items():
            if op.kind in ("vector", "scalar"):
                self.loads.append((str(op.data), self._member(place.buffer, place.at)))
            elif op.kind == "number":
                self.const[place.buffer.index][...] = op.data

    def _member(self, buffer: Buffer, k: int) -> Array:
        whole, edges = self.const[buffer.index], self.widths[buffer.index]
        return whole if whole.ndim == 0 else whole[edges[k] : edges[k + 1]]

    def _stacks(self) -> None:
        shapes = self.compiled.graph.cell.parameters
        c = self.compiled
        for routine in (c.const, c.forward, c.after, c.reverse):
            for stack in routine.stacks:
                (matrix, transposed), *more = stack.parts
                if not more and self._as_it_is(matrix, transposed):
                    self.direct[stack] = matrix, transposed
                elif stack not in self.stacks:
                    sides = [tuple(map(self.size, shapes[m][::-1] if t else shapes[m])) for m, t in stack.parts]
                    total = sum(side[stack.side] for side in sides)
                    shape = (sides[0][0], total) if stack.side else (total, sides[0][1])
                    turned = c.columns and (stack.side == 1 or total * sides[0][1 - stack.side] >= _TURN)
                    self.stacks[stack] = np.empty(shape, self.dtype, order="F" if turned else "C")

    def _as_it_is(self, matrix: str, transposed: bool) -> bool:
        """Whether a matrix is used where the caller has it."""
        if self.compiled.columns:
            rows, columns = map(self.size, self.compiled.graph.cell.parameters[matrix])
            return transposed or rows * columns < _TURN
        return not transposed or self.rows < _COPY

    def load(self, params: Mapping[str, Array]) -> None:
        """Take a call's parameters; the sums start anew."""
        self.params, self.empty = params, True
        for name, room in self.loads:
            room[...] = params[name]
        for stack, room in self.stacks.items():
            start = 0
            for matrix, transposed in stack.parts:
                w = params[matrix].T if transposed else params[matrix]
                stop = start + w.shape[stack.side]
                copy_turned(w, room[(slice(None), slice(start, stop)) if stack.side else slice(start, stop)])
                start = stop
        const = self.compiled.const
        if const.refs:
            const.run((*self.const_arrays, *map(self.matrix, const.stacks)))

    def matrix(self, stack: Stack) -> Array:
        """One of them."""
        if stack in self.direct:
            name, transposed = self.direct[stack]
            return self.params[name].T if transposed else self.params[name]
        return self.stacks[stack]

    def constant(self, ref: Ref) -> Array:
        """A view of what is no vector of any step."""
        whole, edges = self.const[ref.buffer.index], self.widths[ref.buffer.index]
        if whole.ndim == 0:
            return whole
        part = whole[edges[ref.start] : edges[ref.stop]]
        return part.reshape(ref.stop - ref.start, -1) if ref.form == "lanes" else part

    # ------------------------------------------------------------------------------------------------------------- sums

    def gradients(self) -> dict[str, Array]:
        """The sums as gradients of the parameters, in arrays of their own."""
        out: dict[str, Array] = {}

        def put(name: str, value: Array) -> None:
            if name in out:
                out[name] += value
            else:
                out[name] = np.empty(value.shape, value.dtype)
                copy_turned(value, out[name])

        for outer, (total, _) in zip(self.compiled.outers, self.sums, strict=True):
            edges = self.widths[outer.d.buffer.index]
            for matrix, k, transposed in outer.parts:
                begin = edges[outer.d.start]
                own = slice(edges[outer.d.start + k] - begin, edges[outer.d.start + k + 1] - begin)
                part = total[own].T if self.compiled.columns else total[:, own]
                put(matrix, part if transposed else part.T)
        for rows, (sums, _) in zip(self.compiled.rows, self.row_sums, strict=True):
            edges = self.widths[rows.terms.buffer.index]
            for k, name in enumerate(rows.parameters):
                begin = edges[rows.terms.start]
                part = sums[edges[rows.terms.start + k] - begin : edges[rows.terms.start + k + 1] - begin]
                put(name, part if self.params[name].ndim else np.asarray(part.sum()))
        names = self.compiled.graph.cell.parameters
        return {name: out[name] if name in out else np.zeros_like(self.params[name]) for name in names}


def _aligned(size: int, dtype: np.dtype[Any]) -> Array:
    """Zeros from the start of a cache line on: a vector register's worth of numbers does not lie across two."""
    room = np.zeros(size + _LINE // dtype.itemsize, dtype)
    first = -room.ctypes.data % _LINE // dtype.itemsize
    return room[first : first + size]


class Bound:
    """The blocks of a segment with ``steps`` steps of ``batch`` sequences over a tape."""

    def __init__(self, workspace: Workspace, tape: Tape, steps: int, batch: int) -> None:
        self.workspace, self.steps, self.batch, self.rows = workspace, steps, batch, steps * batch
        self.flat = workspace.work | tape
        compiled = workspace.compiled
        self.flat_steps = batch == 1 and not (compiled.fused or compiled.columns)  # then a step is a vector
        self.carries = {
            name: (self._carry(buffer, 0), self._carry(buffer, 1)) for name, buffer in compiled.storage.carries.items()
        }
        self.forward, self.after, self.reverse = map(self._bind, (compiled.forward, compiled.after, compiled.reverse))
        self.states = {name: self._state(buffer) for name, buffer in compiled.storage.states.items()}
        graph = compiled.graph
        # an output that nothing asked for may have room for one step only, or none
        wanted = {n: op for n, op in graph.outputs.items() if op in graph.wanted}
        self.outputs = {n: self.value(op) for n, op in wanted.items()}
        self.outputs |= {n: self.value(op) for n, op in graph.states.items()}
        self.locals = {str(op.data): self.value(op) for op in graph.live if op.kind == "local"}
        self.d_states = {n: self.value(op) for n, op in graph.d_states.items()} if graph.want_states else {}
        self.d_inputs = {n: self.value(op) for n, op in graph.d_inputs.items()}
        self.outers = [(self._operand(o.operand), self._rows(o.d)) for o in compiled.outers]
        self.sums = [self._rows(r.terms) for r in compiled.rows]
        self.column_sums = ColumnSums(self) if compiled.columns else None

    # ------------------------------------------------------------------------------------------------------------ views

    def value(self, op: Op) -> Array:
        """A value at every row, (steps * batch, size); (steps, batch, size) where it is kept in columns."""
        return self._rows(self.workspace.compiled.place(op))

    def _operand(self, op: Op) -> Array | str:
        return str(op.data) if op.kind == "input" else self.value(op)

    def _rows(self, ref: Ref) -> Array:
        if ref.buffer.kind == "const":
            return self.workspace.constant(ref)
        flat, edges = self.flat[ref.buffer.index], self.workspace.widths[ref.buffer.index]
        width = edges[-1]
        start = self.batch if ref.buffer.kind == "state" and ref.shift else 0
        flat = flat[start * width : (start + self.rows) * width]
        columns = ref.buffer.columns
        whole = all_steps(flat, self.steps, self.batch, width) if columns else flat.reshape(self.rows, width)
        return whole[..., edges[ref.start] : edges[ref.stop]]

    def _state(self, buffer: Buffer) -> tuple[Array, Array]:
        width = self.workspace.widths[buffer.index][-1]
        flat, n = self.flat[buffer.index], self.batch * width
        first, last = flat[:n], flat[self.rows * width : self.rows * width + n]
        if buffer.columns:
            return one_step(first, self.batch, width), one_step(last, self.batch, width)
        return first.reshape(self.batch, width), last.reshape(self.batch, width)

    def _carry(self, buffer: Buffer, which: int) -> Array:
        width = self.workspace.widths[buffer.index][-1]
        flat, start = self.flat[buffer.index], which * self.workspace.batch * width
        part = flat[start : start + self.batch * width]
        if buffer.columns:
            return one_step(part, self.batch, width)
        return part if self.flat_steps else part.reshape(self.batch, width)

    def _form(self, x: Array, ref: Ref) -> Array:
        """Give lanes, the last axis but one, to ``x``, or steps."""
        if ref.form == "flat":
            return x
        if ref.form == "stepped":
            return x.reshape(self.steps, self.batch, -1)
        if ref.form == "shared":
            return x[..., None, :]
        lanes = ref.stop - ref.start
        return x.reshape(*x.shape[:-1], lanes, x.shape[-1] // lanes)

    def _bind(self, routine: Routine) -> tuple[Routine, list[Any]]:
        widest: dict[int, int] = {}
        for _, block, ref in routine.refs:
            widest[block] = max(widest.get(block, 1), self.workspace.widths[ref.buffer.index][-1])
        chunks = {block: self._chunks(width) for block, width in widest.items()}
        return routine, [self._array(ref, kind, chunks[block]) for kind, block, ref in routine.refs]

    def _chunks(self, widest: int) -> list[slice]:
        n = max(16, _CHUNK // (widest * self.workspace.dtype.itemsize))
        return [slice(k, min(k + n, self.rows)) for k in range(0, self.rows, n)]

    def _array(self, ref: Ref, kind: str, chunks: Sequence[slice]) -> Any:
        if ref.source in ("old", "new"):
            return self._form(self.carries[ref.buffer.name][ref.source == "new"], ref)
        if ref.buffer.kind == "const":
            return self.workspace.constant(ref)
        if ref.source == "block":
            width = self.workspace._width(ref)
            return self.workspace.column_room(f"block {width}", width * max(BLOCK_ROWS, self.batch))
        if kind in ("whole", "chunks"):
            if ref.source == "scratch":
                most = self.rows if kind == "whole" else max(c.stop - c.start for c in chunks)
                room = self.workspace._scratch(ref, most)
                if ref.buffer.columns:
                    return all_steps(room.reshape(-1), self.steps, self.batch, room.shape[1])
                return (
                    self._form(room, ref)
                    if kind == "whole"
                    else [self._form(room[: c.stop - c.start], ref) for c in chunks]
                )
            rows = self._rows(ref)
            return self._form(rows, ref) if kind == "whole" else [self._form(rows[c], ref) for c in chunks]
        return self._steps(ref, kind)

    def _steps(self, ref: Ref, kind: str) -> Any:
        """The view of one step, or the views of all of them, in the order of the loop; without batch axis for one."""
        edges = self.workspace.widths[ref.buffer.index]
        lead = () if self.flat_steps else (self.batch,)
        part = slice(edges[ref.start], edges[ref.stop])
        if ref.buffer.columns:
            return self._columns(ref, kind)
        if ref.source == "scratch":
            return self._form(self.workspace._scratch(ref, self.batch).reshape(*lead, -1), ref)
        if ref.buffer.kind == "step":
            flat = self.flat[ref.buffer.index][: self.batch * edges[-1]]
            return self._form(flat.reshape(*lead, edges[-1])[..., part], ref)
        start = self.batch * edges[-1] if ref.buffer.kind == "state" and ref.shift else 0
        flat = self.flat[ref.buffer.index][start : start + self.rows * edges[-1]]
        views = list(self._form(flat.reshape(self.steps, *lead, edges[-1])[..., part], ref))
        return views[::-1] if kind == "back" else views

    def _columns(self, ref: Ref, kind: str) -> Any:
        """The same of steps that are kept in columns."""
        edges = self.workspace.widths[ref.buffer.index]
        part = slice(edges[ref.start], edges[ref.stop])
        if ref.source == "scratch":
            room = self.workspace._scratch(ref, self.batch)
            return self._form(one_step(room.reshape(-1), self.batch, room.shape[1]), ref)
        flat = self.flat[ref.buffer.index]
        if ref.buffer.kind == "step":
            return self._form(one_step(flat, self.batch, edges[-1])[:, part], ref)
        start = self.batch * edges[-1] if ref.buffer.kind == "state" and ref.shift else 0
        views = list(self._form(all_steps(flat[start:], self.steps, self.batch, edges[-1])[..., part], ref))
        return views[::-1] if kind == "back" else views

    # -------------------------------------------------------------------------------------------------------------- run

    def run(self, bound: tuple[Routine, list[Any]], inputs: Mapping[str, Array]) -> None:
        """Run a routine; what the recursion carries is left in the first of its two arrays."""
        routine, arrays = bound
        workspace = self.workspace
        matrices = [workspace.matrix(stack) for stack in routine.stacks]
        sizes = [workspace.sizes[letter] for letter in routine.sizes]
        given = [
            inputs[n].reshape(self.steps, self.batch, -1) if stepped else inputs[n] for n, stepped in routine.inputs
        ]
        carried = routine.run((*arrays, *matrices, *given, *sizes))
        if carried:
            for name, array in zip(routine.carried, carried, strict=True):
                if array is not self.carries[name][0]:
                    self.carries[name][0][...] = array

    def take_carried(self) -> None:
        """Go on with what a later segment, of fewer sequences perhaps, has carried: the others are carried nothing."""
        workspace = self.workspace
        if workspace.compiled.columns and workspace.carried != self.batch:
            for name, buffer in workspace.compiled.storage.carries.items():
                flat, (old, _) = workspace.work[buffer.index], self.carries[name]
                before = one_step(flat, workspace.carried, old.shape[1]).copy()
                old[...] = 0
                old[: len(before)] = before
        workspace.carried = self.batch

    def add(self, inputs: Mapping[str, Array]) -> None:
        """Add this segment's sums."""
        workspace = self.workspace
        first = workspace.empty
        if self.column_sums is not None:
            self.column_sums.add(inputs, 0 if first else 1)
            for total, part in (*workspace.sums, *workspace.row_sums) if not first else ():
                np.add(total, part, total)
            workspace.empty = False
            return
        for (operand, d), (total, part) in zip(self.outers, workspace.sums, strict=True):
            r = inputs[operand] if isinstance(operand, str) else operand
            target = total if first else part
            if r.ndim == 1:  # the same at every step
                np.multiply(r[:, None], d.sum(axis=0)[None, :], out=target)
            elif d.flags.c_contiguous:
                r.T.dot(d, target)
            else:
                np.matmul(r.T, d, target)  # dot would copy a part of a buffer
            if not first:
                np.add(total, part, total)
        ones = workspace.ones[: self.rows]
        for rows, (total, part) in zip(self.sums, workspace.row_sums, strict=True):
            target = total if first else part
            if rows.flags.c_contiguous:
                ones.dot(rows, target)
            else:
                np.matmul(ones, rows, target)
            if not first:
                np.add(total, part, total)
        workspace.empty = False
