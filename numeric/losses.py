"""Losses at full size: the value, and the gradient by the output that the backward pass starts from.

The closed forms are those that :mod:`derive.losses` proves.  ``weights`` (T, B) say every step or the last, sum or mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from derive.cell import Cell
from derive.losses import AT, LOSSES, REDUCTIONS
from numeric.arguments import Array, Data, as_array

__all__ = ["LossSpec", "check_loss", "evaluate_loss"]


@dataclass(frozen=True)
class LossSpec:
    """Which loss of which output, where, and with what; ``targets`` or ``cotangents`` by the loss."""

    loss: str
    at: str
    reduction: str
    on: str | None
    targets: Any
    cotangents: Any

    def roots(self) -> tuple[str, ...]:
        """Outputs and states that the loss reads."""
        return tuple(self.cotangents) if self.loss == "linear" else (str(self.on),)

    def extent(self) -> tuple[int | None, int | None]:
        """T and B as the loss's arrays say them; None where they do not."""
        arrays = list(self.cotangents.values()) if self.loss == "linear" else [self.targets]
        shape = np.shape(arrays[0]) if arrays else ()
        if self.at == "last":
            return None, shape[0] if shape else None
        return (shape[0], shape[1]) if len(shape) > 1 else (None, None)


def check_loss(
    cell: Cell, *, loss: str, at: str, reduction: str, on: str | None, targets: Any, cotangents: Any
) -> LossSpec:
    """Check the choice of a loss; its arrays are checked against the outputs by :func:`evaluate_loss`."""
    for what, value, known in (("loss", loss, tuple(LOSSES)), ("at", at, AT), ("reduction", reduction, REDUCTIONS)):
        if value not in known:
            raise ValueError(f"{what} is {value!r}; expected {' or '.join(map(repr, known))}")
    observable = (*cell.outputs, *cell.states)
    if loss == "linear":
        if targets is not None:
            raise ValueError("the linear loss takes cotangents, not targets")
        if not isinstance(cotangents, Mapping) or not cotangents:
            raise ValueError(f"the linear loss takes cotangents, a dict with any of {', '.join(observable)}")
        for name in cotangents:
            if name not in observable:
                raise ValueError(f"unknown cotangent {name!r}; expected any of {', '.join(observable)}")
        return LossSpec(loss, at, reduction, None, None, dict(cotangents))
    if cotangents is not None:
        raise ValueError(f"cotangents belong to the linear loss; {loss} takes targets")
    if targets is None:
        raise ValueError(f"{loss} takes targets; found None")
    if on is None and len(cell.outputs) > 1:
        raise ValueError(f"the cell has several outputs ({', '.join(cell.outputs)}); say which one with on=")
    chosen = on or (cell.outputs or cell.states)[0]
    if chosen not in observable:
        raise ValueError(f"on is {on!r}; expected one of {', '.join(observable)}")
    return LossSpec(loss, at, reduction, chosen, targets, None)


def _weights(spec: LossSpec, data: Data, dtype: np.dtype[Any]) -> Array:
    """(T, B): the factor of each step's loss."""
    lengths = np.full(data.batch, data.steps) if data.lengths is None else data.lengths
    steps = np.arange(data.steps)[:, None]
    chosen = steps == lengths - 1 if spec.at == "last" else steps < lengths
    count = int(chosen.sum()) if spec.reduction == "mean" else 1
    return chosen / np.asarray(count, dtype)


def evaluate_loss(spec: LossSpec, data: Data, outputs: Mapping[str, Array]) -> tuple[Any, dict[str, Array]]:
    """The loss and its gradient by each root, (T, B, size), exactly zero at padding."""
    dtype = next(iter(outputs.values())).dtype
    weights = _weights(spec, data, dtype)
    if spec.loss == "linear":
        value, gradients = 0, {}
        for name, given in spec.cotangents.items():
            y = outputs[name]
            c = _per_step(spec, data, f"cotangents[{name!r}]", given, y) * weights[:, :, None]
            gradients[name] = c.astype(dtype, copy=False)
            value = value + (c * y).sum(dtype=_wide(dtype))
        return _scalar(value), gradients
    y = outputs[str(spec.on)]
    value, gradient = (_cross_entropy if spec.loss == "softmax_cross_entropy" else _squared_error)(
        spec, data, y, weights
    )
    return _scalar(value), {str(spec.on): gradient}


