"""Real-time recurrent learning: the gradient carried forward in time, without a backward pass.

With S_t = ds_t/dtheta, all states by all entries of theta,

    S_t = ds_t/ds_{t-1} S_{t-1} + ds_t/dtheta,     dL/dtheta = sum over t of  dL/dy_t (dy_t/ds_t S_t + dy_t/dtheta)

computed node by node from forward derivatives only: the chain rule of :mod:`numeric.tangent` for many directions at
once, one entry of theta each.  Nothing of a step is needed after it.  It costs as many tangent passes as theta has
entries, so it is for networks small enough to be looked at.

R. J. Williams, D. Zipser, "A learning algorithm for continually running fully recurrent neural networks", Neural
Computation 1 (1989) 270-280.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Unpack

import numpy as np
from sympy import Expr, Symbol

from derive.cell import Cell
from derive.notation import at, parameter
from derive.program import Pointwise, Product
from numeric.arguments import Array, Data, check_known
from numeric.engine import Engine
from numeric.losses import evaluate_loss
from numeric.nodewise import Nodes, Values, apply, evaluator, frozen
from numeric.problem import Options, Problem, check_problem
from numeric.tangent import tangent_terms

__all__ = ["Sensitivity", "rtrl"]

#: Numbers in the tangents of one step: directions are taken in chunks of ROOM / (B * sum of the nodes' sizes).
ROOM = 1 << 21


def rtrl(
    engine: Engine,
    params: Mapping[str, Any],
    inputs: Any = None,
    targets: Any = None,
    *,
    of: Iterable[str] | None = None,
    **options: Unpack[Options],
) -> tuple[Any, dict[str, Array]]:
    """The loss and its gradient, by real-time recurrent learning.

    The arguments are those of :meth:`Engine.backward`; of the engine only the cell and the dtype are used.  ``of``
    names the tensors wanted: parameters, inputs, and initial states as their names plus ``0``; parameters and initial
    states where left out.  The tangents of a step hold at most ``ROOM`` numbers (16 MB of float64), or one direction;
    beside them the values of all steps are kept once, T * B * (sum of the nodes' sizes).  Raises ValueError for an
    unknown tensor, and as the engine does.

    >>> engine = Engine("tanh_rnn")
    >>> params = engine.init(seed=0, D=2, H=3, O=2)
    >>> loss, grads = rtrl(engine, params, np.ones((4, 1, 2)), np.zeros((4, 1), int))
    >>> {name: g.shape for name, g in grads.items()}
    {'W_hh': (3, 3), 'W_xh': (3, 2), 'b': (3,), 'W_hy': (2, 3), 'h0': (1, 3)}
    """
    problem = check_problem(engine.cell, engine.dtype, params, inputs, targets, options)
    data = problem.data
    default = (*data.params, *(f"{n}0" for n in data.initial))
    names = default if of is None else tuple(of)
    check_known("tensor", names, (*default, *data.inputs))
    work = Sensitivity(engine.cell, problem)
    return work.loss, {name: work.gradient(name) for name in names}


class Sensitivity:
    """The values of all steps of one problem, and the gradient of any entry from them."""

    def __init__(self, cell: Cell, problem: Problem) -> None:
        self.cell, self.data, self.step = cell, problem.data, _step(cell)
        with np.errstate(all="ignore"):
            self.tape = self.step.nodes.along(self.data)
            self.factors = [self.step.factors(values) for values in self.tape]
            self.loss, self.local = evaluate_loss(problem.loss, _observed(cell, self.data, self.tape))

    def directions(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor's directions: (T, size) for an input and (size,) for an initial state, because all
        sequences are moved at once and none sees another.
        """
        data = self.data
        if name in data.params:
            return data.params[name].shape
        return (data.steps, data.inputs[name].shape[-1]) if name in data.inputs else data.initial[name[:-1]].shape[1:]

    def width(self) -> int:
        """Numbers in the tangents of one step along one direction."""
        return self.data.batch * sum(self.data.sizes[node.axis] for node in self.step.nodes.program.nodes)

    def gradient(self, name: str) -> Array:
        """The gradient by one tensor."""
        shape = self.directions(name)
        found = self.along(name, np.arange(int(np.prod(shape, dtype=int))))
        if name in self.data.params:
            return found.sum(axis=1).reshape(shape)
        return np.moveaxis(found.reshape(*shape, self.data.batch), -1, -2)

    def entries(self, name: str, indices: Sequence[tuple[int, ...]]) -> Array:
        """The gradient by some entries of one tensor."""
        shape, own = self.directions(name), name in self.data.params
        places = [index if own else (*index[:-2], index[-1]) for index in indices]
        flat = [int(np.ravel_multi_index(place, shape)) if shape else 0 for place in places]
        found = self.along(name, np.array(flat, int))
        return found.sum(axis=1) if own else found[np.arange(len(indices)), [index[-2] for index in indices]]

    def along(self, name: str, flat: Array) -> Array:
        """The loss's derivative along some directions, given by their flat indices, by sequence (P, B)."""
        most, shape = max(1, ROOM // self.width()), self.directions(name)
        chunks = [flat[start : start + most] for start in range(0, len(flat), most)]
        with np.errstate(all="ignore"):
            parts = [
                _Chunk(self.step, self.data, name, shape, chunk).run(self.tape, self.factors, self.local)
                for chunk in chunks
            ]
        return np.concatenate(parts)


def _observed(cell: Cell, data: Data, tape: list[Values]) -> dict[str, Array]:
    """Outputs, zero beyond each sequence's last step, and states, (T, B, size)."""
    out = {}
    for name in (*cell.outputs, *cell.states):
        shape = (data.batch, data.sizes[cell.axes[name]])
        out[name] = np.stack([np.broadcast_to(values[at(name)], shape) for values in tape])
    if data.mask is not None and data.lengths is not None:
        for name in cell.outputs:
            out[name] = np.where(data.mask[:, :, None], out[name], 0)
        for name in cell.states:
            last = np.minimum(np.arange(data.steps)[:, None], data.lengths - 1)  # (T, B)
            out[name] = out[name][last, np.arange(data.batch)]
    return out


# ----------------------------------------------------------------------------------------------------- one step's work


@dataclass(frozen=True, eq=False)
class _Step:
    """The nodes of a cell, and the derivatives of each by what it reads."""

    nodes: Nodes
    terms: Mapping[Symbol, tuple[tuple[Symbol, Symbol], ...]]  # node -> (read, name of the factor)
    factors: Any


@lru_cache(maxsize=64)
def _step(cell: Cell) -> _Step:
    nodes, terms = Nodes(cell), {}
    named: dict[Expr, Symbol] = {}
    for v, parts in tangent_terms(nodes.program).items():
        terms[v] = tuple((read, named.setdefault(e, Symbol(f"factor {len(named)}", real=True))) for read, e in parts)
    return _Step(nodes, terms, evaluator({symbol: e for e, symbol in named.items()}))


class _Chunk:
    """Some entries of one tensor, each a direction: the tangents (P, B, size) of the nodes along all of them."""

    def __init__(self, step: _Step, data: Data, name: str, shape: tuple[int, ...], entries: Array) -> None:
        self.step, self.data, self.name = step, data, name
        self.count = len(entries)
        self.index = np.unravel_index(entries, shape) if shape else ()

    def run(self, tape: list[Values], factors: list[Values], local: Mapping[str, Array]) -> Array:
        """The loss's derivative along each direction, by sequence (P, B)."""
        data, cell = self.data, self.step.nodes.cell
        moved = {n: self.zeros(s.shape[-1], data.batch) for n, s in data.initial.items()}
        if self.name not in (*data.params, *data.inputs):
            moved[self.name[:-1]][np.arange(self.count), :, self.index[0]] = 1
        total = np.zeros((self.count, data.batch), data.dtype)
        for t, (values, factor) in enumerate(zip(tape, factors, strict=True)):
            dots = self.tangents(values, factor, {at(n, -1): dot for n, dot in moved.items()} | self.given(t))
            for n, slope in local.items():
                if at(n) in dots:
                    part = (dots[at(n)] * slope[t]).sum(axis=-1)
                    total += part if data.mask is None else np.where(data.mask[t], part, 0)
            for n in cell.states:
                after = dots.get(at(n))
                moved[n] = frozen(data, t, np.zeros_like(moved[n]) if after is None else after, moved[n])
        return total

    def zeros(self, size: int, batch: int = 1) -> Array:
        return np.zeros((self.count, batch, size), self.data.dtype)

    def given(self, t: int) -> dict[Symbol, Array]:
        """The tangents of an input, a vector or a scalar: one where the direction's own entry is."""
        data, name = self.data, self.name
        if name in data.inputs:
            dot = self.zeros(data.inputs[name].shape[-1])
            here = self.index[0] == t
            dot[here, :, self.index[1][here]] = 1
            return {at(name): dot} if here.any() else {}
        if name not in data.params or data.params[name].ndim == 2:
            return {}
        if not self.index:
            return {parameter(name): self.zeros(1) + 1}
        dot = self.zeros(len(data.params[name]))
        dot[np.arange(self.count), :, self.index[0]] = 1
        return {parameter(name): dot}

    def tangents(self, values: Values, factor: Values, dots: dict[Symbol, Array]) -> dict[Symbol, Array]:
        """Add the tangent of every node that moves to those of what the step is given."""
        for node in self.step.nodes.program.nodes:
            if isinstance(node, Pointwise):
                parts = [factor[f] * dots[read] for read, f in self.step.terms[node.symbol] if read in dots]
            else:
                parts = list(self.product(node, values, dots))
            if parts:
                shape = (self.count, self.data.batch, self.data.sizes[node.axis])
                dots[node.symbol] = np.broadcast_to(sum(parts[1:], parts[0]), shape)
        return dots

    def product(self, node: Product, values: Values, dots: dict[Symbol, Array]) -> Iterator[Array]:
        """W u' and, for a direction in W, what the one moved entry multiplies."""
        if node.operand in dots:
            yield apply(self.data.params[node.matrix], node.transposed, dots[node.operand])
        if node.matrix == self.name:
            row, column = self.index[::-1] if node.transposed else self.index
            operand = np.broadcast_to(values[node.operand], (self.data.batch, values[node.operand].shape[-1]))
            moved = self.zeros(self.data.sizes[node.axis], self.data.batch)
            moved[np.arange(self.count), :, row] = operand[:, column].T
            yield moved
