"""Truths at a size: a few steps of a small network, entry by entry, over any algebra."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from sympy import Expr, Integer, Rational, pi

from derive.adjoint import Backward
from derive.algebra import CLOSED
from derive.handwritten.truth import LossRead, Truth
from derive.handwritten.values import Mat, Vec
from derive.notation import at
from derive.unroll import Key

__all__ = ["ExplicitTruth", "Floats"]


class Floats:
    """The algebra of floating-point numbers: quick, and never a proof."""

    def number(self, value: Expr) -> float:
        """A number."""
        return math.pi if value is pi else int(value.p) / int(value.q)

    def call(self, name: str, x: float) -> float:
        """f(x)."""
        if name in CLOSED:
            return CLOSED[name](x, self.call)
        return _FLOATS[name](x)


def _safe(f: Callable[[float], float]) -> Callable[[float], float]:
    def call(x: float) -> float:
        try:
            return f(x)
        except (ValueError, OverflowError):
            return math.nan

    return call


_FLOATS: dict[str, Callable[[float], float]] = {
    "tanh": math.tanh,
    "sigmoid": _safe(lambda x: 1 / (1 + math.exp(-x))),
    "softplus": _safe(lambda x: math.log1p(math.exp(x))),
    "exp": _safe(math.exp),
    "log": _safe(math.log),
    "sin": math.sin,
    "cos": math.cos,
    "sqrt": _safe(math.sqrt),
    "erf": math.erf,
    "abs": abs,
    "relu": lambda x: max(x, 0.0),
    "drelu": lambda x: float(x > 0),
    "dabs": lambda x: math.copysign(1.0, x),
    "derf": _safe(lambda x: 2 * math.exp(-x * x) / math.sqrt(math.pi)),
}


class Grid:
    """Vectors and matrices over an algebra of numbers."""

    def __init__(self, algebra: Any, sizes: Mapping[str, int]) -> None:
        self.algebra, self.sizes = algebra, sizes

    def number(self, value: Expr) -> Vec:
        """A scalar."""
        return Vec([self.algebra.number(value)], scalar=True)

    def scalar(self, value: Any) -> Vec:
        """A rational number."""
        return self.number(Integer(value.numerator) / Integer(value.denominator))

    def call(self, name: str, x: Vec) -> Vec:
        """f of every entry."""
        return Vec([self.algebra.call(name, e) for e in x.entries], scalar=x.scalar)

    def dot(self, a: Vec, b: Vec) -> Vec:
        """The sum of a b over entries."""
        products = (a * b).entries
        total = products[0]
        for x in products[1:]:
            total = total + x
        return Vec([total], scalar=True)

    def outer(self, a: Vec, b: Vec) -> Mat:
        """a b.T."""
        return Mat([[x * y for y in b.entries] for x in a.entries])

    def diag(self, v: Vec) -> Mat:
        """The diagonal matrix of a vector."""
        zero = self.algebra.number(Integer(0))
        return Mat([[x if i == j else zero for j in range(len(v.entries))] for i, x in enumerate(v.entries)])

    def scale_rows(self, v: Vec, m: Mat) -> Mat:
        """diag(v) m, or a scalar times m."""
        return m * v if v.scalar else self.diag(v) @ m

    def identity(self, axis: str) -> Mat:
        """The identity matrix of a size."""
        return self.diag(Vec([self.algebra.number(Integer(1))] * self.sizes[axis]))

    def is_matrix(self, x: Any) -> bool:
        """Whether a value is a matrix."""
        return isinstance(x, Mat)


class ExplicitTruth(Truth):
    """T steps at given sizes; every entry is made by ``make`` from its key.

    Keys are those of :class:`derive.unroll.Problem`, and ("target", t, k) and ("d" + name, t, k) for the loss.
    """

    def __init__(
        self,
        backward: Backward,
        loss: LossRead,
        algebra: Any,
        steps: int,
        sizes: Mapping[str, int],
        make: Callable[[Key], Any],
    ) -> None:
        super().__init__(backward, loss, Grid(algebra, sizes))
        self.count, self.sizes, self.make, self.algebra = steps, sizes, make, algebra
        self.told: Rational | None = None  # what T is as a number, where it is not to be the count

    def moved(self, time: int, by: int) -> int:
        """A time ``by`` steps later."""
        return time + by

    def place(self, time: int) -> str:
        """before, start, inside, last or after the sequence."""
        if time <= 0:
            return "start" if time == 0 else "before"
        return "inside" if time < self.count else "last" if time == self.count else "after"

    def ends(self, time: int) -> bool:
        """Nothing is free: the sequence itself ends."""
        return False

    def state_leaf(self, name: str, time: int) -> Any | None:
        """A state's initial value."""
        return self.vector(name, 0, self.cell.axes[name]) if time == 0 else None

    def vector(self, name: str, time: int, axis: str) -> Vec:
        """A made vector."""
        return Vec([self.make((name, time, k)) for k in range(self.sizes[axis])])

    def computed(self, name: str, time: int) -> Any:
        """A node's value, as many entries as it has even where all are the same constant."""
        value = super().computed(name, time)
        axis = self.program.axes.get(at(name))
        if isinstance(value, Vec) and value.scalar and axis is not None:
            return Vec(value.entries * self.sizes[axis])
        return value

    def leaf(self, role: str, name: str, time: int) -> Any:
        """An input, a target, a cotangent, or the softmax of an output."""
        if role == "input":
            return self.vector(name, time, self.cell.axes[name])
        on = name or (self.cell.outputs or self.cell.states)[0]
        if role == "softmax":
            exponentials = self.domain.call("exp", self.forward(on, time))
            return exponentials / self.domain.dot(exponentials, self.domain.number(Integer(1)))
        if role == "target":
            return self.targets(on, time)
        return self.vector(f"d{on}", time, self.cell.axes[on])

    def targets(self, on: str, time: int) -> Vec:
        """Targets; those of a softmax sum to one."""
        out = self.vector("target", time, self.cell.axes[on])
        if self.loss.kind == "softmax_cross_entropy":
            rest = self.algebra.number(Integer(1))
            for x in out.entries[:-1]:
                rest = rest - x
            out.entries[-1] = rest
        return out

    def value_of(self, name: str) -> Any:
        """A parameter."""
        return self.remembered(("parameter", name), lambda: self.made(name))

    def made(self, name: str) -> Any:
        """A parameter's entries."""
        extents = [range(self.sizes[x]) for x in self.cell.parameters[name]]
        if len(extents) == 2:
            return Mat([[self.make((name, i, j)) for j in extents[1]] for i in extents[0]])
        if not extents:
            return Vec([self.make((name,))], scalar=True)
        return Vec([self.make((name, i)) for i in extents[0]])

    def steps(self) -> Vec:
        """T."""
        return self.domain.number(Integer(self.count) if self.told is None else self.told)
