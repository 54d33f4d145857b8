"""Obligations of the cell's own proof: what has been shown already, for a statement that is one of them in words.

With ``against = true`` the statement is the opposite of what is proven: "the gradient needs X" is refuted by a proof
that it can be had without X.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import derive
from derive.cell import Cell
from derive.claims import ClaimError
from derive.prove import STAGES, Obligation, discharge
from reports.checks.arguments import Arguments
from reports.checks.evidence import Evidence, weakest
from reports.document import Mark, Table
from reports.parts.statement import sentence
from reports.prose import prose

__all__ = ["check_proof"]


def check_proof(given: Mapping[str, Any]) -> Evidence:
    """``cell``, ``obligations`` (beginnings of their names), ``against``, and ``so``: what they mean for the statement.

    >>> check_proof({"cell": "tanh_rnn", "obligations": ("P3/W_hh",), "so": "It is the gradient."}).level
    'proven, every size'
    """
    arguments = Arguments(given)
    cell, wanted = arguments.cell(), arguments.words("obligations")
    against, so = arguments.flag("against"), arguments.sentence("so")
    arguments.done()
    for name in wanted or ("",):
        if not name or not _discharged(cell, name):
            known = ", ".join(begin for stage in STAGES for begin in stage.begins)
            raise ClaimError("the proof has no such obligation", field="obligations", found=name, expected=known)
    found = [o for name in wanted for o in _discharged(cell, name)]
    return _evidence(found, cell, against, so)


@lru_cache(maxsize=256)
def _discharged(cell: Cell, name: str) -> tuple[Obligation, ...]:
    return discharge(derive.differentiate(cell), (name,))


def _evidence(found: list[Obligation], cell: Cell, against: bool, so: str) -> Evidence:
    marks = {True: Mark("holds", "holds"), False: Mark("fails", "fails"), None: Mark("open", "not done")}
    rows = tuple((prose(o.statement, tuple(cell.parameters)), (o.level,), (marks[o.holds],)) for o in found)
    blocks = (Table((("what is proven",), ("level",), ("verdict",)), rows, "lll"),)
    if any(o.holds is None for o in found):
        return Evidence(None, "not decided", ("Not every obligation was discharged within its budget.",), blocks)
    holds = all(o.holds for o in found) != against
    level = weakest(o.level for o in found)
    return Evidence(holds, level, sentence(so), blocks)
