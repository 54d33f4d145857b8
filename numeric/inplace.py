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
from numeric.emit import Ref, Routine, Stack, emit
from numeric.graph import AFTER, BEFORE, CONST, D_AFTER, D_BEFORE, D_LOOP, LOOP, Graph, Op
from numeric.storage import Buffer, Storage

__all__ = ["Bound", "Compiled", "Tape", "Workspace"]

_CHUNK = 1 << 18  # bytes of the widest buffer in a stretch of rows: the working set stays in the second-level cache
_COPY = 64  # rows from which a transposed copy of a matrix pays

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
    """The blocks of a pass, for any sizes."""

    def __init__(self, graph: Graph, dtype: np.dtype[Any], *, fused: bool = False) -> None:
        self.graph, self.dtype, self.fused = graph, dtype, fused
        kernels = str(dtype) if fused else None
        self.storage = storage = Storage(graph)
        self.const = emit(storage, [CONST])
        self.forward = emit(storage, [BEFORE, LOOP], kernels)
        self.after = emit(storage, [AFTER], kernels)
        self.reverse = emit(storage, [D_AFTER, D_LOOP, D_BEFORE], kernels)
        self.outers = tuple(self._outers())
        self.rows = tuple(self._rows())
        self.lives = self._lives()

    def _lives(self) -> dict[int, tuple[int, int]]:
        """When slabs are needed, without those that a compiled kernel keeps to itself."""
        storage, lives = self.storage, self.storage.lives()
        used = {ref.buffer for r in (self.forward, self.after, self.reverse) for _, _, ref in r.refs}
        used |= {storage.place[op].buffer for op in self.graph.wanted if op in storage.place}
        return {b.index: lives[b.index] for b in used if b.index in lives}

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
    new arrays.  ``lent`` is room of another workspace that may be used here: nothing stays in it.
    """

    def __init__(
        self, compiled: Compiled, sizes: Mapping[str, int], rows: int, batch: int, lent: Sequence[Array] = ()
    ) -> None:
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
        self._slabs(rows, lent)
        self.ones = np.ones(rows, self.dtype)
        self.scratch: dict[int, Array] = {}
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
        return np.zeros(rows * self.widths[buffer.index][-1], self.dtype)

    def _slabs(self, rows: int, lent: Sequence[Array]) -> None:
        """Room for slabs that are no tape: one after the other in the same, where their times allow that."""
        buffers = {b.index: b for b in self.compiled.storage.buffers}
        self.slabs = [(x, -1) for x in lent]  # and the turn from which on they are free
        for index, (first, last) in sorted(self.compiled.lives.items(), key=lambda item: item[1]):
            need = rows * self.widths[index][-1]
            fits = [k for k, (x, free) in enumerate(self.slabs) if free < first and x.size >= need]
            k = min(fits, key=lambda k: self.slabs[k][0].size, default=len(self.slabs))
            room = self.slabs[k][0] if fits else self.room(buffers[index], rows)
            self.slabs[k : k + 1] = [(room, last)]
            self.work[index] = room

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
        return self.compiled.storage.tape_bytes(self.sizes, self.dtype.itemsize, rows, ends)

    def _width(self, ref: Ref) -> int:
        edges = self.widths[ref.buffer.index]
        return edges[ref.stop] - edges[ref.start]

    def _sum_shapes(self) -> list[tuple[int, int]]:
        return [(self.size(o.operand.axis), self._width(o.d)) for o in self.compiled.outers]

    def _scratch(self, ref: Ref, rows: int) -> Array:
        """Room like some members of a buffer, shared by all that need such room for a moment."""
        width = self._width(ref)
        if self.scratch.get(width, np.empty(0)).size < rows * width:
            self.scratch[width] = np.empty(rows * width, self.dtype)
        return self.scratch[width][: rows * width].reshape(rows, width)

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
                if not more and (not transposed or self.rows < _COPY):
                    self.direct[stack] = matrix, transposed
                elif stack not in self.stacks:
                    sides = [tuple(map(self.size, shapes[m][::-1] if t else shapes[m])) for m, t in stack.parts]
                    total = sum(side[stack.side] for side in sides)
                    shape = (sides[0][0], total) if stack.side else (total, sides[0][1])
                    self.stacks[stack] = np.empty(shape, self.dtype)

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
                room[(slice(None), slice(start, stop)) if stack.side else slice(start, stop)] = w
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
                out[name] = value.copy()

        for outer, (total, _) in zip(self.compiled.outers, self.sums, strict=True):
            edges = self.widths[outer.d.buffer.index]
            for matrix, k, transposed in outer.parts:
                begin = edges[outer.d.start]
                part = total[:, edges[outer.d.start + k] - begin : edges[outer.d.start + k + 1] - begin]
                put(matrix, part if transposed else part.T)
        for rows, (sums, _) in zip(self.compiled.rows, self.row_sums, strict=True):
            edges = self.widths[rows.terms.buffer.index]
            for k, name in enumerate(rows.parameters):
                begin = edges[rows.terms.start]
                part = sums[edges[rows.terms.start + k] - begin : edges[rows.terms.start + k + 1] - begin]
                put(name, part if self.params[name].ndim else np.asarray(part.sum()))
        names = self.compiled.graph.cell.parameters
        return {name: out[name] if name in out else np.zeros_like(self.params[name]) for name in names}


class Bound:
    """The blocks of a segment with ``steps`` steps of ``batch`` sequences over a tape."""

    def __init__(self, workspace: Workspace, tape: Tape, steps: int, batch: int) -> None:
        self.workspace, self.steps, self.batch, self.rows = workspace, steps, batch, steps * batch
        self.flat = workspace.work | tape
        self.flat_steps = batch == 1 and not workspace.compiled.fused  # then a step is a vector
        compiled = workspace.compiled
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

    # ------------------------------------------------------------------------------------------------------------ views

    def value(self, op: Op) -> Array:
        """A value at every row, (steps * batch, size)."""
        return self._rows(self.workspace.compiled.place(op))

    def _operand(self, op: Op) -> Array | str:
        return str(op.data) if op.kind == "input" else self.value(op)

    def _rows(self, ref: Ref) -> Array:
        if ref.buffer.kind == "const":
            return self.workspace.constant(ref)
        flat, edges = self.flat[ref.buffer.index], self.workspace.widths[ref.buffer.index]
        width = edges[-1]
        start = self.batch if ref.buffer.kind == "state" and ref.shift else 0
        whole = flat[start * width : (start + self.rows) * width].reshape(self.rows, width)
        return whole[:, edges[ref.start] : edges[ref.stop]]

    def _state(self, buffer: Buffer) -> tuple[Array, Array]:
        width = self.workspace.widths[buffer.index][-1]
        flat, n = self.flat[buffer.index], self.batch * width
        first, last = flat[:n], flat[self.rows * width : self.rows * width + n]
        return first.reshape(self.batch, width), last.reshape(self.batch, width)

    def _carry(self, buffer: Buffer, which: int) -> Array:
        width = self.workspace.widths[buffer.index][-1]
        flat, start = self.flat[buffer.index], which * self.workspace.batch * width
        part = flat[start : start + self.batch * width]
        return part if self.flat_steps else part.reshape(self.batch, width)

    def _form(self, x: Array, ref: Ref) -> Array:
        """Give lanes, the last axis but one, to ``x``."""
        if ref.form == "flat":
            return x
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
        if kind in ("whole", "chunks"):
            if ref.source == "scratch":
                most = self.rows if kind == "whole" else max(c.stop - c.start for c in chunks)
                room = self.workspace._scratch(ref, most)
                return (
                    self._form(room, ref)
                    if kind == "whole"
                    else [self._form(room[: c.stop - c.start], ref) for c in chunks]
                )
            rows = self._rows(ref)
            return rows if kind == "whole" else [self._form(rows[c], ref) for c in chunks]
        return self._steps(ref, kind)

    def _steps(self, ref: Ref, kind: str) -> Any:
        """The view of one step, or the views of all of them, in the order of the loop; without batch axis for one."""
        edges = self.workspace.widths[ref.buffer.index]
        lead = () if self.flat_steps else (self.batch,)
        part = slice(edges[ref.start], edges[ref.stop])
        if ref.source == "scratch":
            return self._form(self.workspace._scratch(ref, self.batch).reshape(*lead, -1), ref)
        if ref.buffer.kind == "step":
            flat = self.flat[ref.buffer.index][: self.batch * edges[-1]]
            return self._form(flat.reshape(*lead, edges[-1])[..., part], ref)
        start = self.batch * edges[-1] if ref.buffer.kind == "state" and ref.shift else 0
        flat = self.flat[ref.buffer.index][start : start + self.rows * edges[-1]]
        views = list(self._form(flat.reshape(self.steps, *lead, edges[-1])[..., part], ref))
        return views[::-1] if kind == "back" else views

    # -------------------------------------------------------------------------------------------------------------- run

    def run(self, bound: tuple[Routine, list[Any]], inputs: Mapping[str, Array]) -> None:
        """Run a routine; what the recursion carries is left in the first of its two arrays."""
        routine, arrays = bound
        workspace = self.workspace
        matrices = [workspace.matrix(stack) for stack in routine.stacks]
        sizes = [workspace.sizes[letter] for letter in routine.sizes]
        carried = routine.run((*arrays, *matrices, *map(inputs.get, routine.inputs), *sizes))
        if carried:
            for name, array in zip(routine.carried, carried, strict=True):
                if array is not self.carries[name][0]:
                    self.carries[name][0][...] = array

    def add(self, inputs: Mapping[str, Array]) -> None:
        """Add this segment's sums."""
        workspace = self.workspace
        first = workspace.empty
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
