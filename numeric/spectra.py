"""Singular values of the Jacobian product over thousands of steps, and Lyapunov exponents, by QR at every step.

    Q_t R_t = J_t Q_{t-1},    so    J_T ... J_1 Q_0 = Q_T R_T ... R_1

The columns of Q stay orthonormal, where those of the plain product all turn into the leading direction and then
overflow or underflow; each R_t is of the size of one step.

    lambda_i = lim 1/T sum over t of log |R_t[i, i]|          Lyapunov exponents
    log sigma_i(J_T ... J_1) = log sigma_i(R_T ... R_1)       the product of R in scaled form (numeric.graded)

Q_0 is random and orthogonal, so that no direction is missed and the diagonal of R comes out in descending order.

What is accurate: a QR is backward stable against the largest part of its matrix, so every step moves J_t by about
n u ||J_t||.  That adds up to about T n u relative error in the leading singular values, hence as much absolute error
in their logarithms, and to T n u ||J_t|| / s_t in those of a direction that single steps shrink to s_t.  A direction
that one step destroys (a singular J_t) comes out as log u or so for that step, or as -inf.

G. Benettin, L. Galgani, A. Giorgilli, J.-M. Strelcyn, "Lyapunov characteristic exponents for smooth dynamical systems
and for Hamiltonian systems; a method for computing all of them", Meccanica 15 (1980) 9-30; K. Geist, U. Parlitz,
W. Lauterborn, "Comparison of different methods for computing Lyapunov exponents", Progress of Theoretical Physics 83
(1990) 875-893; R. Engelken, F. Wolf, L. F. Abbott, "Lyapunov spectra of chaotic recurrent neural networks", Physical
Review Research 5 (2023) 043044.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numeric.arguments import Array
from numeric.engine import Engine
from numeric.graded import Graded
from numeric.linearize import follow

__all__ = ["JacobianProduct", "haar", "jacobian_product", "lyapunov"]


@dataclass(frozen=True, eq=False)
class JacobianProduct:
    """Singular values of ds_T/ds_{T-k} = J_T ... J_{T-k+1}, the n entries of all states side by side.

    ``lags`` (L,) are the k; ``log_singular`` (L, n) the natural logarithms of the singular values, largest first, -inf
    for zero.
    """

    lags: Array
    log_singular: Array


def jacobian_product(
    engine: Engine,
    params: Mapping[str, Any],
    inputs: Any = None,
    *,
    lags: Sequence[int] | None = None,
    sequence: int = 0,
    initial: Mapping[str, Any] | None = None,
    lengths: Any = None,
    steps: int | None = None,
    batch: int | None = None,
) -> JacobianProduct:
    """Log singular values of the Jacobian product of the last k steps of one ``sequence``, for each k of ``lags``.

    ``lags`` are ascending, from 1 to the number T of its steps; left out, all T steps at once.  The other arguments
    are those of :meth:`Engine.forward`; memory is O(n^2) beside the forward pass.  Raises ValueError as the engine
    does, for an engine of another type than float64, for lags and a sequence that are not there, and where a state or
    a Jacobian is not finite.

    >>> engine = Engine("tanh_rnn")
    >>> params = engine.init(seed=0, D=1, H=2, O=1) | {"W_hh": np.diag([0.5, 4.0]), "b": np.zeros(2)}
    >>> found = jacobian_product(engine, params, np.zeros((10_000, 1, 1)))
    >>> (found.log_singular / 10_000).round(9)
    array([[ 1.38629436, -0.69314718]])
    """
    rest = {"initial": initial, "lengths": lengths, "steps": steps, "batch": batch}
    linear, path = follow(engine, params, inputs, sequence, **rest)
    wanted = _check_lags(lags, path.steps)
    graded, q = Graded(linear.size), haar(linear.size)
    found = []
    # from the last step on, transposed: (J_T ... J_t).T has the same singular values
    for lag, jacobian in enumerate(linear.along(path, backwards=True), start=1):
        q, r = np.linalg.qr(jacobian.T @ q)
        graded.multiply(r)
        if lag in wanted:
            found.append(graded.log_singular_values())
        if lag == wanted[-1]:
            break
    return JacobianProduct(np.array(wanted), np.array(found))


def _check_lags(lags: Sequence[int] | None, steps: int) -> list[int]:
    """Whole numbers, ascending, from 1 to T."""
    if lags is None:
        return [steps]
    array = np.asarray(lags)
    ok = array.ndim == 1 and array.size and array.dtype.kind in "iu" and array[0] >= 1 and array[-1] <= steps
    if not ok or (np.diff(array) <= 0).any():
        raise ValueError(f"lags is {lags!r}; expected ascending integers from 1 to T = {steps}")
    return [int(k) for k in array]


def lyapunov(
    engine: Engine,
    params: Mapping[str, Any],
    inputs: Any = None,
    *,
    discard: int = 0,
    sequence: int = 0,
    initial: Mapping[str, Any] | None = None,
    lengths: Any = None,
    steps: int | None = None,
    batch: int | None = None,
) -> Array:
    """Finite-time Lyapunov exponents (n,) along one ``sequence``, in nats per step, the largest first.

    The mean of log |diag R_t| over the steps after the first ``discard``, which only turn Q to the leading
    directions; their sum is the mean of log |det J_t| over the same steps.  The other arguments and the errors are
    those of :func:`jacobian_product`; ``discard`` is at least 0 and less than T.

    >>> engine = Engine("tanh_rnn")
    >>> params = engine.init(seed=0, D=1, H=2, O=1) | {"W_hh": np.diag([0.5, 4.0]), "b": np.zeros(2)}
    >>> lyapunov(engine, params, np.zeros((1_000, 1, 1)), discard=100).round(9)
    array([ 1.38629436, -0.69314718])
    """
    rest = {"initial": initial, "lengths": lengths, "steps": steps, "batch": batch}
    linear, path = follow(engine, params, inputs, sequence, **rest)
    if isinstance(discard, bool) or not isinstance(discard, int | np.integer) or not 0 <= discard < path.steps:
        raise ValueError(f"discard is {discard!r}; expected an integer from 0 to {path.steps - 1}: T is {path.steps}")
    q, total = haar(linear.size), np.zeros(linear.size)
    for t, jacobian in enumerate(linear.along(path)):
        q, r = np.linalg.qr(jacobian @ q)
        if t >= discard:
            with np.errstate(divide="ignore"):
                total += np.log(np.abs(np.diag(r)))
    return np.sort(total / (path.steps - discard))[::-1]


def haar(size: int, seed: int = 0) -> Array:
    """A random orthogonal matrix (size, size), every rotation and reflection as likely as any other.

    QR of a Gaussian matrix with the signs of R's diagonal taken out: F. Mezzadri, "How to generate random matrices from
    the classical compact groups", Notices of the American Mathematical Society 54 (2007) 592-604.
    """
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))
    return q * np.sign(np.diag(r))
