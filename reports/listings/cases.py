"""The networks that the listings are given: as cases of the oracle, and as PyTorch models of the same weights.

a[t] = W_hh h[t-1] + W_xh x[t] + b        h[t] = tanh(a[t])        y[t] = W_hy h[t] (+ b_y)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from derive.cell import Cell
from derive.parse import cells, load
from numeric.arguments import Array
from numeric.oracle.case import Case, cell_of

__all__ = [
    "BIASED",
    "PLAIN",
    "TWO_LAYERS",
    "copy_weights",
    "gradients_of",
    "labels",
    "layer_names",
    "make_case",
    "model_of",
    "one_hot",
    "tensors",
]

#: The chapter's network, with the pre-activation named; with a bias of the readout; and with a layer on top.
PLAIN = "a[t] = W_hh @ h[t-1] + W_xh @ x[t] + b\nh[t] = tanh(a[t])\ny[t] = W_hy @ h[t]"
BIASED = PLAIN + " + b_y"
TWO_LAYERS = (
    "h[t] = tanh(W_hh @ h[t-1] + W_xh @ x[t] + b)\n"
    "g[t] = tanh(U_gg @ g[t-1] + U_hg @ h[t] + b_g)\ny[t] = W_hy @ g[t] + b_y"
)


def make_case(
    text: str, *, T: int, B: int = 1, D: int = 3, H: int = 4, O: int = 5, seed: int = 0, scale: float = 1.0,  # noqa: E741
    start: float = 0.5, dtype: str = "float64", inputs: Array | None = None,
    params: Mapping[str, Array] | None = None, **loss: Any,
) -> Case:  # fmt: skip
    """A case of a cell; ``scale`` multiplies the weights, ``start`` is the size of the initial states."""
    random = np.random.default_rng(seed)
    cell = _cell(text)
    sizes = {cell.axes["x"]: D, cell.axes["y"]: O}  # every other letter is a state's
    drawn = {name: _weight(random, [sizes.get(n, H) for n in shape], scale) for name, shape in cell.parameters.items()}
    drawn |= dict(params or {})
    x = random.standard_normal((T, B, D)) if inputs is None else inputs
    initial = {n: random.uniform(-start, start, (B, H)) for n in cell.states}
    weights, series, states = ({n: p.astype(dtype) for n, p in g.items()} for g in (drawn, {"x": x}, initial))
    for name in ("targets", "cotangents"):
        loss[name] = _narrowed(loss.get(name), dtype)
    return Case(
        "listing", "listing", "what a listing is given", cell.name, cell.text, weights, series, states, dtype=dtype,
        accumulate=dtype, **loss,
    )  # fmt: skip


def _cell(text: str) -> Cell:
    return load(text) if text in cells() else cell_of(text, "tanh_rnn")


def _weight(random: np.random.Generator, shape: list[int], scale: float) -> Array:
    return scale * random.uniform(-1, 1, shape) / np.sqrt(shape[-1])


def _narrowed(value: Any, dtype: str) -> Any:
    if isinstance(value, Mapping):
        return {name: np.asarray(x).astype(dtype) for name, x in value.items()}
    return value.astype(dtype) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value


def labels(T: int, B: int, O: int, seed: int = 1) -> Array:  # noqa: E741
    """A class for every step of every sequence."""
    return np.random.default_rng(seed).integers(0, O, (T, B))


def one_hot(classes: Array, O: int) -> Array:  # noqa: E741
    """Classes as targets of ones and zeros."""
    return np.eye(O)[classes]


# -------------------------------------------------------------------------------------------------------------- PyTorch


def tensors(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Copies as tensors."""
    import torch

    return {name: torch.tensor(np.array(x)) for name, x in arrays.items()}


def model_of(case: Case, *, batch_first: bool = True) -> Any:
    """A module of a recurrent layer and its readout, with the weights of a case of a tanh network or an LSTM."""
    import torch

    p = tensors(case.params)
    gated = "W_f" in p
    (H, D), O = p["W_i" if gated else "W_xh"].shape, len(p["W_y" if gated else "W_hy"])  # noqa: E741

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = torch.nn.LSTM if gated else torch.nn.RNN
            self.rnn = layer(D, H, batch_first=batch_first)
            self.out = torch.nn.Linear(H, O)

        def forward(self, x: Any, hidden: Any = None) -> Any:
            h, hidden = self.rnn(x, hidden)
            return self.out(h), hidden

    model = Model().to(next(iter(p.values())).dtype)
    copy_weights(model.rnn, model.out, p)
    return model


def copy_weights(rnn: Any, out: Any, p: Mapping[str, Any]) -> None:
    """Put a case's weights into PyTorch's two layers; what the case does not have is zero."""
    import torch

    with torch.no_grad():
        for weight in (*rnn.parameters(), *out.parameters()):
            weight.zero_()
        for theirs, ours in layer_names(p).items():
            getattr(rnn, theirs).copy_(torch.cat([p[name] for name in ours]))
        out.weight.copy_(p["W_y" if "W_y" in p else "W_hy"])
        if "b_y" in p:
            out.bias.copy_(p["b_y"])


def layer_names(p: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """PyTorch's name of a weight, and ours of the blocks that are stacked in it."""
    if "W_f" in p:
        stacked = {"weight_ih_l0": "W_", "weight_hh_l0": "U_", "bias_ih_l0": "b_"}
        return {theirs: tuple(f"{ours}{gate}" for gate in "ifgo") for theirs, ours in stacked.items()}
    found: dict[str, tuple[str, ...]]
    found = {"weight_ih_l0": ("W_xh",), "weight_hh_l0": ("W_hh",), "bias_ih_l0": ("b",)}
    if "U_hg" in p:
        found |= {"weight_ih_l1": ("U_hg",), "weight_hh_l1": ("U_gg",), "bias_ih_l1": ("b_g",)}
    return found


def gradients_of(rnn: Any, out: Any, p: Mapping[str, Any]) -> dict[str, Any]:
    """The gradients that PyTorch's two layers hold, under a case's names."""
    found: dict[str, Any] = {}
    for theirs, ours in layer_names(p).items():
        blocks = getattr(rnn, theirs).grad.chunk(len(ours))
        found |= dict(zip(ours, blocks, strict=True))
    found["W_y" if "W_y" in p else "W_hy"] = out.weight.grad
    return found | ({"b_y": out.bias.grad} if "b_y" in p else {})
