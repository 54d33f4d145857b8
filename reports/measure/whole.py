"""Everything that is measured for a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numeric
from derive.derivation import Derivation
from reports.measure.cost import Growth, growth
from reports.measure.cross_check import cross_check, is_exact
from reports.measure.differences import Differences, differences
from reports.measure.mistakes import Revealed, revealed
from reports.measure.problem import BATCH, STEPS, draw_problem, sizes_of
from reports.measure.reach import Curve, curves
from reports.measure.truncation import Truncation, truncation

__all__ = ["Measured", "measure"]

NOT_MEASURED = "it was not measured"


@dataclass(frozen=True, eq=False)
class Measured:
    """Sizes of the cross-check, its table (a CrossCheck), and what the figures show; a text says why one is missing.

    ``curves`` are the gradient by time lag in each regime, ``reason`` why there is no cross-check.
    """

    sizes: Mapping[str, int]
    check: Any
    curves: tuple[Curve, ...]
    reason: str = ""
    truncation: Truncation | str = NOT_MEASURED
    differences: Differences | str = NOT_MEASURED
    growth: Growth | str = NOT_MEASURED
    revealed: Revealed | str = NOT_MEASURED

    @property
    def ok(self) -> bool | None:
        """Whether all methods agree; None where nothing could be measured or only difference quotients object."""
        if self.check is None:
            return None
        if any(not row.ok for row in self.check.rows if is_exact(row)):
            return False
        return True if self.check.ok else None


def measure(derivation: Derivation, seed: int) -> Measured:
    """Run the cross-check and the measurements of every figure."""
    cell = derivation.cell
    engine = numeric.Engine(cell)
    sizes = sizes_of(tuple(cell.dimensions))
    problem = draw_problem(engine, sizes, STEPS, BATCH, seed, spread=0.7)
    shown = {"T": STEPS, "B": BATCH, **sizes}
    if problem is None:
        return Measured(shown, None, (), "the cell is not finite at the numbers that were drawn")
    plain = numeric.Engine(cell, fast=False)  # the figures' calls are too few to compile anything for
    return Measured(
        shown,
        cross_check(engine, problem, sizes, seed),
        curves(plain, derivation, seed),
        truncation=truncation(plain, sizes, seed),
        differences=differences(plain, sizes, seed),
        growth=growth(derivation, sizes, seed),
        revealed=revealed(cell),
    )
