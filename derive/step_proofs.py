"""P2 and P3: one step is enough.

    S_t(s) = l_t(s_t, y_t) + S_{t+1}(s_t)    with s_t, y_t = F(theta, x_t, s),  e = (dl/ds_t + dS_{t+1}/ds_t, dl/dy_t)
    dS_t/ds = (dF/ds).T e,    dS_t/dtheta = (dF/dtheta).T e + dS_{t+1}/dtheta

So the recursion is the gradient for every T if the backward program maps every cotangent e of one step to (dF/d.).T e.
P2 shows that at a size, with e free and F differentiated by plain ``diff``; P3 shows it for every size, as sums of
words. The readout is part of F: a lemma over states alone proves nothing about its weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from sympy import Expr, Integer, Symbol

from derive.adjoint import Backward
from derive.algebra import SymPyScalars, evaluate, total, tree_size
from derive.cell import Cell
from derive.jets import Jets
from derive.notation import applications, lin, parameter, transpose
from derive.obligations import Outcome, agree
from derive.program import Pointwise, Program
from derive.unroll import Gradient, Key, Problem, explicit, run_program, sweep, unroll
from derive.words import Letter, Tag, Words, adjoint_words, at_slot, leaves_of, roots_of, tangent_words
from derive.zero import Budget, BudgetError, Field, is_zero

__all__ = ["StepAtSize", "StepForEverySize", "capacity", "check_cut", "differentiate", "leaf_name", "uniform"]


def uniform(cell: Cell, size: int) -> dict[str, int]:
    """Every letter the same size."""
    return dict.fromkeys(cell.dimensions, size)


def capacity(cell: Cell, steps: int, sizes: Mapping[str, int]) -> int:
    """An upper bound on the symbols and function values of an unrolled problem, its free cotangents included."""
    leaves = len(Problem(cell, SymPyScalars(), steps, sizes, lambda key: key).entries())
    # a function value and its derivative, and perhaps a divisor in it; reciprocals
    parts = sum(
        3 * len(applications(e)) + e.count(lambda x: x.is_Pow and x.exp.is_negative) for e in cell.equations.values()
    )
    roots = sum(sizes[cell.axes[n]] for n in (*cell.outputs, *cell.states))
    return leaves + steps * (parts * max(sizes.values()) + roots) + roots + 8


MAX_LITERAL = 3_000


def differentiate(loss: Expr, symbols: Sequence[Symbol]) -> list[Expr]:
    """Plain ``diff`` of an explicit expression by each symbol; one too large for it raises :class:`BudgetError`."""
    size = tree_size(loss)
    if size > MAX_LITERAL:
        raise BudgetError(f"plain diff of an expression of {size:,} nodes, more than {MAX_LITERAL:,}")
    return [loss.diff(s) for s in symbols]


def check_cut(program: Program) -> Outcome:
    """Whether putting the nodes back into each other gives the author's equations."""
    inlined: dict[Symbol, Any] = {}
    for node in program.nodes:
        if isinstance(node, Pointwise):
            inlined[node.symbol] = node.expression.xreplace(inlined)
        else:
            w = parameter(node.matrix)
            inlined[node.symbol] = lin(transpose(w) if node.transposed else w, inlined.get(node.operand, node.operand))
        name = node.symbol.name.removesuffix("[t]")
        if name in program.cell.equations:
            right = program.cell.equations[name]
            if inlined[node.symbol] != right:
                return False, f"{name}[t] = {inlined[node.symbol]} in the program, {right} in the text"
            del inlined[node.symbol]
    return True, ""


def leaf_name(leaf: Symbol | str) -> str:
    """How a leaf is written: ``W_hh``, ``b``, ``x[t]``, ``h[t-1]``."""
    return leaf if isinstance(leaf, str) else leaf.name


