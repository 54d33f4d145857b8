"""Gradient flow: how large dL/ds_t and dL/dx_t are, by the time lag before the last step.

    dL/ds_{t-1} = J_t^T dL/ds_t + (what the loss reads at t-1),    J_t = ds_t/ds_{t-1}

vanishes or explodes as the product of the J_t does.  The recursion is linear, so the adjoint is carried as mantissas
and one exponent: at every step it is multiplied by the power of two that makes its largest entry lie in [1/2, 1), which
is exact, and 10,000 steps neither underflow nor overflow.  What runs is the engine's own backward pass.

S. Hochreiter, "Untersuchungen zu dynamischen neuronalen Netzen", diploma thesis, TU Muenchen 1991; Y. Bengio,
P. Simard, P. Frasconi, "Learning long-term dependencies with gradient descent is difficult", IEEE Transactions on
Neural Networks 5 (1994) 157-166.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np

from derive.notation import at
from numeric.arguments import Array
from numeric.engine import Engine
from numeric.linearize import check_sequence, check_states
from numeric.losses import evaluate_loss
from numeric.operations import d_of
from numeric.plan import Plans
from numeric.problem import Options, check_problem
from numeric.run import Reverse
from numeric.tape import run_forward

__all__ = ["Flow", "fitted_rate", "flow"]

LOG2 = float(np.log(2.0))


@dataclass(frozen=True, eq=False)
class Flow:
    """The Euclidean norm of a loss's gradient by time lag, of one sequence of T steps; every array is (T,).

    ``lags`` is 0, 1, ... T-1: lag k belongs to step t = T - k.  ``states`` maps each state s to the norms of dL/ds_t,
    ``inputs`` each input x to those of dL/dx_t; a norm outside of the float64 range is 0 or inf there.
    ``log_states`` and ``log_inputs`` are the natural logarithms of the norms, right to rounding at any lag: -inf where
    a gradient is exactly zero, and NaN where it is 2^900 times (in float32: 2^100 times) smaller than that of another
    state at its step, so that its digits are lost.
    """

    lags: Array
    states: dict[str, Array]
    inputs: dict[str, Array]
    log_states: dict[str, Array]
    log_inputs: dict[str, Array]

    def rate(self, name: str, first: int | None = None) -> float:
        """The change per step of the log norm of a state's or an input's gradient, in nats, fitted by least squares.

        Over the lags from ``first`` on (half of them where left out).  NaN where fewer than two norms are positive.
        Raises ValueError for an unknown name.
        """
        logs = self.log_states | self.log_inputs
        if name not in logs:
            raise ValueError(f"unknown state or input {name!r}; expected {', '.join(logs)}")
        start = len(self.lags) // 2 if first is None else first
        return fitted_rate(self.lags[start:], logs[name][start:])


def fitted_rate(lags: Array, logs: Array) -> float:
    """The slope of the least-squares line through logarithms; NaN where fewer than two of them are finite.

    >>> fitted_rate(np.arange(3), np.array([0.0, -0.5, -1.0]))
    -0.5
    """
    used = np.isfinite(logs)
    if used.sum() < 2:
        return float("nan")
    x = lags[used] - lags[used].mean()
    return float(x @ (logs[used] - logs[used].mean()) / (x @ x))


def flow(
    engine: Engine,
    params: Mapping[str, Any],
    inputs: Any = None,
    targets: Any = None,
    *,
    sequence: int = 0,
    **options: Unpack[Options],
) -> Flow:
    """The norms of dL/ds_t and dL/dx_t by time lag, over the own steps of one ``sequence``.

    The other arguments are those of :meth:`Engine.backward`; the usual loss is one of the last step, ``at="last"``,
    and the norms of longer lags then show what is left of it.  With ``at="every"`` each step adds its own part.
    Raises ValueError and TypeError as the engine does, ValueError for a sequence that is not there, a complex engine,
    and a state that is not finite.

    >>> engine = Engine("tanh_rnn")
    >>> params = engine.init(seed=0, D=1, H=2, O=1) | {"W_hh": 0.5 * np.eye(2), "b": np.zeros(2)}
    >>> found = flow(engine, params, np.zeros((10_000, 1, 1)), np.ones((1, 1)), loss="squared_error", at="last")
    >>> round(found.rate("h"), 6), found.states["h"][-1], round(found.log_states["h"][-1])
    (-0.693147, np.float64(0.0), -6932)
    """
    if engine.dtype.kind == "c":
        raise ValueError(f"flow measures real gradients; found an engine of {engine.dtype}")
    problem = check_problem(engine.cell, engine.dtype, params, inputs, targets, options)
    b = check_sequence(sequence, problem.data.batch)
    plans = Plans(engine.backward_program, frozenset(problem.loss.given))
    with np.errstate(all="ignore"):
        tape = run_forward(plans, problem.data)
        steps = problem.data.steps if problem.data.lengths is None else int(problem.data.lengths[b])
        check_states({name: s[: steps + 1, b] for name, s in tape.states.items()}, f"of sequence {b}")
        reverse = Scaled(plans, tape, evaluate_loss(problem.loss, tape.observed())[1])
        _, found = reverse.run(want_inputs=True)
        return _flow(reverse, found, slice(None, steps), b)


def _flow(reverse: Scaled, inputs: Mapping[str, Array], own: slice, b: int) -> Flow:
    """What one sequence's gradients, mantissas with exponents, come to."""
    exponents = reverse.exponents[own, b][::-1]

    def logs(gradients: Mapping[str, Array]) -> dict[str, Array]:
        return {name: _log_norms(x[own, b][::-1], exponents) for name, x in gradients.items()}

    log_states, log_inputs = logs(reverse.states), logs(inputs)
    return Flow(
        np.arange(len(exponents)),
        {name: np.exp(x) for name, x in log_states.items()},
        {name: np.exp(x) for name, x in log_inputs.items()},
        log_states,
        log_inputs,
    )


