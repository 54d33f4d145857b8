"""Losses as data: the formula of one step, its closed-form gradient by y, and a proof of it for every size.

A loss at one step and one sequence is a function of the readout y.  Softmax is not pointwise, so its gradient is proven
with a remainder: with R the sum of exp(y_j) over the other entries, log(R + exp(y_k)) is differentiated by y_k
while R is
held still, which is exact because no other entry depends on y_k.  (The closed form is in e.g. C. M. Bishop, "Pattern
Recognition and Machine Learning", Springer 2006, section 4.3.4.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sympy
from sympy import Expr, Rational, Symbol

from derive.notation import FUNCTIONS
from derive.zero import is_zero

__all__ = ["AT", "LOSSES", "REDUCTIONS", "Loss", "weights"]

AT = ("every", "last")
REDUCTIONS = ("sum", "mean")

_exp, _log = FUNCTIONS["exp"], FUNCTIONS["log"]


@dataclass(frozen=True)
class Loss:
    """One loss of the readout at one step.

    ``value(y, target)`` is the loss of explicit entries, ``gradient(y, target)`` its closed-form gradient;
    ``generic`` is the
    part of the loss that depends on entry y_k, and ``generic_gradient`` the closed form of entry k, with the
    symbols below.
    """

    name: str
    sentence: str
    formula: str  # LaTeX, one step
    closed: str  # LaTeX of dl/dy
    value: Callable[[list[Any], list[Any]], Any]
    gradient: Callable[[list[Any], list[Any]], list[Any]]
    generic: Expr
    generic_gradient: Expr
    where: str = ""

    def holds_for_every_size(self) -> bool:
        """Whether the derivative of the generic entry's part is the closed form."""
        return is_zero(self.generic.diff(Y) - self.generic_gradient)

    def holds_at(self, size: int) -> bool:
        """Whether plain differentiation of the explicit loss gives the closed form."""
        y = [Symbol(f"y{k}", real=True) for k in range(size)]
        target = [Symbol(f"target{k}", real=True) for k in range(size)]
        value = self.value(y, target)
        return is_zero([value.diff(entry) - g for entry, g in zip(y, self.gradient(y, target), strict=True)])


Y = Symbol("y[k]", real=True)
TARGET = Symbol("target[k]", real=True)
REST = Symbol("R", positive=True)  # the sum of exp(y_j) over the other entries
MASS = Symbol("S", real=True)  # the sum of the target's entries


def _softmax(y: list[Any]) -> list[Any]:
    exponentials = [_exp(v) for v in y]
    return [e / sympy.Add(*exponentials) for e in exponentials]


def _cross_entropy(y: list[Any], target: list[Any]) -> Any:
    # -sum target log softmax(y) = sum(target) log(sum exp y) - sum target y
    return sympy.Add(*target) * _log(sympy.Add(*map(_exp, y))) - sympy.Add(
        *(a * b for a, b in zip(target, y, strict=True))
    )


def _squared(y: list[Any], target: list[Any]) -> Any:
    return sympy.Add(*((a - b) ** 2 for a, b in zip(y, target, strict=True))) / 2


LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        Loss(
            name="softmax_cross_entropy",
            sentence="Cross-entropy of a target distribution and the softmax of y",
            formula=r"\ell_t = -\sum_k \mathrm{target}_{t,k} \log p_{t,k}, \qquad p_t = \operatorname{softmax}(y_t)",
            closed=r"\frac{\partial \ell_t}{\partial y_t} = p_t - \mathrm{target}_t",
            value=_cross_entropy,
            gradient=lambda y, target: [p * sympy.Add(*target) - g for p, g in zip(_softmax(y), target, strict=True)],
            generic=MASS * _log(REST + _exp(Y)) - TARGET * Y,
            generic_gradient=MASS * _exp(Y) / (REST + _exp(Y)) - TARGET,
            where="the entries of the target sum to one; otherwise the gradient is p sum(target) - target",
        ),
        Loss(
            name="squared_error",
            sentence="Half the squared norm of the difference",
            formula=r"\ell_t = \tfrac12 \lVert y_t - \mathrm{target}_t \rVert^2",
            closed=r"\frac{\partial \ell_t}{\partial y_t} = y_t - \mathrm{target}_t",
            value=_squared,
            gradient=lambda y, target: [a - b for a, b in zip(y, target, strict=True)],
            generic=(Y - TARGET) ** 2 / 2,
            generic_gradient=Y - TARGET,
        ),
        Loss(
            name="linear",
            sentence="A linear functional of any outputs and states, given by its cotangents",
            formula=r"\ell_t = \langle \mathrm{cotangent}_t, y_t \rangle",
            closed=r"\frac{\partial \ell_t}{\partial y_t} = \mathrm{cotangent}_t",
            value=lambda y, target: sympy.Add(*(a * b for a, b in zip(y, target, strict=True))),
            gradient=lambda y, target: list(target),
            generic=Y * TARGET,
            generic_gradient=TARGET,
        ),
    )
}


def weights(at: str, reduction: str, lengths: list[int], steps: int) -> list[list[Expr]]:
    """Factor of l_{t,b} in the loss, by step and sequence: L = sum over t and b of weight * l.

    ``mean`` divides by the number of contributing (t, b) terms: the number of sequences for ``last``, else the sum
    of lengths.

    >>> weights("every", "mean", [1, 2], 2)
    [[1/3, 1/3], [0, 1/3]]
    """
    counts = [[int(t == n if at == "last" else t <= n) for n in lengths] for t in range(1, steps + 1)]
    count = sum(map(sum, counts)) if reduction == "mean" else 1
    return [[Rational(c, count) for c in row] for row in counts]
