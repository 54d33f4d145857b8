"""The derivation: every step with its sentence, its equation, what it rests on and what was shown about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import groupby

from derive.cost import evaluated
from derive.derivation import Derivation, Step
from reports.document import Block, Link, Listing, Math, Paragraph, Parts, Section, Table, slug
from reports.document import Step as Shown_step
from reports.parts.shown import Shown
from reports.prose import joined, prose

__all__ = ["cost_section", "derivation_section", "first_of", "step_link"]

COST = "Cost"


def step_link(number: int) -> Link:
    """A step's number, leading to it."""
    return Link((f"({number})",), f"step-{number}")


def first_of(derivation: Derivation, obligation: str) -> int | None:
    """The number of the first step that an obligation is about."""
    return next((s.number for s in derivation.steps if s.obligation == obligation), None)


def derivation_section(derivation: Derivation, shown: Shown, sizes: Mapping[str, int]) -> Section:
    """The steps under the headings that they have; the cost is a table."""
    names = (*derivation.cell.parameters,)
    sections = []
    steps = (s for s in derivation.steps if s.section != COST)
    for title, group in groupby(steps, key=lambda s: s.section):
        sections.append(Section(title, f"derivation-{slug(title)}", tuple(_blocks(list(group), names, shown))))
    lead = Paragraph(
        (
            "Each step has its number on the right. Below its equation stand the steps and rules that it rests on and, "
            "in colour, what was shown about it; both lead there. ",
            Math(r"\mathrm{d}v"),
            " is the derivative of the loss by ",
            Math("v"),
            ".",
        )
    )
    listing = Listing(latex_of(derivation), "latex", "LaTeX of every step, to copy")
    return Section("The derivation", "derivation", (lead, listing), (*sections, cost_section(derivation, sizes)))


def latex_of(derivation: Derivation) -> str:
    """Every step as LaTeX with its number."""
    return "\n".join(rf"\[ {s.latex} \tag{{{s.number}}} \]" for s in derivation.steps if s.section != COST)


def _blocks(steps: list[Step], names: tuple[str, ...], shown: Shown) -> list[Block]:
    blocks: list[Block] = []
    before = ""
    for step in steps:
        subject, pattern = _pattern(step.sentence, names)
        again = bool(subject) and pattern == before
        sentence = ("likewise for ", *prose(subject, names)) if again else _sentence(step.sentence, names)
        before = pattern
        blocks.append(
            Shown_step(
                step.number,
                sentence,
                step.latex,
                _rests(step, shown),
                shown.marked(step.obligation),
                f"step-{step.number}",
            )
        )
    return blocks


def _sentence(sentence: str, names: tuple[str, ...]) -> Parts:
    """A sentence as it is read: with a capital where it begins with a word."""
    first = sentence.split(" ", 1)[0]
    capital = sentence if "[" in first or first in names else sentence[:1].upper() + sentence[1:]
    return prose(capital, names)


def _pattern(sentence: str, names: tuple[str, ...]) -> tuple[str, str]:
    """The quantity that a sentence begins with, and the sentence with all mention of it taken out."""
    match = re.match(r"([A-Za-z_]\w*(?:\[[^\]]*\])?)(?= )", sentence)
    if not match or not ("[" in match[1] or match[1] in names):
        return "", sentence
    return match[1], re.sub(rf"(?<!\w){re.escape(match[1])}(?!\w)", "*", sentence)


def _rests(step: Step, shown: Shown) -> Parts:
    return joined([(step_link(r),) if isinstance(r, int) else _rule(r, shown) for r in step.rests_on])


def _rule(rule: str, shown: Shown) -> Parts:
    return shown.link(rule, f"the lemma on {rule.removeprefix('lemma/')}") or prose(rule)


def cost_section(derivation: Derivation, sizes: Mapping[str, int]) -> Section:
    """What one forward and one backward pass cost, as polynomials in the sizes."""
    steps = [s for s in derivation.steps if s.section == COST]
    head: list[Parts] = [("quantity",), ("count",)]
    rows: list[tuple[Parts, ...]] = [((s.sentence[:1].upper() + s.sentence[1:],), (Math(s.latex),)) for s in steps]
    alignment = "ll"
    if sizes and {s.name for step in steps for s in step.equation.rhs.free_symbols} <= set(sizes):
        at = ", ".join(f"{letter} = {n}" for letter, n in sizes.items())
        head.append(("at the sizes below",))
        rows = [(*row, (f"{evaluated(s.equation.rhs, sizes):,}",)) for row, s in zip(rows, steps, strict=True)]
        alignment = "llr"
        caption: Parts = (
            "Counted from the program itself, not estimated. The last column is at ",
            *prose(at),
            ".",
        )
    else:
        caption = ("Counted from the program itself, not estimated.",)
    anchors = tuple(f"step-{s.number}" for s in steps)
    return Section("Cost", "cost", (Table(tuple(head), tuple(rows), alignment, caption, anchors),))
