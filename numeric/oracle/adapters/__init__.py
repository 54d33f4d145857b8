"""What people hand in instead of a function of a case: layers of frameworks, each with its layout.

``judge(torch.nn.LSTM)`` finds its adapter by itself; functions of tensors or arrays are given through ``from_torch``
and ``from_jax``, ONNX operators through ``from_onnx``.  A library is imported only when something of it is handed in.
"""

from numeric.oracle.adapters.adapter import Adapter
from numeric.oracle.adapters.discrepancies import DISCREPANCIES, Discrepancy
from numeric.oracle.adapters.dispatch import adapted, from_jax, from_onnx, from_torch, own_cell

__all__ = [
    "DISCREPANCIES",
    "Adapter",
    "Discrepancy",
    "adapted",
    "from_jax",
    "from_onnx",
    "from_torch",
    "own_cell",
]
