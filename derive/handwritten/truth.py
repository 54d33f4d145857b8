"""What every name of a backward equation truly is, from the proven derivation, over any kind of values.

forward       values of the cell's nodes, from the equations
derivative    the derivative of the loss by a value: the backward recursion
local         the derivative of the loss term of one step by a value of that step
carried       what arrives at a state from the step after
gradient      the term that one step adds to a parameter's gradient
jacobian      the derivative of one vector by another, of the same step or an earlier one
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sympy import Expr, Symbol

from derive.adjoint import Adjoint, Backward, Flow
from derive.algebra import evaluate
from derive.handwritten.values import UNDEFINED, ZERO, applied, minus, plus, times, turned
from derive.notation import at, parameter, time_of
from derive.program import Node, Pointwise

__all__ = ["LossRead", "Truth"]

Time = Any


@dataclass(frozen=True)
class LossRead:
    """What a file says about its loss: ``kind`` is any, softmax_cross_entropy or squared_error.

    ``scale`` multiplies it, ``per_step`` divides it by T, ``last`` counts the last step only.
    """

    kind: str = "any"
    on: str = ""
    scale: int = 1
    per_step: bool = False
    last: bool = False


class Truth(ABC):
    """Truths about one cell under one loss; ``backward`` may be edited, to see what a mistake makes of a line."""

    def __init__(self, backward: Backward, loss: LossRead, domain: Any) -> None:
        self.backward, self.program, self.cell = backward, backward.program, backward.program.cell
        self.loss, self.domain = loss, domain
        self.known: dict[Any, Any] = {}
        self.extra: dict[Symbol, Node] = {}  # nodes that a wrong program has beside the right ones

    # ------------------------------------------------------------------------------------------- what differs by domain

    @abstractmethod
    def moved(self, time: Time, by: int) -> Time:
        """A time ``by`` steps later."""

    @abstractmethod
    def place(self, time: Time) -> str:
        """before, start, inside, last or after the sequence."""

    @abstractmethod
    def state_leaf(self, name: str, time: Time) -> Any | None:
        """A state's value where it is not computed: at the start, or by choice."""

    @abstractmethod
    def leaf(self, role: str, name: str, time: Time) -> Any:
        """An input, a target, a free derivative of the loss (role ``cotangent``), or what is carried in (``carry``)."""

    @abstractmethod
    def value_of(self, name: str) -> Any:
        """A parameter."""

    @abstractmethod
    def ends(self, time: Time) -> bool:
        """Whether what arrives at the states of this time is free: the end of the window that is looked at."""

    @abstractmethod
    def steps(self) -> Any:
        """The number of steps T as a scalar."""

    def same_size(self, axis: str) -> Any:
        """The identity matrix of a size."""
        return self.domain.identity(axis)

    # ---------------------------------------------------------------------------------------------------------- forward

    def remembered(self, key: Any, make: Any) -> Any:
        """A value made once."""
        if key not in self.known:
            self.known[key] = make()
        return self.known[key]

    def node(self, symbol: Symbol, time: Time) -> Any:
        """The value of a symbol of the program."""
        name, shift = time_of(symbol)
        if shift is None:
            return self.value_of(name)
        return self.forward(name, self.moved(time, shift))

    def forward(self, name: str, time: Time) -> Any:
        """The value of a name, a node of the program included."""
        place = self.place(time)
        if place in ("before", "after") or (place == "start" and name not in self.cell.states):
            return UNDEFINED
        if name in self.cell.states:
            found = self.remembered(("state", name, time), lambda: self.state_leaf(name, time))
            if found is not None:
                return found
        if name in self.cell.inputs:
            return self.remembered(("input", name, time), lambda: self.leaf("input", name, time))
        return self.remembered(("node", name, time), lambda: self.computed(name, time))

    def computed(self, name: str, time: Time) -> Any:
        """A node's value, from what it reads."""
        node = self.program.node.get(at(name)) or self.extra[at(name)]
        if isinstance(node, Pointwise):
            return self.evaluated(node.expression, time)
        matrix = self.value_of(node.matrix)
        return applied(turned(matrix) if node.transposed else matrix, self.node(node.operand, time))

    def evaluated(self, e: Expr, time: Time) -> Any:
        """An entrywise expression at a time."""
        return evaluate(e, lambda s: self.node(s, time), self.domain)

    # --------------------------------------------------------------------------------------------------------- the loss

    def softmax(self, name: str, time: Time) -> Any:
        """p[t]."""
        if self.place(time) not in ("inside", "last"):
            return UNDEFINED
        return self.remembered(("softmax", name, time), lambda: self.leaf("softmax", name, time))

    def target(self, time: Time) -> Any:
        """target[t]."""
        if self.place(time) not in ("inside", "last"):
            return UNDEFINED
        return self.remembered(("target", time), lambda: self.leaf("target", self.loss.on, time))

    def seen(self) -> tuple[str, ...]:
        """What the loss reads."""
        if self.loss.kind != "any":
            return (self.loss.on,)
        return self.cell.outputs or self.cell.states

    def from_loss(self, time: Time) -> dict[Symbol, Any]:
        """What the loss gives each output, or state, at a time."""
        place = self.place(time)
        if place not in ("inside", "last") or (self.loss.last and place != "last"):
            return {}
        return self.given(time)

    def given(self, time: Time) -> dict[Symbol, Any]:
        """dl/dy of everything that the loss reads."""
        return {at(n): self.remembered(("loss", n, time), lambda n=n: self.slope(n, time)) for n in self.seen()}

    def slope(self, name: str, time: Time) -> Any:
        """dl/dy at a time."""
        if self.loss.kind == "any":
            return self.leaf("cotangent", name, time)
        first = self.softmax(name, time) if self.loss.kind == "softmax_cross_entropy" else self.forward(name, time)
        out = minus(first, self.target(time)) * self.loss.scale
        return out / self.steps() if self.loss.per_step else out

    # --------------------------------------------------------------------------------------------------------- backward

    def arriving(self, time: Time) -> dict[Symbol, Any]:
        """What the loss and the step after give each output and state."""
        out = self.from_loss(time)
        for name in self.cell.states:
            out[at(name)] = plus(out.get(at(name), ZERO), self.carried(name, time))
        return out

    def carried(self, name: str, time: Time) -> Any:
        """What arrives at a state from the step after."""
        if self.place(time) in ("last", "after"):
            return ZERO
        if self.ends(time):
            return self.remembered(("carry", name, time), lambda: self.leaf("carry", name, time))
        return self.slopes(self.moved(time, 1))[at(name, -1)]

    def handed(self, name: str, time: Time) -> Any:
        """What a step hands back to a state of the step before."""
        return ZERO if self.place(time) in ("before", "start", "after") else self.slopes(time)[at(name, -1)]

    def path(self, target: Symbol, i: int, time: Time) -> Any:
        """What one flow of a step brings to a symbol."""
        if self.place(time) not in ("inside", "last"):
            return ZERO
        return self.flowed(target, self.backward.flows[target][i], self.slopes(time), time)

    def flowed(self, target: Symbol, flow: Flow, slopes: Mapping[Any, Any], time: Time) -> Any:
        """What a flow brings from the derivative that it starts at."""
        source = slopes[flow.source]
        if isinstance(flow, Adjoint):
            matrix = self.value_of(flow.matrix)
            term = applied(turned(matrix) if flow.transposed else matrix, source)
            return term if flow.scale == 1 else self.weighted(flow.scale, term, time, target)
        return ZERO if source is ZERO else self.weighted(flow.factor, source, time, target)

    def slopes(self, time: Time) -> Mapping[Any, Any]:
        """The derivative of the loss by every node of a step."""
        return self.remembered(("slopes", time), lambda: self.step_back(self.arriving(time), time))

    def step_back(
        self,
        arriving: Mapping[Symbol, Any],
        time: Time,
        pinned: Mapping[Symbol, Any] | None = None,
        backward: Backward | None = None,
    ) -> dict[Any, Any]:
        """One step of the backward recursion from what arrives; vectors, or matrices row by row.

        ``pinned`` holds derivatives that are known already, ``backward`` is another program to follow.
        """
        if self.place(time) not in ("inside", "last"):
            return dict.fromkeys((backward or self.backward).flows, ZERO)
        out: dict[Any, Any] = {}
        if backward is not None and backward.program is not self.program:
            self.extra.update(backward.program.node)
        for target, flows in (backward or self.backward).flows.items():
            if pinned and target in pinned:
                out[target] = pinned[target]
                continue
            total = arriving.get(target, ZERO)
            for flow in flows:
                total = plus(total, self.flowed(target, flow, out, time))
            out[target] = total
        return out

    def weighted(self, factor: Expr, d: Any, time: Time, target: Symbol) -> Any:
        """factor * d, entry by entry; summed over entries for a scalar parameter."""
        value = self.evaluated(factor, time)
        if self.domain.is_matrix(d):  # a Jacobian, which parameters have no part in
            return ZERO if target.name in self.cell.parameters else self.domain.scale_rows(value, d)
        if self.cell.parameters.get(target.name) == ():
            return times(value, d, self.domain.dot)
        return times(value, d)

    def derivative(self, name: str, time: Time) -> Any:
        """The derivative of the loss by a name, or by a node of the program."""
        place = self.place(time)
        if place in ("before", "after"):
            return ZERO
        if place == "start":
            return self.carried(name, time) if name in self.cell.states else ZERO
        return self.slopes(time)[at(name)]

    def local(self, name: str, time: Time) -> Any:
        """The derivative of the loss term of a step by a value of that step."""
        if self.place(time) not in ("inside", "last"):
            return ZERO
        found = self.remembered(("local", time), lambda: self.step_back(self.from_loss(time), time))
        return found[at(name)]

    def truncated(self, name: str, time: Time, steps: int) -> Any:
        """The derivative by a name that counts the losses of ``steps`` steps only."""
        return ZERO if self.place(time) in ("before", "start", "after") else self.window(time, steps)[at(name)]

    def window(self, time: Time, steps: int) -> Mapping[Any, Any]:
        """The derivatives that count the losses of ``steps`` steps only."""

        def made() -> Mapping[Any, Any]:
            arriving = self.from_loss(time)
            if steps > 1 and self.place(time) == "inside":
                later = self.window(self.moved(time, 1), steps - 1)
                for s in self.cell.states:
                    arriving[at(s)] = plus(arriving.get(at(s), ZERO), later[at(s, -1)])
            return self.step_back(arriving, time)

        return self.remembered(("window", time, steps), made)

    def gradient(
        self, name: str, time: Time, slopes: Mapping[Any, Any] | None = None, backward: Backward | None = None
    ) -> Any:
        """The term that a step adds to a parameter's gradient."""
        slopes = self.slopes(time) if slopes is None else slopes
        if len(self.cell.parameters[name]) < 2:
            return slopes[parameter(name)]
        total: Any = ZERO
        for pair in (backward or self.backward).matrices[name]:
            d, operand = slopes[pair.source], self.node(pair.operand, time)
            a, b = (operand, d) if pair.transposed else (d, operand)
            total = plus(total, times(a, b, self.domain.outer))
        return total

    def accumulated(self, name: str, time: Time) -> Any:
        """What this step and all later ones add to a parameter's gradient."""
        place = self.place(time)
        if place in ("before", "start", "after"):
            return ZERO if place == "after" else UNDEFINED
        later = self.moved(time, 1)
        if place == "inside" and self.ends(time):
            return plus(self.gradient(name, time), self.rest(name, later))
        return self.remembered(
            ("accumulated", name, time), lambda: plus(self.gradient(name, time), self.accumulated(name, later))
        )

    def collected(self, name: str, time: Time) -> Any:
        """What this step and all earlier ones add to a parameter's gradient."""
        place = self.place(time)
        if place in ("before", "start", "after"):
            return ZERO if place != "after" else UNDEFINED
        if self.begins(time):
            return self.rest(name, time)
        return plus(self.gradient(name, time), self.collected(name, self.moved(time, -1)))

    def begins(self, time: Time) -> bool:
        """Whether what happened up to this time is not looked into."""
        return False

    def rest(self, name: str, time: Time) -> Any:
        """What the steps outside of the window add to a parameter's gradient."""
        raise NotImplementedError

    # -------------------------------------------------------------------------------------------------------- Jacobians

    def jacobian(self, of: str, time: Time, by: str, earlier: Time, distance: int) -> Any:
        """The derivative of one vector by another, ``distance`` steps earlier."""
        if distance < 0 or UNDEFINED in (self.forward(of, time), self.forward(by, earlier)):
            return ZERO if distance < 0 else UNDEFINED
        arriving: dict[Symbol, Any] = {at(of): self.same_size(self.program.axes[at(of)])}
        if self.place(time) == "start":
            return arriving[at(of)] if of == by and distance == 0 else ZERO
        for back in range(distance):
            slopes = self.step_back(arriving, self.moved(time, -back))
            arriving = {at(s): slopes[at(s, -1)] for s in self.cell.states}
        if self.place(earlier) == "start":
            return turned(arriving.get(at(by), ZERO))
        return turned(self.step_back(arriving, earlier)[at(by)])

    def immediate(self, of: str, time: Time, name: str, d: Any) -> Any:
        """d times the immediate derivative of a value by a parameter: its use at this step only."""
        if self.place(time) not in ("inside", "last"):
            return UNDEFINED
        return self.gradient(name, time, self.step_back({at(of): d}, time))
