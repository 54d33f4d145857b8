"""What truncation keeps: every pair of a loss at step t and a use of the weights at step j, counted out.

``chunks`` cuts the sequence into chunks of k steps; ``window`` carries each loss back over k steps.  Every T up to 12
and every k up to 5 is looked at, and the first of them where the statement fails is the counterexample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from derive.truncate import dropped_by_chunks, dropped_by_window, pairs
from reports.checks.arguments import Arguments
from reports.checks.evidence import Evidence
from reports.document import Parts, Table
from reports.prose import prose

__all__ = ["check_truncation"]

STEPS, MOST = 12, 5

Pair = tuple[int, int]


@dataclass(frozen=True)
class _Statement:
    """``wrong(t, j, k, kept)`` says whether a pair breaks it; ``words`` say what holds, ``broken`` what does not."""

    wrong: Callable[[int, int, int, bool], bool]
    words: str
    broken: str


_STATEMENTS = {
    "at most k": _Statement(
        lambda t, j, k, kept: kept and t - j + 1 > k,
        "No loss is carried back over more than k steps, its own counted",
        "is kept, over more than k steps",
    ),
    "k each": _Statement(
        lambda t, j, k, kept: not kept and t - j + 1 <= k,
        "Every loss is carried back over k steps, or as many as there are",
        "is lost, although it spans no more than k steps",
    ),
    "longer than k lost": _Statement(
        lambda t, j, k, kept: kept and t - j >= k,
        "Whatever lies k steps or more apart is lost",
        "is kept",
    ),
    "neighbours kept": _Statement(
        lambda t, j, k, kept: not kept and k > 1 and t - j <= 1,
        "Every dependency of one step is kept, for k above 1",
        "is lost, although they are neighbours",
    ),
}


def check_truncation(given: Mapping[str, Any]) -> Evidence:
    """``form``, chunks or window, and ``that``: "at most k", "k each", "longer than k lost", "neighbours kept".

    >>> check_truncation({"form": "chunks", "that": "at most k"}).holds
    True
    >>> check_truncation({"form": "chunks", "that": "neighbours kept"}).holds
    False
    """
    arguments = Arguments(given)
    form = arguments.choice("form", ("chunks", "window"))
    that = arguments.choice("that", _STATEMENTS)
    arguments.done()
    statement = _STATEMENTS[that]
    for steps in range(1, STEPS + 1):
        for k in range(1, min(MOST, steps) + 1):
            dropped = _dropped(form, steps, k)
            for t, j in pairs(steps):
                if statement.wrong(t, j, k, (t, j) not in dropped):
                    return _refuted(statement, steps, k, (t, j), dropped)
    said = prose(f"{statement.words}: every pair for T up to {STEPS} and k up to {MOST} was looked at.")
    return Evidence(True, "proven, at a size", said, (_grid(6, 3, _dropped(form, 6, 3)),))


def _dropped(form: str, steps: int, k: int) -> set[Pair]:
    return set((dropped_by_chunks if form == "chunks" else dropped_by_window)(steps, k))


def _refuted(statement: _Statement, steps: int, k: int, pair: Pair, dropped: set[Pair]) -> Evidence:
    t, j = pair
    said = prose(f"With T = {steps} and k = {k}, what step {j} does to the loss of step {t} {statement.broken}.")
    return Evidence(False, "proven, at a size", said, (_grid(steps, k, dropped),))


def _grid(steps: int, k: int, dropped: set[Pair]) -> Table:
    """Which use of the weights each loss reaches."""
    columns = range(1, steps + 1)
    head: list[Parts] = [("the loss of step",), *((f"use at {j}",) for j in columns)]
    rows = []
    for t in columns:
        cells: list[Parts] = [("kept" if (t, j) not in dropped else "lost",) if j <= t else ("",) for j in columns]
        rows.append(((str(t),), *cells))
    caption = prose(f"What is kept and lost at T = {steps}, k = {k}.")
    return Table(tuple(head), tuple(rows), "r" + "c" * steps, caption)
