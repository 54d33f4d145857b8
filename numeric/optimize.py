"""What turns a gradient into new parameters: clipping, SGD with momentum, Adam.

    clip by norm     g <- g * min(1, most / |g|),  |g| over all entries of all parameters
    clip by value    g <- min(max(g, -most), most), entry by entry
    SGD              v <- momentum*v + g;  theta <- theta - rate*v
    Adam             theta <- theta - rate * mhat / (sqrt(vhat) + eps)

An optimizer is a frozen configuration; what it remembers is an :class:`UpdateState`, a value.  Nothing is changed in
place: parameters, gradients and states that are handed in stay as they are.  An update that overflows gives inf or
nan, silently; :func:`numeric.fit` looks for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from numeric.arguments import Array, check_finite, check_known, raw_array

__all__ = ["SGD", "Adam", "Optimizer", "UpdateState", "clip_by_norm", "clip_by_value", "positive"]


# ------------------------------------------------------------------------------------------------------------ clipping


def clip_by_norm(grads: Mapping[str, Any], most: float) -> tuple[dict[str, Array], float]:
    """Gradients scaled together so that their global norm is at most ``most``, and the norm that they had.

    The norm is that of all entries of all arrays as one vector (Pascanu, Mikolov & Bengio 2013, algorithm 1).  Entries
    are divided by the largest one before they are squared: nothing overflows or underflows on the way, and where the
    norm itself is beyond double precision it is returned as inf and the gradients are still right.  Gradients within
    the bound are returned as they are, in arrays of their own; shapes and dtypes are kept.

    Raises ValueError for a bound that is not positive and finite, and for an inf or nan, which has no direction.

    >>> clip_by_norm({"W": np.array([[3.0, 0.0]]), "b": np.array([4.0])}, 1.0)
    ({'W': array([[0.6, 0. ]]), 'b': array([0.8])}, 5.0)
    """
    most, found = positive("most", most), _gradients(grads)
    largest = max((float(abs(g).max()) for g in found.values() if g.size), default=0.0)
    if largest == 0:
        return {name: g.copy() for name, g in found.items()}, 0.0
    root = math.sqrt(sum(float(np.sum(np.square(g / largest, dtype=np.float64))) for g in found.values()))
    norm = largest * root  # inf where it is beyond double precision
    if norm <= most:
        return {name: g.copy() for name, g in found.items()}, norm
    half = math.sqrt(most / root) / math.sqrt(largest)  # most/norm = half*half, also where that quotient underflows
    return {name: _like(g.astype(np.float64) * half * half, g) for name, g in found.items()}, norm


def clip_by_value(grads: Mapping[str, Any], most: float) -> dict[str, Array]:
    """Gradients with each entry brought between ``-most`` and ``most``; this changes their direction.

    Shapes and dtypes are kept, the arrays are new.  Raises ValueError for a bound that is not positive and finite, and
    for an inf or nan: an overflow is not a large gradient.

    >>> clip_by_value({"b": np.array([-3.0, 0.25])}, 1.0)
    {'b': array([-1.  ,  0.25])}
    """
    most = positive("most", most)
    found = _gradients(grads)
    bounds = {name: min(most, float(np.finfo(g.dtype).max)) for name, g in found.items()}  # float32 cannot hold 1e300
    return {name: _like(np.clip(g, -bounds[name], bounds[name]), g) for name, g in found.items()}


# ------------------------------------------------------------------------------------------------------------- updates


@dataclass(frozen=True)
class UpdateState:
    """What an optimizer remembers: the number of updates, and its moments, each like the parameters.

    >>> Adam(0.001).init({"b": np.zeros(2)})
    UpdateState(updates=0, moments={'m': {'b': array([0., 0.])}, 'v': {'b': array([0., 0.])}})
    """

    updates: int = 0
    moments: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)


class Optimizer(Protocol):
    """What :func:`numeric.fit` asks of an optimizer; its ``repr`` must say all of its settings, and nothing else."""

    def init(self, params: Mapping[str, Any]) -> UpdateState:
        """The state before the first update."""

    def update(
        self, params: Mapping[str, Any], grads: Mapping[str, Any], state: UpdateState
    ) -> tuple[dict[str, Array], UpdateState]:
        """New parameters and the new state."""


@dataclass(frozen=True)
class SGD:
    """Gradient descent, with momentum where ``momentum`` is not zero.

        v <- momentum*v + g                          v = 0 before the first update
        theta <- theta - rate*v                      classical momentum (Polyak 1964)
        theta <- theta - rate*(g + momentum*v)       ``nesterov``, with the new v

    ``nesterov`` is Nesterov's method as in Sutskever, Martens, Dahl & Hinton (2013), in the variables of Bengio,
    Boulanger-Lewandowski & Pascanu (2013): the parameters are those at which the next gradient is taken.
    Raises ValueError for a rate that is not positive and finite, a momentum outside of [0, 1), and a ``nesterov``
    that is no truth value or stands without momentum.

    >>> sgd = SGD(0.5)
    >>> sgd.update({"b": np.array([1.0])}, {"b": np.array([0.2])}, sgd.init({"b": np.array([1.0])}))[0]
    {'b': array([0.9])}
    """

    rate: float
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", positive("rate", self.rate))
        object.__setattr__(self, "momentum", _fraction("momentum", self.momentum))
        if not isinstance(self.nesterov, bool):
            raise ValueError(f"nesterov is {self.nesterov!r}; expected True or False")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=True with momentum 0 is plain gradient descent; give momentum, or leave it out")

    def init(self, params: Mapping[str, Any]) -> UpdateState:
        """The state before the first update: ``moments["v"]`` zero, or no moments without momentum."""
        return UpdateState(0, {"v": _zeros(params)} if self.momentum else {})

    @np.errstate(all="ignore")
    def update(
        self, params: Mapping[str, Any], grads: Mapping[str, Any], state: UpdateState
    ) -> tuple[dict[str, Array], UpdateState]:
        """New parameters and the new state; raises ValueError where names, shapes or the state do not belong."""
        old, g = _matched(params, grads)
        if not self.momentum:
            _moments(old, state, ())
            return {n: _like(p - self.rate * g[n], p) for n, p in old.items()}, UpdateState(state.updates + 1)
        (before,) = _moments(old, state, ("v",))
        v = {n: _moment(self.momentum * before[n] + g[n], p) for n, p in old.items()}
        move = {n: g[n] + self.momentum * v[n] for n in old} if self.nesterov else v
        new = {n: _like(p - self.rate * move[n], p) for n, p in old.items()}
        return new, UpdateState(state.updates + 1, {"v": v})


@dataclass(frozen=True)
class Adam:
    """Adam with bias correction (Kingma & Ba 2015, algorithm 1); ``betas`` are beta1 and beta2.

        m <- beta1*m + (1 - beta1)*g                 m = 0 before the first update
        v <- beta2*v + (1 - beta2)*g**2              v = 0
        mhat = m/(1 - beta1**k),  vhat = v/(1 - beta2**k)      at the k-th update, k = 1, 2, ...
        theta <- theta - rate*mhat/(sqrt(vhat) + eps)

    Moments have the dtype of their parameter.  Raises ValueError for a rate or an eps that is not positive and finite,
    and for betas outside of [0, 1).

    >>> adam = Adam(0.001)
    >>> adam.update({"b": np.array([1.0])}, {"b": np.array([7.0])}, adam.init({"b": np.array([1.0])}))[0]
    {'b': array([0.999])}
    """

    rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if not isinstance(self.betas, tuple | list) or len(self.betas) != 2:
            raise ValueError(f"betas is {self.betas!r}; expected two numbers such as (0.9, 0.999)")
        object.__setattr__(self, "rate", positive("rate", self.rate))
        object.__setattr__(self, "betas", tuple(_fraction(f"betas[{i}]", b) for i, b in enumerate(self.betas)))
        object.__setattr__(self, "eps", positive("eps", self.eps))

    def init(self, params: Mapping[str, Any]) -> UpdateState:
        """The state before the first update: ``moments["m"]`` and ``moments["v"]`` zero."""
        return UpdateState(0, {"m": _zeros(params), "v": _zeros(params)})

    @np.errstate(all="ignore")
    def update(
        self, params: Mapping[str, Any], grads: Mapping[str, Any], state: UpdateState
    ) -> tuple[dict[str, Array], UpdateState]:
        """New parameters and the new state; raises ValueError where names, shapes or the state do not belong."""
        old, g = _matched(params, grads)
        before_m, before_v = _moments(old, state, ("m", "v"))
        (beta1, beta2), k = self.betas, state.updates + 1
        for n, p in old.items():
            if p.dtype.type(self.eps) == 0:
                raise ValueError(
                    f"eps is {self.eps!r}, which is zero in {p.dtype}, the dtype of {n}; give a larger one"
                )
        m = {n: _moment(beta1 * before_m[n] + (1 - beta1) * g[n], p) for n, p in old.items()}
        v = {n: _moment(beta2 * before_v[n] + (1 - beta2) * np.square(g[n]), p) for n, p in old.items()}
        new = {}
        for n, p in old.items():
            mhat, vhat = m[n] / (1 - beta1**k), v[n] / (1 - beta2**k)
            new[n] = _like(p - self.rate * mhat / (np.sqrt(vhat) + self.eps), p)
        return new, UpdateState(k, {"m": m, "v": v})


# -------------------------------------------------------------------------------------------------------------- checks


def positive(name: str, value: Any) -> float:
    """A number as a float; raises ValueError unless it is positive and finite."""
    number = _number(name, value, "a positive finite number")
    if not 0 < number < np.inf:
        raise ValueError(f"{name} is {value!r}; expected a positive finite number")
    return number


def _fraction(name: str, value: Any) -> float:
    number = _number(name, value, "a number from 0 to below 1")
    if not 0 <= number < 1:
        raise ValueError(f"{name} is {value!r}; expected a number from 0 to below 1")
    return number


def _number(name: str, value: Any, expected: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise ValueError(f"{name} is {value!r}; expected {expected}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} has {len(str(value))} digits; expected {expected}") from None


def _named(what: str, given: Any) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise ValueError(f"{what} has type {type(given).__name__}; expected a dict of arrays, by parameter")
    return given


def _real(name: str, value: Any) -> Array:
    array = raw_array(name, value)
    if array.dtype.kind != "f":
        raise ValueError(f"{name} has dtype {array.dtype}; expected real floating-point numbers")
    return array


def _gradients(grads: Mapping[str, Any]) -> dict[str, Array]:
    return {name: check_finite(f"the gradient of {name}", _real(name, g)) for name, g in _named("grads", grads).items()}


def _zeros(params: Mapping[str, Any]) -> dict[str, Array]:
    return {name: np.zeros_like(_real(name, p)) for name, p in _named("params", params).items()}


def _matched(params: Mapping[str, Any], grads: Mapping[str, Any]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Parameters and their gradients as arrays."""
    old = {name: _real(name, p) for name, p in _named("params", params).items()}
    return old, _belonging("gradient", old, _named("grads", grads))


