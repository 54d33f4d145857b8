"""Running the plans: one forward pass that leaves a tape, one backward pass over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from sympy import Expr, Symbol

from derive.adjoint import Backward
from derive.notation import at, parameter, time_of
from numeric.arguments import Array, Data
from numeric.compile import Compiled, compile_steps
from numeric.plan import (
    BackwardPlan,
    ForwardPlan,
    Gather,
    Kernel,
    Multiply,
    Operation,
    carried_of,
    d_of,
    local_of,
    reads_of,
)

__all__ = ["Plans", "Reverse", "Tape", "run_forward"]

Values = dict[Symbol, Array]


class Plans:
    """What to compute for one set of outputs and states that a loss reads (None: forward only)."""

    def __init__(self, backward: Backward, active: frozenset[str] | None) -> None:
        self.program = backward.program
        self.cell = self.program.cell
        self.backward = None if active is None else BackwardPlan(backward, active)
        stored = self.backward.stored() if self.backward else frozenset()
        self.forward = ForwardPlan(self.program, stored | {at(name) for name in self.cell.outputs})
        self.operations = {stage: self.forward.operations(stage) for stage in ("before", "loop", "after")}
        states = {at(name) for name in self.cell.states}
        self.kept = {
            stage: tuple(s for s in self.forward.crossing(stage) if s not in states)
            for stage in ("before", "loop", "after")
        }
        early = {n.symbol for n in self.program.nodes if self.forward.stage[n.symbol] == "before"}
        read = {s for operation in self.operations["loop"] for s in reads_of(operation)}
        self.into_loop = tuple(sorted(read & (early | {at(name) for name in self.cell.inputs}), key=str))

    @cached_property
    def reverse(self) -> dict[tuple[str, bool], tuple[Operation, ...]]:
        """Operations of the backward pass by stage, with and without the inputs' gradient."""
        assert self.backward is not None
        stages = ("after", "loop", "before")
        return {(s, w): self.backward.operations(s, want_inputs=w) for s in stages for w in (False, True)}


