"""Hypothesis strategies for cases of any cell; needs the package hypothesis.

    @given(cases("lstm"))
    def test_my_lstm(case): ...

An example shrinks to one step, one sequence, sizes of one, a loss that is a plain sum, and numbers of few digits.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from derive.cell import Cell
from derive.parse import load
from numeric.arguments import Array
from numeric.oracle.case import DTYPES, Case
from numeric.oracle.setting import Draft, Setting, as_case, settled

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["LOSSES", "cases"]

#: Losses, the simplest first.
LOSSES = ("linear", "squared_error", "softmax_cross_entropy")

#: Binary digits behind the point that numbers are rounded to; the last is all that there are.
_DIGITS = (3, 10, 60)


def cases(
    cell: Cell | str | os.PathLike[str],
    *,
    most_size: int = 4,
    most_steps: int = 6,
    most_batch: int = 3,
    losses: Sequence[str] = LOSSES,
    dtypes: Sequence[str] = ("float64",),
    lengths: bool = True,
    truncation: bool = True,
) -> SearchStrategy[Case]:
    """Cases of a cell, sound ones: inside of its functions' domain, away from kinks, with something left to judge.

    ``most_size``, ``most_steps`` and ``most_batch`` bound every size, T and B; ``losses`` and ``dtypes`` are what may
    be drawn; without ``lengths`` every sequence has T steps, without ``truncation`` every gradient is the whole one.
    Raises ImportError without hypothesis, and ValueError for a loss or a type that is not known.
    """
    from hypothesis import strategies as st

    for what, given, known in (("losses", losses, LOSSES), ("dtypes", dtypes, DTYPES)):
        unknown = [x for x in given if x not in known]
        if unknown or not given:
            raise ValueError(f"{what} is {tuple(given)!r}; expected any of {', '.join(known)}")
    cell = cell if isinstance(cell, Cell) else load(cell)
    limits = {"size": most_size, "T": most_steps, "B": most_batch}
    for name, most in limits.items():
        if most < 1:
            raise ValueError(f"{name} is bounded by {most!r}; expected at least 1")
    return _cases(st, cell, limits, tuple(losses), tuple(dtypes), lengths, truncation)


def _cases(
    st: Any,
    cell: Cell,
    limits: Mapping[str, int],
    losses: tuple[str, ...],
    dtypes: tuple[str, ...],
    lengths: bool,
    truncation: bool,
) -> SearchStrategy[Case]:
    @st.composite
    def drawn(draw: Any) -> Case:
        from hypothesis import assume

        T, B = draw(st.integers(1, limits["T"]), label="T"), draw(st.integers(1, limits["B"]), label="B")
        sizes = {x: draw(st.integers(1, limits["size"]), label=x) for x in cell.dimensions}
        options: dict[str, Any] = {}
        if lengths and draw(st.booleans(), label="lengths"):
            options["lengths"] = np.array(draw(st.lists(st.integers(1, T), min_size=B, max_size=B)))
        if truncation and draw(st.booleans(), label="truncated"):
            k1 = draw(st.integers(1, T), label="k1")
            options["truncate"] = (k1, draw(st.integers(k1, T), label="k2"))
        loss = _loss(draw, st, cell, losses)
        shape = partial(_draft, T=T, B=B, sizes=sizes, options=options, loss=loss, **_numbers(draw, st))
        finish = partial(as_case, id="drawn", family="drawn", purpose=_PURPOSE, dtype=draw(st.sampled_from(dtypes)))
        case = settled(shape, cell, [draw(st.integers(0, 2**16), label="seed")], finish)
        assume(case is not None)
        assert case is not None
        return case

    return drawn()


_PURPOSE = "was drawn by Hypothesis"


def _numbers(draw: Any, st: Any) -> dict[str, Any]:
    """How large the numbers are, and how many digits they have."""
    return {
        "digits": draw(st.sampled_from(_DIGITS), label="digits"),
        "weights": draw(st.sampled_from((0.7, 0.3, 1.5)), label="weights"),
        "resting": draw(st.booleans(), label="initial states of zero"),
    }


def _loss(draw: Any, st: Any, cell: Cell, losses: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """The name of a method of a draft, and its arguments."""
    name = draw(st.sampled_from([x for x in LOSSES if x in losses]), label="loss")
    how: dict[str, Any] = {
        "at": draw(st.sampled_from(("every", "last")), label="at") if cell.inputs else "every",
        "reduction": draw(st.sampled_from(("sum", "mean")), label="reduction"),
    }
    roots = (*cell.outputs, *cell.states)
    if name == "linear":
        return name, how | {"names": draw(st.lists(st.sampled_from(roots), min_size=1, unique=True), label="names")}
    how["on"] = draw(st.sampled_from(roots), label="on")
    if name == "squared_error":
        return "squared", how
    return draw(st.sampled_from(("classes", "distributions")), label="targets"), how


def _draft(
    s: Setting,
    *,
    T: int,
    B: int,
    sizes: Mapping[str, int],
    options: Mapping[str, Any],
    loss: tuple[str, dict[str, Any]],
    digits: int,
    weights: float,
    resting: bool,
) -> Draft:
    draft = s.draft(T, B, sizes, weights=weights).having(**options)
    short = 2.0 ** (digits + 4 * s.attempt)  # where numbers of few digits meet a kink, they get more

    def rounded(arrays: Mapping[str, Array]) -> dict[str, Array]:
        return {n: np.round(x * short) / short for n, x in arrays.items()}

    initial = {n: np.zeros_like(x) for n, x in draft.initial.items()} if resting else rounded(draft.initial)
    draft = replace(draft, params=rounded(draft.params), inputs=rounded(draft.inputs), initial=initial)
    name, how = loss
    finished: Draft = getattr(draft, name)(**how)
    return finished
