"""The numbers of a case, drawn for any cell: parameters, inputs, initial states, and a loss with its targets.

A draft is drawn at one attempt; where its network leaves the functions' domain, comes near a kink, or does not do what
the case is there for, the next attempt draws others: smaller or larger ones, then positive ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from derive.cell import Cell
from numeric.arguments import Array
from numeric.oracle.behaviour import Behaviour, behaviour, decidable
from numeric.oracle.case import Case
from numeric.oracle.criterion import LIMITS

__all__ = ["ATTEMPTS", "Draft", "ImpossibleError", "Setting", "as_case", "settled"]

#: How often numbers are drawn, and from which attempt on all of them are positive.
ATTEMPTS, POSITIVE = 24, 12
#: How near an argument may come to a kink, at least, and in units of the roundoff.
NEAR, ROUNDED = 2.0**-11, 8.0


class ImpossibleError(Exception):
    """A cell does not have what a case needs."""


@dataclass(frozen=True)
class Draft:
    """A case in the making; ``options`` are the loss's part of it, and lengths and truncation."""

    cell: Cell
    random: np.random.Generator
    T: int
    B: int
    sizes: Mapping[str, int]
    params: Mapping[str, Array]
    inputs: Mapping[str, Array]
    initial: Mapping[str, Array]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def roots(self) -> tuple[str, ...]:
        """Outputs and states."""
        return (*self.cell.outputs, *self.cell.states)

    def having(self, **options: Any) -> Draft:
        """The same draft with options more."""
        return replace(self, options={**self.options, **options})

    # ------------------------------------------------------------------------------------------------------ losses

    def classes(self, on: str | None = None, **how: Any) -> Draft:
        """Cross-entropy with class indices; the first and the last class are among them."""
        on, lead = on or self.roots[0], self._lead(how)
        count = self._size(on)
        targets = self.random.integers(0, count, lead)
        targets.flat[0], targets.flat[-1] = count - 1, 0
        return self.having(loss="softmax_cross_entropy", on=on, targets=targets, **how)

    def distributions(self, on: str | None = None, **how: Any) -> Draft:
        """Cross-entropy with a distribution over the classes."""
        on = on or self.roots[0]
        weights = self.random.uniform(0.1, 1.0, (*self._lead(how), self._size(on)))
        targets = weights / weights.sum(axis=-1, keepdims=True)
        return self.having(loss="softmax_cross_entropy", on=on, targets=targets, **how)

    def squared(self, on: str | None = None, **how: Any) -> Draft:
        """Half the squared error."""
        on = on or self.roots[0]
        targets = self.random.standard_normal((*self._lead(how), self._size(on)))
        return self.having(loss="squared_error", on=on, targets=targets, **how)

    def linear(self, names: Sequence[str] = (), **how: Any) -> Draft:
        """Cotangents of some outputs and states; of all where none is named."""
        lead = self._lead(how, linear=True)
        late = bool(lead[1:]) and how.get("at") == "last"
        found = {n: self.random.standard_normal((*lead, self._size(n))) for n in names or self.roots}
        if late:  # a cell without inputs: only cotangents at every step say how many steps there are
            how = {**how, "at": "every"}
            for x in found.values():
                x[:-1] = 0.0
        return self.having(loss="linear", cotangents=found, **how)

    def _size(self, name: str) -> int:
        return self.sizes[self.cell.axes[name]]

    def _lead(self, how: Mapping[str, Any], linear: bool = False) -> tuple[int, ...]:
        if how.get("at") != "last":
            return self.T, self.B
        if self.cell.inputs:
            return (self.B,)
        if linear and "lengths" not in self.options and how.get("reduction") != "mean":
            return self.T, self.B
        raise ImpossibleError(f"{self.cell.name} has no inputs: nothing says how many steps there are")


