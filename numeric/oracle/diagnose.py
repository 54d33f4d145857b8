"""Which known mistake, or which convention, explains a result."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from derive.cell import Cell
from numeric.oracle.candidates import Survivor, factors, known_mistakes, surviving
from numeric.oracle.evidence import collect
from numeric.oracle.verdict import Diagnosis

__all__ = ["diagnose"]


def diagnose(cell: Cell, judged: Sequence[Any], asked: Any) -> Diagnosis:
    """What explains the results of cases that were judged, if anything does."""
    evidence = collect(judged)
    found = surviving(known_mistakes(cell), evidence) or surviving(list(factors()), evidence)
    return named(found) if found else Diagnosis()


def named(found: Sequence[Survivor]) -> Diagnosis:
    """The first of some explanations, with the others beside it."""
    first = found[0].candidate
    others = [n for s in found for n in (s.candidate.name, *s.candidate.also)]
    alternatives = tuple(n for n in dict.fromkeys(others) if n != first.name)
    return Diagnosis(first.name, first.sentence, alternatives)
