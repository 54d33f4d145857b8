"""From the derivation to an order of computing: what can be done for all steps at once, and what has to wait.

Forward, a node is computed

    before   the loop, for all steps at once: it depends on inputs and parameters only
    in       the loop: it depends on the previous state and a state depends on it
    after    the loop, for all steps at once: no state depends on it (a readout)

and the backward pass visits the stages the other way round.  Within a stage all products with one operand are one product,
and all entrywise work that is ready is one kernel.  Nothing here knows a particular cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from sympy import Add, Expr, Symbol

from derive.adjoint import Adjoint, Backward, Flow, Outer, Through
from derive.notation import at, time_of
from derive.program import Pointwise, Product, Program

__all__ = [
    "BackwardPlan",
    "ForwardPlan",
    "Gather",
    "Kernel",
    "Multiply",
    "Operation",
    "carried_of",
    "d_of",
    "local_of",
    "reads_of",
]

STAGES = ("before", "loop", "after")


@dataclass(frozen=True)
class Kernel:
    """Entrywise work: assignments in order, from ``inputs``, and which of their results are wanted, with their sizes."""

    inputs: tuple[Symbol, ...]
    steps: tuple[tuple[Symbol, Expr], ...]
    outputs: tuple[Symbol, ...]
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Multiply:
    """All products with one operand: (result, matrix, transposed), computed as one."""

    operand: Symbol
    parts: tuple[tuple[Symbol, str, bool], ...]


@dataclass(frozen=True)
class Gather:
    """``result`` = sum of M d over (d, matrix, transposed), computed as one product."""

    result: Symbol
    parts: tuple[tuple[Symbol, str, bool], ...]


Operation = Kernel | Multiply | Gather


def reads_of(operation: Operation) -> tuple[Symbol, ...]:
    """What an operation reads, parameters included."""
    if isinstance(operation, Kernel):
        return operation.inputs
    return (operation.operand,) if isinstance(operation, Multiply) else tuple(d for d, _, _ in operation.parts)


def d_of(symbol: Symbol) -> Symbol:
    """The symbol of the loss's derivative by a symbol."""
    return Symbol(f"d {symbol.name}", real=True)


def local_of(symbol: Symbol) -> Symbol:
    """What an output or a state receives from the loss at its own step."""
    return Symbol(f"local {symbol.name}", real=True)


def carried_of(symbol: Symbol) -> Symbol:
    """What a state receives from the next step."""
    return Symbol(f"carried {symbol.name}", real=True)


@dataclass
class _Job:
    """Something to be scheduled: an assignment, or a product."""

    result: Symbol
    axis: str
    needs: tuple[Symbol, ...]
    expression: Expr | None = None
    gather: Gather | None = None
    product: Product | None = None


def _schedule(jobs: Sequence[_Job], wanted: Callable[[Symbol], bool]) -> tuple[Operation, ...]:
    """Alternate kernels and products: each kernel takes all entrywise work that is ready, each product its whole group."""
    done: set[Symbol] = set()
    pending = list(jobs)
    made = {job.result for job in jobs}
    operations: list[Operation] = []
    while pending:
        steps: list[_Job] = []
        progress = True
        while progress:
            ready = [
                j for j in pending if j.expression is not None and all(n in done or n not in made for n in j.needs)
            ]
            progress = bool(ready)
            for job in ready:
                pending.remove(job)
                done.add(job.result)
            steps += ready
        if steps:
            operations.append(_kernel(steps, pending, wanted))
        groups: dict[Symbol, list[_Job]] = {}
        for job in pending:
            if job.expression is None and all(n in done or n not in made for n in job.needs):
                groups.setdefault(job.product.operand if job.product else job.result, []).append(job)
        for operand, group in groups.items():
            operations.append(_product(operand, group))
            for job in group:
                pending.remove(job)
                done.add(job.result)
    return tuple(operations)


def _product(operand: Symbol, group: list[_Job]) -> Operation:
    if group[0].gather is not None:
        return group[0].gather
    products = [job.product for job in group if job.product is not None]
    return Multiply(operand, tuple((p.symbol, p.matrix, p.transposed) for p in products))


def _kernel(steps: list[_Job], later: list[_Job], wanted: Callable[[Symbol], bool]) -> Kernel:
    own = {job.result for job in steps}
    inputs = dict.fromkeys(n for job in steps for n in job.needs if n not in own)
    read_later = {n for job in later for n in job.needs}
    outputs = [job for job in steps if wanted(job.result) or job.result in read_later]
    assignments = tuple((job.result, job.expression) for job in steps if job.expression is not None)
    return Kernel(tuple(inputs), assignments, tuple(j.result for j in outputs), tuple(j.axis for j in outputs))


