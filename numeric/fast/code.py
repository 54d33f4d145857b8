"""Integers, places in memory and loops of the code that is being written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from numeric.fast.vector import Mask, Vec, Writer

__all__ = ["Code", "Int", "Place"]

_INDEX = ir.IntType(64)


class Int:
    """An integer, 64 bits, never negative in what is written here."""

    __slots__ = ("builder", "value")

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def _with(self, other: Any, name: str) -> Int:
        other = other.value if isinstance(other, Int) else ir.Constant(_INDEX, other)
        return Int(self.builder, getattr(self.builder, name)(self.value, other))

    def __add__(self, other: Any) -> Int:
        return self._with(other, "add")

    def __sub__(self, other: Any) -> Int:
        return self._with(other, "sub")

    def __mul__(self, other: Any) -> Int:
        return self._with(other, "mul")

    def __floordiv__(self, other: Any) -> Int:
        return self._with(other, "udiv")

    def __mod__(self, other: Any) -> Int:
        return self._with(other, "urem")

    def __and__(self, other: Any) -> Int:
        return self._with(other, "and_")

    def is_(self, relation: str, other: Any) -> Any:
        """A truth value."""
        other = other.value if isinstance(other, Int) else ir.Constant(_INDEX, other)
        return self.builder.icmp_signed(relation, self.value, other)


class Place:
    """A place in memory that holds a number, with others after it."""

    __slots__ = ("code", "pointer")

    def __init__(self, code: Code, pointer: Any) -> None:
        self.code, self.pointer = code, pointer

    def __add__(self, offset: Any) -> Place:
        if isinstance(offset, int):
            offset = self.code.int(offset)
        return Place(self.code, self.code.builder.gep(self.pointer, [offset.value]))

    def scalar(self) -> Any:
        """The number."""
        return self.code.builder.load(self.pointer)

    def put_scalar(self, value: Any) -> None:
        """Write one number."""
        self.code.builder.store(value, self.pointer)

    @property
    def _vector(self) -> Any:
        return self.code.builder.bitcast(self.pointer, self.code.vector.as_pointer())

    def vector(self) -> Vec:
        """The numbers from here on."""
        align = self.code.dtype.itemsize
        return Vec(self.code, self.code.builder.load(self._vector, align=align))

    def put(self, x: Vec) -> None:
        """Write a vector."""
        self.code.builder.store(x.value, self._vector, align=self.code.dtype.itemsize)

    def _masked(self, name: str, result: Any, *arguments: Any) -> Any:
        b, lanes, width = self.code.builder, self.code.lanes, self.code.bits.width
        full = f"llvm.masked.{name}.v{lanes}f{width}.p0"
        kind = ir.FunctionType(result, [a.type for a in arguments])
        function = b.module.globals.get(full) or ir.Function(b.module, kind, full)
        return b.call(function, arguments)

    def vector_where(self, mask: Mask) -> Vec:
        """The numbers from here on where the mask holds, elsewhere zero; nothing else is read."""
        align = ir.Constant(ir.IntType(32), self.code.dtype.itemsize)
        zero = self.code.number(0)
        return Vec(self.code, self._masked("load", self.code.vector, self._vector, align, mask.value, zero.value))

    def put_where(self, mask: Mask, x: Vec) -> None:
        """Write a vector where the mask holds."""
        align = ir.Constant(ir.IntType(32), self.code.dtype.itemsize)
        self._masked("store", ir.VoidType(), x.value, self._vector, align, mask.value)


class Code(Writer):
    """Writes loops, and memory that belongs to one call."""

    def int(self, value: Any) -> Int:
        """An integer; one that is known already, or a value."""
        if isinstance(value, Int):
            return value
        return Int(self.builder, ir.Constant(_INDEX, value) if isinstance(value, int) else value)

    def choose(self, condition: Any, yes: Any, no: Any) -> Any:
        """One of two integers or places."""
        if isinstance(yes, Place):
            return Place(self, self.builder.select(condition, yes.pointer, no.pointer))
        return Int(self.builder, self.builder.select(condition, self.int(yes).value, self.int(no).value))

    @contextmanager
    def loop(self, count: Any, *, down: bool = False) -> Iterator[Int]:
        """0, 1, ..., count - 1, or the other way round."""
        count = self.int(count)
        with cgutils.for_range(self.builder, count.value, intp=_INDEX) as loop:
            i = Int(self.builder, loop.index)
            yield count - 1 - i if down else i

    @contextmanager
    def when(self, condition: Any) -> Iterator[None]:
        """Only if the condition holds."""
        with self.builder.if_then(condition):
            yield

    @contextmanager
    def either(self, condition: Any) -> Iterator[tuple[Any, Any]]:
        """Two contexts, one for each outcome."""
        with self.builder.if_else(condition) as branches:
            yield branches

    def room(self, kind: Any) -> Any:
        """A variable of a type."""
        return cgutils.alloca_once(self.builder, kind)

    def padded(self, n: Int) -> Int:
        """``n`` rounded up to whole vectors."""
        return (n + (self.lanes - 1)) & -self.lanes

    def mask(self, k: Int, n: Int) -> Mask:
        """The lanes of the vector at entry ``k`` that are among the first ``n``."""
        kind = ir.VectorType(_INDEX, self.lanes)
        left = self.builder.insert_element(
            ir.Constant(kind, ir.Undefined), (n - k).value, ir.Constant(ir.IntType(32), 0)
        )
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), None)
        spread = self.builder.shuffle_vector(left, ir.Constant(kind, ir.Undefined), zeros)
        return Mask(self, self.builder.icmp_signed("<", ir.Constant(kind, list(range(self.lanes))), spread))

    def clear(self, place: Place, count: Int) -> None:
        """Zeros."""
        size = (count * self.dtype.itemsize).value
        cgutils.memset(self.builder, place.pointer, size, 0)

    def copy(self, to: Place, source: Place, count: Int) -> None:
        """Some numbers from one place to another."""
        size = (count * self.dtype.itemsize).value
        cgutils.raw_memcpy(self.builder, to.pointer, source.pointer, size, 1)
