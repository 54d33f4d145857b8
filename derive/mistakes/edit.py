"""An edit to one sum of a backward program, and what it says.

A right sum is a tuple of flows (or of outer products, for a matrix); a wrong one is another tuple in its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeAlias

from sympy import Expr, Integer, Mul, S, Symbol, expand

from derive.adjoint import Adjoint, Backward, Flow, Outer, Through
from derive.algebra import tree_size
from derive.notation import at, lin, parameter, transpose
from derive.present import Presented
from derive.program import Node, Program
from derive.write import write

__all__ = ["Edit", "Edits", "Words", "changed", "dropped", "extended", "only"]

Sum = tuple[Any, ...]  # of flows, or of outer products
Target: TypeAlias = Symbol | str


@dataclass(frozen=True)
class Edit:
    """Another sum for ``target``; ``base`` is the program it is put into, the right one where that is None."""

    target: Target
    terms: Sum
    base: Backward | None = None

    def of(self, backward: Backward) -> Backward:
        """The wrong program."""
        base = self.base or backward
        if isinstance(self.target, str):
            return base.replaced(matrices={self.target: self.terms})
        return base.replaced(flows={self.target: self.terms})


Edits = Iterator[Edit]


def sum_of(b: Backward, target: Target) -> Sum:
    """The right sum."""
    return b.matrices[target] if isinstance(target, str) else b.flows[target]


def changed(b: Backward, target: Target, i: int, term: Flow | Outer, base: Backward | None = None) -> Edit:
    """Term ``i`` replaced."""
    terms = list(sum_of(b, target))
    terms[i] = term
    return Edit(target, tuple(terms), base)


def dropped(b: Backward, target: Target, i: int) -> Edit:
    """Term ``i`` left out."""
    return Edit(target, tuple(t for j, t in enumerate(sum_of(b, target)) if j != i))


def only(b: Backward, target: Target, i: int) -> Edit:
    """Nothing left but term ``i``."""
    return Edit(target, (sum_of(b, target)[i],))


def extended(b: Backward, after: Symbol, node: Node, flows: tuple[Flow, ...]) -> Backward:
    """The same program with one node more, whose d comes after that of ``after``; nothing reads it yet."""
    where = b.program.nodes.index(b.program.node[after])
    program = Program(b.program.cell, (*b.program.nodes[:where], node, *b.program.nodes[where:]))
    wider: dict[Symbol, tuple[Flow, ...]] = {}
    for target, own in b.flows.items():
        wider[target] = own
        if target == after:
            wider[node.symbol] = flows
    return Backward(program, MappingProxyType(wider), b.matrices)


class Words:
    """Edits of one backward program in the words of its lines, and which of them are one and the same."""

    def __init__(self, backward: Backward) -> None:
        self.backward, self.view = backward, Presented(backward)
        self.known: dict[Expr, Expr] = {}
        self.silent = _silent(backward)

    def canonical(self, e: Expr) -> Expr:
        """One form of a factor: derivatives written with the activation's value, multiplied out."""
        if e not in self.known:
            self.known[e] = e if isinstance(e, Symbol | Integer) else expand(_readable(self.view, e))
        return self.known[e]

    def key(self, edit: Edit) -> tuple[Any, ...]:
        """Equal for edits that are the same."""
        return (str(edit.target), *(self.key_of(term) for term in edit.terms if term.source not in self.silent))

    def key_of(self, term: Flow | Outer) -> tuple[Any, ...]:
        """Equal for terms that are the same."""
        if isinstance(term, Outer):
            return (term.source, term.operand, term.transposed)
        if isinstance(term, Through):
            return (term.source, self.canonical(term.factor))
        return (term.source, term.matrix, term.transposed, self.canonical(term.scale))

    def changes(self, edit: Edit) -> bool:
        """Whether the edit is more than another way to write the right sum."""
        return self.key(edit) != self.key(Edit(edit.target, sum_of(self.backward, edit.target)))

    # -------------------------------------------------------------------------------------------------- what it says

    def says(self, edit: Edit) -> str:
        """What should change: found first, then what belongs there."""
        right = sum_of(self.backward, edit.target)
        if len(edit.terms) < len(right):
            return self.missing(right, edit.terms)
        view = Presented(edit.base) if edit.base else self.view
        pairs = [(a, b) for a, b in zip(edit.terms, right, strict=True) if self.key_of(a) != self.key_of(b)]
        return "; ".join(self.change(view, *pair) for pair in pairs)

    def missing(self, right: Sum, left: Sum) -> str:
        """What a sum has lost."""
        lost = [t for t in right if t not in left]
        if len(lost) == 1:
            return f"the term {self.named(lost[0])} is missing"
        return f"only the term {self.named(left[0])} is left" if left else "all terms are missing"

    def named(self, term: Flow | Outer) -> str:
        """A term by what tells it apart."""
        if isinstance(term, Adjoint):
            return f"with {_matrix(term)}"
        return self.term(self.view, term)

    def term(self, view: Presented, term: Flow | Outer) -> str:
        """A term as it is written."""
        d = view.d(term.source)
        if isinstance(term, Outer):
            left, right = self.text(view, d), self.text(view, term.operand)
            return f"{right} {left}.T" if term.transposed else f"{left} {right}.T"
        if isinstance(term, Through):
            return _text(_readable(view, term.factor) * d)
        w = parameter(term.matrix)
        return _text(_readable(view, term.scale) * lin(transpose(w) if term.transposed else w, d))

    @staticmethod
    def text(view: Presented, e: Expr) -> str:
        """An expression as it is written, in brackets unless it is one thing."""
        shown = _readable(view, e)
        return _text(shown) if isinstance(shown, Symbol) else f"({_text(shown)})"

    def change(self, view: Presented, wrong: Flow | Outer, right: Flow | Outer) -> str:
        """One term that is not the right one."""
        if isinstance(wrong, Outer) and isinstance(right, Outer):
            return self.change_of_product(view, wrong, right)
        if isinstance(wrong, Through) and isinstance(right, Through) and wrong.source == right.source:
            if wrong.factor == 2 * right.factor:
                return f"the term {self.term(view, right)} is counted twice"
            if wrong.factor == -right.factor and not right.factor.is_Add:
                return f"the sign of {self.term(view, right)} is wrong"
            return self.change_of_factor(view, wrong.factor, right.factor)
        if isinstance(wrong, Adjoint) and isinstance(right, Adjoint):
            if replace(wrong, transposed=right.transposed) == right:
                return f"{_matrix(wrong)} should be {_matrix(right)}"
            if replace(wrong, source=right.source) == right:
                return f"{_text(view.d(wrong.source))} should be {_text(view.d(right.source))}"
        if isinstance(right, Adjoint) and wrong == Through(right.source, Integer(1)):
            return f"{_matrix(right)} is missing"
        if isinstance(wrong, Through) and isinstance(right, Through) and wrong.factor == right.factor:
            return f"{_text(view.d(wrong.source))} should be {_text(view.d(right.source))}"
        return f"{self.term(view, wrong)} should be {self.term(view, right)}"

    def change_of_product(self, view: Presented, wrong: Outer, right: Outer) -> str:
        """An outer product that is not the right one."""
        if replace(wrong, transposed=right.transposed) == right:
            return "the product should be transposed"
        if replace(wrong, operand=right.operand) == right:
            return f"{_text(_readable(view, wrong.operand))} should be {_text(_readable(view, right.operand))}"
        if replace(wrong, source=right.source) == right:
            return f"{_text(view.d(wrong.source))} should be {_text(view.d(right.source))}"
        return f"{self.term(view, wrong)} should be {self.term(view, right)}"

    @staticmethod
    def change_of_factor(view: Presented, wrong: Expr, right: Expr) -> str:
        """A factor that is not the right one."""
        wrong, right = _readable(view, wrong), _readable(view, right)
        factors = Mul.make_args(right)
        lost = [f for f in factors if wrong * f == right]
        if wrong == 1 or lost:
            return f"the factor {_text(lost[0] if lost else right)} is missing"
        moved = _replaced(wrong, right)
        return "{} should be {}".format(*map(_text, moved or (wrong, right)))


def _silent(b: Backward) -> frozenset[Symbol]:
    """The nodes that nothing reads: their d is zero, and so is whatever comes from them."""
    cell, out = b.program.cell, set[Symbol]()
    for target, terms in b.flows.items():
        if target not in (at(name) for name in (*cell.states, *cell.outputs)) and all(t.source in out for t in terms):
            out.add(target)
    return frozenset(out)


def _replaced(wrong: Expr, right: Expr) -> tuple[Expr, Expr] | None:
    """The one factor in which two products differ."""
    a, b = Mul.make_args(wrong), Mul.make_args(right)
    only_a, only_b = [f for f in a if f not in b], [f for f in b if f not in a]
    if len(a) == len(b) > 1 and len(only_a) == len(only_b) == 1 and S.NegativeOne not in only_a:
        return only_a[0], only_b[0]
    return None


def _readable(view: Presented, e: Expr) -> Expr:
    """Twice, for a derivative taken at a value that has a name: first the value, then the derivative."""
    return view.readable(view.readable(e))


def _matrix(term: Adjoint) -> str:
    return f"{term.matrix}.T" if term.transposed else term.matrix


def _text(e: Expr) -> str:
    if tree_size(e) > 100:
        return "..."
    return write(e)
