"""The plain, slow specification: a cell unrolled over a few steps into scalars, over any algebra.

:func:`unroll` follows the author's equations entry by entry, with every product spelled out as a sum.
:func:`sweep` runs a backward program over the unrolled values: the one fixed combinator over time and batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

from sympy import Integer, Symbol

from derive.adjoint import Adjoint, Backward
from derive.algebra import Algebra, Entries, evaluate, total
from derive.cell import Cell
from derive.notation import at, parameter
from derive.program import Pointwise, Program

__all__ = ["Gradient", "Problem", "Values", "explicit", "run_program", "step_back", "sweep", "unroll"]

Values = dict[Symbol, list[Any]]
Key = tuple[
    Any, ...
]  # ("W_hh", 0, 1) a matrix entry, ("b", 0), ("alpha",), ("x", t, k) with t from 1, ("h", 0, k) at t = 0
Gradient = dict[Key, Any]


@dataclass(frozen=True)
class Problem:
    """One sequence: what a cell computes with, every entry made by ``make`` from its key.

    Raises nothing; sizes map every letter of ``cell.dimensions`` to a small integer.  A key's entry is the same
    whenever it is made, so that parameters are made once.
    """

    cell: Cell
    algebra: Algebra
    steps: int
    sizes: Mapping[str, int]
    make: Callable[[Key], Any]

    @cached_property
    def parameters(self) -> tuple[dict[str, list[list[Any]]], Values, dict[Symbol, Any]]:
        """Matrices by name, vectors and scalars by symbol."""
        matrices: dict[str, list[list[Any]]] = {}
        vectors: Values = {}
        scalars: dict[Symbol, Any] = {}
        for name, shape in self.cell.parameters.items():
            extents = [range(self.sizes[x]) for x in shape]
            if len(shape) == 2:
                matrices[name] = [[self.make((name, i, j)) for j in extents[1]] for i in extents[0]]
            elif len(shape) == 1:
                vectors[parameter(name)] = [self.make((name, i)) for i in extents[0]]
            else:
                scalars[parameter(name)] = self.make((name,))
        return matrices, vectors, scalars

    def vector(self, name: str, t: int) -> list[Any]:
        """Entries of an input at t, or of an initial state at t = 0."""
        return [self.make((name, t, k)) for k in range(self.sizes[self.cell.axes[name]])]

    def entries(self) -> list[Key]:
        """Everything that a gradient can be taken by: parameters, inputs, initial states."""
        cell, out = self.cell, []
        for name, shape in cell.parameters.items():
            out += [(name, *index) for index in product(*(range(self.sizes[x]) for x in shape))]
        for name in cell.inputs:
            out += [(name, t, k) for t in range(1, self.steps + 1) for k in range(self.sizes[cell.axes[name]])]
        for name in cell.states:
            out += [(name, 0, k) for k in range(self.sizes[cell.axes[name]])]
        return out


def explicit(cell: Cell, key: Key, sequence: str = "") -> Symbol:
    """The scalar symbol of a key, entries counted from 1.

    ``W_hh[1,2]`` is an entry of a matrix, ``x[1][2]`` entry 2 of x at t = 1, ``h[0][1]`` of an initial state;
    ``sequence`` tells the sequences of a batch apart (parameters are shared).
    """
    name, *index = key
    if name in cell.parameters:
        return parameter(f"{name}[{','.join(str(i + 1) for i in index)}]" if index else name)
    return parameter(f"{name}{sequence}[{index[0]}][{index[1] + 1}]")


def unroll(problem: Problem) -> list[Values]:
    """Values of every vector at every step, straight from the equations; the list's first entry is step 1."""
    cell = problem.cell
    matrices, vectors, scalars = problem.parameters
    previous = {name: problem.vector(name, 0) for name in cell.states}
    steps: list[Values] = []
    for t in range(1, problem.steps + 1):
        values: Values = {at(name, -1): entries for name, entries in previous.items()}
        values |= {at(name): problem.vector(name, t) for name in cell.inputs}
        for name in cell.order:
            reader = Entries(problem.algebra, vectors | values, scalars, matrices)
            size = problem.sizes[cell.axes[name]]
            values[at(name)] = [reader.entry(cell.equations[name], k) for k in range(size)]
        previous = {name: values[at(name)] for name in cell.states}
        steps.append(values)
    return steps


