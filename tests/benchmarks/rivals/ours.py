"""The engine as a contender: NumPy alone, with the compiled loop, or as it decides itself."""

from __future__ import annotations

import inspect
from typing import Any

import numeric

from .contender import Contender, UnavailableError
from .problem_data import Data

__all__ = ["MODES", "contender", "engine"]

MODES: dict[str, bool | None] = {"numpy": False, "fast": True, "auto": None}
KNOWS_FAST = "fast" in inspect.signature(numeric.Engine).parameters


def engine(cell: str, dtype: str, mode: str, keep: str | int = "all") -> Any:
    """An engine in that mode; an engine that knows no modes runs as it is."""
    options: dict[str, Any] = {"fast": MODES[mode]} if KNOWS_FAST else {}
    if keep != "all":
        options["keep"] = keep
    try:
        return numeric.Engine(cell, dtype=dtype, **options)
    except (ImportError, ValueError) as error:
        raise UnavailableError(f"ours, {mode}, keep={keep!r}: {error}") from error


def contender(data: Data, mode: str, keep: str | int = "all") -> Contender:
    """The engine on this problem."""
    made = engine(data.problem.cell, data.problem.dtype, mode, keep)
    options = {} if data.lengths is None else {"lengths": data.lengths}

    def run() -> Any:
        return made.value_and_grad(data.params, data.x, data.targets, loss="softmax_cross_entropy", **options)

    note = "" if KNOWS_FAST or mode == "auto" else "this engine has no compiled loop: NumPy alone in every row"
    return Contender(mode, run, lambda result: result[1], compiles=mode != "numpy", note=note)
