"""What people hand in instead of a function of a case: layers of frameworks, each with its layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from derive.cell import Cell
from numeric.oracle.case import Case

__all__ = ["adapted"]


def adapted(implementation: Any, cell: Cell) -> Callable[[Case], Any]:
    """A function of a case; what no adapter knows is one already."""
    del cell
    function: Callable[[Case], Any] = implementation
    return function
