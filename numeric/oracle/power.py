"""What cases can show: features that a judging covers, and the known mistakes that a case cannot reveal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from derive.cell import Cell
from numeric.oracle.case import Case

__all__ = ["untested"]


def untested(cell: Cell, cases: Sequence[Case], asked: Any) -> tuple[str, ...]:
    """Features that none of the cases could show."""
    return ()
