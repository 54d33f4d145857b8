"""Formulas as pieces that no line breaks: each a tree, with the LaTeX that it was made from.

A displayed formula is clauses under or beside each other, as in HTML; the lines of an ``aligned`` one are clauses of
which every left side ends at the same place.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from reports.linebreak import Clause, clauses, width
from reports.typst.fragments import fragments
from reports.typst.letters import breakable, printable, words
from reports.typst.mathematics import tree

__all__ = ["displayed", "within_line"]

_SHORT = 34  # a formula in a line up to this width is never broken
_WIDE = 60  # from here on it may be wider than the paper
_TALL = (["fraction"], ["style"], ["matrix"], ["aligned"], ["fenced"])
_ALIGNED = re.compile(r"\s*\\begin\{aligned\}(.*)\\end\{aligned\}\s*", re.DOTALL)
_STYLE = re.compile(r"\\(?:display|text)style(?![A-Za-z])")  # of everything after it
Glyphs = Collection[int] | None


def within_line(latex: str, glyphs: Glyphs) -> dict[str, Any]:
    """A formula in a line, whole or, if it is long, in terms."""
    found = clauses(latex)
    terms = [latex]
    if width(latex) > _SHORT and len(found) == 1:
        first, *rest = (part for term in found[0].terms for part in _parts(term))
        style = _STYLE.match(latex)
        terms = [f"{found[0].left} {first}", *(f"{style[0]} {part}" if style else part for part in rest)]
    pieces = [_piece(term, glyphs, False) for term in terms]
    if None in pieces:
        return _code(latex, glyphs)
    return {"kind": "math", "pieces": pieces, "wide": any(width(term) > _WIDE for term in terms)}


def displayed(latex: str, glyphs: Glyphs) -> dict[str, Any]:
    """A displayed formula: its clauses, and whether they stand under each other with one common edge."""
    aligned = _rows(latex)
    found = aligned or clauses(latex)
    shown = [_clause(clause, glyphs) for clause in found]
    if None in shown:
        shown = [_clause(Clause("", (latex,)), glyphs)]
    if None in shown:
        return {"clauses": [], "aligned": False, "code": _code(latex, glyphs)["text"]}
    return {"clauses": shown, "aligned": bool(aligned)}


def _rows(latex: str) -> list[Clause]:
    r"""The lines of a formula that is nothing but an ``aligned`` environment with one mark a line; else none.

    >>> _rows(r"\begin{aligned} a &= b + c \\ &= d \end{aligned}")
    [Clause(left='a = {}', terms=('b', '{} + c'), lead=''), Clause(left='= {}', terms=('d',), lead='')]
    """
    whole = _ALIGNED.fullmatch(latex)
    if whole is None or r"\begin" in whole[1]:
        return []
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?", whole[1]) if row.strip()]
    halves = [re.split(r"(?<!\\)&", row) for row in rows]
    if any(len(half) != 2 for half in halves):
        return []
    return [_row(left.strip(), right.strip()) for left, right in halves]


def _row(left: str, right: str) -> Clause:
    found = clauses(right)
    if not right.startswith("=") or len(found) > 1:
        return Clause(f"{left} {{}}" if left else "", (f"{{}} {right}",))
    return Clause(f"{left} {found[0].left}".strip(), found[0].terms)


def _clause(clause: Clause, glyphs: Glyphs) -> dict[str, Any] | None:
    lead = _piece(clause.lead, glyphs, True) if clause.lead else ""
    left = _piece(clause.left, glyphs, True) if clause.left else ""
    terms = [_term(term, glyphs) for term in clause.terms]
    if lead is None or left is None or None in terms:
        return None
    return {"lead": lead, "left": left, "terms": terms}


def _term(latex: str, glyphs: Glyphs) -> dict[str, Any] | None:
    """A term, and the parts into which it falls where it is wider than the paper."""
    whole, parts = _piece(latex, glyphs, True), [_piece(part, glyphs, True) for part in _parts(latex)]
    return None if whole is None else {**whole, "parts": [] if len(parts) == 1 or None in parts else parts}


def _parts(latex: str) -> tuple[str, ...]:
    return fragments(latex) if width(latex) > _SHORT else (latex,)


def _piece(latex: str, glyphs: Glyphs, display: bool) -> dict[str, Any] | None:
    node = tree(latex, display)
    if node is None:
        return None
    said = printable(latex, glyphs).strip() or "{}"
    return {"tree": _seen(node, glyphs), "latex": said, "tall": display or _is_tall(node)}


def _is_tall(part: Any) -> bool:
    """Whether something in a tree is higher than a line."""
    return isinstance(part, list) and (part[:1] in _TALL or any(map(_is_tall, part)))


def _seen(part: Any, glyphs: Glyphs) -> Any:
    """A tree in which letters that have no glyph are said by their numbers."""
    if not isinstance(part, list):
        return part
    if part[:1] and part[0] in ("symbol", "upright", "sign", "text"):
        bare = part[1].rstrip("\ufe00\ufe01")
        text = printable(bare, glyphs)
        return part if text == bare else ["text", text]
    return [_seen(inner, glyphs) for inner in part]


def _code(latex: str, glyphs: Glyphs) -> dict[str, Any]:
    text = breakable(printable(latex, glyphs))
    return {"kind": "code", "text": text, "longest": max(words(text), key=len)}
