"""Where the first inf or nan of a pass appeared: in which tensor, at which time step, of which sequence.

    forwards      t = 1, 2, ..., T      the nodes of a step in the order in which they are computed
    the loss                            its terms in the order of time
    backwards     t = T, ..., 2, 1      the nodes' derivatives, then the parameters' gradients summed so far

Both passes are run again, node by node as they were derived (:mod:`numeric.nonfinite_search`), and only as far as that.
It is slow, and meant for a result that is known not to be finite.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from derive.cell import Cell
from numeric.arguments import Array, Data, check_data
from numeric.losses import Loss, evaluate_loss
from numeric.nonfinite_search import Hit, Search
from numeric.problem import check_problem

__all__ = ["Nonfinite", "all_finite", "first_nonfinite"]


class _Described(Protocol):
    """What is asked of an engine: nothing that computes."""

    cell: Cell
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Nonfinite:
    """The first number that is not finite.

    ``tensor`` is a name such as "h", "a_h" (a part of an equation that has no name of its own), "W @ h[t-1]", "loss",
    "dL/dh" or "dL/dW"; ``step`` its time step, from 1 to T, or 0 for the derivative by an initial state; ``sequence``
    and ``entry`` its place there, from 0, None for a sum over sequences; ``direction`` "forward" or "backward", and
    ``begins`` the step with which this pass began.  ``within`` is the equation that an unnamed part belongs to.  A loss
    and a parameter's gradient are sums over time: ``step`` is the one with which the sum was not finite any more.
    """

    tensor: str
    step: int
    sequence: int | None
    entry: int | None
    direction: str
    begins: int
    value: Any
    within: str | None = None

    def later(self, steps: int) -> Nonfinite:
        """The same in a sequence of which so many steps came before."""
        return replace(self, step=self.step + steps, begins=self.begins + steps)

    def __str__(self) -> str:
        where = [f"{name} {k}" for name, k in (("sequence", self.sequence), ("entry", self.entry)) if k is not None]
        place = f" ({', '.join(where)})" if where else ""
        if self.entry is None:
            tensor = "the loss" if self.tensor == "loss" else self.tensor
            text = f"{tensor}, summed over time, is {self.value} from t = {self.step} on{place}"
            if self.tensor == "loss":
                return f"{text}, though all that the cell computes is finite"
        else:
            part = f", a part of {self.within}[t]," if self.within else ""
            tensor = self.tensor if "[" in self.tensor else f"{self.tensor}[t]"
            text = f"{tensor}{part} is {self.value} at t = {self.step}{place}"
        return f"{text}, {self.direction}s from t = {self.begins}"


def all_finite(arrays: Iterable[Any]) -> bool:
    """Whether every entry of every array is finite."""
    return all(bool(np.isfinite(x).all()) for x in arrays)


def first_nonfinite(
    engine: _Described, params: Mapping[str, Any], inputs: Any = None, targets: Any = None, **options: Any
) -> Nonfinite | None:
    """The first inf or nan of a forward and a backward pass; None where there is none.

    ``engine`` says the cell and the dtype; it is not run.  The other arguments are those of
    :meth:`numeric.Engine.backward`, and so are the errors; with neither ``targets`` nor ``cotangents`` the forward pass
    alone is looked through.  None, though an engine's result is not finite, says that its fused operations overflow
    where the derived ones, one by one, do not.

    >>> import derive
    >>> from numeric.engine import Engine
    >>> engine = Engine(derive.parse("h[t] = h[t-1]**2 + x[t]"))
    >>> print(first_nonfinite(engine, {}, np.full((20, 1, 1), 3.0)))
    h[t] is inf at t = 11 (sequence 0, entry 0), forwards from t = 1
    """
    if targets is None and options.get("cotangents") is None:
        own = {name: options[name] for name in ("initial", "lengths", "steps", "batch") if name in options}
        data, loss = check_data(engine.cell, engine.dtype, params, inputs, **own), None
    else:
        problem = check_problem(engine.cell, engine.dtype, params, inputs, targets, options)
        data, loss = problem.data, problem.loss
    with np.errstate(all="ignore"):
        search = Search(engine.cell, data, () if loss is None else tuple(loss.full))
        if hit := search.forwards():
            return _place(hit, "forward", 1)
        if loss is None:
            return None
        outputs = search.outputs()
        value, local = evaluate_loss(loss, outputs)
        if not np.isfinite(value):
            return _in_loss(loss, outputs, data)
        return _place(hit, "backward", data.steps) if (hit := search.backwards(local)) else None


def _place(hit: Hit, direction: str, begins: int) -> Nonfinite:
    return Nonfinite(hit.tensor, hit.t + 1, hit.sequence, hit.entry, direction, begins, hit.value, hit.within)


def _in_loss(loss: Loss, outputs: Mapping[str, Array], data: Data) -> Nonfinite:
    """The first of a loss's terms, in the order of time, with which their sum is not finite."""
    if loss.at == "last":
        t, b = loss.where
        order = np.argsort(t, kind="stable")
        t, b = t[order], b[order]
    else:
        t, b = np.nonzero(np.ones((data.steps, data.batch), bool) if data.mask is None else data.mask)

    def value(n: int) -> Any:
        where = (t[:n], b[:n])
        given = {root: x[where[1:] if loss.at == "last" else where] for root, x in loss.full.items()}
        return evaluate_loss(replace(loss, where=where, given=given), outputs)[0]

    low, high = 0, len(t)  # the sum of the first `low` terms is finite, that of the first `high` is not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if np.isfinite(value(middle)) else (low, middle)
    return Nonfinite("loss", int(t[low]) + 1, int(b[low]), None, "forward", 1, value(high))
