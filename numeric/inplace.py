"""A compiled pass bound to arrays: buffers, views into them, and the sums over time and sequences.

Compiled     a cell's pass for one kind of loss, without sizes: blocks of calls
Workspace    the same with sizes: parameters side by side, buffers, gradients as they add up
Bound        a segment of s steps with b sequences: every view that its blocks use, made once
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
_TURN = 64  # rows from which r.T d is quicker than d.T r, which would need no copy to be a gradient
_LARGE = 1 << 20  # entries of a matrix from which a copy of it pays where steps are kept in columns

_BESIDE = 1 << 14  # entries of a matrix from which its copy is made in blocks
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


@dataclass(frozen=True)
class _Piece:
    """The gradient of ``name``, or what ``more`` of it there is: ``rows`` of the sum number ``total``.

    ``alone`` says that these are all of its rows, and ``turned`` that the sum is kept as its transpose.
    """

    name: str
    total: int
    rows: slice
    transposed: bool
    scalar: bool
    alone: bool
    turned: bool
    more: bool


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


@dataclass(frozen=True)
class _Ready:
    """A routine with its arrays; its matrices, by their numbers in the workspace, are another call's each time."""

    routine: Routine
    arrays: tuple[Any, ...]
    matrices: tuple[int, ...]
    sizes: tuple[int, ...]


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
        self.loads: list[tuple[tuple[str, ...], Array]] = []
        self._constants()
        self.matrices: list[Array] = []
        self.numbers: dict[Stack, int] = {}
        self.stacks: list[tuple[Stack, Array]] = []
        self.direct: list[tuple[int, str, bool]] = []
        self._stacks()
        storage = compiled.storage
        batch_of = {b.index: 2 if b.kind == "carry" else 1 for b in storage.buffers}
        self.work: Tape = {
            b.index: self.room(b, batch * batch_of[b.index]) for b in storage.buffers if b.kind in ("step", "carry")
        }
        self._slabs(rows, lent)
        self.ones = np.ones(rows, self.dtype)
        self.scratch: dict[int, Array] = {}
        self.turned = rows >= _TURN and not compiled.columns
        self.totals: list[Array] = []
        self.addends: list[Array] = []
        self.rooms: Sequence[Array | None] = [None] * (len(compiled.outers) + len(compiled.rows))
        self.pieces = tuple(self._pieces())
        self.copies: dict[str, Array] = {}
        self.carried = 0  # sequences of the step that what is carried comes from
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

    def _pieces(self) -> Iterator[_Piece]:
        """Which rows of which sum are whose gradient."""
        compiled = self.compiled
        sums = [(o.d, o.parts, self.turned) for o in compiled.outers]
        sums += [(r.terms, tuple((p, k, False) for k, p in enumerate(r.parameters)), False) for r in compiled.rows]
        whole = not self.turned  # then what is summed is the gradient itself, and the next call needs new room
        seen: set[str] = set()
        for total, (ref, members, turned) in enumerate(sums):
            edges = self.widths[ref.buffer.index]
            for name, k, transposed in members:
                first, last = (edges[ref.start + i] - edges[ref.start] for i in (k, k + 1))
                alone = whole and last - first == self._width(ref) and len(members) == 1 and not transposed
                scalar = not compiled.graph.cell.parameters[name]
                yield _Piece(name, total, slice(first, last), transposed, scalar, alone, turned, name in seen)
                seen.add(name)

    def sum_shapes(self) -> list[tuple[int, ...]]:
        """The shapes of all sums as gradients: (d, operand), and (d,) for rows."""
        compiled = self.compiled
        outers: list[tuple[int, ...]] = [(self._width(o.d), self.size(o.operand.axis)) for o in compiled.outers]
        return outers + [(self._width(r.terms),) for r in compiled.rows]

    def _scratch(self, ref: Ref, rows: int) -> Array:
        """Room like some members of a buffer, shared by all that need such room for a moment."""
        width = self._width(ref)
        if self.scratch.get(width, np.empty(0)).size < rows * width:
            self.scratch[width] = np.empty(rows * width, self.dtype)
        return self.scratch[width][: rows * width].reshape(rows, width)

    def column_room(self, purpose: str, size: int) -> Array:
        """Room for what is copied for a moment."""
        if self.copies.get(purpose, np.empty(0)).size < size:
            self.copies[purpose] = _aligned(size, self.dtype)
        return self.copies[purpose][:size]

    # ------------------------------------------------------------------------------------------------------- parameters

    def _constants(self) -> None:
        storage = self.compiled.storage
        for b in storage.buffers:
            if b.kind == "const":
                self.const[b.index] = np.zeros(() if b.axes == (None,) else self.widths[b.index][-1], self.dtype)
        given: dict[int, dict[int, str]] = {}
        for op, place in storage.place.items():
            if op.kind in ("vector", "scalar"):
                given.setdefault(place.buffer.index, {})[place.at] = str(op.data)
            elif op.kind == "number":
                self.const[place.buffer.index][...] = op.data
        for index, members in given.items():
            for run in _runs(sorted(members)):
                self.loads.append((tuple(members[k] for k in run), self._members(index, run[0], run[-1] + 1)))

    def _members(self, index: int, first: int, last: int) -> Array:
        whole, edges = self.const[index], self.widths[index]
        return whole if whole.ndim == 0 else whole[edges[first] : edges[last]]

    def _stacks(self) -> None:
        """Each stack has a number; ``matrices`` are what is multiplied by, a call's own or copies side by side."""
        shapes = self.compiled.graph.cell.parameters
        c = self.compiled
        routines = (c.const, c.forward, c.after, c.reverse)
        for stack in dict.fromkeys(stack for routine in routines for stack in routine.stacks):
            number = self.numbers[stack] = len(self.matrices)
            (matrix, transposed), *more = stack.parts
            if not more and self._as_it_is(matrix, transposed):
                self.direct.append((number, matrix, transposed))
                self.matrices.append(np.empty(0, self.dtype))
                continue
            sides = [tuple(map(self.size, shapes[m][::-1] if t else shapes[m])) for m, t in stack.parts]
            total = sum(side[stack.side] for side in sides)
            shape = (sides[0][0], total) if stack.side else (total, sides[0][1])
            turned = c.columns and (stack.side == 1 or shape[0] * shape[1] >= _LARGE)
            room = np.empty(shape, self.dtype, order="F" if turned else "C")
            self.stacks.append((stack, room))
            self.matrices.append(room)

    def _as_it_is(self, matrix: str, transposed: bool) -> bool:
        """Whether a matrix is used where the caller has it."""
        if self.compiled.columns:
            rows, columns = map(self.size, self.compiled.graph.cell.parameters[matrix])
            return transposed or rows * columns < _LARGE
        return not transposed or self.rows < _COPY

    def load(self, params: Mapping[str, Array]) -> None:
        """Take a call's parameters; the sums start anew."""
        self.params, self.totals = params, []
        for names, room in self.loads:
            if len(names) == 1:
                room[...] = params[names[0]]
            else:
                np.concatenate([params[name] for name in names], 0, room)
        for number, matrix, transposed in self.direct:
            self.matrices[number] = params[matrix].T if transposed else params[matrix]
        for stack, room in self.stacks:
            parts = [params[matrix].T if transposed else params[matrix] for matrix, transposed in stack.parts]
            if room.size >= _BESIDE:
                copy_beside(parts, stack.side, room)
            elif len(parts) == 1:
                room[...] = parts[0]
            else:
                np.concatenate(parts, stack.side, room)
        const = self.compiled.const
        if const.refs:
            const.run((*self.const_arrays, *(self.matrices[self.numbers[stack]] for stack in const.stacks)))

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
        for piece in self.pieces:
            total = self.totals[piece.total]
            part = total if piece.alone else (total.T if piece.turned else total)[piece.rows]
            if piece.scalar:
                part = np.asarray(part.sum())
            if piece.more:
                out[piece.name] += part.T if piece.transposed else part
            else:
                own = piece.alone or piece.scalar  # nobody else has it
                out[piece.name] = part if own else _own(part.T if piece.transposed else part)
        if self.turned:
            self.rooms = self.totals
        self.totals = []
        names = self.compiled.graph.cell.parameters
        return {name: out[name] if name in out else np.zeros_like(self.params[name]) for name in names}


