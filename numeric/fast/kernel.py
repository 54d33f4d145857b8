"""Consecutive entrywise operations as one compiled function: each number is read once, and written once.

    for each row r, for each entry k:    out[r, k] = f(args[r, k])    for all operations, in order

What lies between is in registers.  A full vector at a time; the entries that are left over are one masked vector.
tanh and sigmoid share what is dear with their derivatives, an exponential and a quotient each:

    e = exp(-|x|),    d = 1 / (1 + e),    s(x) = d or e d,    s'(x) = e d d
    m = exp(-2|x|) - 1,   d = 1 / (2 + m),   tanh |x| = -m d,    tanh'(x) = 4 (1 + m) d d
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from numeric.fast.code import Code, Int, Place
from numeric.fast.functions import VECTOR_FUNCTIONS
from numeric.fast.polynomials import coefficients, parts
from numeric.fast.store import compiled_function
from numeric.fast.vector import Mask, Vec

__all__ = ["Spot", "Work", "compile_kernel", "kernel_supports"]

_ARITY = {"add": 2, "subtract": 2, "multiply": 2, "divide": 2, "negative": 1, "copy": 1, "call": 1, "number": 0}
_DIMENSIONS = {"rows": 2, "columns": 2, "vector": 1, "scalar": 0}


@dataclass(frozen=True)
class Spot:
    """Where a value stands: member ``at`` of an array of rows or a vector, a scalar (0), or a temporary (array -1).

    A member's entries are [at n, (at + 1) n) of a row, or so many columns.
    """

    array: int
    at: int


@dataclass(frozen=True)
class Work:
    """One operation, entry by entry; ``data`` is the function of a "call", or the value of a "number".

    dtanh and dsigmoid may have the function's value as a second argument, which is not needed.  Without ``store`` the
    result is only for later operations; those take it in any case.
    """

    kind: str
    data: object
    args: tuple[Spot, ...]
    out: Spot
    store: bool


def kernel_supports(work: Iterable[Work]) -> bool:
    """Whether all operations have a compiled form."""
    return all(w.kind in _ARITY and (w.kind != "call" or str(w.data) in _FUNCTIONS) for w in work)


@lru_cache(maxsize=1024)
def compile_kernel(shapes: tuple[str, ...], work: tuple[Work, ...], dtype: str) -> Callable[..., float]:
    """``f(*arrays, n)`` that does all of ``work`` on members of size ``n``; it returns nothing of use.

    ``shapes`` are "rows", an array (b, w) with contiguous rows; "columns", (b, w) with one contiguous column after the
    other, which does not go together with rows; "vector", (w,), contiguous and the same for every row; or "scalar", ().
    There are as many rows as in the first array of rows or columns, or one.  Arrays are of ``dtype`` and large
    enough, which is not checked.  They may share memory entry by entry, but what has been read from a spot counts until
    that very spot is written.  The GIL is not held.  Raises ValueError for operations that make no sense.
    """
    _check(shapes, work)
    real = {"float32": types.float32, "float64": types.float64}[dtype]
    kinds = [types.Array(real, _DIMENSIONS[s], "A" if _DIMENSIONS[s] == 2 else "C") for s in shapes]
    kinds.append(types.int64)
    lane_bytes = _lane_bytes()

    @intrinsic
    def body(typing: Any, given: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            *arrays, n = cgutils.unpack_tuple(builder, values[0], len(kinds))
            code = _Wide(builder, dtype, lane_bytes)
            made = [context.make_array(k)(context, builder, v) for k, v in zip(kinds, arrays, strict=False)]
            (_Columns if "columns" in shapes else _Kernel)(code, shapes, work, made, code.int(n)).write()
            return ir.Constant(ir.DoubleType(), 0.0)

        return types.float64(given), generate

    entry = compiled_function(body, kinds, repr(("kernel", shapes, work, dtype, lane_bytes)))
    return lambda *arguments: entry(arguments)


def _check(shapes: Sequence[str], work: Sequence[Work]) -> None:
    """Whether each operation can be done where it stands."""
    if not kernel_supports(work):
        raise ValueError("an operation has no compiled form; ask kernel_supports first")
    if {"rows", "columns"}.issubset(shapes):
        raise ValueError("an array of rows and one of columns do not go together")
    known: set[Spot] = set()
    for w in work:
        extra = w.kind == "call" and w.data in ("dtanh", "dsigmoid") and len(w.args) == 2
        if len(w.args) != _ARITY[w.kind] and not extra:
            raise ValueError(f"{w.kind} takes {_ARITY[w.kind]} arguments, not {len(w.args)}")
        for spot in (*w.args, w.out):
            if not -1 <= spot.array < len(shapes):
                raise ValueError(f"{spot} is in none of the {len(shapes)} arrays")
        for spot in w.args:
            if spot.array < 0 and spot not in known:
                raise ValueError(f"{spot} is read before it is written")
        shape = shapes[w.out.array] if w.out.array >= 0 else ""
        if w.store and (shape == "scalar" or (shape == "vector" and {"rows", "columns"}.intersection(shapes))):
            raise ValueError(f"{w.out} is the same for every row and cannot be written")
        known.add(w.out)


def _lane_bytes() -> int:
    """The size of the machine's widest registers: nothing is gained here by less."""
    return 64 if llvmlite.binding.get_host_cpu_features().get("avx512f") else 32


