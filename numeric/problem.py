"""What a backward pass takes, checked: the options by name, the arrays, and the loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from derive.cell import Cell
from derive.errors import nearest
from numeric.arguments import Data, check_data
from numeric.losses import Loss, check_loss, choose_loss

__all__ = ["Options", "Problem", "check_problem"]


class Options(TypedDict, total=False):
    """The keyword arguments of every backward pass.

    ``loss`` is "softmax_cross_entropy" (where left out), "squared_error" or "linear"; ``at`` is "every" (where left
    out) or "last"; ``on`` is the output or state that the loss reads: the only output, or without outputs the first
    state, where left out; ``reduction`` is "sum" (where left out) or "mean", over the steps and sequences that count;
    ``cotangents``, for "linear", is a dict of arrays like the outputs and states, zero for names that are left out.

    ``initial`` maps states to (B, size), zero where left out; ``lengths`` is (B,), integers from 1 to T; ``steps`` and
    ``batch`` say T and B for a cell without inputs.
    """

    loss: str
    at: str
    on: str | None
    reduction: str
    cotangents: Mapping[str, Any] | None
    initial: Mapping[str, Any] | None
    lengths: Any
    steps: int | None
    batch: int | None


_DATA = ("initial", "lengths")
_SIZE = ("steps", "batch")


@dataclass(frozen=True)
class Problem:
    """Checked arguments of one backward pass."""

    data: Data
    loss: Loss


def check_problem(
    cell: Cell, dtype: np.dtype[Any], params: Any, inputs: Any, targets: Any, options: Mapping[str, Any]
) -> Problem:
    """Check and convert everything.

    Raises TypeError for an unknown option and ValueError that names the array, its shape and the one expected.
    """
    known = tuple(Options.__annotations__)
    for name in options:
        if name not in known:
            near = nearest(name, known)
            hint = f"; did you mean {near}?" if near else ""
            raise TypeError(f"unknown option {name!r}; expected any of {', '.join(known)}{hint}")
    of_data = {name: options[name] for name in _DATA if name in options}
    of_loss = {name: options[name] for name in known if name in options and name not in (*_DATA, *_SIZE)}
    size = {name: options.get(name) for name in _SIZE}
    choice = choose_loss(cell, targets=targets, **of_loss)
    if not cell.inputs:  # then the loss's arrays say T, and B if no initial state does
        steps, batch = choice.extent()
        size["steps"] = steps if size["steps"] is None else size["steps"]
        size["batch"] = batch if size["batch"] is None and not _says_batch(options) else size["batch"]
    data = check_data(cell, dtype, params, inputs, **of_data, **size)
    return Problem(data, check_loss(choice, data))


def _says_batch(options: Mapping[str, Any]) -> bool:
    initial = options.get("initial")
    return isinstance(initial, Mapping) and bool(initial)
