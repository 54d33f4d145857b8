"""What has to be shown, how it was shown, and whether it holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from derive.balls import find_difference
from derive.zero import BudgetError, Quotient

__all__ = ["Obligation", "Outcome", "Score", "agree", "discharge"]

EVERY_SIZE = "proven, every size"
AT_A_SIZE = "proven, at a size"
AT_A_POINT = "tested, at a random point"

# (holds, detail): the detail is a counterexample or the reason why nothing was decided
Outcome = tuple[bool | None, str]


@dataclass(frozen=True)
class Obligation:
    """One thing to be shown.

    ``holds`` is True, False (``detail`` is the counterexample) or None: not done at this size (``detail`` is the budget
    that was exceeded) or not decided.  ``level`` is what the method shows; ``needed`` obligations must hold for the
    proof to.
    """

    name: str
    statement: str
    method: str
    level: str
    holds: bool | None
    seconds: float
    detail: str = ""
    needed: bool = True

    def __str__(self) -> str:
        verdict = {True: "holds", False: "FAILS", None: "not done"}[self.holds]
        detail = f" ({self.detail})" if self.detail else ""
        return f"{verdict:8}  {self.name}: {self.statement} [{self.method}, {self.seconds:.3f} s]{detail}"


@dataclass(frozen=True)
class Score:
    """How many planted wrong derivations were rejected; ``by_check`` says by which check, as (rejected, planted)."""

    caught: int
    planted: int
    missed: tuple[str, ...]
    by_check: Mapping[str, tuple[int, int]]

    def __str__(self) -> str:
        return f"{self.caught} of {self.planted} planted mistakes caught"


def discharge(
    name: str, statement: str, method: str, check: Callable[[], Outcome], *, level: str = AT_A_SIZE, needed: bool = True
) -> Obligation:
    """Run a check and time it; a budget that is exceeded is "not done at this size", never a pass."""
    start = time.perf_counter()
    try:
        holds, detail = check()
    except BudgetError as error:
        holds, detail = None, f"not done at this size: it needs {error}"
    except ZeroDivisionError as error:
        holds, detail = False, str(error)
    return Obligation(name, statement, method, level, holds, time.perf_counter() - start, detail, needed)


def agree(pairs: Iterable[tuple[str, Any, Any]]) -> Outcome:
    """Whether each derived value equals the right one; the first that does not is the counterexample."""
    undecided = ""
    for what, derived, right in pairs:
        if (derived - right).is_zero:
            continue
        if not isinstance(derived, Quotient):
            return False, f"{what}: not equal at a random point"
        found = find_difference(derived, right)
        if found is not None:
            return False, f"{what}: {found}"
        undecided = undecided or f"not decided: no point was found where the two forms of {what} differ"
    return (None, undecided) if undecided else (True, "")