class StepAtSize:
    """P2: one step at a size, with free cotangents, against differentiation of its explicit scalars.

    ``literal`` says how: by SymPy's plain ``diff``, or, where the expression is too large for that, forward over jets.
    """

    def __init__(self, program: Program, size: int, budget: Budget, *, literal: bool = True) -> None:
        self.cell, self.program, self.literal = program.cell, program, literal
        self.sizes = uniform(self.cell, size)
        self.field = Field(capacity(self.cell, 1, self.sizes), budget)
        self.problem = Problem(self.cell, self.field, 1, self.sizes, lambda key: self.field.generator(self.symbol(key)))
        self.jets = Jets(self.field)
        self.roots = [(s, k) for s in roots_of(program) for k in range(self.sizes[program.axes[s]])]

    def symbol(self, key: Key) -> Symbol:
        """The scalar symbol of a key."""
        return explicit(self.cell, key)

    def cotangent(self, root: Symbol, k: int) -> Symbol:
        """The free cotangent of one entry of a root."""
        return parameter(f"d{root.name.removesuffix('[t]')}[{k + 1}]")

    @cached_property
    def truth(self) -> Gradient:
        """The derivative of <e, F> by every leaf: by SymPy's ``diff`` of the explicit expression, or over jets."""
        keys = self.problem.entries()
        if not self.literal:
            (jets,) = unroll(Problem(self.cell, self.jets, 1, self.sizes, lambda key: self.jets.leaf(self.symbol(key))))
            slopes = total([jets[s][k] * self.field.generator(self.cotangent(s, k)) for s, k in self.roots]).d
            zero = self.field.number(Integer(0))
            return {key: slopes.get(self.symbol(key), zero) for key in keys}
        (values,) = unroll(Problem(self.cell, SymPyScalars(), 1, self.sizes, self.symbol))
        loss = total([values[s][k] * self.cotangent(s, k) for s, k in self.roots])
        known: dict[Any, Any] = {}
        slopes = differentiate(loss, [self.symbol(key) for key in keys])
        return {k: evaluate(s, self.field.generator, self.field, known) for k, s in zip(keys, slopes, strict=True)}

    @cached_property
    def tape(self) -> dict[Symbol, list[Any]]:
        """Values of the program's nodes."""
        (values,) = unroll(self.problem)
        return run_program(self.program, self.problem, values)

    def derived(self, backward: Backward) -> Gradient:
        """What a backward program makes of the free cotangents."""
        self.field.budget.renew()
        local: dict[Symbol, list[Any]] = {}
        for s, k in self.roots:
            local.setdefault(s, []).append(self.field.generator(self.cotangent(s, k)))
        (gradient,) = sweep(backward, self.problem, [self.tape], [local])
        return gradient

    def check(self, backward: Backward, leaf: Symbol | str) -> Outcome:
        """Whether the backward program's value for one leaf is the derivative."""
        name = leaf_name(leaf).partition("[")[0]
        mine = self.derived(backward)
        previous = leaf_name(leaf).endswith("[t-1]")
        keys = [k for k in mine if k[0] == name and (name not in self.cell.states or (k[1] == 0) == previous)]
        return agree((f"the gradient by {self.symbol(k)}", mine[k], self.truth[k]) for k in keys)

    def rejects(self, backward: Backward) -> bool:
        """Whether a wrong program is seen to be wrong."""
        mine = self.derived(backward)
        return any(not (mine[key] - right).is_zero for key, right in self.truth.items())


class StepForEverySize:
    """P3: forward mode and the backward program as sums of words, equal for all D, H, O."""

    def __init__(self, program: Program, *, tag: Tag = at_slot) -> None:
        self.program, self.tag = program, tag
        self.roots, self.leaves = roots_of(program), leaves_of(program)
        self.forward: dict[Symbol | str, dict[Symbol, Words]] = {}

    def tangent(self, leaf: Symbol | str) -> dict[Symbol, Words]:
        """The forward side: the derivative of every root by a leaf."""
        if leaf not in self.forward:
            self.forward[leaf] = tangent_words(self.program, leaf, self.roots, tag=self.tag)
        return self.forward[leaf]

    def difference(self, right: Words, derived: Words) -> list[tuple[tuple[Letter, ...], Any]]:
        """Word by word what is not literally the same."""
        letters = dict.fromkeys((*right, *derived))
        pairs = [(w, right.get(w, Integer(0)), derived.get(w, Integer(0))) for w in letters]
        return [(w, a - b) for w, a, b in pairs if a != b]

    def check(self, backward: Backward, leaf: Symbol | str) -> Outcome:
        """Whether the derivative of every root by one leaf is the transpose of what the backward program does."""
        for root in self.roots:
            right, derived = self.tangent(leaf)[root], adjoint_words(backward, root, tag=self.tag)(leaf)
            left = self.difference(right, derived)
            for letters, slope in left:
                if not is_zero(slope):
                    word = " ".join(f"{m}{'.T' if t else ''}" for m, t in reversed(letters)) or "the diagonal word"
                    return False, f"d {root} / d {leaf_name(leaf)}: {word} with coefficient off by {slope}"
        return True, ""

    def rejects(self, backward: Backward) -> bool:
        """Whether a wrong program is seen to be wrong."""
        for root in self.roots:
            derived = adjoint_words(backward, root, tag=self.tag)
            for leaf in self.leaves:
                slopes = [slope for _, slope in self.difference(self.tangent(leaf)[root], derived(leaf))]
                if slopes and not is_zero(slopes):
                    return True
        return False