def _log_norms(mantissas: Array, exponents: Array) -> Array:
    """log of the norm of each row of ``mantissas`` * 2**exponents, the last step first; NaN where digits are lost.

    A row whose largest entry is too close to the smallest number is lost, and so is what is zero after such a row.
    """
    largest = np.abs(mantissas).max(axis=-1)
    limits = np.finfo(mantissas.dtype)
    small = largest < float(limits.tiny) / float(limits.eps)
    lost = small & (largest > 0)
    for k in np.flatnonzero(small[1:]) + 1:
        lost[k] |= lost[k - 1]
    _, e = np.frexp(largest)
    norms = np.linalg.norm(np.ldexp(mantissas.astype(np.float64), -e[:, None]), axis=-1)
    return np.where(lost, np.nan, np.log(norms) + (exponents + e) * LOG2)


# ------------------------------------------------------------------------------------------------ the recursion, scaled

#: Below every exponent: that of zero.
NOTHING = -(1 << 62)


class Scaled(Reverse):
    """A backward pass in which every d at step t of sequence b is a mantissa, to be multiplied by 2**exponents[t, b].

    It gives gradients by states and inputs only: sums over time would add mantissas of different exponents.
    """

    def run(self, *, want_inputs: bool) -> tuple[dict[str, Array], dict[str, Array]]:
        """No parameter's gradient, and the mantissas of the inputs'; ``states`` are mantissas as well."""
        forward = set(self.tape.whole)
        self.all_steps(self.plans.reverse["after", want_inputs])
        derivatives = {s: x.copy() for s, x in self.values.items() if s not in forward}  # two may be one array
        self.values |= derivatives
        self.arriving = list(derivatives.values())
        self.exponents = np.zeros((self.data.steps, self.data.batch), np.int64)
        self.unit = self.exponents[-1]
        self.loop(self.plans.reverse["loop", want_inputs])
        self.all_steps(self.plans.reverse["before", want_inputs])
        return {}, {n: self.values.get(d_of(at(n)), np.zeros_like(x)) for n, x in self.data.inputs.items()}

    def step(self, t: int, runs: Sequence[Any], carried: dict[str, Array]) -> dict[str, Array]:
        """One step, in units of the power of two that suits what is carried and what the loss adds."""
        found = [_exponents(d) + self.unit for d in carried.values()] + [_exponents(x[t]) for x in self.arriving]
        unit = np.maximum.reduce(found)
        unit[unit < NOTHING // 2] = 0
        carried = {name: _times_power(d, self.unit - unit) for name, d in carried.items()}
        for x in self.arriving:
            x[t] = _times_power(x[t], -unit)
        self.unit = self.exponents[t] = unit
        return super().step(t, runs, carried)


def _exponents(x: Array) -> Array:
    """e with the largest entry of each row in [2^(e-1), 2^e); NOTHING for a row of zeros."""
    largest = np.abs(x).max(axis=-1)
    return np.where(largest > 0, np.frexp(largest)[1].astype(np.int64), NOTHING)


def _times_power(x: Array, e: Array) -> Array:
    """Each row of x times 2**e."""
    return np.ldexp(x, np.clip(e, -5_000, 5_000).astype(np.int32)[:, None])
