"""The unfused program, run as it was derived: node by node, product by product, step by step, sequence by sequence.

Slow and plain on purpose.  The engine must give the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Unpack

import numpy as np
from sympy import Expr, Symbol

from derive.adjoint import Adjoint, Backward, backward_of
from derive.cell import Cell
from derive.notation import at, parameter, time_of
from derive.program import Pointwise
from numeric.arguments import Array, Data, as_dtype, check_data
from numeric.compile import Compiled, compile_steps
from numeric.engine import Result
from numeric.losses import evaluate_loss
from numeric.problem import Options, check_problem

__all__ = ["Specification", "Summed", "by_name"]

Values = dict[Symbol, Any]
_RESULT = Symbol("result", real=True)


@dataclass(frozen=True)
class Summed(Result):
    """A result with ``magnitude``: what each entry would be if no two terms of one step cancelled.

    Its names are those of parameters and inputs, and of states with a ``0`` for the initial ones.
    """

    magnitude: dict[str, Array]


def by_name(params: Mapping[str, Array], inputs: Mapping[str, Array], initial: Mapping[str, Array]) -> dict[str, Array]:
    """All arrays of a point in one mapping: parameters, inputs, and initial states under their names plus ``0``."""
    return {**params, **inputs, **{f"{name}0": s for name, s in initial.items()}}


@lru_cache(maxsize=4096)
def _entrywise(e: Expr) -> tuple[tuple[Symbol, ...], Compiled]:
    """What an expression reads, and the function that computes it from that."""
    reads = tuple(sorted(e.free_symbols, key=str))
    return reads, compile_steps(reads, ((_RESULT, e),), (_RESULT,))


class Specification:
    """A cell's program run without any rearrangement; the arguments are those of :class:`numeric.Engine`."""

    def __init__(self, cell: Cell, dtype: str = "float64", *, backward: Backward | None = None) -> None:
        self.cell, self.dtype = cell, as_dtype(dtype)
        self.backward_program = backward or backward_of(cell)
        self.program = self.backward_program.program

    # -------------------------------------------------------------------------------------------------------- forward

    def value(self, e: Expr, values: Values, axis: str | None, data: Data) -> Any:
        """An entrywise expression of one sequence at one step."""
        reads, compiled = _entrywise(e)
        (out,) = compiled(*(values[s] for s in reads))
        found, shape = np.asarray(out, self.dtype), (data.sizes[axis],) if axis else ()
        return found if found.shape == shape else np.broadcast_to(found, shape)

    def constants(self, data: Data) -> Values:
        """Vector and scalar parameters."""
        return {parameter(n): p for n, p in data.params.items() if p.ndim < 2}

    def sequence(self, data: Data, b: int) -> list[Values]:
        """Every node's value at every step of one sequence, as long as the sequence is."""
        steps = data.steps if data.lengths is None else int(data.lengths[b])
        previous = {name: data.initial[name][b] for name in self.cell.states}
        out = []
        for t in range(steps):
            values = self.constants(data) | {at(name, -1): v for name, v in previous.items()}
            values |= {at(name): x[t, b] for name, x in data.inputs.items()}
            for node in self.program.nodes:
                if isinstance(node, Pointwise):
                    values[node.symbol] = self.value(node.expression, values, node.axis, data)
                else:
                    w = data.params[node.matrix]
                    values[node.symbol] = (w.T if node.transposed else w) @ values[node.operand]
            previous = {name: values[at(name)] for name in self.cell.states}
            out.append(values)
        return out

    def observed(self, data: Data, tapes: list[list[Values]]) -> dict[str, Array]:
        """Outputs and states as :meth:`numeric.Engine.forward` gives them."""
        out = {}
        for name in (*self.cell.outputs, *self.cell.states):
            y = out[name] = np.zeros((data.steps, data.batch, data.sizes[self.cell.axes[name]]), self.dtype)
            for b, tape in enumerate(tapes):
                for t, values in enumerate(tape):
                    y[t, b] = values[at(name)]
                if name in self.cell.states:
                    y[len(tape) :, b] = tape[-1][at(name)]
        return out

    def forward(
        self, params: Mapping[str, Any], inputs: Any = None, initial: Any = None, lengths: Any = None, **size: int
    ) -> dict[str, Array]:
        """Outputs and states at steps 1..T."""
        data = check_data(self.cell, self.dtype, params, inputs, initial, lengths, **size)
        with np.errstate(all="ignore"):
            return self.observed(data, [self.sequence(data, b) for b in range(data.batch)])

    # ------------------------------------------------------------------------------------------------------- backward

    def backward(
        self, params: Mapping[str, Any], inputs: Any = None, targets: Any = None, **options: Unpack[Options]
    ) -> Summed:
        """The loss, every gradient, and the gradients' magnitudes."""
        problem = check_problem(self.cell, self.dtype, params, inputs, targets, options)
        data = problem.data
        with np.errstate(all="ignore"):
            tapes = [self.sequence(data, b) for b in range(data.batch)]
            outputs = self.observed(data, tapes)
            value, local = evaluate_loss(problem.loss, outputs)
            result = Summed(
                value,
                params={n: np.zeros_like(p) for n, p in data.params.items()},
                inputs={n: np.zeros_like(x) for n, x in data.inputs.items()},
                initial={n: np.zeros_like(s) for n, s in data.initial.items()},
                states={n: np.zeros_like(outputs[n]) for n in self.cell.states},
                outputs=outputs,
                magnitude={n: np.zeros(x.shape) for n, x in by_name(data.params, data.inputs, data.initial).items()},
            )
            for b, tape in enumerate(tapes):
                self.sweep(data, b, tape, local, result)
        return result

    def sweep(self, data: Data, b: int, tape: list[Values], local: Mapping[str, Array], result: Summed) -> None:
        """The recursion over one sequence, every term added as it comes."""
        carried = {name: np.zeros_like(data.initial[name][b]) for name in self.cell.states}
        for t in reversed(range(len(tape))):
            here = {name: x[t, b] for name, x in local.items()}
            d, size = self.step(data, tape[t], here, carried), self.step(data, tape[t], here, carried, np.abs)
            for name in self.cell.states:
                result.states[name][t, b] = d[at(name)]
            for name in self.cell.inputs:
                result.inputs[name][t, b], result.magnitude[name][t, b] = d[at(name)], size[at(name)]
            carried = {name: d[at(name, -1)] for name in self.cell.states}
            self.accumulate(data, tape[t], d, result.params)
            self.accumulate(data, tape[t], size, result.magnitude, np.abs)
        for name in self.cell.states:
            result.initial[name][b], result.magnitude[f"{name}0"][b] = carried[name], size[at(name, -1)]

    def step(
        self,
        data: Data,
        values: Values,
        local: Mapping[str, Array],
        carried: Mapping[str, Array],
        of: Callable[[Any], Any] = np.asarray,
    ) -> Values:
        """d of every symbol at one step; with ``np.abs`` as ``of``, the sum of the absolute values of its terms."""
        axes = self.program.axes
        d: Values = {}
        for target, flows in self.backward_program.flows.items():
            name, shift = time_of(target)
            axis = axes.get(target)
            total = of(np.zeros((data.sizes[axis],) if axis else (), self.dtype))
            if shift == 0 and target in self.program.node:
                total = total + of(local.get(name, 0)) + of(carried.get(name, 0))
            for flow in flows:
                if isinstance(flow, Adjoint):
                    w, scale = of(data.params[flow.matrix]), of(self.value(flow.scale, values, axis, data))
                    term = (w.T if flow.transposed else w) @ d[flow.source] * scale
                else:
                    whole = axes[flow.source]
                    term = of(self.value(flow.factor, values, whole, data)) * d[flow.source]
                total = total + (term if axis else term.sum())
            d[target] = total
        return d

    def accumulate(
        self,
        data: Data,
        values: Values,
        d: Values,
        sums: Mapping[str, Array],
        of: Callable[[Any], Any] = np.asarray,
    ) -> None:
        """Add one step's terms to the parameters' gradients."""
        for name, p in data.params.items():
            if p.ndim < 2:
                sums[name][...] += d[parameter(name)]
            for pair in self.backward_program.matrices.get(name, ()):
                term = np.outer(d[pair.source], of(values[pair.operand]))
                sums[name][...] += term.T if pair.transposed else term
