"""Which known mistake, or which convention, explains a result."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from derive.cell import Cell
from numeric.oracle.candidates import Candidate, factors, known_mistakes, surviving, words_of
from numeric.oracle.evidence import collect
from numeric.oracle.pairs import Assembled, assembled, pairs
from numeric.oracle.verdict import Diagnosis

__all__ = ["diagnose"]


def diagnose(cell: Cell, judged: Sequence[Any], asked: Any) -> Diagnosis:
    """What explains the results of cases that were judged, if anything does."""
    evidence = collect(judged)
    if not any(e.wrong for e in evidence):
        return Diagnosis()
    found = surviving(known_mistakes(cell), evidence) or surviving(list(factors()), evidence)
    if found:
        return named([s.candidate for s in found])
    sums = assembled(cell, evidence)
    if sums:
        return of_sums(sums)
    two = pairs(cell, evidence)
    return named(two) if two else Diagnosis()


def of_sums(found: Sequence[Assembled]) -> Diagnosis:
    """Mistakes of single sums, on top of another one."""
    answers = []
    for one in found:
        parts = ([one.base] if one.base.name else []) + one.cover()
        names = "+".join(dict.fromkeys(m.name for m in parts))
        answers.append((names, "; and ".join(dict.fromkeys(words_of(m) for m in parts))))
    answers.sort(key=lambda a: a[0].count("+"))
    others = dict.fromkeys(n for n, _ in answers[1:] if n != answers[0][0])
    return Diagnosis(*answers[0], tuple(others))


def named(found: Sequence[Candidate]) -> Diagnosis:
    """The first of some explanations, with the others beside it."""
    first = found[0]
    others = [n for c in found for n in (c.name, *c.also)]
    alternatives = tuple(n for n in dict.fromkeys(others) if n != first.name)
    return Diagnosis(first.name, first.sentence, alternatives)
