"""How a gradient changes with the time lag where theory knows the rate: at fixed points that contract, keep and expand.

The recurrent matrices are scaled by one factor until the Jacobian J of a step, at the cell's fixed point without input,
has a given spectral radius.  Held there, every step has the same Jacobian, and

    ||dL/ds_{T-k}||  ~  rho(J)^k        sigma_1(ds_T/ds_{T-k})  ~  rho(J)^k
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import numeric
from derive.cell import Cell
from derive.derivation import Derivation
from reports.measure.problem import Array, draw_problem, sizes_of, square_matrices

__all__ = ["FLOW_STEPS", "Curve", "curves", "entries_of"]

FLOW_STEPS, FLOW_SIZE, MOST_ENTRIES = 60, 12, 48
PRODUCT_LAGS = (1, 3, 6, 10, 15, 21, 28, 36, 47, 60)

#: The smallest and the largest scale that are tried, how many between, and how often the interval is halved.
SCALES = np.geomspace(0.25, 16.0, 25)
HALVINGS, NEAR = 14, 0.02


@dataclass(frozen=True, eq=False)
class Curve:
    """One network: ``scale`` is the spectral radius of its recurrent matrices, None where there is none to scale.

    ``rate`` is log rho(J), NaN where the network is not at a fixed point, ``held`` that it stayed there; ``logs`` are
    the natural logarithms of the norms of dL/ds by state, lag 0 first; ``log_singular`` those of the singular values of
    the Jacobian product (lags, n) at ``lags``.
    """

    scale: float | None
    rate: float
    held: bool
    logs: Mapping[str, Array]
    lags: Array
    log_singular: Array

    @property
    def radius(self) -> float:
        """rho(J)."""
        return float(np.exp(self.rate))

    @property
    def reaches(self) -> bool:
        """Whether the first state's gradient is a positive number at every lag."""
        return bool(np.isfinite(next(iter(self.logs.values()))).all())

    def factor(self, state: str) -> float:
        """The fitted change of the norm from one lag to the next, over the second half."""
        logs = self.logs[state]
        half = len(logs) // 2
        return float(np.exp(_slope(np.arange(half, len(logs)), logs[half:])))


def _slope(lags: Array, logs: Array) -> float:
    """The slope of the least-squares line; NaN where fewer than two logarithms are finite."""
    used = np.isfinite(logs)
    return float(np.polyfit(lags[used], logs[used], 1)[0]) if used.sum() > 1 else float("nan")


def curves(engine: Any, derivation: Derivation, seed: int) -> tuple[Curve, ...]:
    """The three regimes, those that a scale of the recurrent matrices makes; one network where there is none.

    Where the fixed point passes no gradient on, as zero does for relu, networks with random inputs instead.
    """
    work = _Work(engine, square_matrices(derivation), seed)
    found = [work.curve(scale, start, rate) for scale, start, rate in work.regimes()]
    if not any(c is not None and c.reaches for c in found):
        driven = [work.driven(scale) for scale in (sorted(numeric.REGIMES.values()) if work.matrices else (None,))]
        found = driven if any(c is not None and c.reaches for c in driven) else found
    return tuple(c for c in found if c is not None)


