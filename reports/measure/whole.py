"""Everything that is measured for a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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

__all__ = ["Measured", "check", "measure"]

NOT_MEASURED = "it was not measured"
REFUTED = "the engine's gradients are wrong"


@dataclass(frozen=True, eq=False)
class Measured:
    """Sizes of the cross-check, its table (a CrossCheck), and what the figures show; a text says why one is missing.

    ``curves`` are the gradient by time lag in each regime, ``reason`` why there is no cross-check, or nothing beyond
    it; ``failed`` that the engine could not compute its own gradients.
    """

    sizes: Mapping[str, int]
    check: Any
    curves: tuple[Curve, ...]
    reason: str = ""
    failed: bool = False
    truncation: Truncation | str = NOT_MEASURED
    differences: Differences | str = NOT_MEASURED
    growth: Growth | str = NOT_MEASURED
    revealed: Revealed | str = NOT_MEASURED

    @property
    def ok(self) -> bool | None:
        """Whether all methods agree; None where nothing could be measured or only difference quotients object."""
        if self.check is None:
            return False if self.failed else None
        if any(not row.ok for row in self.check.rows if is_exact(row)):
            return False
        return True if self.check.ok else None


def check(derivation: Derivation, seed: int) -> Measured:
    """Run the cross-check alone."""
    engine = numeric.Engine(derivation.cell, fast=False)  # as below
    sizes = sizes_of(tuple(derivation.cell.dimensions))
    problem = draw_problem(engine, sizes, STEPS, BATCH, seed, spread=0.7)
    shown = {"T": STEPS, "B": BATCH, **sizes}
    if problem is None:
        return Measured(shown, None, (), "the cell is not finite at the numbers that were drawn")
    try:
        return Measured(shown, cross_check(engine, problem, sizes, seed), ())
    except (ValueError, IndexError) as error:  # arrays that do not go together
        return Measured(shown, None, (), f"the engine cannot compute its gradients ({error})", failed=True)


def measure(derivation: Derivation, seed: int) -> Measured:
    """Run the cross-check and, unless it refutes the engine, the measurements of every figure."""
    checked = check(derivation, seed)
    if checked.reason or checked.ok is False:
        why = checked.reason or REFUTED
        return replace(checked, reason=why, truncation=why, differences=why, growth=why)
    engine = numeric.Engine(derivation.cell, fast=False)  # too few calls to compile anything for
    sizes = sizes_of(tuple(derivation.cell.dimensions))
    return replace(
        checked,
        curves=curves(engine, derivation, seed),
        truncation=truncation(engine, sizes, seed),
        differences=differences(engine, sizes, seed),
        growth=growth(derivation, sizes, seed),
        revealed=revealed(derivation.cell),
    )
