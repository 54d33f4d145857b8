"""A cell's derivation interpreted over arrays of any kind of number: plain, step by step, with nothing rearranged.

    forward      the nodes of every step
    backward     at each step, last first:  d v = sum over the flows into v
    gradients    a parameter's terms, summed over steps and sequences

The arithmetic decides what numbers are: float64, the processor's longer floats (:mod:`numeric.extended`), or balls that
enclose the exact value (:mod:`numeric.ball_arrays`).  The backward program, and the loop over time, may be wrong ones:
what a known mistake gives is computed here, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from sympy import Expr, Symbol

from derive.adjoint import Adjoint, Backward, Flow, Outer
from derive.algebra import evaluate
from derive.notation import at, parameter, time_of
from derive.program import Pointwise, Program
from numeric.arguments import Array, Data
from numeric.losses import Loss
from numeric.problem import Problem
from numeric.truncated import Window, windows

__all__ = ["Arithmetic", "Interpreted", "Interpreter", "Values", "counted"]

Values = dict[Symbol, Any]


class Arithmetic(Protocol):
    """What an array of numbers is, beyond the signs + - * / and powers, which are the arrays' own.

    Arrays have shape (B, size), or (size,) or () for what is the same in every sequence.
    """

    def lift(self, x: Array) -> Any:
        """The exact values of a float array."""

    def number(self, value: Expr) -> Any:
        """A rational number or pi."""

    def call(self, name: str, x: Any) -> Any:
        """A function of the cell language, or one of its derivatives."""

    def matrix(self, x: Array) -> Any:
        """A parameter that :meth:`apply` takes."""

    def apply(self, matrix: Any, transposed: bool, rows: Any) -> Any:
        """W r, or W.T r, for every row r."""

    def outer(self, left: Sequence[Any], right: Sequence[Any]) -> Any:
        """The sum of l r.T over all rows of all steps, (columns of left, columns of right)."""

    def spread(self, x: Any, shape: tuple[int, int]) -> Any:
        """``x`` as (B, size)."""

    def over_batch(self, rows: Any) -> Any:
        """The sum of the rows of (B, size)."""

    def total(self, x: Any) -> Any:
        """The sum of all entries."""

    def select(self, chosen: Array, x: Any, other: Any) -> Any:
        """The rows of ``x`` where ``chosen``, (B,), elsewhere those of ``other``, both (B, size)."""

    def loss(self, name: str, y: Any, given: Array) -> tuple[Any, Any]:
        """Each row's loss (B, 1), not divided by any count, and its gradient by y (B, size)."""

    def stack(self, steps: Sequence[Any]) -> Any:
        """(B, size) at T steps as (T, B, size)."""


@dataclass(frozen=True)
class Interpreted:
    """What a pass gives, in the arithmetic's own arrays.

    ``gradients`` go by names of parameters, inputs (T, B, size), and initial states with a ``0``; ``outputs`` are the
    outputs and states (T, B, size), with states of ended sequences as they were and outputs zero there.  ``tape`` holds
    every node at every step, ``d`` the derivative by every node.
    """

    loss: Any
    gradients: dict[str, Any]
    outputs: dict[str, Any]
    tape: Sequence[Values] = field(repr=False, default=())
    d: Sequence[Values] = field(repr=False, default=())


def counted(loss: Loss, data: Data, t: int) -> Array:
    """(B,), whether a sequence's loss at step t, from 0, counts."""
    if loss.at == "last":
        ends = np.full(data.batch, data.steps) if data.lengths is None else data.lengths
        return ends == t + 1
    return np.ones(data.batch, bool) if data.mask is None else data.mask[t]


