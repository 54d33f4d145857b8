"""A batch cut into parts that are computed side by side, each in a Python thread with one BLAS thread.

    L = sum over sequences,  so  dL/dW = dL_1/dW + dL_2/dW + ... + dL_n/dW

NumPy and the compiled code do not hold Python's lock while they compute.  Parts and the order of their sum depend on
the shapes and lengths alone, never on which part is ready first.  Time is cut for all parts as for the whole batch, and
with the whole batch's memory plan, so that they take together what one pass would take.

BLAS's own threads meet at every product of every step, and spin until the last of them is there.  Large products gain
more by them, on a machine that has nothing else to do; where it has, they were 2 to 20 times slower than one thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any, Protocol, TypeVar

import numpy as np

from numeric.arguments import Array, Data
from numeric.losses import Loss
from numeric.segments import Layout, lay_out
from numeric.session import Passed, Session

__all__ = ["Parts", "blas_threads_for", "check_threads", "cpus", "parts_for"]

_T = TypeVar("_T")
_PAYS = 1 << 24  # steps times sequences times entries of matrices from which a second thread pays: some milliseconds
# With two CPUs and nobody else: 1.36 to 1.78 times faster than one thread where H is 256 or more and B 4 or more, two
# parts there 0.6 to 1.1; for the compiled loop, which calls no BLAS, two parts 1.3 to 1.6 (tests/benchmarks/threads).
_LARGE = 1 << 20  # sequences times entries of matrices from which BLAS gains by more threads
_LEAST = 8  # sequences of a part; with fewer, products take nearly as long as with twice as many
Own = slice | Array


class Making(Protocol):
    """What makes the session of a part."""

    def __call__(self, data: Data, whole: Layout) -> Session:
        """For a part's data and the layout of the whole batch."""


def check_threads(threads: object) -> int | None:
    """The number of threads, None for what pays; raises ValueError for what is no positive whole number."""
    if threads is None:
        return None
    if isinstance(threads, bool) or not isinstance(threads, int | np.integer) or threads < 1:
        raise ValueError(f"threads is {threads!r}; expected a whole number from 1 on, or None for what pays")
    return int(threads)


