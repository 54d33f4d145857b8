"""Vectors of a few numbers as values of the code that is being written: what LLVM keeps in one or two registers.

A :class:`Vec` stands for ``lanes`` numbers of one type; its operators write instructions.  LLVM cuts a vector to the
registers that the machine has, so nothing here knows which machine it is.  A Python number is that number in each lane.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

__all__ = ["LANE_BYTES", "Bits", "Mask", "Vec", "Writer"]

LANE_BYTES = 32  # eight float32 or four float64: small cells waste few lanes


class Writer:
    """Writes vector instructions of one floating-point type at the place where ``builder`` stands."""

    def __init__(self, builder: Any, dtype: Any) -> None:
        self.builder, self.dtype = builder, np.dtype(dtype)
        self.double = self.dtype == np.float64
        self.real = ir.DoubleType() if self.double else ir.FloatType()
        self.bits = ir.IntType(64 if self.double else 32)
        self.lanes = LANE_BYTES // self.dtype.itemsize
        self.vector = ir.VectorType(self.real, self.lanes)
        self.bit_vector = ir.VectorType(self.bits, self.lanes)

    def number(self, value: Any) -> Vec:
        """A Python number, rounded to the type, in every lane; a vector as it is."""
        if isinstance(value, Vec):
            return value
        return Vec(self, ir.Constant(self.vector, [float(self.dtype.type(value))] * self.lanes))

    def integer(self, value: int) -> Bits:
        """An integer in every lane."""
        return Bits(self, ir.Constant(self.bit_vector, [value] * self.lanes))

    def splat(self, scalar: Any) -> Vec:
        """A scalar value in every lane."""
        b, undefined = self.builder, ir.Constant(self.vector, ir.Undefined)
        first = b.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
        return Vec(
            self, b.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), None))
        )

    def call(self, name: str, result: Any, *arguments: Any) -> Any:
        """An instruction that LLVM writes as a function, by its full name."""
        kind = ir.FunctionType(result, [a.type for a in arguments])
        known = self.builder.module.globals.get(name)
        return self.builder.call(known or ir.Function(self.builder.module, kind, name), arguments)

    def overloaded(self, name: str, *arguments: Vec) -> Vec:
        """The same, for those named after the vector's type."""
        suffix = f"v{self.lanes}f{self.bits.width}"
        return Vec(self, self.call(f"llvm.{name}.{suffix}", self.vector, *(a.value for a in arguments)))

    def scalar(self, name: str, *arguments: Any) -> Any:
        """The same, for one number."""
        return self.call(f"llvm.{name}.f{self.bits.width}", self.real, *arguments)

    def total(self, x: Any) -> Any:
        """The sum over the lanes of a vector of any type, halves added to halves, as one number."""
        return self.halved(x, self.builder.fadd)

    def largest(self, x: Vec) -> Any:
        """The largest lane, as one number; NaN counts as the smallest or not."""
        b = self.builder
        return self.halved(x.value, lambda p, q: b.select(b.fcmp_ordered(">", p, q), p, q))

    def halved(self, value: Any, join: Callable[[Any, Any], Any]) -> Any:
        """Join the upper half of a vector to the lower one until one number is left."""
        b, count, short = self.builder, self.lanes, ir.IntType(32)
        while count > 1:
            count //= 2
            undefined = ir.Constant(value.type, ir.Undefined)
            halves = [
                ir.Constant(ir.VectorType(short, count), [first + k for k in range(count)]) for first in (0, count)
            ]
            value = join(*(b.shuffle_vector(value, undefined, half) for half in halves))
        return b.extract_element(value, ir.Constant(short, 0))

    def fma(self, a: Any, b: Any, c: Any) -> Vec:
        """a b + c, with one rounding where the machine has it in one instruction and two where it has not."""
        return self.overloaded("fmuladd", *map(self.number, (a, b, c)))

    def fused(self, a: Any, b: Any, c: Any) -> Vec:
        """a b + c with one rounding, always."""
        return self.overloaded("fma", *map(self.number, (a, b, c)))

    def abs(self, x: Vec) -> Vec:
        """Absolute value."""
        return self.overloaded("fabs", x)

    def sqrt(self, x: Vec) -> Vec:
        """Square root, correctly rounded."""
        return self.overloaded("sqrt", x)

    def copysign(self, size: Vec, sign: Vec) -> Vec:
        """The size of one with the sign of the other."""
        return self.overloaded("copysign", size, sign)

    def select(self, mask: Mask, yes: Any, no: Any) -> Vec:
        """Lane by lane, ``yes`` where the mask holds, else ``no``."""
        return Vec(self, self.builder.select(mask.value, self.number(yes).value, self.number(no).value))


