r"""What holds for every cell: the loss, immediate against total derivatives, the Jacobian product, truncation.

With the states of a step side by side as s_t, each on its own, and theta a parameter that acts through them:

    ds_t/dtheta = d+s_t/dtheta + ds_t/ds_{t-1} ds_{t-1}/dtheta            total and immediate derivative
    dL/dtheta   = sum over t of dL/ds_t d+s_t/dtheta                      backward
                = sum over t of dl_t/ds_t ds_t/dtheta                     forward
    dL/ds_t     = sum over u >= t of dl_u/ds_u J_u ... J_{t+1}            J_t = ds_t/ds_{t-1}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sympy
from sympy import Eq, Expr, Function, Symbol

from derive.cost import size_symbol
from derive.latex import name_latex

__all__ = [
    "CHUNKS",
    "LOSS",
    "SEEN",
    "WINDOW",
    "Law",
    "backward_total",
    "forward_total",
    "jacobian_product",
    "stacked",
    "state_total",
]


@dataclass(frozen=True)
class Law:
    """One equation that holds for every cell: its sentence, its form as data and as LaTeX, where it is proven."""

    name: str
    sentence: str
    equation: Expr
    latex: str
    obligation: str


_T, _B = size_symbol("T"), size_symbol("B")
_t, _b, _k, _u, _j = (Symbol(x, integer=True, positive=True) for x in "tbkuj")
_IMMEDIATE, _TOTAL, _J = Function("d+s/dtheta"), Function("P"), Function("J")
_SEEN, _LOCAL, _TERM = Function("dL/ds"), Function("dl/ds"), Function("g")
_DS = r"\frac{\mathrm{d} s_t}{\mathrm{d} \theta}"
_PLUS = r"\frac{\partial^{+} s_t}{\partial \theta}"
_DL = r"\frac{\mathrm{d} \mathcal{L}}{\mathrm{d} \theta}"


def _eq(left: Expr, right: Expr) -> Expr:
    return Eq(left, right, evaluate=False)


LOSS = Law(
    "L",
    "the loss is a weighted sum over steps and sequences; the weights say every step or the last, sum or mean",
    _eq(Symbol("L"), sympy.Sum(Function("w")(_t, _b) * Function("l")(_t, _b), (_t, 1, _T), (_b, 1, _B))),
    r"\mathcal{L} = \sum_{t=1}^{T} \sum_{b=1}^{B} w_{t,b} \, \ell_{t,b}",
    "lemma/batch",
)


def stacked(states: Sequence[str]) -> str:
    """All states of a step as LaTeX: h, or (h, c)."""
    names = [name_latex(s) for s in states]
    return names[0] if len(names) == 1 else rf"\left({', '.join(names)}\right)"


def state_total(states: Sequence[str]) -> Law:
    """Total against immediate derivative of the states."""
    return Law(
        "P",
        "the total derivative of s[t] counts every use of theta up to step t, the immediate one the use at step t only",
        _eq(_TOTAL(_t), _IMMEDIATE(_t) + _J(_t) * _TOTAL(_t - 1)),
        rf"{_DS} = {_PLUS} + \frac{{\partial s_t}}{{\partial s_{{t-1}}}} \,"
        r" \frac{\mathrm{d} s_{t-1}}{\mathrm{d} \theta}, \qquad \frac{\mathrm{d} s_0}{\mathrm{d} \theta} = 0,"
        rf" \qquad s = {stacked(states)}",
        "forward-recursion",
    )


def forward_total() -> Law:
    """The gradient forward in time."""
    return Law(
        "forward",
        "run forward in time, that already gives the gradient, at the price of keeping every total derivative"
        " (real-time recurrent learning)",
        _eq(Symbol("dL/dtheta"), sympy.Sum(_LOCAL(_t) * _TOTAL(_t), (_t, 1, _T))),
        rf"{_DL} = \sum_{{t=1}}^{{T}} \frac{{\partial \ell_t}}{{\partial s_t}} \, {_DS}",
        "forward-recursion",
    )


def backward_total(states: Sequence[str]) -> Law:
    """The gradient as a sum of immediate derivatives."""
    apart = ", the other states of step t held still" if len(states) > 1 else ""
    return Law(
        "total",
        "backward in time only the immediate derivatives are needed, each weighted by what all later losses see of that"
        f" state{apart}",
        _eq(Symbol("dL/dtheta"), sympy.Sum(_SEEN(_t) * _IMMEDIATE(_t), (_t, 1, _T))),
        rf"{_DL} = \sum_{{t=1}}^{{T}} \frac{{\partial \mathcal{{L}}}}{{\partial s_t}} \, {_PLUS}, \qquad"
        r" \frac{\partial \mathcal{L}}{\partial s_t} = \frac{\partial \ell_t}{\partial s_t}"
        r" + \frac{\partial \mathcal{L}}{\partial s_{t+1}} \, \frac{\partial s_{t+1}}{\partial s_t}",
        "immediate-derivative",
    )


def jacobian_product(states: Sequence[str]) -> Law:
    """The product of step Jacobians."""
    return Law(
        "J",
        "over many steps the Jacobians multiply, later steps on the left",
        _eq(Symbol("ds[T]/ds[t]"), sympy.Product(_J(_k), (_k, _t + 1, _T))),
        r"\frac{\partial s_T}{\partial s_t} = J_T \, J_{T-1} \cdots J_{t+1}, \qquad"
        r" J_k = \frac{\partial s_k}{\partial s_{k-1}}, \qquad s = " + stacked(states),
        "jacobian-product",
    )


SEEN = Law(
    "seen",
    "each later loss reaches s[t] through such a product",
    _eq(_SEEN(_t), sympy.Sum(_LOCAL(_u) * Function("product")(_u, _t), (_u, _t, _T))),
    r"\frac{\partial \mathcal{L}}{\partial s_t} ="
    r" \sum_{u=t}^{T} \frac{\partial \ell_u}{\partial s_u} \, J_u \cdots J_{t+1}",
    "immediate-derivative",
)

WINDOW = Law(
    "window",
    "truncation after k steps drops the terms whose loss is k or more steps later than the use",
    _eq(Symbol("dropped"), sympy.Sum(_TERM(_u, _j), (_j, 1, _u - _k), (_u, _k + 1, _T))),
    r"\frac{\mathrm{d} \mathcal{L}}{\mathrm{d} \theta} = \sum_{u=1}^{T} \sum_{j=1}^{u} g_{u,j}, \quad"
    r" g_{u,j} = \frac{\partial \ell_u}{\partial s_u} \, J_u \cdots J_{j+1} \,"
    r" \frac{\partial^{+} s_j}{\partial \theta}; \qquad \text{dropped: } u - j \ge k",
    "truncation",
)

_APART = sympy.Ne(sympy.ceiling(_u / _k), sympy.ceiling(_j / _k))
CHUNKS = Law(
    "chunks",
    "cutting the sequence into chunks of k steps drops the terms whose loss and use are in different chunks",
    _eq(Symbol("dropped"), sympy.Sum(sympy.Piecewise((_TERM(_u, _j), _APART), (0, True)), (_j, 1, _u), (_u, 1, _T))),
    r"\text{dropped: } g_{u,j} \text{ with } \lceil u/k \rceil \ne \lceil j/k \rceil",
    "truncation",
)
