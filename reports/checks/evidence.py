"""What a check returns: whether a reading holds, how far that was shown, and what there is to see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reports.document import Block, Parts

__all__ = ["LEVELS", "Check", "Evidence", "weakest"]

# From the strongest on.  Where several readings hold, the weakest is what the claim is said to have.
LEVELS = (
    "by definition",
    "proven, every size",
    "counted, every size",
    "proven, at a size",
    "tested, at a random point",
    "run as printed",
    "measured",
    "not decided",
    "not run",
)


@dataclass(frozen=True)
class Evidence:
    """What was found about one reading.

    ``holds`` is None where nothing was decided or run (``said`` says why).  ``said`` is one or two sentences with
    their numbers; ``blocks`` are tables, formulas and the smallest counterexample.  ``needs`` names the optional
    library without which the check is not run.
    """

    holds: bool | None
    level: str
    said: Parts
    blocks: tuple[Block, ...] = ()
    needs: str = ""

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ValueError(f"a level is one of {', '.join(LEVELS)}; found {self.level!r}")
        if (self.holds is None) != (self.level in LEVELS[-2:]):
            raise ValueError(f"what is {self.level} neither holds nor fails, and nothing else does; found {self.holds}")
        if not self.said:
            raise ValueError("evidence says something")


Check = Callable[[Mapping[str, Any]], Evidence]


def weakest(levels: Iterable[str]) -> str:
    """The weakest of some levels.

    >>> weakest(["measured", "proven, every size"])
    'measured'
    """
    return max(levels, key=LEVELS.index)
