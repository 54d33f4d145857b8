"""Losses at full size: the value, and the gradient by the output that the backward pass starts from.

The closed forms are those that :mod:`derive.losses` proves.  A loss looks only at the steps that count: all of a
sequence's own, or its last; what stands elsewhere, in targets, cotangents or outputs, does not matter, not even NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from derive.cell import Cell
from derive.losses import AT, LOSSES, REDUCTIONS
from numeric.arguments import Array, Data, as_array, check_known, raw_array, unpadded

__all__ = ["Choice", "Loss", "check_loss", "choose_loss", "evaluate_loss", "formula"]


# ------------------------------------------------------------------------------------------------ which loss, of what


@dataclass(frozen=True)
class Choice:
    """Which loss, where, and with what.

    ``roots`` maps the outputs and states that the loss reads to the letters of their sizes; ``given`` maps them to
    targets or cotangents, as the user gave them.
    """

    loss: str
    at: str
    reduction: str
    roots: Mapping[str, str]
    given: Mapping[str, Any]

    def name(self, root: str) -> str:
        """What errors call the array that belongs to a root."""
        return f"cotangents[{root!r}]" if self.loss == "linear" else "targets"

    def extent(self) -> tuple[int | None, int | None]:
        """T and B as the loss's arrays say them; None where they do not."""
        root = next(iter(self.roots))
        shape = raw_array(self.name(root), self.given[root]).shape
        if self.at == "last":
            return None, (shape[0] if shape else None)
        return (shape[0], shape[1]) if len(shape) > 1 else (None, None)


def choose_loss(
    cell: Cell,
    *,
    targets: Any,
    loss: str = "softmax_cross_entropy",
    at: str = "every",
    on: str | None = None,
    reduction: str = "sum",
    cotangents: Any = None,
) -> Choice:
    """Check the choice of a loss; :func:`check_loss` checks its arrays."""
    for what, value, known in (("loss", loss, tuple(LOSSES)), ("at", at, AT), ("reduction", reduction, REDUCTIONS)):
        if value not in known:
            raise ValueError(f"{what} is {value!r}; expected {' or '.join(map(repr, known))}")
    axes = {name: cell.axes[name] for name in (*cell.outputs, *cell.states)}
    if loss == "linear":
        given = _cotangents(axes, targets, on, cotangents)
    else:
        if cotangents is not None:
            raise ValueError(f"cotangents belong to the linear loss; {loss} takes targets")
        if targets is None:
            raise ValueError(f"{loss} takes targets; found None")
        given = {_on(cell, on): targets}
    return Choice(loss, at, reduction, {name: axes[name] for name in given}, given)


def _cotangents(axes: Mapping[str, str], targets: Any, on: str | None, cotangents: Any) -> dict[str, Any]:
    if targets is not None:
        raise ValueError("the linear loss takes cotangents, not targets")
    if on is not None:
        raise ValueError(f"the linear loss reads every name in cotangents; leave out on={on!r}")
    if not isinstance(cotangents, Mapping) or not cotangents:
        raise ValueError(f"the linear loss takes cotangents, a dict with any of {', '.join(axes)}")
    check_known("cotangent", cotangents, axes)
    return dict(cotangents)


def _on(cell: Cell, on: str | None) -> str:
    """The output or state that the loss reads."""
    observed = (*cell.outputs, *cell.states)
    if on is None:
        if len(cell.outputs) > 1:
            raise ValueError(f"the cell has several outputs ({', '.join(cell.outputs)}); say which one with on=")
        return observed[0]
    if on not in observed:
        raise ValueError(f"on is {on!r}; expected one of {', '.join(observed)}")
    return on


# ---------------------------------------------------------------------------------------------------- its own arrays


@dataclass(frozen=True)
class Loss:
    """A loss with its arrays checked.

    ``full`` holds the targets or cotangents by root, ``at`` the steps that count, "every" or "last", and ``count`` what
    the sum is divided by.  ``where`` picks the steps that count from a (T, B, size) array: all of it, or N rows;
    ``given`` is what stands there in ``full``.  Of a part of a longer time, only the steps from ``begin`` on count, and
    the last steps of the sequences in ``counts``, (B,) booleans.
    """

    name: str
    at: str
    where: Any
    full: Mapping[str, Array]
    given: Mapping[str, Array]
    count: int
    begin: int = 0
    counts: Array | None = None

    @cached_property
    def classes(self) -> bool:
        """Whether the targets are class indices."""
        return all(array.dtype.kind in "iu" for array in self.full.values())

    @cached_property
    def kind(self) -> tuple[Any, ...]:
        """What decides how the loss is computed."""
        return (*self.full, self.name, self.at, self.classes, self.begin > 0)


