"""Cross-checks: the engine's gradient against independent ways to the same number.

    unfused program       the derived program run node by node, in every entry
    forward mode          sensitivities carried forward in time (real-time recurrent learning): no backward program
    complex step          Im L(theta + i h) / h with h = 1e-30: no cancellation, no derivation
    Richardson            central differences, extrapolated, with an error estimate: needs nothing, has fewest digits
    dot-product law       <J v, w> = <v, J.T w> along dense directions: every entry of every tensor at once

An error is given in units of rounding noise, u sigma' (:mod:`numeric.noise`): what the rounding of the program's own
operations does to that very entry.  A gradient that grows, vanishes or cancels has the limit that belongs to it, and no
limit depends on how many entries there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Unpack

import numpy as np

from numeric.arguments import Array, check_known
from numeric.cross_check import COMPLEX, ENGINE, FORWARD, RICHARDSON, UNFUSED, CheckedEntry, CheckRow, CrossCheck
from numeric.differences import IMAGINARY, Convergence, complex_step, convergence, richardson
from numeric.dot_product import check_dot_product
from numeric.engine import Engine
from numeric.losses import evaluate_loss
from numeric.noise import LIMIT, UNIT, measure_noise
from numeric.problem import Options, check_problem
from numeric.sensitivity import Sensitivity
from numeric.specification import Specification, by_name

__all__ = ["CheckRow", "CrossCheck", "check_gradients"]

Index = tuple[int, ...]
Values = tuple[Array, Array]  # a method's values, and how far off each may be

LAW = "dot-product law"
METHODS = (UNFUSED, FORWARD, COMPLEX, RICHARDSON, LAW)

#: Sensitivities of all entries are taken where they are at most so many numbers, over all steps; else of the sample.
SMALL = 1 << 26

#: Difference quotients are never trusted to more digits than this, relative to the magnitude of a tensor's gradient.
FEW_DIGITS = 1e-9

#: What underflow may take from a number; the complex step works with numbers 1e-30 times as large.
LOST = float(np.finfo(np.float64).tiny)


def check_gradients(
    engine: Engine,
    params: Mapping[str, Any],
    inputs: Any = None,
    targets: Any = None,
    *,
    entries: int = 12,
    seed: int = 0,
    methods: tuple[str, ...] = METHODS,
    **options: Unpack[Options],
) -> CrossCheck:
    """Compare an engine's gradients by parameters, inputs and initial states with independent methods.

    The loss's arguments are those of :meth:`Engine.backward`.  Of each tensor ``entries`` entries, drawn by ``seed``,
    are looked at (all, where there are fewer); the unfused program and, for small networks, forward mode are compared
    in every entry, and the dot-product law along directions in which every entry moves.  The engine must compute in
    float64.  Raises ValueError and TypeError as the engine does, and ValueError for an unknown method.
    """
    if not isinstance(engine, Engine):
        raise TypeError(f"engine has type {type(engine).__name__}; expected a numeric.Engine")
    if str(engine.dtype) != "float64":
        raise ValueError(f"check_gradients looks at float64 engines; found {engine.dtype}")
    check_known("method", methods, METHODS)
    if entries < 1:
        raise ValueError(f"entries is {entries}; expected at least 1")
    work = _Work(engine, params, inputs, targets, options)
    columns = tuple(m for m in methods if m != LAW)
    rows, found = [], []
    for name, point in work.tensors.items() if columns else ():
        chosen = _sample(name, point.shape, entries, seed)
        own = [work.row(name, method, chosen) for method in columns]
        rows += own
        found.append(work.entry(name, columns, _worst(own).worst))
    laws = work.laws(seed) if LAW in methods else ()
    slopes = {n: work.slopes(n, seed) for n in work.tensors} if RICHARDSON in methods else {}
    return CrossCheck(tuple(rows), columns, ENGINE, tuple(found), laws, slopes)


def _sample(name: str, shape: tuple[int, ...], entries: int, seed: int) -> list[Index]:
    total = int(np.prod(shape, dtype=int))
    if total <= entries:
        return list(np.ndindex(*shape))
    random = np.random.default_rng([seed, total, *name.encode()])
    flat = sorted(random.choice(total, entries, replace=False))
    return [tuple(int(i) for i in np.unravel_index(k, shape)) for k in flat]


def _worst(rows: list[CheckRow]) -> CheckRow:
    """The row that says most: one that is wrong before one that is not, an exact one before differences."""
    return max(rows, key=lambda row: (not row.ok, row.exact, row.units))


class _Work:
    """The point, the engine's gradients there, their noise, and every method's way to some entries."""

    def __init__(self, engine: Engine, params: Mapping[str, Any], inputs: Any, targets: Any, options: Options) -> None:
        self.engine, self.arguments, self.options = engine, (params, inputs, targets), options
        self.problem = check_problem(engine.cell, engine.dtype, params, inputs, targets, options)
        data = self.data = self.problem.data
        self.tensors = by_name(data.params, data.inputs, data.initial)
        result = engine.backward(params, inputs, targets, **options)
        self.gradients = by_name(result.params, result.inputs, result.initial)
        self.noise = measure_noise(engine.cell, self.problem)
        self.unit = {n: UNIT["float64"] * s for n, s in self.noise.scale.items()}
        #: what one value of the loss may be off by
        self.doubt = UNIT["float64"] * (LIMIT * self.noise.loss + 4 * abs(result.loss))
        self.evaluate = {COMPLEX: Engine(engine.cell, "complex128"), RICHARDSON: engine}

    def along(self, method: str, name: str, direction: Array) -> Callable[[Any], Any]:
        """The loss with one tensor moved, as a function of how far."""
        engine, data = self.evaluate[method], self.data

        def loss(step: Any) -> Any:
            point = self.tensors | {name: self.tensors[name] + step * direction}
            initial = {n: point[f"{n}0"] for n in data.initial}
            params, inputs = ({n: point[n] for n in names} for names in (data.params, data.inputs))
            outputs = engine.forward(params, inputs, initial, data.lengths, steps=data.steps, batch=data.batch)
            with np.errstate(all="ignore"):
                return evaluate_loss(self.problem.loss, outputs)[0]

        return loss

    def one(self, name: str, index: Index) -> Array:
        """The direction of one entry."""
        direction = np.zeros(self.tensors[name].shape)
        direction[index] = 1.0
        return direction

    # ------------------------------------------------------------------------------------------------------ the methods

    @cached_property
    def plain(self) -> dict[str, Array]:
        params, inputs, targets = self.arguments
        found = Specification(self.engine.cell).backward(params, inputs, targets, **self.options)
        return by_name(found.params, found.inputs, found.initial)

    @cached_property
    def sensitivity(self) -> Sensitivity:
        return Sensitivity(self.engine.cell, self.problem)

    @cached_property
    def is_small(self) -> bool:
        """Whether all sensitivities are few enough."""
        directions = sum(int(np.prod(self.sensitivity.directions(n), dtype=int)) for n in self.tensors)
        return self.data.steps * self.sensitivity.width() * directions <= SMALL

    def every(self, method: str) -> bool:
        """Whether a method looks at all entries."""
        return method == UNFUSED or (method == FORWARD and self.is_small)

    def values(self, method: str, name: str, indices: list[Index]) -> Values:
        """A method's values at some entries, and how far from the truth each may be."""
        allowed = np.array([LIMIT * self.unit[name][index] + LOST for index in indices])
        if method in (ENGINE, UNFUSED):
            whole = (self.gradients if method == ENGINE else self.plain)[name]
            return np.array([whole[index] for index in indices]), allowed
        if method == FORWARD:
            return self.sensitivity.entries(name, indices), allowed
        moved = [self.along(method, name, self.one(name, index)) for index in indices]
        if method == COMPLEX:
            return np.array([complex_step(f) for f in moved]), allowed + LOST / IMAGINARY
        sizes = [max(1.0, float(np.abs(self.tensors[name][index]))) for index in indices]
        found = [richardson(f, noise=self.doubt, scale=s) for f, s in zip(moved, sizes, strict=True)]
        errors = np.array([e.error for e in found]) + FEW_DIGITS * self.magnitude(name)
        return np.array([e.value for e in found]), allowed + errors

    def magnitude(self, name: str) -> float:
        """The largest entry that there would be if nothing cancelled within a step; 1 where that is 0."""
        return float(self.noise.magnitude[name].max()) or 1.0

    def laws(self, seed: int) -> Any:
        """The dot-product law."""
        data = self.data
        extent = {"steps": data.steps, "batch": data.batch}
        where: dict[str, Any] = {"initial": data.initial, "lengths": data.lengths, **extent}
        return check_dot_product(self.engine, data.params, data.inputs, seed=seed, **where)

    def slopes(self, name: str, seed: int) -> Convergence:
        """How differences converge along one random direction of length one."""
        direction = np.random.default_rng([seed, 2, *name.encode()]).standard_normal(self.tensors[name].shape)
        return convergence(self.along(RICHARDSON, name, direction / np.linalg.norm(direction)), noise=self.doubt)

    # -------------------------------------------------------------------------------------------------------- the table

    def row(self, name: str, method: str, chosen: list[Index]) -> CheckRow:
        """The worst entry of one tensor by one method."""
        indices = list(np.ndindex(*self.tensors[name].shape)) if self.every(method) else chosen
        own, (other, allowed) = self.values(ENGINE, name, indices)[0], self.values(method, name, indices)
        difference = np.abs(other - own)
        unit = np.array([self.unit[name][index] for index in indices])
        with np.errstate(all="ignore"):
            units = np.where(difference == 0, 0.0, difference / unit)
            share = difference / allowed
        units[np.isnan(units)], share[np.isnan(share)] = np.inf, np.inf
        k, scale = int(share.argmax()), self.magnitude(name)
        error = float(difference[k] / scale) if np.isfinite(difference[k]) else float("inf")
        return CheckRow(
            name,
            method,
            error,
            float(allowed[k] / scale),
            indices[k],
            float(other[k]),
            float(own[k]),
            len(indices),
            float(units[k]),
        )

    def entry(self, name: str, methods: tuple[str, ...], index: Index) -> CheckedEntry:
        """What every method says of one entry."""
        found = {m: self.values(m, name, [index]) for m in (ENGINE, *methods)}
        return CheckedEntry(
            name,
            tuple(int(i) for i in index),
            {m: float(value[0]) for m, (value, _) in found.items()},
            {m: float(allowed[0]) for m, (_, allowed) in found.items()},
            float(self.unit[name][index]),
        )
