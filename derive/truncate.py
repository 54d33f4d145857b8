"""What truncation drops, term by term.

The full gradient is a sum over pairs: the loss at step t reaches the use of theta at step j <= t through the Jacobian
product,

    dL/dtheta = sum over t and j <= t of (dl_t/ds_t) J_t J_{t-1} ... J_{j+1} d+s_j/dtheta.

Truncation keeps some of the pairs.  After R. J. Williams, J. Peng, "An efficient gradient-based algorithm for on-line
training of recurrent network trajectories", Neural Computation 2 (1990) 490-501.
"""

from __future__ import annotations

__all__ = ["dropped_by_chunks", "dropped_by_window", "dropped_by_windows", "kept_by_chunks", "pairs"]

Pair = tuple[int, int]  # (t, j): loss at t, use at j, both from 1


def pairs(steps: int) -> tuple[Pair, ...]:
    """Every pair of the full gradient.

    >>> pairs(2)
    ((1, 1), (2, 1), (2, 2))
    """
    return tuple((t, j) for t in range(1, steps + 1) for j in range(1, t + 1))


def dropped_by_window(steps: int, k: int) -> tuple[Pair, ...]:
    """Pairs that are lost when each loss is carried back over k steps only: those with t - j >= k.

    >>> dropped_by_window(3, 2)
    ((3, 1),)
    """
    _check(steps, k)
    return tuple((t, j) for t, j in pairs(steps) if t - j >= k)


def dropped_by_chunks(steps: int, k: int) -> tuple[Pair, ...]:
    """Pairs that are lost when the sequence is cut into chunks of k steps: those in different chunks.

    >>> dropped_by_chunks(3, 2)
    ((3, 1), (3, 2))
    """
    _check(steps, k)
    return tuple((t, j) for t, j in pairs(steps) if (t - 1) // k != (j - 1) // k)


def dropped_by_windows(steps: int, k1: int, k2: int) -> tuple[Pair, ...]:
    """Pairs that are lost when every k1 steps the last k1 losses are carried back over the last k2 steps.

    Those with j <= k1 ceil(t / k1) - k2; (1, k) is :func:`dropped_by_window`, (k, k) :func:`dropped_by_chunks`.

    >>> dropped_by_windows(4, 2, 3)
    ((3, 1), (4, 1))
    """
    _check(steps, min(k1, k2))
    return tuple((t, j) for t, j in pairs(steps) if j <= -(-t // k1) * k1 - k2)


def kept_by_chunks(steps: int, k: int) -> tuple[Pair, ...]:
    """The other pairs.

    >>> kept_by_chunks(3, 2)
    ((1, 1), (2, 1), (2, 2), (3, 3))
    """
    dropped = set(dropped_by_chunks(steps, k))
    return tuple(pair for pair in pairs(steps) if pair not in dropped)


def _check(steps: int, k: int) -> None:
    if steps < 1 or k < 1:
        raise ValueError(f"truncation needs at least one step; found T = {steps}, k = {k}")