class Interpreter:
    """One problem in one arithmetic; the forward pass is run once, backward programs as often as asked for."""

    def __init__(self, program: Program, problem: Problem, arithmetic: Arithmetic) -> None:
        self.program, self.problem, self.arithmetic = program, problem, arithmetic
        self.cell, self.data, self.losses = program.cell, problem.data, problem.loss
        data = self.data
        self.matrices = {n: arithmetic.matrix(p) for n, p in data.params.items() if p.ndim == 2}
        self.constants: Values = {parameter(n): arithmetic.lift(p) for n, p in data.params.items() if p.ndim < 2}
        self.inputs = [{at(n): arithmetic.lift(x[t]) for n, x in data.inputs.items()} for t in range(data.steps)]
        self.initial = {n: arithmetic.lift(s) for n, s in data.initial.items()}

    # -------------------------------------------------------------------------------------------------------- forward

    def value(self, e: Expr, values: Values, axis: str | None) -> Any:
        """An entrywise expression at one step, (B, size); () without an axis."""
        found = evaluate(e, values.__getitem__, self.arithmetic)
        return self.arithmetic.spread(found, self.shape(axis)) if axis else found

    def shape(self, axis: str) -> tuple[int, int]:
        """(B, size)."""
        return self.data.batch, self.data.sizes[axis]

    def nodes(self, values: Values, program: Program) -> Values:
        """Add the nodes of a step to what they are computed from."""
        arithmetic = self.arithmetic
        for node in (n for n in program.nodes if n.symbol not in values):
            if isinstance(node, Pointwise):
                values[node.symbol] = self.value(node.expression, values, node.axis)
            else:
                operand = arithmetic.spread(values[node.operand], self.shape(program.axes[node.operand]))
                values[node.symbol] = arithmetic.apply(self.matrices[node.matrix], node.transposed, operand)
        return values

    @cached_property
    def tape(self) -> list[Values]:
        """Every node at every step; padding of ragged sequences has the values that the last state gives there."""
        data, out, previous = self.data, [], dict(self.initial)
        for t in range(data.steps):
            values = self.constants | self.inputs[t] | {at(n, -1): s for n, s in previous.items()}
            values = self.nodes(values, self.program)
            if data.mask is not None:
                values |= {at(n): self.arithmetic.select(data.mask[t], values[at(n)], s) for n, s in previous.items()}
            previous = {n: values[at(n)] for n in previous}
            out.append(values)
        return out

    @cached_property
    def outputs(self) -> dict[str, Any]:
        """Outputs and states at every step."""
        out = {}
        for name in (*self.cell.outputs, *self.cell.states):
            zero = self.zero(self.cell.axes[name])
            masked = self.data.mask is not None and name in self.cell.outputs
            steps = [v[at(name)] for v in self.tape]
            if masked:
                steps = [self.masked(t, y, zero) for t, y in enumerate(steps)]
            out[name] = self.arithmetic.stack(steps)
        return out

    def zero(self, axis: str) -> Any:
        """Zeros (B, size)."""
        return self.arithmetic.lift(np.zeros(self.shape(axis)))

    def masked(self, t: int, x: Any, zero: Any) -> Any:
        """Zero at padding."""
        return x if self.data.mask is None else self.arithmetic.select(self.data.mask[t], x, zero)

    @cached_property
    def local(self) -> tuple[Any, list[Values]]:
        """The loss, and at each step what it gives the outputs and states that it reads."""
        value, slopes = self.arithmetic.lift(np.zeros(())), []
        for t in range(self.data.steps):
            here: Values = {}
            for root in self.losses.full:
                cost, here[at(root)] = self.loss_at(t, root)
                value = value + self.arithmetic.total(cost)
            slopes.append(here)
        return value / self.losses.count, slopes

    def loss_at(self, t: int, root: str) -> tuple[Any, Any]:
        """The loss of each sequence (B, 1) that counts at one step, zero for others, and its divided gradient."""
        loss, arithmetic = self.losses, self.arithmetic
        full = loss.full[root]
        chosen = counted(loss, self.data, t)
        zero = self.zero(self.cell.axes[root])
        if not chosen.any():
            return arithmetic.lift(np.zeros((self.data.batch, 1))), zero
        given = full if loss.at == "last" else full[t]
        cost, slope = arithmetic.loss(loss.name, self.tape[t][at(root)], given)
        nothing = arithmetic.lift(np.zeros((self.data.batch, 1)))
        return arithmetic.select(chosen, cost, nothing), arithmetic.select(chosen, slope / loss.count, zero)

    # ------------------------------------------------------------------------------------------------------- backward

    def run(self, backward: Backward) -> Interpreted:
        """Everything for a backward program, truncated where the problem says so."""
        loss, local = self.local
        window = Window(0, 0, self.data.steps)
        parts = windows(self.data.steps, *self.problem.truncate) if self.problem.truncate else [window]
        found: list[tuple[int, list[Values]]] = []
        sums: dict[str, Any] = {}
        for part in parts:
            own = [here if t >= part.first else {} for t, here in enumerate(local)]
            d = self.sweep(backward, self.tape, own, part.start, part.stop)
            found.append((part.start, d))
            for name, x in self.gradients(backward, self.tape, d, part.start).items():
                sums[name] = sums[name] + x if name in sums else x
        d = found[0][1] if len(found) == 1 else []
        return Interpreted(loss, sums, self.outputs, self.tape, d)

    def sweep(
        self, backward: Backward, tape: Sequence[Values], local: Sequence[Values], start: int, stop: int
    ) -> list[Values]:
        """The derivative by every symbol at steps ``start`` to ``stop``, not included; nothing is carried in."""
        carried = {n: self.zero(self.cell.axes[n]) for n in self.cell.states}
        out: list[Values] = []
        for t in reversed(range(start, stop)):
            d = self.step(backward, t, tape[t], local[t], carried)
            carried = self.handed(t, d, carried)
            out.append(d)
        return out[::-1]

    def handed(self, t: int, d: Values, carried: Mapping[str, Any]) -> dict[str, Any]:
        """What a step hands to the step before; where a sequence has ended, what came in."""
        found = {n: d[at(n, -1)] for n in carried}
        if self.data.mask is None:
            return found
        return {n: self.arithmetic.select(self.data.mask[t], x, carried[n]) for n, x in found.items()}

    def step(self, backward: Backward, t: int, values: Values, local: Values, carried: Mapping[str, Any]) -> Values:
        """d of every node, input and previous state at one step."""
        axes, d = backward.program.axes, Values()
        nodes = backward.program.node
        for target, flows in backward.flows.items():
            name, shift = time_of(target)
            if shift is None:
                continue
            terms = [self.term(f, values, d, axes[target]) for f in flows]
            if shift == 0 and target in nodes:
                terms += [local[target]] if target in local else []
                terms += [carried[name]] if name in carried else []
            zero = self.zero(axes[target])
            d[target] = self.masked(t, sum(terms[1:], terms[0]), zero) if terms else zero
        return d

    def term(self, flow: Flow, values: Values, d: Values, axis: str | None) -> Any:
        """What one flow brings, (B, size)."""
        if isinstance(flow, Adjoint):
            brought = self.arithmetic.apply(self.matrices[flow.matrix], flow.transposed, d[flow.source])
            return brought if flow.scale == 1 else brought * self.value(flow.scale, values, axis)
        return d[flow.source] if flow.factor == 1 else d[flow.source] * self.value(flow.factor, values, None)

    def gradients(self, backward: Backward, tape: Sequence[Values], d: Sequence[Values], start: int) -> dict[str, Any]:
        """Sums over the steps from ``start`` on; inputs' and initial states' gradients, zero elsewhere."""
        arithmetic, cell, steps = self.arithmetic, self.cell, range(start, start + len(d))
        out: dict[str, Any] = {}
        for name, shape in cell.parameters.items():
            if len(shape) == 2:
                out[name] = self.matrix_sum(backward.matrices.get(name, ()), tape, d, start, shape)
            else:
                out[name] = self.vector_sum(backward.flows[parameter(name)], tape, d, start, shape)
        for name in cell.inputs:
            rows = [self.zero(cell.axes[name])] * self.data.steps
            rows[start : steps.stop] = [x[at(name)] for x in d]
            out[name] = arithmetic.stack(rows)
        first = self.first_carried(d) if start == 0 and d else {}
        for name in cell.states:
            out[f"{name}0"] = first.get(name, self.zero(cell.axes[name]))
        return out

    def first_carried(self, d: Sequence[Values]) -> dict[str, Any]:
        """What step 1 hands to the initial states; every sequence has a step 1."""
        return {n: d[0][at(n, -1)] for n in self.cell.states}

    def matrix_sum(
        self, pairs: Sequence[Outer], tape: Sequence[Values], d: Sequence[Values], start: int, shape: Sequence[str]
    ) -> Any:
        """The sum of outer products of a matrix over steps and sequences."""
        total = None
        for pair in pairs:
            left = [x[pair.source] for x in d]
            size = shape[0] if pair.transposed else shape[1]
            right = [self.arithmetic.spread(tape[start + t][pair.operand], self.shape(size)) for t in range(len(d))]
            term = self.arithmetic.outer(right, left) if pair.transposed else self.arithmetic.outer(left, right)
            total = term if total is None else total + term
        if total is None:
            total = self.arithmetic.lift(np.zeros([self.data.sizes[x] for x in shape]))
        return total

    def vector_sum(
        self, flows: Sequence[Flow], tape: Sequence[Values], d: Sequence[Values], start: int, shape: Sequence[str]
    ) -> Any:
        """The sum of a vector's or a scalar's terms over steps, sequences and, for a scalar, entries."""
        arithmetic = self.arithmetic
        axis = shape[0] if shape else None
        total = arithmetic.lift(np.zeros([self.data.sizes[x] for x in shape]))
        for k, here in enumerate(d):
            for flow in flows:
                rows = self.term(flow, tape[start + k], here, axis)
                total = total + (arithmetic.over_batch(rows) if axis else arithmetic.total(rows))
        return total
