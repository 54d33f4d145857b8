"""A known mistake as equations: the lines of the derivation that it changes, wrong beside right.

The derivation is written down once more with the mistake in it, so that both read alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sympy import Expr, Symbol, latex

from derive.derivation import Derivation
from derive.latex import Typesetter
from derive.mistakes.sums import STEPS, SUM_EDITS, SumEdit
from derive.notation import at
from derive.steps import Step, write_steps
from numeric.oracle.mutants import Mutant, mutants
from reports.linebreak import clauses

__all__ = ["WrongLine", "mutants_of", "wrong_lines"]

_TERM = r"\mathrm{d}\theta"


@dataclass(frozen=True)
class WrongLine:
    """One equation, wrong and right, as LaTeX.

    ``number`` is its step's in the derivation, None where the mistake is about no single step; ``sentence`` says what
    the equation is about.
    """

    number: int | None
    sentence: str
    wrong: str
    right: str


def mutants_of(derivation: Derivation, places: tuple[str, ...]) -> tuple[Mutant, ...]:
    """The known mistakes of a cell by their labels; what is none is left out."""
    known = {m.label: m for m in mutants(derivation.cell)} if places else {}
    return tuple(known[label] for label in places if label in known)


def wrong_lines(derivation: Derivation, mutant: Mutant) -> tuple[WrongLine, ...]:
    """The lines that a mistake changes, its own first; none where it is a matter of the loop over time."""
    if mutant.kind == "step":
        found = list(_of_step(derivation, mutant))
        return tuple(sorted(found, key=lambda x: _is_elsewhere(mutant, x)))
    if mutant.kind == "loss" and mutant.loss is not None:
        return (_of_loss(derivation, mutant),)
    edit = next((e for e in SUM_EDITS if mutant.kind == "sum" and e.says == mutant.says), None)
    return (_of_sum(edit),) if edit is not None and not edit.weight else ()


# --------------------------------------------------------------------------------------------------------- one step


def _of_step(derivation: Derivation, mutant: Mutant) -> Iterator[WrongLine]:
    """Every equation of the derivation that is another one with the mistake in it."""
    b = mutant.backward
    wrong = _by_name(write_steps(derivation.cell, b.program, b, derivation.cost))
    for key, step in _by_name(derivation.steps).items():
        # what nothing reaches has no step of its own in the wrong derivation
        shown = wrong[key].latex if key in wrong else f"{step.latex.partition(' = ')[0]} = 0"
        if shown != step.latex:
            yield WrongLine(step.number, step.sentence, in_order_of(step.latex, shown), step.latex)


def in_order_of(right: str, wrong: str) -> str:
    """A wrong sum with its terms in the order of the right one's, so that they differ where the mistake is.

    >>> in_order_of("a = b + c d - e", "a = c - e + b")
    'a = b + c - e'
    """
    (theirs, *more), (mine, *others) = clauses(right), clauses(wrong)
    terms, like = [_signed(term) for term in mine.terms], [_signed(term) for term in theirs.terms]
    if more or others or not mine.left or any(term[0] == "=" for term in terms):
        return wrong
    places = [terms.pop(terms.index(term)) if term in terms else "" for term in like]
    # a term that is another one takes the place of one that is missing
    found = [term or (terms.pop(0) if terms else "") for term in places]
    return mine.left.removesuffix("{}") + " ".join(filter(None, (*found, *terms))).removeprefix("+ ")


def _signed(term: str) -> str:
    """A term with the sign that it begins with."""
    term = term.removeprefix("{} ")
    return term if term[:1] in "+-=" else f"+ {term}"


def _by_name(steps: tuple[Step, ...]) -> Mapping[tuple[str, str], Step]:
    """The steps that state a derivative."""
    return {(s.obligation, str(s.equation.lhs)): s for s in steps if s.obligation.startswith("P3/")}


def _is_elsewhere(mutant: Mutant, line: WrongLine) -> bool:
    """Whether a line is not the one that the mistake is made in, but reads it."""
    name = mutant.where.removeprefix("d ").partition("[")[0]
    return not line.sentence.startswith((f"{name}[", f"{name} "))


# -------------------------------------------------------------------------------------------------- losses and sums


def _of_loss(derivation: Derivation, mutant: Mutant) -> WrongLine:
    assert mutant.loss is not None
    step = next((s for s in derivation.steps if s.obligation == f"loss/{mutant.loss.loss}"), None)
    first = at("p") if mutant.loss.loss == "softmax_cross_entropy" else at("y")
    left = r"\frac{\partial \ell_t}{\partial y_t} = "
    typeset = Typesetter(derivation.cell)
    wrong, right = (left + typeset.expression(e) for e in (mutant.loss.wrong, first - at("target")))
    sentence = step.sentence if step else "the derivative of the loss"
    return WrongLine(step.number if step else None, sentence, wrong, right)


def _of_sum(edit: SumEdit) -> WrongLine:
    right = rf"{_TERM} = \sum_{{t=1}}^{{T}} g_t"
    sentence = "a parameter's gradient is the sum of its parts g[t] of every step"
    return WrongLine(None, sentence, f"{_TERM} = {_weighed(edit)}", right)


def _weighed(edit: SumEdit) -> str:
    """every * (g(1) + ... + g(T)) + first * g(1) + last * g(T)."""
    every, first, last = edit.every, edit.first, edit.last
    start, stop = "t=1", "T"
    if every != 0 and first == -every:
        start, first = "t=2", Symbol("x") * 0
    if every != 0 and last == -every:
        stop, last = "T-1", Symbol("x") * 0
    terms = [(every, rf"\sum_{{{start}}}^{{{stop}}} g_t"), (first, "g_1"), (last, "g_T")]
    shown = [_times(c, what) for c, what in terms if c != 0]
    return " + ".join(shown) or "0"


def _times(c: Expr, what: str) -> str:
    if c == 1:
        return what
    return f"-{what}" if c == -1 else rf"{latex(c, symbol_names={STEPS: 'T'})} \, {what}"
