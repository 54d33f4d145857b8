"""A forward and a backward pass with noise on every local result, for several runs at once.

Values have axes (runs, B, size) at one step.  The pass without noise says how large the noise is: the rounding of each
local result at the values that are right.  Nothing here is fast for its own sake, but nothing is done run by run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from sympy import Symbol

from derive.adjoint import Adjoint, Flow
from derive.notation import at, parameter, time_of
from derive.program import Product
from numeric.arguments import Array, Data
from numeric.loss_rounding import loss_rounding
from numeric.losses import Loss, evaluate_loss
from numeric.nodewise import Values, apply, frozen
from numeric.noise_program import NoiseProgram
from numeric.operations import d_of, local_of
from numeric.truncated import Window, windows

__all__ = ["EPSILON", "Clean", "NoisyPass"]

#: The size of the noise: far above the rounding of the runs themselves, far below what bends the program.
EPSILON = 2.0**-30

Gradients = dict[str, Array]
_Sizes = dict[Symbol, dict[int, Array]]
Jitter = Callable[[Symbol, int], Any]


@dataclass(frozen=True)
class Clean:
    """The pass without noise: its loss, its gradients, their magnitudes, and the size of each local result's noise.

    The magnitude of an entry is what it would be if no two terms of one step cancelled.  ``sizes`` are (T, B, size), or
    without the first two axes for what is the same at every step.
    """

    loss: float
    gradients: Gradients
    magnitude: Gradients
    sizes: Mapping[Symbol, Array]


def _moved(jitter: Jitter, t: int) -> Callable[[Symbol, Any], Any]:
    return lambda symbol, value: value + jitter(symbol, t)


def _silent(symbol: Symbol, t: int) -> float:
    return 0.0


class NoisyPass:
    """The program of a cell at one point; ``data`` is in float64."""

    def __init__(self, program: NoiseProgram, data: Data, loss: Loss, truncate: tuple[int, int] | None = None) -> None:
        self.program, self.data, self.loss = program, data, loss
        whole = Window(0, 0, data.steps)
        self.windows = tuple(windows(data.steps, *truncate)) if truncate else (whole,)
        self.observed = (*program.cell.outputs, *program.cell.states)
        self.clean = self._clean()

    # ---------------------------------------------------------------------------------------------------- with noise

    def run(
        self, runs: int, random: np.random.Generator, *, observe: bool = False
    ) -> tuple[Array, Gradients, Gradients]:
        """The losses (runs,), gradients and, where ``observe``, outputs and states (runs, ...) of runs with noise."""
        sizes, fixed, drawn = self.clean.sizes, self.program.fixed, {}

        def jitter(symbol: Symbol, t: int) -> Any:
            if symbol not in sizes:
                return 0.0
            if symbol in fixed:
                if symbol not in drawn:
                    lead = (runs, 1, sizes[symbol].shape[-1] if sizes[symbol].ndim else 1)
                    drawn[symbol] = EPSILON * random.standard_normal(lead, np.float32) * sizes[symbol]
                return drawn[symbol]
            size = sizes[symbol][t]
            return EPSILON * random.standard_normal((runs, *size.shape), np.float32) * size

        roots = {at(n) for n in (self.observed if observe else self.loss.given)}
        tape = self.forward(runs, jitter, self.program.stored | roots)
        losses, local = self.losses(tape, runs)
        for name, slope in local.items():
            for t in range(self.data.steps):
                slope[:, t] += jitter(local_of(at(name)), t)
        gradients = self.backward(tape, local, runs, jitter)
        for name in self.data.params:
            size = self.clean.magnitude[name]
            gradients[name] += EPSILON * random.standard_normal((runs, *size.shape), np.float32) * size
        return losses, gradients, self.stacked(tape, runs, self.observed) if observe else {}

    # ------------------------------------------------------------------------------------------------------- forward

    def outputs(self) -> dict[str, Array]:
        """Outputs and states without noise, (T, B, size)."""
        tape = self.forward(1, _silent, {at(n) for n in self.observed})
        return {n: y[0] for n, y in self.stacked(tape, 1, self.observed).items()}

    def forward(self, runs: int, jitter: Jitter, wanted: Set[Symbol]) -> list[Values]:
        """The wanted values of every step."""
        data, program, tape = self.data, self.program, []
        constants = program.nodes.constants(data)
        constants |= {s: c + jitter(s, 0) for s, c in program.numbers.items()}
        previous = {n: np.broadcast_to(s, (runs, *s.shape)) for n, s in data.initial.items()}
        for t in range(data.steps):
            values = constants | {at(n, -1): s for n, s in previous.items()}
            values |= {at(n): x[t] for n, x in data.inputs.items()}
            values = program.nodes.step(data, values, _moved(jitter, t))
            values |= {s: f + jitter(s, t) for s, f in program.factors(values).items()}
            previous = {n: frozen(data, t, values[at(n)], s) for n, s in previous.items()}
            values |= {at(n): s for n, s in previous.items()}
            tape.append({s: v for s, v in values.items() if s in wanted})
        return tape

    def losses(self, tape: list[Values], runs: int) -> tuple[Array, dict[str, Array]]:
        """The loss of every run (runs,), and its gradients by the roots (runs, T, B, size)."""
        outputs = self.stacked(tape, runs, self.loss.given)
        found = [evaluate_loss(self.loss, {n: y[k] for n, y in outputs.items()}) for k in range(runs)]
        return np.array([value for value, _ in found]), {n: np.stack([d[n] for _, d in found]) for n in outputs}

    def stacked(self, tape: list[Values], runs: int, names: Iterable[str]) -> dict[str, Array]:
        """Values by name, (runs, T, B, size)."""
        data, axes = self.data, self.program.cell.axes
        shapes = {n: (runs, data.batch, data.sizes[axes[n]]) for n in names}
        return {n: np.stack([np.broadcast_to(v[at(n)], shape) for v in tape], 1) for n, shape in shapes.items()}

    # ------------------------------------------------------------------------------------------------------ backward

    def backward(self, tape: list[Values], local: Mapping[str, Array], runs: int, jitter: Jitter) -> Gradients:
        """The gradients of every run, by names of parameters, inputs, and initial states with a 0."""
        sums = self.empty(runs)
        for window in self.windows:
            carried = self.nothing(runs)
            for t in reversed(range(window.start, window.stop)):
                d = self.step(t, tape[t], self.counted(window, t, local), carried, jitter)
                self.accumulate(t, tape[t], d, sums)
                carried = {n: d[at(n, -1)] for n in carried}
            if window.start == 0:
                for n, s in carried.items():
                    sums[f"{n}0"] = sums[f"{n}0"] + s if f"{n}0" in sums else s
        return sums

    def nothing(self, runs: int) -> Gradients:
        """What the last step of a window is handed."""
        return {n: np.zeros((runs, *s.shape)) for n, s in self.data.initial.items()}

    @staticmethod
    def counted(window: Window, t: int, local: Mapping[str, Array]) -> dict[str, Array]:
        """What the loss gives at one step, where the window counts it."""
        return {n: slope[:, t] for n, slope in local.items()} if t >= window.first else {}

    def empty(self, runs: int) -> Gradients:
        """Zeros for parameters and inputs."""
        return {n: np.zeros((runs, *x.shape)) for n, x in {**self.data.params, **self.data.inputs}.items()}

    def step(
        self, t: int, values: Values, local: Mapping[str, Array], carried: Mapping[str, Array], jitter: Jitter
    ) -> Values:
        """d of every symbol that is no parameter, at one step."""
        d: Values = {}
        for target, flows in self.program.backward.flows.items():
            if time_of(target)[1] is not None:
                terms = [*self.arriving(target, local, carried), *(self.term(f, values, d) for f in flows)]
                d[target] = self.whole(t, target, terms, carried) + jitter(d_of(target), t)
                d[target] = self.masked(t, d[target])
        return d

    def arriving(self, target: Symbol, local: Mapping[str, Array], carried: Mapping[str, Array]) -> list[Array]:
        """What a node receives from the loss and from the next step."""
        name, shift = time_of(target)
        if shift != 0 or target not in self.program.program.node:
            return []
        return [group[name] for group in (local, carried) if name in group]

    def term(self, flow: Flow, values: Values, d: Values, of: Callable[[Any], Any] = np.asarray) -> Array:
        """What one flow brings."""
        factor = self.program.factor_of[flow]
        scale = of(values[factor] if isinstance(factor, Symbol) else factor)
        if isinstance(flow, Adjoint):
            return apply(of(self.data.params[flow.matrix]), flow.transposed, d[flow.source]) * scale
        return scale * d[flow.source]

    def whole(self, t: int, target: Symbol, terms: list[Array], like: Mapping[str, Array]) -> Array:
        """The sum of terms, (runs, B, size)."""
        runs = len(next(iter(like.values())))
        shape = (runs, self.data.batch, self.data.sizes[self.program.program.axes[target]])
        return np.broadcast_to(sum(terms[1:], terms[0]), shape) if terms else np.zeros(shape)

    def masked(self, t: int, x: Array) -> Array:
        """Zero at padding, where a value may be anything."""
        return x if self.data.mask is None else np.where(self.data.mask[t][:, None], x, 0)

    def accumulate(
        self, t: int, values: Values, d: Values, sums: Gradients, of: Callable[[Any], Any] = np.asarray
    ) -> None:
        """Add one step's terms to the gradients of parameters, and set those of inputs."""
        backward, data = self.program.backward, self.data
        for name, x in data.inputs.items():
            sums[name][:, t] += np.broadcast_to(d[at(name)], (len(sums[name]), *x.shape[1:]))
        for name, p in data.params.items():
            for flow in backward.flows[parameter(name)] if p.ndim < 2 else ():
                terms = self.masked(t, self.term(flow, values, d, of))
                sums[name] += terms.sum(axis=-2 if p.ndim else (-2, -1))
            for pair in backward.matrices.get(name, ()):
                rows, operand = d[pair.source], of(values[pair.operand])
                operand = self.masked(t, np.broadcast_to(operand, (*rows.shape[:-1], operand.shape[-1])))
                product = np.swapaxes(rows, -1, -2) @ operand
                sums[name] += np.swapaxes(product, -1, -2) if pair.transposed else product

    # ------------------------------------------------------------------------------------------------- without noise

    def _clean(self) -> Clean:
        program = self.program
        every = {*program.program.axes, *program.fixed, *program.stored}
        tape = self.forward(1, _silent, frozenset(every))
        (loss,), local = self.losses(tape, 1)
        sizes = self._forward_sizes(tape)
        outputs = {n: np.stack([np.broadcast_to(v[at(n)], local[n][:, 0].shape)[0] for v in tape]) for n in local}
        sizes |= {local_of(at(n)): size for n, size in loss_rounding(self.loss, outputs).items()}
        gradients, magnitude, own = self._backward_sizes(tape, local)
        return Clean(float(loss), gradients, magnitude, sizes | own)

    def _forward_sizes(self, tape: list[Values]) -> dict[Symbol, Array]:
        """The rounding of nodes, factors and numbers."""
        data, program = self.data, self.program
        lead, first = (data.steps, data.batch), tape[0]
        values = {s: v.reshape(-1, v.shape[-1])[0] if np.ndim(v) else v for s, v in first.items() if s in program.fixed}
        for s in first.keys() - values.keys():
            shape = (1, data.batch, first[s].shape[-1])
            values[s] = np.concatenate([np.broadcast_to(v[s], shape) for v in tape])
        out = {s: np.asarray(abs(c)) for s, c in program.numbers.items()}
        for s, found in program.roundings(values).items():
            size = np.asarray(found, np.float64)
            out[s] = size if s in program.fixed else np.broadcast_to(size, (*lead, *(size.shape[-1:] or (1,))))
        for node in (n for n in program.program.nodes if isinstance(n, Product)):
            out[node.symbol] = apply(np.abs(data.params[node.matrix]), node.transposed, np.abs(values[node.operand]))
        return out

    def _backward_sizes(
        self, tape: list[Values], local: Mapping[str, Array]
    ) -> tuple[Gradients, Gradients, dict[Symbol, Array]]:
        """Gradients, their magnitudes, and the rounding of every d."""
        gradients, magnitude = self.empty(1), self.empty(1)
        gradients |= {f"{n}0": x for n, x in self.nothing(1).items()}
        magnitude |= {f"{n}0": x for n, x in self.nothing(1).items()}
        out: _Sizes = {}
        for window in self.windows:
            carried, whole = self.nothing(1), Values()
            for t in reversed(range(window.start, window.stop)):
                here = self.counted(window, t, local)
                d = self.step(t, tape[t], here, carried, _silent)
                whole = self._absolute(t, tape[t], here, carried, d, out)
                self.accumulate(t, tape[t], d, gradients)
                self.accumulate(t, tape[t], whole, magnitude, np.abs)
                carried = {n: d[at(n, -1)] for n in carried}
            for n in carried if window.start == 0 else ():
                gradients[f"{n}0"] = gradients[f"{n}0"] + carried[n]
                magnitude[f"{n}0"] = magnitude[f"{n}0"] + whole[at(n, -1)]
        sizes = {s: np.stack([found[t] for t in range(self.data.steps)]) for s, found in out.items()}
        alone = [{n: x[0] for n, x in group.items()} for group in (gradients, magnitude)]
        return alone[0], alone[1], {s: size for s, size in sizes.items() if size.any()}

    def _absolute(self, t: int, values: Values, local: Gradients, carried: Gradients, d: Values, out: _Sizes) -> Values:
        """Sums of absolute values in place of d; ``out`` gets the rounding of each d."""
        sizes = {s: np.abs(x) for s, x in d.items()}
        whole: Values = {}
        for target, flows in self.program.backward.flows.items():
            if time_of(target)[1] is None:
                continue
            arriving = [np.abs(x) for x in self.arriving(target, local, carried)]
            brought = [self.term(f, values, sizes, np.abs) for f in flows]
            rounded = [x for f, x in zip(flows, brought, strict=True) if self._rounds(f)]
            if len(arriving) + len(brought) > 1:
                rounded += [*arriving, *brought]
            size = self.masked(t, self.whole(t, target, rounded, carried))[0]
            known = out.setdefault(d_of(target), {})
            known[t] = np.maximum(known[t], size) if t in known else size  # windows may overlap
            terms = [*arriving, *(self.term(f, values, whole, np.abs) for f in flows)]
            whole[target] = self.masked(t, self.whole(t, target, terms, carried))
        return whole

    def _rounds(self, flow: Flow) -> bool:
        """Whether a flow is more than a copy."""
        return isinstance(flow, Adjoint) or self.program.factor_of[flow] not in (1.0, -1.0)
