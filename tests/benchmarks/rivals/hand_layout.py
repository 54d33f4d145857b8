"""Two layouts for loops written by hand: a step's values as rows, (batch, features), or columns, (features, batch).

Which is quicker depends on dtype and size.  Products differ between the two, entrywise work does not: ``gates`` gives
the gates' axis first, and everything behind it is a block that both operands of an entrywise operation share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Layout", "softmax_cross_entropy"]


@dataclass(frozen=True)
class Layout:
    """``rows`` or columns, for T steps of B sequences."""

    rows: bool
    T: int
    B: int
    dtype: str

    def slab(self, n: int, steps: int = 0) -> Any:
        """Memory for n numbers a sequence at each step: (T, B, n) or (T, n, B)."""
        T = steps or self.T
        return np.zeros((T, self.B, n) if self.rows else (T, n, self.B), self.dtype)

    def gates(self, slab: Any, count: int) -> Any:
        """A slab with its gates in front: (G, T, B, H) or (G, T, H, B)."""
        T = len(slab)
        if self.rows:
            return slab.reshape(T, self.B, count, -1).transpose(2, 0, 1, 3)
        return slab.reshape(T, count, -1, self.B).swapaxes(0, 1)

    def matrix(self, M: Any) -> Any:
        """A matrix as ``step`` and ``all_steps`` want it."""
        return np.ascontiguousarray(M.T if self.rows else M)

    def column(self, b: Any) -> Any:
        """A vector that is added to each sequence's values."""
        return b if self.rows else b[:, None]

    def step(self, M: Any, v: Any, out: Any) -> None:
        """One step's product; ``M`` comes from ``matrix``."""
        if self.rows:
            np.matmul(v, M, out=out)
        else:
            np.matmul(M, v, out=out)

    def all_steps(self, M: Any, v: Any, out: Any) -> None:
        """The product at all steps: ``v`` is (T, B, k), ``out`` a slab."""
        if self.rows:
            np.matmul(v.reshape(-1, v.shape[-1]), M, out=out.reshape(-1, out.shape[-1]))
        else:
            np.matmul(M, v.swapaxes(1, 2), out=out)

    def flat(self, slab: Any, room: Any) -> Any:
        """A slab as (T * B, n) rows: itself, or copied to ``room``."""
        if not self.rows:
            np.copyto(room.reshape(len(slab), self.B, -1), slab.swapaxes(1, 2))
            return room
        return slab.reshape(-1, slab.shape[-1])

    def room(self, n: int) -> Any:
        """Where ``flat`` copies to."""
        return None if self.rows else np.empty((self.T * self.B, n), self.dtype)


def softmax_cross_entropy(y: Any, targets: Any) -> float:
    """The summed loss of logits y (n, O); y becomes its gradient, in place."""
    index = (np.arange(len(y)), targets)
    y -= y.max(axis=1, keepdims=True)
    chosen = y[index].sum()
    np.exp(y, out=y)
    total = y.sum(axis=1, keepdims=True)
    y /= total
    y[index] -= 1
    return float(np.log(total).sum() - chosen)
