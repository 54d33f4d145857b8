"""What an adapter asks of a library that differentiates, and the losses written once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from numeric.arguments import Array
from numeric.losses import Loss

__all__ = ["Library", "Run", "loss_of"]

#: Weights to outputs and states: by name (T, B, size) of every step, and (B, size) of the last one only.
Run = Callable[[Mapping[str, Any]], tuple[dict[str, Any], dict[str, Any]]]


class Library(Protocol):
    """Arrays of a library, and its automatic differentiation."""

    @property
    def name(self) -> str:
        """What it is called."""

    def array(self, x: Array, dtype: str) -> Any:
        """An array of the library's own, in a type of its own."""

    def differentiate(
        self, function: Callable[[Mapping[str, Any]], tuple[Any, Mapping[str, Any]]], leaves: Mapping[str, Array],
        dtype: str, key: str,
    ) -> tuple[Array, dict[str, Array], dict[str, Array]]:  # fmt: skip
        """A function's value, what it returns beside, and its gradient by every leaf.

        ``key`` says which function it is: one that was compiled for it may be used again.
        """

    def pick(self, y: Any, where: Any) -> Any:
        """Rows of an array: all of them, or those at pairs of indices."""

    def join(self, steps: list[Any]) -> Any:
        """Arrays one after the other, along their first axis."""

    def affine(self, h: Any, weight: Any, bias: Any) -> Any:
        """weight h + bias, rows of h by rows; ``bias`` may be None."""

    def log_softmax(self, y: Any) -> Any:
        """Over the last axis."""

    def product(self, a: Array, b: Array, dtype: str) -> Array:
        """tanh(a b), by the library's own functions: what its precision is measured with."""


def loss_of(library: Library, loss: Loss, every: Mapping[str, Any], last: Mapping[str, Any], dtype: str) -> Any:
    """The loss of a case in a library's own arithmetic.

    Raises NotImplementedError where it reads a state at steps that the layer does not return.
    """
    total: Any = 0
    for root, given in loss.given.items():
        y = _read(library, loss, root, every, last)
        total = total + _TERMS[loss.name](library, y, given, dtype)
    return total / loss.count


def _read(library: Library, loss: Loss, root: str, every: Mapping[str, Any], last: Mapping[str, Any]) -> Any:
    if root in every:
        return library.pick(every[root], loss.where)
    if root in last and loss.at == "last":
        return last[root]
    raise NotImplementedError(f"the layer returns {root} at the last step only" if root in last else f"no {root}")


def _linear(library: Library, y: Any, given: Array, dtype: str) -> Any:
    return (library.array(given, dtype) * y).sum()


def _squared_error(library: Library, y: Any, given: Array, dtype: str) -> Any:
    return ((y - library.array(given, dtype)) ** 2).sum() / 2


def _cross_entropy(library: Library, y: Any, given: Array, dtype: str) -> Any:
    target = np.eye(y.shape[-1])[given] if given.dtype.kind in "iu" else given
    return -(library.array(target, dtype) * library.log_softmax(y)).sum()


_TERMS = {"linear": _linear, "squared_error": _squared_error, "softmax_cross_entropy": _cross_entropy}
