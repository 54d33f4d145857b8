"""A verification as a document: the answer, the text with its wrong lines, and each of these set right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from derive.cell import Cell
from derive.handwritten.counterexample import Counterexample
from derive.handwritten.typeset import line_latex
from derive.tokens import normal
from derive.verify import GIVEN, OPEN, RIGHT, WRONG, Verification, VerifiedLine
from reports.document import (
    Block,
    Code,
    CodeLine,
    CodeLines,
    Document,
    Entry,
    Formula,
    Items,
    Link,
    Local,
    Mark,
    Paragraph,
    Parts,
    Section,
    Table,
)
from reports.parts.basis import versions
from reports.parts.foreign import foreign
from reports.prose import joined, prose
from reports.said import explained, said

__all__ = ["in_order_of", "verification_document"]

_LETTERS = 200


def verification_document(verification: Verification) -> Document:
    """The document of what :func:`derive.verify` found in a file."""
    cell = verification.cell
    sections = [_answer(verification)]
    if verification.wrong:
        entries = tuple(_entry(line, cell) for line in verification.wrong)
        title = "The wrong line" if len(entries) == 1 else "The wrong lines"
        sections.append(Section(title, "wrong", entries))
    sections += [_lines(verification), _basis(verification)]
    name = foreign(PurePath(verification.name).name, 80) if verification.name else "a derivation"
    return Document(
        name=name,
        title=f"A derivation for {cell.name}, line by line",
        verdict=_overall(verification),
        sections=tuple(sections),
        kicker="Somebody's backpropagation through time, verified",
    )


def _overall(verification: Verification) -> Mark:
    wrong = len(verification.wrong)
    if wrong:
        return Mark("fails", f"{wrong} line{'' if wrong == 1 else 's'} wrong")
    if verification.ran is False:
        return Mark("fails", "right line by line, wrong as it stands")
    return Mark("holds", "every line is right") if verification.decided else Mark("open", "not decided")


# ----------------------------------------------------------------------------------------------------------- the answer


def _answer(verification: Verification) -> Section:
    blocks: list[Block] = [Paragraph(_lead(verification), "lead")]
    blocks.append(CodeLines(tuple(_code_lines(verification))))
    if verification.missing:
        names = joined([(Code(name),) for name in verification.missing])
        blocks.append(Paragraph(("Without a line: ", *names, ". What is not there was not judged.")))
    if verification.notes:
        blocks.append(Items(tuple(prose(note) for note in verification.notes)))
    return Section("The answer", "verdict", tuple(blocks))


def _lead(verification: Verification) -> Parts:
    lines, wrong = verification.lines, verification.wrong
    undecided = sum(line.status == OPEN for line in lines)
    right = len(lines) - len(wrong) - undecided
    more = f", {undecided} not decided" if undecided else ""
    if not wrong:
        return (f"No line is wrong: {right} of {len(lines)} are right{more}.{_as_it_stands(verification)}",)
    if len(wrong) > 1:
        numbers = joined([_line_link(line) for line in wrong], last=" and ")
        return (f"{right} of {len(lines)} lines are right{more}; {len(wrong)} are wrong: lines ", *numbers, ".")
    (line,) = wrong
    what: Parts = (": ", *_says(line, verification.cell)) if line.says else ()
    return (f"{right} of {len(lines)} lines are right{more}. One is wrong, line ", *_line_link(line), *what, ".")


def _as_it_stands(verification: Verification) -> str:
    if verification.ran:
        return " Run as it stands, the file gives the gradients of the unrolled network."
    if verification.ran is False:
        return " But run as it stands, the file does not give the gradients of the unrolled network."
    return ""


def _line_link(line: VerifiedLine) -> Parts:
    return (Link((str(line.number),), f"line-{line.number}"),)


def _says(line: VerifiedLine, cell: Cell) -> Parts:
    return said(line.says or "", cell)


def _code_lines(verification: Verification) -> Iterator[CodeLine]:
    """The whole text, comments and all, with a mark at each line that was judged."""
    found = {line.number: line for line in verification.lines}
    texts = normal(verification.text).rstrip("\n").split("\n") if verification.text else []
    if not texts:
        texts = [found[k].text if k in found else "" for k in range(1, max(found) + 1)]
    for number, text in enumerate(texts, 1):
        line = found.get(number)
        verdict = _verdict(line) if line else ""
        says = _says(line, verification.cell) if line and line.says else ("wrong",)
        note: Parts = (Link(says, f"line-{number}"),) if verdict == "fails" else ()
        yield CodeLine(number, _shown_line(text), verdict, note)


def _shown_line(text: str) -> str:
    """A line of a person's file, with its spaces; what does not show was refused when it was read."""
    shown = text.expandtabs(4)
    return shown if len(shown) <= _LETTERS else f"{shown[:_LETTERS]}…"


def _verdict(line: VerifiedLine) -> str:
    return {WRONG: "fails", OPEN: "open"}.get(line.status, "holds")


# ------------------------------------------------------------------------------------------------------ a wrong line