def _symbols(e: Expr) -> tuple[Symbol, ...]:
    return tuple(sorted(e.free_symbols, key=str))


class ForwardPlan:
    """How the values of all nodes are computed; ``kept`` are the symbols whose values at every step are wanted."""

    def __init__(self, program: Program, kept: frozenset[Symbol]) -> None:
        self.program, self.kept = program, kept
        self.stage = stages(program)

    def operations(self, stage: str) -> tuple[Operation, ...]:
        """The operations of a stage, in order."""
        jobs = []
        for node in (n for n in self.program.nodes if self.stage[n.symbol] == stage):
            if isinstance(node, Pointwise):
                jobs.append(_Job(node.symbol, node.axis, _symbols(node.expression), expression=node.expression))
            else:
                jobs.append(_Job(node.symbol, node.axis, (node.operand,), product=node))
        return _schedule(jobs, self.wanted)

    def wanted(self, symbol: Symbol) -> bool:
        """Whether a value leaves its stage."""
        if symbol in self.kept:
            return True
        own = self.stage[symbol]
        name, _ = time_of(symbol)
        readers = [n for n in self.program.nodes if symbol in self.program.reads(n)]
        return any(self.stage[n.symbol] != own for n in readers) or name in self.program.cell.states

    def crossing(self, stage: str) -> tuple[Symbol, ...]:
        """Values of a stage that are read outside of it or kept."""
        return tuple(n.symbol for n in self.program.nodes if self.stage[n.symbol] == stage and self.wanted(n.symbol))


def stages(program: Program) -> dict[Symbol, str]:
    """The forward stage of every node."""
    cell = program.cell
    follows = {at(name, -1) for name in cell.states}
    for node in program.nodes:
        if any(s in follows for s in program.reads(node)):
            follows.add(node.symbol)
    leads = {at(name) for name in cell.states}
    for node in reversed(program.nodes):
        if node.symbol in leads:
            leads |= set(program.reads(node))
    out = {}
    for node in program.nodes:
        s = node.symbol
        # a state that does not depend on the previous one (a delay line's input) still has to be there at each step
        out[s] = "after" if s in follows and s not in leads else "loop" if s in follows else "before"
    return out


