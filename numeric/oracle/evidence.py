"""What an implementation returned for a case, and how well a prediction reproduces it.

A prediction p reproduces the numbers g of a tensor where, at every entry,

    |g - p| <= 32 (u sigma' r + u |p|),      r = max |p| / max |g*|, at least 1

sigma' belongs to the right gradient g*, and where that is zero without noise it is the tensor's largest; a mistake that
makes a gradient r times larger makes its noise larger, too.  Of the mistakes of the shipped cells run in float32 and in
float64, at seven cases each, no tensor was further apart than 17 such units; two mistakes are 10^14 units apart in
float64, 10^6 in float32.  Where entries vanish, a mistake's noise is not the right gradient's: a known mistake that is
between 32 and 10^6 units away is judged by its own, which is how far its results move with the numbers it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from numeric.arguments import Array
from numeric.oracle.case import Case
from numeric.oracle.criterion import LIMITS, UNDECIDABLE
from numeric.oracle.mutants import Mutant, Run
from numeric.oracle.result import array_of, items_of, shape_of

if TYPE_CHECKING:
    from numeric.oracle.judge import JudgedCase

__all__ = ["REPRODUCES", "Evidence", "collect"]

#: Units up to which a prediction is the same numbers.
REPRODUCES = 32.0

#: Numbers of parameters of a case whose predictions are kept.
_KEPT = 1 << 10

#: Units up to which it is worth measuring a mistake's own noise, and by how much numbers move for that.
_NEARLY, _SHAKE = 1e6, 2.0**-26

#: Entries of an array of another shape that is still looked at.
_LARGEST = 1 << 22


Predictions = dict[Mutant, dict[str, Array] | None]


@lru_cache(maxsize=12)
def _predictions(digest: str) -> Predictions:
    """What known mistakes give for a case, kept for the next implementation that is wrong at it."""
    return {}


def _moved(case: Case, numbers: np.random.Generator) -> Case:
    """Every number that is given times 1 + N(0, 1) 2^-26, in float64."""

    def move(x: Array) -> Array:
        wide = x.astype(np.float64)
        return wide * (1 + _SHAKE * numbers.standard_normal(x.shape))

    own = {part: {n: move(x) for n, x in getattr(case, part).items()} for part in ("params", "inputs", "initial")}
    return replace(case, dtype="float64", accumulate="float64", **own)  # type: ignore[arg-type]


def _is_small(case: Case) -> bool:
    """Whether all mistakes of a case are a few megabytes."""
    return sum(p.size for p in case.params.values()) <= _KEPT


class Evidence:
    """One judged case.  ``blur`` multiplies the noise: 2^29 for results that were computed in float32."""

    def __init__(self, judged: JudgedCase, blur: float = 1.0) -> None:
        assert judged.truth is not None
        self.judged, self.case, self.truth, self.blur = judged, judged.case, judged.truth, blur
        self._pairs: Predictions = {}
        self._noises: dict[Mutant, dict[str, Array]] = {}
        self._predicted = _predictions(self.case.digest) if _is_small(self.case) else {}
        self.unit = LIMITS[self.case.dtype].unit * blur
        shapes = self.case.gradients()
        self.gradients = tuple(n for n in judged.measured if n in shapes)
        found = judged.result.tensors if judged.result else {}
        self.found: dict[str, Array] = {n: found[n] for n in judged.measured}
        self.found |= {n: x for n, x in self.misshapen.items() if n in shapes}

    def __repr__(self) -> str:
        return f"<Evidence of {self.case.id}: {len(self.wrong)} of {len(self.found)} wrong>"

    def without(self, name: str) -> Evidence:
        """The same, as if a tensor had not been returned."""
        other = Evidence(self.judged, self.blur)
        other.found.pop(name, None)
        other._predicted = self._predicted
        return other

    def blurred(self, unit: float) -> Evidence:
        """The same, judged by the roundoff of a shorter type."""
        other = Evidence(self.judged, max(1.0, unit / LIMITS[self.case.dtype].unit))
        other._predicted = self._predicted
        return other

    @cached_property
    def run(self) -> Run:
        """The case, forward once."""
        return Run(self.case)

    def predicted(self, m: Mutant) -> Mapping[str, Array] | None:
        """What a known mistake gives; computed once."""
        known = self._pairs if m.kind == "pair" else self._predicted
        if m not in known:
            known[m] = self.run.gradient(m)
        return known[m]

    @property
    def cost(self) -> int:
        """What a prediction takes, roughly."""
        return self.case.T * (20 + self.case.B)

    # ------------------------------------------------------------------------------------------------ what was returned

    @cached_property
    def raw(self) -> Mapping[str, Any]:
        """The gradients as they were returned, also those of other names and shapes."""
        try:
            value = self.judged.outcome.value
            grads = items_of(value).get("grads") if isinstance(value, Mapping) else None
            return items_of(grads) if isinstance(grads, Mapping) else {}
        except ValueError:
            return {}

    @cached_property
    def misshapen(self) -> dict[str, Array]:
        """What had a fault of shape, in float64, and what stands under names that are not known."""
        faults = self.judged.result.faults if self.judged.result else ()
        names = [f.tensor for f in faults if f.kind in ("shape", "extra") and f.tensor in self.raw]
        return {n: x for n in names if (x := _array(self.raw[n])) is not None}

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """Names of gradients that should be there."""
        faults = self.judged.result.faults if self.judged.result else ()
        return tuple(f.tensor for f in faults if f.kind == "missing" and f.tensor in self.case.gradients())

    # -------------------------------------------------------------------------------------------------------- comparing

    def exact(self, name: str) -> Array:
        """The right values, rounded."""
        return self.truth.enclosure(name).hi

    def misfit(self, name: str, predicted: Array | None, found: Array | None = None) -> float:
        """The largest distance of what was found for a tensor from a prediction, in the units above.

        Entries that are not finite in the same way say nothing.
        """
        g = self.found[name] if found is None else found
        if predicted is None or g.shape != predicted.shape:
            return np.inf
        noise = self.truth.noise[name] * self.blur
        if noise.shape != g.shape:
            noise = np.full(g.shape, noise.max(initial=0.0))
        store = LIMITS[self.case.dtype]
        with np.errstate(all="ignore"):
            size = float(np.abs(self.exact(name)).max(initial=0.0))
            growth = max(1.0, float(np.abs(predicted).max(initial=0.0)) / size) if size else 1.0
            noise = np.where((noise == 0) & (predicted != 0), noise.max(initial=0.0), noise)
            unit = noise * growth + self.unit * np.abs(predicted) + store.unit * store.tiny
            apart = np.abs(g - predicted)
            lost = ~np.isfinite(g) & (np.isnan(g) & np.isnan(predicted) | (g == predicted))
            units = np.where((apart == 0) | lost, 0.0, apart / unit)
        worst = float(np.max(units, initial=0.0))
        return worst if np.isfinite(worst) else np.inf

    def fits(self, name: str, predicted: Array | None, mutant: Mutant | None = None) -> bool:
        """Whether a prediction gives what was found for a tensor; if it is nearly so, by the mistake's own noise."""
        if name in self.undecided:
            return True
        units = self.misfit(name, predicted)
        if mutant is None or predicted is None or not REPRODUCES < units < _NEARLY:
            return units <= REPRODUCES
        with np.errstate(all="ignore"):
            apart = np.abs(self.found[name] - predicted)
            own = self.own_noise(mutant).get(name, np.zeros(())) + self.unit * np.abs(predicted)
        return bool(np.all((apart <= REPRODUCES * own) | (apart == 0)))

    def own_noise(self, m: Mutant) -> dict[str, Array]:
        """u times how far a mistake's results move when everything that is given moves by one part."""
        if m not in self._noises:
            right = self.predicted(m) or {}
            moved = [run.gradient(m) or right for run in self.shaken]
            self._noises[m] = {
                n: self.unit / _SHAKE * np.sqrt(sum((x[n] - g) ** 2 for x in moved) / len(moved))
                for n, g in right.items()
            }
        return self._noises[m]

    @cached_property
    def shaken(self) -> list[Run]:
        """The case with every number that is given moved a little, a few times."""
        return [Run(_moved(self.case, np.random.default_rng(k))) for k in range(4)]

    @cached_property
    def undecided(self) -> frozenset[str]:
        """The tensors that are lost in rounding noise: whatever they are says nothing."""
        return frozenset(n for n, m in self.judged.measured.items() if m.status == UNDECIDABLE)

    @cached_property
    def right(self) -> frozenset[str]:
        """The tensors that are as they should be, or at which it cannot be seen."""
        return frozenset(n for n in self.found if n in self.undecided or self.fits(n, self.exact(n)))

    @cached_property
    def wrong(self) -> tuple[str, ...]:
        """Gradients that are wrong."""
        return tuple(n for n in self.found if n in self.case.gradients() and n not in self.right)

    @property
    def noisy(self) -> bool:
        """Whether nearly every gradient that is not zero is wrong, as it is where all arithmetic has too few bits."""
        there = [n for n in self.gradients_found if self.exact(n).any()]
        return sum(n in self.wrong for n in there) >= 0.8 * len(there)

    @cached_property
    def gradients_found(self) -> tuple[str, ...]:
        """Gradients that can be compared."""
        return tuple(n for n in self.found if n in self.case.gradients())

    @cached_property
    def wrong_values(self) -> tuple[str, ...]:
        """The loss and outputs that are wrong."""
        return tuple(n for n in self.found if n not in self.case.gradients() and n not in self.right)


def _array(value: Any) -> Array | None:
    if prod(shape_of(value) or ()) > _LARGEST:
        return None
    try:
        array = array_of(value, _LARGEST)
    except ValueError:
        return None
    return array.astype(np.float64) if array.size <= _LARGEST else None


def collect(judged: Sequence[JudgedCase], blur: float = 1.0) -> list[Evidence]:
    """The evidence in the order in which it is asked: cases that are wrong and cheap first."""
    found = [Evidence(j, blur) for j in judged if j.result is not None]
    return sorted(found, key=lambda e: (not e.wrong, e.cost))
