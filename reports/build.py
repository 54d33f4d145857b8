"""A cell to a document: derive, prove, measure, and put the parts in order."""

from __future__ import annotations

from collections.abc import Callable

from derive.cell import Cell
from derive.derivation import Derivation, differentiate
from derive.prove import Proof, prove
from reports.document import Document, Section
from reports.measure import Measured, measure
from reports.parts.basis import basis_section
from reports.parts.cell import cell_section
from reports.parts.numbers import numbers_section
from reports.parts.pictures import flow
from reports.parts.proof import proof_section
from reports.parts.shown import Shown
from reports.parts.steps import derivation_section
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
    """The document of results that are there already."""
    cell, shown = derivation.cell, Shown(proof)
    return Document(
        name=cell.name,
        title=cell.title or cell.name,
        verdict=overall(proof, measured),
        sections=(
            verdict_section(proof, measured),
            cell_section(cell, measured.sizes if measured.check is not None else {}),
            derivation_section(derivation, shown, measured.sizes),
            proof_section(proof),
            numbers_section(cell, measured, seed),
            Section("How far the gradient reaches", "reach", (flow(derivation, measured, seed),)),
            basis_section(proof, seed),
        ),
    )
