"""What cases can show: features that a judging covers, and the known mistakes that a case cannot reveal.

A mistake is revealed by a case where what it computes differs from the exact gradient by more than the criterion
allows, in some tensor, or has no conforming shapes.  A known mistake whose edit changes no number of a cell, such as
gates exchanged in a cell that has none, is no mistake there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from derive.adjoint import differentiate_step
from derive.cell import Cell
from derive.mistakes.run import LastLoss, differs, gradient
from derive.sample import Sample
from derive.step_proofs import uniform
from derive.unrolled_proofs import Unrolled
from numeric.arguments import Array
from numeric.noise import LIMIT
from numeric.oracle.case import Case
from numeric.oracle.criterion import UNDECIDABLE, Truth, compare
from numeric.oracle.families import default_cases
from numeric.oracle.features import of_set
from numeric.oracle.mutants import Mutant, Run, mutants
from numeric.oracle.store import Store
from numeric.tangent import program_of

__all__ = ["Power", "applicable", "hidden", "power", "unrevealed", "untested"]


# ------------------------------------------------------------------------------------------------------------- features


def untested(cell: Cell, cases: Sequence[Case], asked: Any = None) -> tuple[str, ...]:
    """Features that the default cases of a cell have, and none of these cases.

    ``asked`` is what was asked for, a :class:`numeric.oracle.judge.Scope`; of outputs alone, only features of the
    forward pass count.
    """
    forward = getattr(asked, "scope", "all") == "outputs"
    had = of_set(cases, forward=forward)
    return tuple(name for name in _all_features(cell, forward) if name not in had)


@lru_cache(maxsize=64)
def _all_features(cell: Cell, forward: bool) -> tuple[str, ...]:
    return tuple(sorted(of_set(default_cases(cell), forward=forward)))


# ------------------------------------------------------------------------------------------------------------- mistakes

_UNITS: OrderedDict[tuple[str, str], float | None] = OrderedDict()
_KEPT = 1 << 16
_FEW = 20


def _units(case: Case, chosen: Sequence[Mutant], store: Store) -> dict[str, float | None]:
    """By label, how far each mistake's worst tensor is from the exact one, in units of the criterion.

    None where the mistake cannot be made in this case: it is about another loss.
    """
    missing = [m for m in chosen if (case.digest, m.label) not in _UNITS]
    if missing:
        run, truth = Run(case), store.truth(case)
        for m in missing:
            _UNITS[case.digest, m.label] = _distance(run.gradient(m), case, truth)
    found = {m.label: _UNITS[case.digest, m.label] for m in chosen}
    while len(_UNITS) > _KEPT:
        _UNITS.popitem(last=False)
    return found


def _distance(found: Mapping[str, Array] | None, case: Case, truth: Truth) -> float | None:
    if found is None:
        return None
    if not found:
        return np.inf
    measured = [compare(name, x, truth, case) for name, x in found.items()]
    return max((m.most for m in measured if m.status != UNDECIDABLE), default=0.0)


def _reveals(units: float | None) -> bool:
    return units is not None and units > LIMIT


def unrevealed(case: Case, *, store: Store | None = None) -> tuple[str, ...]:
    """The labels of the known mistakes that a case cannot reveal: what they compute is right to rounding.

    Mistakes that cannot be made in the cell are left out.  Raises ArithmeticError where the case has no exact result.
    """
    chosen = mutants(case.parsed)
    units = _units(case, chosen, store or Store())
    quiet = [m for m in chosen if not _reveals(units[m.label])]
    return tuple(m.label for m in quiet if applicable(case.parsed, m))


def hidden(cell: Cell, cases: Sequence[Case] | None = None, *, store: Store | None = None) -> tuple[str, ...]:
    """The labels of the known mistakes that none of the cases, the default ones where left out, can reveal."""
    left, store = mutants(cell), store or Store()
    for case in sorted(default_cases(cell) if cases is None else cases, key=lambda c: c.T):  # short ones cost less
        if left:
            units = _units(case, left, store)
            left = tuple(m for m in left if not _reveals(units[m.label]))
        if len(left) <= _FEW:  # what cannot be made at all need not be looked for in the other cases
            left = tuple(m for m in left if applicable(cell, m))
    return tuple(m.label for m in left if applicable(cell, m))


@dataclass(frozen=True)
class Power:
    """The known mistakes of a cell by the cases that reveal them.

    ``units`` is (cases, mistakes): how far the worst entry is from the exact one, in units of the criterion, whose
    limit is 16; NaN where a mistake cannot be made in a case.  Mistakes that cannot be made in the cell are left out.
    """

    cell: str
    cases: tuple[str, ...]
    mistakes: tuple[str, ...]
    units: Array

    @property
    def reveals(self) -> Array:
        """(cases, mistakes), whether a case reveals a mistake."""
        return np.asarray(np.nan_to_num(self.units, nan=0.0) > LIMIT)

    @property
    def hidden(self) -> tuple[str, ...]:
        """Mistakes that no case reveals."""
        return tuple(
            m for m, seen in zip(self.mistakes, np.any(self.reveals, axis=0).tolist(), strict=True) if not seen
        )

    def __str__(self) -> str:
        reveals, width = self.reveals, max(map(len, self.cases), default=0)
        lines = [f"{self.cell}: {len(self.cases)} cases, {len(self.mistakes)} known mistakes"]
        lines.append(f"{'case':{width}}  revealed  by no other case")
        alone = reveals & (reveals.sum(axis=0) == 1)
        for name, seen, own in zip(self.cases, reveals.sum(axis=1), alone.sum(axis=1), strict=True):
            lines.append(f"{name:{width}}  {seen:8d}  {own:16d}")
        lines.append(f"revealed by none: {'; '.join(self.hidden) or 'nothing'}")
        return "\n".join(lines)


def power(cell: Cell, cases: Sequence[Case] | None = None, *, store: Store | None = None) -> Power:
    """Which of the cases, the default ones where left out, reveal which of the known mistakes.

    Raises ArithmeticError where a case has no exact result.
    """
    cases, store = default_cases(cell) if cases is None else tuple(cases), store or Store()
    chosen = mutants(cell)
    rows = [_units(case, chosen, store) for case in cases]
    table = np.array([[np.nan if row[m.label] is None else row[m.label] for m in chosen] for row in rows], float)
    table = table.reshape(len(cases), len(chosen))
    best = np.nan_to_num(table, nan=0.0).max(axis=0, initial=0.0)
    kept = np.array([units > LIMIT or applicable(cell, m) for units, m in zip(best, chosen, strict=True)], bool)
    labels = tuple(m.label for m, keep in zip(chosen, kept, strict=True) if keep)
    return Power(cell.name, tuple(c.id for c in cases), labels, table[:, kept])


# -------------------------------------------------------------------------------------------------------- applicability


def applicable(cell: Cell, mutant: Mutant) -> bool:
    """Whether a mistake changes a number of a cell: exactly, at a random point of five steps."""
    if mutant.loss is not None or mutant.loop.ordered:
        return True
    return _changes(cell, mutant.label)


@lru_cache(maxsize=4096)
def _changes(cell: Cell, label: str) -> bool:
    mutant = next(m for m in mutants(cell) if m.label == label)
    whole, right = _exact(cell, mutant.loop.right.at)
    return differs(gradient(whole, mutant.backward, mutant.loop), right)


@lru_cache(maxsize=32)
def _exact(cell: Cell, at: str) -> tuple[Any, Mapping[Any, Any]]:
    backward = differentiate_step(program_of(cell))
    whole = (LastLoss if at == "last" else Unrolled)(backward.program, 5, uniform(cell, 2), Sample(11), 2)
    return whole, gradient(whole, backward)
