"""Which case of the oracle reveals which known mistake: one case of every family, one place of every mistake.

A mistake is revealed where what it computes differs from the exact gradient by more than the oracle's criterion allows.
All places and all cases are a matter of minutes: :func:`numeric.oracle.power.power` has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any
from zlib import crc32

import numpy as np

from derive.cell import Cell
from numeric.noise import LIMIT
from numeric.oracle.case import Case
from numeric.oracle.criterion import UNDECIDABLE, Truth, compare
from numeric.oracle.families import FAMILIES, Family, Member
from numeric.oracle.mutants import Mutant, Run, mutants
from numeric.oracle.power import applicable
from numeric.oracle.setting import as_case, settled
from numeric.oracle.store import Store

__all__ = ["CASES", "Revealed", "case_named", "revealed"]

#: One case of each family.  Of the long ones the shorter: forty steps take as long as all other cases together.
CASES = (
    "separating",
    "sizes-of-one",
    "impulse-T",
    "long-expanding",
    "one-step",
    "two-steps",
    "batch-of-one",
    "saturated",
    "ragged-every-sum",
    "truncated-windows",
    "loss-squared-error-last",
    "carried-states-alone",
    "carried-from-rest",
)


@dataclass(frozen=True, eq=False)
class Revealed:
    """``shows`` is (mistakes, cases): 1 revealed, 0 not, -1 where the mistake cannot be made; names in their order."""

    cases: tuple[str, ...]
    mistakes: tuple[str, ...]
    sentences: tuple[str, ...]
    shows: Any

    @property
    def certain(self) -> tuple[str, ...]:
        """Mistakes that every case reveals in which they can be made."""
        return tuple(m for m, row in zip(self.mistakes, self.shows, strict=True) if (row != 0).all())

    @property
    def hidden(self) -> tuple[str, ...]:
        """Mistakes that none of these cases reveals."""
        return tuple(m for m, row in zip(self.mistakes, self.shows, strict=True) if not (row == 1).any())


def case_named(cell: Cell, wanted: str) -> Case | None:
    """The default case with this id; None where the cell cannot have it."""
    family, member = _member(wanted)
    finish = partial(as_case, id=member.id, family=family.name, purpose=family.purpose, dtype=member.dtype)
    return settled(member.make, cell, [0, crc32(member.id.encode())], finish, member.wanted)


def _member(wanted: str) -> tuple[Family, Member]:
    return next((f, m) for f in FAMILIES for m in f.members if m.id == wanted)


def revealed(cell: Cell) -> Revealed | str:
    """The matrix of one cell, or why there is none."""
    named: dict[str, list[Mutant]] = {}
    for mutant in mutants(cell):
        named.setdefault(mutant.name, []).append(mutant)
    store, cases, columns = Store(None), [], []
    for case in filter(None, (case_named(cell, wanted) for wanted in CASES)):
        try:
            truth = store.truth(case)
        except ArithmeticError:  # no exact result to compare with
            continue
        run = Run(case)
        cases.append(case.id)
        columns.append([_shows(run, places, truth) for places in named.values()])
    if not cases:
        return "no numbers were found at which the cell can be judged"
    return _sorted(cell, tuple(cases), named, np.array(columns).T)


def _shows(run: Run, places: list[Mutant], truth: Truth) -> int:
    """Whether a case reveals a mistake, at the first place where it can be made in the case."""
    for mutant in places:
        found = run.gradient(mutant)
        if found is None:
            continue
        if not found:  # shapes do not conform: whoever makes the mistake is told so
            return 1
        measured = (compare(name, x, truth, run.case) for name, x in found.items())
        return int(any(m.status != UNDECIDABLE and not m.most <= LIMIT for m in measured))
    return -1


def _sorted(cell: Cell, cases: tuple[str, ...], named: dict[str, list[Mutant]], shows: Any) -> Revealed:
    """Mistakes that change a number of the cell, those that fewest cases reveal first."""
    kept = [
        (int((row == 1).sum()), name, row, places[0].sentence)
        for (name, places), row in zip(named.items(), shows, strict=True)
        if (row == 1).any() or (cell.parameters and applicable(cell, places[0]))
    ]
    kept.sort(key=lambda k: k[:2])
    rows = np.array([k[2] for k in kept]).reshape(len(kept), len(cases))
    return Revealed(cases, tuple(k[1] for k in kept), tuple(k[3] for k in kept), rows)
