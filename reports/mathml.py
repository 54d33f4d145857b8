"""LaTeX to MathML, with the LaTeX kept beside it, and the letters that the mathematics needs from a font."""

from __future__ import annotations

import html
import re
from functools import lru_cache

import math_core

from reports.brackets import tightened
from reports.linebreak import Clause, clauses, width

__all__ = ["characters", "displayed", "inline", "letters"]

_SHORT = 34  # a formula of one piece up to this width is not cut
_CONVERTER = math_core.LatexToMathML(annotation=True)
_BARE = math_core.LatexToMathML()


@lru_cache(maxsize=4096)
def inline(latex: str) -> str:
    """A formula within a line, with its LaTeX beside it.

    >>> inline("x")
    '<math><semantics><mi>x</mi><annotation encoding="application/x-tex">x</annotation></semantics></math>'
    """
    try:
        return _CONVERTER.convert_with_local_state(tightened(latex), displaystyle=False)
    except math_core.LatexError:
        return f'<code class="latex">{html.escape(latex)}</code>'


def displayed(latex: str) -> str:
    """A displayed formula: pieces that a browser may put under each other; its LaTeX is not in it."""
    found = clauses(latex)
    if len(found) == 1 and (len(found[0].terms) == 1 and (not found[0].left or width(latex) <= _SHORT)):
        return f'<div class="equation">{_piece(latex)}</div>'
    body = "".join(_clause(clause) for clause in found)
    return f'<div class="equation">{body}</div>'


@lru_cache(maxsize=4096)
def _piece(latex: str) -> str:
    """A piece of a displayed formula, sums and fractions in full size."""
    try:
        text = _BARE.convert_with_local_state(tightened(latex), displaystyle=True)
    except math_core.LatexError:
        return f'<code class="latex">{html.escape(latex)}</code>'
    return text.replace('<math display="block">', '<math displaystyle="true">', 1)


def _clause(clause: Clause) -> str:
    lead = f'<span class="arrow">{inline(clause.lead)}</span>' if clause.lead else ""
    left = f'<span class="left">{_piece(clause.left)}</span>' if clause.left else ""
    right = "<wbr>".join(map(_piece, clause.terms))
    return f'<span class="clause">{lead}{left}<span class="right">{right}</span></span>'


def letters(page: str) -> set[str]:
    """Every letter that a page, or its style, shows outside the mathematics."""
    text = re.sub(r"<(math|svg)\b.*?</\1>|<[^>]*>", "", page, flags=re.DOTALL)
    return {c for c in html.unescape(text) if not c.isspace()}


def characters(page: str) -> set[str]:
    """Every letter that the mathematics of a page shows, italic forms of single letters among them."""
    found: set[str] = set()
    for math in re.findall(r"<math.*?</math>", page, re.DOTALL):
        shown = re.sub(r"<annotation.*?</annotation>|<[^>]*>", "", math, flags=re.DOTALL)
        found |= set(html.unescape(shown)) | ({"√"} if re.search(r"<m(?:sqrt|root)\b", math) else set())
    return found | {italic for letter in found for italic in _italic(letter)}


def _italic(letter: str) -> str:
    """The mathematical italic of a Latin or Greek letter, which a browser shows for a single-letter identifier.

    >>> _italic("a"), _italic("h")
    ('𝑎', 'ℎ')
    """
    if letter == "h":
        return "\N{PLANCK CONSTANT}"
    for first, last, italic in (("A", "Z", 0x1D434), ("a", "z", 0x1D44E), ("Α", "Ω", 0x1D6E2), ("α", "ω", 0x1D6FC)):
        if first <= letter <= last:
            return chr(italic + ord(letter) - ord(first))
    return {"∂": "\U0001d715", "ϵ": "\U0001d716", "ϑ": "\U0001d717", "ϕ": "\U0001d719", "ϱ": "\U0001d71a"}.get(
        letter, ""
    )
