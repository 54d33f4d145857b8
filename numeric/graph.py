"""The work of a step as a graph of single operations, each at the earliest time at which it can be done.

Expressions are taken apart, equal parts are one; sums and products of many terms are ordered so that what is known
early is put together early.  The times of a pass, in order:

    CONST     once a call: parameters only             D_AFTER   all steps: derivatives that the readout gives
    BEFORE    all steps: inputs                        D_LOOP    step by step, backwards
    LOOP      step by step                             D_BEFORE  all steps: what only inputs and parameters need
    AFTER     all steps: readout, factors              SUMS      sums over time and sequences
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Any

from sympy import Expr, Symbol

from derive.notation import at, parameter
from numeric.compile import rounded
from numeric.operations import Gather, Kernel, Multiply, Operation, carried_of, d_of, local_of
from numeric.plan import Plans

__all__ = [
    "AFTER",
    "BEFORE",
    "CONST",
    "D_AFTER",
    "D_BEFORE",
    "D_LOOP",
    "LOOP",
    "PHASES",
    "SUMS",
    "Graph",
    "Op",
    "OuterSum",
    "RowSum",
]

CONST, BEFORE, LOOP, AFTER, D_AFTER, D_LOOP, D_BEFORE, SUMS = PHASES = range(8)
_FORWARD = {"before": BEFORE, "loop": LOOP, "after": AFTER}
_REVERSE = {"after": D_AFTER, "loop": D_LOOP, "before": D_BEFORE}

#: Derivatives of functions that are computed from the function's value where that loses nothing.
BY_VALUE = {"dtanh": "tanh", "dsigmoid": "sigmoid"}


@dataclass(eq=False)
class Op:
    """One operation: ``kind`` of ``args``, with ``data``, a vector of size ``axis`` (None: a scalar) at ``phase``.

    Kinds without arguments: number, scalar, vector, input, previous (a state one step before), given (a state that was
    kept), local (what the loss gives), carried (what the next step gives).  The others: add, subtract, multiply,
    divide, negative, square, copy, call (of the function ``data``), product (of the matrix ``data``) and gather (the
    sum of several products).
    """

    kind: str
    args: tuple[Op, ...]
    axis: str | None
    phase: int
    data: Any = None
    users: list[Op] = field(default_factory=list)
    index: int = 0

    @property
    def is_leaf(self) -> bool:
        """Whether nothing has to be computed."""
        return not self.args

    def __repr__(self) -> str:
        return f"%{self.index}={self.kind}{'' if self.data is None else f'[{self.data}]'}@{self.phase}"


@dataclass(frozen=True)
class OuterSum:
    """The sum over time and sequences of d operand.T, the gradient of ``matrix``, or of its transpose."""

    matrix: str
    d: Op
    operand: Op
    transposed: bool


@dataclass(frozen=True)
class RowSum:
    """The sum over time and sequences of a vector, the gradient of ``parameter``; of its entries, for a scalar."""

    parameter: str
    term: Op


class Graph:
    """All operations of a pass; ``values`` are the forward values and the derivatives by their symbols.

    ``eager`` computes in the loop what could wait until it is over: more calls, but on numbers that are in the cache.
    ``fused``, where a loop's entrywise calls are one, leaves to it what could have been done before.  ``bare`` wants
    the states alone, of a graph without a backward pass; with ``given``, the states of every step are there, and
    everything else is computed from them for all steps at once: nothing is left to the loop.
    """

    def __init__(
        self,
        plans: Plans,
        *,
        want_inputs: bool = False,
        want_states: bool = False,
        eager: bool = False,
        fused: bool = False,
        bare: bool = False,
        given: bool = False,
    ) -> None:
        self.plans, self.cell, self.program = plans, plans.cell, plans.program
        self.want_inputs, self.want_states, self.eager, self.fused = want_inputs, want_states, eager, fused
        self.bare, self.given = bare, given
        self.made: dict[tuple[object, ...], Op] = {}
        self.ops: list[Op] = []
        self.values: dict[Symbol, Op] = {}
        self.parameters = {parameter(name): shape for name, shape in self.cell.parameters.items() if len(shape) < 2}
        for symbol, shape in self.parameters.items():
            kind, axis = ("vector", shape[0]) if shape else ("scalar", None)
            self.values[symbol] = self.op(kind, (), axis, CONST, symbol.name)
        for name in self.cell.inputs:
            self.values[at(name)] = self.op("input", (), self.cell.axes[name], BEFORE, name)
        for name in self.cell.states:
            self.values[at(name, -1)] = self.op("previous", (), self.cell.axes[name], BEFORE if given else LOOP, name)
        self.forward()
        self.d_states: dict[str, Op] = {}
        self.carried: dict[str, Op] = {}
        self.d_inputs: dict[str, Op] = {}
        self.outer_sums: list[OuterSum] = []
        self.row_sums: list[RowSum] = []
        if plans.backward is not None:
            self.reverse()

    # ------------------------------------------------------------------------------------------------------ operations

    def op(self, kind: str, args: tuple[Op, ...], axis: str | None, phase: int, data: Any = None) -> Op:
        """The operation, made if there is none like it."""
        key = (kind, tuple(a.index for a in args), axis, data)
        if key not in self.made:
            new = Op(kind, args, axis, phase, data, index=len(self.ops))
            for a in dict.fromkeys(args):
                a.users.append(new)
            self.ops.append(new)
            self.made[key] = new
        return self.made[key]

    def simple(self, kind: str, args: tuple[Op, ...], stage: int, data: object = None) -> Op:
        """An entrywise operation of a statement that belongs to ``stage``, as early as its arguments allow."""
        axis = next((a.axis for a in args if a.axis is not None), None)
        args = tuple(self.op("copy", (a,), a.axis, BEFORE, a.data) if a.kind == "input" else a for a in args)
        phase = _earliest((a.phase for a in args), stage)
        if self.eager and phase == AFTER and all(a.phase <= LOOP for a in args):
            phase = LOOP
        if self.fused and not self.given and phase == BEFORE and stage == LOOP:
            phase = LOOP
        if phase == D_BEFORE:
            args = tuple(map(self._kept, args))
        return self.op(kind, args, axis, phase, data)

    def lower(self, e: Expr, stage: int) -> Op:
        """The operation that computes an expression."""
        if e.is_Symbol:
            return self.values[e]
        if e.is_Number:
            return self.op("number", (), None, CONST, float(e))
        if e.is_Add:
            return self._sum(e, stage)
        if e.is_Mul:
            return self._product(e, stage)
        if e.is_Pow:
            return self._power(e, stage)
        name = str(e.func)
        (argument,) = e.args
        inner = self.lower(argument, stage)
        if name in BY_VALUE:
            value = self.made.get(("call", (inner.index,), inner.axis, BY_VALUE[name]))
            if value is not None:
                return self.simple("call", (inner, value), stage, name)
        return self.simple("call", (inner,), stage, name)

    def _sum(self, e: Expr, stage: int) -> Op:
        """Terms that are known early first; those with a minus sign are subtracted."""
        terms = []
        for a in e.args:
            coefficient, _ = a.as_coeff_Mul()
            negative = bool(coefficient.is_Number and coefficient < 0)
            terms.append((negative, self.lower(-a if negative else a, stage)))
        terms.sort(key=lambda term: (_rank(term[1]), term[0]))
        # a positive one leads, so that a difference is one operation
        lead = next((k for k, (negative, _) in enumerate(terms) if not negative), None)
        if lead is not None and _rank(terms[lead][1])[0] == _rank(terms[0][1])[0]:
            terms.insert(0, terms.pop(lead))
        negative, total = terms[0]
        if negative:
            total = self.simple("negative", (total,), stage)
        for negative, term in terms[1:]:
            total = self.simple("subtract" if negative else "add", (total, term), stage)
        return total

    def _product(self, e: Expr, stage: int) -> Op:
        over = [a for a in e.args if a.is_Pow and a.exp.is_negative]
        factors = [a for a in e.args if a not in over]
        negative = -1 in factors
        ops = sorted((self.lower(a, stage) for a in factors if a != -1), key=_rank)
        total = reduce(lambda a, b: self.simple("multiply", (a, b), stage), ops) if ops else None
        for a in over:
            below = self.lower(a.base**-a.exp, stage)
            if total is None:
                total = self.op("number", (), None, CONST, 1.0)
            total = self.simple("divide", (total, below), stage)
        assert total is not None
        return self.simple("negative", (total,), stage) if negative else total

    def _power(self, e: Expr, stage: int) -> Op:
        base, n = self.lower(e.base, stage), int(e.exp)
        out = None
        square, left = base, abs(n)
        while left:
            if left & 1:
                out = square if out is None else self.simple("multiply", (out, square), stage)
            left >>= 1
            if left:
                square = self.simple("multiply", (square, square), stage)
        assert out is not None
        return self.simple("divide", (self.op("number", (), None, CONST, 1.0), out), stage) if n < 0 else out

    def sized(self, op: Op, axis: str) -> Op:
        """``op`` as a vector: a scalar is spread; it is known once a call, for only parameters are scalars."""
        return op if op.axis is not None else self.op("copy", (op,), axis, op.phase, "spread")

    # ------------------------------------------------------------------------------------------------------ statements

    def run(self, operations: Iterable[Operation], stage: int) -> None:
        """The statements of a stage."""
        for operation in operations:
            if isinstance(operation, Kernel):
                for symbol, e in operation.steps:
                    self.values[symbol] = self.lower(rounded(e), stage)
            elif isinstance(operation, Multiply):
                operand = self.values[operation.operand]
                for symbol, matrix, transposed in operation.parts:
                    node = self.program.node[symbol]
                    phase = _earliest([operand.phase], stage)
                    operand = self.sized(operand, self.program.axes[operation.operand])
                    self.values[symbol] = self.op("product", (operand,), node.axis, phase, (matrix, transposed))
            else:
                self._gather(operation, stage)

    def _gather(self, operation: Gather, stage: int) -> None:
        shapes = self.cell.parameters
        parts = tuple(self.sized(self.values[d], shapes[m][0 if t else 1]) for d, m, t in operation.parts)
        _, matrix, transposed = operation.parts[0]
        axis = shapes[matrix][1 if transposed else 0]
        which = tuple((m, t) for _, m, t in operation.parts)
        phase = _earliest((p.phase for p in parts), stage)
        parts = tuple(map(self._kept, parts)) if phase == D_BEFORE else parts
        self.values[operation.result] = self.op("gather", parts, axis, phase, which)

    def forward(self) -> None:
        """The forward stages; each state's value is an operation of its own in the loop, or before it."""
        for name, stage in _FORWARD.items():
            self.run(self.plans.operations[name], stage)
            if name == "loop":
                self._given_states() if self.given else self._states()
        self.outputs = {}
        for name in self.cell.outputs:
            if at(name) in self.values:
                op = self.sized(self.values[at(name)], self.cell.axes[name])
                own = (op.is_leaf and op.kind != "given") or op.phase == CONST
                self.outputs[name] = self.op("copy", (op,), op.axis, AFTER, name) if own else op

    def _states(self) -> None:
        self.states: dict[str, Op] = {}
        for name in self.cell.states:
            op = self.values[at(name)]
            if op.is_leaf or op.phase != LOOP or op.kind == "product" or op in self.states.values() or op.axis is None:
                phase = max(op.phase, BEFORE) if op.phase != CONST else BEFORE
                op = self.op("copy", (op,), self.cell.axes[name], phase, name)
            self.states[name] = op
            self.values[at(name)] = op

    def _given_states(self) -> None:
        """What computes a state becomes a leaf, for whoever reads it: a value of tanh, say, that a derivative is by."""
        self.states = {}
        for name in self.cell.states:
            op = self.values[at(name)]
            if op.is_leaf or op.phase == CONST or op.axis is None:
                op = self.op("copy", (op,), self.cell.axes[name], BEFORE, name)
            op.kind, op.args, op.data = "given", (), name
            self.states[name] = self.values[at(name)] = op

    def reverse(self) -> None:
        """The backward stages and the sums."""
        plan = self.plans.backward
        assert plan is not None
        axes, want = self.cell.axes, self.want_inputs
        for name in plan.active:
            self.values[local_of(at(name))] = self.op("local", (), axes[name], D_AFTER, name)
        for name in self.cell.states:
            self.values[carried_of(at(name))] = self.op("carried", (), axes[name], D_LOOP, name)
        for name, stage in _REVERSE.items():
            self.run(self.plans.reverse[name, want], stage)
        for name in self.cell.states if self.want_states else ():
            if (d := self.values.get(d_of(at(name)))) is not None and not _is_zero(d):
                self.d_states[name] = self._kept(self.sized(d, axes[name]))
        for name in self.cell.inputs if want else ():
            if (d := self.values.get(d_of(at(name)))) is not None and not _is_zero(d):
                self.d_inputs[name] = self._kept(self.sized(d, axes[name]))
        self._sums()
        for name in self.cell.states:
            if (d := self.values.get(d_of(at(name, -1)))) is not None:
                self.carried[name] = self._handed(self.sized(d, axes[name]), name)

    def _kept(self, op: Op) -> Op:
        """``op`` where all steps of it can be read: what is carried stands there for one step only."""
        return self.op("copy", (op,), op.axis, D_LOOP, "kept") if op.kind == "carried" else op

    def _handed(self, op: Op, name: str) -> Op:
        """What is carried to the step before: an operation of its own unless only the loop reads it."""
        others = [*self.carried.values(), *self.d_states.values(), *self.d_inputs.values()]
        others += [s.d for s in self.outer_sums] + [s.term for s in self.row_sums]
        inside = op.phase == D_LOOP and all(u.phase == D_LOOP for u in op.users) and op not in others
        own = inside and not op.is_leaf
        return op if own else self.op("copy", (op,), self.cell.axes[name], D_LOOP, f"carried {name}")

    def _sums(self) -> None:
        backward = self.plans.backward
        assert backward is not None
        for name, pair in backward.outers():
            rows = self.cell.parameters[name]
            d = self.values[backward.d(pair.source)]
            if _is_zero(d):
                continue
            d = self.sized(d, rows[1 if pair.transposed else 0])
            d = self._kept(d)
            operand = self.sized(self.values[pair.operand], rows[0 if pair.transposed else 1])
            self.outer_sums.append(OuterSum(name, d, operand, pair.transposed))
        for target, kernels in backward.vectors().items():
            for kernel in kernels:
                ((_, e),) = kernel.steps
                term = self.lower(rounded(e), D_BEFORE)
                if _is_zero(term):
                    continue
                term = self._kept(self.sized(term, kernel.axes[0]))
                self.row_sums.append(RowSum(target.name, term))

    # ------------------------------------------------------------------------------------------------------------ need

    @cached_property
    def wanted(self) -> list[Op]:
        """Operations that something outside of the graph reads."""
        found = [*self.states.values(), *self.carried.values(), *self.d_inputs.values()]
        found += [x for s in self.outer_sums for x in (s.d, s.operand)] + [s.term for s in self.row_sums]
        if self.plans.backward is None:
            found += [] if self.bare else self.outputs.values()
        else:
            active = self.plans.backward.active
            found += [op for name, op in self.outputs.items() if self.want_states or name in active]
            if self.want_states:
                found += self.d_states.values()
        return list(dict.fromkeys(found))

    @cached_property
    def live(self) -> list[Op]:
        """Operations that are needed, in an order in which they can be done within each phase."""
        seen: set[Op] = set()

        def visit(root: Op) -> Iterator[Op]:
            stack = [(root, False)]
            while stack:
                op, ready = stack.pop()
                if ready:
                    yield op
                elif op not in seen:
                    seen.add(op)
                    stack.append((op, True))
                    stack += [(a, False) for a in reversed(op.args)]

        found = [op for root in self.wanted for op in visit(root)]
        return sorted(found, key=lambda op: op.index)


def _is_zero(op: Op) -> bool:
    """Whether a derivative is zero whatever the numbers are."""
    return op.kind == "number" and op.data == 0


def _rank(op: Op) -> tuple[int, int, int]:
    """Terms are put together in this order: known early first, products of matrices before the rest."""
    return op.phase, 0 if op.kind in ("product", "gather", "carried") else 1, op.index


def _earliest(phases: Iterable[int], stage: int) -> int:
    """The phase of what has arguments of these phases, in a statement of ``stage``."""
    latest = max(phases, default=CONST)
    if latest <= BEFORE:
        return latest
    if stage <= AFTER:
        return stage
    return AFTER if latest <= AFTER else D_AFTER if latest == D_AFTER else stage
