"""Where the first inf or nan of a training step appeared: which tensor, at which time step.

The forward pass is looked through first, from t = 1 on, every name that the cell assigns, in the order in which they
are computed; then the loss; then the derivatives by the same names, from t = T down; then the parameters' gradients.

An engine shows outputs and states.  To see an intermediate a[t] as well, the cell is given the output
``seen_a[t] = a[t]``; to see dL/da[t], the input ``push_a``, zero, in ``a[t] = ... + push_a[t]``: its gradient is
the same number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from derive.cell import Cell
from derive.parse import parse
from derive.unparse import unparse
from numeric.arguments import Array
from numeric.engine import Engine
from numeric.training_batch import Batch

__all__ = ["Place", "all_finite", "find_nonfinite"]


@dataclass(frozen=True)
class Place:
    """A tensor that is not finite; ``time`` is its first step, from 1, or None where it has no time."""

    tensor: str
    time: int | None
    said: str


def all_finite(arrays: Iterable[Any]) -> bool:
    """Whether every entry of every array is finite."""
    return all(bool(np.isfinite(x).all()) for x in arrays)


def find_nonfinite(engine: Engine, params: Mapping[str, Array], batch: Batch, offset: int = 0) -> Place:
    """The first inf or nan of a batch's forward and backward pass; ``offset`` steps came before the batch."""
    values = _values(engine, params, batch)
    place = _forward(engine.cell, values, offset) or _loss(engine, params, batch, offset)
    place = place or _backward(engine, params, batch, values, offset)
    return place or Place("loss", None, "the loss or its gradient is not finite, and is when it is computed again")


# -------------------------------------------------------------------------------------------------------- three passes


def _values(engine: Engine, params: Mapping[str, Array], batch: Batch) -> dict[str, Array]:
    """Every name that the cell assigns, (T, B, size), in the order in which they are computed."""
    cell = engine.cell
    hidden = [name for name in cell.intermediates if name not in cell.outputs]
    seen = _with(cell, {}, [f"seen_{name}[t] = {name}[t]" for name in hidden])
    found = Engine(seen, dtype=str(engine.dtype)).forward(params, **batch.passed_forward)
    return {name: found[f"seen_{name}" if name in hidden else name] for name in cell.order}


def _forward(cell: Cell, values: Mapping[str, Array], offset: int) -> Place | None:
    times = {name: found for name, x in values.items() if (found := _times(x)).size}
    if not times:
        return None
    name = min(times, key=lambda n: times[n][0])  # of those at one step, the one that is computed first
    t = int(times[name][0])
    said = f"{name}[t] is {_entry(values[name][t])} at t = {t + 1 + offset}, forwards"
    return Place(name, t + 1 + offset, said)


def _loss(engine: Engine, params: Mapping[str, Array], batch: Batch, offset: int) -> Place | None:
    """The loss, and the first step with which its sum is not finite."""

    def value(stop: int) -> float:
        return engine.value_and_grad(params, **(batch if stop == steps else batch.cut(0, stop)).passed)[0]

    steps = batch.steps
    if np.isfinite(total := value(steps)):
        return None
    if batch.objective.at == "last":
        return Place("loss", None, f"the loss is {total}, though all that the cell computes is finite")
    low, high = 0, steps  # finite over the first `low` steps, not over the first `high`
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if np.isfinite(value(middle)) else (low, middle)
    said = f"the loss, summed over the steps, is {total} from t = {high + offset} on"
    return Place("loss", high + offset, f"{said}, though all that the cell computes is finite")


def _backward(
    engine: Engine, params: Mapping[str, Array], batch: Batch, values: Mapping[str, Array], offset: int
) -> Place | None:
    derivatives, grads = _derivatives(engine, params, batch, values)
    times = {name: found for name, x in derivatives.items() if (found := _times(x)).size}
    if times:
        name = max(times, key=lambda n: times[n][-1])
        t = int(times[name][-1])
        where = f"at t = {t + 1 + offset}, backwards from t = {batch.steps + offset}"
        return Place(f"dL/d{name}", t + 1 + offset, f"dL/d{name}[t] is {_entry(derivatives[name][t])} {where}")
    for name, g in grads.items():
        if not all_finite([g]):
            said = f"dL/d{name}, a sum over time, is not finite, though dL/dv[t] is for every v of the cell"
            return Place(f"dL/d{name}", None, said)
    return None


def _derivatives(
    engine: Engine, params: Mapping[str, Array], batch: Batch, values: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """dL/d(name), (T, B, size), in the order in which they are computed, last name first; and by each parameter."""
    cell = engine.cell
    pushed = Engine(_with(cell, {name: f" + push_{name}[t]" for name in values}, []), dtype=str(engine.dtype))
    passed, inputs = batch.passed, batch.arrays.get("inputs")
    own = inputs if isinstance(inputs, Mapping) else {} if inputs is None else {cell.inputs[0]: inputs}
    passed["inputs"] = {**own, **{f"push_{name}": np.zeros_like(x) for name, x in values.items()}}
    result = pushed.backward(params, **passed)
    return {name: result.inputs[f"push_{name}"] for name in reversed(cell.order)}, result.params


# ---------------------------------------------------------------------------------------------------------------- parts


def _with(cell: Cell, more: Mapping[str, str], lines: Iterable[str]) -> Cell:
    """The cell with more added to its equations, and with more lines; its sizes are all declared."""
    shapes = cell.parameters.items() | {(name, (axis,)) for name, axis in cell.axes.items()}
    sizes = {name: ", ".join(shape) if shape else "scalar" for name, shape in sorted(shapes)}
    declared = [f"{name}: ({size})" if "," in size else f"{name}: {size}" for name, size in sizes.items()]
    equations = [f"{name}[t] = ({unparse(tree.value)}){more.get(name, '')}" for name, tree in cell.trees.items()]
    return parse("\n".join([*declared, *equations, *lines]))


def _times(x: Array) -> Array:
    """The indices along time at which something is not finite, in order."""
    return np.flatnonzero(~np.isfinite(x).all(axis=(1, 2)))


def _entry(x: Array) -> str:
    """The first bad entry of (B, size), with its place."""
    b, k = (int(i) for i in np.argwhere(~np.isfinite(x))[0])
    return f"{x[b, k]} (sequence {b}, entry {k})"
