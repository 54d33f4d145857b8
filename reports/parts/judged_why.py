"""Why an implementation is wrong, and how to see it again: the known mistake, its counterexample, lines to copy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from derive.cell import Cell
from derive.mistakes import CATALOGUE
from derive.mistakes.coincide import counterexample_of
from derive.parse import cells, load
from numeric.oracle.case import Case
from numeric.oracle.distances import Distance
from numeric.oracle.lookup import how_to_find
from numeric.oracle.verdict import Verdict
from reports.document import Block, Code, Items, Listing, Paragraph, Parts, Section, Table
from reports.parts.foreign import foreign
from reports.parts.judged_tensors import entry_parts, tensor_parts, value, worst_of
from reports.prose import joined, prose
from reports.said import explained

__all__ = ["meaning", "reproduce_section", "why_section"]

_KNOWN = frozenset(row.name for row in CATALOGUE)
_PYTHON = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", re.ASCII)


def meaning(mistake: str, names: Sequence[str]) -> Iterator[Parts]:
    """Each name of a mistake, several joined by "+", with what it means, as far as the catalogue has it."""
    for name in mistake.split("+"):
        said = explained(name, names) or ("what an implementation does, not a formula",)
        yield Code(name), ": ", *said


def why_section(verdict: Verdict, cell: Cell) -> Section:
    """What the mistake does, on the smallest network, and what else fits."""
    names = tuple(cell.parameters)
    found = verdict.diagnosis
    blocks: list[Block] = []
    if found.convention:
        blocks.append(
            Paragraph(
                (
                    "What is returned is ",
                    *prose(foreign(found.convention), names),
                    ". Turned into the layout that was asked for, it is the exact gradient.",
                )
            )
        )
    if found.mistake:
        blocks += _named(verdict, names)
        blocks += _counterexamples(cell, found.places)
    elif not found.convention:
        blocks.append(Paragraph(_unnamed(verdict)))
    if found.alternatives:
        others = [(Code(name), *_meant(name, names)) for name in found.alternatives]
        blocks += [Paragraph(("Other names that explain the same numbers as well:",)), Items(tuple(others))]
    return Section("Why", "why", tuple(blocks))


def _meant(name: str, names: Sequence[str]) -> Parts:
    found = explained(name, names)
    return (": ", *found) if found else ()


def _named(verdict: Verdict, names: tuple[str, ...]) -> Iterator[Block]:
    mistake = verdict.mistake or ""
    yield Items(tuple(meaning(mistake, names)))
    yield Paragraph(
        (
            f"Names are those of the catalogue of {len(_KNOWN)} known mistakes, collected from public bug reports and"
            " questions, and of things that programs do beside formulas. A name is given only where the mistake, run on"
            " every case, reproduces the very numbers.",
        ),
        "note",
    )


def _unnamed(verdict: Verdict) -> Parts:
    if verdict.status == "error":
        return ("An error is not explained by a formula: what was said stands above, in the words of the program.",)
    if verdict.status in ("suspect", "undecidable"):
        return ("No name is given: what is no certain error is not explained.",)
    return (
        f"None of the {len(_KNOWN)} known mistakes at any place of this cell, no factor, no layout and no two mistakes"
        " together reproduce these numbers in every case. No name is given where none fits; what is known is where.",
    )


def _counterexamples(cell: Cell, places: Sequence[str]) -> Iterator[Block]:
    for place in places[:2]:
        found = counterexample_of(cell, place)
        if found is None:
            continue
        example, numbers = found
        steps, size, batch = example.case
        yield Paragraph(
            (
                "The smallest network that shows it, by hand or with a computer: ",
                *prose(f"T = {steps}"),
                f", every size {size}, {batch} sequence{'s' if batch > 1 else ''}. The gradient of the loss by ",
                Code(example.entry),
                f" is {example.right}; with the mistake it is {example.derived}.",
            )
        )
        rows = tuple(((Code(name),), (Code(x.replace("/500", " / 500")),)) for name, x in numbers.items())
        caption = ("What it is made of; d and a name is what the loss gives that value.",)
        yield Table((("entry",), ("value",)), rows, "lr", caption)


# -------------------------------------------------------------------------------------------------------- to repeat it


def reproduce_section(verdict: Verdict, cell: Cell, cases: Mapping[str, Case], command: str, source: str) -> Section:
    """The command, the case, and lines to copy."""
    blocks: list[Block] = []
    if command:
        blocks += [Paragraph(("The whole judging, on the command line:",)), Paragraph((Code(foreign(command)),))]
    d = _worst(verdict)
    case = cases.get(d.case if d else verdict.findings[0].case if verdict.findings else "")
    if case is not None:
        blocks += _about(case)
        if d is not None:
            blocks.append(_entry(d))
        blocks.append(Listing(_python(verdict, cell, case, d, source), "python", "Python, to copy"))
    elif verdict.reproduce:
        blocks.append(Paragraph((foreign(verdict.reproduce),)))
    return Section("How to see it again", "reproduce", tuple(blocks))


def _worst(verdict: Verdict) -> Distance | None:
    """What the first finding is about."""
    for f in verdict.findings:
        found = [d for d in verdict.distances if (d.case, d.tensor) == (f.case, f.tensor)]
        if found:
            return worst_of(found)
    return None


def _about(case: Case) -> Iterator[Block]:
    sizes = ", ".join(f"{letter} = {n}" for letter, n in {"T": case.T, "B": case.B, **case.sizes}.items())
    rows: list[tuple[Parts, ...]] = [
        (("case",), (Code(foreign(case.id, 60)),)),
        (("what it is for",), (foreign(case.purpose),)),
        (("sizes",), prose(sizes)),
        (("loss",), (f"{case.loss.replace('_', ' ')}, at {case.at} step, {case.reduction}",)),
        (("stored as",), (case.dtype,)),
    ]
    if case.lengths is not None:
        rows.append((("lengths",), (", ".join(map(str, case.lengths[:20].tolist())),)))
    if case.truncate is not None:
        rows.append((("truncated",), ("k1 = {}, k2 = {}".format(*case.truncate),)))
    yield Paragraph(("The case in which the worst of it shows:",))
    yield Table((("",), ("",)), tuple(rows), "ll")


def _entry(d: Distance) -> Block:
    parts = joined([("yours ", value(d.found, d.noise)), ("exact ", value(d.exact, d.noise))])
    return Paragraph(
        (
            "Its worst entry, ",
            *tensor_parts(d.tensor),
            " at ",
            *entry_parts(d.index),
            ": ",
            *parts,
            ", in hexadecimal ",
            Code(d.exact.hex()),
            ".",
        )
    )


def _python(verdict: Verdict, cell: Cell, case: Case, d: Distance | None, source: str) -> str:
    """The case found, the implementation called, and judged on it alone."""
    lines, find = ["import numeric.oracle", ""], how_to_find(case)
    call = "implementation"
    if _PYTHON.fullmatch(verdict.implementation):
        module, _, name = verdict.implementation.partition(":")
        lines.insert(1, f"from {module} import {name.split('.')[0]}")
        call = name
    else:
        lines += ["implementation = ...  # yours: a function of a case"]
    if not (cell.name in cells() and load(cell.name) == cell):
        lines.insert(0, "import derive")
        lines.append(f"cell = derive.load({(source or f'{cell.name}.cell')!a})")
    if not find.startswith("numeric.oracle."):
        find = "...  # read it from its file, numeric.oracle.read_cases(folder).cases"
    lines.append(f"case = {find}")
    if d is not None and "." not in d.tensor and d.tensor != "loss":
        index = ", ".join(map(str, d.index))
        lines.append(f'print({call}(case)["grads"]["{d.tensor}"][{index}])')
    lines.append(f"print(numeric.oracle.judge({call}, case.parsed, cases=[case]))")
    return "\n".join(lines)
