"""Families of cases, each with a purpose."""

from __future__ import annotations

from typing import Any

import numpy as np

from derive.cell import Cell
from numeric.oracle.case import Case

__all__ = ["default_cases"]


def default_cases(cell: Cell, seed: int = 0) -> tuple[Case, ...]:
    """The cases that an implementation is judged by where nothing else is said."""
    random = np.random.default_rng(seed)
    sizes = {letter: 3 + k for k, letter in enumerate(cell.dimensions)}
    steps, batch = 5, 3
    params = {n: random.uniform(-0.7, 0.7, [sizes[x] for x in shape]) for n, shape in cell.parameters.items()}
    inputs = {n: random.standard_normal((steps, batch, sizes[cell.axes[n]])) for n in cell.inputs}
    initial = {n: random.uniform(-0.5, 0.5, (batch, sizes[cell.axes[n]])) for n in cell.states}
    on = (*cell.outputs, *cell.states)[0]
    targets = random.integers(0, sizes[cell.axes[on]], (steps, batch))
    common: Any = {"cell": cell.name, "text": cell.text, "params": params, "inputs": inputs, "initial": initial}
    purpose = "tells the known mistakes apart"
    loss = "softmax_cross_entropy"
    return (Case("separating", "separating", purpose, **common, loss=loss, on=on, targets=targets),)
