"""The step Jacobian, the Jacobian product, and immediate against total derivatives.

With s the states side by side and s_t = F(theta, x_t, s_{t-1}):

    J_t = ds_t/ds_{t-1}                                  one block for each pair of states, a sum of words
    ds_T/ds_t = J_T J_{T-1} ... J_{t+1}                  later steps on the left
    dL/dtheta = sum over t of (dL/ds_t) d+s_t/dtheta     d+: the direct use of theta at step t, s_{t-1} held still
    P_t = J_t P_{t-1} + d+s_t/dtheta                     forward (real-time recurrent learning), P_t = ds_t/dtheta

R. J. Williams, D. Zipser, "A learning algorithm for continually running fully recurrent neural networks", Neural
Computation 1 (1989) 270-280, for the forward recursion; P. J. Werbos, "Backpropagation through time: what it does
and how to do it", Proceedings of the IEEE 78 (1990) 1550-1560, for ordered against immediate derivatives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Any

from sympy import Expr, Integer, Symbol

from derive.algebra import evaluate, total
from derive.notation import at, parameter
from derive.program import Program
from derive.unroll import Key, Problem, Values
from derive.words import Words, plain, tangent_words

__all__ = [
    "apply_words",
    "dense_jacobian",
    "immediate",
    "immediate_column",
    "influence",
    "multiply_jacobian",
    "step_jacobian",
]

Dense = dict[str, dict[str, list[list[Any]]]]


@lru_cache(maxsize=64)
def step_jacobian(program: Program) -> dict[str, dict[str, Words]]:
    """J_t by blocks: ``blocks[s][r]`` is ds_t/dr_{t-1} for states s and r."""
    states = program.cell.states
    by_leaf = {r: tangent_words(program, at(r, -1), [at(s) for s in states]) for r in states}
    return {s: {r: by_leaf[r][at(s)] for r in states} for s in states}


@lru_cache(maxsize=1024)
def immediate(program: Program, name: str) -> dict[str, Words]:
    """d+s_t/d(parameter or input) of every state s: the direct use at step t only."""
    cell = program.cell
    leaf = name if len(cell.parameters.get(name, ())) == 2 else parameter(name) if name in cell.parameters else at(name)
    found = tangent_words(program, leaf, [at(s) for s in cell.states])
    return {s: found[at(s)] for s in cell.states}


def apply_words(
    words: Words,
    problem: Problem,
    values: Values,
    vector: Sequence[Any],
    size: int,
    direction: Sequence[Sequence[Any]] | None = None,
) -> list[Any]:
    """A sum of words applied to a vector, entry by entry; ``direction`` stands for the letter dW.

    A word that ends in dW, or in a scalar's direction, is applied to a vector of ones.
    """
    matrices, _, scalars = problem.parameters
    zero = problem.algebra.number(Integer(0))
    out = [zero] * size
    for letters, coefficient in words.items():
        factors = []
        for name, transposed in letters:
            entries = direction if name.startswith("d ") else matrices[name]
            assert entries is not None
            factors.append(list(zip(*entries, strict=True)) if transposed else entries)
        inner = len(factors[0][0]) if factors else size
        for indices in product(range(inner), *(range(len(m)) for m in factors)):
            value = _coefficient(coefficient, indices, values, scalars, problem)
            for m, k, j in zip(factors, indices[1:], indices, strict=False):
                value = value * m[k][j]
            start = vector[indices[0]] if indices[0] < len(vector) else zero
            out[indices[-1]] = out[indices[-1]] + value * start
    return out


def _coefficient(
    e: Expr, indices: Sequence[int], values: Values, scalars: Mapping[Symbol, Any], problem: Problem
) -> Any:
    def leaf(symbol: Symbol) -> Any:
        base, slot = plain(symbol)
        return scalars[base] if slot is None else values[base][indices[slot]]

    return evaluate(e, leaf, problem.algebra)


def dense_jacobian(program: Program, problem: Problem, values: Values) -> Dense:
    """J_t at one step as numbers: ``dense[s][r]`` is a matrix, row by row."""
    axes, sizes = problem.cell.axes, problem.sizes
    one, zero = problem.algebra.number(Integer(1)), problem.algebra.number(Integer(0))
    out: Dense = {}
    for s, row in step_jacobian(program).items():
        out[s] = {}
        for r, words in row.items():
            units = [[one if i == j else zero for i in range(sizes[axes[r]])] for j in range(sizes[axes[r]])]
            columns = [apply_words(words, problem, values, unit, sizes[axes[s]]) for unit in units]
            out[s][r] = [list(entries) for entries in zip(*columns, strict=True)]
    return out


def multiply_jacobian(dense: Dense, states: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """J_t applied to a vector of all states."""
    return {
        s: [
            total([a * b for r, m in row.items() for a, b in zip(m[k], states[r], strict=True)])
            for k in range(_height(row))
        ]
        for s, row in dense.items()
    }


def _height(row: Mapping[str, list[list[Any]]]) -> int:
    return len(next(iter(row.values())))


def immediate_column(program: Program, problem: Problem, values: Values, key: Key) -> dict[str, list[Any]]:
    """d+s_t/d(key) of every state at one step; ``key`` is a parameter's entry."""
    cell = program.cell
    direct = immediate(program, key[0])
    one, zero = problem.algebra.number(Integer(1)), problem.algebra.number(Integer(0))
    shape = [problem.sizes[x] for x in cell.parameters[key[0]]]
    unit: list[Any] = [one] * max(problem.sizes.values())
    direction = None
    if len(shape) == 2:
        direction = [[one if (i, j) == key[1:] else zero for j in range(shape[1])] for i in range(shape[0])]
    elif len(shape) == 1:
        unit = [one if (k,) == key[1:] else zero for k in range(shape[0])]
    size = {s: problem.sizes[cell.axes[s]] for s in cell.states}
    return {s: apply_words(direct[s], problem, values, unit, size[s], direction) for s in cell.states}


def influence(
    program: Program, problem: Problem, tapes: Sequence[Values], jacobians: Sequence[Dense], key: Key
) -> list[dict[str, list[Any]]]:
    """P_t = ds_t/d(key) at every step, by the forward recursion; ``key`` is a parameter's entry."""
    out: list[dict[str, list[Any]]] = []
    for values, dense in zip(tapes, jacobians, strict=True):
        p = immediate_column(program, problem, values, key)
        if out:
            moved = multiply_jacobian(dense, out[-1])
            p = {s: [a + b for a, b in zip(moved[s], p[s], strict=True)] for s in p}
        out.append(p)
    return out
