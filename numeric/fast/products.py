"""Products of small matrices, in registers: Y[i, :] (+)= sum over j of A[i, j] B[j, :].

B and Y have rows that are whole vectors; A is anything with two strides.  One function serves W x for some rows x (A
the rows, B the packed W.T), W.T d (B the padded W), and the sum of d x.T over rows (A the transposed rows of x, B the
rows of d).  Up to twelve accumulators stay in registers while j runs; with one row, sums are cut in parts that do not
wait for each other.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from numeric.fast.code import Code, Int, Place
from numeric.fast.vector import Vec

__all__ = ["product"]

_ROWS, _WIDE = 4, 3
_CHAINS = {4: 2, 3: 3, 2: 4, 1: 4}  # parts of the sum, by the number of vectors in a row


def product(
    code: Code,
    y: Place,
    y_row: Int,
    a: Place,
    a_row: Int,
    a_step: Int,
    b: Place,
    b_step: Int,
    sizes: tuple[Int, Int, Int],
    adds: bool,
) -> None:
    """Write a call; ``sizes`` count the rows of Y, the terms, and the vectors in a row; strides are in numbers."""
    truth = ir.Constant(ir.IntType(1), int(adds))
    values = [x.pointer if isinstance(x, Place) else x.value for x in (y, y_row, a, a_row, a_step, b, b_step, *sizes)]
    code.builder.call(_function(code, [v.type for v in values] + [truth.type]), [*values, truth])


def _function(code: Code, kinds: list[Any]) -> Any:
    """The function, written once a module."""
    name = f"bptt_product_{code.dtype}"
    known = code.builder.module.globals.get(name)
    if known is not None:
        return known
    function = ir.Function(code.builder.module, ir.FunctionType(ir.VoidType(), kinds), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    inner = Code(ir.IRBuilder(function.append_basic_block()), code.dtype)
    _Product(inner, function.args).write()
    inner.builder.ret_void()
    return function


class _Product:
    def __init__(self, code: Code, arguments: Any) -> None:
        self.code = code
        y, y_row, a, a_row, a_step, b, b_step, rows, terms, vectors, self.adds = arguments
        self.y, self.a, self.b = (Place(code, p) for p in (y, a, b))
        integers = (Int(code.builder, v) for v in (y_row, a_row, a_step, b_step, rows, terms, vectors))
        self.y_row, self.a_row, self.a_step, self.b_step, self.rows, self.terms, self.vectors = integers

    def write(self) -> None:
        """Four rows at a time, then one at a time."""
        blocks = self.rows // _ROWS
        with self.code.loop(blocks) as block:
            self.row_block(block * _ROWS, _ROWS)
        with self.code.loop(self.rows - blocks * _ROWS) as i:
            self.row_block(blocks * _ROWS + i, 1)

    def row_block(self, row: Int, rows: int) -> None:
        """All vectors of some rows."""
        wide = _WIDE if rows > 1 else 4
        whole = self.vectors // wide
        with self.code.loop(whole) as block:
            self.tile(row, block * (wide * self.code.lanes), rows, wide)
        left, column = self.vectors - whole * wide, whole * (wide * self.code.lanes)
        for width in range(1, wide):
            with self.code.when(left.is_("==", width)):
                self.tile(row, column, rows, width)

    def tile(self, row: Int, column: Int, rows: int, width: int) -> None:
        """Sums for some rows and vectors, in registers."""
        code, chains = self.code, 1 if rows > 1 else _CHAINS[width]
        y = [self.y + (row + i) * self.y_row + column for i in range(rows)]
        a = [self.a + (row + i) * self.a_row for i in range(rows)]
        b = self.b + column
        zero = code.number(0)
        sums = [[[code.room(code.vector) for _ in range(width)] for _ in range(rows)] for _ in range(chains)]
        for c, i, k in ((c, i, k) for c in range(chains) for i in range(rows) for k in range(width)):
            code.builder.store(zero.value, sums[c][i][k])
        with code.builder.if_then(self.adds):
            for i, k in ((i, k) for i in range(rows) for k in range(width)):
                code.builder.store((y[i] + k * code.lanes).vector().value, sums[0][i][k])
        rounds = self.terms // chains
        with code.loop(rounds) as j:
            for c in range(chains):
                self.term(a, b, j * chains + c, sums[c])
        if chains > 1:
            with code.loop(self.terms - rounds * chains) as j:
                self.term(a, b, rounds * chains + j, sums[0])
        for i, k in ((i, k) for i in range(rows) for k in range(width)):
            parts = [Vec(code, code.builder.load(sums[c][i][k])) for c in range(chains)]
            while len(parts) > 1:
                parts = [p + q for p, q in zip(parts[::2], parts[1::2], strict=False)] + parts[len(parts) & ~1 :]
            (y[i] + k * code.lanes).put(parts[0])

    def term(self, a: list[Place], b: Place, j: Int, sums: list[list[Any]]) -> None:
        """One j: a number of each row times a row of B."""
        code = self.code
        step, here = j * self.a_step, b + j * self.b_step
        right = [(here + k * code.lanes).vector() for k in range(len(sums[0]))]
        for i, row in enumerate(sums):
            left = code.splat((a[i] + step).scalar())
            for k, room in enumerate(row):
                code.builder.store(code.fma(left, right[k], Vec(code, code.builder.load(room))).value, room)
