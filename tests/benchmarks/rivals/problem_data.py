"""The numbers of a problem: parameters, inputs, targets, lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import numeric

from .cases import Problem

__all__ = ["Data", "draw"]


@dataclass(frozen=True)
class Data:
    """Parameters by the cell's names, x (T, B, D), targets (T, B) and lengths (B,) or None."""

    problem: Problem
    params: dict[str, Any]
    x: Any
    targets: Any
    lengths: Any

    @property
    def share(self) -> float:
        """How much of the padded batch is not padding: sum(lengths) / (T B)."""
        return 1.0 if self.lengths is None else float(self.lengths.sum() / self.targets.size)


def draw(p: Problem) -> Data:
    """The same numbers for everyone, from a fixed seed."""
    params = numeric.Engine(p.cell, dtype=p.dtype).init(seed=0, D=p.D, H=p.H, O=p.O)
    random = np.random.default_rng(0)
    x = random.standard_normal((p.T, p.B, p.D)).astype(p.dtype)
    targets = random.integers(0, p.O, (p.T, p.B))
    lengths = None
    if p.ragged:
        lengths = random.integers(1, p.T + 1, p.B)
        lengths[0] = p.T
    return Data(p, params, x, targets, lengths)
