"""Which cases of a law run: enough for every two values to meet, or, with BPTT_TESTS=all in the environment, every one.

A mistake that shows only where three options meet is rare, and a law has thousands of cases; what is left out of a
usual run is in the whole one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import combinations, product
from typing import Any

from hypothesis import settings

__all__ = ["ALL", "crossed", "drawing"]

ALL = os.environ.get("BPTT_TESTS") == "all" or os.environ.get("HYPOTHESIS_PROFILE") == "explore"


def drawing(usual: int, whole: int | None = None) -> settings:
    """How many examples Hypothesis draws: ``usual``; in a whole run ``whole``, or as many as its profile says."""
    number = whole if ALL else usual
    return settings() if number is None else settings(max_examples=number)


def crossed(*axes: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Cases for ``parametrize``: of any two axes every two values meet in one of them; all combinations in a whole run.

    >>> len(crossed("abc", "xy", (False, True))) in (6, 12)
    True
    """
    every = list(product(*map(range, map(len, axes))))
    return [tuple(axis[i] for axis, i in zip(axes, case, strict=True)) for case in (every if ALL else _covering(every))]


def _pairs(case: tuple[int, ...]) -> set[tuple[tuple[int, int], ...]]:
    return set(combinations(enumerate(case), min(2, len(case))))


def _covering(every: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Some of the cases that together hold every pair that all of them hold; those that hold the most come first."""
    pairs = {case: _pairs(case) for case in every}
    missing, taken = set().union(*pairs.values()), set[tuple[int, ...]]()
    for wanted in range(max(map(len, pairs.values())), 0, -1):
        for case in every:
            if len(pairs[case] & missing) >= wanted:
                taken.add(case)
                missing -= pairs[case]
    return sorted(taken)