class Vec:
    """Some numbers, one a lane."""

    __slots__ = ("value", "writer")

    def __init__(self, writer: Writer, value: Any) -> None:
        self.writer, self.value = writer, value

    def _with(self, other: Any, name: str, *, swap: bool = False) -> Vec:
        a, b = self, self.writer.number(other)
        a, b = (b, a) if swap else (a, b)
        return Vec(self.writer, getattr(self.writer.builder, name)(a.value, b.value))

    def __add__(self, other: Any) -> Vec:
        return self._with(other, "fadd")

    def __sub__(self, other: Any) -> Vec:
        return self._with(other, "fsub")

    def __mul__(self, other: Any) -> Vec:
        return self._with(other, "fmul")

    def __truediv__(self, other: Any) -> Vec:
        return self._with(other, "fdiv")

    def __radd__(self, other: Any) -> Vec:
        return self._with(other, "fadd", swap=True)

    def __rsub__(self, other: Any) -> Vec:
        return self._with(other, "fsub", swap=True)

    def __rmul__(self, other: Any) -> Vec:
        return self._with(other, "fmul", swap=True)

    def __rtruediv__(self, other: Any) -> Vec:
        return self._with(other, "fdiv", swap=True)

    def __neg__(self) -> Vec:
        return Vec(self.writer, self.writer.builder.fneg(self.value))

    def is_(self, relation: str, other: Any) -> Mask:
        """Lanes where the relation holds; NaN is in no relation."""
        other = self.writer.number(other)
        return Mask(self.writer, self.writer.builder.fcmp_ordered(relation, self.value, other.value))

    def is_nan(self) -> Mask:
        """Lanes that hold no number."""
        return Mask(self.writer, self.writer.builder.fcmp_unordered("uno", self.value, self.value))

    def as_bits(self) -> Bits:
        """The same bits as integers."""
        return Bits(self.writer, self.writer.builder.bitcast(self.value, self.writer.bit_vector))


class Bits:
    """Some integers of the numbers' width, one a lane; they wrap around."""

    __slots__ = ("value", "writer")

    def __init__(self, writer: Writer, value: Any) -> None:
        self.writer, self.value = writer, value

    def _with(self, other: Any, name: str) -> Bits:
        other = other if isinstance(other, Bits) else self.writer.integer(other)
        return Bits(self.writer, getattr(self.writer.builder, name)(self.value, other.value))

    def __add__(self, other: Any) -> Bits:
        return self._with(other, "add")

    def __sub__(self, other: Any) -> Bits:
        return self._with(other, "sub")

    def __and__(self, other: Any) -> Bits:
        return self._with(other, "and_")

    def __or__(self, other: Any) -> Bits:
        return self._with(other, "or_")

    def __xor__(self, other: Any) -> Bits:
        return self._with(other, "xor")

    def __lshift__(self, count: int) -> Bits:
        return self._with(count, "shl")

    def __rshift__(self, count: int) -> Bits:
        return self._with(count, "lshr")

    def is_zero(self) -> Mask:
        """Lanes that are zero."""
        zero = self.writer.integer(0)
        return Mask(self.writer, self.writer.builder.icmp_unsigned("==", self.value, zero.value))

    def as_reals(self) -> Vec:
        """The same bits as floating-point numbers."""
        return Vec(self.writer, self.writer.builder.bitcast(self.value, self.writer.vector))


class Mask:
    """One truth value a lane."""

    __slots__ = ("value", "writer")

    def __init__(self, writer: Writer, value: Any) -> None:
        self.writer, self.value = writer, value

    def __and__(self, other: Mask) -> Mask:
        return Mask(self.writer, self.writer.builder.and_(self.value, other.value))

    def any(self) -> Any:
        """Whether any lane holds, as one truth value."""
        name = f"llvm.vector.reduce.or.v{self.writer.lanes}i1"
        return self.writer.call(name, ir.IntType(1), self.value)
