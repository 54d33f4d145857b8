"""Which known mistake, or which convention, explains a result.

In this order: what happens between calls and to arguments; names and layouts; one known mistake, then a factor, a part
of a sum, another problem; several mistakes; too few bits.  A name is given only where it reproduces the numbers of
every judged case (:mod:`numeric.oracle.evidence` says how closely).  For the rest it is said where it first goes wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from derive.cell import Cell
from numeric.oracle.candidates import Candidate, factors, known_mistakes, surviving, words_of
from numeric.oracle.conduct import (
    blurs,
    clipped,
    clipped_by_entry,
    of_arguments,
    of_calls,
    padding_read,
    precision,
    short_loss,
)
from numeric.oracle.conventions import gate_order, layout, names_moved, order_in_words, under_other_names
from numeric.oracle.criterion import LIMITS
from numeric.oracle.evidence import Evidence, collect
from numeric.oracle.locate import located
from numeric.oracle.mutants import Mutant
from numeric.oracle.pairs import assembled, pairs
from numeric.oracle.parts import parts
from numeric.oracle.variations import variations
from numeric.oracle.verdict import Diagnosis

__all__ = ["diagnose"]


def diagnose(cell: Cell, judged: Sequence[Any], asked: Any) -> Diagnosis:
    """What explains the results of cases that were judged, if anything does."""
    evidence = collect(judged)
    if not evidence:
        return Diagnosis()
    arguments, calls = of_arguments(judged), of_calls(evidence)
    numbers = Diagnosis(calls.name, calls.sentence) if calls else explained(cell, evidence)
    if arguments is not None:
        numbers = _with(arguments.name, arguments.sentence, numbers)
    return numbers


def explained(cell: Cell, evidence: Sequence[Evidence]) -> Diagnosis:
    """What explains the numbers of the first calls."""
    for look in (_names, _layout, _padding, _values_alone, _numbers, _clipped, _precision, _numbers_of_few_bits):
        found = look(cell, evidence)
        if found is not None:
            return _with_order(cell, evidence, found)
    return unexplained(cell, evidence)


def unexplained(cell: Cell, evidence: Sequence[Evidence]) -> Diagnosis:
    """Where it goes wrong."""
    first, *rest = located(cell, evidence) or ("",)
    return Diagnosis(where=first, details=tuple(rest))


def _with(name: str, sentence: str, found: Diagnosis) -> Diagnosis:
    """Something else beside what is found."""
    if found.mistake is None:
        return replace(found, mistake=name, sentence=sentence)
    return replace(found, mistake=f"{name}+{found.mistake}", sentence=f"{sentence}; and {found.sentence}")


# --------------------------------------------------------------------------------------------------- names and layouts


def _names(cell: Cell, evidence: Sequence[Evidence]) -> Diagnosis | None:
    found = under_other_names(cell, evidence)
    if found is None or any(e.wrong for e in evidence):
        return None
    sentence, stacked = found
    return Diagnosis(convention=f"right, but {sentence}") if stacked else Diagnosis("misnamed", sentence)


def _layout(cell: Cell, evidence: Sequence[Evidence]) -> Diagnosis | None:
    found = layout(cell, evidence)
    return Diagnosis(found.mistake, found.words if found.mistake else "", convention=found.words) if found else None


def _with_order(cell: Cell, evidence: Sequence[Evidence], found: Diagnosis) -> Diagnosis:
    """Gates' gradients in another order are right in a convention."""
    if found.convention or found.mistake not in ("gates-permuted", "misnamed"):
        return found
    moved = names_moved(evidence)
    order = gate_order(cell, moved) if moved else None
    return found if order is None else replace(found, convention=order_in_words(cell, order))


def _moved(cell: Cell, evidence: Sequence[Evidence]) -> Diagnosis | None:
    """Right gradients under each other's names."""
    moved = names_moved(evidence)
    if not moved:
        return None
    sentence = f"gradients stand under other names: {', '.join(f'{b} under {a}' for a, b in moved.items())}"
    name = "gates-permuted" if gate_order(cell, moved) else "misnamed"
    return Diagnosis(name if sorted(moved) == sorted(moved.values()) else "gates-swapped", sentence)


def _padding(cell: Cell, evidence: Sequence[Evidence]) -> Diagnosis | None:
    found = padding_read(evidence)
    return Diagnosis(found.name, found.sentence) if found else None


# -------------------------------------------------------------------------------------------------------------- numbers


@dataclass(frozen=True)
class Answer:
    """An explanation."""

    name: str
    sentence: str
    made_of: tuple[Mutant, ...] = ()


def _values_alone(cell: Cell, evidence: Sequence[Evidence]) -> Diagnosis | None:
    """Outputs or the loss are wrong, and every gradient is right."""
    values = {n for e in evidence for n in e.wrong_values}
    if any(e.wrong for e in evidence) or not values:
        return None
    short = short_loss(evidence) if values == {"loss"} else None
    if short:
        return Diagnosis(short.name, f"{short.sentence}{_rest(evidence)}")
    if values == {"loss"}:
        found = surviving(list(factors()), evidence)
        how = f": {found[0].candidate.sentence}" if found else ""
        return Diagnosis("loss-value", f"the value of the loss is wrong{how}{_rest(evidence)}")
    found = surviving(variations(cell), evidence)
    if found or not any(e.gradients_found for e in evidence):
        return _named(found, evidence)
    first, *rest = located(cell, evidence)
    return Diagnosis("outputs-wrong", f"{first}; the gradients are right", details=tuple(rest[1:]))


