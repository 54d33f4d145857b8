"""Which known mistake, or which convention, explains a result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from derive.cell import Cell
from numeric.oracle.verdict import Diagnosis

__all__ = ["diagnose"]


def diagnose(cell: Cell, judged: Sequence[Any], asked: Any) -> Diagnosis:
    """What explains the results of cases that were judged, if anything does."""
    return Diagnosis()
