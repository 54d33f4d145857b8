"""What is computed in which order: forward values, the derivatives, the sums that give parameters' gradients.

Within a stage (:mod:`numeric.stages`) all products with one operand are one product, and all entrywise work that is
ready is one kernel.  Nothing here knows a particular cell.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property, lru_cache

from sympy import Add, Expr, Symbol

from derive.adjoint import Adjoint, Backward, Flow, Outer, Through
from derive.notation import at, time_of
from derive.program import Pointwise, Product, Program
from numeric.operations import (
    Gather,
    Job,
    Kernel,
    Operation,
    carried_of,
    d_of,
    local_of,
    reads_of,
    schedule,
    symbols_of,
)
from numeric.refine import refine
from numeric.stages import STAGES, backward_stages, forward_stages

__all__ = ["BackwardPlan", "ForwardPlan", "Plans", "refined_plans"]


class ForwardPlan:
    """How nodes are computed: those in ``kept``, wanted at every step, the states, and what these need."""

    def __init__(self, program: Program, kept: frozenset[Symbol]) -> None:
        self.program, self.kept = program, kept
        self.stage = forward_stages(program)
        needed = set(kept) | {at(name) for name in program.cell.states}
        for node in (n for n in reversed(program.nodes) if n.symbol in needed):
            needed |= set(program.reads(node))
        self.nodes = tuple(n for n in program.nodes if n.symbol in needed)

    def operations(self, stage: str) -> tuple[Operation, ...]:
        """The operations of a stage, in order."""
        jobs = []
        for node in (n for n in self.nodes if self.stage[n.symbol] == stage):
            if isinstance(node, Pointwise):
                jobs.append(Job(node.symbol, node.axis, symbols_of(node.expression), expression=node.expression))
            else:
                jobs.append(Job(node.symbol, node.axis, (node.operand,), product=node))
        return schedule(jobs, self.wanted)

    def wanted(self, symbol: Symbol) -> bool:
        """Whether a value leaves its stage."""
        if symbol in self.kept:
            return True
        own = self.stage[symbol]
        name, _ = time_of(symbol)
        readers = [n for n in self.nodes if symbol in self.program.reads(n)]
        return any(self.stage[n.symbol] != own for n in readers) or name in self.program.cell.states

    def leaving(self, stage: str) -> tuple[Symbol, ...]:
        """Values of a stage that are read outside of it or kept."""
        return tuple(n.symbol for n in self.nodes if self.stage[n.symbol] == stage and self.wanted(n.symbol))


class BackwardPlan:
    """How the derivatives are computed; ``active`` are the outputs and states that the loss reads.

    Flows from nodes that no active root depends on are zero and are left out.
    """

    def __init__(self, backward: Backward, active: frozenset[str]) -> None:
        self.backward, self.program, self.active = backward, backward.program, active
        self.cell = backward.program.cell
        self.stage = backward_stages(self.program)

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
        if symbol in self.stage:
            return self.stage[symbol]
        return "loop" if time_of(symbol)[1] == -1 else "before"

    def where(self, target: Symbol, source: Symbol) -> str:
        """The stage in which a flow is computed: for all steps at once wherever that is possible."""
        own = self.stage_of(target)
        return "after" if own == "loop" and self.stage_of(source) == "after" else own

    @cached_property
    def alias(self) -> dict[Symbol, Symbol]:
        """Symbols whose d is that of another symbol, because one flow with factor one is all they receive."""
        out: dict[Symbol, Symbol] = {}
        axes, roots = self.program.axes, {at(n) for n in (*self.active, *self.cell.states)}
        for target, flows in self.flows.items():
            if len(flows) == 1 and target in self.stage and target not in roots:
                (only,) = flows
                if isinstance(only, Through) and only.factor == 1 and axes[target] == axes[only.source]:
                    out[target] = out.get(only.source, only.source)
        return out

    def is_summed(self, target: Symbol) -> bool:
        """Whether a target is a parameter whose gradient is read off entry by entry.

        A vector that a matrix is applied to is not: it has a d at each step, as if it were the same input each time.
        """
        return time_of(target)[1] is None and not any(isinstance(f, Adjoint) for f in self.flows[target])

    def d(self, symbol: Symbol) -> Symbol:
        """The symbol of d, aliases resolved."""
        return d_of(self.alias.get(symbol, symbol))

    def _contribution(self, jobs: list[Job], target: Symbol, flows: Iterable[Flow], label: str) -> list[Expr]:
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
            jobs.append(Job(result, self.program.axes[target], needs, gather=Gather(result, tuple(parts))))
            terms.append(scale * result)
        return terms

    def partial(self, target: Symbol) -> Symbol:
        """What a node of the loop receives from the readout's stage, for all steps at once."""
        return Symbol(f"after {target.name}", real=True)

    def _jobs(self, stage: str, want_inputs: bool) -> list[Job]:
        jobs: list[Job] = []
        skipped = set() if want_inputs else {at(name) for name in self.cell.inputs}
        for target, flows in self.flows.items():
            if self.is_summed(target) or target in self.alias or target in skipped:
                continue
            here = [f for f in flows if self.where(target, f.source) == stage]
            complete = self.stage_of(target) == stage
            if not here and not complete:
                continue
            terms = self._contribution(jobs, target, here, stage)
            if complete:
                terms += self._arriving(target, len(here) < len(flows))
            result = d_of(target) if complete else self.partial(target)
            e = Add(*terms)
            jobs.append(Job(result, self.program.axes[target], symbols_of(e), expression=e))
        return jobs

    def _arriving(self, target: Symbol, has_partial: bool) -> list[Expr]:
        """What a target receives from elsewhere: an earlier stage, the loss, the next step."""
        name, shift = time_of(target)
        terms = [self.partial(target)] if has_partial else []
        if shift == 0 and name in self.active:
            terms.append(local_of(target))
        if shift == 0 and name in self.cell.states:
            terms.append(carried_of(target))
        return terms

    def operations(self, stage: str, *, want_inputs: bool = True) -> tuple[Operation, ...]:
        """The operations of a stage, in order; the inputs' gradient may be left out."""
        return schedule(self._jobs(stage, want_inputs), self.wanted)

    @cached_property
    def used(self) -> set[Symbol]:
        """d symbols that parameters' gradients and the stage after the loop read."""
        out = {self.d(pair.source) for _, pair in self.outers()}
        for target, flows in self.flows.items():
            if self.stage_of(target) == "before":
                out |= {self.d(f.source) for f in flows}
            if time_of(target)[1] is None:
                out.add(d_of(target))
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

    def vectors(self) -> dict[Symbol, tuple[Kernel, ...]]:
        """For each vector or scalar parameter, what is summed over steps, sequences and, for a scalar, entries.

        One kernel, with one result, for each size that the terms have: a scalar may meet vectors of several.
        """
        out = {}
        for target in (t for t in self.flows if time_of(t)[1] is None):
            if self.is_summed(target):
                terms: dict[str, list[Expr]] = {}
                for f in (f for f in self.flows[target] if isinstance(f, Through)):
                    terms.setdefault(self.program.axes[f.source], []).append(f.factor * self.d(f.source))
                sums = [(axis, Add(*group)) for axis, group in terms.items()]
            else:
                sums = [(self.program.axes[target], d_of(target))]
            result = Symbol(f"terms {target.name}", real=True)
            out[target] = tuple(Kernel(symbols_of(e), ((result, e),), (result,), (axis,)) for axis, e in sums)
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


