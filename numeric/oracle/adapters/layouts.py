"""What each library's layers compute and how they keep their weights: gate orders, forms, biases, as data.

| | LSTM gates | GRU gates, form | biases | weights; product |
|---|---|---|---|---|
| PyTorch | i, f, g, o | r, z, n; after | b_ih and b_hh | (G H, in); x W^T |
| Keras | i, f, c, o | z, r, h; after, or before | LSTM one, GRU two | (in, G H); x W |
| Flax linen | a matrix a gate | r, z, n; after | LSTM hidden side, GRU input side and b_hn | (in, H); x W |
| Flax NNX | i, f, g, o | r, z, n; after | LSTM hidden side, GRU input side only | (in, G H); x W |
| ONNX | i, o, f, c | z, r, h; before, or after | [Wb, Rb] side by side | (directions, G H, in); x W^T |
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from derive.cell import Cell
from derive.parse import load, parse
from numeric.oracle.adapters.weights import Block, gates

__all__ = ["FLAX", "KERAS", "NNX", "ONNX", "TORCH", "form", "readout"]

#: Long short-term memory whose state is a projection of what the output gate lets out (Sak, Senior & Beaufays 2014).
PROJECTED = """\
# lstm_projected -- LSTM with a projected state (Sak, Senior & Beaufays 2014)
# H. Sak, A. Senior, F. Beaufays, "Long short-term memory recurrent neural network architectures for large scale
# acoustic modeling", INTERSPEECH 2014, 338-342.  PyTorch's proj_size: the gates see the projected state.
i[t] = sigmoid(W_i @ x[t] + U_i @ h[t-1] + b_i)
f[t] = sigmoid(W_f @ x[t] + U_f @ h[t-1] + b_f)
g[t] = tanh(W_g @ x[t] + U_g @ h[t-1] + b_g)
o[t] = sigmoid(W_o @ x[t] + U_o @ h[t-1] + b_o)
c[t] = f[t]*c[t-1] + i[t]*g[t]
h[t] = W_r @ (o[t]*tanh(c[t]))
y[t] = W_y @ h[t] + b_y
"""

_BIAS = re.compile(r" \+ (?:b|b_[a-z]|c_n)\b")


def form(name: str, *, biased: bool = True, without: tuple[str, ...] = (), activation: str = "tanh") -> Cell:
    """A shipped cell, or the projected LSTM, as a layer with other options computes it.

    ``biased=False`` takes all biases but the readout's, ``without`` the ones that it names; ``activation`` stands in
    place of tanh.  What is changed shows in the name.
    """
    text = PROJECTED if name == "lstm_projected" else load(name).text
    lines = [line for line in text.splitlines() if line.strip()]
    for k, line in enumerate(lines):
        if not line.startswith(("y[t]", "#")):
            lines[k] = _edited(line, biased, without).replace("tanh(", f"{activation}(")
    said = [*(() if biased else ("no_bias",)), *(f"no_{n}" for n in without)]
    own = name.replace("tanh", activation)
    return parse("\n".join(lines) + "\n", "_".join((own, *said)))


def _edited(line: str, biased: bool, without: tuple[str, ...]) -> str:
    """An equation without its biases, or without some."""
    line = line if biased else _BIAS.sub("", line)
    for bias in without:
        line = re.sub(rf" \+ {bias}\b", "", line)
    return line


def readout(cell: Cell) -> dict[str, Block]:
    """The readout's arrays, where a cell has the readout of the shipped ones."""
    names = {"readout.weight": ("W_y", "W_hy"), "readout.bias": ("b_y",)}
    return {key: Block((n,)) for key, options in names.items() for n in options if n in cell.parameters}


Layout = Mapping[str, Block]
_SECOND = ("=b_r", "=b_z", "c_n")

