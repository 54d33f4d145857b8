"""The noise scale: how far the rounding of its own operations moves each entry of a gradient, in units of u.

Every local result of the derived program, forward and backward, gets independent noise of the size of its own rounding
(:mod:`numeric.rounding`); what that does to an entry g_j, through the true Jacobians, is

    sigma_j  = the root mean square over K runs of  (g_j with noise - g_j) / eps,                     eps = 2^-30
    sigma'_j = sqrt(sigma_j^2 + (sqrt(n) G_j / 4)^2)

where G_j is the magnitude of g_j, what it would be if no two terms of one step cancelled, and n how many terms are
summed: T B for a parameter, one for an input or an initial state.  A right implementation stays within a few
u sigma'_j, u = 2^-53 or 2^-24, however much the gradient grows, vanishes or cancels; nothing is scaled by the number
of entries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Unpack

import numpy as np

from derive.cell import Cell
from numeric.arguments import Array
from numeric.engine import Engine
from numeric.noise_pass import EPSILON, NoisyPass
from numeric.noise_program import noise_program
from numeric.problem import Options, Problem, check_problem

__all__ = ["LIMIT", "UNIT", "Noise", "measure_noise", "noise_scale", "unit_of"]

#: An error of up to so many u sigma' is rounding.
LIMIT = 16.0

#: u, by dtype.
UNIT = {"float64": 2.0**-53, "float32": 2.0**-24}

#: Numbers that the runs of one chunk may keep: 64 MB.
ROOM = 1 << 23


@dataclass(frozen=True)
class Noise:
    """What rounding does to a gradient, in units of u.

    Arrays go by names of parameters, inputs, and initial states with a ``0``.  ``response`` is sigma, ``magnitude`` G,
    ``terms`` the n of each tensor, ``loss`` the sigma of the loss.  ``products`` holds, for each direction v that was
    asked for, what <v, g> of each tensor moved by in every run, and sqrt(n) |v G| / 4; ``outputs`` the sigma of each
    output and state, where it was asked for.
    """

    response: Mapping[str, Array]
    magnitude: Mapping[str, Array]
    terms: Mapping[str, int]
    loss: float
    outputs: Mapping[str, Array] = field(default_factory=dict)
    products: tuple[Mapping[str, tuple[Array, float]], ...] = ()

    @property
    def scale(self) -> dict[str, Array]:
        """sigma' of every entry."""
        return {n: np.hypot(sigma, self.sum_part(n)) for n, sigma in self.response.items()}

    def sum_part(self, name: str) -> Array:
        """sqrt(n) G / 4."""
        return np.sqrt(self.terms[name]) / 4 * self.magnitude[name]

    def along(self, direction: int, weights: Mapping[str, float]) -> float:
        """sigma' of <v, g>, v a direction that was asked for with each tensor's part multiplied by a weight."""
        parts = [(weights[n] * moved, weights[n] * rest) for n, (moved, rest) in self.products[direction].items()]
        moved = sum((m for m, _ in parts), np.zeros(1))
        return float(np.hypot(_norm(moved) / np.sqrt(len(moved)), _norm(np.array([rest for _, rest in parts]))))


def unit_of(dtype: Any) -> float:
    """u of an engine's dtype; raises ValueError for complex128."""
    if str(dtype) not in UNIT:
        raise ValueError(f"noise is measured for float32 and float64; found {dtype}")
    return UNIT[str(dtype)]


def noise_scale(
    engine: Engine | Cell,
    params: Mapping[str, Any],
    inputs: Any = None,
    targets: Any = None,
    *,
    runs: int = 24,
    seed: int = 0,
    from_values: bool = True,
    **options: Unpack[Options],
) -> dict[str, Array]:
    """sigma' of every entry of the gradient, by names of parameters, inputs, and initial states with a ``0``.

    The arguments are those of :meth:`Engine.backward`; arrays may be float32 or float64, and sigma' belongs to either:
    multiply by :data:`UNIT`.  ``runs`` is K; ``seed`` draws the noise.  Where ``from_values``, the derivative of tanh
    is taken as 1 - h^2 of a rounded h, as an implementation may have it, otherwise as exact to its last place.  Raises
    ValueError and TypeError as the engine does, and ValueError for ``runs`` below one.
    """
    cell = engine if isinstance(engine, Cell) else engine.cell
    problem = check_problem(cell, np.dtype(np.float64), params, inputs, targets, options)
    return measure_noise(cell, problem, runs=runs, seed=seed, from_values=from_values).scale


def measure_noise(
    cell: Cell,
    problem: Problem,
    *,
    runs: int = 24,
    seed: int = 0,
    from_values: bool = True,
    directions: Sequence[Mapping[str, Array]] = (),
    observe: bool = False,
) -> Noise:
    """The noise of a problem in float64, along directions in the space of all tensors, and of what it computes."""
    if isinstance(runs, bool) or not isinstance(runs, int | np.integer) or runs < 1:
        raise ValueError(f"runs is {runs!r}; expected a positive integer")
    data = problem.data
    program = noise_program(cell, from_values)
    with np.errstate(all="ignore"):
        work = NoisyPass(program, data, problem.loss, problem.truncate)
        clean = work.clean
        norms = {n: np.zeros_like(g) for n, g in clean.gradients.items()}
        moved: list[dict[str, list[Array]]] = [{n: [] for n in v} for v in directions]
        seen: dict[str, Array] = {}
        right = work.outputs() if observe else {}
        loss: Any = 0.0
        done = 0
        for count in _chunks(int(runs), work):
            losses, found, outputs = work.run(count, np.random.default_rng([seed, done]), observe=observe)
            done += count
            loss = np.hypot(loss, _norm((losses - clean.loss) / EPSILON))
            for n, y in outputs.items():
                seen[n] = np.hypot(seen.get(n, 0.0), _norm((y - right[n]) / EPSILON))
            for n, g in found.items():
                response = (g - clean.gradients[n]) / EPSILON
                norms[n] = np.hypot(norms[n], _norm(response))
                for v, parts in zip(directions, moved, strict=True):
                    if n in v:
                        parts[n].append((response * v[n]).reshape(count, -1).sum(axis=1))
    terms = {n: data.steps * data.batch if n in data.params else 1 for n in norms}
    responses = {n: s / np.sqrt(runs) for n, s in norms.items()}
    outputs = {n: y / np.sqrt(runs) for n, y in seen.items()}
    own = Noise(responses, clean.magnitude, terms, float(loss / np.sqrt(runs)), outputs)
    products = tuple(
        {n: (np.concatenate(parts[n]), float(_norm(np.ravel(own.sum_part(n) * v[n])))) for n in v}
        for v, parts in zip(directions, moved, strict=True)
    )
    return replace(own, products=products)


def _norm(x: Array) -> Array:
    """The Euclidean norm over the first axis; no square of a small number is lost."""
    return np.hypot.reduce(x, axis=0)


def _chunks(runs: int, work: NoisyPass) -> list[int]:
    """Runs at once, as many as fit."""
    data, program = work.data, work.program
    axes = program.program.axes
    kept = sum(data.sizes[axes[s]] if s in axes else max(data.sizes.values()) for s in program.stored)
    own = data.steps * data.batch * kept + 2 * sum(p.size for p in data.params.values())
    most = max(1, ROOM // max(own, 1))  # a cell of sums alone keeps nothing
    return [min(most, runs - start) for start in range(0, runs, most)]
