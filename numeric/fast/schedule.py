"""The work of a segment of time, cut for a compiled loop: what is done for a few steps at once and what step by step.

Time goes in chunks of a few steps.  A chunk forwards is

    before   for all rows of the chunk           what inputs and parameters alone decide
    loop     step by step                        what the states decide, and what the backward pass multiplies with

and a chunk backwards

    late     for all rows                        the readout, then the loss
    after    for all rows                        what the readout hands back
    reverse  step by step
    inputs   for all rows                        what only inputs and parameters receive
    sums     for all rows                        the parameters' gradients

where a row is one sequence at one step.  Values that a later pass reads are fields of the tape, the others of a
scratch buffer; where a value only copies another one there is one field for both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sympy import Expr, Symbol

from derive.notation import at
from derive.program import Pointwise, Product
from numeric.fast.work import Apply, Entrywise, Field, Op, Outers, Schedule, Summed, made_by, reads_of
from numeric.operations import (
    Gather,
    Job,
    Kernel,
    Multiply,
    Operation,
    carried_of,
    d_of,
    local_of,
    schedule,
    symbols_of,
)
from numeric.plan import BackwardPlan, Plans
from numeric.stages import forward_stages

__all__ = ["schedule_of"]


def schedule_of(plans: Plans, *, full: bool) -> Schedule:
    """The schedule for the loss that ``plans`` is for.

    ``full``: outputs, and the derivatives by inputs and states, are wanted at every step.
    """
    return _Scheduler(plans, full).result()


class _Scheduler:
    def __init__(self, plans: Plans, full: bool) -> None:
        self.plans, self.program, self.cell = plans, plans.program, plans.cell
        self.plan: BackwardPlan | None = plans.backward
        self.full = full
        self.axes = dict(self.program.axes)
        self.states = [at(name) for name in self.cell.states]
        self.stored = self.plan.stored() if self.plan else frozenset()
        roots = {at(name) for name in self.plan.active} if self.plan else set()
        self.observed = roots | ({at(name) for name in self.cell.outputs} if full else set())
        self.stages: dict[str, list[Op]] = {}
        self.outers: list[Outers] = []
        self.sums: list[Summed] = []

    def result(self) -> Schedule:
        self.forward()
        if self.plan:
            self.backward(self.plan)
        same = self.copies()
        self.renamed(same)
        self.drop_dead(same)
        self.stage_stores()
        stages = {name: tuple(ops) for name, ops in self.stages.items()}
        in_place = tuple(name for name in self.cell.states if self.plan and self.may_overwrite(name, same))
        fields = self.fields({same.get(s, s) for s in (d_of(at(name, -1)) for name in in_place)})
        return Schedule(stages, tuple(self.outers), tuple(self.sums), fields, same, self.axes, in_place)

    # ------------------------------------------------------------------------------------------------------- forward

    def closure(self, wanted: Iterable[Symbol]) -> set[Symbol]:
        """Nodes that these depend on, themselves included."""
        needed = set(wanted)
        for node in reversed(self.program.nodes):
            if node.symbol in needed:
                needed |= set(self.program.reads(node))
        return needed

    def forward(self) -> None:
        """Each needed node in its stage."""
        stage = forward_stages(self.program)
        late = {n.symbol for n in self.program.nodes if isinstance(n, Product) and stage[n.symbol] == "after"}
        for node in self.program.nodes:  # what a product of the readout leads to is left for the backward pass
            if any(s in late for s in self.program.reads(node)):
                late.add(node.symbol)
        early = self.closure({*self.states, *(self.stored - late)})
        whole = self.closure({*self.states, *self.stored, *self.observed})
        late = {n.symbol for n in self.program.nodes if n.symbol in whole and n.symbol not in early}
        for name in ("before", "loop", "late"):
            jobs = []
            for node in self.program.nodes:
                s = node.symbol
                own = "late" if s in late else "before" if stage[s] == "before" else "loop"
                if s not in whole or own != name:
                    continue
                if isinstance(node, Pointwise):
                    jobs.append(Job(s, node.axis, symbols_of(node.expression), expression=node.expression))
                else:
                    jobs.append(Job(s, node.axis, (node.operand,), product=node))
            self.stages[name] = list(self.taken_apart(schedule(jobs, lambda _: True)))

    # ------------------------------------------------------------------------------------------------------ backward

    def backward(self, plan: BackwardPlan) -> None:
        """The plan's own operations, and the sums."""
        for target in plan.flows:
            axis = self.axes.get(target)
            if axis is not None:
                self.axes |= {d_of(target): axis, plan.partial(target): axis}
        for name in sorted({*plan.active, *self.cell.states}):
            self.axes |= {local_of(at(name)): self.cell.axes[name], carried_of(at(name)): self.cell.axes[name]}
        for name, own in (("after", "after"), ("reverse", "loop"), ("inputs", "before")):
            operations = self.plans.reverse[own, self.full]
            for operation in operations:  # what a product makes has the size of what it is a part of
                if isinstance(operation, Kernel):
                    for s, e in operation.steps:
                        for gathered in (x for x in e.free_symbols if x not in self.axes):
                            self.axes[gathered] = self.axes[s]
            self.stages[name] = list(self.taken_apart(operations))
        by_operand: dict[Symbol, list[tuple[Symbol, str, bool]]] = {}
        for matrix, pair in plan.outers():
            by_operand.setdefault(pair.operand, []).append((plan.d(pair.source), matrix, pair.transposed))
        for operand, terms in by_operand.items():
            targets = tuple((m, turned) for _, m, turned in terms)
            self.outers.append(Outers(operand, tuple(d for d, _, _ in terms), targets))
        for parameter, kernels in plan.vectors().items():
            for kernel in kernels:
                ((_, e),), (axis,) = kernel.steps, kernel.axes
                scalar = not self.cell.parameters[parameter.name]
                self.sums.append(Summed(parameter.name, axis, e, scalar))

    def taken_apart(self, operations: Iterable[Operation]) -> Iterable[Op]:
        """The operations with one size each, and sums of products one product after the other."""
        for operation in operations:
            if isinstance(operation, Multiply):
                parts = operation.parts
                yield Apply(tuple(s for s, _, _ in parts), tuple((m, t) for _, m, t in parts), operation.operand)
            elif isinstance(operation, Gather):
                for i, (d, matrix, transposed) in enumerate(operation.parts):
                    yield Apply((operation.result,), ((matrix, transposed),), d, adds=i > 0)
            else:
                by_axis: dict[str, list[tuple[Symbol, Expr]]] = {}
                for s, e in operation.steps:
                    by_axis.setdefault(self.axes[s], []).append((s, e))
                for axis, steps in by_axis.items():
                    yield Entrywise(axis, tuple(steps))

    # -------------------------------------------------------------------------------------------------------- copies

    def copies(self) -> dict[Symbol, Symbol]:
        """For each value that only copies another one, the symbol that both are known by.

        A product whose copy is the first one to be made takes the copy's name.  States have a place of their own, and
        what comes from the next step is overwritten, so neither stands for another.
        """
        same: dict[Symbol, Symbol] = {}
        made = {s for ops in self.stages.values() for op in ops if isinstance(op, Apply) for s in op.results}
        fixed = {*self.states, *(d_of(at(name, -1)) for name in self.cell.states)}
        carried = {carried_of(s) for s in self.states}
        for ops in self.stages.values():
            for op in ops:
                for s, e in op.steps if isinstance(op, Entrywise) else ():
                    source = _last(same, e) if e.is_Symbol else None
                    if source is None or source in carried or self.axes.get(source) != self.axes[s]:
                        continue
                    if source in made and source not in fixed:
                        same[source] = s
                    elif s not in fixed:
                        same[s] = source
        return {s: _last(same, s) for s in same}

    def renamed(self, same: dict[Symbol, Symbol]) -> None:
        """Every operation in terms of the symbols that are left."""
        to = lambda s: same.get(s, s)  # noqa: E731
        for name, ops in self.stages.items():
            out: list[Op] = []
            for op in ops:
                if isinstance(op, Apply):
                    out.append(replace(op, results=tuple(map(to, op.results)), operand=to(op.operand)))
                    continue
                steps = tuple((to(s), e.xreplace(same)) for s, e in op.steps)
                steps = tuple((s, e) for s, e in steps if s != e)
                if steps:
                    out.append(replace(op, steps=steps))
            self.stages[name] = out
        self.outers = [replace(o, operand=to(o.operand), sources=tuple(map(to, o.sources))) for o in self.outers]
        self.sums = [replace(s, expression=s.expression.xreplace(same)) for s in self.sums]

    # --------------------------------------------------------------------------------------------- what is read where

    def roots(self, same: dict[Symbol, Symbol]) -> set[Symbol]:
        """What is read besides the operations."""
        out = {*self.states, *self.observed}
        if self.plan:
            out |= {d_of(at(name, -1)) for name in self.cell.states}
            out |= {d_of(at(name)) for name in (*self.cell.inputs, *self.cell.states)} if self.full else set()
            out |= {s for o in self.outers for s in (o.operand, *o.sources)}
            out |= {s for total in self.sums for s in total.expression.free_symbols}
        return {same.get(s, s) for s in out}

    def drop_dead(self, same: dict[Symbol, Symbol]) -> None:
        """Leave out what nothing reads."""
        live = self.live = self.roots(same)
        for name in reversed(tuple(self.stages)):
            out: list[Op] = []
            for op in reversed(self.stages[name]):
                if isinstance(op, Apply):
                    if live & {*op.results}:
                        live.add(op.operand)
                        out.append(op)
                    continue
                steps = []
                for s, e in reversed(op.steps):
                    if s in live:
                        live |= e.free_symbols
                        steps.append((s, e))
                if steps:
                    out.append(replace(op, steps=tuple(reversed(steps))))
            self.stages[name] = out[::-1]
        self.wanted = self.roots(same)

    def stage_stores(self) -> None:
        """Which results of a kernel are read by others."""
        reads: dict[Symbol, set[int]] = {}
        everything = [op for ops in self.stages.values() for op in ops]
        for i, op in enumerate(everything):
            for s in reads_of(op):
                reads.setdefault(s, set()).add(i)
        count = 0
        for name, ops in self.stages.items():
            out: list[Op] = []
            for op in ops:
                if isinstance(op, Apply):
                    out.append(op)
                else:
                    stores = [s for s, _ in op.steps if s in self.wanted or reads.get(s, set()) - {count}]
                    out.append(replace(op, stores=tuple(stores)))
                count += 1
            self.stages[name] = out

    # -------------------------------------------------------------------------------------------------------- places

    def may_overwrite(self, name: str, same: dict[Symbol, Symbol]) -> bool:
        """Whether nothing reads what a state received after what it hands back has begun to be written."""
        back, carried = d_of(at(name, -1)), carried_of(at(name))
        back = same.get(back, back)
        ops = self.stages["reverse"]
        writes = [i for i, op in enumerate(ops) if back in made_by(op)]
        reads = [i for i, op in enumerate(ops) if carried in reads_of(op)]
        others = [op for stage, ops in self.stages.items() if stage != "reverse" for op in ops]
        if not writes or any(s in reads_of(op) for s in (back, carried) for op in others):
            return False
        if any(back in reads_of(op) for op in ops if isinstance(op, Apply)):
            return False
        first, entrywise = writes[0], isinstance(ops[writes[0]], Entrywise)  # entry by entry, it reads, then writes
        return all(i < first or (i == first and entrywise) for i in reads)

    # -------------------------------------------------------------------------------------------------------- places

    def fields(self, placed: set[Symbol]) -> tuple[Field, ...]:
        """A place for everything that is stored, but ``placed``; what stages of the other pass read is on the tape."""
        early = [op for name in ("before", "loop") for op in self.stages[name]]
        others = [op for name, ops in self.stages.items() if name not in ("before", "loop") for op in ops]
        later = {s for op in others for s in reads_of(op)} | (self.wanted if self.plan or self.observed else set())
        made = [s for op in early for s in made_by(op)]
        taped = dict.fromkeys([*self.states, *(s for s in made if s in later)])
        out = {s: Field(s, self.axes[s], "tape") for s in taped}
        for o in self.outers:  # side by side, if they can be, so that one product makes all of these gradients
            out |= {s: Field(s, self.axes[s], "scratch") for s in o.sources if s not in out}
        for op in [*early, *others]:
            out |= {s: Field(s, self.axes[s], "scratch") for s in made_by(op) if s not in out and s not in placed}
        if self.plan:
            for name in sorted(self.plan.active):
                out.setdefault(local_of(at(name)), Field(local_of(at(name)), self.cell.axes[name], "scratch"))
            for s in self.states:
                out[carried_of(s)] = Field(carried_of(s), self.axes[s], "carried")
        return tuple(out.values())


def _last(same: dict[Symbol, Symbol], s: Any) -> Symbol:
    """Follow copies to the end."""
    while s in same:
        s = same[s]
    return s
