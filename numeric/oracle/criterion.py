"""How far is too far: each entry of a result against the exact one, in units of rounding noise.

    agrees        |g - g*| <= 16 u sigma' + radius
    suspect       up to n sqrt(N) u sigma', n the longest sum and N the number of local results
    disagrees     above that
    undecidable   rounding noise is more than 2^-8 of the whole tensor (2^-5 for bfloat16; 2^-31 for float64, beyond
                  which the network amplifies noise so much that it cannot be measured), or the tensor is lost below
                  the normal numbers

sigma' is the noise scale (:mod:`numeric.noise`): what the rounding of every local result does to this very entry, in
units of u.  A gradient that is zero by symmetry is judged by it like any other; one that is zero because nothing
reaches it has sigma' = 0 and must be zero.

A type of few bits that is summed in a longer one has two roundoffs: u of what is stored, and u of the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from numeric.arguments import Array
from numeric.certify import Enclosure, Enclosures, certify_problem
from numeric.noise import LIMIT, measure_noise
from numeric.noise_pass import EPSILON
from numeric.oracle.case import Case

__all__ = [
    "AGREES",
    "DISAGREES",
    "ERROR",
    "LIMITS",
    "STATUSES",
    "SUSPECT",
    "UNDECIDABLE",
    "Limits",
    "Measured",
    "Truth",
    "blurred",
    "compare",
    "hidden_by",
    "truth_of",
    "worst",
]

AGREES, UNDECIDABLE, SUSPECT, DISAGREES, ERROR = STATUSES = (
    "agrees", "undecidable", "suspect", "disagrees", "error",
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """A float type: its roundoff u, its smallest normal number, and its largest number."""

    unit: float
    tiny: float
    largest: float


#: bfloat16 has the exponents of float32; its numbers are rounded to 8 bits.
LIMITS: Mapping[str, Limits] = {
    "float64": Limits(2.0**-53, 2.0**-1022, float(np.finfo(np.float64).max)),
    "float32": Limits(2.0**-24, 2.0**-126, float(np.finfo(np.float32).max)),
    "float16": Limits(2.0**-11, 2.0**-14, 65504.0),
    "bfloat16": Limits(2.0**-8, 2.0**-126, 3.3895313892515355e38),
}

#: Noise of so much of a tensor, or of so many roundoffs where that is more, leaves nothing to judge.
BLURRED, BLURRED_UNITS = 2.0**-8, 8.0


def blurred(store: Limits) -> float:
    """The part of a tensor that noise may be; more for a type of few bits, of which every number is blurred.

    Less for a type of many: the noise that sigma is measured with, 2^-30, must not bend the network, or sigma is too
    small, and a right result would be called wrong.
    """
    return min(max(BLURRED, BLURRED_UNITS * store.unit), BLURRED * store.unit / EPSILON)


def worst(statuses: Any) -> str:
    """The worst of some statuses; "agrees" of none."""
    return max(statuses, key=STATUSES.index, default=AGREES)


@dataclass(frozen=True)
class Truth:
    """The exact results of a case, and the noise of every entry.

    ``noise`` is the error, in absolute terms, that one unit of the criterion stands for: u sigma'.  Its names are those
    of the gradients, of the outputs and states as ``outputs.h``, and ``loss``; ``whole`` is what each tensor would be
    if no two terms of a step cancelled, at its largest entry; ``lax`` the units up to which a result is suspect.
    """

    exact: Enclosures
    noise: Mapping[str, Array]
    whole: Mapping[str, float]
    lax: float

    def enclosure(self, name: str) -> Enclosure:
        """Of a gradient, of ``outputs.h``, or of the ``loss``."""
        if name == "loss":
            return self.exact.loss
        return self.exact.outputs[name[8:]] if name.startswith("outputs.") else self.exact.gradients[name]


@dataclass(frozen=True)
class Measured:
    """A tensor beside the exact one: ``units`` of every entry, and what that amounts to."""

    name: str
    status: str
    units: Array
    found: Array
    exact: Enclosure
    noise: Array

    @property
    def where(self) -> tuple[int, ...]:
        """The index of the worst entry; of those that are the same but for rounding, the first."""
        order = self._order
        if not order.size:
            return ()
        first = int((order >= order.max() * (1 - 1e-6)).argmax())
        return tuple(int(i) for i in np.unravel_index(first, order.shape))

    @property
    def most(self) -> float:
        """The worst entry's error in units."""
        return float(self.units.flat[int(self._order.argmax())]) if self.units.size else 0.0

    @property
    def _order(self) -> Array:
        """Errors by which the worst is found: what is not a number is as far away as can be."""
        return np.where(np.isnan(self.units), np.inf, self.units)


