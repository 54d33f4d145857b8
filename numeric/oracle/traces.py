"""A trace checked line by line: does each value follow from the ones beside it, by the derivation's own line?

    h[t]         from the traced values that its equation reads, h[t-1] included
    dL_dh[t]     from the traced derivatives that flow into it, the next step's included

What a line reads is taken from the trace where it is there, else from the exact values; so a mistake shows in the line
that makes it, and not in those that only pass it on.  A line is computed in balls, and its error counted in units of
its own rounding: that of every local result inside of it, through the true derivatives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sympy import Symbol

from derive.adjoint import Adjoint, Flow, differentiate_step
from derive.balls import precision
from derive.errors import nearest
from derive.notation import at, time_of
from derive.program import Pointwise
from numeric.arguments import Array
from numeric.ball_arrays import BallArithmetic, enclose
from numeric.certify import FIRST, FLINT
from numeric.float_arrays import FloatArithmetic
from numeric.interpret import Interpreter, Values
from numeric.noise import LIMIT
from numeric.noise_program import noise_program
from numeric.oracle.case import Case
from numeric.oracle.criterion import LIMITS
from numeric.tangent import program_of, tangent_terms

__all__ = ["Line", "check_trace", "trace_lines"]


@dataclass(frozen=True)
class Line:
    """A traced value: ``name`` at step ``t``, from 1, off by ``units`` of its own rounding.

    ``index`` is (sequence, entry) of its worst entry; ``computed`` what the line gives there from the values it reads.
    """

    name: str
    t: int
    units: float
    index: tuple[int, int]
    found: float
    computed: float

    @property
    def is_wrong(self) -> bool:
        """Whether the value does not follow from those that its line reads."""
        return not self.units <= LIMIT

    def __str__(self) -> str:
        return (
            f"{self.name} at t = {self.t} does not follow from the values that its line reads: entry "
            f"{list(self.index)} is {self.found!r}, the line gives {self.computed!r} ({self.units:.2g} units)"
        )


def check_trace(case: Case, trace: Mapping[str, Array]) -> tuple[list[Line], list[str]]:
    """The wrong lines, in the order in which a program computes them, and what could not be checked.

    ``trace`` maps names to (T, B, size): states, outputs, intermediates and any node of the derivation's program, and
    their derivatives under ``dL_d`` + name.
    """
    lines, notes = trace_lines(case, trace)
    return [line for line in lines if line.is_wrong], notes


def trace_lines(case: Case, trace: Mapping[str, Array]) -> tuple[list[Line], list[str]]:
    """Every line, right or wrong, as :func:`check_trace` has the wrong ones."""
    return _Trace(case, trace).checked()


class _Trace:
    def __init__(self, case: Case, trace: Mapping[str, Array]) -> None:
        self.case, self.cell, self.problem = case, case.parsed, case.problem
        self.program = program_of(self.cell)
        self.backward = differentiate_step(self.program)
        self.unit = LIMITS[case.dtype]
        self.notes: list[str] = []
        self.forward: dict[Symbol, Array] = {}
        self.derivatives: dict[Symbol, Array] = {}
        self._sort(trace)

    def _sort(self, trace: Mapping[str, Array]) -> None:
        """What is traced, by symbol; the rest is noted."""
        data, nodes = self.problem.data, self.program.node
        for name, x in trace.items():
            derivative = name.startswith("dL_d") and at(name) not in nodes
            symbol = at(name[4:] if derivative else name)
            known = symbol in nodes or (derivative and symbol in self.program.axes)
            if not known:
                names = [time_of(s)[0] for s in nodes]
                near = nearest(time_of(symbol)[0], names)
                self.notes.append(f"the trace {name} is not known{f'; did you mean {near}?' if near else ''}")
                continue
            shape = (data.steps, data.batch, data.sizes[self.program.axes[symbol]])
            if x.shape != shape:
                self.notes.append(f"the trace {name} has shape {x.shape}; expected {shape}")
                continue
            (self.derivatives if derivative else self.forward)[symbol] = x

    # --------------------------------------------------------------------------------------------------------- lines

    def checked(self) -> tuple[list[Line], list[str]]:
        """Forward lines in the order of time, then backward lines against it."""
        if not (self.forward or self.derivatives):
            return [], self.notes
        if self.derivatives and self.problem.truncate is not None:
            self.notes.append("derivatives in the trace of a truncated case belong to no one window; not checked")
            self.derivatives = {}
        with np.errstate(all="ignore"):
            sizes = _Sizes(self)
            with FLINT, precision(FIRST):
                found = list(self._lines(_Local(self, BallArithmetic()), sizes))
        return found, self.notes

    def _lines(self, balls: _Local, sizes: _Sizes) -> Iterator[Line]:
        steps = range(self.problem.data.steps)
        for t in steps:
            for node in (n for n in self.program.nodes if n.symbol in self.forward):
                exact, noise = balls.line(t, node.symbol)[node.symbol], sizes.forward(t, node.symbol)
                yield from self._compared(time_of(node.symbol)[0], t, self.forward[node.symbol][t], exact, noise)
        for t in reversed(steps):
            for symbol in (s for s in self.backward.flows if s in self.derivatives):
                exact, noise = balls.derivative(t, symbol), sizes.derivative(t, symbol)
                name = f"dL_d{time_of(symbol)[0]}"
                yield from self._compared(name, t, self.derivatives[symbol][t], exact, noise)

    def _compared(self, name: str, t: int, found: Array, exact: Any, noise: Array) -> Iterator[Line]:
        error = np.array([abs(float(b - v)) for b, v in zip(exact.entries, enclose(found).entries, strict=True)])
        floor = self.unit.unit * noise.ravel() + self.unit.unit * self.unit.tiny
        units = np.where(error == 0, 0.0, error / floor).reshape(found.shape)
        mask = self.problem.data.mask
        if mask is not None:
            units[~mask[t]] = 0.0
        if units.size:
            where = np.unravel_index(int(np.where(np.isnan(units), np.inf, units).argmax()), units.shape)
            index = (int(where[0]), int(where[1]))
            computed = float(exact.entries[index[0] * found.shape[1] + index[1]].mid())
            yield Line(name, t + 1, float(units[index]), index, float(found[index]), computed)


class _Local(Interpreter):
    """Single lines, from traced values where there are any and from right ones elsewhere."""

    def __init__(self, trace: _Trace, arithmetic: Any) -> None:
        super().__init__(trace.program, trace.problem, arithmetic)
        self.backward, self.now = trace.backward, 0
        self.right = Interpreter(trace.program, trace.problem, arithmetic).run(self.backward)
        self.given, self.given_d = (
            {s: [arithmetic.lift(x[t]) for t in range(self.data.steps)] for s, x in group.items()}
            for group in (trace.forward, trace.derivatives)
        )

    def is_known(self, symbol: Symbol, given: Mapping[Symbol, Any]) -> bool:
        """Whether a line takes a value as it stands: it is traced, or has an equation of its own."""
        return symbol in given or time_of(symbol)[0] in self.cell.equations or symbol not in self.program.node

    # -------------------------------------------------------------------------------------------------------- forward

    def read(self, t: int) -> Values:
        """The values of a step as the trace has them."""
        values = dict(self.right.tape[t])
        for symbol, steps in self.given.items():
            values[symbol] = steps[t]
            before = at(time_of(symbol)[0], -1)
            if before in values and t > 0:
                values[before] = steps[t - 1]
        return values

    def line(self, t: int, target: Symbol) -> Values:
        """The values of a step with the target, and the unnamed nodes between it and what is known, computed anew."""
        values = self.read(t)
        for symbol in self.between(target):
            values.pop(symbol)
        return self.nodes(values, self.program)

    def between(self, target: Symbol) -> set[Symbol]:
        """The target and the unnamed nodes that its line computes on the way."""
        out, todo = {target}, [target]
        while todo:
            for read in self.program.reads(self.program.node[todo.pop()]):
                if not self.is_known(read, self.given) and read not in out:
                    out.add(read)
                    todo.append(read)
        return out

    # ------------------------------------------------------------------------------------------------------- backward

    def derivative(self, t: int, target: Symbol) -> Any:
        """What a backward line gives: from the step itself, from the loss, from the next step."""
        axis, (name, _) = self.program.axes[target], time_of(target)
        terms = list(self.flowing(t, target))
        local = self.local_from(t)
        terms += [local[target]] if target in local else []
        zero = self.zero(axis)
        if name in self.cell.states and t + 1 < self.data.steps:
            terms += [self.masked(t + 1, x, zero) for x in self.flowing(t + 1, at(name, -1))]
        return self.masked(t, sum(terms[1:], terms[0]), zero) if terms else zero

    def flowing(self, t: int, target: Symbol) -> Iterator[Any]:
        """The terms that flow into a derivative at one step."""
        values = self.read(t)
        for flow in self.backward.flows[target]:
            d = {flow.source: self.source(t, flow.source)}
            self.now = t
            yield self.term(flow, values, d, self.program.axes[target])

    def source(self, t: int, symbol: Symbol) -> Any:
        """A derivative as the trace has it, or as it is; an unnamed one between is computed."""
        if symbol in self.given_d:
            return self.given_d[symbol][t]
        if self.is_known(symbol, self.given_d):
            return self.right.d[t][symbol]
        terms = list(self.flowing(t, symbol))
        return sum(terms[1:], terms[0]) if terms else self.zero(self.program.axes[symbol])

    def local_from(self, t: int) -> Values:
        """What the loss gives at a step, of the outputs as the trace has them."""
        kept = self.tape[t]
        self.tape[t] = self.read(t)
        try:
            return {at(root): self.loss_at(t, root)[1] for root in self.losses.full}
        finally:
            self.tape[t] = kept


class _Sizes(_Local):
    """How far a line is moved by the rounding of its own local results, in units of u."""

    def __init__(self, trace: _Trace) -> None:
        super().__init__(trace, FloatArithmetic())
        self.noise = noise_program(self.cell, True)
        self.terms = tangent_terms(self.program)
        self.signed, self.matrices = self.matrices, {n: np.abs(w) for n, w in self.matrices.items()}

    def roundings(self, t: int, values: Values) -> Values:
        """The rounding of every node and factor of a step."""
        read = values | self.noise.numbers
        return dict(self.noise.roundings(read | self.noise.factors(read)))

    def forward(self, t: int, target: Symbol) -> Array:
        """Of a forward line: r(u) = sum |du/dv| r(v) + the rounding of u itself, over what the line computes."""
        sizes, self.matrices = self.matrices, self.signed
        values, inside = self.line(t, target), self.between(target)
        self.matrices = sizes
        own, out = self.roundings(t, values), Values()
        for node in (n for n in self.program.nodes if n.symbol in inside):
            if isinstance(node, Pointwise):
                size = np.abs(np.broadcast_to(own.get(node.symbol, 0.0), self.shape(node.axis)))
                for read, slope in self.terms[node.symbol]:
                    if read in out:
                        size = size + np.abs(self.value(slope, values, node.axis)) * out[read]
            else:
                inner = np.abs(values[node.operand]) + out.get(node.operand, 0.0)
                inner = self.arithmetic.spread(inner, self.shape(self.program.axes[node.operand]))
                size = self.arithmetic.apply(sizes[node.matrix], node.transposed, inner)
            out[node.symbol] = size
        return np.asarray(out[target], np.float64)

    def derivative(self, t: int, target: Symbol) -> Array:
        """Of a backward line: the absolute values of all that is multiplied and added in it, three times."""
        return np.asarray(3 * super().derivative(t, target), np.float64)

    def term(self, flow: Flow, values: Values, d: Values, axis: str | None) -> Array:
        """A term with all signs taken away, its factor larger by its own rounding."""
        size: Any = np.abs(d[flow.source])
        factor = self.noise.factor_of[flow]
        if isinstance(flow, Adjoint):
            size = self.arithmetic.apply(self.matrices[flow.matrix], flow.transposed, size)
        if not isinstance(factor, Symbol):
            return np.asarray(size * abs(factor))
        read = values | self.noise.numbers
        own = self.roundings(0, values).get(factor, 0.0)
        e = flow.scale if isinstance(flow, Adjoint) else flow.factor
        for symbol in e.free_symbols:  # what the line computes on the way to its factor is rounded, too
            if not self.is_known(symbol, self.given):
                own = own + np.abs(self.value(e.diff(symbol), values, None)) * self.forward(self.now, symbol)
        return np.asarray(size * (np.abs(self.noise.factors(read)[factor]) + own))

    def local_from(self, t: int) -> Values:
        """What the loss gives, and what cancels in it."""
        loss, values, out = self.losses, self.read(t), Values()
        for symbol, slope in super().local_from(t).items():
            y = np.abs(values[symbol])
            top = y.max(axis=1, keepdims=True)
            size = {"linear": 0.0, "squared_error": y, "softmax_cross_entropy": 1 + top}[loss.name]
            counted = np.abs(slope) > 0
            out[symbol] = 2 * np.abs(slope) + np.where(counted.any(axis=1, keepdims=True), size, 0.0) / loss.count
        return out
