"""The backward pass: the recursion over a tape, last step first, and the sums that give the parameters' gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from sympy import Symbol

from derive.notation import at
from numeric.arguments import Array
from numeric.operations import Gather, Kernel, Operation, carried_of, d_of, local_of, reads_of, results_of
from numeric.plan import Plans
from numeric.tape import Tape, Values, side_by_side

__all__ = ["Reverse"]


class Reverse:
    """One backward pass over a tape, from what the loss gives each root, (T, B, size)."""

    def __init__(self, plans: Plans, tape: Tape, local: Mapping[str, Array]) -> None:
        assert plans.backward is not None
        self.plans, self.plan, self.tape, self.data = plans, plans.backward, tape, tape.data
        self.cell, self.runner = plans.cell, tape.runner
        self.mask = None if self.data.mask is None else self.data.mask[:, :, None]
        self.zero = np.zeros((), self.data.dtype)
        self.values: Values = tape.whole | {local_of(at(name)): x for name, x in local.items()}
        if self.mask is not None:
            states = {at(name) for name in self.cell.states}
            self.values |= {s: self.clean(tape.whole[s]) for s in self.plan.stored() - states}
        self.initial: dict[str, Array] = {}
        self.states: dict[str, Array] = {}

    def clean(self, x: Array) -> Array:
        """Zero at padding, where a value may be anything."""
        return x if self.mask is None else np.where(self.mask, x, self.zero)

    def run(self, *, want_inputs: bool) -> tuple[dict[str, Array], dict[str, Array]]:
        """The gradients of parameters and of inputs; ``initial`` and ``states`` are attributes afterwards."""
        self.all_steps(self.plans.reverse["after", want_inputs])
        self.loop(self.plans.reverse["loop", want_inputs])
        self.all_steps(self.plans.reverse["before", want_inputs])
        zeros = {name: np.zeros_like(x) for name, x in self.data.inputs.items()} if want_inputs else {}
        inputs = {name: self.values.get(d_of(at(name)), zero) for name, zero in zeros.items()}
        return self.parameters(), inputs

    def all_steps(self, operations: Sequence[Operation]) -> None:
        """A stage outside of the loop."""
        lead = (self.data.steps, self.data.batch)
        for operation, run in zip(operations, self.runner.bind(operations, lead), strict=True):
            run(self.values)
            if isinstance(operation, Kernel):
                self.values |= {s: self.clean(self.values[s]) for s in operation.outputs}

    # -------------------------------------------------------------------------------------------------------- the loop

    def loop(self, operations: Sequence[Operation]) -> None:
        """The steps backwards in time."""
        self.rooms(operations)
        self.states = {name: self.tape.room(self.cell.axes[name]) for name in self.cell.states}
        made = {s for operation in operations for s in results_of(operation)}
        made |= {carried_of(at(name)) for name in self.cell.states} | set(self.runner.constants)
        read = {s for operation in operations for s in reads_of(operation)} - made
        self.sources = [(s, self.values[s]) for s in sorted(read, key=str)]
        runs = [self.bound(operation) for operation in operations]
        carried = {name: np.zeros_like(slab[0]) for name, slab in self.states.items()}
        for t in self.order():
            carried = self.carry(t, self.step(t, runs, carried))
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
        kernels = [operation for operation in operations if isinstance(operation, Kernel)]
        made = {s: axis for kernel in kernels for s, axis in zip(kernel.outputs, kernel.axes, strict=True)}
        self.room: Values = {}
        self.joined: dict[Gather, Array] = {}
        self.together: dict[frozenset[Symbol], tuple[tuple[Symbol, ...], Array]] = {}
        for operation in (o for o in operations if isinstance(o, Gather)):
            parts = tuple(d for d, _, _ in operation.parts)
            if len(set(parts)) == len(parts) and all(d in made and d not in self.room for d in parts):
                sizes = [self.data.sizes[made[d]] for d in parts]
                whole = np.zeros((self.data.steps, self.data.batch, sum(sizes)), self.data.dtype)
                self.room |= dict(zip(parts, np.split(whole, np.cumsum(sizes)[:-1], axis=-1), strict=True))
                self.joined[operation] = whole
                self.together[frozenset(parts)] = (parts, whole)
        state_symbols = {d_of(at(name)) for name in self.cell.states}
        for s, axis in made.items():
            if s in used and s not in self.room and s not in state_symbols:
                self.room[s] = self.tape.room(axis)

    def bound(self, operation: Operation) -> Callable[[int, Values], None]:
        """An operation of the loop as a function of the step and its values."""
        if isinstance(operation, Gather) and operation in self.joined:
            result, whole, (stack, _) = operation.result, self.joined[operation], self.runner.stack(operation)

            def product(t: int, values: Values) -> None:
                values[result] = whole[t] @ stack

            return product
        (run,) = self.runner.bind([operation], (self.data.batch,))
        outputs = [(s, self.room.get(s)) for s in operation.outputs] if isinstance(operation, Kernel) else []

        def work(t: int, values: Values) -> None:
            run(values)
            for s, room in outputs:
                if self.mask is not None:
                    values[s] = np.where(self.mask[t], values[s], self.zero)
                if room is not None:
                    room[t] = values[s]

        return work

    def step(
        self, t: int, runs: Sequence[Callable[[int, Values], None]], carried: dict[str, Array]
    ) -> dict[str, Array]:
        """One step of the recursion; returns what it carries to the step before."""
        mask = None if self.mask is None else self.mask[t]
        values = self.runner.constants.copy()
        for s, x in self.sources:
            values[s] = x[t]
        for name, d in carried.items():
            values[carried_of(at(name))] = d if mask is None else np.where(mask, d, self.zero)
        for run in runs:
            run(t, values)
        out = {}
        for name, before in carried.items():
            self.states[name][t] = values.get(d_of(at(name)), 0)
            back = values.get(d_of(at(name, -1)))
            back = np.zeros_like(before) if back is None else back
            out[name] = back if mask is None else np.where(mask, back, before)
        return out

    # -------------------------------------------------------------------------------------------------- parameters

    def parameters(self) -> dict[str, Array]:
        """Sums over steps and sequences."""
        out = {name: np.zeros_like(p) for name, p in self.data.params.items()}
        for s, kernels in self.plan.vectors().items():
            for kernel in kernels:
                total = self.summed(kernel)
                out[s.name][...] += total if out[s.name].ndim else total.sum()
        for operand, pairs in self.by_operand().items():
            self.outer(operand, pairs, out)
        return out

    def summed(self, kernel: Kernel) -> Array:
        """The sum over steps and sequences of a kernel's one result."""
        self.all_steps([kernel])
        x = self.values.pop(kernel.outputs[0])
        rows = x.reshape(-1, x.shape[-1])
        return np.ones(len(rows), rows.dtype) @ rows

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
            whole = side_by_side([self.values[d] for d in parts])
        product = whole.reshape(-1, whole.shape[-1]).T @ rows
        edges = np.cumsum([self.values[d].shape[-1] for d in parts])[:-1]
        block = dict(zip(parts, np.split(product, edges), strict=True))
        for name, d, transposed in terms:
            out[name] += block[d].T if transposed else block[d]
