"""Derivation to NumPy: the only place that calls ``lambdify``.

The expressions that were proven are printed, one assignment a line, with the accurate functions of
:mod:`numeric.functions`.  What has no symbols in it is one number, the float64 nearest to its exact value (enclosed in
ball arithmetic until only one float64 is left), printed with every digit; float32 stays float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from threading import Lock
from typing import Any

import flint
import numpy as np
import sympy
from sympy import Expr, Symbol
from sympy.printing.numpy import NumPyPrinter

from derive.algebra import evaluate
from derive.balls import Balls, precision
from derive.notation import parameter
from numeric.functions import FUNCTIONS

__all__ = ["Compiled", "check_constants", "compile_expressions", "compile_steps", "rounded"]

Compiled = Callable[..., Sequence[Any]]

_PRECISION = Lock()  # flint's is global


# ------------------------------------------------------------------------------------------------------- constants


@lru_cache(maxsize=4096)
def _nearest(e: Expr) -> float:
    """The float64 nearest to a constant; NaN where there is none: no value, too large, or lost below the smallest."""
    for bits in (128, 512, 2048):
        with _PRECISION, precision(bits):
            ball = flint.arb(evaluate(e, parameter, Balls()))
            low, high = float(ball.lower()), float(ball.upper())
        if low == high:
            return math.nan if math.isinf(low) or (low == 0 and not ball.contains(0)) else low
    return math.nan


def _number(e: Expr, dtype: Any) -> float:
    """The float64 nearest to a constant; raises ValueError where ``dtype`` has no normal number there."""
    value, limits = _nearest(e), np.finfo(dtype)
    if value == 0 or float(limits.tiny) <= abs(value) <= float(limits.max):
        return value
    text = str(e.n(3) if e.is_Rational else e)
    shown = text if len(text) < 40 else f"{text[:30]}..."
    raise ValueError(
        f"the constant {shown} is no number that {limits.dtype} can hold; rescale the equation that has it"
    )


@lru_cache(maxsize=1 << 15)
def _is_constant(e: Expr) -> bool:
    """Whether there are no symbols in ``e``; asked of every part of an expression, so each part answers once."""
    return not e.is_Symbol and all(map(_is_constant, e.args))


def _parted(e: Expr) -> tuple[Expr | None, list[Expr]]:
    """A sum, product or call in two: what its arguments without symbols make (None if there are none), the others."""
    constant = [a for a in e.args if _is_constant(a)]
    return (e.func(*constant) if constant else None), [a for a in e.args if not _is_constant(a)]


@lru_cache(maxsize=1 << 15)
def rounded(e: Expr) -> Expr:
    """``e`` with every part without symbols as one number; raises ValueError where float64 cannot hold it."""
    if _is_constant(e):
        return e if e.is_Integer and abs(e) < 2**53 else sympy.Float(_number(e, np.float64))
    if not e.args:
        return e
    if e.is_Pow:
        return sympy.Pow(rounded(e.base), e.exp, evaluate=False)
    constant, others = _parted(e)
    return e.func(*([] if constant is None else [rounded(constant)]), *map(rounded, others))


def _constants(e: Expr) -> Iterator[Expr]:
    """The parts of ``e`` that become numbers."""
    if _is_constant(e):
        yield e
    elif e.args:
        constant, others = (None, [e.base]) if e.is_Pow else _parted(e)
        yield from [] if constant is None else [constant]
        for other in others:
            yield from _constants(other)


def check_constants(expressions: Iterable[Expr], dtype: np.dtype[Any]) -> None:
    """Raise ValueError for a constant that arrays of ``dtype`` cannot hold."""
    for e in expressions:
        for constant in _constants(e):
            _number(constant, dtype)


# --------------------------------------------------------------------------------------------------------- printing


class _Printer(NumPyPrinter):
    """NumPy's notation, with every digit of a number and the functions of a cell by their own names."""

    def __init__(self) -> None:
        names = {name: name for name in FUNCTIONS}
        super().__init__({"fully_qualified_modules": False, "inline": True, "user_functions": names})

    def _print_Float(self, e: Expr) -> str:
        return repr(float(e))


def _lambdify(arguments: Sequence[Symbol], results: Sequence[Expr], assignments: Callable[[Any], Any]) -> Compiled:
    modules = [FUNCTIONS, "numpy"]
    return sympy.lambdify(arguments, results, modules, printer=_Printer(), cse=assignments, docstring_limit=0)


def compile_steps(
    inputs: Sequence[Symbol], steps: Sequence[tuple[Symbol, Expr]], outputs: Sequence[Symbol]
) -> Compiled:
    """A function of arrays that makes the assignments ``steps`` in order and returns ``outputs``.

    The arrays are broadcast against each other; a result that no input enters is a Python number.
    Raises ValueError for a constant that float64 cannot hold.
    """
    return _compiled(tuple(inputs), tuple(steps), tuple(outputs))


@lru_cache(maxsize=4096)
def _compiled(
    inputs: tuple[Symbol, ...], steps: tuple[tuple[Symbol, Expr], ...], outputs: tuple[Symbol, ...]
) -> Compiled:
    renamed: dict[Symbol, Symbol] = {s: sympy.Symbol(f"v{i}") for i, s in enumerate((*inputs, *(s for s, _ in steps)))}
    lines = [(renamed[s], rounded(e).xreplace(renamed)) for s, e in steps]
    results = [renamed[s] for s in outputs]
    return _lambdify([renamed[s] for s in inputs], results, lambda expressions: (lines, list(expressions)))


def compile_expressions(inputs: Sequence[Symbol], expressions: Sequence[Expr]) -> Compiled:
    """A function of arrays or numbers that returns the value of each expression; common parts are computed once."""
    renamed = {s: sympy.Symbol(f"v{i}") for i, s in enumerate(inputs)}
    body = [rounded(e).xreplace(renamed) for e in expressions]
    return _lambdify(list(renamed.values()), body, lambda wanted: sympy.cse(wanted, order="none", list=False))
