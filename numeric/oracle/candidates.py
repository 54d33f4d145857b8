"""What an implementation may have computed instead: every known mistake, and multiples of the right result.

A candidate predicts all tensors of a case.  One that hits parameters one by one, such as a wrong sum over time, may
have hit some of them only; which ones must be the same in every case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from derive.cell import Cell
from derive.mistakes.loop import LoopMistake
from numeric.arguments import Array
from numeric.oracle.evidence import Evidence
from numeric.oracle.mutants import RIGHT, Mutant, mutants

__all__ = ["FACTORS", "Candidate", "Predict", "Survivor", "factors", "known_mistakes", "surviving", "words_of"]

Predict = Callable[[Evidence], Mapping[str, Array] | None]


@dataclass(frozen=True, eq=False)
class Candidate:
    """Something that predicts numbers.

    ``predict`` gives the tensors of a case by name, the right ones for what it leaves out, None where the case is not
    concerned, and {} where whoever did this would have failed.  ``partly`` says that some tensors alone may be hit;
    ``made_of`` are the known mistakes that it is, several for a mixed one.
    """

    name: str
    sentence: str
    predict: Predict
    partly: bool = False
    also: tuple[str, ...] = ()
    mutant: Mutant | None = None
    convention: str = ""
    made_of: tuple[Mutant, ...] = ()


@dataclass
class Survivor:
    """A candidate that reproduces every case so far; ``hit`` are tensors that it explains, ``spared`` right ones."""

    candidate: Candidate
    hit: set[str] = field(default_factory=set)
    spared: set[str] = field(default_factory=set)

    def meets(self, e: Evidence) -> bool:
        """Whether the candidate gives a case's numbers, too."""
        predicted = self.candidate.predict(e)
        if predicted is not None and not predicted:
            return False
        for name in e.found:
            mine = e.fits(name, (predicted or {}).get(name, e.exact(name)), self.candidate.mutant)
            right = name in e.right
            if not mine and not (right and self.candidate.partly):
                return False
            if mine and not right:
                self.hit |= {name} if np.isfinite(e.found[name]).all() else set()
            elif right and not mine:
                self.spared.add(name)
        return not self.hit & self.spared


def surviving(candidates: Sequence[Candidate], evidence: Sequence[Evidence]) -> list[Survivor]:
    """The candidates that reproduce all numbers of all cases, and more than the right ones."""
    left = [Survivor(c) for c in candidates]
    for e in evidence:
        left = [s for s in left if s.meets(e)]
        if not left:
            return []
    return sorted((s for s in left if s.hit), key=lambda s: bool(s.spared))


# ------------------------------------------------------------------------------------------------------ known mistakes


def known_mistakes(cell: Cell) -> list[Candidate]:
    """The catalogue, at every place of a cell."""
    return [of_mutant(m) for m in mutants(cell)]


def of_mutant(m: Mutant) -> Candidate:
    """A known mistake as a candidate."""
    return Candidate(m.name, words_of(m), lambda e: e.predicted(m), hits_parameters(m.loop, m), m.also, m, made_of=(m,))


def hits_parameters(loop: LoopMistake, m: Mutant) -> bool:
    """Whether a mistake changes how parameters' terms are summed, and nothing else."""
    usual = all(getattr(loop, part) is getattr(RIGHT, part) for part in ("carry", "step", "read"))
    return m.kind in ("sum", "loop") and not m.whole and usual and loop.backwards and not loop.at


def words_of(m: Mutant) -> str:
    """What is done wrong, and where, as a sentence goes on."""
    if m.kind == "step":
        target = m.where.removeprefix("d ")
        place = f"in dL/d{target}" if "[" in target else f"in the gradient of {target}"
        return f"{place}, {m.says}"
    if m.kind == "loss":
        return f"in the gradient of the loss, {m.says}"
    if m.kind == "sum":
        return f"in the sum over time, {m.says}"
    return m.says if m.says else m.sentence


# ------------------------------------------------------------------------------------------------------------- factors

#: What a result is multiplied with by mistake: in words, with the name that the catalogue has for it, and the number.
FACTORS: tuple[tuple[str, str, Callable[[Evidence], Fraction]], ...] = (
    ("-1", "sign", lambda e: Fraction(-1)),
    ("2", "doubled", lambda e: Fraction(2)),
    ("1/2", "halved", lambda e: Fraction(1, 2)),
    ("the number of sequences", "reduction", lambda e: Fraction(e.case.B)),
    ("1 / the number of sequences", "reduction", lambda e: Fraction(1, e.case.B)),
    ("the number of steps", "reduction", lambda e: Fraction(e.case.T)),
    ("1 / the number of steps", "reduction", lambda e: Fraction(1, e.case.T)),
    ("the number of steps and sequences", "reduction", lambda e: Fraction(e.case.T * e.case.B)),
    ("1 / the number of steps and sequences", "reduction", lambda e: Fraction(1, e.case.T * e.case.B)),
    ("the number of terms of the loss", "reduction", lambda e: Fraction(terms(e))),
    ("1 / the number of terms of the loss", "reduction", lambda e: Fraction(1, terms(e))),
    ("1 / the number of components of the output", "reduction", lambda e: Fraction(1, components(e))),
    ("2 / the number of components of the output", "reduction", lambda e: Fraction(2, components(e))),
)


def terms(e: Evidence) -> int:
    """How many (t, b) contribute to the loss."""
    if e.case.at == "last":
        return e.case.B
    return e.case.T * e.case.B if e.case.lengths is None else int(e.case.lengths.sum())


def components(e: Evidence) -> int:
    """The size of the output that the loss reads."""
    return max(e.truth.exact.outputs[root].hi.shape[-1] for root in e.case.problem.loss.full)


def factors(mean_only: tuple[bool, ...] = (False, True)) -> Iterator[Candidate]:
    """The right result, or some tensors of it, times a number: in every case, or where a mean is asked for."""
    for words, name, factor in FACTORS:
        for only in mean_only if name == "reduction" else (False,):
            when = ", where a mean is asked for" if only else ""
            yield Candidate(name, f"the result is multiplied by {words}{when}", _times(factor, only), partly=True)


def _times(factor: Callable[[Evidence], Fraction], mean_only: bool) -> Predict:
    def predict(e: Evidence) -> Mapping[str, Array] | None:
        if mean_only and e.case.reduction != "mean":
            return None
        c = factor(e)
        return {n: c.numerator * e.exact(n) / c.denominator for n in e.found if not n.startswith("outputs.")}

    return predict
