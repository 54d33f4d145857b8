"""The forward pass: operations run over arrays, and the tape that they leave."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from sympy import Symbol

from derive.notation import at, parameter
from numeric.arguments import Array, Data
from numeric.compile import compile_steps
from numeric.operations import Gather, Kernel, Multiply, Operation
from numeric.plan import Plans

__all__ = ["Runner", "Tape", "Values", "run_forward", "side_by_side"]

Values = dict[Symbol, Array]
Run = Callable[[Values], None]


class Runner:
    """Turns operations into functions that add their results to a mapping from symbols to arrays.

    ``constants``, vector and scalar parameters, are in every such mapping; matrices are stacked once a pass.
    """

    def __init__(self, data: Data) -> None:
        self.data = data
        self.constants: Values = {parameter(n): p if p.ndim else p[()] for n, p in data.params.items() if p.ndim < 2}
        self.stacks: dict[Multiply | Gather, tuple[Array, list[slice]]] = {}

    def bind(self, operations: Iterable[Operation], lead: tuple[int, ...]) -> list[Run]:
        """The functions of some operations; ``lead`` is (T, B) for all steps at once, (B,) for one."""
        made: list[Run] = []
        for operation in operations:
            if isinstance(operation, Kernel):
                made.append(self.kernel(operation, lead))
            else:
                made.append(self.multiply(operation) if isinstance(operation, Multiply) else self.gather(operation))
        return made

    def kernel(self, operation: Kernel, lead: tuple[int, ...]) -> Run:
        """A kernel as a function."""
        compiled, inputs = compile_steps(operation.inputs, operation.steps, operation.outputs), operation.inputs
        shapes = [(*lead, self.data.sizes[axis]) for axis in operation.axes]
        outputs = list(zip(operation.outputs, shapes, strict=True))
        full = len(lead) + 1

        def run(values: Values) -> None:
            results = compiled(*[values[s] for s in inputs])
            for (s, shape), value in zip(outputs, results, strict=True):
                whole = type(value) is np.ndarray and value.ndim == full
                values[s] = value if whole else self.spread(value, shape)

        return run

    def multiply(self, operation: Multiply) -> Run:
        """One product for all matrices with one operand, taken apart."""
        stack, parts = self.stack(operation)
        operand, results = operation.operand, [s for s, _, _ in operation.parts]

        def run(values: Values) -> None:
            product = values[operand] @ stack
            for s, part in zip(results, parts, strict=True):
                values[s] = product[..., part]

        return run

    def gather(self, operation: Gather) -> Run:
        """One product for a sum of products."""
        stack, _ = self.stack(operation)
        result, parts = operation.result, [d for d, _, _ in operation.parts]

        def run(values: Values) -> None:
            values[result] = side_by_side([values[d] for d in parts]) @ stack

        return run

    def stack(self, operation: Multiply | Gather) -> tuple[Array, list[slice]]:
        """The matrices of an operation as one, as it stands to the right of rows: r @ W.T is W r."""
        if operation not in self.stacks:
            params = self.data.params
            blocks = [params[m] if transposed else params[m].T for _, m, transposed in operation.parts]
            parts = [slice(a, b) for a, b in pairwise(np.cumsum([0, *(block.shape[1] for block in blocks)]))]
            side = 1 if isinstance(operation, Multiply) else 0
            self.stacks[operation] = (np.ascontiguousarray(np.concatenate(blocks, axis=side)), parts)
        return self.stacks[operation]

    def spread(self, value: Any, shape: tuple[int, ...]) -> Array:
        """A value that no sequence enters, such as a parameter's, for every sequence."""
        return np.array(np.broadcast_to(np.asarray(value, self.data.dtype), shape))


def side_by_side(arrays: Sequence[Array]) -> Array:
    """Arrays joined along their last axis."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1)


class Tape:
    """What the forward pass leaves.

    ``states`` holds each state with the initial one in front, (T + 1, B, size); ``whole`` maps symbols to their
    values at all steps, (T, B, size), and vector and scalar parameters to themselves.
    """

    def __init__(self, plans: Plans, data: Data) -> None:
        self.plans, self.data, self.runner = plans, data, Runner(data)
        self.states: dict[str, Array] = {}
        for name in plans.cell.states:
            self.states[name] = np.empty((data.steps + 1, data.batch, data.sizes[plans.cell.axes[name]]), data.dtype)
            self.states[name][0] = data.initial[name]
        self.whole: Values = dict(self.runner.constants)
        lead = (data.steps, data.batch)
        for s in plans.steady:
            constant = self.whole[s]
            self.whole[s] = self.runner.spread(constant, (*lead, len(constant)))
        self.whole |= {at(name): x for name, x in data.inputs.items()}
        for name, slab in self.states.items():
            self.whole |= {at(name, -1): slab[:-1], at(name): slab[1:]}
        self.fixed = frozenset(self.whole)

    def forget(self) -> None:
        """Drop the values that nothing reads any more."""
        self.whole = {s: x for s, x in self.whole.items() if s in self.fixed or s in self.plans.kept}

    def room(self, axis: str) -> Array:
        """Room for a vector at every step."""
        return np.zeros((self.data.steps, self.data.batch, self.data.sizes[axis]), self.data.dtype)

    def observed(self) -> dict[str, Array]:
        """Outputs, zero beyond each sequence's last step, and states."""
        cell, mask = self.plans.cell, self.data.mask
        out = {name: self.whole[at(name)] for name in cell.outputs}
        if mask is not None:
            out = {name: np.where(mask[:, :, None], y, np.zeros((), y.dtype)) for name, y in out.items()}
        return out | {name: slab[1:] for name, slab in self.states.items()}


def run_forward(plans: Plans, data: Data) -> Tape:
    """One forward pass: before the loop, the loop, after it."""
    tape = Tape(plans, data)
    lead = (data.steps, data.batch)
    for run in tape.runner.bind(plans.operations["before"], lead):
        run(tape.whole)
    for name in plans.delayed:  # a delay line's input is known for all steps at once
        tape.states[name][1:] = tape.whole[at(name)]
        tape.whole[at(name)] = tape.states[name][1:]
    _forward_loop(plans, tape)
    for run in tape.runner.bind(plans.operations["after"], lead):
        run(tape.whole)
    tape.forget()
    return tape


def _forward_loop(plans: Plans, tape: Tape) -> None:
    data, constants, mask = tape.data, tape.runner.constants, tape.data.mask
    kept = [(s, tape.room(plans.program.axes[s])) for s in plans.from_loop]
    tape.whole |= dict(kept)
    inputs = [(s, tape.whole[s]) for s in plans.into_loop]
    states = [(at(name), at(name, -1), slab) for name, slab in tape.states.items()]
    runs = tape.runner.bind(plans.operations["loop"], (data.batch,))
    for t in range(data.steps):
        values = constants.copy()
        for s, x in inputs:
            values[s] = x[t]
        for _, previous, slab in states:
            values[previous] = slab[t]
        for run in runs:
            run(values)
        for s, slab in kept:
            slab[t] = values[s]
        for s, _, slab in states:
            if s in values:
                slab[t + 1] = values[s]
            if mask is not None:  # a sequence that has ended keeps its last state
                np.copyto(slab[t + 1], slab[t], where=~mask[t][:, None])