def _runs(numbers: Sequence[int]) -> list[list[int]]:
    """Numbers in runs without gaps."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and runs[-1][-1] + 1 == n:
            runs[-1].append(n)
        else:
            runs.append([n])
    return runs


def _own(x: Array) -> Array:
    """A copy, in C order."""
    if x.ndim < 2 or x.size < _BESIDE:
        return x.copy()
    out = np.empty(x.shape, x.dtype)
    copy_turned(x, out)
    return out


def copy_beside(parts: Sequence[Array], side: int, room: Array) -> None:
    """Matrices side by side, along rows or columns, quickly where they lie otherwise than the room does."""
    start = 0
    for part in parts:
        stop = start + part.shape[side]
        copy_turned(part, room[:, start:stop] if side else room[start:stop])
        start = stop


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
        self.terms = [self._rows(r.terms) for r in compiled.rows]
        self.column_sums = ColumnSums(self) if compiled.columns else None
        self.sums = [] if compiled.columns else self._sums()

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

    def _bind(self, routine: Routine) -> _Ready:
        widest: dict[int, int] = {}
        for _, block, ref in routine.refs:
            widest[block] = max(widest.get(block, 1), self.workspace.widths[ref.buffer.index][-1])
        chunks = {block: self._chunks(width) for block, width in widest.items()}
        arrays = tuple(self._array(ref, kind, chunks[block]) for kind, block, ref in routine.refs)
        numbers = tuple(self.workspace.numbers[stack] for stack in routine.stacks)
        return _Ready(routine, arrays, numbers, tuple(self.workspace.sizes[letter] for letter in routine.sizes))

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

    def run(self, ready: _Ready, inputs: Mapping[str, Array]) -> None:
        """Run a routine; what the recursion carries is left in the first of its two arrays."""
        routine, matrices = ready.routine, self.workspace.matrices
        stacks = [matrices[number] for number in ready.matrices]
        given = [
            inputs[n].reshape(self.steps, self.batch, -1) if stepped else inputs[n] for n, stepped in routine.inputs
        ]
        carried = routine.run((*ready.arrays, *stacks, *given, *ready.sizes))
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
        """Add this segment's sums to those of the segments before."""
        totals, addends = self.workspace.totals, self.workspace.addends
        if self.column_sums is not None:
            self._add_columns(self.column_sums, inputs)
            return
        sums = [(product, d, inputs[r] if type(r) is str else r) for product, d, r in self.sums]
        if not totals:
            totals += [product(d, r, room) for (product, d, r), room in zip(sums, self.workspace.rooms, strict=True)]
            return
        if not addends:
            addends += map(np.empty_like, totals)
        for (product, d, r), total, addend in zip(sums, totals, addends, strict=True):
            np.add(total, product(d, r, addend), total)

    def _add_columns(self, sums: ColumnSums, inputs: Mapping[str, Array]) -> None:
        """The same where steps are kept in columns."""
        workspace = self.workspace
        totals, addends = workspace.totals, workspace.addends
        if not totals:
            totals += [np.empty(shape, workspace.dtype) for shape in workspace.sum_shapes()]
            sums.take(inputs, totals)
            return
        if not addends:
            addends += map(np.empty_like, totals)
        sums.take(inputs, addends)
        for total, addend in zip(totals, addends, strict=True):
            np.add(total, addend, total)

    def _sums(self) -> list[Any]:
        """Every sum of a segment: the product that takes it, and of what."""
        out: list[Any] = [self._product(rows, operand) for operand, rows in self.outers]
        ones = self.workspace.ones[: self.rows]
        return out + [(_quick(rows), rows.T, ones) for rows in self.terms]

    def _product(self, rows: Array, operand: Array | str) -> tuple[Callable[..., Array], Array, Array | str]:
        """How the sum of the products of rows with an operand's is taken."""
        same = not isinstance(operand, str) and operand.ndim == 1
        product = _spread if same else _quick(rows)
        return partial(_turned, product) if self.workspace.turned else product, rows.T, operand


def _quick(rows: Array) -> Callable[..., Array]:
    """The quicker product that reads rows in place: dot would copy a part of a buffer."""
    return np.ndarray.dot if rows.flags.c_contiguous else np.matmul


def _spread(left: Array, right: Array, out: Array | None) -> Array:
    """The product where one side is a vector, the same at every step."""
    if left.ndim == 1:
        return np.multiply(left[:, None], right.sum(axis=0), out)
    return np.multiply(left.sum(axis=1)[:, None], right, out)


def _turned(product: Callable[..., Array], left: Array, right: Array, out: Array | None) -> Array:
    """The transpose of a product."""
    return product(right.T, left.T, out)
