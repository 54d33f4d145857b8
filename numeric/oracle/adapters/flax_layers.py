"""Flax, linen and NNX: their cells under their own RNN, which loops over time.

A cell, or an instance of one, is built anew with the sizes of each case; gradients are those of jax.grad.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import linen, nnx

from derive.cell import Cell
from numeric.oracle.adapters.adapter import Adapter, Given, Seen
from numeric.oracle.adapters.jax_functions import JaxLibrary
from numeric.oracle.adapters.layouts import FLAX, NNX, form, readout
from numeric.oracle.adapters.weights import Block

__all__ = ["flax_layer"]

_CELLS = {
    "SimpleCell": "tanh_rnn", "LSTMCell": "lstm", "OptimizedLSTMCell": "lstm", "GRUCell": "gru_reset_after",
}  # fmt: skip
#: Options that change what a cell computes.
_DECIDING = ("gate_fn", "activation_fn", "residual")


@dataclass(frozen=True)
class _Made:
    """A cell of Flax with its options; ``old`` for linen."""

    kind: type[Any]
    options: Mapping[str, Any]
    old: bool

    @property
    def base(self) -> str:
        """The cell of Flax's own that it is."""
        home = linen if self.old else nnx
        return next(n for n in ("OptimizedLSTMCell", *_CELLS) if issubclass(self.kind, getattr(home, n)))

    def blocks(self, cell: Cell) -> dict[str, Block]:
        """Arrays by their paths."""
        key = "LSTMCell" if self.old and self.base == "OptimizedLSTMCell" else self.base
        return {**(FLAX if self.old else NNX)[key], **readout(cell)}

    def cell(self) -> Cell | None:
        """What the documentation says that it computes; NNX's GRU has one bias a gate."""
        if self.options:
            return None
        without = ("c_n",) if not self.old and self.base == "GRUCell" else ()
        return form(_CELLS[self.base], without=without)


def flax_layer(layer: Any) -> Adapter:
    """The adapter of a recurrent cell of Flax, a class or an instance, or of an RNN that holds one.

    Raises TypeError for any other module.
    """
    layer = layer.cell if isinstance(layer, (linen.RNN, nnx.RNN)) else layer
    kind = layer if isinstance(layer, type) else type(layer)
    old = issubclass(kind, linen.Module)
    home = linen if old else nnx
    if not any(issubclass(kind, getattr(home, n)) for n in _CELLS):
        raise TypeError(
            f"{kind.__name__} is none of Flax's cells {', '.join(_CELLS)}; "
            "give a function: from_jax(f), f(params, inputs, initial) -> outputs"
        )
    made = _Made(kind, {} if isinstance(layer, type) else _options(layer, kind), old)
    name = f"flax.{'linen' if old else 'nnx'}.{kind.__name__}" if kind.__module__.startswith("flax.") else kind.__name__
    run = _linen(made) if old else _nnx(made)
    return Adapter(name, JaxLibrary(), run, made.blocks, made.cell())


def _options(layer: Any, kind: type[Any]) -> dict[str, Any]:
    """Options of an instance that are not those of its class."""
    plain = kind(1) if isinstance(layer, linen.Module) else kind(1, 1, rngs=nnx.Rngs(0))
    return {n: getattr(layer, n) for n in _DECIDING if getattr(layer, n, None) != getattr(plain, n, None)}


def _linen(made: _Made) -> Callable[[Given], Seen]:
    def run(given: Given) -> Seen:
        dtype = getattr(jnp, given.case.dtype)
        cell = made.kind(given.initial["h"].shape[-1], dtype=dtype, param_dtype=dtype, **made.options)
        layer = linen.RNN(cell, time_major=True, return_carry=True)
        tree = {"params": {"cell": _nested(given.weights)}}
        return _seen(given, *layer.apply(tree, given.inputs["x"], **_asked(given)))

    return run


def _nnx(made: _Made) -> Callable[[Given], Seen]:
    def run(given: Given) -> Seen:
        dtype, sizes = getattr(jnp, given.case.dtype), (given.inputs["x"].shape[-1], given.initial["h"].shape[-1])
        cell = made.kind(*sizes, dtype=dtype, param_dtype=dtype, rngs=nnx.Rngs(0), **made.options)
        nnx.update(cell, nnx.State(_nested(given.weights)))
        layer = nnx.RNN(cell, time_major=True, return_carry=True)
        return _seen(given, *layer(given.inputs["x"], **_asked(given)))

    return run


def _asked(given: Given) -> dict[str, Any]:
    """The initial carry, (c, h) in an LSTM, and lengths."""
    h, c = given.initial["h"], given.initial.get("c")
    lengths = None if given.lengths is None else jnp.asarray(given.lengths)
    return {"initial_carry": h if c is None else (c, h), "seq_lengths": lengths}


def _nested(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Paths of two parts, as nested dicts."""
    out: dict[str, Any] = {}
    for path, w in weights.items():
        if not path.startswith("readout"):
            head, _, leaf = path.partition("/")
            out.setdefault(head, {})[leaf] = w
    return out


def _seen(given: Given, carry: Any, h: Any) -> Seen:
    every, last = {"h": h}, dict(zip(("c", "h"), carry, strict=True)) if isinstance(carry, tuple) else {"h": carry}
    if "readout.weight" in given.weights:
        weight, bias = given.weights["readout.weight"], given.weights.get("readout.bias")
        every["y"] = JaxLibrary().affine(h, weight, bias)
    return every, last
