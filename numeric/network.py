"""What is true of a cell at the values of a forward pass, for a batch of sequences of one length.

A time is the number of a step, or a :class:`Span` of steps at once, over which a sum over time is one operation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sympy import Integer, Symbol

from derive.adjoint import Backward
from derive.handwritten.truth import LossRead, Truth
from derive.handwritten.values import UNDEFINED, ZERO, turned
from derive.notation import at
from derive.program import Node, Pointwise
from numeric.arguments import Array
from numeric.batches import Mat, Vec, WideError
from numeric.compile import compile_steps
from numeric.domain import Batches
from numeric.functions import FUNCTIONS
from numeric.tape import Tape

__all__ = ["Network", "Sequences", "Span", "Values"]


class Span(NamedTuple):
    """The steps from ``first`` to ``last``, both counted."""

    first: int
    last: int


# ---------------------------------------------------------------------------------------------------------- the values


class Values:
    """Every value of a cell's program at all steps, (T, B, n), from what a forward pass has left."""

    def __init__(self, backward: Backward, tape: Tape) -> None:
        self.program, self.data, self.slabs = backward.program, tape.data, tape.states
        self.whole = dict(tape.whole)

    def of(self, symbol: Symbol) -> Array:
        """A node, an input or a state at steps 1..T, computed with what it needs where the pass did not keep it."""
        if symbol not in self.whole:
            needed = {symbol}
            for node in reversed(self.program.nodes):
                if node.symbol in needed and node.symbol not in self.whole:
                    needed.update(self.program.reads(node))
            for node in self.program.nodes:
                if node.symbol in needed and node.symbol not in self.whole:
                    self.whole[node.symbol] = self.computed(node)
        return self.whole[symbol]

    def computed(self, node: Node) -> Array:
        """A node from what it reads."""
        data = self.data
        if isinstance(node, Pointwise):
            reads = self.program.reads(node)
            kernel = compile_steps(reads, ((node.symbol, node.expression),), (node.symbol,))
            (value,) = kernel(*(self.whole[s] for s in reads))
        else:
            w = data.params[node.matrix]
            value = self.whole[node.operand] @ (w if node.transposed else w.T)
        return np.broadcast_to(np.asarray(value, data.dtype), (data.steps, data.batch, data.sizes[node.axis]))


@dataclass(frozen=True)
class Sequences:
    """Sequences of one length, ``which`` of the batch; ``slopes`` is what the loss gives each root, (T, B, n).

    ``target`` is (T, B, n) or None; ``last`` says that only the last step counts.
    """

    values: Values
    steps: int
    which: Array
    slopes: Mapping[str, Array]
    target: Array | None
    last: bool

    def cut(self, whole: Array) -> Array:
        """The part of an array (T, B, n) that these sequences have."""
        every = len(self.which) == whole.shape[1]
        return whole[: self.steps] if every else whole[: self.steps, self.which]


