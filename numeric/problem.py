"""What a backward pass takes, checked: the options by name, the arrays, and the loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
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

    ``truncate``, k or (k1, k2) with k1 <= k2: every k1 steps the losses of the last k1 steps are carried back over the
    last k2 steps only (k: chunks of k steps); None, where left out, for the whole gradient.
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
    truncate: int | tuple[int, int] | None


_DATA = ("initial", "lengths")
_SIZE = ("steps", "batch")
_NOT_LOSS = (*_DATA, *_SIZE, "truncate")


@dataclass(frozen=True)
class Problem:
    """Checked arguments of one backward pass."""

    data: Data
    loss: Loss
    truncate: tuple[int, int] | None = None


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
    of_loss = {name: options[name] for name in known if name in options and name not in _NOT_LOSS}
    size = {name: options.get(name) for name in _SIZE}
    choice = choose_loss(cell, targets=targets, **of_loss)
    if not cell.inputs:  # then the loss's arrays say T, and B if no initial state does
        steps, batch = choice.extent()
        size["steps"] = steps if size["steps"] is None else size["steps"]
        size["batch"] = batch if size["batch"] is None and not _says_batch(options) else size["batch"]
    data = check_data(cell, dtype, params, inputs, **of_data, **size)
    return Problem(data, check_loss(choice, data), _truncation(options.get("truncate")))


def _truncation(given: Any) -> tuple[int, int] | None:
    """(k1, k2); None for the whole gradient."""
    if given is None:
        return None
    pair = given if isinstance(given, tuple) and len(given) == 2 else (given, given)
    for k in pair:
        if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
            raise ValueError(f"truncate is {given!r}; expected a number of steps k from 1 on, or a tuple (k1, k2)")
    k1, k2 = int(pair[0]), int(pair[1])
    if k2 < k1:
        raise ValueError(
            f"truncate is ({k1}, {k2}); expected k1 <= k2: of the losses of {k1} steps, those before the last {k2} "
            "would reach nothing"
        )
    return k1, k2


def _says_batch(options: Mapping[str, Any]) -> bool:
    initial = options.get("initial")
    return isinstance(initial, Mapping) and bool(initial)
