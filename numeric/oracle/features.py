"""What a case must have to show some mistake: features, each with a sentence, read from the case's own numbers.

A wrong implementation can be right on every case that lacks one feature: without a batch of one, an axis that is
squeezed away; without lengths, whatever is done with padding.  So a judging names the features that none of its cases
had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from numeric.oracle.behaviour import SATURATED, behaviour
from numeric.oracle.case import Case

__all__ = ["FEATURES", "SET_FEATURES", "Feature", "features", "of_set"]


@dataclass(frozen=True)
class Feature:
    """One thing that a case can have; ``forward`` says that outputs alone can show what goes wrong with it."""

    name: str
    says: str
    has: Callable[[Case], bool]
    forward: bool = False


def _sizes(case: Case) -> list[int]:
    return [*case.sizes.values()]


def _letters(case: Case, name: str) -> int:
    return case.sizes[case.parsed.axes[name]]


def _wider(case: Case, other: bool) -> bool:
    """Whether the first input is wider than the first state, or the other way round."""
    if not case.inputs:
        return False
    x, h = _letters(case, case.parsed.inputs[0]), _letters(case, case.parsed.states[0])
    return h > x if other else x > h


def _starts(case: Case) -> bool:
    """Whether no initial state is zero."""
    return all(bool(np.asarray(x, np.float64).all()) for x in case.initial.values())


def _rests(case: Case) -> bool:
    return not any(np.asarray(x, np.float64).any() for x in case.initial.values())


def _pulse(step: Callable[[int], int], case: Case) -> bool:
    """Whether every input is zero but at one step."""
    busy = [np.asarray(x, np.float64).any(axis=(1, 2)) for x in case.inputs.values()]
    here = np.arange(case.T) == step(case.T) - 1
    return case.T > 3 and bool(busy) and all((b == here).all() for b in busy)


def _classes(case: Case) -> bool:
    return case.loss == "softmax_cross_entropy" and case.targets is not None and case.targets.dtype.kind in "iu"


def _distributions(case: Case) -> bool:
    return case.loss == "softmax_cross_entropy" and not _classes(case)


def _names(case: Case) -> list[str]:
    """The outputs and states that the loss reads."""
    return [*case.cotangents] if case.cotangents is not None else [case.on or ""]


def _ends(case: Case) -> list[int]:
    return [] if case.lengths is None else [int(n) for n in case.lengths]


def _counted(at: str, reduction: str, ragged: bool, case: Case) -> bool:
    return case.at == at and case.reduction == reduction and (case.lengths is not None or not ragged)


def _path(test: Callable[[float], bool], case: Case) -> bool:
    path = behaviour(case).path if case.T > 5 else None
    return path is not None and test(path)


def _laps(case: Case) -> bool:
    return case.truncate is not None and case.truncate[1] > case.truncate[0]


def _chunks(case: Case) -> bool:
    """Whether the time falls into chunks, the last one shorter."""
    if case.truncate is None:
        return False
    k1, k2 = case.truncate
    return k1 == k2 < case.T and case.T % k1 > 0


def _overflows(case: Case) -> bool:
    most = 88.0 if case.dtype == "float32" else 709.0
    return case.loss == "softmax_cross_entropy" and behaviour(case).logit > most


_SHAPES = (
    Feature("several sequences", "sums over the batch have more than one term", lambda c: c.B > 1, True),
    Feature("a sequence alone", "an axis of one is kept, and not squeezed away", lambda c: c.B == 1, True),
    Feature("many sequences", "a batch is longer than a block of 16", lambda c: c.B > 16, True),
    Feature("one step", "there is no carry, and the first step is the last", lambda c: c.T == 1, True),
    Feature("two steps", "there is one carry", lambda c: c.T == 2, True),
    Feature("T even", "loops that take two steps at once come out even", lambda c: c.T > 2 and c.T % 2 == 0, True),
    Feature("T odd", "loops that take two steps at once have one left", lambda c: c.T > 2 and c.T % 2 == 1, True),
    Feature("many steps", "loops that take 16 steps at once come round", lambda c: c.T > 32, True),
    Feature(
        "square weights",
        "a transpose does not show by its shape",
        lambda c: len({*_sizes(c)}) == 1 < _sizes(c)[0],
        True,
    ),
    Feature(
        "sizes that differ",
        "whoever takes one size for another is seen",
        lambda c: len({c.T, c.B, *_sizes(c)}) == 2 + len(_sizes(c)),
        True,
    ),
    Feature(
        "inputs wider than states", "what is cut to the size of a state is seen", partial(_wider, other=False), True
    ),
    Feature(
        "states wider than inputs", "what is cut to the size of an input is seen", partial(_wider, other=True), True
    ),
    Feature("sizes of one", "axes of one are not broadcast", lambda c: {*_sizes(c)} == {1}, True),
    Feature("sizes beyond a block", "a vector is longer than a block of 16", lambda c: min(_sizes(c)) > 16, True),
)

_VALUES = (
    Feature("initial states that are not zero", "h[0] counts, and has a gradient", _starts, True),
    Feature("initial states of zero", "nothing divides by a state's size", _rests, True),
    Feature("inputs at t = 1 alone", "entries hold the first step's contribution alone", partial(_pulse, lambda T: 1)),
    Feature("inputs at t = 2 alone", "entries hold the second step's contribution alone", partial(_pulse, lambda T: 2)),
    Feature(
        "inputs at T/2 alone", "entries hold a middle step's contribution alone", partial(_pulse, lambda T: T // 2)
    ),
    Feature("inputs at T alone", "entries hold the last step's contribution alone", partial(_pulse, lambda T: T)),
    Feature(
        "a vanishing path", "what comes from far is small, and still there", partial(_path, lambda p: 0 < p < 1e-3)
    ),
    Feature("an expanding path", "what is carried grows, and is not clipped", partial(_path, lambda p: p > 30)),
    Feature("saturated units", "derivatives are nearly zero", lambda c: SATURATED < behaviour(c).deepest < 39, True),
    Feature("logits of which exp overflows", "softmax is taken from the largest logit on", _overflows),
    Feature("float64", "all 53 bits are there", lambda c: c.dtype == "float64", True),
    Feature("float32", "sums of float32 are as good as they can be", lambda c: c.dtype == "float32", True),
)

_LOSSES = (
    Feature("classes", "cross-entropy with class indices", _classes),
    Feature("distributions", "cross-entropy with distributions over the classes", _distributions),
    Feature("squared error", "half the squared error", lambda c: c.loss == "squared_error"),
    Feature("cotangents", "a linear loss", lambda c: c.loss == "linear"),
    Feature("classes at the last step", "targets have no time axis", lambda c: _classes(c) and c.at == "last"),
    Feature(
        "a squared error at the last step",
        "targets have no time axis",
        lambda c: c.loss == "squared_error" and c.at == "last",
    ),
    Feature("cotangents of several names", "their gradients are added", lambda c: len(_names(c)) > 1),
    Feature(
        "a loss of a state", "a state gets a gradient of its own", lambda c: bool({*_names(c)} & {*c.parsed.states})
    ),
    Feature(
        "cotangents of the last states alone",
        "what the next part of a sequence hands back",
        lambda c: {*_names(c)} == {*c.parsed.states} and c.loss == "linear",
    ),
    *(
        Feature(
            f"{at} step, {reduction}", f"the loss of {at} step, {reduction}", partial(_counted, at, reduction, False)
        )
        for at in ("every", "last")
        for reduction in ("sum", "mean")
    ),
)

_TIME = (
    *(
        Feature(
            f"lengths, {at} step, {reduction}",
            f"sequences of their own lengths, the loss of {at} step, {reduction}",
            partial(_counted, at, reduction, True),
        )
        for at in ("every", "last")
        for reduction in ("sum", "mean")
    ),
    Feature(
        "lengths in no order", "nobody has sorted them", lambda c: len(_ends(c)) > 2 and not _sorted(_ends(c)), True
    ),
    Feature("a length of one", "a sequence ends where it begins", lambda c: 1 in _ends(c) and c.T > 1, True),
    Feature(
        "padding behind every sequence", "no sequence lasts until T", lambda c: max(_ends(c), default=c.T) < c.T, True
    ),
    Feature("chunks", "truncated at fixed steps, the last chunk shorter", _chunks),
    Feature("windows", "truncated, with windows that overlap", _laps),
)

FEATURES: tuple[Feature, ...] = (*_SHAPES, *_VALUES, *_LOSSES, *_TIME)

#: What no case has alone.
SET_FEATURES: dict[str, str] = {
    "a call of other shapes": "nothing is kept of the shapes of a call before",
    "a call of the same shapes": "nothing is kept of the numbers of a call before",
}


def _sorted(lengths: Sequence[int]) -> bool:
    return lengths in (sorted(lengths), sorted(lengths, reverse=True))


def features(case: Case, *, forward: bool = False) -> frozenset[str]:
    """The names of a case's features; of those that outputs alone can show, where ``forward``."""
    return frozenset(f.name for f in FEATURES if (f.forward or not forward) and f.has(case))


def of_set(cases: Sequence[Case], *, forward: bool = False) -> frozenset[str]:
    """The features of all cases together, in this order."""
    found = {name for case in cases for name in features(case, forward=forward)}
    return frozenset(found | set(_between(cases)))


def _between(cases: Sequence[Case]) -> Iterator[str]:
    """What the sequence of cases has."""
    shapes: list[Any] = [(c.T, c.B, *c.sizes.values(), c.dtype, c.loss, c.at) for c in cases]
    if len({*shapes}) > 1:
        yield "a call of other shapes"
    if len({*shapes}) < len(shapes):
        yield "a call of the same shapes"
