"""Names and conventions: statements that nothing could make false, as long as what they name exists.

A statement that introduces a letter, a word or an intention claims nothing about numbers.  Where it names quantities
of a cell, ``names`` lists them, and they must be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from derive.cell import Cell
from reports.checks.arguments import Arguments
from reports.checks.evidence import Evidence
from reports.document import Code, Parts
from reports.parts.statement import sentence
from reports.prose import joined

__all__ = ["check_definition"]


def check_definition(given: Mapping[str, Any]) -> Evidence:
    """``cell`` and ``names`` are optional; ``why`` says why nothing could be false here.

    >>> check_definition({"cell": "tanh_rnn", "names": ("h", "W_hh"), "why": "It introduces letters."}).holds
    True
    """
    arguments = Arguments(given)
    why = arguments.sentence("why")
    names = arguments.words("names", default=())
    cell = arguments.cell() if names else None
    arguments.done()
    if cell is None:
        return Evidence(True, "by definition", sentence(why))
    return _named(cell, names, why)


def _named(cell: Cell, names: tuple[str, ...], why: str) -> Evidence:
    known = {*cell.axes, *cell.parameters, *cell.dimensions}
    lost = [name for name in names if name not in known]
    listed: Parts = joined([(Code(name),) for name in lost or names], last=" and ")
    if lost:
        return Evidence(False, "by definition", (*sentence(why), f" But the cell {cell.name} has no ", *listed, "."))
    return Evidence(True, "by definition", (*sentence(why), " The cell ", Code(cell.name), " has ", *listed, "."))
