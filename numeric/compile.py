"""Derivation to NumPy: the only place that calls ``lambdify``.

The expressions that were proven are printed, one assignment a line, with the accurate functions of
:mod:`numeric.functions`; constants are rounded once, so that float32 stays float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import sympy
from sympy import Expr, Symbol

from numeric.functions import FUNCTIONS

__all__ = ["Compiled", "compile_expressions", "compile_steps"]

Compiled = Callable[..., Sequence[Any]]


def _rounded(e: Expr) -> Expr:
    """``e`` with every part without symbols as one number; raises ValueError where float64 cannot hold it."""
    if not e.free_symbols:
        return e if e.is_Integer and abs(e) < 2**53 else sympy.Float(_number(e))
    if not e.args:
        return e
    if e.is_Pow:
        return sympy.Pow(_rounded(e.base), e.exp, evaluate=False)
    return e.func(*map(_rounded, e.args))


def _number(e: Expr) -> float:
    """The float64 nearest to a constant."""
    try:
        value = Fraction(int(e.p), int(e.q)) if e.is_Rational else e.doit().evalf(30)
        out = float(value)
    except (OverflowError, TypeError):
        out = math.inf
    if not math.isfinite(out) or (out == 0 and e != 0):
        raise ValueError(f"the constant {e} is outside the range of float64; rescale the equation that has it")
    return out


def compile_steps(
    inputs: Sequence[Symbol], steps: Sequence[tuple[Symbol, Expr]], outputs: Sequence[Symbol]
) -> Compiled:
    """A function of arrays that makes the assignments ``steps`` in order and returns ``outputs``.

    The arrays are broadcast against each other; a result that no input enters is a Python number.
    """
    return _compiled(tuple(inputs), tuple(steps), tuple(outputs))


@lru_cache(maxsize=4096)
def _compiled(
    inputs: tuple[Symbol, ...], steps: tuple[tuple[Symbol, Expr], ...], outputs: tuple[Symbol, ...]
) -> Compiled:
    renamed: dict[Symbol, Symbol] = {s: sympy.Symbol(f"v{i}") for i, s in enumerate((*inputs, *(s for s, _ in steps)))}
    lines = [(renamed[s], _rounded(e).xreplace(renamed)) for s, e in steps]
    arguments = [renamed[s] for s in inputs]
    results = [renamed[s] for s in outputs]

    def in_order(expressions: Sequence[Expr]) -> tuple[list[tuple[Symbol, Expr]], list[Expr]]:
        return lines, list(expressions)

    return sympy.lambdify(arguments, results, modules=[_modules(), "numpy"], cse=in_order, docstring_limit=0)


def compile_expressions(inputs: Sequence[Symbol], expressions: Sequence[Expr]) -> Compiled:
    """A function of arrays, or of numbers, that returns the value of each expression; common parts are computed once."""
    renamed = {s: sympy.Symbol(f"v{i}") for i, s in enumerate(inputs)}
    body = [_rounded(e).xreplace(renamed) for e in expressions]

    def common(wanted: Any) -> Any:
        return sympy.cse(wanted, order="none", list=False)

    return sympy.lambdify(list(renamed.values()), body, modules=[_modules(), "numpy"], cse=common, docstring_limit=0)


def _modules() -> Mapping[str, Callable[..., Any]]:
    return FUNCTIONS
