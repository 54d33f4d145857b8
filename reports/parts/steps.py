"""The derivation: every step with its sentence, its equation, what it rests on and what was shown about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from derive.cost import evaluated
from derive.derivation import Derivation, Step
from derive.explicit_steps import explicit
from reports.document import Block, Link, Math, Paragraph, Parts, Section, Table
from reports.document import Step as Shown_step
from reports.parts.shown import LEMMAS, Shown
from reports.prose import joined, prose

__all__ = ["chapter_section", "chapters_of", "cost_section", "latex_of", "step_link"]

# What a chapter is about, before its first step.
_LEADS: Mapping[str, Parts] = {
    "outputs": (
        "Nothing here reaches through time: the loss of a step sees these quantities, and no later step reads them.",
    ),
    "recursion": (
        "From ",
        Math("t = T"),
        " down to ",
        Math("t = 1"),
        ", each quantity collects what its readers hand back. What step ",
        Math("t + 1"),
        " hands back is known by then.",
    ),
    "recurrent": (
        "The same parameter is used at every step, and a state depends on every earlier use through the states before"
        " it. Two derivatives must be kept apart: the immediate one, ",
        Math(r"\partial^{+}"),
        ", which counts the use at one step while the states before are held still, and the total one, ",
        Math(r"\mathrm{d}"),
        ", which counts them all.",
    ),
    "jacobian": (
        "What one step does to a small change of the states is the matrix ",
        Math("J_t"),
        ". What many steps do is the product of these matrices, and their order is part of the result.",
    ),
}


def step_link(number: int) -> Link:
    """A step's number, leading to it."""
    return Link((f"({number})",), f"step-{number}")


def chapters_of(derivation: Derivation) -> dict[str, list[Step]]:
    """The steps by chapter, in the order in which they are told."""
    found: dict[str, list[Step]] = {}
    for step in derivation.steps:
        found.setdefault(step.chapter, []).append(step)
    return found


def chapter_section(derivation: Derivation, chapter: str, shown: Shown, *more: Block) -> tuple[Section, ...]:
    """A chapter with its title, its steps and ``more`` blocks after them; none where the cell has no such chapter."""
    steps = chapters_of(derivation).get(chapter)
    if not steps:
        return ()
    lead = (Paragraph(_LEADS[chapter]),) if chapter in _LEADS else ()
    return (Section(steps[0].section, chapter, (*lead, *_blocks(steps, derivation, shown), *more)),)


def latex_of(derivation: Derivation) -> str:
    """Every step as LaTeX with its number."""
    return "\n".join(rf"\[ {s.latex} \tag{{{s.number}}} \]" for s in derivation.steps if s.chapter != "cost")


def _blocks(steps: Sequence[Step], derivation: Derivation, shown: Shown) -> list[Block]:
    blocks: list[Block] = []
    names = (*derivation.cell.parameters, "theta")
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
                explicit(derivation, step),
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


def cost_section(derivation: Derivation, sizes: Mapping[str, int], *more: Block) -> Section:
    """What one forward and one backward pass cost, as polynomials in the sizes; then ``more`` blocks."""
    steps = chapters_of(derivation)["cost"]
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
    return Section("Cost", "cost", (Table(tuple(head), tuple(rows), alignment, caption, anchors), *more))
