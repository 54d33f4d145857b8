"""What a verdict keeps of its measurements: how far each tensor of each case is from the exact one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from numeric.arguments import Array
from numeric.oracle.criterion import AGREES, DISAGREES, Measured
from numeric.oracle.traces import Line

if TYPE_CHECKING:
    from numeric.oracle.judge import JudgedCase

__all__ = ["Distance", "distances"]


@dataclass(frozen=True)
class Distance:
    """One tensor of one case beside the exact one, at its worst entry ``index``.

    ``tensor`` is a parameter, an input, an initial state with a 0, ``outputs.h``, ``loss``, or ``trace.h``: of a trace,
    ``exact`` is what its line gives from the values that it reads, and ``index`` begins with the step, from 0.
    ``units`` is the error in units of ``noise``, u sigma'; ``steps`` that of the worst entry of each time step, where
    there are steps.
    """

    case: str
    tensor: str
    status: str
    units: float
    index: tuple[int, ...]
    found: float
    exact: float
    noise: float
    steps: tuple[float, ...] = ()


def distances(judged: Sequence[JudgedCase]) -> tuple[Distance, ...]:
    """Of everything that was measured, case by case."""
    return tuple(x for j in judged for x in (*_of_tensors(j), *_of_trace(j)))


def _of_tensors(judged: JudgedCase) -> Iterator[Distance]:
    for m in judged.measured.values():
        if m.units.size:
            timed = m.name in judged.case.inputs or m.name.startswith("outputs.")
            yield _of_tensor(judged.case.id, m, m.units.reshape(judged.case.T, -1) if timed else None)


def _of_tensor(case: str, m: Measured, by_step: Array | None) -> Distance:
    where = m.where
    noise = float(m.noise[where]) if m.noise.shape else float(m.noise)
    steps = () if by_step is None or not by_step.size else tuple(map(_units, by_step.max(axis=1)))
    found, exact = float(m.found[where]), float(m.exact.hi[where])
    return Distance(case, m.name, m.status, _units(m.most), where, found, exact, noise, steps)


def _of_trace(judged: JudgedCase) -> Iterator[Distance]:
    named = sorted(judged.trace, key=lambda line: (line.name, line.t))
    for name, group in groupby(named, key=lambda line: line.name):
        lines = list(group)
        line = max(lines, key=lambda x: _units(x.units))
        status = DISAGREES if line.is_wrong else AGREES
        steps = [0.0] * judged.case.T
        for one in lines:
            steps[one.t - 1] = _units(one.units)
        index, noise = (line.t - 1, *line.index), _noise(line)
        yield Distance(
            judged.case.id, f"trace.{name}", status, _units(line.units), index, line.found, line.computed, noise,
            tuple(steps),
        )  # fmt: skip


def _noise(line: Line) -> float:
    """The error that one unit stands for."""
    units = _units(line.units)
    return abs(line.found - line.computed) / units if 0 < units < np.inf else 0.0


def _units(x: float) -> float:
    """What is not a number is as far away as can be."""
    return float("inf") if np.isnan(x) else float(x)