def entries_of(cell: Cell) -> int:
    """Entries of each state in these networks: :data:`FLOW_SIZE`, or fewer where there are many states.

    The singular values are those of all states together, and take the cube of their number.
    """
    return max(1, min(FLOW_SIZE, MOST_ENTRIES // len(cell.states)))


class _Work:
    """One network, its recurrent matrices to be scaled."""

    def __init__(self, engine: Any, matrices: Sequence[str], seed: int) -> None:
        cell, self.engine, self.seed = engine.cell, engine, seed
        letters = {cell.axes[state] for state in cell.states}
        self.sizes = {x: entries_of(cell) if x in letters else n for x, n in sizes_of(tuple(cell.dimensions)).items()}
        self.params = engine.init(seed=seed, **self.sizes)
        self.matrices = tuple(m for m in matrices if np.abs(np.linalg.eigvals(self.params[m])).max() > 0)
        self.zero = {name: np.zeros((1, self.sizes[cell.axes[name]])) for name in cell.states}

    def scaled(self, scale: float | None) -> dict[str, Array]:
        """The parameters at one scale."""
        if scale is None:
            return dict(self.params)
        return numeric.with_spectral_radius(self.params, self.matrices, scale)

    def inputs(self, steps: int) -> dict[str, Array]:
        """No input."""
        cell = self.engine.cell
        return {name: np.zeros((steps, 1, self.sizes[cell.axes[name]])) for name in cell.inputs}

    def at(self, scale: float | None, start: Any) -> tuple[Any, float]:
        """A fixed point at a scale, and log rho(J) there; the start and NaN where none is found."""
        params, inputs = self.scaled(scale), self.inputs(1)
        try:
            point = numeric.fixed_point(self.engine, params, inputs, initial=start)
            return point, numeric.theoretical_rate(self.engine, params, inputs, initial=point)
        except ValueError:
            return start, float("nan")

    def regimes(self) -> Iterator[tuple[float | None, Any, float]]:
        """Scales at which log rho(J) has the values of :data:`numeric.REGIMES`, smallest first; else the cell as is."""
        wanted = [float(np.log(rho)) for rho in sorted(numeric.REGIMES.values())] if self.matrices else []
        found = False
        low, (start, below) = float(SCALES[0]), self.at(float(SCALES[0]), self.zero)
        for high in map(float, SCALES[1:]) if wanted else ():
            _, above = self.at(high, start)
            for rate in [r for r in wanted if below <= r < above]:
                hit = self.between(low, high, start, rate)
                if hit is not None:
                    found = True
                    wanted.remove(rate)
                    yield hit
            if not wanted or above != above:
                break
            low, (start, below) = high, self.at(high, start)
        if not found:
            yield (None, *self.at(None, self.zero))

    def between(self, low: float, high: float, start: Any, rate: float) -> tuple[float, Any, float] | None:
        """The scale in an interval at which log rho(J) is ``rate``; None where it jumps over that."""
        for _ in range(HALVINGS):
            middle = float(np.sqrt(low * high))
            point, here = self.at(middle, start)
            if abs(here - rate) < 5e-4:
                break
            low, high = (middle, high) if here < rate else (low, middle)
        return (middle, point, here) if abs(here - rate) < NEAR else None

    def driven(self, scale: float | None) -> Curve | None:
        """A network with random inputs and initial states."""
        problem = draw_problem(self.engine, self.sizes, FLOW_STEPS, 1, self.seed, spread=0.5)
        if problem is None:
            return None
        params = problem.params if scale is None else numeric.with_spectral_radius(problem.params, self.matrices, scale)
        return self.followed(scale, params, problem.inputs, problem.initial, float("nan"))

    def curve(self, scale: float | None, start: Any, rate: float) -> Curve | None:
        """A network without input, from a fixed point."""
        return self.followed(scale, self.scaled(scale), self.inputs(FLOW_STEPS), start, rate)

    def followed(self, scale: float | None, params: Any, inputs: Any, start: Any, rate: float) -> Curve | None:
        """The gradient of the sum of the first output at the last step, and the Jacobian product."""
        engine, cell = self.engine, self.engine.cell
        extent: dict[str, Any] = {"initial": start} | ({} if cell.inputs else {"steps": FLOW_STEPS, "batch": 1})
        on = (*cell.outputs, *cell.states)[0]
        cotangents = {on: np.ones((1, self.sizes[cell.axes[on]]))}
        try:
            flow = numeric.flow(engine, params, inputs, loss="linear", at="last", cotangents=cotangents, **extent)
            product = numeric.jacobian_product(engine, params, inputs, lags=PRODUCT_LAGS, **extent)
        except ValueError:  # a state or a Jacobian that is no number
            return None
        ends = engine.forward(params, inputs, **extent)
        held = rate == rate and all(np.allclose(ends[n][-1], s, rtol=1e-3, atol=1e-3) for n, s in start.items())
        return Curve(scale, rate, held, flow.log_states, product.lags, product.log_singular)
