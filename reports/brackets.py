"""A formula as a typesetter would write it: brackets of a sensible size, no two superscripts on one letter.

A computer writes ``\\left(`` everywhere; a typesetter writes a plain bracket, a larger one around two levels, and
``\\left`` and ``\\right`` only where something tall stands between them.
"""

from __future__ import annotations

import re

__all__ = ["tightened"]

_PAIR = re.compile(r"\\(left|right)\s*([()\[\]])")
# s with the number (0) above and the time below, about to get another superscript
_NUMBERED = re.compile(r"((?:\\[A-Za-z]+|[A-Za-z])\{\}\^\{\([0-9]+\)\}(?:_\{[^{}]*\})?)(?=\^)")
_TALL = re.compile(r"\\(?:frac|sum|prod|begin)(?![A-Za-z])")


def tightened(latex: str) -> str:
    r"""The formula with brackets no larger than needed.

    >>> tightened(r"f\left(x\right) + \left(\frac{1}{x}\right)")
    'f(x) + \\left(\\frac{1}{x}\\right)'
    """
    latex = _NUMBERED.sub(r"{\1}", latex)
    opened: list[tuple[int, int]] = []  # where each bracket stands in ``pieces``, and how deep the brackets in it go
    pieces: list[str] = []
    done = 0
    for match in _PAIR.finditer(latex):
        pieces += [latex[done : match.start()], match[0]]
        done = match.end()
        if match[1] == "left":
            opened.append((len(pieces) - 1, 0))
        elif opened:
            start, depth = opened.pop()
            _resize(pieces, start, len(pieces) - 1, depth)
            if opened:
                outer, deep = opened.pop()
                opened.append((outer, max(deep, depth + 1)))
    return "".join([*pieces, latex[done:]])


def _resize(pieces: list[str], start: int, end: int, depth: int) -> None:
    if _TALL.search("".join(pieces[start + 1 : end])):
        return
    for at, size in ((start, r"\bigl"), (end, r"\bigr")):
        pieces[at] = (size if depth > 1 else "") + pieces[at][-1]
