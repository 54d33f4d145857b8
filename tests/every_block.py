"""A document with a block of every kind, long and short, as ledgers, verdicts and derivations have them."""

from __future__ import annotations

from reports.document import (
    Code,
    CodeLine,
    CodeLines,
    Document,
    Entry,
    Figure,
    Fold,
    Formula,
    Items,
    Link,
    Listing,
    Mark,
    Math,
    Paragraph,
    Quantity,
    Section,
    Step,
    Table,
    seconds,
)

__all__ = ["every_block"]

LONG = r"\mathrm{d}h_{t} = " + " + ".join(
    rf"W_{{{k}}}^{{\top}} \, \mathrm{{d}}a_{{{k},t+1}} \odot r_{{t+1}}" for k in range(9)
)
WIDE = r"J_t = \begin{pmatrix} " + " & ".join(
    rf"\frac{{\partial h_{{t,1}}}}{{\partial h_{{t-1,{k}}}}}" for k in range(14)
)
WIDE += r" \end{pmatrix}"
SVG = (
    '<svg viewBox="0 0 300 90" xmlns="http://www.w3.org/2000/svg"><rect x="1" y="1" width="298" height="88" fill="none"'
    ' style="stroke: var(--figure-grid, #ccc)"/><path d="M10 80 L290 10" fill="none"'
    ' style="stroke: var(--figure-first, #1f5f99); stroke-width: 2"/></svg>'
)
MARKS = (Mark("holds", "proven, every size"), Mark("fails", "refuted"), Mark("open", "depends on a convention"))
LINES = CodeLines(
    (
        CodeLine(1, "# my derivation"),
        CodeLine(2, "dy[t] = p[t] - target[t]", "holds", ("proven, every size",)),
        CodeLine(
            3,
            "dh[t] = W_hy.T @ dy[t] + W_hh @ da[t+1]",
            "fails",
            (
                "Here ",
                Math("W_{hh}"),
                " should be ",
                Math(r"W_{hh}^{\top}"),
                ": ",
                Code("dh[t] = W_hh.T @ da[t+1] + W_hy.T @ dy[t]"),
            ),
        ),
        CodeLine(4, ""),
        CodeLine(
            5, "da[t] = dh[t]*(1 - h[t]**2)", "open", ("not decided within the budget, because it is a long line",)
        ),
        CodeLine(6, "dW_hh = sum(outer(da[t], h[t-1]))" + "  # and so on" * 9, "holds", ("proven, every size",)),
    )
)


def entry(number):
    """A judged claim with its statement, its evidence and a correction."""
    mark = MARKS[number % 3]
    numbers = Table(
        (("T",), ("error",), ("time",)), (((f"{10 * number}",), (Quantity(1e-9, 10.0),), (seconds(0.2),)),), "lrr"
    )
    return Entry(
        (f"{number}. The gradient of ", Math("W_{hh}"), " sums over time"),
        f"claim-{number}",
        mark,
        (
            Paragraph(
                (
                    "The gradient ",
                    Math(r"\frac{\partial \mathcal{L}}{\partial W_{hy}}"),
                    " “accumulates” contributions.",
                ),
                "quote",
            ),
            Formula(r"\frac{\partial L_T}{\partial W_{hh}} = \sum_{t=1}^{T} \frac{\partial L_T}{\partial h_T}"),
            Paragraph(
                (
                    "It is so for every size, by ",
                    Link(("the next one",), f"claim-{number + 1 if number < 100 else 1}"),
                    ".",
                )
            ),
            Fold("Evidence", (numbers, Paragraph(("All of it.",)))),
        ),
    )


def every_block():
    """The document."""
    wide = Table(
        tuple((f"column {k}",) for k in range(9)),
        tuple(tuple((Math(r"\left(D H + 2 H^{2} + 2 H O\right) T B"),) for _ in range(9)) for _ in range(3)),
        "l" * 9,
        ("The caption says what to conclude.",),
    )
    blocks = (
        Paragraph(("A leading sentence with ", Math(r"\lVert x \rVert"), " in it."), "lead"),
        Table(
            (("what",), ("verdict",)),
            tuple(((f"row {i}",), (mark,)) for i, mark in enumerate(MARKS)),
            "ll",
            (),
            ("a", "", "b"),
        ),
        Paragraph(("A source: J. L. Elman, “Finding structure in time”, 1990.",), "source"),
        Paragraph(("A note.",), "note"),
        Items((("an item with ", Code("code_that_is_one_word_and_does_not_end" * 3)), ("another",))),
        Formula(LONG),
        Formula(WIDE),
        Formula(r"\begin{aligned} a &= b \\ c &= d + \sqrt{x} \end{aligned}"),
        Step(
            1,
            ("A step with ", Math("x"), ":"),
            LONG,
            ("from ", Link(("(1)",), "step-1")),
            (Mark("holds", "proven"),),
            "step-1",
            (LONG, WIDE),
        ),
        Step(2, (), r"x = \left[a > 0\right]", (), (), "step-2"),
        wide,
        Figure(SVG, ("A figure: the line rises.",), "A line", "line", Table((("x",),), ((("1",),),), "l")),
        Listing("h[t] = tanh(W @ h[t-1]) " + "# a long line " * 12, "text", "A listing"),
        LINES,
        Fold("Folded away", (Paragraph(("inside",)), LINES)),
    )
    ledger = Section(
        "The ledger",
        "ledger",
        (),
        (
            Section("One document", "one", tuple(entry(n) for n in range(1, 61))),
            Section(
                "Another, with a title that is longer than its column", "two", tuple(entry(n) for n in range(61, 101))
            ),
        ),
    )
    return Document(
        "every",
        "Every kind of block, with a title that is long enough to be broken",
        MARKS[0],
        (Section("First", "first", blocks), ledger),
    )
