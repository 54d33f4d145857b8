"""Truncated backpropagation through time: losses carried back over a bounded number of steps.

Every k1 steps the losses of the last k1 steps are carried back over the last k2 steps, and no further:  the loss at t
reaches the uses at step j where  j > k1 ceil(t / k1) - k2.  This is BPTT(h; h') with h = k2 and h' = k1 of R. J.
Williams, J. Peng, "An efficient gradient-based algorithm for on-line training of recurrent network trajectories",
Neural Computation 2 (1990) 490-501.  With k1 = k2 the sequence falls into chunks, the last of which may be
shorter; states are carried from chunk to chunk, their derivatives are not.  What is dropped is said by
:func:`derive.truncate.dropped_by_windows`.

All windows use the same weights here.  Where weights are updated between chunks, as :func:`numeric.fit` does, a chunk
starts from a state that older weights computed: its gradient is that of its own loss with this state held fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from numeric.arguments import Array, Data
from numeric.losses import Loss
from numeric.problem import Problem
from numeric.session import Passed

__all__ = ["Window", "run_truncated", "windows"]


@dataclass(frozen=True)
class Window:
    """Steps ``start`` to ``stop`` (not included), of which the losses from ``first`` on count; from 0."""

    start: int
    first: int
    stop: int


def windows(steps: int, k1: int, k2: int) -> Iterator[Window]:
    """The windows of (k1, k2), in the order of time.

    >>> [(w.start, w.first, w.stop) for w in windows(5, 2, 4)]
    [(0, 0, 2), (0, 2, 4), (2, 4, 5)]
    """
    for first in range(0, steps, k1):
        yield Window(max(0, first + k1 - k2), first, min(first + k1, steps))


def run_truncated(
    run: Callable[[Problem, bool], Passed],
    advance: Callable[[Data], Mapping[str, Array]],
    problem: Problem,
    k1: int,
    k2: int,
    widths: Mapping[str, int],
    *,
    full: bool,
) -> Passed:
    """The sum over all windows.

    ``run`` gives a problem's pass, ``advance`` the states after a stretch of time; ``widths`` are the sizes of outputs
    and states.
    """
    data, loss = problem.data, problem.loss
    if k2 >= -(-data.steps // k1) * k1:  # nothing is dropped
        return run(problem, full)
    total = _nothing(data, widths, full)
    state = {name: x.copy() for name, x in data.initial.items()}
    here = 0
    for window in windows(data.steps, k1, k2):
        if window.start > here:
            ahead, who = _stretch(data, state, here, window.start)
            for name, x in advance(ahead).items():
                state[name][who] = x
            here = window.start
        part, who = _stretch(data, state, window.start, window.stop)
        if not who.size:
            break
        passed = run(Problem(part, _part_of_loss(loss, data, window, who)), full)
        if k1 == k2:
            for name, x in passed.final.items():
                state[name][who] = x
            here = window.stop
        _add(total, passed, window, who, full=full)
    if full and data.lengths is not None:
        for name in data.initial:
            _freeze(total.outputs[name], data.lengths)
    return total


def _freeze(states: Array, lengths: Array) -> None:
    """Beyond its end a sequence keeps its last state."""
    last = states[lengths - 1, np.arange(len(lengths))]
    np.copyto(states, last, where=(np.arange(len(states))[:, None] >= lengths)[:, :, None])


def _stretch(data: Data, state: Mapping[str, Array], start: int, stop: int) -> tuple[Data, Array]:
    """A stretch of time of the sequences that last longer than its start, and which these are."""
    who = np.arange(data.batch)
    lengths = None
    if data.lengths is not None:
        who = np.nonzero(data.lengths > start)[0]
        lengths = np.minimum(data.lengths[who], stop) - start
        stop = start + int(lengths.max(initial=0))
        lengths = None if (lengths == stop - start).all() else lengths
    whole = who.size == data.batch
    inputs = {n: np.ascontiguousarray(x[start:stop] if whole else x[start:stop, who]) for n, x in data.inputs.items()}
    initial = {n: x[who] for n, x in state.items()}
    return replace(data, inputs=inputs, initial=initial, lengths=lengths, steps=stop - start, batch=who.size), who


def _part_of_loss(loss: Loss, data: Data, window: Window, who: Array) -> Loss:
    """What a window has of a loss."""
    if loss.at == "every":
        full = {n: np.ascontiguousarray(array[window.start : window.stop, who]) for n, array in loss.full.items()}
        return replace(loss, full=full, begin=window.first - window.start)
    ends = np.full(who.size, data.steps) if data.lengths is None else data.lengths[who]
    counts = (ends > window.first) & (ends <= window.stop)
    return replace(loss, full={root: array[who] for root, array in loss.full.items()}, counts=counts)


def _nothing(data: Data, widths: Mapping[str, int], full: bool) -> Passed:
    params = {n: np.zeros_like(p) for n, p in data.params.items()}
    if not full:
        return Passed(0.0, params, {}, {}, {}, {}, {})
    inputs = {n: np.zeros_like(x) for n, x in data.inputs.items()}
    initial = {n: np.zeros_like(x) for n, x in data.initial.items()}
    shape = data.steps, data.batch
    states, outputs = (
        {n: np.zeros((*shape, size), data.dtype) for n, size in sizes.items()} for sizes in (_sizes(initial), widths)
    )
    return Passed(0.0, params, inputs, initial, states, outputs, {})


def _sizes(group: Mapping[str, Array]) -> dict[str, int]:
    return {name: x.shape[-1] for name, x in group.items()}


def _add(total: Passed, passed: Passed, window: Window, who: Array, *, full: bool) -> None:
    total.loss += passed.loss
    for name, x in passed.params.items():
        total.params[name] += x
    if not full:
        return
    for name, x in passed.inputs.items():
        total.inputs[name][window.start : window.start + len(x), who] += x
    if window.start == 0:
        for name, x in passed.initial.items():
            total.initial[name][who] += x
    own = window.first - window.start
    for name, x in passed.states.items():
        total.states[name][window.start : window.start + len(x), who] += x
    for name, x in passed.outputs.items():
        total.outputs[name][window.first : window.start + len(x), who] = x[own:]