class Network(Truth):
    """Truths about a cell at the values of a forward pass, for a batch of sequences of one length."""

    domain: Batches

    def __init__(self, backward: Backward, loss: LossRead, sequences: Sequences) -> None:
        data = sequences.values.data
        super().__init__(backward, loss, Batches(data.dtype, data.sizes))
        self.sequences, self.data, self.count, self.batch = sequences, data, sequences.steps, len(sequences.which)
        self.arrays: dict[Any, Array] = {}
        self.chain: tuple[Any, int, dict[Symbol, Any]] = (None, 0, {})

    # ---------------------------------------------------------------------------------------------------------- time

    def moved(self, time: Any, by: int) -> Any:
        """A time ``by`` steps later."""
        return Span(time.first + by, time.last + by) if isinstance(time, Span) else time + by

    def place(self, time: Any) -> str:
        """before, start, inside, last or after the sequence; a span counts as inside."""
        if isinstance(time, Span):
            return "inside"
        if time <= 0:
            return "start" if time == 0 else "before"
        return "inside" if time < self.count else "last" if time == self.count else "after"

    def ends(self, time: Any) -> bool:
        """Nothing is free: the sequence itself ends."""
        return False

    def steps(self) -> Vec:
        """T."""
        return self.domain.number(Integer(self.count))

    def rows(self, array: Array, time: Any, first: int = 1) -> Vec:
        """The part of an array whose first row is step ``first``."""
        if not isinstance(time, Span):
            return Vec(array[time - first])
        if time.first < first or time.last > self.count:
            raise WideError
        return Vec(array[time.first - first : time.last - first + 1])

    # -------------------------------------------------------------------------------------------------------- leaves

    def array(self, key: Any, whole: Callable[[], Array]) -> Array:
        """An array of all steps cut to these sequences, once."""
        if key not in self.arrays:
            self.arrays[key] = self.sequences.cut(whole())
        return self.arrays[key]

    def forward(self, name: str, time: Any) -> Any:
        """The value of a name, or of a node of the program."""
        if name in self.cell.states:
            if self.place(time) in ("before", "after"):
                return UNDEFINED
            return self.rows(self.slab(name), time, 0)
        if self.place(time) not in ("inside", "last"):
            return UNDEFINED
        return self.rows(self.array(name, lambda: self.sequences.values.of(at(name))), time)

    def slab(self, name: str) -> Array:
        """A state with its initial value, (T + 1, B, n)."""
        if name not in self.arrays:
            whole = self.sequences.values.slabs[name]
            part = whole[: self.count + 1]
            self.arrays[name] = part if self.batch == whole.shape[1] else part[:, self.sequences.which]
        return self.arrays[name]

    def state_leaf(self, name: str, time: Any) -> Any:
        """A state's value."""
        return self.forward(name, time)

    def leaf(self, role: str, name: str, time: Any) -> Any:
        """The softmax of an output, or the target."""
        if role == "softmax":
            return self.rows(self.array((role, name), lambda: self.probabilities(name)), time)
        target = self.sequences.target
        if role != "target" or target is None:
            raise TypeError(f"no {role} of {name}")
        return self.rows(self.array(role, lambda: target), time)

    def probabilities(self, name: str) -> Array:
        """exp(y) / sum exp(y), from the largest entry on, so that nothing overflows."""
        y = self.sequences.values.of(at(name))
        e = FUNCTIONS["exp"](y - y.real.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def value_of(self, name: str) -> Any:
        """A parameter."""
        p = self.data.params[name]
        return Mat(p) if p.ndim == 2 else Vec(p) if p.ndim else Vec(p.reshape(1), scalar=True)

    def from_loss(self, time: Any) -> dict[Symbol, Any]:
        """What the loss gives each output, or state, at a time."""
        place, last = self.place(time), self.sequences.last
        if place not in ("inside", "last") or (last and place != "last" and not isinstance(time, Span)):
            return {}
        slopes = self.sequences.slopes
        return {at(n): self.rows(self.array(("loss", n), lambda: slopes[n]), time) for n in slopes}  # noqa: B023

    # --------------------------------------------------------------------------------------------- derived quantities

    def local(self, name: str, time: Any) -> Any:
        """The derivative of the loss term of a step by a value of that step: found for all steps at once."""
        if self.place(time) not in ("inside", "last"):
            return ZERO
        if self.sequences.last and isinstance(time, int) and time != self.count:
            return ZERO
        every = Span(1, self.count)
        found = self.remembered("local", lambda: self.step_back(self.from_loss(every), every))[at(name)]
        return found if found is ZERO else self.rows(found.array, time)

    def truncated(self, name: str, time: Any, steps: int) -> Any:
        """The derivative by a name that counts the losses of ``steps`` steps only."""
        if isinstance(time, Span):
            raise WideError
        return super().truncated(name, time, steps)

    def jacobian(self, of: str, time: Any, by: str, earlier: Any, distance: int) -> Any:
        """The derivative of one vector by another; a chain of steps goes on where the one before it ended."""
        if isinstance(time, Span) or isinstance(earlier, Span):
            raise WideError
        if distance <= 1 or earlier < 0 or self.place(time) in ("start", "after"):
            return super().jacobian(of, time, by, earlier, distance)
        if earlier == 0 and by not in self.cell.states:
            return UNDEFINED
        if self.chain[0] != (of, time) or self.chain[1] > distance:
            self.chain = ((of, time), 0, {at(of): self.same_size(self.program.axes[at(of)])})
        _, done, arriving = self.chain
        for back in range(done, distance):
            slopes = self.step_back(arriving, time - back)
            arriving = {at(s): slopes[at(s, -1)] for s in self.cell.states}
        self.chain = ((of, time), distance, arriving)
        if earlier == 0:
            return turned(arriving.get(at(by), ZERO))
        return turned(self.step_back(arriving, earlier)[at(by)])
