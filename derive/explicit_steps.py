"""A step entry by entry at size 2: every product spelled out as a sum, every vector and matrix written in its entries.

Made from the step's own equation by the typesetter that prints the step itself, which is asked for one entry at a time;
what does not depend on the cell is in :mod:`derive.explicit_laws`.  Sums over time stay sums.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

from sympy import Eq, Expr, Symbol

from derive.derivation import Derivation
from derive.entries import SIZE, EntryTypesetter
from derive.explicit_laws import laws, loss_weights, matrix_latex
from derive.latex import Typesetter, name_latex
from derive.losses import LOSSES
from derive.notation import time_sum
from derive.present import Presented
from derive.steps import Step, argument_tree

__all__ = ["explicit"]

_WIDE = 46  # letters in an entry beyond which a matrix is written one entry a line


def explicit(derivation: Derivation, step: Step) -> tuple[str, ...]:
    """A step as LaTeX at H = 2, and 2 for every other size; empty where there is nothing to spell out.

    >>> import derive
    >>> d = derive.differentiate(derive.load("tanh_rnn"))
    >>> explicit(d, d.steps[10])[1]
    '\\\\mathrm{d}a_{h,t,2} = \\\\mathrm{d}h_{t,2} \\\\, \\\\left(1 - h_{t,2}^{2}\\\\right)'
    """
    return tuple(_Explicit(derivation).lines(step))


class _Explicit:
    """The explicit forms of one derivation's steps."""

    def __init__(self, derivation: Derivation) -> None:
        self.derivation, self.cell = derivation, derivation.cell
        self.shown = Presented(derivation.backward)
        self.typeset = EntryTypesetter(self.cell, self.shown.prefix)
        self.laws = laws(self.cell)

    def lines(self, step: Step) -> Iterator[str]:
        """The formulas of one step."""
        kind, _, name = step.obligation.partition("/")
        left, right = step.equation.args if isinstance(step.equation, Eq) else (Symbol("none"), Symbol("none"))
        if kind == "program":
            yield from self.forward(left, right)
        elif kind == "loss":
            yield from self.closed_form(name)
        elif step.obligation == "lemma/batch":
            yield from loss_weights()
        elif step.obligation == "lemma/time":
            yield from (self.boundary(step.latex, k) for k in range(1, SIZE + 1))
        elif kind == "P3":
            yield from self.gradient(name, left, right) if name in self.cell.parameters else self.vector(left, right)
        elif not left.is_commutative:
            yield from self.operator(left.name, right)
        elif step.equation in self.laws:
            yield from self.laws[step.equation](self.cell)

    def forward(self, left: Symbol, right: Expr) -> Iterator[str]:
        """An equation of the cell, or of a function's argument, in its author's order."""
        name = left.name.removesuffix("[t]")
        equation = self.cell.trees.get(name)
        tree = equation.value if equation else argument_tree(self.cell, right)
        for k in range(1, SIZE + 1):
            yield f"{name_latex(name, 't', str(k))} = {self.typeset.at_entry(right if tree is None else tree, k)}"

    def vector(self, left: Symbol, right: Expr) -> Iterator[str]:
        """The derivative by a vector: what the loss says directly, then the flows."""
        local = [s for s in right.free_symbols if s.name.startswith("dl[t]/")]
        rest = right.xreplace(dict.fromkeys(local, 0))
        name = left.name.removeprefix(self.shown.prefix).removesuffix("[t]")
        for k in range(1, SIZE + 1):
            terms = [rf"\frac{{\partial \ell_t}}{{\partial {name_latex(name, 't', str(k))}}}"] if local else []
            terms += [self.typeset.at_entry(rest, k)] if rest != 0 else []
            yield f"{self.typeset.at_entry(left, k)} = {' + '.join(terms).replace('+ -', '- ') or '0'}"

    def gradient(self, name: str, left: Symbol, right: Expr) -> Iterator[str]:
        """The gradient by a parameter: a sum over time stays one."""
        shape = self.cell.parameters[name]
        if len(shape) < 2:
            for k in range(1, SIZE + 1 if shape else 2):
                yield f"{self.typeset.at_entry(left, k)} = {self.typeset.at_entry(right, k)}"
            return
        where = [(i, j) for i, j in product(range(1, SIZE + 1), repeat=2)]
        lefts = [self.typeset.element(left.name, i, j) for i, j in where]
        if not isinstance(right, time_sum):
            yield f"{matrix_latex([lefts[:SIZE], lefts[SIZE:]])} = 0"
            return
        entries = [self.typeset.at_element(right.args[0], i, j) for i, j in where]
        if max(map(_width, entries)) <= _WIDE:
            yield (
                matrix_latex([lefts[:SIZE], lefts[SIZE:]])
                + r" = \sum_{t=1}^{T} "
                + matrix_latex([entries[:SIZE], entries[SIZE:]])
            )
            return
        for (i, j), shown in zip(where, lefts, strict=True):
            yield rf"{shown} = \sum_{{t=1}}^{{T}} {self.typeset.at_element(right.args[0], i, j, factor=True)}"

    def boundary(self, latex: str, k: int) -> str:
        """One entry of what is zero beyond the last step."""
        return re.sub(r"T\+1\}", rf"T+1,{k}}}", latex)

    def closed_form(self, name: str) -> Iterator[str]:
        """A loss and its gradient in two entries."""
        loss = LOSSES[name]
        given = "cotangent" if name == "linear" else "target"
        y, target = ([Symbol(f"{n}.{k}", real=True) for k in range(1, SIZE + 1)] for n in ("y", given))
        typeset = _LossTypesetter(self.cell)
        yield rf"\ell_t = {typeset.expression(loss.value(y, target))}"
        for k, slope in enumerate(loss.gradient(y, target), 1):
            yield rf"\frac{{\partial \ell_t}}{{\partial y_{{t,{k}}}}} = {typeset.expression(slope)}"

    def operator(self, left: str, right: Expr) -> Iterator[str]:
        """A block of the Jacobian, or an immediate derivative in a direction."""
        if direction := re.fullmatch(r"d\+(\w+)\[t\]\[d(\w+)\]", left):
            state, name = direction.groups()
            inner = rf"\mathrm{{d}}{name_latex(name)}"
            for i in range(1, SIZE + 1):
                shown = name_latex(state, "t", str(i))
                entry = self.typeset.operator_element(right, i, 1)
                yield rf"\partial^{{+}} {shown} \left[{inner}\right] = {entry}"
            return
        s, r = re.fullmatch(r"d(\w+)\[t\]/d(\w+)\[t-1\]", left).groups()  # type: ignore[union-attr]
        where = list(product(range(1, SIZE + 1), repeat=2))
        lefts = [
            rf"\frac{{\partial {name_latex(s, 't', str(i))}}}{{\partial {name_latex(r, 't-1', str(j))}}}"
            for i, j in where
        ]
        entries = [self.typeset.operator_element(right, i, j) for i, j in where]
        if max(map(_width, entries)) <= _WIDE:
            rows = [matrix_latex([x[:SIZE], x[SIZE:]]) for x in (lefts, entries)]
            yield rf"{rows[0]} = {rows[1]}"
            return
        yield from (f"{a} = {b}" for a, b in zip(lefts, entries, strict=True))


class _LossTypesetter(Typesetter):
    """Names with a dot are entries at step t."""

    circle = r" \, "

    def symbol(self, symbol: Symbol) -> str:
        """An entry of the readout or of the target."""
        name, _, k = symbol.name.partition(".")
        return name_latex(name, "t", k)


def _width(latex: str) -> int:
    """About how many letters wide an entry is."""
    latex = re.sub(r"\\(?:left|right|mathrm|operatorname|,)(?![A-Za-z])|\\,", "", latex)
    return len(
        re.sub(r"\\[A-Za-z]+", "x", re.sub(r"[_^]\{[^{}]*\}", "ii", latex)).translate(str.maketrans("", "", "{} "))
    )
