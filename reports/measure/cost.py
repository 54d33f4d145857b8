"""Time and memory of one gradient against T, beside the cost polynomials of the derivation.

Time: the best of some runs, of the processor where its clock is fine enough, so that other programs do not count.
Memory: the most that a call holds at a time, as NumPy reports it to tracemalloc.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import numeric
from derive.cost import Cost, evaluated
from derive.derivation import Derivation
from reports.measure.problem import draw_problem, loss_names

__all__ = ["BYTES", "GROWTH_BATCH", "Growth", "GrowthPoint", "growth"]

_CLOCK = time.process_time if time.get_clock_info("process_time").resolution < 1e-6 else time.perf_counter
LENGTHS = (32, 64, 128, 256, 512)
GROWTH_BATCH, RUNS, BYTES = 8, 5, 8


@dataclass(frozen=True)
class GrowthPoint:
    """One T: multiply-adds and entrywise operations, the best time; numbers stored, and the bytes that were held."""

    steps: int
    work: int
    seconds: float
    stored: int
    bytes: int


@dataclass(frozen=True, eq=False)
class Growth:
    """All T of one network; ``sizes`` are the letters of the polynomials, T apart."""

    sizes: Mapping[str, int]
    points: tuple[GrowthPoint, ...]

    @property
    def share(self) -> float:
        """Bytes held for each byte of the numbers that the polynomial counts, at the largest T."""
        last = self.points[-1]
        return last.bytes / (BYTES * last.stored) if last.stored else float("nan")

    @property
    def rate(self) -> float:
        """Seconds an operation, at the largest T."""
        return self.points[-1].seconds / self.points[-1].work


def growth(derivation: Derivation, sizes: dict[str, int], seed: int) -> Growth | str:
    """The study of one cell, or why there is none."""
    engine = numeric.Engine(derivation.cell, fast=False)
    calls = {T: _call(engine, sizes, T, seed) for T in (2, *LENGTHS)}
    if any(call is None for call in calls.values()):
        return "the cell is not finite at the numbers that were drawn"
    _run(engine, calls[2])  # what compiles does so before anything is measured
    points = []
    for T in LENGTHS:
        held = _traced(engine, calls[T])
        seconds = min(_timed(engine, calls[T]) for _ in range(RUNS))
        known = {"T": T, "B": GROWTH_BATCH, **sizes}
        stored = evaluated(derivation.cost.stored, known)
        points.append(GrowthPoint(T, _work(derivation.cost, known), seconds, stored, held))
    return Growth({"B": GROWTH_BATCH, **sizes}, tuple(points))


def _work(cost: Cost, sizes: Mapping[str, int]) -> int:
    """Multiply-adds and entrywise operations of a forward and a backward pass."""
    parts = (cost.forward, cost.backward, cost.forward_entrywise, cost.backward_entrywise)
    return max(1, sum(evaluated(part, sizes) for part in parts))


def _call(engine: Any, sizes: dict[str, int], T: int, seed: int) -> Any:
    """The arguments of a call, None where the cell is not finite."""
    cell = engine.cell
    problem = draw_problem(engine, sizes, T, GROWTH_BATCH, seed, spread=0.5)
    if problem is None:
        return None
    cotangents = {n: np.ones((T, GROWTH_BATCH, sizes[cell.axes[n]])) for n in loss_names(cell)}
    options = {"loss": "linear", "at": "every", "cotangents": cotangents, "initial": problem.initial}
    return (problem.params, problem.inputs), options | problem.extent


def _run(engine: Any, call: Any) -> Any:
    arguments, options = call
    return engine.value_and_grad(*arguments, **options)


def _timed(engine: Any, call: Any) -> float:
    start = _CLOCK()
    _run(engine, call)
    return _CLOCK() - start


def _traced(engine: Any, call: Any) -> int:
    """The most that a call holds beyond what was there before."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        _run(engine, call)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
