"""In which order frameworks keep the blocks of the gates, and how one says it.

PyTorch: torch.nn.LSTM, GRU; Keras: keras.layers.LSTM, GRU; ONNX: operators LSTM, GRU; TF1:
tf.nn.rnn_cell.BasicLSTMCell, whose j is g.  A gate that a cell calls by one of several names is the same gate.
"""

from __future__ import annotations

from collections.abc import Sequence

from derive.cell import Cell
from derive.mistakes.order import gate_groups
from derive.notation import FUNCTIONS, at
from derive.program import Pointwise
from numeric.tangent import program_of

__all__ = ["ORDERS", "framework_of", "gate_names", "in_words"]

#: Order of the blocks, and who has it.
ORDERS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("i", "f", "g", "o"), "PyTorch, Keras and cuDNN"),
    (("i", "o", "f", "g"), "ONNX"),
    (("i", "g", "f", "o"), "TF1"),
    (("r", "z", "n"), "PyTorch and Flax"),
    (("z", "r", "n"), "Keras and ONNX"),
)

_SAME = {"c": "g", "j": "g", "h": "n", "u": "z"}


def gate_names(cell: Cell) -> tuple[str, ...]:
    """The gates in the order of the text, as :func:`derive.mistakes.order.gate_groups` has them."""
    program = program_of(cell)
    out = []
    for name in cell.equations:
        node = program.node[at(name)]
        inner = isinstance(node, Pointwise) and type(node.expression).__name__ in FUNCTIONS
        if inner and name in cell.intermediates:
            out.append(name)
    return tuple(out) if len(out) == len(gate_groups(cell, program)) else ()


def framework_of(order: Sequence[str]) -> str:
    """Who keeps gates in this order; "" for nobody known."""
    wanted = tuple(order)
    for own, who in ORDERS:
        if wanted in (own, tuple(_SAME.get(n, n) for n in own)) or tuple(_SAME.get(n, n) for n in wanted) == own:
            return who
    return ""


def in_words(cell: Cell, order: Sequence[int]) -> str:
    """An order of the gates: in the place of gate k stands gate order[k]."""
    names = gate_names(cell) or tuple(f"gate {k + 1}" for k in range(len(order)))
    found = tuple(names[j] for j in order)
    who = framework_of(found)
    return f"{', '.join(found)} in the places of {', '.join(names)}" + (f", the order of {who}" if who else "")
