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
from numeric.nonfinite import all_finite, first_nonfinite
from numeric.optimize import Optimizer, UpdateState, clip_by_norm, clip_by_value, positive
from numeric.problem import check_problem
from numeric.shard import ShardedEngine
from numeric.training_batch import Batch, Objective

__all__ = ["Reached", "Trainer", "whole"]


@dataclass(frozen=True)
class Reached:
    """What a number of finished steps led to; ``loss`` is that of the last one.  Its arrays are read-only from then on:
    what has been reached is written to the file when a later step fails.
    """

    step: int
    params: Mapping[str, Array]
    state: UpdateState
    loss: float = np.nan

    def __post_init__(self) -> None:
        for arrays in (self.params, *self.state.moments.values()):
            for x in arrays.values():
                x.setflags(write=False)


@dataclass(frozen=True)
class Trainer:
    """All that a step needs besides its batch; raises TypeError and ValueError for settings that cannot be."""

    engine: Engine | ShardedEngine
    optimizer: Optimizer
    objective: Objective
    clip: float | None = None
    clip_value: float | None = None
    truncate: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.engine, Engine | ShardedEngine):
            raise TypeError(f"engine is {self.engine!r}; expected a numeric.Engine, or what numeric.shard made of one")
        made = not isinstance(self.optimizer, type)
        if not (made and all(callable(getattr(self.optimizer, name, None)) for name in ("init", "update"))):
            raise TypeError(f"optimizer is {self.optimizer!r}; expected one such as numeric.Adam(0.001)")
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
        engine = self.engine
        said = {"cell": engine.cell.text, "dtype": str(engine.dtype), "optimizer": repr(self.optimizer)}
        shards = engine.shards if isinstance(engine, ShardedEngine) else None  # they order the sum of a gradient
        bounds = {name: None if x is None else float(x) for name, x in self._bounds.items()}
        more = {"truncate": self.truncate and int(self.truncate), "shards": shards}
        return said | asdict(self.objective) | bounds | more

    @property
    def _bounds(self) -> dict[str, float | None]:
        return {"clip": self.clip, "clip_value": self.clip_value}

    def begin(self, params: Mapping[str, Any]) -> Reached:
        """No step done: copies of the parameters, checked for names, dtype and finiteness."""
        names = self.engine.cell.parameters
        if not isinstance(params, Mapping):
            raise ValueError(
                f"params has type {type(params).__name__}; expected a dict of {', '.join(names) or 'none'}"
            )
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
        passed = batch.passed  # the whole of it, so that an error speaks of the shapes that were given
        inputs, targets = passed.pop("inputs", None), passed.pop("targets", None)
        whole_batch = check_problem(self.engine.cell, self.engine.dtype, now.params, inputs, targets, passed)
        total, states, steps = 0.0, None, whole_batch.data.steps
        for start in range(0, steps, most):
            stop = min(start + most, steps)
            now, loss, states = self._chunk(now, batch.cut(start, stop, states), start, last=stop == steps)
            total += loss * ((stop - start) / steps if self._averaged else 1)
        return replace(now, loss=total)

    def _chunk(self, now: Reached, cut: Batch, start: int, *, last: bool) -> tuple[Reached, float, dict[str, Array]]:
        """What one chunk leads to, its loss and its last states; without a loss it has no update."""
        if self.objective.at == "last" and not last:
            out = self.engine.forward(now.params, **cut.passed_forward)
            states = {name: out[name][-1] for name in self.engine.cell.states}
            self._check(now, cut, start, None, states)
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
        self._check_updated(now, params, state)
        moments = {f"the moment {kind} of {n}": x for kind, of in state.moments.items() for n, x in of.items()}
        for tensor, x in {**params, **moments}.items():
            if not all_finite([x]):
                said = f"{tensor} after the update is not finite"
                raise FitError(_message(now, said, "the rate"), step=now.step + 1, tensor=tensor)
        return Reached(now.step, params, state, float(loss))

    def _check_updated(self, now: Reached, params: Any, state: Any) -> None:
        """Raise ValueError if an optimizer, which may be the user's own, gave something else than it was given."""
        if not isinstance(params, Mapping) or not isinstance(state, UpdateState) or set(params) != set(now.params):
            raise ValueError(f"{self.optimizer!r} gave no (params, UpdateState) with the parameters that it was given")
        for name, old in now.params.items():
            x = params[name]
            if not isinstance(x, np.ndarray) or (x.shape, x.dtype) != (old.shape, old.dtype):
                found = f"shape {x.shape} and {x.dtype}" if isinstance(x, np.ndarray) else f"type {type(x).__name__}"
                expected = f"an array of shape {old.shape} and {old.dtype}"
                raise ValueError(f"{self.optimizer!r} gave {name} of {found}; expected {expected}")

    def _check(self, now: Reached, batch: Batch, start: int, loss: float | None, arrays: Mapping[str, Array]) -> None:
        """Raise FitError, which says where it began, if a loss or an array is not finite; no loss: a forward pass."""
        if (loss is None or np.isfinite(loss)) and all_finite(arrays.values()):
            return
        passed = batch.passed_forward if loss is None else batch.passed
        found = first_nonfinite(self.engine, now.params, **passed)
        place = None if found is None else found.later(start)
        said = str(place or "the loss or its gradient is not finite, though each value and derivative is by itself")
        advice = "the rate, the bound of clip, or what the cell computes there"
        tensor, time = (place.tensor, place.step) if place else ("loss", None)
        raise FitError(_message(now, said, advice), step=now.step + 1, tensor=tensor, time=time)


def _message(now: Reached, said: str, advice: str) -> str:
    return f"step {now.step + 1}: {said}; the parameters before this step are finite: lower {advice}"


def whole(name: str, value: Any, *, least: int) -> int:
    """An integer that is at least ``least``; raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} is {value!r}; expected an integer, at least {least}")
    return int(value)