TORCH: Mapping[str, Layout] = {
    "RNN": {
        "weight_ih": Block(("W_xh",)), "weight_hh": Block(("W_hh",)),
        "bias_ih": Block(("b",)), "bias_hh": Block(("=b",)),
    },
    "LSTM": {
        "weight_ih": Block(gates("W", "ifgo")), "weight_hh": Block(gates("U", "ifgo")),
        "bias_ih": Block(gates("b", "ifgo")), "bias_hh": Block(gates("=b", "ifgo")),
        "weight_hr": Block(("W_r",)),
    },
    "GRU": {
        "weight_ih": Block(gates("W", "rzn")), "weight_hh": Block(gates("U", "rzn")),
        "bias_ih": Block(gates("b", "rzn")), "bias_hh": Block(_SECOND),
    },
}  # fmt: skip

KERAS: Mapping[str, Layout] = {
    "SimpleRNN": {
        "kernel": Block(("W_xh",), True), "recurrent_kernel": Block(("W_hh",), True), "bias": Block(("b",)),
    },
    "LSTM": {
        "kernel": Block(gates("W", "ifgo"), True), "recurrent_kernel": Block(gates("U", "ifgo"), True),
        "bias": Block(gates("b", "ifgo")),
    },
    "GRU": {
        "kernel": Block(gates("W", "zrn"), True), "recurrent_kernel": Block(gates("U", "zrn"), True),
        "bias": Block((*gates("b", "zrn"), "=b_z", "=b_r", "c_n"), rows=2),
    },
    "GRU before": {
        "kernel": Block(gates("W", "zrn"), True), "recurrent_kernel": Block(gates("U", "zrn"), True),
        "bias": Block(gates("b", "zrn")),
    },
}  # fmt: skip


def _gatewise(prefix: str, name: str, letters: str, leaf: str = "kernel") -> dict[str, Block]:
    return {f"{prefix}{g}/{leaf}": Block((f"{name}_{g}",), leaf == "kernel") for g in letters}


FLAX: Mapping[str, Layout] = {
    "SimpleCell": {
        "i/kernel": Block(("W_xh",), True), "i/bias": Block(("b",)), "h/kernel": Block(("W_hh",), True),
    },
    "LSTMCell": {
        **_gatewise("i", "W", "ifgo"), **_gatewise("h", "U", "ifgo"), **_gatewise("h", "b", "ifgo", "bias"),
    },
    "GRUCell": {
        **_gatewise("i", "W", "rzn"), **_gatewise("h", "U", "rzn"), **_gatewise("i", "b", "rzn", "bias"),
        "hn/bias": Block(("c_n",)),
    },
}  # fmt: skip

NNX: Mapping[str, Layout] = {
    "SimpleCell": {
        "dense_i/kernel": Block(("W_xh",), True), "dense_i/bias": Block(("b",)),
        "dense_h/kernel": Block(("W_hh",), True),
    },
    "LSTMCell": {
        **_gatewise("i", "W", "igo"), "if_/kernel": Block(("W_f",), True),
        **_gatewise("h", "U", "ifgo"), **_gatewise("h", "b", "ifgo", "bias"),
    },
    "OptimizedLSTMCell": {
        "dense_i/kernel": Block(gates("W", "ifgo"), True), "dense_h/kernel": Block(gates("U", "ifgo"), True),
        "dense_h/bias": Block(gates("b", "ifgo")),
    },
    "GRUCell": {
        "dense_i/kernel": Block(gates("W", "rzn"), True), "dense_h/kernel": Block(gates("U", "rzn"), True),
        "dense_i/bias": Block(gates("b", "rzn")),
    },
}  # fmt: skip

ONNX: Mapping[str, Layout] = {
    "RNN": {"W": Block(("W_xh",)), "R": Block(("W_hh",)), "B": Block(("b", "=b"))},
    "LSTM": {
        "W": Block(gates("W", "iofg")), "R": Block(gates("U", "iofg")),
        "B": Block((*gates("b", "iofg"), *gates("=b", "iofg"))), "P": Block(gates("p", "iof")),
    },
    "GRU": {
        "W": Block(gates("W", "zrn")), "R": Block(gates("U", "zrn")),
        "B": Block((*gates("b", "zrn"), "=b_z", "=b_r", "c_n")),
    },
}  # fmt: skip
