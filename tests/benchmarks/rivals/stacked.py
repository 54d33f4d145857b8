"""How cells name what frameworks stack: gates in one matrix, in PyTorch's order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["STACKED", "Stacked"]


@dataclass(frozen=True)
class Stacked:
    """Names of a cell's parameters, gate by gate.

    ``W`` of x, ``U`` of h, ``b`` the biases, ``c`` the biases inside of products with h ("" where the cell has none),
    ``W_y`` and ``b_y`` the readout; ``functions``: how many tanh or sigmoid a step takes of H numbers each.
    """

    W: tuple[str, ...]
    U: tuple[str, ...]
    b: tuple[str, ...]
    c: tuple[str, ...]
    W_y: str
    b_y: str
    functions: int

    def stack(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """``W`` (G H, D), ``U`` (G H, H), ``b`` and ``c`` (G H,), ``W_y`` (O, H) and, where there is one, ``b_y``."""
        zero = np.zeros_like(params[self.b[0]])
        out = {
            "W": np.concatenate([params[name] for name in self.W]),
            "U": np.concatenate([params[name] for name in self.U]),
            "b": np.concatenate([params[name] for name in self.b]),
            "c": np.concatenate([params[name] if name else zero for name in self.c]),
            "W_y": params[self.W_y],
        }
        return out | ({"b_y": params[self.b_y]} if self.b_y else {})

    def unstack(self, grads: Mapping[str, Any]) -> dict[str, Any]:
        """The gradients by the cell's names."""
        out = {self.W_y: np.asarray(grads["W_y"])}
        if self.b_y:
            out[self.b_y] = np.asarray(grads["b_y"])
        for key, names in (("W", self.W), ("U", self.U), ("b", self.b), ("c", self.c)):
            parts = np.split(np.asarray(grads[key]), len(names))
            out |= {name: part for name, part in zip(names, parts, strict=True) if name}
        return out


STACKED: dict[str, Stacked] = {
    "tanh_rnn": Stacked(("W_xh",), ("W_hh",), ("b",), ("",), "W_hy", "", functions=1),
    "lstm": Stacked(
        ("W_i", "W_f", "W_g", "W_o"),
        ("U_i", "U_f", "U_g", "U_o"),
        ("b_i", "b_f", "b_g", "b_o"),
        ("", "", "", ""),
        "W_y",
        "b_y",
        functions=5,  # of the four gates, and of c
    ),
    "gru_reset_after": Stacked(
        ("W_r", "W_z", "W_n"),
        ("U_r", "U_z", "U_n"),
        ("b_r", "b_z", "b_n"),
        ("", "", "c_n"),
        "W_y",
        "b_y",
        functions=3,
    ),
}
