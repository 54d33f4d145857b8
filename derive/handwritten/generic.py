"""Truths for every size and every T: entries at a generic index, times relative to t, to the first or the last step.

A window of steps is looked at: what arrives at its end from later steps is free, so that an equation that holds here
holds whatever the continuation is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sympy import Integer, Symbol

from derive.adjoint import Backward
from derive.handwritten.forms import Form, diag, identity, outer, word
from derive.handwritten.ring import Poly, Ring
from derive.handwritten.times import EVERY, LAST, START, When
from derive.handwritten.truth import LossRead, Truth
from derive.notation import FUNCTIONS, at, parameter
from derive.program import Pointwise

__all__ = ["GenericTruth", "HigherError"]

MOST_AHEAD = 4


class HigherError(Exception):
    """A line looks further ahead than the window goes."""


class Generic:
    """The algebra of generic entries."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.number, self.call, self.dot = ring.number, ring.call, ring.dot
        self.outer, self.diag = outer, diag

    def is_matrix(self, x: Any) -> bool:
        """Whether a value is a matrix."""
        return isinstance(x, Form)

    def scale_rows(self, v: Poly, m: Form) -> Form:
        """diag(v) m."""
        return self.diag(v) @ m

    def identity(self, axis: str) -> Form:
        """The identity matrix."""
        return identity(self.ring)

    def scalar(self, value: Any) -> Poly:
        """A number."""
        return self.ring.constant(value)


class GenericTruth(Truth):
    """``ahead`` is how many steps after t the window ends; ``cut`` keeps every state as a symbol of its own."""

    def __init__(self, backward: Backward, loss: LossRead, *, ahead: int = 0, cut: bool = True) -> None:
        self.ring = Ring()
        super().__init__(backward, loss, Generic(self.ring))
        self.ahead, self.cut = ahead, cut
        self.seeded: set[When] = set()

    def moved(self, time: When, by: int) -> When:
        """A time ``by`` steps later."""
        return time.moved(by)

    def place(self, time: When) -> str:
        """before, start, inside, last or after the sequence."""
        if time.anchor == START and time.shift <= 0:
            return "before" if time.shift < 0 else "start"
        if time.anchor == LAST and time.shift >= 0:
            return "last" if time.shift == 0 else "after"
        return "inside"

    def ends(self, time: When) -> bool:
        """Whether the window ends here."""
        if time.anchor == LAST:
            return False
        end = self.ahead if time.anchor == EVERY else self.ahead + 1
        if time.shift > end:
            raise HigherError
        return time.shift == end

    def begins(self, time: When) -> bool:
        """Before t, and before the steps that are counted from the last."""
        return time.shift <= {EVERY: -1, LAST: -4}.get(time.anchor, 0) and time.anchor != START

    def rest(self, name: str, time: When) -> Any:
        """What the steps outside of the window add to a parameter's gradient."""
        shape = self.cell.parameters[name]
        key = (f"the rest of {name}", time)
        return word(self.ring, (key, False)) if len(shape) == 2 else self.ring.atom(key, scalar=shape == ())  # type: ignore[arg-type]

    def state_leaf(self, name: str, time: When) -> Any | None:
        """A state's symbol: at the beginning of the window, or, where states are cut, everywhere."""
        first = time.shift <= (0 if time.anchor == START else -1 if time.anchor == EVERY else -3)
        if not first and not self.cut:
            return None
        symbol = self.ring.atom(("state", name, time))
        if not first:
            self.seed(name, time, symbol)
        return symbol

    def seed(self, name: str, time: When, symbol: Poly) -> None:
        """Where a state is f of something, f of the same thing is the state."""
        node = self.program.node[at(name)]
        self.known["state", name, time] = symbol
        function = type(node.expression).__name__ if isinstance(node, Pointwise) else ""
        if function not in FUNCTIONS or not isinstance(node, Pointwise):
            return
        x = self.evaluated(node.expression.args[0], time)
        if x.leads_negative():  # the ring turns the argument round
            turned = {
                "tanh": -symbol,
                "sin": -symbol,
                "erf": -symbol,
                "sigmoid": 1 - symbol,
                "cos": symbol,
                "abs": symbol,
            }
            if function in turned:
                self.ring.seeds["f", function, (-x).key] = turned[function]
        elif function not in ("exp", "softsign"):
            self.ring.seeds["f", function, x.key] = symbol

    def prepare(self, time: When) -> None:
        """See to it that the states of a time are known by their names before anything else is computed there."""
        if time not in self.seeded and self.place(time) in ("inside", "last"):
            self.seeded.add(time)
            for name in self.cell.states:
                self.forward(name, time)

    def from_loss(self, time: When) -> dict[Symbol, Any]:
        """What the loss gives at a time; under a loss of the last step, what may be the last step is free."""
        may_be_last = time.anchor == START or (time.anchor == EVERY and time.shift > 0)
        if self.loss.last and may_be_last and self.place(time) == "inside":
            return self.given(time)
        return super().from_loss(time)

    def computed(self, name: str, time: When) -> Any:
        """A node's value; first the states of its time get their names."""
        self.prepare(time)
        return super().computed(name, time)

    def step_back(
        self,
        arriving: Mapping[Symbol, Any],
        time: When,
        pinned: Mapping[Symbol, Any] | None = None,
        backward: Backward | None = None,
    ) -> dict[Any, Any]:
        """One step of the backward recursion."""
        self.prepare(time)
        return super().step_back(arriving, time, pinned, backward)

    def leaf(self, role: str, name: str, time: When) -> Any:
        """A symbol of its own; softmax is exp over the sum of exp."""
        if role == "softmax":
            exponential = self.ring.call("exp", self.forward(name, time))
            return exponential / self.ring.dot(exponential, self.ring.constant(1))
        return self.ring.atom((role, name, time))

    def value_of(self, name: str) -> Any:
        """A parameter's symbol; a matrix as a word."""
        shape = self.cell.parameters[name]
        if len(shape) == 2:
            return word(self.ring, (name, False))
        return self.ring.atom(("parameter", parameter(name).name), scalar=shape == ())

    def steps(self) -> Poly:
        """T."""
        return self.ring.atom("T", scalar=True)

    def one(self) -> Poly:
        """The number one."""
        return self.ring.number(Integer(1))
