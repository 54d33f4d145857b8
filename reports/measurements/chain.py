"""Backpropagation through the unrolled network, one copy of the cell at a time, each with weights of its own.

A copy is the cell over one step.  From the last copy to the first, its gradient is taken with the derivative that the
copy after it hands back; nothing here knows of a recursion over time, or of shared weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numeric.arguments import Array
from reports.measurements.network import Network, extent

__all__ = ["Copies", "backward_through_copies", "distance", "flat"]

Copies = list[dict[str, Array]]


def backward_through_copies(net: Network, cotangents: dict[str, Array], outputs: dict[str, Array]) -> Copies:
    """The gradient of each copy's own weights, the first step first, of the linear loss with these ``cotangents``.

    ``outputs`` are those of a forward pass; an output or state that has no cotangent does not count.
    """
    cell = net.engine.cell
    carried = {name: np.zeros_like(net.initial[name]) for name in cell.states}
    found: Copies = []
    for t in reversed(range(net.steps)):
        before = {name: outputs[name][t - 1] if t else net.initial[name] for name in cell.states}
        arriving = {name: c[t] for name, c in cotangents.items()}
        arriving |= {name: d + arriving.get(name, 0.0) for name, d in carried.items()}
        given: dict[str, Any] = {"initial": before, **extent(net.engine, 1, net.batch)}
        here = {name: x[t : t + 1] for name, x in net.inputs.items()}
        step = {name: x[None] for name, x in arriving.items()}
        result = net.engine.backward(net.params, here, loss="linear", cotangents=step, **given)
        found.append(dict(result.params))
        carried = dict(result.initial)
    return found[::-1]


def flat(gradient: dict[str, Array]) -> Array:
    """All entries of all parameters, in the order of their names."""
    return np.concatenate([np.ravel(gradient[name]) for name in sorted(gradient)] or [np.zeros(0)])


def distance(one: Array, other: Array) -> float:
    """||one - other|| / ||other||; at least a rounding error, so that no machine's zero is another's noise."""
    size = float(np.linalg.norm(other))
    return max(float(np.linalg.norm(one - other)) / size if size else 0.0, 2.0**-53)
