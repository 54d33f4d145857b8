"""Entrywise work: a SymPy expression as vector instructions, and the loop over rows and vectors around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sympy import Expr, Symbol

from numeric.compile import rounded
from numeric.fast.code import Int
from numeric.fast.frame import Frame
from numeric.fast.functions import VECTOR_FUNCTIONS
from numeric.fast.rows import Row, Steps
from numeric.fast.vector import Vec, Writer
from numeric.fast.work import Entrywise, Summed

__all__ = ["sum_rows", "value_of", "write_entrywise"]


def value_of(e: Expr, writer: Writer, leaf: Callable[[Symbol], Vec], known: dict[Expr, Vec]) -> Vec:
    """The value of an entrywise expression; constants are numbers already."""
    if e in known:
        return known[e]
    inner = lambda x: value_of(x, writer, leaf, known)  # noqa: E731
    if e.is_Symbol:
        out = leaf(e)
    elif e.is_Number:
        out = writer.number(float(e))
    elif e.is_Add:
        out = _sum(e, writer, inner)
    elif e.is_Mul:
        out = _product(e, writer, inner)
    elif e.is_Pow:
        power = _power(inner(e.base), abs(int(e.exp)))
        out = power if e.exp > 0 else 1 / power
    else:
        out = VECTOR_FUNCTIONS[type(e).__name__](inner(e.args[0]))
    known[e] = out
    return out


def _sum(e: Expr, writer: Writer, inner: Callable[[Expr], Vec]) -> Vec:
    """Plain terms first; a product is added in one instruction."""
    terms = [t for t in e.args if not t.is_Mul] + [t for t in e.args if t.is_Mul]
    out = inner(terms[0])
    for t in terms[1:]:
        if t.is_Mul and all(not f.is_Pow for f in t.args):
            first, *rest = t.args
            out = out - inner(t.func(*rest)) if first == -1 else writer.fma(inner(first), inner(t.func(*rest)), out)
        else:
            out = out + inner(t)
    return out


def _product(e: Expr, writer: Writer, inner: Callable[[Expr], Vec]) -> Vec:
    """Factors, then divisors."""
    below = [f for f in e.args if f.is_Pow and f.exp < 0]
    above = [f for f in e.args if f not in below]
    out: Vec | None = None
    for f in above:
        if f == -1:
            continue
        out = inner(f) if out is None else out * inner(f)
    if out is None:
        out = writer.number(1)
    if -1 in above:
        out = -out
    for f in below:
        out = out / _power(inner(f.base), -int(f.exp))
    return out


def _power(x: Vec, n: int) -> Vec:
    """By repeated squaring."""
    if n == 1:
        return x
    half = _power(x, n // 2)
    return half * half * x if n % 2 else half * half


def write_entrywise(frame: Frame, op: Entrywise, steps: Steps) -> None:
    """The loop of an operation over the rows of some steps."""
    lines = [(s, rounded(e)) for s, e in op.steps]
    with frame.rows(steps) as row:
        for k in frame.blocks(op.axis):
            _block(frame, op, lines, row, k)


def _block(frame: Frame, op: Entrywise, lines: list[tuple[Symbol, Any]], row: Row, k: Int) -> None:
    """All assignments for one vector; everything is read before anything is written."""
    known: dict[Expr, Vec] = {}
    leaf = lambda s: frame.read(s, row, k)  # noqa: E731
    for s, e in lines:
        known[s] = value_of(e, frame.code, leaf, known)
    for s in op.stores:
        place, _ = frame.entry(s, row)
        (place + k).put(known[s])


def sum_rows(frame: Frame, total: Summed, key: Any, steps: Steps) -> None:
    """Add the sum of an expression over the rows of some steps to a region of memory."""
    code, e, region = frame.code, rounded(total.expression), frame.region[key]
    for k in frame.blocks(total.axis):
        room = code.room(code.vector)
        code.builder.store((region + k).vector().value, room)
        with frame.rows(steps) as row:
            term = value_of(e, code, lambda s: frame.read(s, row, k), {})  # noqa: B023 - used at once
            code.builder.store((Vec(code, code.builder.load(room)) + term).value, room)
        (region + k).put(Vec(code, code.builder.load(room)))
