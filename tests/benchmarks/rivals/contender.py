"""A contender: something that computes one problem's gradient again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Contender", "UnavailableError"]


class UnavailableError(Exception):
    """A contender cannot run here; the message says why."""


@dataclass(frozen=True)
class Contender:
    """``run`` computes the gradient once; ``gradients`` gives the last result by the cell's names, None for the floor.

    ``scale`` multiplies its time: padded time, say, by the share that is not padding.  ``compiles``: the first run
    takes longer than others.  ``note`` goes below the table.
    """

    name: str
    run: Callable[[], Any]
    gradients: Callable[[Any], dict[str, Any]] | None = None
    scale: float = 1.0
    compiles: bool = False
    note: str = ""