def _wide(dtype: np.dtype[Any]) -> Any:
    return np.complex128 if dtype.kind == "c" else np.float64


def _scalar(value: Any) -> Any:
    return complex(value) if np.iscomplexobj(value) else float(value)


def _per_step(spec: LossSpec, data: Data, name: str, given: Any, y: Array) -> Array:
    """An array like y at every step, zero at padding; from (B, size) where only the last step counts."""
    array = as_array(name, given, y.dtype)
    expected = y.shape[1:] if spec.at == "last" else y.shape
    letters = "(B, size)" if spec.at == "last" else "(T, B, size)"
    if array.shape != expected:
        raise ValueError(f"{name} has shape {array.shape}; expected {expected}, {letters} with at={spec.at!r}")
    if spec.at == "last":
        array = np.broadcast_to(array, y.shape)
    elif data.mask is not None:
        array = np.where(data.mask[:, :, None], array, np.zeros((), y.dtype))
    if not np.isfinite(array).all():
        raise ValueError(f"{name}, of shape {np.shape(given)}, holds a value that is not finite")
    return array


def _squared_error(spec: LossSpec, data: Data, y: Array, weights: Array) -> tuple[Any, Array]:
    difference = y - _per_step(spec, data, "targets", spec.targets, y)
    weighted = weights[:, :, None] * difference
    value = (weighted * difference).sum(dtype=_wide(y.dtype)) / 2
    return value, weighted


def _cross_entropy(spec: LossSpec, data: Data, y: Array, weights: Array) -> tuple[Any, Array]:
    """-sum target log p, with p = softmax(y) taken from the largest entry on, so that nothing overflows."""
    top = np.take_along_axis(y, y.real.argmax(axis=-1)[..., None], axis=-1)
    exponentials = np.exp(y - top)
    total = exponentials.sum(axis=-1, keepdims=True)
    log_p = (y - top) - np.log(total)
    targets = np.asarray(spec.targets)
    shape = y.shape[1:-1] if spec.at == "last" else y.shape[:-1]
    if targets.dtype.kind in "iu" and targets.ndim <= len(shape):
        if targets.shape != shape:
            raise ValueError(
                f"targets has shape {targets.shape}; expected class indices of shape {shape} with at={spec.at!r}"
            )
        index = _classes(spec, data, targets, y.shape)
        value = -(weights * np.take_along_axis(log_p, index, axis=-1)[..., 0]).sum(dtype=_wide(y.dtype))
        gradient = exponentials / total
        # p - 1 of the true class is minus the sum of the others: no digits are lost where p is close to one
        np.put_along_axis(exponentials, index, 0, axis=-1)
        np.put_along_axis(gradient, index, -exponentials.sum(axis=-1, keepdims=True) / total, axis=-1)
    else:
        target = _per_step(spec, data, "targets", spec.targets, y)
        value = -(weights[:, :, None] * target * log_p).sum(dtype=_wide(y.dtype))
        gradient = exponentials / total * target.sum(axis=-1, keepdims=True) - target
    return value, gradient * weights[:, :, None]


def _classes(spec: LossSpec, data: Data, targets: Array, shape: tuple[int, ...]) -> Array:
    """Class indices at every step (T, B, 1), padding taken as class 0."""
    index = np.broadcast_to(targets, shape[:-1]).astype(np.int64)
    if spec.at != "last" and data.mask is not None:
        index = np.where(data.mask, index, 0)
    if index.min() < 0 or index.max() >= shape[-1]:
        raise ValueError(
            f"targets, of shape {targets.shape}, runs from {index.min()} to {index.max()}; expected classes 0 to {shape[-1] - 1}"
        )
    return index[..., None]
