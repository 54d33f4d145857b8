"""Derivatives of a function of one step, by the step alone: complex step, central differences, Richardson's tableau.

    complex step     f'(0) = Im f(i h) / h                              h = 1e-30: no cancellation, every digit
    central          D(h) = (f(h) - f(-h)) / (2 h) = f'(0) + O(h^2)
    Richardson       A_k0 = D(h / 2^k),   A_km = (4^m A_k,m-1 - A_k-1,m-1) / (4^m - 1) = f'(0) + O(h^(2m+2))

A tableau's entry is in doubt by what it differs from the two that it is made of, and by what rounding of f gives,
carried through the same recursion.  The entry in least doubt is the value; its doubt is the error estimate.

The order of convergence is measured, not believed: p = log2 of (D(h) - D(h/2)) / (D(h/2) - D(h/4)), about 2, and 4 for
the column A_k1, as long as the differences stand out of the rounding.

J. N. Lyness, C. B. Moler, "Numerical differentiation of analytic functions", SIAM Journal on Numerical Analysis 4
(1967) 202-210; W. Squire, G. Trapp, "Using complex variables to estimate derivatives of real functions", SIAM Review 40
(1998) 110-112; L. F. Richardson, "The approximate arithmetical solution by finite differences", Philosophical
Transactions of the Royal Society A 210 (1911) 307-357; C. J. F. Ridders, "Accurate computation of F'(x) and F'(x)
F''(x)", Advances in Engineering Software 4 (1982) 75-76.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

__all__ = ["Convergence", "Estimate", "central", "complex_step", "convergence", "richardson"]

#: The imaginary step: its square is nothing beside one.
IMAGINARY = 1e-30

#: First steps, the next one where the one before leaves too much in doubt, and the halvings of each.
STARTS, LEVELS = (2.0**-4, 2.0**-9, 2.0**-14, 2.0**-19), 6

#: A value that is known to so much of itself needs no smaller steps.
ENOUGH = 2.0**-26

Function = Callable[[Any], Any]


@dataclass(frozen=True)
class Estimate:
    """A derivative by extrapolated differences, its error estimate, and the first step of the tableau."""

    value: float
    error: float
    start: float


@dataclass(frozen=True)
class Convergence:
    """How central and extrapolated differences converge as the step is halved.

    ``steps`` are the h, ``central`` D(h), ``extrapolated`` (4 D(h/2) - D(h)) / 3, one fewer.  The orders are measured
    at the smallest steps at which differences stand out of the rounding; None where they nowhere do, as for a function
    that is linear (central) or cubic (extrapolated) in the step.
    """

    steps: tuple[float, ...]
    central: tuple[float, ...]
    extrapolated: tuple[float, ...]
    central_order: float | None
    extrapolated_order: float | None


def complex_step(f: Function) -> float:
    """f'(0) from one value at an imaginary step.

    >>> complex_step(lambda h: np.exp(2 * h))
    2.0
    """
    return float(f(1j * IMAGINARY).imag / IMAGINARY)


def central(f: Function, h: float) -> float:
    """(f(h) - f(-h)) / (2 h)."""
    return float((f(h) - f(-h)) / (2 * h))


def richardson(f: Function, *, noise: float = 0.0, scale: float = 1.0) -> Estimate:
    """f'(0) and how far off it may be.

    ``noise`` bounds the rounding error of one value of f; ``scale`` is the size that steps are multiples of.

    >>> found = richardson(np.exp, noise=2.0**-50)
    >>> abs(found.value - 1) < found.error < 1e-11
    True
    """
    best = Estimate(np.nan, np.inf, np.nan)
    for start in STARTS:
        found = _tableau(f, start * scale, noise)
        best = min(best, found, key=lambda e: e.error)
        rounding = noise * 2**LEVELS / found.start  # with smaller steps there would be more of it
        if best.error <= ENOUGH * abs(best.value) or found.error <= rounding:
            break
    return best


def _tableau(f: Function, start: float, noise: float) -> Estimate:
    best = Estimate(np.nan, np.inf, start)
    above: list[tuple[float, float]] = []
    for k in range(LEVELS):
        h = start / 2**k
        row = [(central(f, h), noise / h)]
        for m, (coarse, doubt) in enumerate(above, start=1):
            fine, own = row[-1]
            value, rounding = (4**m * fine - coarse) / (4**m - 1), (4**m * own + doubt) / (4**m - 1)
            row.append((value, rounding))
            error = max(abs(value - fine), abs(value - coarse)) + rounding
            if error < best.error:
                best = Estimate(value, error, start)
        above = row
    return best


def convergence(f: Function, *, noise: float = 0.0, start: float = 0.5, levels: int = 9) -> Convergence:
    """Central and extrapolated differences at the steps start, start/2, ..., and their measured orders.

    >>> found = convergence(np.exp, noise=2.0**-52)
    >>> round(found.central_order, 1), round(found.extrapolated_order, 1)
    (2.0, 4.0)
    """
    steps = [start / 2**k for k in range(levels)]
    values = [central(f, h) for h in steps]
    better = [(4 * fine - coarse) / 3 for coarse, fine in pairwise(values)]
    doubts = [noise / h for h in steps]
    finer = [(4 * fine + coarse) / 3 for coarse, fine in pairwise(doubts)]
    return Convergence(tuple(steps), tuple(values), tuple(better), _order(values, doubts), _order(better, finer))


def _order(values: Sequence[float], doubts: Sequence[float]) -> float | None:
    """log2 of the ratio of two differences, where the smaller one is 64 times what rounding may make of it."""
    changes = [abs(a - b) for a, b in pairwise(values)]
    doubtful = [64 * (a + b) for a, b in pairwise(doubts)]
    usable = [k for k in range(len(changes) - 1) if changes[k + 1] > doubtful[k + 1]]
    return float(np.log2(changes[usable[-1]] / changes[usable[-1] + 1])) if usable else None
