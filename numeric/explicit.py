"""The brute-force symbolic gradient as a NumPy function: the unrolled loss written out, differentiated, lambdified.

For a few steps and entries only; it shares nothing with the backward program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from sympy import Expr, Symbol

from derive.algebra import SymPyScalars, total
from derive.cell import Cell
from derive.notation import at, parameter
from derive.unroll import Key, Problem, explicit, unroll
from numeric.compile import compile_expressions

__all__ = ["explicit_gradient", "explicit_jacobian"]

Arrays = Mapping[str, Any]


@lru_cache(maxsize=32)
def _unrolled(
    cell: Cell, steps: int, sizes: tuple[tuple[str, int], ...]
) -> tuple[Problem, list[dict[Symbol, list[Expr]]]]:
    problem = Problem(cell, SymPyScalars(), steps, dict(sizes), lambda key: explicit(cell, key))
    return problem, unroll(problem)


def _cotangent(name: str, t: int, k: int) -> Symbol:
    return parameter(f"cotangent {name}[{t}][{k + 1}]")


@lru_cache(maxsize=32)
def _gradient(cell: Cell, steps: int, sizes: tuple[tuple[str, int], ...]) -> tuple[list[Symbol], list[Key], Any]:
    problem, values = _unrolled(cell, steps, sizes)
    roots = [
        (n, t, k)
        for t in range(1, steps + 1)
        for n in (*cell.outputs, *cell.states)
        for k in range(dict(sizes)[cell.axes[n]])
    ]
    loss = total([values[t - 1][at(n)][k] * _cotangent(n, t, k) for n, t, k in roots])
    keys = problem.entries()
    symbols = [explicit(cell, key) for key in keys]
    slopes = [loss.diff(s) for s in symbols]
    arguments = [*symbols, *(_cotangent(*root) for root in roots)]
    return arguments, keys, compile_expressions(arguments, slopes)


def _number(cell: Cell, key: Key, params: Arrays, inputs: Arrays, initial: Arrays) -> Any:
    name, *index = key
    if name in cell.parameters:
        return np.asarray(params[name])[tuple(index)]
    t, k = index
    return initial[name][k] if t == 0 else inputs[name][t - 1, k]


def explicit_gradient(
    cell: Cell, params: Arrays, inputs: Arrays, initial: Arrays, cotangents: Sequence[Arrays], sizes: Mapping[str, int]
) -> dict[str, Any]:
    """The gradient of the sum over steps of <cotangent, value>, of one sequence, by SymPy's ``diff`` of it written out.

    ``inputs`` map names to (T, size), ``initial`` to (size,), ``cotangents`` holds one dict of outputs and states a
    step.  Returns arrays by parameter, by input (T, size), and by initial state under its name plus ``0``.
    """
    steps = len(cotangents)
    _, keys, function = _gradient(cell, steps, tuple(sorted(sizes.items())))
    numbers = [_number(cell, key, params, inputs, initial) for key in keys]
    weights = [
        cotangents[t - 1][n][k]
        for t in range(1, steps + 1)
        for n in (*cell.outputs, *cell.states)
        for k in range(sizes[cell.axes[n]])
    ]
    out = {n: np.zeros(np.shape(params[n])) for n in cell.parameters}
    out |= {n: np.zeros(np.shape(inputs[n])) for n in cell.inputs} | {
        f"{n}0": np.zeros(np.shape(initial[n])) for n in cell.states
    }
    for key, value in zip(keys, function(*numbers, *weights), strict=True):
        name, *index = key
        if name in cell.parameters:
            out[name][tuple(index)] = value
        elif index[0] == 0:
            out[f"{name}0"][index[1]] = value
        else:
            out[name][index[0] - 1, index[1]] = value
    return out


@lru_cache(maxsize=32)
def _jacobian(cell: Cell, steps: int, sizes: tuple[tuple[str, int], ...]) -> tuple[list[Key], Any]:
    problem, values = _unrolled(cell, steps, sizes)
    keys = problem.entries()
    last = [e for n in cell.states for e in values[-1][at(n)]]
    first = [explicit(cell, (n, 0, k)) for n in cell.states for k in range(dict(sizes)[cell.axes[n]])]
    return keys, compile_expressions([explicit(cell, key) for key in keys], [e.diff(s) for e in last for s in first])


def explicit_jacobian(
    cell: Cell, params: Arrays, inputs: Arrays, initial: Arrays, steps: int, sizes: Mapping[str, int]
) -> Any:
    """ds_T/ds_0 of one sequence, the states side by side in the order of ``cell.states``, by SymPy's ``diff``."""
    keys, function = _jacobian(cell, steps, tuple(sorted(sizes.items())))
    flat = function(*(_number(cell, key, params, inputs, initial) for key in keys))
    width = sum(sizes[cell.axes[n]] for n in cell.states)
    return np.array([float(x) for x in flat]).reshape(width, width)