class _Wide(Code):
    """Vectors of a given size."""

    def __init__(self, builder: Any, dtype: Any, lane_bytes: int) -> None:
        super().__init__(builder, dtype)
        self.lanes = lane_bytes // self.dtype.itemsize
        self.vector = ir.VectorType(self.real, self.lanes)
        self.bit_vector = ir.VectorType(self.bits, self.lanes)


class _Kernel:
    """One kernel in the making; ``arrays`` as Numba hands them over."""

    def __init__(self, code: Code, shapes: Sequence[str], work: Sequence[Work], arrays: Sequence[Any], n: Int) -> None:
        self.code, self.shapes, self.work, self.arrays, self.n = code, shapes, work, arrays, n
        self.place: dict[Spot, Place] = {}
        self.scalars: dict[Spot, Vec] = {}

    def write(self) -> None:
        """The loops."""
        code = self.code
        spots = dict.fromkeys(s for w in self.work for s in (*w.args, w.out) if s.array >= 0)
        for spot in (s for s in spots if self.shapes[s.array] == "scalar"):
            self.scalars[spot] = code.splat(Place(code, self.arrays[spot.array].data).scalar())
        self.loops([s for s in spots if s not in self.scalars])

    def loops(self, moving: Sequence[Spot]) -> None:
        """Row by row."""
        with self.code.loop(self.rows()) as r:
            for spot in moving:
                self.place[spot] = self.start(spot, r)
            self.along(self.n)

    def along(self, length: Int) -> None:
        """From the places, so many entries."""
        code = self.code
        whole = length // code.lanes
        with code.loop(whole) as block:
            self.block(block * code.lanes, None)
        done = whole * code.lanes
        with code.when(done.is_("<", length)):
            self.block(done, code.mask(done, length))

    def rows(self) -> Int:
        """How many rows there are."""
        for shape, array in zip(self.shapes, self.arrays, strict=True):
            if _DIMENSIONS[shape] == 2:
                return self.code.int(cgutils.unpack_tuple(self.code.builder, array.shape, 2)[0])
        return self.code.int(1)

    def start(self, spot: Spot, r: Int) -> Place:
        """The first entry of a member in row ``r``."""
        code, array = self.code, self.arrays[spot.array]
        data = array.data
        if self.shapes[spot.array] == "rows":
            stride = code.int(cgutils.unpack_tuple(code.builder, array.strides, 2)[0])
            data = cgutils.pointer_add(code.builder, data, (r * stride).value)
        return Place(code, data) + self.n * spot.at

    def block(self, k: Int, mask: Mask | None) -> None:
        """All operations on the vector from entry ``k``, or on those of its lanes that the mask has."""
        known, straight = dict(self.scalars), self.code.builder.block
        first = len(straight.instructions)

        def value(spot: Spot) -> Vec:
            if spot not in known:
                place = self.place[spot] + k
                known[spot] = place.vector() if mask is None else place.vector_where(mask)
            return known[spot]

        for w in self.work:
            known[w.out] = out = _result(self.code, w, [value(s) for s in w.args[: _ARITY[w.kind]]])
            if w.store and w.out.array >= 0:
                place = self.place[w.out] + k
                place.put(out) if mask is None else place.put_where(mask, out)
        if self.code.builder.block is straight:  # no function has made a branch
            straight.instructions[first:] = _side_by_side(straight.instructions[first:])


class _Columns(_Kernel):
    """The same where the entries of a feature, one for each sequence, are neighbours."""

    def loops(self, moving: Sequence[Spot]) -> None:
        """All entries of a member at once; feature by feature where a vector has a number for each."""
        code, batch = self.code, self.rows()
        vectors = [s for s in moving if self.shapes[s.array] == "vector"]
        whole = [s for s in moving if s not in vectors]
        features, length = (self.n, batch) if vectors else (code.int(1), self.n * batch)
        with code.loop(features) as k:
            for spot in vectors:
                place = Place(code, self.arrays[spot.array].data) + (self.n * spot.at + k)
                self.scalars[spot] = code.splat(place.scalar())
            for spot in whole:
                self.place[spot] = Place(code, self.arrays[spot.array].data) + (self.n * spot.at + k) * batch
            self.along(length)


def _side_by_side(instructions: Sequence[Any]) -> list[Any]:
    """Instructions by the length of the chain before them, so that functions are computed together.

    A processor looks about a hundred instructions ahead, which is three functions if one stands after the other, and
    each is a chain in which every instruction waits for the last.  Nothing is moved across a write.
    """
    ready: dict[int, int] = {}
    place: dict[int, int] = {}
    read = written = 0
    for i in instructions:
        name = i.callee.name if i.opname == "call" else i.opname
        at = max((ready.get(id(operand), 0) for operand in i.operands), default=0)
        if "store" in name:
            at = written = max(at, read, written)
        elif "load" in name:
            at = max(at, written)
            read = max(at, read)
        place[id(i)], ready[id(i)] = at, at + (5 if name == "fdiv" else 1)
    return sorted(instructions, key=lambda i: place[id(i)])