def _entry(line: VerifiedLine, cell: Cell) -> Entry:
    blocks: list[Block] = []
    if line.says:
        blocks.append(Paragraph((*_says(line, cell), "."), "lead"))
    elif line.note:
        blocks.append(Paragraph((*prose(line.note, tuple(cell.parameters)), "."), "lead"))
    blocks += _stated("What it says:", line.text, cell)
    if line.expected:
        blocks += _stated("What it should say:", in_order_of(line.text, line.expected), cell)
    if line.difference:
        blocks.append(Paragraph(("Right minus yours: ", Code(foreign(line.difference)))))
    if line.counterexample:
        blocks += _counterexample(line.counterexample)
    blocks += _mistake(line)
    title = ("Line ", str(line.number))
    return Entry(title, f"line-{line.number}", Mark("fails", line.mistake or "wrong"), tuple(blocks))


def _stated(words: str, text: str, cell: Cell) -> Iterator[Block]:
    """An equation, letter by letter and as mathematics."""
    yield Paragraph((f"{words} ", Code(foreign(text))))
    latex = line_latex(text, cell)
    if latex is not None:
        yield Formula(latex)


def in_order_of(yours: str, expected: str) -> str:
    """The right equation with its terms in the order of the wrong one, so that they differ where the mistake is.

    >>> in_order_of("a = x + W @ y", "a = W.T @ y + x")
    'a = x + W.T @ y'
    """
    left, equals, right = expected.partition(" = ")
    theirs, terms = _terms(yours.partition("=")[2].strip()), _terms(right)
    kept = [term for term in theirs if term in terms]
    if len(theirs) != len(terms) or len(kept) != len(terms) - 1 or len(set(terms)) != len(terms):
        return expected
    (other,) = (term for term in terms if term not in kept)
    return left + equals + " + ".join(term if term in terms else other for term in theirs)


def _terms(text: str) -> list[str]:
    """The terms of a sum without differences; the whole text where there are any."""
    out, depth = [""], 0
    for letter in text:
        depth += (letter in "([") - (letter in ")]")
        if depth == 0 and letter == "-":
            return [text]
        if depth == 0 and letter == "+":
            out.append("")
        else:
            out[-1] += letter
    return [term.strip() for term in out]


def _counterexample(found: Counterexample) -> Iterator[Block]:
    sizes = ", ".join(f"{letter} = {size}" for letter, size in {"T": found.steps, **found.sizes}.items())
    yield Paragraph(("The smallest network on which it shows: ", *prose(sizes), "."))
    rows: list[tuple[Parts, ...]] = [((Code(name),), (Code(value),)) for name, value in found.point.items()]
    rows.append((("everything else",), (Code("0"),)))
    rows.append(((Code(found.entry), ", yours"), (Mark("fails", found.yours),)))
    rows.append(((Code(found.entry), ", right"), (Mark("holds", found.right),)))
    yield Table((("entry",), ("value",)), tuple(rows), "lr")


def _mistake(line: VerifiedLine) -> Iterator[Block]:
    if line.mistake is None:
        yield Paragraph(("None of the known mistakes is exactly this line.",), "note")
        return
    names = (line.mistake, *line.also)
    items = tuple((Code(name), *((": ", *explained(name)) if explained(name) else ())) for name in names)
    head = "The known mistake that it is:" if len(items) == 1 else "The known mistake that it is, and its other names:"
    yield Paragraph((head,))
    yield Items(items)


# ---------------------------------------------------------------------------------------------------------- every line


def _lines(verification: Verification) -> Section:
    rows: list[tuple[Parts, ...]] = []
    for line in verification.lines:
        shown = {WRONG: "wrong", OPEN: "not decided"}.get(line.status, line.status)
        mark: Parts = (Mark(_verdict(line), shown),)
        how = "refuted, by a counterexample" if line.status == WRONG else line.level
        level = f"{'right, ' if line.status not in (RIGHT, GIVEN, WRONG) and line.level else ''}{how}"
        note = prose(line.note if line.status != WRONG else "")
        number = _line_link(line) if line.status == WRONG else (str(line.number),)
        rows.append((number, (Code(foreign(line.text, _LETTERS)),), mark, (level,), note))
    head = (("line",), ("equation",), ("verdict",), ("shown",), ("remark",))
    caption = (
        "Each line is judged with every derivative in it at its true value, so that one mistake is one wrong line. A"
        " definition gives a name to something; given is an equation of the cell itself.",
    )
    return Section("Every line", "lines", (Table(head, tuple(rows), "rllll", caption),))


def _basis(verification: Verification) -> Section:
    items = (
        ("the loss: ", *prose(verification.loss)),
        ("every size: an identity of one step in matrices and diagonals, and induction over time",),
        ("at sizes: an identity between the entries, decided exactly, at the sizes that are said",),
        ("a wrong line: two numbers, enclosed by balls that do not meet",),
        ("the cell, as it was handed in: ", Code(foreign(verification.cell.name, 80))),
    )
    rows = tuple(((name,), (Local(number),)) for name, number in versions().items())
    return Section("What this rests on", "basis", (Items(items), Table((("program",), ("version",)), rows, "ll")))
