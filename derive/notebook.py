"""What a notebook shows: HTML with LaTeX between dollar signs, which notebooks typeset."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

from derive.latex import cell_latex
from derive.write import write

if TYPE_CHECKING:
    from derive.cell import Cell
    from derive.derivation import Derivation
    from derive.prove import Proof

__all__ = ["cell_html", "derivation_html", "proof_html", "proof_latex"]


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    top = "".join(f"<th>{escape(h)}</th>" for h in head)
    body = "".join(
        "<tr>" + "".join(f"<td style='text-align:left'>{cell}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def cell_html(cell: Cell) -> str:
    """A cell: its title, its equations, its roles."""
    sizes = "; ".join(f"{letter}: {', '.join(names)}" for letter, names in cell.dimensions.items())
    roles = ", ".join(f"{kind} {', '.join(getattr(cell, kind)) or 'none'}" for kind in ("states", "inputs", "outputs"))
    title = f"<b>{escape(cell.name)}</b> {escape(cell.title)}"
    return (
        f"<div>{title}\n$$\n{escape(cell_latex(cell))}\n$$\n<small>{escape(roles)}; sizes {escape(sizes)}</small></div>"
    )


def derivation_html(derivation: Derivation) -> str:
    """A derivation: one row a step."""
    rows = ((str(s.number), escape(s.sentence), f"${escape(s.latex)}$") for s in derivation.steps)
    return _table(("step", "sentence", "equation"), rows)


def proof_html(proof: Proof) -> str:
    """A proof: the verdict, one row an obligation, the score, the hypotheses."""
    verdict = "holds" if proof.holds else "refuted" if proof.refuted else "not proven"
    marks = {True: "holds", False: "<b>fails</b>", None: "not done"}
    rows = (
        (
            escape(o.name),
            escape(o.statement),
            escape(o.method),
            marks[o.holds] + (f": {escape(o.detail)}" if o.detail else ""),
        )
        for o in proof.obligations
    )
    conditions = "".join(
        f"<li>{escape(write(h.expression))} {escape(h.relation)} ({escape(h.why)})</li>" for h in proof.hypotheses
    )
    head = f"<b>{escape(proof.derivation.cell.name)}: {verdict}</b>; {escape(str(proof.score))}"
    return f"<div>{head}{_table(('obligation', 'statement', 'method', 'verdict'), rows)}<ul>{conditions}</ul></div>"


def proof_latex(proof: Proof) -> str:
    """A proof as a LaTeX array: name, verdict and level of each obligation."""
    words = {True: "holds", False: "fails", None: "not done"}

    def text(plain: str) -> str:
        shown = "".join(rf"\{c}" if c in "_&%#{}$" else c for c in plain)
        return rf"\text{{{shown}}}"

    rows = (" & ".join(map(text, (o.name, words[o.holds], o.level))) for o in proof.obligations)
    return r"\begin{array}{lll}" + r" \\ ".join(rows) + r"\end{array}"