def check_loss(choice: Choice, data: Data) -> Loss:
    """Check the arrays of a loss; raises ValueError that names the array, its shape and the one expected."""
    where: Any = ...
    own: Any = ...  # the same steps in the loss's own arrays
    count = data.steps * data.batch
    if choice.at == "last":
        last = np.full(data.batch, data.steps) if data.lengths is None else data.lengths
        where, count = (last - 1, np.arange(data.batch)), data.batch
    elif data.mask is not None:
        where = own = np.nonzero(data.mask)
        count = len(where[0])
    full = {root: _given(choice, data, root) for root in choice.roots}
    given = {root: array[own] for root, array in full.items()}
    if choice.loss == "softmax_cross_entropy":
        for root, array in given.items():
            _check_classes(array, np.shape(choice.given[root]), data.sizes[choice.roots[root]])
    return Loss(choice.loss, choice.at, where, full, given, count if choice.reduction == "mean" else 1)


def _given(choice: Choice, data: Data, root: str) -> Array:
    """Targets or cotangents like the root, or integer class indices."""
    name, value, letter = choice.name(root), choice.given[root], choice.roots[root]
    lead = (data.batch,) if choice.at == "last" else (data.steps, data.batch)
    whole = (*lead, data.sizes[letter])
    array, classes = raw_array(name, value), choice.loss == "softmax_cross_entropy"
    if array.shape == whole:
        return unpadded(name, as_array(name, value, data.dtype), None if choice.at == "last" else data.lengths)
    if classes and array.shape == lead and array.dtype.kind in "iu":
        return array
    letters = f"({', '.join(('T', 'B')[-len(lead) :])}, {letter})"
    expected = f"{letters} = {whole}" + (f", or class indices, integers, of shape {lead}" if classes else "")
    found = f"shape {array.shape}" + (f" and dtype {array.dtype}" if classes else "")
    raise ValueError(f"{name} has {found}; expected {expected}, with at={choice.at!r}")


def _check_classes(index: Array, shape: tuple[int, ...], classes: int) -> None:
    if index.dtype.kind in "iu" and not 0 <= index.min() <= index.max() < classes:
        runs = f"runs from {index.min()} to {index.max()}"
        raise ValueError(f"targets, of shape {shape}, {runs}; expected classes 0 to {classes - 1}")


# -------------------------------------------------------------------------------------------------------- evaluation


def evaluate_loss(loss: Loss, outputs: Mapping[str, Array]) -> tuple[Any, dict[str, Array]]:
    """The loss and its gradient by each root, (T, B, size), exactly zero at the steps that do not count."""
    value, gradients = 0, {}
    for root, given in loss.given.items():
        y = outputs[root]
        total, slope = _FORMULAS[loss.name](y[loss.where], given)
        gradients[root] = np.zeros_like(y)
        gradients[root][loss.where] = slope / loss.count
        value = value + total
    return (complex if np.iscomplexobj(value) else float)(value / loss.count), gradients


def formula(name: str) -> Callable[[Array, Array], tuple[Any, Array]]:
    """What gives the value and the gradient of a loss, not divided by any count, from rows of outputs and targets."""
    return _FORMULAS[name]


def _sum(terms: Array) -> Any:
    """The sum in double precision."""
    return terms.sum(dtype=np.complex128 if np.iscomplexobj(terms) else np.float64)


def _linear(y: Array, cotangent: Array) -> tuple[Any, Array]:
    return _sum(cotangent * y), cotangent


def _squared_error(y: Array, target: Array) -> tuple[Any, Array]:
    difference = y - target
    return _sum(difference * difference) / 2, difference


def _cross_entropy(y: Array, target: Array) -> tuple[Any, Array]:
    """-sum target log p, with p = softmax(y) taken from the largest entry on, so that nothing overflows.

    No digit is lost where p is close to one: -log p = log(1 + rest) - (y - top), p - 1 = minus the sum of the others.
    """
    largest = y.real.argmax(axis=-1)[..., None]
    shifted = y - np.take_along_axis(y, largest, axis=-1)
    p = np.exp(shifted)
    rest = _without(p, largest).sum(axis=-1, keepdims=True)
    cost = np.log1p(rest) - shifted
    p /= 1 + rest
    if target.ndim < y.ndim:
        index = target[..., None].astype(np.intp)
        others = _without(p, index)
        np.put_along_axis(others, index, -others.sum(axis=-1, keepdims=True), axis=-1)
        return _sum(np.take_along_axis(cost, index, axis=-1)), others
    slope = p * target.sum(axis=-1, keepdims=True) - target
    top = _without(target, largest).sum(axis=-1, keepdims=True) - np.take_along_axis(target, largest, axis=-1) * rest
    np.put_along_axis(slope, largest, top / (1 + rest), axis=-1)
    return _sum(target * cost), slope


def _without(x: Array, index: Array) -> Array:
    """A copy with one entry of each row zero."""
    out = x.copy()
    np.put_along_axis(out, index, 0, axis=-1)
    return out


_FORMULAS = {"softmax_cross_entropy": _cross_entropy, "squared_error": _squared_error, "linear": _linear}