def _result(code: Code, w: Work, args: Sequence[Vec]) -> Vec:
    """What an operation gives."""
    if w.kind == "number":
        return code.number(w.data)
    if w.kind == "call":
        return _FUNCTIONS[str(w.data)](args[0])
    return _OPERATIONS[w.kind](*args)


_OPERATIONS: dict[str, Callable[..., Vec]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "negative": lambda a: -a,
    "copy": lambda a: a,
}


# --------------------------------------------------------------------------------- functions beside their derivatives


def _decay(x: Vec, rate: int) -> tuple[Vec, Vec]:
    """p and a power of two a with exp(-rate |x|) = (1 + p) a.

    The exponent is not positive: one shift makes 2^spare a, a normal number also where a is subnormal or zero.
    """
    w = x.writer
    digits, bias, spare, least = (52, 1023, 512, -746) if w.double else (23, 127, 64, -104)
    y = -w.abs(x) if rate == 1 else w.abs(x) * -rate
    y = w.select(y.is_("<", least), least, y)
    shift = 1.5 * 2.0**digits + bias + spare
    shifted = w.fma(y, 1 / math.log(2), shift)  # its lowest bits are the exponent of 2^spare a
    n = shifted - shift
    high, low = parts("ln2", 41, 53) if w.double else parts("ln2", 14, 24)
    r = w.fma(n, -low, w.fma(n, -high, y))
    half = math.log(2) / 2 * 1.0001
    v = r * r
    p = w.fma(v, _by_pairs(r, v, coefficients("exp", -half, half, 10 if w.double else 5)), r)
    return p, (shifted.as_bits() << digits).as_reals() * 2.0**-spare


def _by_pairs(x: Vec, square: Vec, coefs: Sequence[float]) -> Vec:
    """A polynomial by Horner's rule in the square: as few operations as in x, and half of the waiting."""
    w = x.writer
    terms = [w.number(c) for c in coefs]
    pairs = [w.fma(terms[i + 1], x, terms[i]) for i in range(0, len(terms) - 1, 2)]
    pairs += [terms[-1]] if len(terms) % 2 else []
    out = pairs[-1]
    for pair in pairs[-2::-1]:
        out = w.fma(out, square, pair)
    return out


#: p(e) with 1 - (1 + e) p(e) = T(1 - 2 e) / T(3), the least for 0 <= e <= 1; T is Chebyshev's, of degree 3 or 5.
_GUESS = {
    False: [c / 99 for c in (98, -80, 32)],
    True: [c / 3363 for c in (3362, -3312, 2912, -1792, 512)],
}


def _one_over_one_plus(e: Vec) -> Vec:
    """1 / (1 + e) for 0 <= e <= 1, without a division.

    Processors divide slowly, but beside other work.  The sigmoid divides and tanh does not: then neither waits.
    From a guess d with h = 1 - (1 + e) d, |h| < 1/99 or 1/3363, as d (1 + h + h^2 + h^3) or d (1 + h + ... + h^4).
    """
    w = e.writer
    first, *rest = _GUESS[w.double][::-1]
    d = w.number(first)
    for c in rest:
        d = w.fma(d, e, c)
    h = _missing(d, e)
    s = w.fma(h, h, h)
    return w.fma(d, w.fma(s, h * h, s) if w.double else w.fma(h, s, h), d)


def _missing(d: Vec, e: Vec) -> Vec:
    """1 - (1 + e) d, where 1 + e is not rounded."""
    return d.writer.fma(-d, e, 1 - d)


def _sigmoid_parts(x: Vec) -> tuple[Vec, Vec]:
    """e and d."""
    p, whole = _decay(x, 1)
    e = x.writer.fma(p, whole, whole)
    return e, 1 / (1 + e)


def _tanh_parts(x: Vec) -> tuple[Vec, Vec, Vec]:
    """e = 1 + m, m and d."""
    p, whole = _decay(x, 2)
    e = x.writer.fma(p, whole, whole)
    return e, x.writer.fma(p, whole, whole - 1), _one_over_one_plus(e)


def _sigmoid(x: Vec) -> Vec:
    e, d = _sigmoid_parts(x)
    return x.writer.select(x.is_("<", 0), e * d, d)


def _dsigmoid(x: Vec) -> Vec:
    e, d = _sigmoid_parts(x)
    d = x.writer.fma(d, _missing(d, e), d)  # squared, the rounding of 1 + e would be felt
    return e * d * d


def _tanh(x: Vec) -> Vec:
    _, m, d = _tanh_parts(x)
    return x.writer.copysign(m * d, x)


def _dtanh(x: Vec) -> Vec:
    e, _, d = _tanh_parts(x)
    return 4 * (e * d * d)


_FUNCTIONS: dict[str, Callable[[Vec], Vec]] = VECTOR_FUNCTIONS | {
    "sigmoid": _sigmoid,
    "dsigmoid": _dsigmoid,
    "tanh": _tanh,
    "dtanh": _dtanh,
}