def cpus() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parts_for(threads: int | None, data: Data, work: int) -> int:
    """How many parts, for a cell whose matrices have ``work`` entries."""
    if threads is not None:
        return min(threads, data.batch)
    if data.batch < 2 * _LEAST or data.steps * data.batch * work < _PAYS:
        return 1
    return min(cpus(), data.batch // _LEAST)


def blas_threads_for(data: Data, work: int) -> int:
    """How many threads BLAS gets for a pass of products, for a cell whose matrices have ``work`` entries."""
    return cpus() if data.batch * work >= _LARGE else 1


class Parts:
    """Passes of one shape, as :class:`numeric.session.Session` makes them, in ``count`` parts; one call at a time."""

    def __init__(self, make: Making, data: Data, rows: int, count: int) -> None:
        self.rows, self.count = rows, count
        self._cut(data)
        self.sessions = [make(_part(data, own), self.whole) for own in self.own]
        self.limit = self.sessions[0].limit

    @property
    def plan(self) -> Any:
        """The memory plan, of the whole batch: the first part has the longest sequence."""
        return self.sessions[0].plan

    def _cut(self, data: Data) -> None:
        self.whole, self.data = lay_out(data, self.rows), data
        self.own = _shares(self.whole, data.batch, self.count)

    def prepare(self, data: Data) -> None:
        """Take a call's data; the parts take theirs when they run."""
        if data.lengths is None:
            self.data = data
        else:
            self._cut(data)

    # ----------------------------------------------------------------------------------------------------------- passes

    def value_and_grad(self, loss: Loss) -> tuple[Any, dict[str, Array]]:
        """The loss and the parameters' gradients."""
        values, grads = zip(*self._each(lambda s, own: s.value_and_grad(_part_of_loss(loss, own))), strict=True)
        return sum(values), _sum(grads)

    def lean(self, loss: Loss) -> Passed:
        """The same, with the last states."""
        return self._joined(self._each(lambda s, own: s.lean(_part_of_loss(loss, own))))

    def backward(self, loss: Loss) -> Passed:
        """The loss and everything that was computed."""
        return self._joined(self._each(lambda s, own: s.backward(_part_of_loss(loss, own))))

    def outputs(self) -> dict[str, Array]:
        """The forward pass alone."""
        return self._beside(self._each(lambda s, own: s.outputs()), axis=1)

    def advance(self) -> dict[str, Array]:
        """The last states, from the forward pass alone."""
        return self._beside(self._each(lambda s, own: s.advance()), axis=0)

    # ---------------------------------------------------------------------------------------------------------- threads

    def _each(self, run: Callable[[Session, Own], _T]) -> list[_T]:
        """What ``run`` gives for each part, in order; the first part in this thread."""

        def one(k: int) -> _T:
            session, own = self.sessions[k], self.own[k]
            with session.limit, np.errstate(all="ignore"):  # which floating-point errors count is each thread's own
                session.prepare(_part(self.data, own), self.whole)
                return run(session, own)

        others = [_submit(one, k) for k in range(1, self.count)]
        try:
            first = one(0)
        finally:
            wait([future for future in others if future is not None])  # their buffers are in use, whatever happens
        return [first, *(one(k) if future is None else future.result() for k, future in enumerate(others, 1))]

    # ---------------------------------------------------------------------------------------------------------- results

    def _joined(self, parts: Sequence[Passed]) -> Passed:
        def beside(group: str, axis: int) -> dict[str, Array]:
            return self._beside([getattr(p, group) for p in parts], axis)

        value, grads = sum(p.loss for p in parts), _sum([p.params for p in parts])
        states, outputs, inputs = beside("states", 1), beside("outputs", 1), beside("inputs", 1)
        return Passed(value, grads, inputs, beside("initial", 0), states, outputs, beside("final", 0))

    def _beside(self, parts: Sequence[Mapping[str, Array]], axis: int) -> dict[str, Array]:
        """Arrays of the whole batch, in the user's order."""
        out = {}
        for name, first in parts[0].items():
            shape = [*first.shape]
            shape[axis] = self.data.batch
            out[name] = np.empty(shape, first.dtype)
            for own, part in zip(self.own, parts, strict=True):
                out[name][own if axis == 0 else (slice(None), own)] = part[name]
        return out


@cache
def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, "bptt")


def _submit(run: Callable[[int], _T], k: int) -> Future[_T] | None:
    """A part handed to another thread; None where none can be had any more: the interpreter is about to end."""
    try:
        return _workers().submit(run, k)
    except RuntimeError:
        return None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_workers.cache_clear)  # a child has no threads


def _shares(whole: Layout, batch: int, count: int) -> list[Own]:
    """Which sequences each part has: neighbours, or of ragged ones every n-th from the longest on."""
    if whole.order is None:
        return [slice(a, b) for a, b in pairwise(batch * k // count for k in range(count + 1))]
    return [whole.order[k::count] for k in range(count)]


def _part(data: Data, own: Own) -> Data:
    initial = {name: x[own] for name, x in data.initial.items()}
    batch = own.stop - own.start if isinstance(own, slice) else own.size
    lengths = None if data.lengths is None else data.lengths[own]
    inputs = {name: x[:, own] for name, x in data.inputs.items()}
    return replace(data, inputs=inputs, initial=initial, lengths=lengths, batch=batch)


def _part_of_loss(loss: Loss, own: Own) -> Loss:
    """Divided by the whole batch's count still."""
    full = {root: x[own] if loss.at == "last" else x[:, own] for root, x in loss.full.items()}
    return replace(loss, full=full, counts=None if loss.counts is None else loss.counts[own])


def _sum(parts: Sequence[dict[str, Array]]) -> dict[str, Array]:
    total, *others = parts
    for part in others:
        for name, x in part.items():
            total[name] += x
    return total
