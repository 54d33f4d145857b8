"""How much the gradient of a loss by what it reads is moved by its own rounding, in units of u.

    linear                  0, or |c / count|
    squared error           |y| + |target|
    cross-entropy           p s (1 + |y - max y|) + p s + target,   s the sum of the targets: 1 for a class

Each is divided as the loss is.  p - target is taken as the difference of two rounded numbers, which is how most write
it; the exponential of y - max y has the relative error of its argument's size.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from numeric.arguments import Array
from numeric.losses import Loss

__all__ = ["loss_rounding"]


def loss_rounding(loss: Loss, outputs: Mapping[str, Array]) -> dict[str, Array]:
    """The rounding of the loss's gradient by each root, (T, B, size); zero at the steps that do not count."""
    out = {}
    for root, given in loss.given.items():
        size = np.zeros_like(outputs[root])
        size[loss.where] = _SIZES[loss.name](outputs[root][loss.where], given, loss.count) / loss.count
        out[root] = size
    return out


def _linear(y: Array, cotangent: Array, count: int) -> Array:
    return np.abs(cotangent) * (count > 1)


def _squared_error(y: Array, target: Array, count: int) -> Array:
    return np.abs(y) + np.abs(target)


def _cross_entropy(y: Array, target: Array, count: int) -> Array:
    below = y.max(axis=-1, keepdims=True) - y
    p = np.exp(-below)
    p /= p.sum(axis=-1, keepdims=True)
    if target.ndim < y.ndim:
        target = np.eye(y.shape[-1])[target.astype(np.intp)]
    return p * np.abs(target).sum(axis=-1, keepdims=True) * (2 + below) + np.abs(target)


_SIZES = {"softmax_cross_entropy": _cross_entropy, "squared_error": _squared_error, "linear": _linear}
