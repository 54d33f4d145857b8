"""Every gradient of a random linear loss of all outputs and states, by every method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import numeric
from reports.measure.problem import BATCH, STEPS, Drawn

__all__ = ["ENTRIES", "cross_check", "is_exact"]

ENTRIES = 6


def is_exact(row: Any) -> bool:
    """Whether a method works to rounding, and so may refute; difference quotients fail beside a pole or a kink."""
    return bool(row.limit < 1e-9)


def cross_check(engine: Any, problem: Drawn, sizes: Mapping[str, int], seed: int) -> Any:
    """The table of :func:`numeric.check_gradients`."""
    cell = engine.cell
    random = np.random.default_rng([seed, 1])
    cotangents = {
        name: random.standard_normal((STEPS, BATCH, sizes[cell.axes[name]])) for name in (*cell.outputs, *cell.states)
    }
    return numeric.check_gradients(
        engine,
        problem.params,
        problem.inputs,
        loss="linear",
        at="every",
        cotangents=cotangents,
        initial=problem.initial,
        entries=ENTRIES,
        **problem.extent,
    )
