"""A verdict of the oracle as a document: the answer, where, why, how to see it again, and what was judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from derive.cell import Cell
from numeric.noise import LIMIT
from numeric.oracle.case import Case
from numeric.oracle.criterion import AGREES, DISAGREES, ERROR, SUSPECT, UNDECIDABLE, worst
from numeric.oracle.families import default_cases
from numeric.oracle.verdict import Verdict
from reports.document import Block, Code, Document, Link, Mark, Paragraph, Parts, Section, Table
from reports.parts.foreign import foreign
from reports.parts.judged_coverage import coverage_section
from reports.parts.judged_tensors import KINDS, by_tensor, kind_of, mark_of, noise_units, tensor_parts, worst_of
from reports.parts.judged_where import where_section
from reports.parts.judged_why import reproduce_section, why_section
from reports.prose import joined, prose
from reports.said import said

__all__ = ["verdict_document"]

_NAMED = 6


def verdict_document(
    verdict: Verdict, cell: Cell, cases: Sequence[Case] | None = None, *, command: str = "", source: str = ""
) -> Document:
    """The document of a verdict on an implementation of ``cell``.

    ``cases`` are those that were judged, the default ones where left out; ``command`` is the line that judges it again,
    ``source`` what names the cell on a command line, where there is any.
    """
    by_id = {case.id: case for case in (default_cases(cell) if cases is None else cases)}
    sections = [_answer(verdict, cell)]
    if verdict.judged:
        sections.append(where_section(verdict, cell))
    if verdict.judged and verdict.status != AGREES:
        sections.append(why_section(verdict, cell))
        sections.append(reproduce_section(verdict, cell, by_id, command, source))
    sections.append(coverage_section(verdict, by_id))
    name = foreign(verdict.implementation, 80)
    return Document(
        name=name,
        title=f"{name} as {cell.name}",
        verdict=_overall(verdict),
        sections=tuple(sections),
        kicker="An implementation of backpropagation through time, judged",
    )


def _overall(verdict: Verdict) -> Mark:
    if not verdict.judged:
        return Mark("open", "nothing was judged")
    if verdict.diagnosis.convention:
        return Mark("open", "right in another layout")
    return {
        AGREES: Mark("holds", "agrees"),
        DISAGREES: Mark("fails", "disagrees"),
        SUSPECT: Mark("open", "suspect"),
        UNDECIDABLE: Mark("open", "undecidable"),
        ERROR: Mark("fails", "error"),
    }[verdict.status]


# ----------------------------------------------------------------------------------------------------------- the answer


def _answer(verdict: Verdict, cell: Cell) -> Section:
    blocks: list[Block] = [Paragraph(_lead(verdict, cell), "lead")]
    if verdict.mistake:
        known = joined([(Code(name),) for name in verdict.mistake.split("+")], last=" and ")
        blocks.append(Paragraph((*_head(verdict), *known, "; ", Link(("why",), "why"), " it is wrong.")))
    if verdict.judged:
        blocks.append(_summary(verdict, cell))
    blocks.append(Paragraph(tuple(_extent(verdict))))
    seen = {d.tensor for d in verdict.distances}
    left: list[Parts] = [(Code(name),) for name in cell.parameters if name not in seen] if verdict.judged else []
    if left:
        blocks.append(Paragraph(("No gradient was returned, or asked for, of ", *joined(left, last=" and "), ".")))
    return Section("The answer", "verdict", tuple(blocks))


def _head(verdict: Verdict) -> Parts:
    if verdict.diagnosis.convention:
        return ("Where the layout of the cell is asked for, this is a mistake, known as ",)
    return ("This mistake is known as " if "+" not in (verdict.mistake or "") else "Mistakes that are known as ",)


def _lead(verdict: Verdict, cell: Cell) -> Parts:
    found, names = verdict.diagnosis, tuple(cell.parameters)
    who = foreign(verdict.implementation, 80)
    if not verdict.judged:
        return (f"Nothing was judged: {who} declined every case.",)
    if verdict.status == AGREES:
        return (f"{who} is right: every number that was compared is as near to the exact one as rounding allows.",)
    if found.convention:
        return ("The numbers are ", *prose(foreign(found.convention), names), ".")
    if found.mistake:
        return (f"{who} is wrong: ", *said(foreign(found.sentence), cell), ".")
    if verdict.status == SUSPECT:
        return (f"{who} is further from the exact gradient than rounding explains, and nearer than mistakes are.",)
    if verdict.status == UNDECIDABLE:
        return ("In some case nothing tells right from wrong; what can be judged, is right.",)
    if verdict.status == ERROR:
        first = next((f.message for f in verdict.findings if f.status == ERROR), "")
        return (f"{who} could not be judged to the end: {foreign(first, 240)}.",)
    if all(d.status == AGREES or d.tensor.startswith("trace.") for d in verdict.distances):
        return (f"What {who} returns is right, but a line of its trace is not.",)
    where: Parts = (": ", *prose(foreign(found.where), names)) if found.where else ()
    return (f"{who} is wrong, in a way that no known mistake explains", *where, ".")


def _summary(verdict: Verdict, cell: Cell) -> Table:
    """Kinds of tensors with their verdicts; each leads to its row."""
    tensors = by_tensor(verdict, cell.parameters)
    place = {name: f"tensor-{k}" for k, name in enumerate(tensors, 1)}
    rows: list[tuple[Parts, ...]] = []
    for kind, words in KINDS.items():
        own = {n: worst_of(found) for n, found in tensors.items() if kind_of(n, cell.parameters) == kind}
        if not own:
            continue
        status = worst(d.status for d in own.values())
        wrong = [n for n, d in own.items() if d.status == status] if status != AGREES else []
        links: list[Parts] = [(Link(tensor_parts(n), place[n]),) for n in wrong[:_NAMED]]
        more: Parts = (f" and {len(wrong) - _NAMED} more",) if len(wrong) > _NAMED else ()
        which: Parts = (": ", *joined(links), *more) if links and kind != "loss" else ()
        rows.append(((words,), (mark_of(status), *which), (noise_units(max(d.units for d in own.values())),)))
    errors = [f for f in verdict.findings if f.status == ERROR]
    if errors:
        said = f"{len(errors)} finding{'s' if len(errors) > 1 else ''}"
        rows.append((("how it behaves",), (mark_of(ERROR), f": {said}"), ("–",)))
    head = (("what",), ("verdict",), ("largest error, units of noise",))
    return Table(head, tuple(rows), "llr")


def _extent(verdict: Verdict) -> Iterator[str | Link]:
    n = len(verdict.judged)
    yield f"{n} case{'' if n == 1 else 's'} and {verdict.tensors} tensors were compared with certified values; "
    yield f"up to {LIMIT:g} units is rounding. "
    if verdict.declined:
        yield f"{_counted(len(verdict.declined), 'case')} "
        yield Link(("declined",), "declined")
        yield ". "
    if verdict.untested:
        yield f"{_counted(len(verdict.untested), 'feature')} "
        yield Link(("not tested",), "untested")
        yield "."


def _counted(n: int, what: str) -> str:
    return f"{n} {what} was" if n == 1 else f"{n} {what}s were"
