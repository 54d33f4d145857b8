"""A case by its id: what a verdict prints to repeat a finding."""

from __future__ import annotations

import os

from derive.cell import Cell
from derive.errors import nearest
from derive.parse import cells, load
from numeric.oracle.case import Case
from numeric.oracle.families import default_cases

__all__ = ["find_case", "how_to_find"]


def find_case(cell: Cell | str | os.PathLike[str], id: str, *, dtype: str | None = None) -> Case:
    """The default case of this id, of a cell, a shipped cell's name, or the path of a .cell file.

    ``dtype`` as for :func:`numeric.oracle.default_cases`.  Raises ValueError that lists the ids for one that is not
    there.
    """
    cell = cell if isinstance(cell, Cell) else load(cell)
    cases = {one.id: one for one in default_cases(cell, dtype=dtype)}
    if id not in cases:
        near = nearest(id, list(cases))
        hint = f"did you mean {near}? " if near else ""
        raise ValueError(f"{cell.name} has no case {id!r}; {hint}there are {', '.join(cases)}")
    return cases[id]


def how_to_find(case: Case) -> str:
    """A line of Python that gives a case again, or words for one that is not a default one."""
    cell = case.parsed
    said = f'"{cell.name}"' if cell.name in cells() and load(cell.name) == cell else "cell"
    for dtype in (None, case.dtype):
        for one in default_cases(cell, dtype=dtype):
            if one.id == case.id and one.digest == case.digest:
                more = f', dtype="{dtype}"' if dtype else ""
                return f'numeric.oracle.find_case({said}, "{case.id}"{more})'
    return f"the case {case.id} that was given"