def run_program(program: Program, problem: Problem, values: Values) -> Values:
    """Values of every node of one step, from inputs and previous states."""
    matrices, vectors, scalars = problem.parameters
    out = vectors | {s: v for s, v in values.items() if s not in program.node}
    for node in program.nodes:
        size = range(problem.sizes[node.axis])
        if isinstance(node, Pointwise):
            out[node.symbol] = [_at_entry(node.expression, out, scalars, k, problem.algebra) for k in size]
        else:
            m, v = matrices[node.matrix], out[node.operand]
            rows = [[row[k] for row in m] for k in size] if node.transposed else m
            out[node.symbol] = [total([w * x for w, x in zip(row, v, strict=True)]) for row in rows]
    return out


def _at_entry(e: Any, vectors: Values, scalars: Mapping[Symbol, Any], k: int, algebra: Algebra) -> Any:
    return evaluate(e, lambda s: scalars[s] if s in scalars else vectors[s][k], algebra)


def step_back(
    backward: Backward, problem: Problem, values: Values, arriving: Values
) -> tuple[dict[Symbol, list[Any]], dict[str, list[list[Any]]]]:
    """One step of the backward program: d of every symbol, and the matrix gradients' terms.

    ``values`` are the nodes' values, ``arriving`` what each output and state receives from the loss and the next step.
    """
    program, algebra = backward.program, problem.algebra
    matrices, _, scalars = problem.parameters
    axes = program.axes
    zero = algebra.number(Integer(0))
    d: dict[Symbol, list[Any]] = {}
    for target, flows in backward.flows.items():
        size = problem.sizes[axes[target]] if target in axes else 1
        terms = [arriving[target]] if target in arriving else []
        for flow in flows:
            source = d[flow.source]
            if isinstance(flow, Adjoint):
                m = matrices[flow.matrix]
                rows = [[row[k] for row in m] for k in range(size)] if flow.transposed else m
                product_ = [total([w * x for w, x in zip(row, source, strict=True)]) for row in rows]
                terms.append([x * _at_entry(flow.scale, values, scalars, k, algebra) for k, x in enumerate(product_)])
                continue
            whole = range(len(source)) if target in scalars or target in axes else range(size)
            pointwise = [source[k] * _at_entry(flow.factor, values, scalars, k, algebra) for k in whole]
            terms.append([total(pointwise)] if target in scalars else pointwise)
        d[target] = [total([term[k] for term in terms]) if terms else zero for k in range(size)]
    outers: dict[str, list[list[Any]]] = {}
    for name, pairs in backward.matrices.items():
        height, width = (range(problem.sizes[x]) for x in problem.cell.parameters[name])
        outers[name] = [[zero for _ in width] for _ in height]
        for pair in pairs:
            a, b = d[pair.source], values[pair.operand]
            left, right = (b, a) if pair.transposed else (a, b)
            outers[name] = [[outers[name][i][j] + left[i] * right[j] for j in width] for i in height]
    return d, outers


Carry = Callable[[int, list[Any]], list[Any]]


def sweep(
    backward: Backward,
    problem: Problem,
    tapes: Sequence[Values],
    local: Sequence[Values],
    *,
    final: Values | None = None,
    carry: Carry = lambda t, entries: entries,
    backwards: bool = True,
) -> list[Gradient]:
    """BPTT in the small: each step's contribution to the gradient, keyed as in :meth:`Problem.entries`.

    ``tapes`` hold the node values, ``local`` what the loss gives each output and state at each step, ``final`` what
    arrives at the last states from beyond the sequence.  The gradient is the sum of the contributions.  ``carry`` and
    ``backwards`` exist so that mistakes in the loop can be planted; the right loop leaves them alone.
    """
    cell, zero = problem.cell, problem.algebra.number(Integer(0))
    carried = dict(final or {})
    contributions: list[Gradient] = [{} for _ in tapes]
    order = range(len(tapes))
    for t in reversed(order) if backwards else order:
        arriving = {s: list(v) for s, v in local[t].items()}
        for name in cell.states:
            s = at(name)
            back = carried.get(s, [zero] * problem.sizes[cell.axes[name]])
            arriving[s] = [a + b for a, b in zip(arriving[s], back, strict=True)] if s in arriving else back
        d, outers = step_back(backward, problem, tapes[t], arriving)
        carried = {at(name): carry(t + 1, d[at(name, -1)]) for name in cell.states}
        out = contributions[t]
        for name, shape in cell.parameters.items():
            if len(shape) == 2:
                out.update({(name, i, j): x for i, row in enumerate(outers[name]) for j, x in enumerate(row)})
            else:
                entries = d[parameter(name)]
                out.update({(name, k): x for k, x in enumerate(entries)} if shape else {(name,): entries[0]})
        for name in cell.inputs:
            out.update({(name, t + 1, k): x for k, x in enumerate(d[at(name)])})
        if t == 0:
            out.update({(name, 0, k): x for name in cell.states for k, x in enumerate(carried[at(name)])})
    return contributions
