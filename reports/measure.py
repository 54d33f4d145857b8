"""What is measured for a report: the cross-check of all gradients, and how gradient norms change with the time lag.

Sizes are small and all different, so that a transposed matrix cannot fit by accident; every number comes from the seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import numeric
from derive.derivation import Derivation
from derive.present import Presented

__all__ = ["Curve", "Measured", "is_exact", "measure", "sizes_of"]

STEPS, BATCH, ENTRIES = 6, 3, 6
LETTERS = {"H": 8, "D": 4, "O": 2, "K": 5}
FLOW_STEPS, FLOW_BATCH, FLOW_SIZE = 60, 8, 16
RADII = (0.5, 1.5, 4.0)

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Curve:
    """The norm of dL/ds at each lag before the loss, 0 first.

    ``radius`` is the spectral radius of the recurrent matrices, None where there is none to scale; ``factor`` is the
    fitted change of the norm per step.
    """

    state: str
    radius: float | None
    norms: Array
    factor: float


@dataclass(frozen=True, eq=False)
class Measured:
    """Sizes of the cross-check, its table (a CrossCheck), and the curves; ``reason`` says why something is missing."""

    sizes: Mapping[str, int]
    check: Any
    curves: tuple[Curve, ...]
    reason: str = ""

    @property
    def ok(self) -> bool | None:
        """Whether all methods agree; None where nothing could be measured or only difference quotients object."""
        if self.check is None:
            return None
        if any(not row.ok for row in self.check.rows if is_exact(row)):
            return False
        return True if self.check.ok else None


def is_exact(row: Any) -> bool:
    """Whether a method works to rounding, and so may refute; difference quotients fail beside a pole or a kink."""
    return bool(row.limit < 1e-9)


@dataclass(frozen=True, eq=False)
class _Problem:
    """Parameters, inputs and initial states at which the cell is finite."""

    params: dict[str, Array]
    inputs: dict[str, Array]
    initial: dict[str, Array]
    steps: int
    batch: int


def measure(derivation: Derivation, seed: int) -> Measured:
    """Run the cross-check and the gradient-flow experiment of a report."""
    cell = derivation.cell
    engine = numeric.Engine(cell)
    sizes = sizes_of(tuple(cell.dimensions))
    problem = _problem(engine, sizes, STEPS, BATCH, seed, spread=0.7)
    shown = {"T": STEPS, "B": BATCH, **sizes}
    if problem is None:
        return Measured(shown, None, (), "the cell is not finite at the numbers that were drawn")
    return Measured(shown, _cross_check(engine, problem, sizes, seed), tuple(_curves(engine, derivation, seed)))


def _cross_check(engine: Any, problem: _Problem, sizes: Mapping[str, int], seed: int) -> Any:
    """Every gradient of a random linear loss of all outputs and states, by every method."""
    cell = engine.cell
    random = np.random.default_rng([seed, 1])
    cotangents = {
        name: random.standard_normal((STEPS, BATCH, sizes[cell.axes[name]])) for name in (*cell.outputs, *cell.states)
    }
    return numeric.check_gradients(
        engine,
        problem.params,
        problem.inputs,
        loss="linear",
        at="every",
        cotangents=cotangents,
        initial=problem.initial,
        entries=ENTRIES,
        **_extent(engine, problem),
    )


def sizes_of(letters: tuple[str, ...]) -> dict[str, int]:
    """A different small size for every letter.

    >>> sizes_of(("H", "D", "H_c"))
    {'H': 8, 'D': 4, 'H_c': 7}
    """
    free = (n for n in range(7, 7 + len(LETTERS) + len(letters)) if n not in LETTERS.values())
    return {letter: LETTERS.get(letter) or next(free) for letter in letters}


def _extent(engine: Any, problem: _Problem) -> dict[str, Any]:
    return {} if engine.cell.inputs else {"steps": problem.steps, "batch": problem.batch}


def _problem(
    engine: Any, sizes: Mapping[str, int], steps: int, batch: int, seed: int, *, spread: float
) -> _Problem | None:
    """Numbers of both signs or, where the cell is not finite there (a logarithm, a root), positive or larger ones."""
    cell = engine.cell
    random = np.random.default_rng([seed, 0])
    inputs = {n: spread * random.standard_normal((steps, batch, sizes[cell.axes[n]])) for n in cell.inputs}
    initial = {n: spread * random.standard_normal((batch, sizes[cell.axes[n]])) for n in cell.states}
    params = engine.init(seed=seed, **sizes)
    for found in (
        _Problem(params, inputs, initial, steps, batch),
        _Problem(_above(params, 0.1), _above(inputs, 0.1), _above(initial, 0.1), steps, batch),
        _Problem(_above(params, 0.1), _above(inputs, 1.1), _above(initial, 1.1), steps, batch),
    ):
        outputs = engine.forward(found.params, found.inputs, found.initial, **_extent(engine, found))
        if all(np.isfinite(value).all() for value in outputs.values()):
            return found
    return None


def _above(arrays: Mapping[str, Array], least: float) -> dict[str, Array]:
    return {name: np.abs(value) + least for name, value in arrays.items()}


def recurrent_matrices(derivation: Derivation) -> tuple[str, ...]:
    """Matrices that act on a previous state."""
    shown = Presented(derivation.backward)
    return tuple(
        name
        for name, pairs in derivation.backward.matrices.items()
        if any(str(s).endswith("[t-1]") for pair in pairs for s in shown.readable(pair.operand).free_symbols)
    )


def _curves(engine: Any, derivation: Derivation, seed: int) -> Iterator[Curve]:
    """dL/ds at every lag, for a random linear loss of the first state at the last step."""
    cell = derivation.cell
    letters = {cell.axes[state] for state in cell.states}
    sizes = {x: FLOW_SIZE if x in letters else n for x, n in sizes_of(tuple(cell.dimensions)).items()}
    problem = _problem(engine, sizes, FLOW_STEPS, FLOW_BATCH, seed, spread=0.3)
    if problem is None:
        return
    first = cell.states[0]
    cotangent = np.random.default_rng([seed, 2]).standard_normal((FLOW_BATCH, sizes[cell.axes[first]]))
    matrices = recurrent_matrices(derivation)
    for radius in RADII if matrices else (None,):
        params = {n: _scaled(value, radius) if n in matrices else value for n, value in problem.params.items()}
        states = _backward(engine, replace(problem, params=params), {first: cotangent})
        for state in cell.states:
            norms = _mean_norm(states[state])
            if np.isfinite(norms).sum() > 1 and (norms > 0).sum() > 1:
                yield Curve(state, radius, norms, _factor(norms))


def _backward(engine: Any, problem: _Problem, cotangents: dict[str, Array]) -> dict[str, Array]:
    """dL/ds at every step, for a linear loss of the last step."""
    options = {"loss": "linear", "at": "last", "cotangents": cotangents, "initial": problem.initial}
    states: dict[str, Array] = engine.backward(
        problem.params, problem.inputs, **options, **_extent(engine, problem)
    ).states
    return states


def _scaled(matrix: Array, radius: float | None) -> Array:
    """The matrix with this spectral radius (this largest singular value, where it is not square)."""
    if radius is None:
        return matrix
    square = matrix.shape[0] == matrix.shape[1]
    own = np.abs(np.linalg.eigvals(matrix)).max() if square else np.linalg.norm(matrix, 2)
    return matrix * (radius / own) if own > 0 else matrix


def _mean_norm(gradient: Array) -> Array:
    """The geometric mean over sequences of the norm at each lag, the last step first; zero where one is zero."""
    scale = np.abs(gradient).max(axis=-1, keepdims=True)
    scale[scale == 0] = 1
    norms = np.sqrt(((gradient / scale) ** 2).sum(axis=-1)) * scale[..., 0]  # (T, B)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.exp(np.log(norms).mean(axis=1))[::-1]


def _factor(norms: Array) -> float:
    """The change of the norm from one lag to the next, fitted over the last three quarters."""
    lags = np.arange(len(norms))
    used = (lags >= len(norms) // 4) & np.isfinite(norms) & (norms > 0)
    if used.sum() < 2:
        return float("nan")
    return float(np.exp(np.polyfit(lags[used], np.log(norms[used]), 1)[0]))
