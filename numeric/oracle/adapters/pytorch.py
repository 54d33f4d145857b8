"""PyTorch: nn.RNN, nn.LSTM, nn.GRU, their cells, and functions of tensors, differentiated by autograd.

A layer, or a module that somebody derived from one, is built anew with the sizes of each case, keeping its bias,
batch_first, proj_size and nonlinearity.  Sequences of unlike lengths are packed.  A cell is called step after step.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from derive.cell import Cell
from numeric.arguments import Array
from numeric.oracle.adapters.adapter import Adapter, Given, Seen
from numeric.oracle.adapters.layouts import TORCH, form, readout
from numeric.oracle.adapters.weights import Block, blocks_of_parameters

__all__ = ["TorchLibrary", "from_torch", "torch_layer"]

_CELLS = {"RNN": "tanh_rnn", "LSTM": "lstm", "GRU": "gru_reset_after"}


@dataclass(frozen=True)
class TorchLibrary:
    """Tensors and autograd."""

    name: str = "PyTorch"

    def wide(self, dtype: str) -> Any:
        """A context in which float64 is what it says: any."""
        return nullcontext()

    def array(self, x: Array, dtype: str) -> Any:
        """A tensor on the CPU."""
        return torch.tensor(np.asarray(x), dtype=getattr(torch, dtype))

    def differentiate(
        self, function: Callable[[Mapping[str, Any]], tuple[Any, Mapping[str, Any]]], leaves: Mapping[str, Array],
        dtype: str, key: str,
    ) -> tuple[Array, dict[str, Array], dict[str, Array]]:  # fmt: skip
        """By autograd; a leaf that nothing depends on has a gradient of zeros."""
        values = {name: self.array(x, dtype).requires_grad_() for name, x in leaves.items()}
        loss, outputs = function(values)
        if loss.requires_grad:
            found = torch.autograd.grad(loss, list(values.values()), allow_unused=True)
        else:
            found = (None,) * len(values)
        grads = {
            n: _plain(torch.zeros_like(v) if g is None else g) for (n, v), g in zip(values.items(), found, strict=True)
        }
        return _plain(loss), {n: _plain(y) for n, y in outputs.items()}, grads

    def pick(self, y: Any, where: Any) -> Any:
        """Rows of a tensor."""
        return y if where is ... else y[tuple(torch.as_tensor(index) for index in where)]

    def join(self, steps: list[Any]) -> Any:
        """Along the first axis."""
        return torch.cat(steps)

    def affine(self, h: Any, weight: Any, bias: Any) -> Any:
        """As nn.Linear computes it."""
        return torch.nn.functional.linear(h, weight, bias)

    def log_softmax(self, y: Any) -> Any:
        """Over the last axis."""
        return torch.log_softmax(y, -1)

    def product(self, a: Array, b: Array, dtype: str) -> Array:
        """tanh(a b)."""
        return _plain(torch.tanh(self.array(a, dtype) @ self.array(b, dtype)))


def _plain(x: Any) -> Array:
    found: Array = x.detach().cpu().numpy()
    return found


# -------------------------------------------------------------------------------------------------------------- layers


@dataclass(frozen=True)
class _Made:
    """A kind of layer with the options that decide what it computes."""

    kind: type[Any]
    options: Mapping[str, Any]

    @property
    def base(self) -> str:
        """RNN, LSTM or GRU."""
        return next(n for n in _CELLS if issubclass(self.kind, (getattr(torch.nn, n), getattr(torch.nn, f"{n}Cell"))))

    @property
    def stepwise(self) -> bool:
        """Whether it computes one step at a call."""
        return issubclass(self.kind, torch.nn.RNNCellBase)

    @property
    def projected(self) -> bool:
        """Whether its state is a projection."""
        return bool(self.options.get("proj_size"))

    def build(self, case: Any) -> Any:
        """A layer of the sizes of a case."""
        cell, options = case.parsed, dict(self.options)
        sizes = {n: case.sizes[cell.axes[n]] for n in (*cell.inputs, *cell.states)}
        units = sizes.get("c", sizes["h"])
        if self.projected:
            options["proj_size"], units = sizes["h"], units + self.spare(case)
        return self.kind(sizes["x"], units, dtype=getattr(torch, case.dtype), **options)

    def spare(self, case: Any) -> int:
        """Units more than the cell has: PyTorch wants a projection to be smaller than what it projects.

        Their weights are zero; so they are, and remain, zero themselves, and add exact zeros.
        """
        axes = case.parsed.axes
        return max(0, case.sizes[axes["h"]] + 1 - case.sizes[axes["c"]]) if self.projected else 0

    def blocks(self, cell: Cell) -> dict[str, Block]:
        """Its arrays by their names in the module."""
        suffix = "" if self.stepwise else "_l0"
        own = {f"{key}{suffix}": block for key, block in TORCH[self.base].items()}
        if not self.options.get("bias", True):
            own = {key: block for key, block in own.items() if not key.startswith("bias")}
        if not self.projected:
            own.pop("weight_hr_l0", None), own.pop("weight_hr", None)
        return own | readout(cell)

    def cell(self) -> Cell:
        """What the documentation says that it computes."""
        name = "lstm_projected" if self.projected else _CELLS[self.base]
        return form(
            name, biased=self.options.get("bias", True), activation=self.options.get("nonlinearity", "tanh")
        )  # fmt: skip


def torch_layer(layer: Any) -> Adapter:
    """The adapter of a class, or of an instance, of PyTorch's recurrent layers and cells.

    Raises ValueError for an instance that no case can be given to, and TypeError for any other module.
    """
    kind = layer if isinstance(layer, type) else type(layer)
    if not issubclass(kind, (torch.nn.RNNBase, torch.nn.RNNCellBase)):
        raise TypeError(
            f"{kind.__name__} is no recurrent layer of PyTorch; "
            "give a function: from_torch(f), f(params, inputs, initial) -> outputs"
        )
    if kind in (torch.nn.RNNBase, torch.nn.RNNCellBase):
        raise TypeError(f"{kind.__name__} is the base of the recurrent layers; give nn.RNN, nn.LSTM or nn.GRU")
    made = _Made(kind, {} if isinstance(layer, type) else _options(layer))
    second = (
        "of the two biases the gradients are taken in turn, entry by entry" if made.options.get("bias", True) else ""
    )
    name = f"torch.nn.{kind.__name__}" if kind.__module__.startswith("torch.") else kind.__qualname__
    run = _steps(made) if made.stepwise else _sequence(made)
    return Adapter(name, TorchLibrary(), run, made.blocks, made.cell(), (second,) if second else ())


def _options(layer: Any) -> dict[str, Any]:
    """What an instance was made with, sizes aside."""
    for name, expected in (("num_layers", 1), ("bidirectional", False)):
        found = getattr(layer, name, expected)
        if found != expected:
            raise ValueError(f"{type(layer).__name__} has {name}={found}; one layer in one direction is judged")
    kept = ["bias"] + (["nonlinearity"] if hasattr(layer, "nonlinearity") else [])
    if isinstance(layer, torch.nn.RNNBase):
        kept += ["batch_first"] + (["proj_size"] if layer.proj_size else [])
    known = inspect.signature(type(layer)).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        missing = [n for n in (*kept, "dtype") if n not in known]
        if missing:
            raise ValueError(
                f"{type(layer).__name__} is built anew for every case, as "
                f"{type(layer).__name__}(input_size, hidden_size, ...); it does not take {', '.join(missing)}"
            )
    return {n: getattr(layer, n) for n in kept}


def _called(made: _Made, given: Given) -> Callable[..., Any]:
    """The layer with the weights of a case, as a function of what it is called with."""
    layer = made.build(given.case)
    weights = {n: w for n, w in given.weights.items() if not n.startswith("readout")}
    if made.spare(given.case):
        weights = {n: _widened(n, w, made.spare(given.case)) for n, w in weights.items()}
    shapes = {n: tuple(p.shape) for n, p in layer.named_parameters()}
    wanted = {n: tuple(w.shape) for n, w in weights.items()}
    if shapes != wanted:
        raise ValueError(f"{made.kind.__name__} has parameters {shapes}; the cell makes up {wanted}")
    return lambda *args: torch.func.functional_call(layer, weights, args)


def _widened(name: str, weight: Any, spare: int) -> Any:
    """Weights of an LSTM with units that are zero beside its own."""
    if name.startswith("weight_hr"):
        return torch.nn.functional.pad(weight, (0, spare))
    by_gate = weight.reshape(4, -1, *weight.shape[1:])
    return torch.nn.functional.pad(by_gate, (0, 0) * (weight.ndim - 1) + (0, spare)).flatten(0, 1)


def _sequence(made: _Made) -> Callable[[Given], Seen]:
    """A layer over whole sequences."""

    def run(given: Given) -> Seen:
        x, first = given.inputs["x"], made.options.get("batch_first", False)
        states = tuple(given.initial[n][None] for n in _order(given))
        units = states[-1].shape[-1]
        if made.spare(given.case):
            states = (states[0], torch.nn.functional.pad(states[1], (0, made.spare(given.case))))
        x = x.transpose(0, 1) if first else x
        if given.lengths is not None:
            x = pack_padded_sequence(x, torch.as_tensor(given.lengths), batch_first=first, enforce_sorted=False)
        h, final = _called(made, given)(x, states if len(states) > 1 else states[0])
        if given.lengths is not None:
            h, _ = pad_packed_sequence(h, batch_first=first, total_length=given.case.T)
        every = {"h": h.transpose(0, 1) if first else h}
        last = {"c": final[1][0][:, :units], "h": final[0][0]} if isinstance(final, tuple) else {"h": final[0]}
        return _read_out(every, given), last

    return run


def _steps(made: _Made) -> Callable[[Given], Seen]:
    """A cell, step after step; what comes after a sequence's end is not looked at."""

    def run(given: Given) -> Seen:
        step, states = _called(made, given), tuple(given.initial[n] for n in _order(given))
        kept: list[Any] = []
        for x in given.inputs["x"]:
            found = step(x, states if len(states) > 1 else states[0])
            states = found if isinstance(found, tuple) else (found,)
            kept.append(states)
        every = {n: torch.stack([s[k] for s in kept]) for k, n in enumerate(_order(given))}
        return _read_out(every, given), {}

    return run


def _order(given: Given) -> tuple[str, ...]:
    """States as PyTorch lists them."""
    return tuple(n for n in ("h", "c") if n in given.initial)


def _read_out(every: dict[str, Any], given: Given) -> dict[str, Any]:
    """Outputs beside the states: the readout, by nn.Linear's own function."""
    if "readout.weight" in given.weights:
        weight, bias = given.weights["readout.weight"], given.weights.get("readout.bias")
        every = every | {"y": TorchLibrary().affine(every["h"], weight, bias)}
    return every


# ----------------------------------------------------------------------------------------------------------- functions


def from_torch(function: Callable[..., Any], name: str = "") -> Adapter:
    """A function of tensors, differentiated by autograd.

    ``function(params, inputs, initial)`` gets dicts of tensors under the cell's own names and returns outputs and
    states, a dict of (T, B, size); padding of unlike lengths is masked here, by the rule of the cell.
    """

    def run(given: Given) -> Seen:
        return dict(function(dict(given.weights), dict(given.inputs), dict(given.initial))), {}

    said = name or getattr(function, "__qualname__", type(function).__name__)
    return Adapter(said, TorchLibrary(), run, lambda cell: blocks_of_parameters(cell.parameters))
