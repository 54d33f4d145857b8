"""A pass as Python source: NumPy calls into buffers that exist already, one a line.

A block is a loop over lists of views, one entry for each step, or for each stretch of rows that fits the cache, or a
single one.  The text has only names that are made here (``v0``, ``v1``, ...); the arrays come in by position.

The functions of a cell are those of :mod:`numeric.functions` where no form without temporaries is given below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from numeric import functions
from numeric.arguments import Array
from numeric.fusion import Fused, fuse
from numeric.graph import CONST, D_LOOP, LOOP, Op
from numeric.storage import Buffer, Call, Storage, from_input

__all__ = ["BLOCK_ROWS", "Ref", "Routine", "Stack", "emit"]

_STEPS = (LOOP, D_LOOP)
_UFUNCS = ("add", "subtract", "multiply", "divide")
_DIRECT = ("tanh", "exp", "sqrt")  # NumPy's own, right in both dtypes

# ---------------------------------------------------------------------------------------- functions without temporaries


#: Minus one and one as arrays: to make one of a Python number takes as long as the arithmetic of a small step.
_UNITS = {np.dtype(d): (np.array(-1, d), np.array(1, d)) for d in (np.float32, np.float64)}


def sigmoid(x: Array, out: Array) -> None:
    """1 / (1 + exp(-x)): right to a few units in the last place in both tails."""
    minus, one = _UNITS[x.dtype]
    np.multiply(x, minus, out)  # NumPy 2.4.6 negates some arrays with strides wrongly in place
    np.exp(out, out)
    np.add(out, one, out)
    np.divide(one, out, out)


#: A derivative is taken from the function's value unless that would lose more than six bits.
_LOST = 2.0**-6


def dtanh(x: Array, value: Array, out: Array, scratch: Array) -> None:
    """1 - tanh(x)^2; where some tanh is close to one, 4 e / (1 + e)^2 with e = exp(-2|x|)."""
    np.multiply(value, value, scratch)
    if scratch.item(scratch.argmax()) <= 1 - _LOST:  # the quickest call that finds it, and a nan
        np.subtract(_UNITS[x.dtype][1], scratch, out)
        return
    np.abs(x, out)
    np.multiply(out, -2, out)
    _bell(out, scratch)
    np.multiply(out, 4, out)


def dsigmoid(x: Array, value: Array, out: Array, scratch: Array) -> None:
    """s (1 - s) with s = sigmoid(x); where some s is close to one, e / (1 + e)^2 with e = exp(-|x|)."""
    np.subtract(_UNITS[x.dtype][1], value, scratch)
    if scratch.item(scratch.argmin()) >= _LOST:
        np.multiply(scratch, value, out)
        return
    np.abs(x, out)
    np.multiply(out, -1, out)
    _bell(out, scratch)


#: After how many steps what is carried is looked at.
_FLUSH = 16


def flush(*carried: Array) -> None:
    """Set to zero what is close to the smallest normal number.

    A derivative that has vanished would otherwise stay among the denormal numbers, rounded up again at each step, where
    processors are ten to fifty times slower; what is lost is less than a sum could hold.
    """
    for x in carried:
        np.copyto(x, 0, where=np.abs(x) < np.finfo(x.dtype).tiny * 2**12)


def _bell(x: Array, scratch: Array) -> None:
    np.exp(x, x)
    np.add(x, 1, scratch)
    np.multiply(scratch, scratch, scratch)
    np.divide(x, scratch, x)


#: Rows of a product that are taken at once from rows to columns.
BLOCK_ROWS = 512


def into_columns(x: Array, matrix: Array, out: Array, scratch: Array) -> None:
    """x, (steps, batch, k), times a matrix, where ``out`` is kept in columns and x in rows.

    Some steps are one product, each feature's numbers side by side, which then go where they belong.
    """
    steps, batch, k = x.shape
    width = out.shape[2]
    most = max(1, BLOCK_ROWS // batch)
    flat = scratch.reshape(-1)
    for first in range(0, steps, most):
        part = x[first : first + most]
        n = len(part)
        room = flat[: width * n * batch].reshape(width, n * batch)
        np.matmul(part.reshape(n * batch, k), matrix, room.T)
        np.copyto(out[first : first + n], room.reshape(width, n, batch).transpose(1, 2, 0))


_OWN: dict[str, Callable[..., None]] = {
    "sigmoid": sigmoid,
    "dtanh": dtanh,
    "dsigmoid": dsigmoid,
    "into_columns": into_columns,
}

# ----------------------------------------------------------------------------------------------------------- references


@dataclass(frozen=True)
class Ref:
    """Members ``start`` to ``stop`` of a buffer, as a block sees them.

    ``form`` is "flat", side by side; "lanes", with an axis of their own; "shared", one for all lanes; or "stepped",
    with an axis for the steps.  ``shift`` is 0 for a state one step before and 1 for the state itself.  ``source`` is
    "buffer"; "scratch", room like the buffer's members; "block", room for some steps of them; or "old" and "new" for
    what is carried.
    """

    buffer: Buffer
    start: int
    stop: int
    form: str = "flat"
    shift: int = 1
    source: str = "buffer"

    @property
    def whole(self) -> bool:
        """Whether this is all of its buffer."""
        return self.start == 0 and self.stop == len(self.buffer.axes)


@dataclass(frozen=True)
class Stack:
    """Matrices as one, as it stands to the right of rows: (matrix, whether transposed there) along columns or rows."""

    parts: tuple[tuple[str, bool], ...]
    side: int


@dataclass(frozen=True)
class Routine:
    """Compiled blocks: ``run(arrays)`` with the arrays of ``refs``, ``stacks``, ``inputs``, and ``sizes``.

    A reference comes with the kind and the number of the block that uses it; kinds are "const", "whole" (all rows),
    "chunks" (stretches of rows), "steps", and "back" (steps, the last first).  An input comes with whether its
    steps have an axis of their own.  ``run`` returns what the states of ``carried`` hand on, each in its old or its new
    array.
    """

    refs: tuple[tuple[str, int, Ref], ...]
    stacks: tuple[Stack, ...]
    inputs: tuple[tuple[str, bool], ...]
    sizes: tuple[str, ...]
    carried: tuple[str, ...]
    run: Callable[..., Any]
    source: str


def emit(storage: Storage, phases: Sequence[int], fused: str | None = None) -> Routine:
    """One routine for some phases, in order; ``fused`` is the dtype of compiled kernels, if there are any."""
    writer = _Writer(storage, fused)
    for phase in phases:
        calls = storage.calls[phase]
        if phase in _STEPS or phase == CONST:
            writer.block("const" if phase == CONST else "steps" if phase == LOOP else "back", calls)
            continue
        pending: list[Call] = []
        for call in calls:
            if call.kind in ("product", "gather") or from_input(call):
                writer.stretches(pending)
                writer.block("whole", [call])
                pending = []
            else:
                pending.append(call)
        writer.stretches(pending)
    return writer.routine()


class _Writer:
    def __init__(self, storage: Storage, fused: str | None) -> None:
        self.storage, self.fused = storage, fused
        self.sizes: dict[str, str] = {}
        self.kernels: dict[str, Any] = {}
        self.kind, self.blocks = "", 0
        self.refs: dict[tuple[str, int, Ref], str] = {}
        self.stacks: dict[Stack, str] = {}
        self.inputs: dict[tuple[str, bool], str] = {}
        self.carried: dict[str, str] = {}
        self.lines: list[str] = []
        self.text: list[str] = []
        self.names = 0

    def name(self, table: dict[Any, str], key: Any) -> str:
        """The variable of an array."""
        if key not in table:
            table[key] = f"v{self.names}"
            self.names += 1
        return table[key]

    def var(self, ref: Ref) -> str:
        """The variable of a reference in the block that is being written."""
        return self.name(self.refs, (self.kind, self.blocks, ref))

    def stretches(self, calls: Sequence[Call]) -> None:
        """Blocks for entrywise calls: of rows in stretches, of columns step by step; none needs what another makes."""
        self.block("chunks", [call for call in calls if not self.in_columns(call.ops[0])])
        self.block("steps", [call for call in calls if self.in_columns(call.ops[0])])

    def in_columns(self, *ops: Op) -> bool:
        """Whether one of some values is kept in columns."""
        return any(b is not None and b.columns for b in map(self.storage.buffer_of, ops))

    def block(self, kind: str, calls: Sequence[Call]) -> None:
        """A loop, or a few lines, for some calls."""
        if not calls:
            return
        self.kind, self.blocks, self.lines = kind, self.blocks + 1, []
        for entrywise, group in groupby(calls, key=lambda call: call.kind not in ("product", "gather")):
            together = list(group)
            fusible = entrywise and kind in ("chunks", "steps", "back")  # the others are what inputs are copied by
            fused = fuse(self.storage, together, self.fused) if fusible and self.fused else None
            if fused is not None:
                self.kernel(fused)
                continue
            for call in together:
                self.write(call)
        self.lines += self.carries()
        own = {ref: v for (_, n, ref), v in self.refs.items() if n == self.blocks}
        moving = [v for ref, v in own.items() if self.is_list(ref)]
        if moving:
            names = ", ".join(moving)
            self.text.append(f"    for {names}, in zip({names}):")
        self.text += [f"{'        ' if moving else '    '}{line}" for line in self.lines]

    def routine(self) -> Routine:
        """All blocks, compiled."""
        arrays = [*self.refs.values(), *self.stacks.values(), *self.inputs.values(), *self.sizes.values()]
        head = ["def run(arrays):", "    count = 0", *([f"    {', '.join(arrays)}, = arrays"] if arrays else [])]
        back = f"    return ({', '.join(self.carried.values())}{',' if self.carried else ''})"
        source = "\n".join([*head, *self.text, back]) + "\n"
        space = {name: getattr(np, name) for name in (*_UFUNCS, *_DIRECT, "copyto", "matmul")}
        space |= {f"f_{name}": getattr(functions, name) for name in functions.FUNCTIONS}
        space |= {f"own_{name}": f for name, f in _OWN.items()} | {"flush": flush}
        exec(compile(source, "<pass>", "exec"), space)
        space |= self.kernels
        parts = tuple(self.refs), tuple(self.stacks), tuple(self.inputs), tuple(self.sizes), tuple(self.carried)
        return Routine(*parts, space["run"], source)

    # -------------------------------------------------------------------------------------------------------- arguments

    def ref(self, ops: Sequence[Op], form: str = "flat") -> Ref:
        """Where some neighbours stand."""
        first, last = ops[0], ops[-1]
        if first.kind == "previous":
            return Ref(self.storage.states[str(first.data)], 0, 1, form, 0)
        if first.kind == "carried":
            return Ref(self.storage.carries[str(first.data)], 0, 1, form, source="old")
        place = self.storage.place[first]
        source = "new" if place.buffer.kind == "carry" else "buffer"
        return Ref(place.buffer, place.at, self.storage.place[last].at + 1, form, source=source)

    def argument(self, call: Call, position: int, lanes: bool) -> str:
        """The variable of an argument of a call."""
        ops = [op.args[position] for op in call.ops]
        if ops[0].kind == "input":
            return self.name(self.inputs, (str(ops[0].data), self.in_columns(*call.ops)))
        if all(op is ops[0] for op in ops):
            scalar = ops[0].axis is None
            return self.var(self.ref(ops[:1], "shared" if lanes and not scalar else "flat"))
        return self.var(self.ref(ops, "lanes" if lanes else "flat"))

    # ------------------------------------------------------------------------------------------------------------ calls

    def write(self, call: Call) -> None:
        """The line of a call."""
        if call.kind == "product":
            self.product(call)
        elif call.kind == "gather":
            self.gather(call.ops[0])
        else:
            self.entrywise(call)

    def kernel(self, fused: Fused) -> None:
        """One compiled call for many."""
        name = f"k_{len(self.kernels)}"
        self.kernels[name] = fused.kernel
        arguments = []
        for place, source, shift in fused.arrays:
            arguments.append(self.var(Ref(place.buffer, 0, len(place.buffer.axes), "flat", shift, source)))
        self.lines.append(f"{name}({', '.join(arguments)}, {self.name(self.sizes, fused.axis)})")

    def entrywise(self, call: Call) -> None:
        """A call of the same kind over neighbours."""
        many = len(call.ops) > 1
        first = call.ops[0]
        shared = [all(op.args[k] is first.args[k] for op in call.ops) for k in range(len(first.args))]
        lanes = many and any(s and a.axis is not None for s, a in zip(shared, first.args, strict=True))
        arguments = [self.argument(call, k, lanes) for k in range(len(first.args))]
        where = self.ref(call.ops, "lanes" if lanes else "flat")
        out = self.var(where)
        name = str(first.data)
        if call.kind in _UFUNCS:
            self.lines.append(f"{call.kind}({', '.join(arguments)}, {out})")
        elif call.kind == "negative":
            self.lines.append(f"multiply({arguments[0]}, -1, {out})")
        elif call.kind == "copy":
            self.lines.append(f"copyto({out}, {arguments[0]})")
        elif name in _DIRECT:
            self.lines.append(f"{name}({arguments[0]}, {out})")
        elif name in ("dtanh", "dsigmoid") and len(arguments) == 2 and where.buffer.axes[where.start] is not None:
            scratch = self.var(Ref(where.buffer, where.start, where.stop, where.form, source="scratch"))
            self.lines.append(f"own_{name}({', '.join(arguments)}, {out}, {scratch})")
        elif name == "sigmoid":
            self.lines.append(f"own_sigmoid({arguments[0]}, {out})")
        else:
            self.lines.append(f"copyto({out}, f_{name}({arguments[0]}))")

    def product(self, call: Call) -> None:
        """One product for all matrices with one operand."""
        parts = tuple((matrix, not transposed) for matrix, transposed in (op.data for op in call.ops))
        operand = call.ops[0].args[0]
        form = self.product_form(operand, call.ops[0])
        if operand.kind == "input":
            rows = self.name(self.inputs, (str(operand.data), form == "stepped"))
        else:
            rows = self.var(self.ref([operand], form))
        self.times(rows, Stack(parts, 1), self.ref(call.ops, form), from_columns=self.in_columns(operand))

    def product_form(self, *ops: Op) -> str:
        """How what enters or leaves a product stands: where columns do, all steps at once are a product for each."""
        return "stepped" if self.kind == "whole" and self.in_columns(*ops) else "flat"

    def times(self, rows: str, stack: Stack, out: Ref, *, from_columns: bool) -> None:
        """``out`` = rows times a stack; "dot" is the quicker call where it can be used."""
        matrix, target = self.name(self.stacks, stack), self.var(out)
        if out.form == "stepped" and out.buffer.columns and not from_columns:
            block = self.var(replace(out, form="flat", source="block"))
            self.lines.append(f"own_into_columns({rows}, {matrix}, {target}, {block})")
            return
        dot = out.whole and out.source != "scratch" and out.form == "flat" and not out.buffer.columns
        self.lines.append(f"{rows}.dot({matrix}, {target})" if dot else f"matmul({rows}, {matrix}, {target})")

    def gather(self, op: Op) -> None:
        """A sum of products: one product for each run of neighbours."""
        parts: Any = op.data
        data = {k: (m, not t) for k, (m, t) in enumerate(parts)}
        place = self.storage.place  # what is carried has none, and stands alone
        order = sorted(data, key=lambda k: (p.buffer.index, p.at) if (p := place.get(op.args[k])) else (-1, k))
        runs: list[list[int]] = []
        for k in order:
            a, b = (op.args[runs[-1][-1]], op.args[k]) if runs else (None, op.args[k])
            if a in place and b in place and place[a].buffer is place[b].buffer and place[b].at == place[a].at + 1:
                runs[-1].append(k)
            else:
                runs.append([k])
        form = self.product_form(op, *op.args)
        out = self.ref([op], form)
        for n, run in enumerate(runs):
            operands = [op.args[k] for k in run]
            rows, columns = self.var(self.ref(operands, form)), self.in_columns(*operands)
            stack = Stack(tuple(data[k] for k in run), 0)
            if n == 0:
                self.times(rows, stack, out, from_columns=columns)
                continue
            spare = Ref(out.buffer, out.start, out.stop, form, source="scratch")
            self.times(rows, stack, spare, from_columns=columns)
            scratch, target = self.var(spare), self.var(out)
            self.lines.append(f"add({target}, {scratch}, {target})")

    def is_list(self, ref: Ref) -> bool:
        """Whether a reference is another view at every turn of the loop."""
        if self.kind in ("const", "whole") or ref.buffer.kind == "const" or ref.source in ("old", "new"):
            return False
        if self.kind == "chunks":
            return True
        return ref.buffer.kind in ("slab", "state") and ref.source == "buffer"

    def carries(self) -> list[str]:
        """The lines that make new what is carried old, at the end of a step."""
        lines = []
        own = {ref: v for (_, n, ref), v in self.refs.items() if n == self.blocks}
        for ref in [r for r in own if r.source == "new" and r.form == "flat"]:
            old = Ref(ref.buffer, 0, 1, source="old")
            forms = [r for r in own if r.buffer is ref.buffer and r not in (ref, old)]
            new, before = own[ref], self.var(old)
            lines.append(f"copyto({before}, {new})" if forms else f"{before}, {new} = {new}, {before}")
            self.carried[ref.buffer.name] = before
        if lines and self.kind == "back":
            held = ", ".join(self.carried.values())
            lines += ["count += 1", f"if not count & {_FLUSH - 1}:", f"    flush({held})"]
        return lines
