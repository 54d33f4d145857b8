"""One batch on many workers: it is cut into parts, and the gradient is their sum, taken in a fixed order.

    L = sum over sequences,  so  dL/dW = dL_1/dW + dL_2/dW + ... + dL_n/dW        n = min(shards, B)

Part k holds the sequences floor((k-1)*B/n) to floor(k*B/n) - 1.  Cut and order depend on B and ``shards`` alone, and
each part is computed with one BLAS thread; so on machines of one kind the result is the same bit for bit, whatever the
number of workers and wherever they run.  A mean is the sum divided by the whole batch's count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from itertools import count, pairwise
from typing import Any, Unpack

import numpy as np

from numeric.arguments import Array, Data, check_data
from numeric.engine import Engine, Result
from numeric.losses import Loss
from numeric.problem import Options, Problem, check_problem
from numeric.shard_results import ShardError, results_in_order
from numeric.shard_work import Recipe, work

__all__ = ["ShardError", "ShardedEngine", "shard"]

_numbers = count()


def shard(engine: Engine, executor: Executor, *, shards: int = 8, timeout: float | None = None) -> ShardedEngine:
    """The engine with each batch cut into ``shards`` parts, computed by an executor's workers.

    ``executor`` is any :class:`concurrent.futures.Executor`: threads, processes, or ``Client(...).get_executor()`` of
    dask.distributed.  It stays the caller's, to be shut down by the caller; processes that are spawned need a script
    with ``if __name__ == "__main__":``.  A worker is sent the text of the cell, the parameters and its sequences.
    Processes are what saves time; threads share Python's lock, which is held between the small products of a step.
    ``shards`` is a part of the computation, as the batch is: another number gives other last digits.  ``timeout`` is
    how many seconds a call may take; without it a call waits for as long as the executor does.

    Raises TypeError for an engine with a backward pass of its own and for an executor that is none, and ValueError for
    ``shards`` and ``timeout`` that are not positive.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> engine = Engine("tanh_rnn")
    >>> params, x = engine.init(seed=0, D=2, H=3, O=2), np.ones((4, 6, 2))
    >>> with ThreadPoolExecutor(2) as pool:
    ...     loss, grads = shard(engine, pool, shards=3).value_and_grad(params, x, np.zeros((4, 6), int))
    >>> abs(loss - engine.value_and_grad(params, x, np.zeros((4, 6), int))[0]) < 1e-12
    True
    """
    return ShardedEngine(engine, executor, shards, timeout)


class ShardedEngine:
    """Stands where an :class:`numeric.Engine` stands: ``forward``, ``value_and_grad`` and ``backward`` take the same
    arguments, raise the same errors for them and give the same results but for rounding.

    Besides, all three raise :class:`ShardError` where a worker is lost, cancelled, too slow or fails.  It holds no
    state between calls and may be used from several threads, but not from the executor's own workers.
    """

    def __init__(self, engine: Engine, executor: Executor, shards: int, timeout: float | None) -> None:
        if not callable(getattr(executor, "submit", None)):
            raise TypeError(f"executor is {executor!r}; expected a concurrent.futures.Executor")
        if isinstance(shards, bool) or not isinstance(shards, int | np.integer) or shards < 1:
            raise ValueError(f"shards is {shards!r}; expected a positive integer")
        if timeout is not None and (
            isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0
        ):
            raise ValueError(f"timeout is {timeout!r}; expected a positive number of seconds, or None")
        self.engine, self.executor, self.shards, self.timeout = engine, executor, int(shards), timeout
        self.cell, self.dtype, self.keep = engine.cell, engine.dtype, engine.keep
        self.recipe = Recipe.of(engine)

    def __repr__(self) -> str:
        return f"<{self.engine!r} in {self.shards} shards by {type(self.executor).__name__}>"

    def init(self, seed: int = 0, **sizes: int) -> dict[str, Array]:
        """Random parameters, as :meth:`numeric.Engine.init` gives them."""
        return self.engine.init(seed, **sizes)

    # --------------------------------------------------------------------------------------------------------- passes

    def forward(
        self,
        params: Mapping[str, Any],
        inputs: Any = None,
        initial: Mapping[str, Any] | None = None,
        lengths: Any = None,
        *,
        steps: int | None = None,
        batch: int | None = None,
    ) -> dict[str, Array]:
        """Outputs and states at steps 1..T, each (T, B, size); arguments as for :meth:`numeric.Engine.forward`."""
        data = check_data(self.cell, self.dtype, params, inputs, initial, lengths, steps=steps, batch=batch)
        calls = [_data_of(data, own, initial) for own in _cut(data.batch, self.shards)]
        return _joined(list(self._results("forward", data.batch, calls)), axis=1)

    def value_and_grad(
        self, params: Mapping[str, Any], inputs: Any = None, targets: Any = None, **options: Unpack[Options]
    ) -> tuple[Any, dict[str, Array]]:
        """The loss and the gradient of every parameter; arguments as for :meth:`numeric.Engine.backward`."""
        problem, calls = self._calls(params, inputs, targets, options)
        loss, total = 0.0, _Sum(self.dtype)
        for part, grads in self._results("value_and_grad", problem.data.batch, calls):
            loss += part
            total.add(grads)
        return loss / problem.loss.count, total.over(problem.loss.count)

    def backward(
        self, params: Mapping[str, Any], inputs: Any = None, targets: Any = None, **options: Unpack[Options]
    ) -> Result:
        """The loss and every gradient; arguments as for :meth:`numeric.Engine.backward`."""
        problem, calls = self._calls(params, inputs, targets, options)
        loss, total, n = 0.0, _Sum(self.dtype), problem.loss.count
        parts = []
        for part in self._results("backward", problem.data.batch, calls):
            loss += part.loss
            total.add(part.params)
            parts.append((part.inputs, part.initial, part.states, part.outputs))
        inputs, initial, states, outputs = zip(*parts, strict=True)
        return Result(
            loss / n,
            total.over(n),
            _divided(_joined(inputs, axis=1), n),
            _divided(_joined(initial, axis=0), n),
            _divided(_joined(states, axis=1), n),
            _joined(outputs, axis=1),
        )

    def _calls(self, params: Any, inputs: Any, targets: Any, options: Options) -> tuple[Problem, list[dict[str, Any]]]:
        """The whole problem, checked as without shards, and the arguments of each part."""
        problem = check_problem(self.cell, self.dtype, params, inputs, targets, options)
        own_options = ("initial", "lengths", "steps", "batch", "cotangents", "reduction")
        shared = {name: value for name, value in options.items() if name not in own_options}
        calls = []
        for own in _cut(problem.data.batch, self.shards):
            data = _data_of(problem.data, own, options.get("initial"))
            calls.append(shared | data | _loss_of(problem.loss, own, targets) | {"reduction": "sum"})
        return problem, calls

    # --------------------------------------------------------------------------------------------------------- workers

    def _results(self, method: str, batch: int, calls: list[dict[str, Any]]) -> Iterator[Any]:
        """What the parts give, in their order."""
        named = [f"sequences {own.start} to {own.stop - 1}" for own in _cut(batch, self.shards)]
        sent = [(self.recipe, method, call, next(_numbers)) for call in calls]
        return results_in_order(self.executor, work, sent, named, self.timeout)


# ------------------------------------------------------------------------------------------------------------- cutting


def _cut(batch: int, shards: int) -> list[slice]:
    """The sequences of each part: as equal in number as can be, and none empty."""
    n = min(batch, shards)
    return [slice(a, b) for a, b in pairwise(batch * k // n for k in range(n + 1))]


def _data_of(data: Data, own: slice, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """A part's arguments of a forward pass; initial states that were not ``given`` are zero there as well."""
    return {
        "params": data.params,
        "inputs": {name: x[:, own] for name, x in data.inputs.items()},
        "initial": {name: data.initial[name][own] for name in given or ()},
        "lengths": None if data.lengths is None else data.lengths[own],
        "steps": data.steps,
        "batch": own.stop - own.start,
    }