class BackwardPlan:
    """How the derivatives are computed; ``active`` are the outputs and states that the loss reads.

    Flows from nodes that no active root depends on are zero and are left out.
    """

    def __init__(self, backward: Backward, active: frozenset[str]) -> None:
        self.backward, self.program, self.active = backward, backward.program, active
        self.cell = backward.program.cell
        self.stage = stages(self.program)

    @cached_property
    def flows(self) -> dict[Symbol, tuple[Flow, ...]]:
        """The flows that can carry something, by target."""
        alive = {at(name) for name in self.active}
        while True:
            before = len(alive)
            for target, flows in self.backward.flows.items():
                if any(f.source in alive for f in flows):
                    alive.add(target)
            for name in self.cell.states:  # what reaches the previous state is carried to the state
                if at(name, -1) in alive:
                    alive.add(at(name))
            if len(alive) == before:
                break
        return {
            t: tuple(f for f in flows if f.source in alive) for t, flows in self.backward.flows.items() if t in alive
        }

    def stage_of(self, symbol: Symbol) -> str:
        """The stage in which d of a symbol is complete."""
        name, shift = time_of(symbol)
        if symbol in self.stage:
            # a state's d needs the carry
            return "loop" if name in self.cell.states else self.stage[symbol]
        return "loop" if shift == -1 else "before"

    def where(self, target: Symbol, source: Symbol) -> str:
        """The stage in which a flow is computed: for all steps at once wherever that is possible."""
        return (
            "after" if self.stage_of(source) == "after" and self.stage_of(target) != "before" else self.stage_of(target)
        )

    @cached_property
    def alias(self) -> dict[Symbol, Symbol]:
        """Symbols whose d is that of another symbol, because one flow with factor one is all they receive."""
        out: dict[Symbol, Symbol] = {}
        for target, flows in self.flows.items():
            roots = {at(n) for n in (*self.active, *self.cell.states)}
            only = flows[0] if len(flows) == 1 else None
            plain = isinstance(only, Through) and only.factor == 1 and target in self.stage
            if plain and target not in roots and self.program.axes[target] == self.program.axes[only.source]:
                out[target] = out.get(only.source, only.source)
        return out

    def d(self, symbol: Symbol) -> Symbol:
        """The symbol of d, aliases resolved."""
        return d_of(self.alias.get(symbol, symbol))

    def _contribution(self, jobs: list[_Job], target: Symbol, flows: Iterable[Flow], label: str) -> list[Expr]:
        """Terms of d(target) from some flows; products become jobs of their own."""
        terms: list[Expr] = []
        gathered: dict[Expr, list[tuple[Symbol, str, bool]]] = {}
        for flow in flows:
            if isinstance(flow, Adjoint):
                gathered.setdefault(flow.scale, []).append((self.d(flow.source), flow.matrix, flow.transposed))
            else:
                terms.append(flow.factor * self.d(flow.source))
        for i, (scale, parts) in enumerate(gathered.items()):
            result = Symbol(f"gather{i or ''} {label} {target.name}", real=True)
            needs = tuple(d for d, _, _ in parts)
            jobs.append(_Job(result, self.program.axes[target], needs, gather=Gather(result, tuple(parts))))
            terms.append(scale * result)
        return terms

    def partial(self, target: Symbol) -> Symbol:
        """What a node of the loop receives from the readout's stage, for all steps at once."""
        return Symbol(f"after {target.name}", real=True)

    def _jobs(self, stage: str, want_inputs: bool) -> list[_Job]:
        jobs: list[_Job] = []
        skipped = set() if want_inputs else {at(name) for name in self.cell.inputs}
        for target, flows in self.flows.items():
            if time_of(target)[1] is None or target in self.alias or target in skipped:
                continue
            here = [f for f in flows if self.where(target, f.source) == stage]
            complete = self.stage_of(target) == stage
            if not here and not complete:
                continue
            terms = self._contribution(jobs, target, here, stage)
            if complete:
                terms += self._arriving(
                    target, any(self.where(target, f.source) == "after" for f in flows) and stage == "loop"
                )
            result = d_of(target) if complete else self.partial(target)
            e = Add(*terms)
            jobs.append(_Job(result, self.program.axes[target], _symbols(e), expression=e))
        return jobs

    def _arriving(self, target: Symbol, from_after: bool) -> list[Expr]:
        name, shift = time_of(target)
        terms = [self.partial(target)] if from_after else []
        if shift == 0 and name in self.active:
            terms.append(local_of(target))
        if shift == 0 and name in self.cell.states:
            terms.append(carried_of(target))
        return terms

    def operations(self, stage: str, *, want_inputs: bool = True) -> tuple[Operation, ...]:
        """The operations of a stage, in order; the inputs' gradient may be left out."""
        return _schedule(self._jobs(stage, want_inputs), self.wanted)

    @cached_property
    def used(self) -> set[Symbol]:
        """d symbols that parameters' gradients and the stage after the loop read."""
        out = {self.d(pair.source) for _, pair in self.outers()}
        for target, flows in self.flows.items():
            if time_of(target)[1] is None or self.stage_of(target) == "before":
                out |= {self.d(f.source) for f in flows}
        return out | {d_of(at(name)) for name in (*self.cell.states, *self.cell.inputs)}

    def wanted(self, symbol: Symbol) -> bool:
        """Whether a result leaves its stage."""
        name = symbol.name
        return symbol in self.used or name.startswith("after ") or name.endswith("[t-1]") or self._crosses(symbol)

    def _crosses(self, symbol: Symbol) -> bool:
        for target, flows in self.flows.items():
            for f in flows:
                source = self.alias.get(f.source, f.source)
                if d_of(source) == symbol and self.where(target, f.source) != self.stage_of(source):
                    return True
        return False

    def outers(self) -> list[tuple[str, Outer]]:
        """Terms of the matrices' gradients that are not zero."""
        return [(m, pair) for m, pairs in self.backward.matrices.items() for pair in pairs if pair.source in self.flows]

    def vectors(self) -> dict[Symbol, tuple[Expr, tuple[Symbol, ...]]]:
        """For each vector or scalar parameter, what is summed over steps and sequences, and what that reads."""
        out = {}
        for target, flows in self.flows.items():
            if time_of(target)[1] is None:
                e = Add(*(f.factor * self.d(f.source) for f in flows if isinstance(f, Through)))
                out[target] = (e, _symbols(e))
        return out

    def stored(self) -> frozenset[Symbol]:
        """Forward values that the backward pass reads."""
        read: set[Symbol] = set()
        for flows in self.flows.values():
            for f in flows:
                e = f.scale if isinstance(f, Adjoint) else f.factor
                read |= e.free_symbols
        read |= {pair.operand for _, pair in self.outers()}
        return frozenset(s for s in read if time_of(s)[1] is not None and s in self.program.node)
