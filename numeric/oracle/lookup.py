"""A case by its id: what a verdict prints to repeat a finding."""

from __future__ import annotations

import os

from derive.cell import Cell
from derive.errors import nearest
from derive.parse import load
from numeric.oracle.case import Case
from numeric.oracle.families import default_cases

__all__ = ["find_case"]


def find_case(cell: Cell | str | os.PathLike[str], id: str) -> Case:
    """The default case of this id, of a cell, a shipped cell's name, or the path of a .cell file.

    Raises ValueError that lists the ids for one that is not there.
    """
    cell = cell if isinstance(cell, Cell) else load(cell)
    cases = {one.id: one for one in default_cases(cell)}
    if id not in cases:
        near = nearest(id, list(cases))
        hint = f"did you mean {near}? " if near else ""
        raise ValueError(f"{cell.name} has no case {id!r}; {hint}there are {', '.join(cases)}")
    return cases[id]
