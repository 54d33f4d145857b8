"""The bias of truncated backpropagation through time, measured, and as the sum of the terms that are dropped.

With the full gradient a sum over pairs, loss at t and use at j (:mod:`derive.truncate`),

    g_k - g  =  - sum over the dropped pairs of  (dl_t/ds_t) J_t ... J_{j+1} d+s_j/dtheta

The left side is the engine's, truncated and not.  The right side needs no truncation: as many copies of the sequence as
it has steps, the loss of copy t that of step t alone, give each pair its own number in one plain backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from derive.adjoint import backward_of
from derive.notation import parameter
from derive.truncate import dropped_by_chunks, dropped_by_window
from numeric.float_arrays import FloatArithmetic
from numeric.interpret import Interpreter
from numeric.problem import check_problem
from numeric.tangent import program_of
from reports.measure.problem import Array, Drawn, draw_problem, loss_names

__all__ = ["TRUNCATION_STEPS", "Truncation", "truncation"]

TRUNCATION_STEPS = 20
LENGTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 20)


@dataclass(frozen=True, eq=False)
class Truncation:
    """Relative bias ||g_k - g|| / ||g|| over all parameters, by k: measured, and by the dropped terms.

    ``chunks`` cuts the sequence every k steps, ``windows`` carries each loss back over k steps.  ``apart`` is the
    largest difference between the two vectors g_k - g, relative to ||g||.
    """

    steps: int
    lengths: tuple[int, ...]
    chunks: tuple[float, ...]
    windows: tuple[float, ...]
    chunks_predicted: tuple[float, ...]
    windows_predicted: tuple[float, ...]
    apart: float

    @property
    def drops(self) -> bool:
        """Whether truncation loses anything at all."""
        return max(self.chunks) > 1e-12


def truncation(engine: Any, sizes: dict[str, int], seed: int) -> Truncation | str:
    """The study of one cell, or why there is none."""
    cell = engine.cell
    if not cell.parameters:
        return "the cell has no parameters, so that there is no sum over time to truncate"
    problem = draw_problem(engine, sizes, TRUNCATION_STEPS, 1, seed, spread=0.7)
    if problem is None:
        return "the cell is not finite at the numbers that were drawn"
    random = np.random.default_rng([seed, 3])
    cotangents = {n: random.standard_normal((problem.steps, 1, sizes[cell.axes[n]])) for n in loss_names(cell)}
    full = _gradient(engine, problem, cotangents, None)
    size = float(np.linalg.norm(full))
    if not np.isfinite(size) or size == 0:
        return "the gradient is zero, or not finite, at the numbers that were drawn"
    terms = _pair_terms(cell, problem, cotangents)
    return _beside(engine, problem, cotangents, full, terms)


def _beside(engine: Any, problem: Drawn, cotangents: dict[str, Array], full: Array, terms: Array) -> Truncation:
    size, steps = float(np.linalg.norm(full)), problem.steps
    found: dict[str, list[float]] = {"chunks": [], "windows": [], "chunks_predicted": [], "windows_predicted": []}
    apart = 0.0
    for k in LENGTHS:
        for form, lost, how in (
            ("chunks", dropped_by_chunks(steps, k), k),
            ("windows", dropped_by_window(steps, k), (1, k)),
        ):
            measured = _gradient(engine, problem, cotangents, how) - full
            predicted = -_total(terms, lost)
            found[form].append(float(np.linalg.norm(measured)) / size)
            found[f"{form}_predicted"].append(float(np.linalg.norm(predicted)) / size)
            apart = max(apart, float(np.linalg.norm(measured - predicted)) / size)
    return Truncation(steps, LENGTHS, **{n: tuple(x) for n, x in found.items()}, apart=apart)


def _gradient(engine: Any, problem: Drawn, cotangents: dict[str, Array], truncate: Any) -> Array:
    """All parameters' gradients as one vector."""
    how = {} if truncate is None else {"truncate": truncate}
    options: dict[str, Any] = {"loss": "linear", "at": "every", "cotangents": cotangents, "initial": problem.initial}
    _, grads = engine.value_and_grad(problem.params, problem.inputs, **options, **how, **problem.extent)
    return np.concatenate([np.ravel(grads[n]) for n in engine.cell.parameters])


def _total(terms: Array, pairs: Sequence[tuple[int, int]]) -> Array:
    """The sum of the terms of some pairs, counted from 1."""
    chosen = np.zeros(terms.shape[:2])
    for t, j in pairs:
        chosen[t - 1, j - 1] = 1.0
    return np.tensordot(chosen, terms, axes=2)


def _pair_terms(cell: Any, problem: Drawn, cotangents: dict[str, Array]) -> Array:
    """(T, T, entries of all parameters): what the loss of step t gives the use at step j."""
    steps = problem.steps
    alone = {n: np.eye(steps)[:, :, None] * c for n, c in cotangents.items()}  # (T, copy, size): copy t's loss at t
    copies = {n: np.repeat(x, steps, axis=1) for n, x in problem.inputs.items()}
    initial = {n: np.repeat(s, steps, axis=0) for n, s in problem.initial.items()}
    extent = {} if copies else {"steps": steps, "batch": steps}
    options: Any = {"loss": "linear", "at": "every", "cotangents": alone, "initial": initial, **extent}
    checked = check_problem(cell, np.dtype(np.float64), problem.params, copies, None, options)
    return _Uses(Interpreter(program_of(cell), checked, FloatArithmetic())).terms()


class _Uses:
    """What each step gives each parameter, by sequence."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.run, self.backward = interpreter, backward_of(interpreter.cell)
        with np.errstate(all="ignore"):
            self.tape = interpreter.tape
            self.d = interpreter.sweep(self.backward, self.tape, interpreter.local[1], 0, interpreter.data.steps)

    def terms(self) -> Array:
        """(sequences, steps, entries of all parameters)."""
        steps = []
        for j in range(len(self.d)):
            parts = [self.use(name, shape, j) for name, shape in self.run.cell.parameters.items()]
            steps.append(np.concatenate([p.reshape(len(p), -1) for p in parts], axis=1))
        return np.stack(steps, axis=1)

    def use(self, name: str, shape: tuple[str, ...], j: int) -> Array:
        """One parameter's term of step j: (sequences, *shape)."""
        run, values, d = self.run, self.tape[j], self.d[j]
        out = np.zeros((run.data.batch, *(run.data.sizes[x] for x in shape)))
        if len(shape) == 2:
            for pair in self.backward.matrices.get(name, ()):
                rows = run.arithmetic.spread(values[pair.operand], run.shape(shape[0 if pair.transposed else 1]))
                left, right = (rows, d[pair.source]) if pair.transposed else (d[pair.source], rows)
                out = out + left[:, :, None] * right[:, None, :]
            return out
        for flow in self.backward.flows[parameter(name)]:
            rows = run.term(flow, values, d, shape[0] if shape else None)
            out = out + (rows if shape else rows.sum(axis=1))
        return out