def truth_of(case: Case, *, runs: int = 24) -> Truth:
    """The exact results of a case and the noise of its entries.

    Raises ArithmeticError where the exact values cannot be enclosed.
    """
    problem, cell = case.problem, case.parsed
    with np.errstate(all="ignore"):
        exact = certify_problem(cell, problem)
        noise = measure_noise(cell, problem, runs=runs, observe=True)
    store, add = LIMITS[case.dtype], LIMITS[case.accumulate]
    add = add if add.unit < store.unit else store
    out: dict[str, Array] = {}
    for name, sigma in noise.response.items():
        sums, size = noise.sum_part(name), np.abs(exact.gradients[name].hi)
        out[name] = _both(store.unit * sigma, add.unit * sums, store, add, size)
    for name, sigma in noise.outputs.items():
        size = np.abs(exact.outputs[name].hi)
        out[f"outputs.{name}"] = np.hypot(store.unit * sigma, store.unit * size / 4)
    data = problem.data
    terms = data.steps * data.batch
    size_of_loss = _loss_size(case, exact)
    out["loss"] = np.asarray(np.hypot(store.unit * noise.loss, add.unit * np.sqrt(terms) * size_of_loss / 4))
    whole = {n: float(max(np.abs(exact.gradients[n].hi).max(), g.max())) for n, g in noise.magnitude.items()}
    whole |= {f"outputs.{n}": float(np.abs(e.hi).max()) for n, e in exact.outputs.items()} | {"loss": size_of_loss}
    longest = max(terms, *data.sizes.values())
    results = terms * sum(data.sizes[axis] for axis in cell.axes.values())
    return Truth(exact, out, whole, max(LIMIT, longest * np.sqrt(results)))


def _both(sigma: Array, sums: Array, store: Limits, add: Limits, size: Array) -> Array:
    """The noise of a gradient; one that is summed in more bits than it is stored in is rounded once more."""
    total: Array = np.hypot(sigma, sums)
    return total if add is store else np.hypot(total, store.unit * size / 4)


def _loss_size(case: Case, exact: Enclosures) -> float:
    """The loss if nothing in it cancelled, roughly: the largest outputs count, too."""
    problem = case.problem
    loss, rows = problem.loss, 0.0
    for root, given in loss.full.items():
        y = np.abs(exact.outputs[root].hi)
        if loss.name == "linear":
            rows += float((np.abs(y[loss.where]) * np.abs(loss.given[root])).sum())
        else:
            picked = y[loss.where]
            target = 0.0 if given.dtype.kind in "iu" else float(np.abs(loss.given[root]).max(initial=0.0))
            top = float(picked.max(initial=0.0))
            rows += (top + target) if loss.name != "squared_error" else (top + target) * target
    return (
        (abs(float(exact.loss.hi)) + rows) if loss.name == "linear" else abs(float(exact.loss.hi)) + rows / loss.count
    )


def compare(name: str, found: Array, truth: Truth, case: Case) -> Measured:
    """One tensor against the truth; its shape is right."""
    exact, noise, store = truth.enclosure(name), truth.noise[name], LIMITS[case.dtype]
    with np.errstate(all="ignore"):
        error = np.abs((found - exact.hi) - exact.lo)
        error = np.where(np.isnan(error), np.inf, error)
        beyond = np.maximum(error - exact.radius, 0.0)
        # below the normal numbers there is a smallest step, whatever the size of the number is
        floor = noise + store.unit * store.tiny
        units = np.where(beyond == 0, 0.0, np.where(noise == 0, np.inf, beyond / floor))
    return Measured(name, _status(name, units, truth, case), units, found, exact, noise)


def _status(name: str, units: Array, truth: Truth, case: Case) -> str:
    if hidden_by(name, truth, case):
        return UNDECIDABLE
    most = float(units.max(initial=0.0))
    if most <= LIMIT:
        return AGREES
    return SUSPECT if most <= truth.lax else DISAGREES


def hidden_by(name: str, truth: Truth, case: Case) -> str:
    """What leaves nothing to judge of a tensor, in words; empty where nothing does."""
    store, exact = LIMITS[case.dtype], truth.enclosure(name)
    size, noise = truth.whole[name], float(truth.noise[name].max(initial=0.0))
    if size > 0 and noise > blurred(store) * size:
        return f"rounding noise is {noise:.2g}, the whole tensor {size:.2g}"
    if 0 < np.abs(exact.hi).max(initial=0.0) < store.tiny / np.sqrt(store.unit):
        return f"it is too small for {case.dtype}"
    return f"it is too large for {case.dtype}" if size > store.largest / 1024 else ""
