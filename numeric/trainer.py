"""One step of a fit: gradient, clipping and update of one batch, in full or chunk by chunk.

    full         one gradient over all of the T steps, one update
    truncated    for each chunk of `truncate` steps: a gradient that ends at the chunk's first step, one update;
                 the chunk's last states are the next one's initial states

In truncated training the state that a chunk begins with is a constant: no gradient flows into the chunk before
(Williams & Peng 1990).  It was computed before the updates in between, with older weights; so a chunk's gradient is
that of its own loss with this stale state held fixed, and the updates together follow the gradient of no single loss
over the T steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from derive.losses import AT
from numeric.arguments import Array, as_array, check_finite, check_known
from numeric.engine import Engine
from numeric.fit_error import FitError
from numeric.nonfinite import all_finite, find_nonfinite
from numeric.optimize import Optimizer, UpdateState, clip_by_norm, clip_by_value, positive
from numeric.training_batch import Batch, Objective

__all__ = ["Reached", "Trainer", "whole"]


@dataclass(frozen=True)
class Reached:
    """What a number of finished steps led to; ``loss`` is that of the last one."""

    step: int
    params: Mapping[str, Array]
    state: UpdateState
    loss: float = np.nan


@dataclass(frozen=True)
class Trainer:
    """All that a step needs besides its batch; raises ValueError for settings that cannot be."""

    engine: Engine
    optimizer: Optimizer
    objective: Objective
    clip: float | None = None
    clip_value: float | None = None
    truncate: int | None = None

    def __post_init__(self) -> None:
        if self.engine.dtype.kind != "f":
            raise ValueError(f"the engine computes in {self.engine.dtype}; a fit needs float64 or float32")
        if self.objective.at not in AT:
            raise ValueError(f"at is {self.objective.at!r}; expected {' or '.join(map(repr, AT))}")
        if self.truncate is not None:
            whole("truncate", self.truncate, least=1)
        for name, bound in self._bounds.items():
            if bound is not None:
                positive(name, bound)

    def settings(self) -> dict[str, Any]:
        """What a fit that goes on must share with the one that began."""
        said = {"cell": self.engine.cell.text, "dtype": str(self.engine.dtype), "optimizer": repr(self.optimizer)}
        bounds = {name: None if x is None else float(x) for name, x in self._bounds.items()}
        return said | asdict(self.objective) | bounds | {"truncate": self.truncate and int(self.truncate)}

    @property
    def _bounds(self) -> dict[str, float | None]:
        return {"clip": self.clip, "clip_value": self.clip_value}

    def begin(self, params: Mapping[str, Any]) -> Reached:
        """No step done: copies of the parameters, checked for names, dtype and finiteness."""
        names = self.engine.cell.parameters
        check_known("parameter", params, names)
        if missing := [name for name in names if name not in params]:
            raise ValueError(f"missing parameter {', '.join(missing)}; expected {', '.join(names)}")
        own = {n: check_finite(n, as_array(n, params[n], self.engine.dtype)).copy() for n in names}
        return Reached(0, own, self.optimizer.init(own))

    # -------------------------------------------------------------------------------------------------------- a step

    def step(self, before: Reached, batch: Batch) -> Reached:
        """The step after ``before``; raises :class:`FitError` for the first inf or nan, and what the engine raises."""
        now = self._whole(before, batch) if self.truncate is None else self._chunks(before, batch, self.truncate)
        return replace(now, step=before.step + 1)

    def _whole(self, now: Reached, batch: Batch) -> Reached:
        loss, grads = self.engine.value_and_grad(now.params, **batch.passed)
        self._check(now, batch, 0, loss, grads)
        return self._updated(now, grads, loss)

    def _chunks(self, now: Reached, batch: Batch, most: int) -> Reached:
        if batch.arrays.get("lengths") is not None:
            raise ValueError("lengths and truncate do not go together; sort sequences by length, or give no truncate")
        if not batch.steps:
            raise ValueError("nothing says how large T is; give the batch inputs, or steps")
        total, states = 0.0, None
        for start in range(0, batch.steps, most):
            stop = min(start + most, batch.steps)
            now, loss, states = self._chunk(now, batch.cut(start, stop, states), start, last=stop == batch.steps)
            total += loss * ((stop - start) / batch.steps if self._averaged else 1)
        return replace(now, loss=total)

    def _chunk(self, now: Reached, cut: Batch, start: int, *, last: bool) -> tuple[Reached, float, dict[str, Array]]:
        """What one chunk leads to, its loss and its last states; without a loss it has no update."""
        if self.objective.at == "last" and not last:
            out = self.engine.forward(now.params, **cut.passed_forward)
            states = {name: out[name][-1] for name in self.engine.cell.states}
            self._check(now, cut, start, 0.0, states)
            return now, 0.0, states
        result = self.engine.backward(now.params, **cut.passed)
        states = {name: result.outputs[name][-1] for name in self.engine.cell.states}
        self._check(now, cut, start, result.loss, {**result.params, **states})
        return self._updated(now, result.params, result.loss), result.loss, states

    @property
    def _averaged(self) -> bool:
        """Whether a loss is a mean over the steps."""
        return self.objective.reduction == "mean" and self.objective.at == "every"

    def _updated(self, now: Reached, grads: Mapping[str, Array], loss: float) -> Reached:
        if self.clip_value is not None:
            grads = clip_by_value(grads, self.clip_value)
        if self.clip is not None:
            grads, _ = clip_by_norm(grads, self.clip)
        params, state = self.optimizer.update(now.params, grads, now.state)
        moments = {f"the moment {kind} of {n}": x for kind, of in state.moments.items() for n, x in of.items()}
        for tensor, x in {**params, **moments}.items():
            if not all_finite([x]):
                said = f"{tensor} after the update is not finite"
                raise FitError(_message(now, said, "the rate"), step=now.step + 1, tensor=tensor)
            x.setflags(write=False)
        return Reached(now.step, params, state, float(loss))

    def _check(self, now: Reached, batch: Batch, start: int, loss: float, arrays: Mapping[str, Array]) -> None:
        """Raise FitError, which says where it began, if a loss or an array is not finite."""
        if np.isfinite(loss) and all_finite(arrays.values()):
            return
        place = find_nonfinite(self.engine, now.params, batch, start)
        advice = "the rate, the bound of clip, or what the cell computes there"
        raise FitError(_message(now, place.said, advice), step=now.step + 1, tensor=place.tensor, time=place.time)


def _message(now: Reached, said: str, advice: str) -> str:
    return f"step {now.step + 1}: {said}; the parameters before this step are finite: lower {advice}"


def whole(name: str, value: Any, *, least: int) -> int:
    """An integer that is at least ``least``; raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} is {value!r}; expected an integer, at least {least}")
    return int(value)