def _loss_of(loss: Loss, own: slice, targets: Any) -> dict[str, Any]:
    """A part's targets or cotangents."""
    given = {root: x[own] if loss.at == "last" else x[:, own] for root, x in loss.full.items()}
    return {"cotangents": given} if targets is None else {"targets": next(iter(given.values()))}


# ------------------------------------------------------------------------------------------------------------- joining


class _Sum:
    """Gradients added one after the other, in double precision, and rounded once."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype, self.wide = dtype, np.result_type(dtype, np.float64)
        self.total: dict[str, Array] = {}

    def add(self, part: Mapping[str, Array]) -> None:
        """One part more."""
        if not self.total:
            self.total = {name: x.astype(self.wide) for name, x in part.items()}
            return
        for name, x in part.items():
            self.total[name] += x

    def over(self, n: int) -> dict[str, Array]:
        """The sum divided by n."""
        return {name: x.astype(self.dtype) for name, x in _divided(self.total, n).items()}


def _divided(arrays: dict[str, Array], n: int) -> dict[str, Array]:
    return arrays if n == 1 else {name: x / n for name, x in arrays.items()}


def _joined(parts: Sequence[Mapping[str, Array]], axis: int) -> dict[str, Array]:
    """The arrays of all parts, side by side along the batch."""
    return {name: np.concatenate([part[name] for part in parts], axis=axis) for name in parts[0]}
