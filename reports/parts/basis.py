"""What the report rests on: conditions read from the text, the trusted base, the versions, the seed."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

from derive.cell import Cell
from derive.hypotheses import Hypothesis
from derive.latex import Typesetter
from derive.prove import Proof
from reports.document import Block, Code, Items, Local, Math, Paragraph, Parts, Section
from reports.prose import joined, prose

__all__ = ["basis_section", "made_with", "versions"]

_RELATIONS = {"!= 0": r"\neq 0", "> 0": "> 0"}
_PACKAGES = ("bptt", "numpy", "sympy", "python-flint")


def versions() -> dict[str, str]:
    """What made the report, by name."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found


def made_with(*more: Parts) -> Paragraph:
    """The versions in one line, and what else there is to say about a run."""
    named: list[Parts] = [(f"{name} ", Local(number)) for name, number in versions().items()]
    return Paragraph(("Made with ", *joined([*named, *more]), "."))


def basis_section(proof: Proof, seed: int) -> Section:
    """The last section of a report."""
    cell = proof.derivation.cell
    conditions: Block = Paragraph(("None: the cell is defined and differentiable everywhere.",))
    if proof.hypotheses:
        conditions = Items(tuple(_condition(cell, h) for h in proof.hypotheses))
    trusted = Items(tuple(prose(line) for line in proof.trusted_base))
    return Section(
        "What this rests on",
        "basis",
        (),
        (
            Section("Conditions on the cell", "conditions", (conditions,)),
            Section("Trusted base", "trusted", (Paragraph(("Not proven here, but taken as right:",)), trusted)),
            Section("Versions", "versions", (made_with(("seed of the measurements ", Code(str(seed)))),)),
        ),
    )


def _condition(cell: Cell, h: Hypothesis) -> Parts:
    relation = _RELATIONS.get(h.relation, rf"\text{{{h.relation}}}")
    return Math(f"{Typesetter(cell).expression(h.expression)} {relation}"), f" ({h.why}, line {h.line})"
