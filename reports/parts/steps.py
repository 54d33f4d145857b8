"""The derivation: every step with its sentence, its equation, what it rests on and what was shown about it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

from derive.cost import evaluated
from derive.derivation import Derivation, Step
from reports.document import Block, Link, Listing, Math, Paragraph, Parts, Section, Table, slug
from reports.document import Step as Shown_step
from reports.parts.shown import LEMMAS, Shown
from reports.prose import joined, prose

__all__ = ["cost_section", "derivation_section", "step_link"]

COST = "Cost"
_TITLES = {"The cell": "One step forward"}  # "The cell" is a section of its own here


def step_link(number: int) -> Link:
    """A step's number, leading to it."""
    return Link((f"({number})",), f"step-{number}")


def derivation_section(derivation: Derivation, shown: Shown, sizes: Mapping[str, int]) -> Section:
    """The steps under the headings that they have; the cost is a table."""
    names = (*derivation.cell.parameters,)
    sections = []
    steps = (s for s in derivation.steps if s.section != COST)
    for title, group in groupby(steps, key=lambda s: s.section):
        blocks = tuple(_blocks(list(group), names, shown))
        sections.append(Section(_TITLES.get(title, title), f"derivation-{slug(title)}", blocks))
    lead = Paragraph(
        (
            "Every step has a number. With its equation stand the steps and rules that it rests on, and what was shown"
            " about it; both lead there. ",
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
    before: tuple[str | None, ...] = ()
    for step in steps:
        sentence = _sentence(step.sentence, names)
        pattern = tuple(part if isinstance(part, str) else None for part in sentence)
        repeated = pattern == before and None in pattern
        before = pattern
        blocks.append(
            Shown_step(
                step.number,
                () if repeated else sentence,
                step.latex,
                (*(("likewise, ",) if repeated else ()), *_rests(step, shown)),
                shown.marked(step.obligation),
                f"step-{step.number}",
            )
        )
    return blocks


def _sentence(sentence: str, names: tuple[str, ...]) -> Parts:
    """A sentence as it is read: with a capital where it begins with a word, and a colon before its equation."""
    first = sentence.split(" ", 1)[0].rstrip(",")
    capital = sentence if "[" in first or first in names else sentence[:1].upper() + sentence[1:]
    return prose(f"{capital}:", names)


def _rests(step: Step, shown: Shown) -> Parts:
    numbers = joined([(step_link(r),) for r in step.rests_on if isinstance(r, int)])
    rules = joined([_rule(r, shown) for r in step.rests_on if isinstance(r, str)], last=" and ")
    source = "from " if step.rests_on == ("the text",) else "by "
    gap = (" ",) if numbers and rules else ()
    return (*(("from ", *numbers) if numbers else ()), *gap, *((source, *rules) if rules else ()))


def _rule(rule: str, shown: Shown) -> Parts:
    return shown.link(rule, LEMMAS.get(rule, rule)) or prose(rule)


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