@dataclass(frozen=True)
class Setting:
    """Where a case's numbers come from: a cell, a generator, and the attempt, from 0 on."""

    cell: Cell
    random: np.random.Generator
    attempt: int = 0

    def equal(self, size: int) -> dict[str, int]:
        """One size for every letter."""
        return dict.fromkeys(self.cell.dimensions, size)

    def rising(self, first: int) -> dict[str, int]:
        """Another size for every letter."""
        return {letter: first + k for k, letter in enumerate(self.cell.dimensions)}

    def falling(self, last: int) -> dict[str, int]:
        """Another size for every letter, the largest first."""
        return {letter: last + k for k, letter in enumerate(reversed(list(self.cell.dimensions)))}

    def draft(
        self,
        T: int,
        B: int,
        sizes: Mapping[str, int],
        *,
        weights: float = 0.7,
        biases: float = 0.6,
        inputs: float = 1.0,
        initial: float = 0.5,
    ) -> Draft:
        """Numbers of about these sizes; a matrix's entries are smaller the longer its rows are."""
        cell, positive = self.cell, self.attempt >= POSITIVE
        fewer = 0.7 ** max(0, self.attempt % POSITIVE - 4)

        def drawn(scale: float, shape: Sequence[int]) -> Array:
            x = self.random.uniform(-scale, scale, shape)
            return np.abs(x) + scale / 8 if positive else x

        params = {}
        for name, axes in cell.parameters.items():
            shape = [sizes[x] for x in axes]
            params[name] = drawn(fewer * (weights * 2 / np.sqrt(shape[1]) if len(shape) == 2 else biases), shape)
        given = {n: drawn(fewer * 2 * inputs, (T, B, sizes[cell.axes[n]])) for n in cell.inputs}
        start = {n: drawn(fewer * initial, (B, sizes[cell.axes[n]])) for n in cell.states}
        return Draft(cell, self.random, T, B, sizes, params, given, start)


# ------------------------------------------------------------------------------------------------------------- settled


def settled(
    make: Callable[[Setting], Draft],
    cell: Cell,
    key: Sequence[int],
    finish: Callable[[Draft], Case],
    wanted: Callable[[Behaviour], bool] = lambda b: True,
) -> Case | None:
    """The first case that is sound and does what is wanted, else the first sound one.

    None where the cell cannot have such a case, or no attempt is sound.
    """
    second: Case | None = None
    for attempt in range(ATTEMPTS):
        try:
            case = finish(make(Setting(cell, np.random.default_rng([*key, attempt]), attempt)))
        except ImpossibleError:
            return None
        if _is_inside(case) and (second is None or wanted(behaviour(case))) and decidable(case):
            if wanted(behaviour(case)):
                return case
            second = case
    return second


def _is_inside(case: Case) -> bool:
    seen = behaviour(case)
    return seen.finite and seen.margin > max(NEAR, ROUNDED * LIMITS[case.dtype].unit)


def as_case(draft: Draft, id: str, family: str, purpose: str, dtype: str = "float64") -> Case:
    """The draft's numbers rounded to a type; a shorter one than float64 is summed in float32."""
    stored = numpy_type(dtype)
    options = dict(draft.options)
    parts: dict[str, Any] = {n: _cast(getattr(draft, n), stored) for n in ("params", "inputs", "initial")}
    for name in ("targets", "cotangents"):
        options[name] = _cast(options.get(name), stored)
    accumulate = "float64" if dtype == "float64" else "float32"
    cell = draft.cell
    return Case(id, family, purpose, cell.name, cell.text, **parts, **options, dtype=dtype, accumulate=accumulate)


def numpy_type(dtype: str) -> np.dtype[Any]:
    """The NumPy type of a name; bfloat16 needs the package ml_dtypes."""
    if dtype != "bfloat16":
        return np.dtype(dtype)
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def _cast(value: Any, dtype: np.dtype[Any]) -> Any:
    if isinstance(value, Mapping):
        return {n: _cast(x, dtype) for n, x in value.items()}
    return value if value is None or value.dtype.kind in "iu" else value.astype(dtype)
