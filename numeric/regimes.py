"""Vanishing, critical and exploding gradients: parameters that make them, and the rates that theory gives.

At a fixed point s* = F(s*, x) every step has the same Jacobian J, so that over a lag k

    ||dL/ds_{T-k}||  ~  rho(J)^k             rho: the largest modulus of an eigenvalue
    ||dL/ds_{T-k}|| <=  (||W|| max|f'|)^k    for h[t] = f(W h[t-1] + ...), ||W||: the largest singular value

Gradients through a fixed point vanish for rho(J) < 1 and explode for rho(J) > 1.  Along any trajectory
||W|| max|f'| < 1 is sufficient for them to vanish, hence ||W|| max|f'| > 1 necessary for them to explode; max|f'| is 1
for tanh.  Saturation keeps tanh' = 1 - h^2 below 1, so that the rate along a trajectory can be far below the one at
the origin.

R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks", ICML 2013, PMLR 28(3),
1310-1318, section 2, with 1/gamma there for 1/max|f'| here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from numeric.arguments import Array, as_array, check_known
from numeric.engine import Engine
from numeric.linearize import Linearization, Trajectory, follow
from numeric.spectra import haar

__all__ = ["REGIMES", "fixed_point", "norm_bound", "theoretical_rate", "with_orthogonal", "with_spectral_radius"]

#: Spectral radii of the recurrent matrices: gradients that vanish, stay, and explode.
REGIMES: Mapping[str, float] = MappingProxyType({"vanishing": 0.8, "critical": 1.0, "exploding": 1.25})

#: How far one step may move a fixed point, relative to its size; how far Newton's method goes at once.
STILL, STRIDE = 2.0**-46, 0.5


# ----------------------------------------------------------------------------------------------------------- parameters


def with_spectral_radius(params: Mapping[str, Any], names: str | Sequence[str], rho: float) -> dict[str, Any]:
    """The same parameters with the named square matrices scaled to spectral radius ``rho`` >= 0.

    Raises ValueError for a name that is not there, a matrix that is not square or has spectral radius 0 (it cannot be
    scaled to another), and a negative or infinite ``rho``.

    >>> with_spectral_radius({"W_hh": np.array([[0.0, 2.0], [2.0, 0.0]])}, "W_hh", 0.5)["W_hh"]
    array([[0. , 0.5],
           [0.5, 0. ]])
    """
    return dict(params) | {name: _scaled(name, w, _factor(rho)) for name, w in _square(params, names).items()}


def with_orthogonal(
    params: Mapping[str, Any], names: str | Sequence[str], rho: float = 1.0, *, seed: int = 0
) -> dict[str, Any]:
    """The same parameters with the named square matrices replaced by ``rho`` times a random orthogonal matrix.

    Every singular value of such a matrix is ``rho``.  Raises ValueError as :func:`with_spectral_radius`.
    """
    found = _square(params, names)
    return dict(params) | {
        name: (_factor(rho) * haar(len(w), seed + i)).astype(w.dtype) for i, (name, w) in enumerate(found.items())
    }


def _square(params: Mapping[str, Any], names: str | Sequence[str]) -> dict[str, Array]:
    names = [names] if isinstance(names, str) else list(names)
    check_known("parameter", names, params)
    found = {}
    for name in names:
        w = np.asarray(params[name])
        found[name] = as_array(name, w, w.dtype if w.dtype.kind == "f" else np.dtype(np.float64))
        if w.ndim != 2 or w.shape[0] != w.shape[1]:
            raise ValueError(f"{name} has shape {w.shape}; expected a square matrix")
    return found


def _factor(rho: float) -> float:
    if not np.isfinite(rho) or rho < 0:
        raise ValueError(f"rho is {rho!r}; expected a finite number from 0 on")
    return float(rho)


def _scaled(name: str, w: Array, rho: float) -> Array:
    own = float(np.abs(np.linalg.eigvals(w)).max())
    if own == 0:
        raise ValueError(f"{name} has spectral radius 0; no factor gives it another one")
    return (w * (rho / own)).astype(w.dtype)


# ---------------------------------------------------------------------------------------------------------------- rates


def fixed_point(
    engine: Engine, params: Mapping[str, Any], inputs: Any = None, *, initial: Mapping[str, Any] | None = None
) -> dict[str, Array]:
    """States s* that a step with these inputs leaves where they are: {state: (1, size)}, as ``initial`` takes them.

    ``inputs`` are those of the one step, (1, 1, size), held for ever.  Newton's method from ``initial``, zero where
    left out, so that an unstable fixed point is found as well; if that fails, from where 1,000 steps lead.  Raises
    ValueError where neither finds one, and as :meth:`Engine.forward` does.
    """
    start = initial
    for _ in range(2):
        found = _newton(engine, params, inputs, start)
        if found is not None:
            return found
        start = _settled(engine, params, inputs, initial)
    raise ValueError("no fixed point was found from these initial states; give others, or other inputs")


def _one_step(engine: Engine, params: Any, inputs: Any, initial: Any) -> tuple[Linearization, Trajectory]:
    extent = {} if engine.cell.inputs else {"steps": 1, "batch": 1}
    linear, path = follow(engine, params, inputs, 0, initial=initial, **extent)
    if path.steps != 1 or linear.data.batch != 1:
        t, b = path.steps, linear.data.batch
        raise ValueError(f"a fixed point is one of one step: expected T = 1 and B = 1; found T = {t} and B = {b}")
    return linear, path


def _newton(engine: Engine, params: Any, inputs: Any, start: Any) -> dict[str, Array] | None:
    """s + (I - J)^-1 (F(s) - s), in strides, until nothing moves; None if that does not happen.

    In strides, as a gate that is far out holds any state almost still: there, a full step would find points that no
    step settles to.
    """
    for _ in range(60):
        linear, path = _one_step(engine, params, inputs, start)
        states = engine.forward(params, inputs, path.previous, **({} if path.inputs else {"steps": 1, "batch": 1}))
        here = np.concatenate([path.previous[name][0] for name in engine.cell.states])
        moved = np.concatenate([states[name][0, 0] for name in engine.cell.states]) - here
        if np.abs(moved).max() <= STILL * max(1.0, np.abs(here).max()):
            return path.previous
        jacobian = linear.at(path.previous, path.inputs)[0]
        try:
            way = np.linalg.solve(np.eye(linear.size) - jacobian, moved)
        except np.linalg.LinAlgError:
            return None
        there = here + way * min(1.0, STRIDE / np.abs(way).max())
        if not np.isfinite(there).all():
            return None
        start = {name: there[None, place] for name, place in linear.place.items()}
    return None


def _settled(engine: Engine, params: Any, inputs: Any, initial: Any, steps: int = 1_000) -> dict[str, Array]:
    """States after many steps with the same inputs."""
    linear, path = _one_step(engine, params, inputs, initial)
    held = {name: np.repeat(x[None], steps, axis=0) for name, x in path.inputs.items()}
    extent = {} if held else {"steps": steps, "batch": 1}
    states = engine.forward(params, held, path.previous, **extent)
    return {name: np.nan_to_num(states[name][-1]) for name in linear.place}


def theoretical_rate(
    engine: Engine, params: Mapping[str, Any], inputs: Any = None, *, initial: Mapping[str, Any] | None = None
) -> float:
    """log rho(J) at the states ``initial``, in nats per step: how fast gradients change at a fixed point.

    ``inputs`` are those of one step, (1, 1, size); ``initial`` is what :func:`fixed_point` found, zero where left out.
    -inf where every eigenvalue is zero.  Raises ValueError as :meth:`Engine.forward` does.

    >>> engine = Engine("tanh_rnn")
    >>> params = engine.init(seed=0, D=1, H=2, O=1) | {"W_hh": np.diag([0.5, 0.25]), "b": np.zeros(2)}
    >>> round(theoretical_rate(engine, params, np.zeros((1, 1, 1))), 9)  # log(1/2)
    -0.693147181
    """
    linear, path = _one_step(engine, params, inputs, initial)
    (jacobian,) = linear.along(path)
    with np.errstate(divide="ignore"):
        return float(np.log(np.abs(np.linalg.eigvals(jacobian)).max()))


def norm_bound(params: Mapping[str, Any], name: str, slope: float = 1.0) -> float:
    """log(||W|| max|f'|) in nats per step: no gradient of h[t] = f(W h[t-1] + ...) grows faster, at any inputs.

    ``name`` is that of W, ``slope`` is max|f'|: 1 for tanh, 1/4 for the logistic function.  Raises ValueError for a
    name that is not there, a matrix that is not square and a negative ``slope``.
    """
    (w,) = _square(params, name).values()
    if not np.isfinite(slope) or slope < 0:
        raise ValueError(f"slope is {slope!r}; expected a finite number from 0 on: the largest |f'|")
    with np.errstate(divide="ignore"):
        return float(np.log(np.linalg.norm(w, 2) * slope))