def _moments(params: Mapping[str, Array], state: UpdateState, kinds: tuple[str, ...]) -> list[dict[str, Array]]:
    """The moments of these kinds."""
    if not isinstance(state, UpdateState):
        raise ValueError(f"state has type {type(state).__name__}; expected an UpdateState: make it with init(params)")
    if state.updates < 0:
        raise ValueError(f"the state has made {state.updates} updates; expected 0 or more: make it with init(params)")
    if set(state.moments) != set(kinds):
        found = ", ".join(state.moments) or "none"
        raise ValueError(
            f"the state holds the moments {found}; expected {', '.join(kinds) or 'none'}: make it with init(params)"
        )
    return [_belonging(f"moment {kind}", params, state.moments[kind]) for kind in kinds]


def _belonging(what: str, params: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Array]:
    """One array for each parameter, of its shape."""
    check_known(what, given, params)
    out = {}
    for name, p in params.items():
        if name not in given:
            raise ValueError(f"missing {what} of {name}; expected {', '.join(params)}")
        out[name] = _real(f"{what} of {name}", given[name])
        if out[name].shape != np.shape(p):
            raise ValueError(f"{what} of {name} has shape {out[name].shape}; expected {np.shape(p)}")
    return out


def _like(value: Any, model: Array) -> Array:
    """An array of the model's dtype, also where arithmetic made a number of an array without axes."""
    return np.asarray(value, dtype=model.dtype)


def _moment(value: Any, model: Array) -> Array:
    """The same, with zero for what is below the smallest normal number.

    A moment whose gradient has become zero shrinks until rounding holds it at a few times the smallest denormal number,
    for ever, where each operation takes several times as long; the updates of both are the same but for rounding.
    """
    array = _like(value, model)
    array[np.abs(array) < np.finfo(array.dtype).tiny] = 0
    return array
