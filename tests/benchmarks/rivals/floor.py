"""The floor: the matrix products of one gradient alone, and as many tanh as the cell has activations.

Sequential products are taken step by step, the others over all T * B rows, each in the better of two layouts: rows,
(batch, features) with the transposed matrix copied, or columns, (features, batch); gradients of matrices also as
d.T @ x or x.T @ d.  Every candidate is timed first and the better one kept, so the layouts may not even fit together:
nobody has to reach the floor.  The products are those that :mod:`derive.cost` counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import derive
from derive.cost import count_cost, evaluated

from .cases import Problem
from .contender import Contender, UnavailableError
from .problem_data import Data
from .stacked import STACKED, Stacked

__all__ = ["contender"]

Run = Callable[[], Any]


def contender(data: Data) -> Contender:
    """The floor of this problem."""
    p, names = data.problem, STACKED[data.problem.cell]
    if data.lengths is not None:
        raise UnavailableError("floor: only for batches of one length")
    _check_count(p, names)
    draw = _Draw(p.dtype)
    parts = [quickest(candidates) for candidates in _products(p, names, draw)]
    parts.append(_tanh(p, names, draw))

    def run() -> None:
        for part in parts:
            part()

    return Contender("floor", run)


def _check_count(p: Problem, names: Stacked) -> None:
    """The products below are those of the derivation, no more and no less."""
    cost = count_cost(derive.differentiate(derive.load(p.cell)).backward)
    sizes = {"T": p.T, "B": p.B, "D": p.D, "H": p.H, "O": p.O}
    G = len(names.U)
    here = p.T * p.B * (3 * G * p.H * p.H + 2 * G * p.H * p.D + 3 * p.O * p.H)
    if evaluated(cost.forward + cost.backward, sizes) != here:
        raise AssertionError(f"the floor of {p} takes {here} multiply-adds, the derivation {cost}")


class _Draw:
    """Random arrays of one dtype."""

    def __init__(self, dtype: str) -> None:
        self.random, self.dtype = np.random.default_rng(0), dtype

    def __call__(self, *shape: int) -> Any:
        return self.random.standard_normal(shape).astype(self.dtype)


def _products(p: Problem, names: Stacked, draw: _Draw) -> list[list[Run]]:
    """For each product its candidates."""
    gates, n = len(names.U) * p.H, p.T * p.B
    return [
        _whole(n, p.D, gates, draw),  # W x
        _sequential(p, p.H, gates, draw),  # U h
        _whole(n, p.H, p.O, draw),  # y
        _whole(n, p.O, p.H, draw),  # dL/dh from dL/dy
        _sequential(p, gates, p.H, draw),  # U' delta
        _outer(n, gates, p.H, draw),  # dU
        _outer(n, gates, p.D, draw),  # dW
        _outer(n, p.O, p.H, draw),  # dW_y
    ]


def _sequential(p: Problem, k: int, m: int, draw: _Draw) -> list[Run]:
    """T products of an (m, k) matrix with B vectors."""
    M, v = draw(m, k), draw(p.T, p.B, k)
    out = np.empty((p.T, p.B, m), p.dtype)
    M_T, v_T, out_T = np.ascontiguousarray(M.T), v.reshape(p.T, k, p.B), out.reshape(p.T, m, p.B)

    def rows() -> None:
        for t in range(p.T):
            np.matmul(v[t], M_T, out=out[t])

    def columns() -> None:
        for t in range(p.T):
            np.matmul(M, v_T[t], out=out_T[t])

    return [rows, columns]


def _whole(n: int, k: int, m: int, draw: _Draw) -> list[Run]:
    """One product of an (m, k) matrix with n vectors."""
    M, v, out = draw(m, k), draw(n, k), np.empty((n, m), np.dtype(draw.dtype))
    M_T, v_T, out_T = np.ascontiguousarray(M.T), v.reshape(k, n), out.reshape(m, n)
    return [lambda: np.matmul(v, M_T, out=out), lambda: np.matmul(M, v_T, out=out_T)]


def _outer(n: int, m: int, k: int, draw: _Draw) -> list[Run]:
    """One sum of n outer products, an (m, k) matrix or its transpose."""
    d, x, out = draw(n, m), draw(n, k), np.empty((m, k), np.dtype(draw.dtype))
    d_T, x_T, out_T = d.reshape(m, n), x.reshape(k, n), out.reshape(k, m)
    return [
        lambda: np.matmul(d.T, x, out=out),
        lambda: np.matmul(x.T, d, out=out_T),
        lambda: np.matmul(d_T, x_T.T, out=out),
        lambda: np.matmul(x_T, d_T.T, out=out_T),
    ]


def _tanh(p: Problem, names: Stacked, draw: _Draw) -> Run:
    """NumPy's tanh of as many numbers as the cell has activations, a step's at once, in cache."""
    a = draw(names.functions * p.H * p.B)
    out = np.empty_like(a)

    def run() -> None:
        for _ in range(p.T):
            np.tanh(a, out=out)

    return run


def quickest(candidates: list[Run], repeats: int = 3) -> Run:
    """The one with the least time, each timed several times in turn."""
    best = [float("inf")] * len(candidates)
    for _ in range(repeats + 1):  # the first round is warm-up, and does not hurt a minimum
        for k, run in enumerate(candidates):
            start = time.perf_counter()
            run()
            best[k] = min(best[k], time.perf_counter() - start)
    return candidates[best.index(min(best))]
