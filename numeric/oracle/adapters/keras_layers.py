"""Keras: SimpleRNN, LSTM, GRU and their cells, on the backends PyTorch and JAX.

A layer, or an instance of one, is built anew with the units of each case and its own options.  Weights are handed in by
``stateless_call``, so that the backend differentiates.  Sequences of unlike lengths are masked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from derive.cell import Cell
from numeric.arguments import Array
from numeric.oracle.adapters.adapter import Adapter, Given, Seen
from numeric.oracle.adapters.layouts import KERAS, form, readout
from numeric.oracle.adapters.library import Library
from numeric.oracle.adapters.weights import Block

__all__ = ["keras_layer", "keras_library"]

#: Options of which a layer is judged with these only.
_REFUSED = {"go_backwards": False, "stateful": False, "dropout": 0.0, "recurrent_dropout": 0.0}
_DECIDING = {"activation": "tanh", "recurrent_activation": "sigmoid"}
_SET = {"return_sequences": True, "return_state": True}


def keras_library() -> Library:
    """The library of the backend that is set, with the products of Keras.

    Raises ValueError for a backend that is none of PyTorch and JAX.
    """
    backend = keras.backend.backend()
    if backend == "torch":
        from numeric.oracle.adapters.pytorch import TorchLibrary

        return _on(TorchLibrary)(f"Keras on {backend}")
    if backend == "jax":
        from numeric.oracle.adapters.jax_functions import JaxLibrary

        return _on(JaxLibrary)(f"Keras on {backend}")
    raise ValueError(f"Keras runs on {backend} here; judged are the backends torch and jax (KERAS_BACKEND)")


def _on(base: Any) -> Any:
    """A backend's library, whose products and readout are those of Keras."""

    class OnBackend(base):
        def product(self, a: Array, b: Array, dtype: str) -> Array:
            with self.wide(dtype):
                x, y = (keras.ops.convert_to_tensor(m, dtype=dtype) for m in (a, b))
                return np.asarray(keras.ops.convert_to_numpy(keras.ops.tanh(keras.ops.matmul(x, y))))

    return OnBackend


@dataclass(frozen=True)
class _Made:
    """A kind of layer, or of a cell of one, with its options."""

    kind: type[Any]
    options: Mapping[str, Any]

    @property
    def base(self) -> str:
        """SimpleRNN, LSTM or GRU."""
        names = ("SimpleRNN", "LSTM", "GRU")
        return next(n for n in names if issubclass(self.kind, self._kinds(n)))

    @staticmethod
    def _kinds(name: str) -> tuple[type[Any], ...]:
        return getattr(keras.layers, name), getattr(keras.layers, f"{name}Cell")

    @property
    def after(self) -> bool:
        """Whether a GRU resets after the product."""
        return bool(self.options.get("reset_after", True))

    def build(self, case: Any) -> Any:
        """A layer of the sizes of a case, its variables made."""
        units, width = case.sizes[case.parsed.axes["h"]], case.sizes[case.parsed.axes["x"]]
        own = {**self.options, "units": units, "dtype": case.dtype}
        if issubclass(self.kind, keras.layers.RNN):
            layer = self.kind(**{**own, **_SET})
        else:
            layer = keras.layers.RNN(self.kind(**own), dtype=case.dtype, **_SET)
        layer.build((case.B, case.T, width))
        return layer

    def blocks(self, cell: Cell) -> dict[str, Block]:
        """Its arrays by the names of its variables."""
        own = dict(KERAS["GRU before" if self.base == "GRU" and not self.after else self.base])
        if not self.options.get("use_bias", True):
            own.pop("bias")
        return own | readout(cell)

    def cell(self) -> Cell | None:
        """What the documentation says that it computes."""
        if any(self.options.get(n, plain) != plain for n, plain in _DECIDING.items()):
            return None
        gru = "gru_reset_after" if self.after else "gru"
        name = {"SimpleRNN": "tanh_rnn", "LSTM": "lstm", "GRU": gru}[self.base]
        return form(name, biased=bool(self.options.get("use_bias", True)))


def keras_layer(layer: Any) -> Adapter:
    """The adapter of a recurrent layer or cell of Keras, a class or an instance.

    Raises ValueError for an instance that no case can be given to, and TypeError for any other layer.
    """
    if type(layer) is keras.layers.RNN:
        layer = layer.cell
    kind = layer if isinstance(layer, type) else type(layer)
    if not any(issubclass(kind, _Made._kinds(n)) for n in ("SimpleRNN", "LSTM", "GRU")):
        raise TypeError(f"{kind.__name__} is no recurrent layer of Keras: SimpleRNN, LSTM, GRU and their cells")
    made = _Made(kind, {} if isinstance(layer, type) else _options(layer))
    library = keras_library()
    said = (
        ("of the two biases the gradients are taken in turn, entry by entry",)
        if made.base == "GRU" and made.after
        else ()
    )
    return Adapter(f"keras.layers.{kind.__name__}", library, _sequence(made, library), made.blocks, made.cell(), said)


def _options(layer: Any) -> dict[str, Any]:
    """What an instance was made with, sizes aside."""
    found = layer.get_config()
    for name, expected in _REFUSED.items():
        if found.get(name, expected) != expected:
            raise ValueError(f"{type(layer).__name__} has {name}={found[name]}; it is judged with {name}={expected}")
    kept = (*_DECIDING, "use_bias", "reset_after", "unroll", "implementation")
    return {n: found[n] for n in kept if n in found}


def _sequence(made: _Made, library: Library) -> Callable[[Given], Seen]:
    """The layer over whole sequences, batch first."""

    def run(given: Given) -> Seen:
        layer = made.build(given.case)
        ops, case = keras.ops, given.case
        weights = [given.weights[v.path.rpartition("/")[2]] for v in layer.trainable_variables]
        rest = [v.value for v in layer.non_trainable_variables]
        x = ops.transpose(given.inputs["x"], (1, 0, 2))
        mask = None if given.lengths is None else ops.convert_to_tensor(np.arange(case.T) < given.lengths[:, None])
        states = [given.initial[n] for n in ("h", "c") if n in given.initial]
        (h, *final), _ = layer.stateless_call(weights, rest, x, initial_state=states, mask=mask)
        every = {"h": ops.transpose(h, (1, 0, 2))}
        if "readout.weight" in given.weights:
            every["y"] = _dense(every["h"], given.weights)
        return every, dict(zip(("h", "c"), final, strict=False))

    return run


def _dense(h: Any, weights: Mapping[str, Any]) -> Any:
    """What keras.layers.Dense computes: h W + b."""
    y = keras.ops.matmul(h, keras.ops.transpose(weights["readout.weight"]))
    return y + weights["readout.bias"] if "readout.bias" in weights else y
