"""The dot-product law:  <J v, w> = <v, J.T w>  for every v and w, J the derivative of outputs and states by everything.

J v is forward mode, J.T w the backward pass from the cotangents w.  Both sides are sums over all entries of all
tensors, so one direction looks at the whole gradient, at any size, for the price of two passes; v and w are dense, and
v is given to each tensor in units of that tensor's noise, so that no tensor is lost beside a larger one.

The two sides differ by rounding: in units of u times the root mean square response of <v, J.T w> to noise on every
local result (:mod:`numeric.noise`), measured along that very direction.  Nothing is scaled by the number of entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from numeric.arguments import Array, check_data
from numeric.engine import Engine
from numeric.forward_mode import jvp
from numeric.noise import LIMIT, Noise, measure_noise, unit_of
from numeric.problem import check_problem

__all__ = ["DotProduct", "check_dot_product"]


@dataclass(frozen=True)
class DotProduct:
    """One direction: <J v, w>, <v, J.T w>, and how far apart they are in units of their rounding noise."""

    direction: int
    forward: float
    backward: float
    units: float
    limit: float = LIMIT

    @property
    def ok(self) -> bool:
        """Whether the law holds to rounding."""
        return self.units <= self.limit


def check_dot_product(
    engine: Engine,
    params: Mapping[str, Any],
    inputs: Any = None,
    *,
    directions: int = 4,
    seed: int = 0,
    runs: int = 24,
    initial: Mapping[str, Any] | None = None,
    lengths: Any = None,
    steps: int | None = None,
    batch: int | None = None,
) -> tuple[DotProduct, ...]:
    """The law along some seeded directions.

    Arguments are those of :meth:`Engine.forward`; the engine computes in float32 or float64.  The cotangents w are the
    same for all directions, standard normal at every output and state; ``runs`` is how many noisy runs measure the
    rounding, each as dear as a plain pass: take few at full size.  Raises ValueError as the engine does.
    """
    if isinstance(directions, bool) or not isinstance(directions, int) or directions < 1:
        raise ValueError(f"directions is {directions!r}; expected a positive integer")
    cell, unit = engine.cell, unit_of(engine.dtype)
    data = check_data(cell, engine.dtype, params, inputs, initial, lengths, steps=steps, batch=batch)
    random = np.random.default_rng([seed, 1])
    lead = (data.steps, data.batch)

    def normal(shape: tuple[int, ...]) -> Array:
        return random.standard_normal(shape).astype(data.dtype)

    w = {n: normal((*lead, data.sizes[cell.axes[n]])) for n in (*cell.outputs, *cell.states)}
    options: dict[str, Any] = {"loss": "linear", "cotangents": w, "initial": data.initial, "lengths": data.lengths}
    options |= {"steps": data.steps, "batch": data.batch}
    found = engine.backward(data.params, data.inputs, **options)
    gradient = {**found.params, **found.inputs, **{f"{n}0": g for n, g in found.initial.items()}}
    vs = [{n: normal(np.shape(g)) for n, g in gradient.items()} for _ in range(directions)]
    problem = check_problem(cell, np.dtype(np.float64), data.params, data.inputs, None, options)
    noise = measure_noise(cell, problem, runs=runs, seed=seed, directions=vs)
    weights = _weights(noise)
    out = []
    for k, v in enumerate(vs):
        moved = {n: (weights[n] * x).astype(data.dtype) for n, x in v.items()}
        extent = {"steps": data.steps, "batch": data.batch}
        _, dots = jvp(engine, data.params, data.inputs, moved, initial=data.initial, lengths=data.lengths, **extent)
        left = [_counted(dots[n], data.mask) * _counted(w[n], data.mask) for n in w]
        right = [_wide(moved[n]) * _wide(gradient[n]) for n in moved]
        scale = unit * noise.along(k, weights)
        out.append(_row(k, float(sum(x.sum() for x in left)), float(sum(x.sum() for x in right)), scale))
    return tuple(out)


def _weights(noise: Noise) -> dict[str, float]:
    """What makes the noise of each tensor that of the noisiest; a tensor without noise gets the largest weight."""
    sizes = {n: float(np.linalg.norm(s / (s.max() or 1.0)) / np.sqrt(s.size) * s.max()) for n, s in noise.scale.items()}
    largest = max(sizes.values())
    smallest = max(min((s for s in sizes.values() if s > 0), default=1.0), largest * 2.0**-60)
    return {n: largest / max(s, smallest) if s > 0 else (largest or 1.0) / smallest for n, s in sizes.items()}


def _wide(x: Array) -> Array:
    return x.astype(np.longdouble)


def _counted(x: Array, mask: Array | None) -> Array:
    """Rows that belong to their sequence, (N, size)."""
    return _wide(x if mask is None else x[mask])


def _row(direction: int, left: float, right: float, scale: float) -> DotProduct:
    difference = abs(left - right)
    units = 0.0 if difference == 0 else difference / scale if scale > 0 else np.inf
    return DotProduct(direction, left, right, float(np.inf if np.isnan(units) else units))
