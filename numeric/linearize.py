"""The step Jacobian in numbers, for any cell: its words evaluated at the values of a forward pass.

With the states side by side, s = (h, c, ...), n entries in all,

    J_t = ds_t/ds_{t-1} = sum of words  D_k M_k ... D_1 M_1 D_0

where each M is a parameter matrix or its transpose and each D the diagonal of an entrywise expression; the words are
those of :func:`derive.jacobian.step_jacobian`.  Nothing but states and inputs is kept of a pass: what the diagonals
read is computed again, for a block of steps at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from itertools import product as every
from typing import Any

import numpy as np
from sympy import Expr, Integer, Mul, Symbol

from derive.jacobian import step_jacobian
from derive.notation import at, time_of
from derive.program import Product, Program
from derive.words import Letter, plain
from derive.zero import BudgetError
from numeric.arguments import Array, Data, check_data
from numeric.engine import Engine
from numeric.operations import Kernel, symbols_of
from numeric.plan import ForwardPlan
from numeric.stages import STAGES
from numeric.tape import Runner

__all__ = ["Linearization", "Trajectory", "check_sequence", "follow"]

#: Numbers in the Jacobians of one block of steps.
BLOCK = 1 << 18


# ------------------------------------------------------------------------------------------------------------ in words


@dataclass(frozen=True)
class Term:
    """One product of matrices and diagonals within a block of J.

    ``letters`` are the matrices from right to left, ``factors`` the diagonals D_0 ... D_k, None for the identity.
    """

    row: str
    column: str
    letters: tuple[Letter, ...]
    factors: tuple[Symbol | None, ...]


def _slots(e: Expr) -> set[int]:
    return {slot for slot in (plain(s)[1] for s in e.free_symbols) if slot is not None}


def _separated(e: Expr) -> list[dict[int, Expr]]:
    """A coefficient as a sum of products, each with one expression for each slot.

    >>> from derive.words import at_slot
    >>> a, b = at_slot(at("a"), 0), at_slot(at("b"), 1)
    >>> _separated(a * (a + b))
    [{0: a[t]@0**2}, {0: a[t]@0, 1: b[t]@1}]
    """
    slots = _slots(e)
    if len(slots) < 2:
        return [{min(slots, default=0): e}]
    if e.is_Add:
        return [part for term in e.args for part in _separated(term)]
    factors = [e.base] * int(e.exp) if e.is_Pow else e.args if e.is_Mul else ()
    if not factors:
        raise TypeError(f"{e} mixes places of a word that are not a product")
    return [_merged(parts) for parts in every(*map(_separated, factors))]


def _merged(parts: tuple[dict[int, Expr], ...]) -> dict[int, Expr]:
    slots = sorted({slot for part in parts for slot in part})
    return {slot: Mul(*(part[slot] for part in parts if slot in part)) for slot in slots}


class _Terms:
    """The words of J taken apart: its terms, and one kernel for all their diagonals."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.named: dict[tuple[Expr, str], Symbol] = {}
        self.terms = [
            self.term(s, r, letters, part)
            for s, row in step_jacobian(program).items()
            for r, words in row.items()
            for letters, coefficient in words.items()
            for part in _separated(coefficient)
        ]

    def term(self, row: str, column: str, letters: tuple[Letter, ...], part: Mapping[int, Expr]) -> Term:
        shapes = (self.program.cell.parameters[m][:: -1 if transposed else 1] for m, transposed in letters)
        axes = [self.program.cell.axes[column], *(shape[0] for shape in shapes)]
        factors = (self.diagonal(part.get(k, Integer(1)), axis) for k, axis in enumerate(axes))
        return Term(row, column, letters, tuple(factors))

    def diagonal(self, e: Expr, axis: str) -> Symbol | None:
        e = e.xreplace({s: plain(s)[0] for s in e.free_symbols})
        if e == 1:
            return None
        return self.named.setdefault((e, axis), Symbol(f"diagonal {len(self.named)}", real=True))

    @cached_property
    def kernel(self) -> Kernel:
        """All diagonals at once."""
        steps = tuple((symbol, e) for (e, _), symbol in self.named.items())
        reads = dict.fromkeys(s for _, e in steps for s in symbols_of(e))
        return Kernel(tuple(reads), steps, tuple(s for s, _ in steps), tuple(axis for _, axis in self.named))

    @cached_property
    def forward(self) -> ForwardPlan:
        """How the values are computed that the diagonals read."""
        return ForwardPlan(self.program, frozenset(s for s in self.kernel.inputs if s in self.program.node))


@lru_cache(maxsize=64)
def _terms(program: Program) -> _Terms:
    try:
        return _Terms(program)
    except BudgetError as error:
        raise ValueError(f"the step Jacobian of {program.cell.name} cannot be written out: {error}") from None


# ---------------------------------------------------------------------------------------------------------- in numbers


@dataclass(frozen=True)
class Trajectory:
    """What one sequence went through: ``previous`` states s_0 ... s_{T-1} and ``inputs``, by name, each (T, size)."""

    previous: dict[str, Array]
    inputs: dict[str, Array]
    steps: int


