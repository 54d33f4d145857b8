"""One compiled function in the making: its arguments, the sizes, and where in memory each value lies.

A row is what one sequence has at one step.  Its vectors are padded to whole lanes and lie side by side:

    tape      (steps, batch, width)        the caller's; or a ring of one chunk, where nothing is kept
    scratch   (chunk, batch, ...)          what only the pass itself reads
    carried   (batch, ...)                 what a state receives from later steps

``initial`` is one row for each sequence before the first step.  Parameters are packed once a call: vectors padded, and
matrices as they stand to the right of rows, each row padded.  What lies in the padding is never read into a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from sympy import Symbol

from derive.notation import at, time_of
from numeric.fast.code import Code, Int, Place
from numeric.fast.rows import Argument, Array, Row, Steps
from numeric.fast.vector import Mask, Vec
from numeric.fast.work import Apply, Schedule
from numeric.operations import carried_of, d_of
from numeric.plan import Plans

__all__ = ["Frame"]

CHUNK_ROWS, CHUNK_STEPS = 64, 16


class Frame:
    """All of it; ``arguments`` names the values in ``values``, as Numba hands them over."""

    def __init__(
        self,
        plans: Plans,
        schedule: Schedule,
        code: Code,
        arguments: Sequence[Argument],
        unpacked: Sequence[tuple[Any, Sequence[Any]] | Any],
    ) -> None:
        self.plans, self.cell, self.schedule, self.code = plans, plans.cell, schedule, code
        self.arrays: dict[tuple[str, str], Array] = {}
        self.numbers: dict[str, Any] = {}
        for argument, value in zip(arguments, unpacked, strict=True):
            if argument.ndim is None:
                self.numbers[argument.role] = value
            else:
                data, shape = value
                array = Array(Place(code, data), tuple(code.int(n) for n in shape))
                self.arrays[argument.role, argument.name] = array
        self.first, self.last, self.batch = (code.int(self.numbers[k]) for k in ("first", "last", "batch"))
        self.learn_sizes()
        self.place_fields()

    # ---------------------------------------------------------------------------------------------------------- sizes

    def array(self, role: str, name: str = "") -> Array:
        """One of the arrays."""
        return self.arrays[role, name]

    def learn_sizes(self) -> None:
        """Each letter's size, and padded."""
        self.size: dict[str, Int] = {}
        cell = self.cell
        for name, letters in cell.parameters.items():
            for letter, n in zip(letters, self.array("parameter", name).shape, strict=True):
                self.size.setdefault(letter, n)
        for role, names in (("input", cell.inputs), ("state", cell.states)):
            for name in names:
                self.size.setdefault(cell.axes[name], self.array(role, name).shape[-1])
        self.whole_batch = self.array("state", cell.states[0]).shape[0]
        self.wide = {letter: self.code.padded(n) for letter, n in self.size.items()}
        self.chunk = self.code.int(CHUNK_ROWS) // self.batch
        self.chunk = self.code.choose(self.chunk.is_("<", 1), 1, self.chunk)
        self.chunk = self.code.choose(self.chunk.is_(">", CHUNK_STEPS), CHUNK_STEPS, self.chunk)

    def place_fields(self) -> None:
        """Each field's offset in its row, and the rows' widths."""
        self.offset: dict[Symbol, Int] = {}
        self.space: dict[Symbol, str] = {}
        self.order: dict[Symbol, int] = {}
        self.width: dict[str, Int] = {space: self.code.int(0) for space in ("tape", "scratch", "carried")}
        for i, field in enumerate(self.schedule.fields):
            s, space = field.symbol, field.space
            self.offset[s], self.space[s], self.order[s] = self.width[space], space, i
            self.width[space] = self.width[space] + self.wide[field.axis]
        for name in self.schedule.in_place:  # what a state receives is overwritten by what it hands back
            s, carried = self.follow(d_of(at(name, -1))), carried_of(at(name))
            self.offset[s], self.space[s], self.order[s] = self.offset[carried], "carried", -2

    def axis(self, symbol: Symbol) -> str:
        """The letter of a symbol's size."""
        return self.schedule.axes[symbol]

    def follow(self, symbol: Symbol) -> Symbol:
        """The symbol that a value is known by."""
        return self.schedule.same.get(symbol, symbol)

    def runs(self, symbols: Sequence[Symbol]) -> Iterator[tuple[int, int]]:
        """Ranges of the sequence whose fields lie side by side."""
        start = 0
        for i in range(1, len(symbols) + 1):
            if i < len(symbols):
                a, b = symbols[i - 1], symbols[i]
                if self.space[a] == self.space[b] and self.order[b] == self.order[a] + 1:
                    continue
            yield start, i
            start = i

    def extent(self, symbols: Sequence[Symbol]) -> Int:
        """The padded size of all of them together."""
        total = self.code.int(0)
        for s in symbols:
            total = total + self.wide[self.axis(s)]
        return total

    # --------------------------------------------------------------------------------------------------------- memory

    def allocate(self, context: Any, applies: Sequence[Apply], *, ring: bool, gradients: bool) -> None:
        """Take all memory that a call needs as one piece, and pack the parameters."""
        code = self.code
        regions: dict[Any, Int] = {}
        vectors = [name for name, shape in self.cell.parameters.items() if len(shape) == 1]
        for name in vectors:
            regions["vector", name] = self.wide[self.cell.parameters[name][0]]
        for op in applies:
            regions.setdefault(("matrices", op.matrices), self.operand_size(op) * self.extent(op.results))
        rows = self.chunk * self.batch
        regions["initial"] = self.batch * self.width["tape"]
        if ring:
            regions["ring"] = rows * self.width["tape"]
        regions["scratch"] = rows * self.width["scratch"]
        if gradients:
            regions["carried"] = self.batch * self.width["carried"]
            regions["rests"] = code.padded(rows)
            for i, outers in enumerate(self.schedule.outers):
                regions["outers", i] = self.size[self.axis(outers.operand)] * self.extent(outers.sources)
            for i, total in enumerate(self.schedule.sums):
                regions["sum", i] = self.wide[total.axis]
        whole = code.int(0)
        start = {}
        for key, n in regions.items():
            start[key], whole = whole, whole + n
        bytes_needed = whole * code.dtype.itemsize + 64
        self.memory = context.nrt.allocate(code.builder, bytes_needed.value)
        address = code.int(code.builder.ptrtoint(self.memory, ir.IntType(64)))
        aligned = code.builder.inttoptr(((address + 63) & -64).value, code.real.as_pointer())
        self.region = {key: Place(code, aligned) + n for key, n in start.items()}
        self.region_size = regions
        for name in vectors:
            self.pack_vector(name)
        for op in {op.matrices: op for op in applies}.values():
            self.pack(op)
        self.clear("initial")

    def clear(self, *keys: Any) -> None:
        """Zeros in whole regions."""
        for key in keys:
            self.code.clear(self.region[key], self.region_size[key])

    def release(self, context: Any) -> None:
        """Give the memory back."""
        context.nrt.free(self.code.builder, self.memory)

    def operand_size(self, op: Apply) -> Int:
        """Entries of what the matrices are applied to."""
        name, transposed = op.matrices[0]
        return self.size[self.cell.parameters[name][0 if transposed else 1]]

    def pack_vector(self, name: str) -> None:
        """A vector parameter, padded with zeros."""
        array, place = self.array("parameter", name), self.region["vector", name]
        for k in self.blocks(self.cell.parameters[name][0]):
            mask = self.code.mask(k, array.shape[0])
            (place + k).put((array.place + k).vector_where(mask))

    def pack(self, op: Apply) -> None:
        """The matrices of an operation side by side, each transposed unless it is applied so."""
        code, place = self.code, self.region["matrices", op.matrices]
        stride, column = self.extent(op.results), code.int(0)
        code.clear(place, self.region_size["matrices", op.matrices])
        for (name, transposed), s in zip(op.matrices, op.results, strict=True):
            array = self.array("parameter", name)
            rows, columns = array.shape
            if transposed:  # M[m, j] = W[j, m]
                with code.loop(rows) as j:
                    for k in self.blocks(self.axis(s)):
                        values = (array.place + j * columns + k).vector_where(code.mask(k, columns))
                        (place + j * stride + column + k).put(values)
            else:
                with code.loop(columns) as j, code.loop(rows) as m:
                    (place + j * stride + column + m).put_scalar((array.place + m * columns + j).scalar())
            column = column + self.wide[self.axis(s)]

    def blocks(self, axis: str) -> Iterator[Int]:
        """The vectors of an axis; a loop with one body."""
        with self.code.loop(self.wide[axis] // self.code.lanes) as i:
            yield i * self.code.lanes

    # ----------------------------------------------------------------------------------------------------------- rows

    def step(self, steps: Steps, i: Int) -> Steps:
        """Step i of some steps."""
        code = self.code
        tape = steps.tape + i * self.batch * self.width["tape"]
        before = code.choose(i.is_("==", 0), steps.previous, tape + (code.int(0) - self.batch * self.width["tape"]))
        return Steps(steps.t + i, code.int(1), tape, before, steps.scratch + i * self.batch * self.width["scratch"])

    @contextmanager
    def rows(self, steps: Steps) -> Iterator[Row]:
        """Every row of some steps."""
        with self.code.loop(steps.count) as i:
            one = self.step(steps, i)
            with self.code.loop(self.batch) as r:
                yield self.row(one, r, i * self.batch + r)

    def row(self, one: Steps, r: Int, number: Int) -> Row:
        """A row of one step."""
        wide, carried = self.width, self.region.get("carried")
        at_r = r * wide["tape"]
        return Row(
            one,
            r,
            number,
            one.tape + at_r,
            one.previous + at_r,
            one.scratch + r * wide["scratch"],
            one.scratch if carried is None else carried + r * wide["carried"],
        )

    def entry(self, symbol: Symbol, row: Row) -> tuple[Place, bool]:
        """Where a vector begins in a row, and whether it is padded."""
        symbol = self.follow(symbol)
        name, shift = time_of(symbol)
        if symbol in self.offset:
            base = {"tape": row.tape, "scratch": row.scratch, "carried": row.carried}[self.space[symbol]]
            return base + self.offset[symbol], True
        if shift is None:
            return self.region["vector", name], True
        if shift == -1:
            return row.previous + self.offset[at(name)], True
        array = self.array("input", name)
        index = row.steps.t * self.whole_batch + row.r
        return array.place + index * array.shape[-1], False

    def read(self, symbol: Symbol, row: Row, k: Int) -> Vec:
        """A vector of a value, or a scalar parameter in every lane."""
        symbol = self.follow(symbol)
        name, shift = time_of(symbol)
        if shift is None and symbol not in self.offset and not self.cell.parameters[name]:
            return self.code.splat(self.array("parameter", name).place.scalar())
        place, padded = self.entry(symbol, row)
        if padded:
            return (place + k).vector()
        return (place + k).vector_where(self.tail(self.axis(symbol), k))

    def tail(self, axis: str, k: Int) -> Mask:
        """The lanes at entry k that hold entries of an axis."""
        return self.code.mask(k, self.size[axis])

    # ---------------------------------------------------------------------------------------------------------- spans

    def base(self, steps: Steps, symbol: Symbol) -> Place:
        """A field in the first row of some steps."""
        spaces = {"tape": steps.tape, "scratch": steps.scratch, "carried": self.region.get("carried", steps.scratch)}
        return spaces[self.space[symbol]] + self.offset[symbol]

    def spans(self, steps: Steps, operand: Symbol, write: Callable[[Place, Int, Int, Int], None]) -> None:
        """Call ``write(place, stride, first row, rows)`` for stretches of rows in which an operand has one stride."""
        code, zero = self.code, self.code.int(0)
        operand = self.follow(operand)
        name, shift = time_of(operand)
        rows = steps.count * self.batch
        if operand in self.offset:
            write(self.base(steps, operand), self.width[self.space[operand]], zero, rows)
        elif shift is None:
            write(self.region["vector", name], zero, zero, rows)
        elif shift == -1:
            offset, width = self.offset[at(name)], self.width["tape"]
            write(steps.previous + offset, width, zero, self.batch)
            if not _is_one(steps.count):
                with code.when(steps.count.is_(">", 1)):
                    write(steps.tape + offset, width, self.batch, rows - self.batch)
        else:
            array = self.array("input", name)
            n = array.shape[-1]
            together = self.batch.is_("==", self.whole_batch)
            each = code.choose(together, rows, self.batch)
            with code.loop(code.choose(together, 1, steps.count)) as i:
                start = (steps.t + i) * self.whole_batch
                write(array.place + start * n, n, i * self.batch, each)


def _is_one(count: Int) -> bool:
    return isinstance(count.value, ir.Constant) and count.value.constant == 1
