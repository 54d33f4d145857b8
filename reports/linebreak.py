"""Where a formula may be broken: clauses beside or under each other, each a left side and the terms of its right side.

A browser does not break MathML.  A formula is therefore cut at its outermost level, after a separator such as
``\\qquad`` and before a plus or minus, and the pieces flow like words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Clause", "aligned", "clauses", "width"]

_SEPARATOR = re.compile(r"(?:[,;]?\s*\\qquad|[,;]\s*\\quad|\\quad\s*\\Longrightarrow\s*\\quad)\s*")
_TOKEN = re.compile(r"\\(?:left|right)\s*(?:\\[A-Za-z]+|\\.|.)|\\[A-Za-z]+|\\.|.", re.DOTALL)
_OPENING = re.compile(r"[{(\[]|\\left(?![A-Za-z]).*|\\lVert|\\langle", re.DOTALL)
_CLOSING = re.compile(r"[})\]]|\\right(?![A-Za-z]).*|\\rVert|\\rangle", re.DOTALL)


@dataclass(frozen=True)
class Clause:
    """``left = terms``; ``left`` ends with its sign and is empty where there is none, ``terms`` begin with theirs.

    ``lead`` joins the clause to the one before (an arrow, or nothing).
    """

    left: str
    terms: tuple[str, ...]
    lead: str = ""


def clauses(latex: str) -> tuple[Clause, ...]:
    r"""The pieces of a formula.

    >>> clauses(r"a = b + \left(c + d\right)")
    (Clause(left='a = {}', terms=('b', '{} + \\left(c + d\\right)'), lead=''),)
    """
    if r"\begin" in latex:
        return (Clause("", (latex,)),)
    parts, leads = _split_clauses(latex)
    return tuple(_clause(part, lead) for part, lead in zip(parts, leads, strict=True))


def _split_clauses(latex: str) -> tuple[list[str], list[str]]:
    parts, leads, start = [], [""], 0
    for match in _SEPARATOR.finditer(latex):
        if _depth(latex[: match.start()]) == 0:
            mark = match[0].strip()[:1]
            parts.append(latex[start : match.start()].strip() + (mark if mark in ",;" else ""))
            leads.append(r"\Longrightarrow" if "Longrightarrow" in match[0] else "")
            start = match.end()
    return [*parts, latex[start:].strip()], leads


def _depth(latex: str) -> int:
    return sum(_nesting(token) for token in _TOKEN.findall(latex))


def _nesting(token: str) -> int:
    return bool(_OPENING.fullmatch(token)) - bool(_CLOSING.fullmatch(token))


def _clause(latex: str, lead: str) -> Clause:
    """Cut after the first outermost equals sign, then before each outermost plus, minus or further equals sign."""
    pieces, depth, left, before = [""], 0, "", ""
    for token in _TOKEN.findall(latex):
        depth += _nesting(token)
        if token == "=" and depth == 0 and not left:
            left, pieces = pieces[0] + "= {}", [""]
        elif token in "+-=" and depth == 0 and left and before not in ("", "^", "_") and pieces[-1].strip():
            pieces.append("{} " + token)
        else:
            pieces[-1] += token
        before = token if token.strip() else before
    return Clause(left, tuple(piece.strip() for piece in pieces), lead)


def width(latex: str) -> int:
    """About how many letters wide a formula is; a fraction counts as its wider half would at most.

    >>> width(r"W_{hh}^{\\top} \\, h_{t-1}")
    5
    """
    latex = re.sub(r"\\(?:left|right|mathrm|operatorname|,|quad|qquad|tfrac|frac|d)(?![A-Za-z])", "", latex)
    latex = re.sub(r"[_^]\{[^{}]*\}", "i", latex)
    return len(re.sub(r"\\[A-Za-z]+|\\.", "x", latex).translate(str.maketrans("", "", "{} ")))


def aligned(latex: str, limit: int = 50) -> str:
    """A short formula as it is, a longer one broken over aligned lines of at most ``limit`` where possible."""
    found = clauses(latex)
    if width(latex) <= limit or (len(found) == 1 and len(found[0].terms) == 1):
        return latex
    rows: list[str] = []
    for clause in found:
        rows += _rows(clause, limit)
    return "\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}"


def _rows(clause: Clause, limit: int) -> list[str]:
    lead = rf"{clause.lead} \quad " if clause.lead else ""
    left = clause.left.removesuffix("= {}")
    rows = [f"{lead}{left}&={{}} " if left else f"{lead}& "]
    used = width(rows[0])
    for i, term in enumerate(clause.terms):
        if i and used + width(term) > limit:
            rows.append(r"&\quad ")
            used = 0
        rows[-1] += f"{term} "
        used += width(term)
    return [row.rstrip() for row in rows]
