"""JAX: pure functions of arrays, differentiated by jax.grad and compiled by jax.jit.

float64 is switched on for the call alone, by JAX's own context.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from numeric.arguments import Array
from numeric.oracle.adapters.adapter import Adapter, Given, Seen
from numeric.oracle.adapters.weights import blocks_of_parameters

__all__ = ["JaxLibrary", "from_jax"]

_COMPILED = 64


@dataclass(frozen=True)
class JaxLibrary:
    """JAX arrays; ``x64=False`` leaves JAX's switch as the user has it."""

    name: str = "JAX"
    x64: bool = True
    jit: bool = True
    _kept: OrderedDict[str, Any] = field(default_factory=OrderedDict, repr=False, compare=False)

    def wide(self, dtype: str) -> Any:
        """A context in which float64 is what it says."""
        return jax.enable_x64(True) if self.x64 and dtype == "float64" else nullcontext()

    def array(self, x: Array, dtype: str) -> Any:
        """An array of JAX's."""
        return jnp.asarray(np.asarray(x), dtype)

    def differentiate(
        self, function: Callable[[Mapping[str, Any]], tuple[Any, Mapping[str, Any]]], leaves: Mapping[str, Array],
        dtype: str, key: str,
    ) -> tuple[Array, dict[str, Array], dict[str, Array]]:  # fmt: skip
        """By jax.value_and_grad; compiled once for each case."""
        with self.wide(dtype):
            values = {name: self.array(x, dtype) for name, x in leaves.items()}
            (loss, outputs), grads = self._compiled(function, key)(values)
            return np.asarray(loss), _plain(outputs), _plain(grads)

    def _compiled(self, function: Any, key: str) -> Any:
        if key not in self._kept:
            grad = jax.value_and_grad(function, has_aux=True)
            self._kept[key] = jax.jit(grad) if self.jit else grad
            while len(self._kept) > _COMPILED:
                self._kept.popitem(last=False)
        return self._kept[key]

    def pick(self, y: Any, where: Any) -> Any:
        """Rows of an array."""
        return y[where]

    def join(self, steps: list[Any]) -> Any:
        """Along the first axis."""
        return jnp.concatenate(steps)

    def affine(self, h: Any, weight: Any, bias: Any) -> Any:
        """Rows of h by rows."""
        y = h @ weight.T
        return y if bias is None else y + bias

    def log_softmax(self, y: Any) -> Any:
        """Over the last axis."""
        return jax.nn.log_softmax(y, -1)

    def product(self, a: Array, b: Array, dtype: str) -> Array:
        """tanh(a b)."""
        with self.wide(dtype):
            return np.asarray(jnp.tanh(self.array(a, dtype) @ self.array(b, dtype)))


def _plain(arrays: Mapping[str, Any]) -> dict[str, Array]:
    return {name: np.asarray(x) for name, x in arrays.items()}


def from_jax(function: Callable[..., Any], name: str = "", *, jit: bool = True) -> Adapter:
    """A pure function of JAX arrays, differentiated by jax.grad.

    ``function(params, inputs, initial)`` gets dicts of arrays under the cell's own names and returns outputs and
    states, a dict of (T, B, size); padding of unlike lengths is masked here, by the rule of the cell.
    """

    def run(given: Given) -> Seen:
        return dict(function(dict(given.weights), dict(given.inputs), dict(given.initial))), {}

    said = name or getattr(function, "__qualname__", type(function).__name__)
    return Adapter(said, JaxLibrary(jit=jit), run, lambda cell: blocks_of_parameters(cell.parameters))
