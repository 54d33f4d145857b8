"""Where an implementation is wrong: its equation beside the right one, its tensors, its first step, and drawings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice

from derive.cell import Cell
from derive.derivation import Derivation, differentiate
from numeric.noise import LIMIT
from numeric.oracle.criterion import ERROR
from numeric.oracle.distances import Distance
from numeric.oracle.mutants import Mutant
from numeric.oracle.verdict import Finding, Verdict
from reports.document import (
    Block,
    Code,
    Entry,
    Figure,
    Fold,
    Formula,
    Items,
    Mark,
    Math,
    Paragraph,
    Parts,
    Section,
    Table,
)
from reports.judged_figure import MOST_LINES, MOST_TENSORS, step_figure, tensor_figure
from reports.parts.foreign import foreign
from reports.parts.judged_tensors import (
    both_values,
    by_tensor,
    entry_parts,
    mark_of,
    noise_units,
    place_parts,
    steady,
    tensor_parts,
    value,
    worst_of,
)
from reports.prose import prose
from reports.wrong_lines import WrongLine, mutants_of, wrong_lines

__all__ = ["where_section"]

#: Findings that are told, equations of one mistake, and errors.
_FINDINGS, _LINES, _ERRORS = 12, 3, 8


def where_section(verdict: Verdict, cell: Cell) -> Section:
    """From the equation to the numbers."""
    title = "How close it is" if verdict.status == "agrees" else "Where"
    names = tuple(cell.parameters)
    blocks: list[Block] = [*_errors(verdict), *_equations(verdict, cell, names), *_located(verdict, names)]
    tensors = by_tensor(verdict, cell.parameters)
    if tensors:
        blocks += [_table(tensors), _drawing(tensors)]
    else:
        blocks.append(Paragraph(("No number was returned that could be compared.",)))
    blocks += _steps(verdict)
    blocks += _findings(verdict.findings)
    return Section(title, "where", tuple(blocks))


def _errors(verdict: Verdict) -> Iterator[Block]:
    """What an implementation did instead of answering, in its own words."""
    said: dict[str, list[str]] = {}
    for f in verdict.findings:
        if f.status == ERROR:
            said.setdefault(f.message, []).append(f.case)
    if said:
        yield Paragraph(("What went wrong, and in which cases:",))
        yield Items(tuple(_error(message, cases) for message, cases in islice(said.items(), _ERRORS)))


def _error(message: str, cases: Sequence[str]) -> Parts:
    more = f" and {len(cases) - 3} more" if len(cases) > 3 else ""
    return f"{foreign(message)} (", Code(", ".join(foreign(case, 60) for case in cases[:3])), f"{more})"


# ---------------------------------------------------------------------------------------------------------- equations


def _equations(verdict: Verdict, cell: Cell, names: tuple[str, ...]) -> Iterator[Block]:
    """Each known mistake as the line of the derivation that it changes."""
    traced = [f for f in verdict.findings if f.tensor.startswith("trace.")][:1]
    if not verdict.diagnosis.places and not traced:
        return
    derivation = differentiate(cell)
    for finding in traced:
        yield from _traced(finding, derivation)
    places = () if verdict.diagnosis.convention else verdict.diagnosis.places
    for k, mutant in enumerate(mutants_of(derivation, places), 1):
        lines = wrong_lines(derivation, mutant)
        if lines:
            yield _equation(lines, mutant, k, cell, names)
        else:
            yield Paragraph((*_loop(mutant, names),))
    step = verdict.diagnosis.step
    if step:
        yield Paragraph(("It first shows at ", Math(f"t = {step}"), ": the part of no earlier step is changed by it."))


def _traced(finding: Finding, derivation: Derivation) -> Iterator[Block]:
    """The equation that the first wrong line of a trace does not follow from."""
    name = finding.tensor.removeprefix("trace.")
    of = name.removeprefix("dL_d")
    owner = f"P3/{of}[t]" if of != name else "program/cut"
    steps = (
        s for s in derivation.steps if s.obligation == owner and (of != name or str(s.equation.lhs) == f"{name}[t]")
    )
    step = next(steps, None)
    if step is None:
        return
    noise = (finding.detectable or 0.0) / LIMIT
    both = (value(finding.exact or 0.0, noise), " there; the trace has ", value(finding.found or 0.0, noise), ".")
    said = Paragraph(
        (
            "From the values that it reads, this line gives for the entry ",
            *entry_parts(finding.index[1:]),
            " the value ",
            *both,
        )
    )
    title: Parts = (f"Equation ({step.number}) of the derivation, traced at ", Math(f"t = {finding.step}"))
    yield Entry(title, "traced", Mark("fails", "does not hold"), (Formula(step.latex), said))


def _equation(lines: Sequence[WrongLine], mutant: Mutant, k: int, cell: Cell, names: tuple[str, ...]) -> Entry:
    first, *others = lines
    blocks: list[Block] = [
        Paragraph((Mark("fails", "as it is computed"), ":")),
        Formula(first.wrong),
        Paragraph((Mark("holds", "as it should be"), ":")),
        Formula(first.right),
    ]
    if others:
        more = "In another equation that reads it" if len(others) == 1 else f"In {len(others)} equations that read it"
        blocks.append(Fold(more, tuple(b for line in others[:_LINES] for b in _pair(line))))
    number = f"Equation ({first.number}) of the derivation: " if first.number else "The sum over time: "
    return Entry((number, *prose(first.sentence, names)), f"wrong-{k}", Mark("fails", "wrong"), tuple(blocks))


def _pair(line: WrongLine) -> tuple[Block, ...]:
    number = f"({line.number}), " if line.number else ""
    return Paragraph((f"{number}as it is computed, then as it should be:",)), Formula(line.wrong), Formula(line.right)


def _loop(mutant: Mutant, names: tuple[str, ...]) -> Parts:
    return "Every equation of a step is right; the loop over time is wrong: ", *prose(mutant.says, names), "."


def _located(verdict: Verdict, names: tuple[str, ...]) -> Iterator[Block]:
    """Where it first goes wrong, for what nothing explains; further lines of a diagnosis."""
    said = [verdict.diagnosis.where] if verdict.diagnosis.where and not verdict.mistake else []
    said += verdict.diagnosis.details
    if said:
        yield Items(tuple(prose(foreign(text), names) for text in said))


# ------------------------------------------------------------------------------------------------------------ numbers


def _table(tensors: dict[str, list[Distance]]) -> Table:
    rows: list[tuple[Parts, ...]] = []
    for name, found in tensors.items():
        d = worst_of(found)
        numbers = (noise_units(d.units),), *both_values(d)
        rows.append((tensor_parts(name), (mark_of(d.status),), *numbers, *place_parts(d)))
    head = ("tensor", "verdict", "units of noise", "yours", "exact", "entry", "worst case")
    caption = f"The worst entry of each tensor; indices are Python's, time first. Up to {LIMIT:g} units is rounding."
    if any(worst_of(found).units == math.inf for found in tensors.values()):
        caption += " An infinite error is one of an entry that must be exactly zero, or that is no number."
    anchors = tuple(f"tensor-{k}" for k in range(1, len(rows) + 1))
    return Table(tuple((h,) for h in head), tuple(rows), "llrrrll", (caption,), anchors)


def _drawing(tensors: dict[str, list[Distance]]) -> Figure:
    shown = sorted(tensors.items(), key=lambda x: -steady(worst_of(x[1]).units))[:MOST_TENSORS]
    kept = [(name, found) for name, found in tensors.items() if name in dict(shown)]
    wrong = sum(worst_of(found).units > LIMIT for _, found in kept)
    said = "every mark is left of the limit: all errors are rounding" if not wrong else _beyond(wrong, len(kept))
    left = f" The {len(kept)} worst of {len(tensors)} tensors." if len(kept) < len(tensors) else ""
    caption = (f"Errors of every case: {said}. Circles are within the limit, triangles beyond it.{left}",)
    rows = tuple(
        (
            tensor_parts(name),
            (str(len(found)),),
            (str(sum(d.units > LIMIT for d in found)),),
            (noise_units(worst_of(found).units),),
        )
        for name, found in kept
    )
    data = Table((("tensor",), ("cases",), ("beyond the limit",), ("largest error",)), rows, "lrrr")
    return Figure(tensor_figure(kept), caption, "Errors in units of rounding noise, tensor by tensor", "errors", data)


def _beyond(wrong: int, of: int) -> str:
    if wrong == of:
        return "every tensor has marks beyond the limit"
    have = "has" if wrong == 1 else "have"
    return f"{wrong} of {of} tensors {have} marks beyond the limit, the others are right everywhere"


def _steps(verdict: Verdict) -> Iterator[Block]:
    """Errors step by step, in the case where most lines with a time axis are wrong."""
    timed = [d for d in verdict.distances if len(d.steps) > 1 and max(d.steps) > LIMIT]
    if not timed:
        return
    cases = [d.case for d in timed]
    case = max(dict.fromkeys(cases), key=cases.count)
    found = sorted((d for d in timed if d.case == case), key=_first_wrong)[:MOST_LINES]
    rows: list[tuple[Parts, ...]] = [
        ((str(t + 1),), *((noise_units(d.steps[t]),) for d in found)) for t in range(len(found[0].steps))
    ]
    head = (("t",), *(tensor_parts(d.tensor) for d in found))
    data = Table(head, tuple(rows), "r" * len(head))
    firsts = [(*tensor_parts(d.tensor), f" at t = {_first_wrong(d)}") for d in found]
    said = [part for k, parts in enumerate(firsts) for part in ((", ",) if k else ()) + parts]
    caption: Parts = (f"Step by step in the case {foreign(case, 60)}. First wrong: ", *said, ".")
    yield Figure(step_figure(found), caption, "Errors in units of rounding noise, step by step", "steps", data)


def _first_wrong(d: Distance) -> int:
    return next(t for t, units in enumerate(d.steps, 1) if units > LIMIT)


def _findings(findings: Sequence[Finding]) -> Iterator[Block]:
    if findings:
        items = [_told(f) for f in islice(findings, _FINDINGS)]
        if len(findings) > _FINDINGS:
            items.append((f"and {len(findings) - _FINDINGS} more",))
        yield Fold(f"All {len(findings)} findings, the worst first", (Items(tuple(items)),))


def _told(finding: Finding) -> Parts:
    """A finding in its own words, in which the error is a number that was measured."""
    case: Parts = (Code(foreign(finding.case, 60)), ": ") if finding.case else ()
    error = f"{finding.units:.2g}" if finding.units is not None else ""
    before, found, after = finding.message.partition(f" {error} noise units")
    if not (error and found):
        return *case, foreign(finding.message)
    return *case, f"{foreign(before)} ", noise_units(finding.units or 0.0), f" noise units{foreign(after)}"