def _rest(evidence: Sequence[Evidence]) -> str:
    """What is said of gradients of which none is wrong."""
    there = any(e.gradients_found for e in evidence) and not any(e.missing for e in evidence)
    return "; the gradients are right" if there else ""


def _numbers(cell: Cell, evidence: Sequence[Evidence]) -> Diagnosis | None:
    """Mistakes that reproduce the numbers."""
    if not any(e.wrong for e in evidence):
        return None
    if any(e.wrong_values for e in evidence):
        found = _named(surviving(variations(cell), evidence), evidence)
        return found or _with_wrong_loss(cell, evidence)
    if not any(np.isfinite(e.found[n]).all() for e in evidence for n in e.wrong):
        return None
    one = surviving(known_mistakes(cell), evidence)
    whole = [s for s in one if not s.spared]
    return (
        _named(whole and one, evidence)
        or _moved(cell, evidence)
        or _named(one or surviving([*factors(), *parts()], evidence), evidence)
        or _named(surviving(variations(cell), evidence), evidence)
        or _of_sums(cell, evidence)
        or _of_two(cell, evidence)
    )


def _with_wrong_loss(cell: Cell, evidence: Sequence[Evidence]) -> Diagnosis | None:
    """The gradients by themselves, where the outputs are right and the value of the loss is not."""
    if any(n != "loss" for e in evidence for n in e.wrong_values):
        return None
    found = _numbers(cell, [e.without("loss") for e in evidence])
    return found and _with("loss-value", "the value of the loss is wrong", found)


def _first_visible(found: Candidate, evidence: Sequence[Evidence]) -> int | None:
    """From which step on a mistake changes what a step gives, in a case with a loss at every step."""
    seen = [e for e in evidence if e.wrong and e.case.at == "every" and e.case.T > 2 and e.case.truncate is None]
    return seen[0].run.first_step(found.mutant) if found.mutant is not None and seen else None


def _named(found: Sequence[Any], evidence: Sequence[Evidence]) -> Diagnosis | None:
    """The first of some explanations, with the others beside it."""
    if not found:
        return None
    candidates: list[Candidate] = [s.candidate for s in found]
    first, hit = candidates[0], found[0].hit
    others = [n for c in candidates for n in (c.name, *c.also)]
    alternatives = tuple(n for n in dict.fromkeys(others) if n != first.name)
    every = {n for e in evidence for n in e.gradients_found}
    only = f" (in {'every gradient' if hit >= every else ', '.join(sorted(hit))} only)" if found[0].spared else ""
    said = tuple(f"the same numbers: {c.sentence}" for c in candidates[1:3])
    step = _first_visible(first, evidence)
    return Diagnosis(
        first.name,
        first.sentence + only + (f"; first visible at t = {step}" if step else ""),
        alternatives,
        first.convention,
        details=said,
        places=tuple(m.label for m in first.made_of),
        step=step,
    )


def _of_sums(cell: Cell, evidence: Sequence[Evidence]) -> Diagnosis | None:
    """Mistakes of single sums, by themselves or on top of another one."""
    answers = []
    for one in assembled(cell, evidence):
        for leaves in one.covers():
            every = ([one.base] if one.base.name else []) + leaves
            names = "+".join(dict.fromkeys(m.name for m in every))
            answers.append(Answer(names, "; and ".join(dict.fromkeys(words_of(m) for m in every)), tuple(every)))
    return _best(answers)


def _of_two(cell: Cell, evidence: Sequence[Evidence]) -> Diagnosis | None:
    """Two mistakes of the recursion."""
    return _best([Answer(c.name, c.sentence, c.made_of) for c in pairs(cell, evidence)])


def _best(answers: Sequence[Answer]) -> Diagnosis | None:
    if not answers:
        return None
    first, *rest = sorted(answers, key=lambda a: a.name.count("+"))
    others = dict.fromkeys(a.name for a in rest if a.name != first.name)
    places = tuple(dict.fromkeys(m.label for m in first.made_of))
    return Diagnosis(first.name, first.sentence, tuple(others), places=places)


# ------------------------------------------------------------------------------------------------------------ precision


def _clipped(cell: Cell, evidence: Sequence[Evidence]) -> Diagnosis | None:
    found = clipped(evidence) or clipped_by_entry(evidence)
    return Diagnosis(found.name, found.sentence) if found else None


def _precision(cell: Cell, evidence: Sequence[Evidence]) -> Diagnosis | None:
    found = precision(evidence)
    return Diagnosis(found.name, found.sentence) if found else None


def _numbers_of_few_bits(cell: Cell, evidence: Sequence[Evidence]) -> Diagnosis | None:
    """A mistake in results that were computed in a shorter type than they should be."""
    for name, unit in blurs(evidence)[:1]:
        if not all(e.noisy for e in evidence if LIMITS[e.case.dtype].unit < unit):
            return None
        blurred = sorted((e.blurred(unit) for e in evidence), key=lambda e: (not e.wrong, e.cost))
        if any(e.wrong for e in blurred):
            found = _named(surviving([*known_mistakes(cell), *factors()], blurred), evidence)
            if found:
                return _with("precision-lost", f"it is computed in {name}", found)
    return None