class Plans:
    """What to compute for one set of outputs and states that a loss reads (None: forward only).

    ``kept`` are the values of all steps that the backward pass or the user reads; ``into_loop`` those that the loop
    reads, ``from_loop`` those that it leaves.  ``delayed`` are the states that are known before it, and ``steady`` the
    parameters that a matrix is applied to, which are taken as the same input at each step.
    """

    def __init__(self, backward: Backward, active: frozenset[str] | None) -> None:
        self.program = backward.program
        self.cell = self.program.cell
        self.backward = None if active is None else BackwardPlan(backward, active)
        stored = self.backward.stored() if self.backward else frozenset()
        self.kept = stored | {at(name) for name in self.cell.outputs}
        forward = ForwardPlan(self.program, self.kept)
        self.operations = {stage: forward.operations(stage) for stage in STAGES}
        states = {at(name) for name in self.cell.states}
        self.from_loop = tuple(s for s in forward.leaving("loop") if s not in states)
        early = {s for s, stage in forward.stage.items() if stage == "before"}
        read = {s for operation in self.operations["loop"] for s in reads_of(operation)}
        self.into_loop = tuple(sorted(read & (early | {at(name) for name in self.cell.inputs}), key=str))
        self.delayed = tuple(name for name in self.cell.states if at(name) in early)
        operands = {n.operand for n in self.program.nodes if isinstance(n, Product)}
        self.steady = tuple(sorted((s for s in operands if time_of(s)[1] is None), key=str))

    @cached_property
    def reverse(self) -> dict[tuple[str, bool], tuple[Operation, ...]]:
        """Operations of the backward pass by stage, with and without the inputs' gradient."""
        assert self.backward is not None
        return {(s, w): self.backward.operations(s, want_inputs=w) for s in STAGES for w in (False, True)}


@lru_cache(maxsize=64)
def refined_plans(backward: Backward, active: frozenset[str] | None) -> Plans:
    """The plans of a program, regrouped for what a loss reads; made once for all engines of a cell."""
    return Plans(backward if active is None else refine(backward, active), active)
