"""What a case asks of an implementation beyond the plain: flags, each explained once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from numeric.oracle.case import Case

__all__ = ["FLAGS", "Flag", "flags_of"]


@dataclass(frozen=True)
class Flag:
    """A name, what it means to somebody who writes an implementation, and when a case has it."""

    name: str
    meaning: str
    holds: Callable[[Case], bool]


def _padded(case: Case) -> np.ndarray:
    """(T, B): the steps beyond a sequence's end."""
    lengths = np.full(case.B, case.T) if case.lengths is None else case.lengths
    return np.arange(case.T)[:, None] >= lengths


def _nan_in_padding(case: Case) -> bool:
    padded = _padded(case)
    return any(bool(np.isnan(x.astype(np.float64)[padded]).any()) for x in case.inputs.values())


FLAGS = (
    Flag(
        "softmax_cross_entropy",
        "the loss of a step is -log of the softmax of the output `on` at the target class",
        lambda c: c.loss == "softmax_cross_entropy",
    ),
    Flag(
        "squared_error",
        "the loss of a step is half the squared norm of the output `on` minus the target",
        lambda c: c.loss == "squared_error",
    ),
    Flag(
        "linear",
        "the loss is the sum of cotangents times values, over every output and state that has cotangents",
        lambda c: c.loss == "linear",
    ),
    Flag(
        "distribution",
        "targets are distributions over the classes, not class indices: -sum of target * log(softmax)",
        lambda c: c.loss == "softmax_cross_entropy" and c.targets is not None and c.targets.dtype.kind not in "iu",
    ),
    Flag(
        "last",
        "only the last step of each sequence has a loss; targets and cotangents have no time axis",
        lambda c: c.at == "last",
    ),
    Flag(
        "mean",
        "the loss is divided by the number of its (t, b) terms: B for `last`, else the sum of the lengths",
        lambda c: c.reduction == "mean",
    ),
    Flag(
        "lengths",
        "sequence b has lengths[b] steps; what stands beyond them is padding: it is ignored, whatever it holds, "
        "its gradient is zero, states keep the value of the last step and outputs are zero there",
        lambda c: c.lengths is not None,
    ),
    Flag("nan-padding", "the padding of the inputs holds NaN", _nan_in_padding),
    Flag(
        "truncated",
        "truncate is [k1, k2]: every k1 steps the losses of the last k1 steps are carried back over the last k2 "
        "steps only",
        lambda c: c.truncate is not None,
    ),
    Flag(
        "initial",
        "initial states are not zero",
        lambda c: any(bool((x != 0).any()) for x in c.initial.values()),
    ),
    Flag("one-sequence", "B is 1", lambda c: c.B == 1),
    Flag("one-step", "T is 1", lambda c: c.T == 1),
    Flag(
        "float32",
        "numbers are stored in float32; results are judged by the roundoff of that type, or better",
        lambda c: c.dtype == "float32",
    ),
    Flag(
        "float16",
        "numbers are stored in float16 and summed in the type that `accumulate` says",
        lambda c: c.dtype == "float16",
    ),
    Flag(
        "bfloat16",
        "numbers are stored in bfloat16 and summed in the type that `accumulate` says",
        lambda c: c.dtype == "bfloat16",
    ),
)


def flags_of(case: Case) -> tuple[str, ...]:
    """The names of a case's flags."""
    return tuple(flag.name for flag in FLAGS if flag.holds(case))