class _Runner:
    """Runs operations over a mapping from symbols to arrays; matrices are stacked once a pass."""

    def __init__(self, data: Data, dtype: np.dtype[Any]) -> None:
        self.data, self.dtype = data, dtype
        self.constants = {parameter(n): p if p.ndim else p[()] for n, p in data.params.items() if p.ndim < 2}
        self.stacks: dict[Operation, tuple[Array, list[slice]]] = {}
        self.kernels: dict[Kernel, Compiled] = {}

    def run(self, operation: Operation, values: Values, lead: tuple[int, ...]) -> None:
        """Add an operation's results to ``values``; ``lead`` is (T, B) for all steps at once, (B,) for one."""
        if isinstance(operation, Kernel):
            self.kernel(operation, values, lead)
        elif isinstance(operation, Multiply):
            stack, parts = self.stack(operation)
            result = values[operation.operand] @ stack
            for (s, _, _), part in zip(operation.parts, parts, strict=True):
                values[s] = result[..., part]
        else:
            found = [values[d] for d, _, _ in operation.parts]
            rows = found[0] if len(found) == 1 else np.concatenate(found, axis=-1)
            values[operation.result] = rows @ self.stack(operation)[0]

    def stack(self, operation: Multiply | Gather) -> tuple[Array, list[slice]]:
        """The matrices of an operation as one, as it stands to the right of rows: r @ W.T is W r."""
        if operation not in self.stacks:
            params = self.data.params
            blocks = [params[m] if transposed else params[m].T for _, m, transposed in operation.parts]
            edges = np.cumsum([0, *(b.shape[1] for b in blocks)])
            parts = [slice(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]
            side = 1 if isinstance(operation, Multiply) else 0
            self.stacks[operation] = (np.ascontiguousarray(np.concatenate(blocks, axis=side)), parts)
        return self.stacks[operation]

    def kernel(self, operation: Kernel, values: Values, lead: tuple[int, ...]) -> None:
        if operation not in self.kernels:
            self.kernels[operation] = compile_steps(operation.inputs, operation.steps, operation.outputs)
        constants = self.constants
        results = self.kernels[operation](*(constants[s] if s in constants else values[s] for s in operation.inputs))
        for s, axis, value in zip(operation.outputs, operation.axes, results, strict=True):
            values[s] = value if np.ndim(value) > len(lead) else self.spread(value, (*lead, self.data.sizes[axis]))

    def spread(self, value: Any, shape: tuple[int, ...]) -> Array:
        """A value that no sequence enters, such as a parameter's, for every sequence."""
        return np.array(np.broadcast_to(np.asarray(value, self.dtype), shape))


class Tape:
    """What the forward pass leaves: states with the initial one in front, and the values that are read again."""

    def __init__(self, plans: Plans, data: Data, dtype: np.dtype[Any]) -> None:
        self.plans, self.data, self.dtype = plans, data, dtype
        self.runner = _Runner(data, dtype)
        self.states: dict[str, Array] = {}
        for name in plans.cell.states:
            self.states[name] = self.empty(plans.cell.axes[name], data.steps + 1)
            self.states[name][0] = data.initial[name]
        self.slabs: Values = {}

    def empty(self, axis: str, steps: int | None = None) -> Array:
        """Room for a vector at every step."""
        return np.empty((steps or self.data.steps, self.data.batch, self.data.sizes[axis]), self.dtype)

    def value(self, symbol: Symbol) -> Array:
        """A vector's values at all steps, (T, B, size)."""
        name, shift = time_of(symbol)
        if name in self.states:
            return self.states[name][:-1] if shift else self.states[name][1:]
        return self.data.inputs[name] if name in self.data.inputs else self.slabs[symbol]

    def observed(self) -> dict[str, Array]:
        """Outputs, zero beyond each sequence's last step, and states."""
        cell, mask = self.plans.cell, self.data.mask
        out = {name: self.slabs[at(name)] for name in cell.outputs}
        if mask is not None:
            out = {name: np.where(mask[:, :, None], y, np.zeros((), y.dtype)) for name, y in out.items()}
        return out | {name: self.states[name][1:] for name in cell.states}


def run_forward(plans: Plans, data: Data, dtype: np.dtype[Any]) -> Tape:
    """One forward pass: before the loop, the loop, after it."""
    tape = Tape(plans, data, dtype)
    cell, lead = plans.cell, (data.steps, data.batch)
    whole: Values = {at(name): x for name, x in data.inputs.items()}
    for operation in plans.operations["before"]:
        tape.runner.run(operation, whole, lead)
    tape.slabs |= {s: whole[s] for s in plans.kept["before"]}
    for name in cell.states:
        if at(name) in whole:  # the input of a delay line: known for all steps at once
            tape.states[name][1:] = whole[at(name)]
    _forward_loop(plans, tape, [(s, whole[s]) for s in plans.into_loop])
    whole |= tape.slabs
    for name in cell.states:
        whole |= {at(name, -1): tape.states[name][:-1], at(name): tape.states[name][1:]}
    for operation in plans.operations["after"]:
        tape.runner.run(operation, whole, lead)
    tape.slabs |= {s: whole[s] for s in plans.kept["after"]}
    return tape


def _forward_loop(plans: Plans, tape: Tape, inputs: Sequence[tuple[Symbol, Array]]) -> None:
    data, runner, mask = tape.data, tape.runner, tape.data.mask
    kept = [(s, tape.empty(plans.program.axes[s])) for s in plans.kept["loop"]]
    tape.slabs |= dict(kept)
    states = [(at(name), at(name, -1), slab) for name, slab in tape.states.items()]
    for t in range(data.steps):
        values = {previous: slab[t] for _, previous, slab in states}
        for s, x in inputs:
            values[s] = x[t]
        for operation in plans.operations["loop"]:
            runner.run(operation, values, (data.batch,))
        for s, slab in kept:
            slab[t] = values[s]
        for s, _, slab in states:
            if s in values:
                slab[t + 1] = values[s]
            if mask is not None:  # a sequence that has ended keeps its last state
                np.copyto(slab[t + 1], slab[t], where=~mask[t][:, None])


class Reverse:
    """One backward pass over a tape, from what the loss gives each root, (T, B, size)."""

    def __init__(self, plans: Plans, tape: Tape, local: Mapping[str, Array]) -> None:
        assert plans.backward is not None
        self.plans, self.plan, self.tape, self.data = plans, plans.backward, tape, tape.data
        self.cell, self.runner = plans.cell, tape.runner
        self.mask = None if self.data.mask is None else self.data.mask[:, :, None]
        self.values: Values = {local_of(at(name)): x for name, x in local.items()}
        stored = {s for s in self.plan.stored() if time_of(s)[0] not in self.cell.states}
        self.values |= {s: self.clean(tape.value(s)) for s in stored}
        self.values |= {at(name): x for name, x in self.data.inputs.items()}
        for name, slab in tape.states.items():
            self.values |= {at(name): slab[1:], at(name, -1): slab[:-1]}
        self.initial: dict[str, Array] = {}
        self.states: dict[str, Array] = {}

    def clean(self, x: Array) -> Array:
        """Zero at padding, where a value may be anything."""
        return x if self.mask is None else np.where(self.mask, x, np.zeros((), x.dtype))

    def run(self, *, want_inputs: bool) -> tuple[dict[str, Array], dict[str, Array]]:
        """The gradients of parameters and of inputs; ``initial`` and ``states`` are attributes afterwards."""
        self.all_steps("after", want_inputs)
        self.loop(self.plans.reverse["loop", want_inputs])
        self.all_steps("before", want_inputs)
        zeros = {name: np.zeros_like(x) for name, x in self.data.inputs.items()} if want_inputs else {}
        inputs = {name: self.values.get(d_of(at(name)), zero) for name, zero in zeros.items()}
        return self.parameters(), inputs

    def all_steps(self, stage: str, want_inputs: bool) -> None:
        for operation in self.plans.reverse[stage, want_inputs]:
            self.runner.run(operation, self.values, (self.data.steps, self.data.batch))
            if isinstance(operation, Kernel):
                self.values |= {s: self.clean(self.values[s]) for s in operation.outputs}

    # -------------------------------------------------------------------------------------------------------- the loop

    def loop(self, operations: Sequence[Operation]) -> None:
        """The steps backwards in time."""
        axes, data = self.cell.axes, self.data
        self.rooms(operations)
        carried = {name: np.zeros((data.batch, data.sizes[axes[name]]), self.tape.dtype) for name in self.cell.states}
        self.states = {name: self.tape.empty(axes[name]) for name in self.cell.states}
        made = {s for operation in operations if isinstance(operation, Kernel) for s in operation.outputs}
        made |= {operation.result for operation in operations if isinstance(operation, Gather)}
        read = {s for operation in operations for s in reads_of(operation)} - made - set(self.runner.constants)
        read -= {carried_of(at(name)) for name in self.cell.states}
        sources = [(s, self.values[s]) for s in sorted(read, key=str)]
        for t in self.order():
            carried = self.carry(t, self.step(t, operations, sources, carried))
        self.initial = carried
        self.values |= {d_of(at(name)): x for name, x in self.states.items()} | self.room

    def order(self) -> Sequence[int]:
        """Time, backwards."""
        return range(self.data.steps)[::-1]

    def carry(self, t: int, carried: dict[str, Array]) -> dict[str, Array]:
        """What step t hands to the step before."""
        return carried

    def rooms(self, operations: Sequence[Operation]) -> None:
        """Room for every derivative that is read after the loop; those of one product side by side, as one array."""
        used = self.plan.used
        made = {
            s: axis for operation in operations if isinstance(operation, Kernel)
            for s, axis in zip(operation.outputs, operation.axes, strict=True)
        }  # fmt: skip
        self.room: Values = {}
        self.joined: dict[Gather, Array] = {}
        self.together: dict[frozenset[Symbol], tuple[tuple[Symbol, ...], Array]] = {}
        for operation in (o for o in operations if isinstance(o, Gather)):
            parts = tuple(d for d, _, _ in operation.parts)
            if len(set(parts)) == len(parts) and all(d in made and d not in self.room for d in parts):
                sizes = [self.data.sizes[made[d]] for d in parts]
                whole = np.empty((self.data.steps, self.data.batch, sum(sizes)), self.tape.dtype)
                edges = np.cumsum([0, *sizes])
                self.room |= {d: whole[..., a:b] for d, a, b in zip(parts, edges[:-1], edges[1:], strict=True)}
                self.joined[operation] = whole
                self.together[frozenset(parts)] = (parts, whole)
        state_symbols = {d_of(at(name)) for name in self.cell.states}
        for s, axis in made.items():
            if s in used and s not in self.room and s not in state_symbols:
                self.room[s] = self.tape.empty(axis)

    def step(
        self,
        t: int,
        operations: Sequence[Operation],
        sources: Sequence[tuple[Symbol, Array]],
        carried: dict[str, Array],
    ) -> dict[str, Array]:
        """One step of the recursion; returns what it carries to the step before."""
        mask = None if self.mask is None else self.mask[t]
        values = {s: x[t] for s, x in sources}
        zero = np.zeros((), self.tape.dtype)
        for name, d in carried.items():
            values[carried_of(at(name))] = d if mask is None else np.where(mask, d, zero)
        for operation in operations:
            if isinstance(operation, Gather) and operation in self.joined:
                values[operation.result] = self.joined[operation][t] @ self.runner.stack(operation)[0]
                continue
            self.runner.run(operation, values, (self.data.batch,))
            for s in operation.outputs if isinstance(operation, Kernel) else ():
                if mask is not None:
                    values[s] = np.where(mask, values[s], zero)
                if s in self.room:
                    self.room[s][t] = values[s]
        out = {}
        for name, before in carried.items():
            self.states[name][t] = values.get(d_of(at(name)), 0)
            back = values.get(d_of(at(name, -1)), np.zeros_like(before))
            out[name] = back if mask is None else np.where(mask, back, before)
        return out

    # -------------------------------------------------------------------------------------------------- parameters

    def parameters(self) -> dict[str, Array]:
        """Sums over steps and sequences."""
        out = {name: np.zeros_like(p) for name, p in self.data.params.items()}
        for s, (e, reads) in self.plan.vectors().items():
            out[s.name] = self.summed(out[s.name], e, reads)
        for operand, terms in self.by_operand().items():
            self.outer(operand, terms, out)
        return out

    def summed(self, like: Array, e: Expr, reads: tuple[Symbol, ...]) -> Array:
        """The sum over steps and sequences (and, for a scalar, entries) of an expression."""
        constants = self.runner.constants
        if isinstance(e, Symbol):
            x = self.values[e]
        else:
            (x,) = compile_steps(reads, ((_RESULT, e),), (_RESULT,))(
                *(constants.get(s, self.values.get(s)) for s in reads)
            )
            x = self.clean(x)
        rows = x.reshape(-1, x.shape[-1])
        total = np.ones(len(rows), rows.dtype) @ rows
        return total if like.ndim else np.asarray(total.sum())

    def by_operand(self) -> dict[Symbol, list[tuple[str, Symbol, bool]]]:
        """Outer products by operand: (matrix, d, transposed)."""
        out: dict[Symbol, list[tuple[str, Symbol, bool]]] = {}
        for name, pair in self.plan.outers():
            out.setdefault(pair.operand, []).append((name, self.plan.d(pair.source), pair.transposed))
        return out

    def outer(self, operand: Symbol, terms: list[tuple[str, Symbol, bool]], out: dict[str, Array]) -> None:
        """One product over T * B rows for all matrices with one operand."""
        r = self.values[operand]
        rows = r.reshape(-1, r.shape[-1])
        wanted = tuple(dict.fromkeys(d for _, d, _ in terms))
        parts, whole = self.together.get(frozenset(wanted), (wanted, None))
        if whole is None:
            found = [self.values[d] for d in parts]
            whole = found[0] if len(found) == 1 else np.concatenate(found, axis=-1)
        product = whole.reshape(-1, whole.shape[-1]).T @ rows
        edges = np.cumsum([0, *(self.values[d].shape[-1] for d in parts)])
        block = {d: product[a:b] for d, a, b in zip(parts, edges[:-1], edges[1:], strict=True)}
        for name, d, transposed in terms:
            out[name] = out[name] + (block[d].T if transposed else block[d])


_RESULT = Symbol("result", real=True)