class Linearization:
    """J as matrices (n, n), for the parameters in ``data``; the states side by side, in the order of the cell."""

    def __init__(self, program: Program, data: Data) -> None:
        self.program, self.data, self.terms = program, data, _terms(program)
        self.runner = Runner(data)
        edges = np.cumsum([0, *(data.sizes[program.cell.axes[s]] for s in program.cell.states)])
        self.place = {s: slice(*edge) for s, edge in zip(program.cell.states, pairwise(edges), strict=True)}
        self.size = int(edges[-1])
        operands = {node.operand for node in program.nodes if isinstance(node, Product)}
        self.steady = [s for s in operands if time_of(s)[1] is None]

    def at(self, previous: Mapping[str, Array], inputs: Mapping[str, Array]) -> Array:
        """J at N points (N, n, n), from previous states and inputs, each (N, size)."""
        count = len(next(iter(previous.values())))
        diagonals = self.diagonals(count, previous, inputs)
        out = np.zeros((count, self.size, self.size), self.data.dtype)
        for term in self.terms.terms:
            block = out[:, self.place[term.row], self.place[term.column]]
            factors = [None if f is None else diagonals[f] for f in term.factors]
            self.add(block, term.letters, factors)
        return out

    def diagonals(self, count: int, previous: Mapping[str, Array], inputs: Mapping[str, Array]) -> dict[Symbol, Array]:
        """Every D_k, as rows (N, size)."""
        values = dict(self.runner.constants)
        values |= {s: self.runner.spread(values[s], (count, len(values[s]))) for s in self.steady}
        values |= {at(name, -1): x for name, x in previous.items()} | {at(name): x for name, x in inputs.items()}
        operations = [o for stage in STAGES for o in self.terms.forward.operations(stage)] + [self.terms.kernel]
        with np.errstate(all="ignore"):
            for run in self.runner.bind(operations, (count,)):
                run(values)
        return {s: values[s] for s in self.terms.kernel.outputs}

    def add(self, block: Array, letters: tuple[Letter, ...], factors: list[Array | None]) -> None:
        """Add one term to a block (N, rows, columns) of J."""
        first, *others = factors
        if not letters:
            np.einsum("nii->ni", block)[...] += 1 if first is None else first
            return
        product: Any = 1 if first is None else first[:, None, :]
        for i, ((name, transposed), factor) in enumerate(zip(letters, others, strict=True)):
            matrix = self.data.params[name].T if transposed else self.data.params[name]
            product = matrix @ product if i else matrix * product
            product = product if factor is None else factor[:, :, None] * product
        block += product

    def along(self, path: Trajectory, *, backwards: bool = False) -> Iterator[Array]:
        """J_1, J_2, ... J_T one after the other, or J_T first; raises ValueError where one is not finite."""
        width = max(1, BLOCK // self.size**2)
        starts = range(0, path.steps, width)
        for start in reversed(starts) if backwards else starts:
            part = slice(start, start + width)
            previous, inputs = ({n: x[part] for n, x in xs.items()} for xs in (path.previous, path.inputs))
            block = self.at(previous, inputs)
            bad = ~np.isfinite(block).all(axis=(1, 2))
            if bad.any():
                raise ValueError(f"the step Jacobian is not finite at t = {start + int(bad.argmax()) + 1}")
            yield from block[::-1] if backwards else block


# -------------------------------------------------------------------------------------------------------- a trajectory


def check_sequence(sequence: Any, batch: int) -> int:
    """The number of a sequence; raises ValueError unless it is one of 0 ... B - 1."""
    if isinstance(sequence, bool) or not isinstance(sequence, int | np.integer) or not 0 <= sequence < batch:
        raise ValueError(f"sequence is {sequence!r}; expected an integer from 0 to {batch - 1}: B is {batch}")
    return int(sequence)


def follow(engine: Engine, params: Any, inputs: Any, sequence: Any, **rest: Any) -> tuple[Linearization, Trajectory]:
    """A forward pass of one sequence over its own steps, and what linearises it.

    ``rest`` is ``initial``, ``lengths``, ``steps`` and ``batch`` as :meth:`Engine.forward` takes them.  Raises
    ValueError as it does, for an engine of another type than float64, and where a state stops being finite.
    """
    if str(engine.dtype) != "float64":
        raise ValueError(f"Jacobians are computed in float64; found an engine of {engine.dtype}")
    data = check_data(engine.cell, engine.dtype, params, inputs, **rest)
    b = check_sequence(sequence, data.batch)
    steps = data.steps if data.lengths is None else int(data.lengths[b])
    own = {name: x[:steps, b : b + 1] for name, x in data.inputs.items()}
    start = {name: s[b : b + 1] for name, s in data.initial.items()}
    size = {} if own else {"steps": steps, "batch": 1}
    outputs = engine.forward(data.params, own, start, **size)
    previous = {name: np.concatenate([start[name], outputs[name][:, 0]]) for name in engine.cell.states}
    check_states(previous, f"of sequence {b}")
    path = Trajectory({n: s[:-1] for n, s in previous.items()}, {n: x[:, 0] for n, x in own.items()}, steps)
    return Linearization(engine.program, data), path


def check_states(states: Mapping[str, Array], where: str) -> None:
    """Raise ValueError for a state (T + 1, size) that is not finite; say from which step on."""
    for name, s in states.items():
        bad = ~np.isfinite(s).all(axis=-1)
        if bad.any():
            hint = "its gradient has no meaning; take smaller parameters or fewer steps"
            raise ValueError(f"the state {name} {where} is not finite from t = {int(bad.argmax())} on: {hint}")
