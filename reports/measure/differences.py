"""The error of difference quotients and of the complex step against the step size, beside the derived gradient.

Along one random direction v of length one through all parameters, with D(h) = (L(h v) - L(-h v)) / (2 h):

    central        |D(h) - g v|                          h^2 / 6 |L'''|  +  rounding / h
    Richardson     |(4 D(h/2) - D(h)) / 3 - g v|         O(h^4)          +  rounding / h
    complex step   |Im L(i h v) / h - g v|               h^2 / 6 |L'''|, no cancellation
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import numeric
from numeric.differences import central
from reports.measure.problem import Array, Drawn, draw_problem, loss_names

__all__ = ["FLOOR", "Differences", "differences"]

FLOOR = 2.0**-53
POINTS = tuple(float(h) for h in np.logspace(-15, 0, 31))
DIFFERENCE_STEPS = 8


@dataclass(frozen=True, eq=False)
class Differences:
    """Relative errors by step size, at least :data:`FLOOR`.

    ``curvature`` is L'''/(6 L') along the direction, taken where the central difference shows it best, so that its
    error is curvature h^2; ``rounding`` is u |L| / |L'|, so that the rounding of one value gives rounding / h.
    """

    along: str
    steps: tuple[float, ...]
    central: Array
    richardson: Array
    complex_step: Array
    curvature: float
    rounding: float


def differences(engine: Any, sizes: dict[str, int], seed: int) -> Differences | str:
    """The study of one cell, or why there is none."""
    cell = engine.cell
    problem = draw_problem(engine, sizes, DIFFERENCE_STEPS, 1, seed, spread=0.7)
    if problem is None:
        return "the cell is not finite at the numbers that were drawn"
    work = _Line(engine, problem, sizes, seed)
    if not np.isfinite(work.slope) or work.slope == 0 or abs(work.slope) < 1e-6 * work.length:
        return "the gradient along the direction that was drawn is zero, or not finite"
    return work.study("parameters" if cell.parameters else "initial states")


class _Line:
    """The loss along one direction."""

    def __init__(self, engine: Any, problem: Drawn, sizes: dict[str, int], seed: int) -> None:
        cell, random = engine.cell, np.random.default_rng([seed, 4])
        self.problem, self.engine = problem, engine
        self.cotangents = {
            n: random.standard_normal((problem.steps, problem.batch, sizes[cell.axes[n]])) for n in loss_names(cell)
        }
        moved = problem.params or problem.initial
        drawn = {n: random.standard_normal(np.shape(x)) for n, x in moved.items()}
        length = np.sqrt(sum(float((v**2).sum()) for v in drawn.values()))
        self.direction = {n: v / length for n, v in drawn.items()}
        found = engine.backward(
            problem.params,
            problem.inputs,
            loss="linear",
            at="every",
            cotangents=self.cotangents,
            initial=problem.initial,
            **problem.extent,
        )
        gradient = found.params if problem.params else found.initial
        self.value = float(found.loss)
        self.slope = float(sum((gradient[n] * v).sum() for n, v in self.direction.items()))
        self.length = math.hypot(*(float(entry) for g in gradient.values() for entry in g.ravel()))

    def loss(self, engine: Any) -> Callable[[Any], Any]:
        """The loss as a function of how far."""
        problem = self.problem

        def at(h: Any) -> Any:
            params = {n: p + h * self.direction[n] if n in self.direction else p for n, p in problem.params.items()}
            initial = {n: s + h * self.direction[n] if not params else s for n, s in problem.initial.items()}
            with np.errstate(all="ignore"):
                out = engine.forward(params, problem.inputs, initial, **problem.extent)
                return sum((c * out[n]).sum() for n, c in self.cotangents.items())

        return at

    def study(self, along: str) -> Differences:
        """The errors at every step size."""
        real, imaginary = self.loss(self.engine), self.loss(numeric.Engine(self.engine.cell, "complex128"))
        with np.errstate(all="ignore"):
            coarse = np.array([central(real, h) for h in POINTS])
            fine = np.array([central(real, h / 2) for h in POINTS])
            complex_step = np.array([float(imaginary(1j * h).imag / h) for h in POINTS])
        rounding = FLOOR * abs(self.value) / abs(self.slope)
        plain, better = self.error(coarse), self.error((4 * fine - coarse) / 3)
        curvature = _curvature(plain, rounding)
        return Differences(along, POINTS, plain, better, self.error(complex_step), curvature, rounding)

    def error(self, found: Array) -> Array:
        """Relative, and at least half a unit in the last place."""
        return np.maximum(np.abs(found - self.slope) / abs(self.slope), FLOOR)


def _curvature(errors: Array, rounding: float) -> float:
    """The error of central differences by h^2, from the step at which it is most a hundred times the rounding."""
    steps = np.array(POINTS)
    clear = np.flatnonzero(np.isfinite(errors) & (errors > 1e3 * rounding / steps) & (errors > 1e-9) & (steps < 0.05))
    return float(errors[clear[0]] / steps[clear[0]] ** 2) if clear.size else float("nan")
