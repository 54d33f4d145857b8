"""Forward mode: how outputs and states move when parameters, inputs and initial states do.

    outputs, tangents = jvp(engine, params, inputs, {"W_hh": direction})

The tangent of a cell is a cell (:mod:`numeric.tangent`), so the same engine runs it at full size: three products for
each one of the forward pass, all steps at once wherever the forward pass can.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from derive.cell import Cell
from numeric.arguments import Array, Data, as_array, check_data, check_finite, check_known, unpadded
from numeric.engine import Engine
from numeric.tangent import dual, prefix_of

__all__ = ["check_tangents", "jvp"]


def jvp(
    engine: Engine,
    params: Mapping[str, Any],
    inputs: Any,
    tangents: Mapping[str, Any],
    *,
    initial: Mapping[str, Any] | None = None,
    lengths: Any = None,
    steps: int | None = None,
    batch: int | None = None,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Outputs and states (T, B, size), and their derivatives along one direction.

    ``tangents`` maps names of parameters, of inputs and of initial states (the state's name plus ``0``) to arrays of
    the shape of what they move; what is left out does not move.  The other arguments are those of
    :meth:`Engine.forward`; beyond a sequence's length states and their tangents stay as they are, and outputs and
    theirs are zero.  Raises ValueError that names the array, its shape and the one expected.

    >>> import numpy as np
    >>> engine = Engine("tanh_rnn")
    >>> params = engine.init(seed=0, D=2, H=3, O=2)
    >>> outputs, moved = jvp(engine, params, np.ones((4, 1, 2)), {"h0": np.ones((1, 3))})
    >>> outputs["y"].shape, moved["h"].shape
    ((4, 1, 2), (4, 1, 3))
    """
    if not isinstance(engine, Engine):
        raise TypeError(f"engine has type {type(engine).__name__}; expected a numeric.Engine")
    data = check_data(engine.cell, engine.dtype, params, inputs, initial, lengths, steps=steps, batch=batch)
    moves = check_tangents(engine.cell, data, tangents)
    prefix, cell = prefix_of(engine.cell), engine.cell
    found = _engine(cell, str(engine.dtype), engine.fast, engine.segment, engine.plain, engine.layout).forward(
        {**data.params, **{prefix + n: moves[n] for n in data.params}},
        {**data.inputs, **{prefix + n: moves[n] for n in data.inputs}},
        {**data.initial, **{prefix + n: moves[f"{n}0"] for n in data.initial}},
        data.lengths,
        steps=data.steps,
        batch=data.batch,
    )
    names = (*cell.outputs, *cell.states)
    return {n: found[n] for n in names}, {n: found[prefix + n] for n in names}


@lru_cache(maxsize=64)
def _engine(cell: Cell, dtype: str, fast: bool | None, segment: int | None, plain: bool, layout: str | None) -> Engine:
    return Engine(dual(cell), dtype, fast=fast, segment=segment, plain=plain, layout=layout)


def check_tangents(cell: Cell, data: Data, tangents: Any) -> dict[str, Array]:
    """A direction, checked: an array for each parameter, input and initial state, zero where it was left out."""
    points = {**data.params, **data.inputs, **{f"{n}0": s for n, s in data.initial.items()}}
    if not isinstance(tangents, Mapping):
        raise ValueError(
            f"tangents has type {type(tangents).__name__}; expected a dict with any of {', '.join(points)}"
        )
    check_known("tangent", tangents, points)
    out = {}
    for name, point in points.items():
        label = f"tangents[{name!r}]"
        array = as_array(label, tangents[name], data.dtype) if name in tangents else np.zeros_like(point)
        if array.shape != point.shape:
            raise ValueError(f"{label} has shape {array.shape}; expected {point.shape}, the shape of {name}")
        out[name] = unpadded(label, array, data.lengths) if name in cell.inputs else check_finite(label, array)
    return out
