"""A cell to a document: derive, prove, measure, and put the parts in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from derive.cell import Cell
from derive.derivation import Derivation, differentiate
from derive.prove import Proof, prove
from reports.document import Block, Document, Section
from reports.measure import Measured, measure
from reports.parts.basis import basis_section
from reports.parts.cell import cell_section
from reports.parts.numbers import numbers_section
from reports.parts.pictures import pictures
from reports.parts.proof import proof_section
from reports.parts.shown import Shown
from reports.parts.steps import chapter_section, cost_section
from reports.parts.verdict import overall, verdict_section

__all__ = ["assemble", "build_report"]


def build_report(cell: Cell, *, seed: int = 0, report: Callable[[str], None] = lambda stage: None) -> Document:
    """Derive, prove and measure a cell, and say so in a document.

    ``seed`` is that of every random number in the measurements; the same seed gives the same document, times apart.
    ``report`` is told each stage as it begins.  Raises TypeError for anything that is not a :class:`derive.Cell`.
    """
    report("the derivation")
    derivation = differentiate(cell)
    proof = prove(derivation, report=report)
    report("the cross-check of the numbers")
    return assemble(derivation, proof, measure(derivation, seed), seed)


def assemble(derivation: Derivation, proof: Proof, measured: Measured, seed: int) -> Document:
    """The document of results that are there already: the verdict, then the story, then what it rests on."""
    cell, shown, found = derivation.cell, Shown(proof), pictures(derivation, measured, seed)
    sizes = measured.sizes if measured.check is not None else {}

    def chapter(name: str, *more: Block) -> tuple[Section, ...]:
        return chapter_section(derivation, name, shown, *more)

    numbers = numbers_section(cell, measured, seed)
    return Document(
        name=cell.name,
        title=cell.title or cell.name,
        verdict=overall(proof, measured),
        sections=(
            verdict_section(proof, measured),
            cell_section(derivation, shown, sizes),
            Section("The network, unrolled", "unrolled", (found["unrolled"],)),
            *chapter("loss"),
            *chapter("outputs"),
            *chapter("recursion"),
            *chapter("recurrent"),
            *chapter("others"),
            *chapter("jacobian", found["flow"], found["spectrum"]),
            *chapter("truncation", found["truncation"]),
            cost_section(derivation, measured.sizes, found["cost"]),
            proof_section(proof, found["mistakes"]),
            replace(numbers, blocks=(*numbers.blocks, found["differences"])),
            basis_section(proof, seed),
        ),
    )
