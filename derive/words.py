"""Derivatives for every size: sums of words in matrices and diagonals.

The derivative of one node by another is a sum of words  D_n M_n ... D_1 M_1 D_0:  each M a parameter matrix or its
transpose, each D the diagonal matrix of a pointwise expression.  Diagonals multiply among themselves, but not past a
matrix.  So a word's coefficient is written in symbols that carry the slot they stand in, counted from the right:

    c@1 W d@0   is   diag(c) W diag(d),   and   d@1 W c@0   is another word.

With plain symbols c*W*d = d*W*c, and a derivation that takes W.T dh for W.T (f' dh) would pass.  Scalars belong to no
slot.  A sum of words is a mapping from the matrices, right to left, to one polynomial in slotted symbols, and two sums
are equal for every size when the polynomials are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from sympy import Expr, Integer, Symbol

from derive.adjoint import Adjoint, Backward, partial
from derive.notation import at, parameter
from derive.program import Pointwise, Program
from derive.zero import BudgetError

__all__ = ["Letter", "Words", "adjoint_words", "at_slot", "leaves_of", "plain", "roots_of", "tangent_words", "tangents"]

Letter = tuple[str, bool]  # matrix name ("d W" for the direction of W), transposed
Words = Mapping[tuple[Letter, ...], Expr]  # letters from right to left; coefficient in slotted symbols
Tag = Callable[[Symbol, int], Symbol]

MAX_WORDS = 2_000


def at_slot(symbol: Symbol, slot: int) -> Symbol:
    """The symbol as it stands in a slot."""
    return Symbol(f"{symbol.name}@{slot}", real=True)


def plain(symbol: Symbol) -> tuple[Symbol, int | None]:
    """The symbol without its slot, and the slot."""
    name, mark, slot = symbol.name.rpartition("@")
    return (Symbol(name, real=True), int(slot)) if mark else (symbol, None)


def _in_slot(e: Expr, slot: int, scalars: frozenset[Symbol], tag: Tag) -> Expr:
    return e.xreplace({s: tag(s, slot) for s in e.free_symbols if s not in scalars})


def _add(words: dict[tuple[Letter, ...], Expr], letters: tuple[Letter, ...], coefficient: Expr) -> None:
    words[letters] = words.get(letters, Integer(0)) + coefficient
    if len(words) > MAX_WORDS:
        raise BudgetError(f"more than {MAX_WORDS:,} words")


def _scalars(program: Program) -> frozenset[Symbol]:
    return frozenset(parameter(n) for n, shape in program.cell.parameters.items() if not shape)


def tangents(program: Program, leaf: Symbol | str, *, tag: Tag = at_slot) -> dict[Symbol, Words]:
    """Forward mode: the derivative of every node by ``leaf``, as words that act on the leaf's direction.

    ``leaf`` is an input, a previous state, a vector or scalar parameter, any node, or a matrix's name; a matrix W
    is differentiated in the direction dW, a letter of its own, and the word ends in the vector that dW acts on.
    """
    scalars = _scalars(program)
    out: dict[Symbol, Words] = {}
    if isinstance(leaf, Symbol):
        out[leaf] = {(): Integer(1)}
    for node in program.nodes:
        if node.symbol == leaf:
            continue
        words: dict[tuple[Letter, ...], Expr] = {}
        if isinstance(node, Pointwise):
            for read in program.reads(node):
                slope = partial(node, read) if read in out else Integer(0)
                for letters, coefficient in out.get(read, {}).items() if slope != 0 else ():
                    _add(words, letters, _in_slot(slope, len(letters), scalars, tag) * coefficient)
        else:
            for letters, coefficient in out.get(node.operand, {}).items():
                _add(words, (*letters, (node.matrix, node.transposed)), coefficient)
            if leaf == node.matrix:
                _add(words, ((f"d {leaf}", node.transposed),), _in_slot(node.operand, 0, scalars, tag))
        if words:
            out[node.symbol] = words
    return out


def tangent_words(
    program: Program, leaf: Symbol | str, roots: Iterable[Symbol], *, tag: Tag = at_slot
) -> dict[Symbol, Words]:
    """The derivative of each root by a leaf."""
    known = tangents(program, leaf, tag=tag)
    return {root: known.get(root, {}) for root in roots}


class _Reverse:
    """The backward program read as operators on one root's cotangent, slots counted from that root."""

    def __init__(self, backward: Backward, root: Symbol, tag: Tag) -> None:
        self.backward, self.scalars, self.tag = backward, _scalars(backward.program), tag
        self.d: dict[Symbol, Words] = {}
        for target, flows in backward.flows.items():
            words: dict[tuple[Letter, ...], Expr] = {}
            if target == root:
                words[()] = Integer(1)
            for flow in flows:
                for letters, coefficient in self.d.get(flow.source, {}).items():
                    if isinstance(flow, Adjoint):
                        _add(
                            words,
                            (*letters, (flow.matrix, flow.transposed)),
                            coefficient * self.slot(flow.scale, len(letters) + 1),
                        )
                    else:
                        _add(words, letters, coefficient * self.slot(flow.factor, len(letters)))
            self.d[target] = words

    def slot(self, e: Expr, k: int) -> Expr:
        return _in_slot(e, k, self.scalars, lambda s, slot: Symbol(f"{s.name}@{slot}", real=True))

    def turned(self, coefficient: Expr, length: int) -> Expr:
        """Count the slots from the leaf instead of from the root."""
        slotted = {s: plain(s) for s in coefficient.free_symbols}
        return coefficient.xreplace({s: self.tag(p, length - k) for s, (p, k) in slotted.items() if k is not None})

    def leaf(self, leaf: Symbol) -> Words:
        out: dict[tuple[Letter, ...], Expr] = {}
        for letters, coefficient in self.d[leaf].items():
            turned = tuple((name, not transposed) for name, transposed in reversed(letters))
            _add(out, turned, self.turned(coefficient, len(letters)))
        return out

    def matrix(self, name: str) -> Words:
        out: dict[tuple[Letter, ...], Expr] = {}
        for outer in self.backward.matrices[name]:
            for letters, coefficient in self.d[outer.source].items():
                turned = tuple((n, not transposed) for n, transposed in reversed(letters))
                whole = ((f"d {name}", outer.transposed), *turned)
                operand = _in_slot(outer.operand, 0, self.scalars, self.tag)
                _add(out, whole, operand * self.turned(coefficient, len(letters) + 1))
        return out


def adjoint_words(backward: Backward, root: Symbol, *, tag: Tag = at_slot) -> Callable[[Symbol | str], Words]:
    """The backward program as the derivative of ``root`` by any leaf: reversed, transposed words."""
    reverse = _Reverse(backward, root, tag)
    return lambda leaf: reverse.leaf(leaf) if isinstance(leaf, Symbol) else reverse.matrix(leaf)


def roots_of(program: Program) -> tuple[Symbol, ...]:
    """What the loss and the next step can see: outputs and states."""
    return tuple(at(name) for name in (*program.cell.outputs, *program.cell.states))


def leaves_of(program: Program) -> tuple[Symbol | str, ...]:
    """What a gradient is taken by: parameters (a matrix by its name), inputs, previous states."""
    cell = program.cell
    parameters = [n if len(shape) == 2 else parameter(n) for n, shape in cell.parameters.items()]
    return (*parameters, *(at(n) for n in cell.inputs), *(at(n, -1) for n in cell.states))
