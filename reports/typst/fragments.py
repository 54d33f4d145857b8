"""Where a term that is wider than the paper is broken although it is within brackets: before a sign, or at a product.

A pair of brackets of which the halves are on two lines no longer grows with its contents: both halves become large.
"""

from __future__ import annotations

import re

from reports.brackets import tightened
from reports.linebreak import width

__all__ = ["fragments"]

_TOKEN = re.compile(r"\\(?:left|right|[bB]igg?[lr]?)\s*(?:\\[A-Za-z]+|\\.|.)|\\[A-Za-z]+|\\.|.", re.DOTALL)
_SIGNS, _PRODUCTS = ("+", "-", "="), (r"\odot", r"\cdot", r"\times")
_OPENING = re.compile(
    r".*[(\[{^_|+\-=,]|\\left.*|\\[bB]igg?l.*|\\l(?:Vert|vert|angle|ceil|floor)|\\(?:odot|cdot|times)"
)
_LONG = 40  # a fragment wider than this is broken at its products too


def fragments(latex: str) -> tuple[str, ...]:
    r"""The pieces of a term, none of which ends within braces.

    >>> fragments(r"f\left(a + b\right)"), fragments(r"\left(\frac{a}{b} + c\right)")
    (('f(a', '{} + b)'), ('\\Bigl(\\frac{a}{b}', '{} + c\\Bigr)'))
    """
    if r"\begin" in latex:
        return (latex,)
    pieces: list[str] = []
    for piece in _broken(tightened(latex), _SIGNS):
        pieces += _broken(piece, _PRODUCTS, r"\,") if width(piece) > _LONG else [piece]
    return tuple(_loosened(piece) for piece in pieces)


def _broken(latex: str, before: tuple[str, ...], after: str = "") -> list[str]:
    """Cut before some signs and after another one, outside braces."""
    pieces, depth, last = [""], 0, "{"
    for token in _TOKEN.findall(latex):
        depth += (token == "{") - (token == "}")
        if depth == 0 and token in before and not _OPENING.fullmatch(last):
            pieces.append("{} ")
        pieces[-1] += token
        if depth == 0 and token == after:
            pieces.append("")
        last = token.strip()[-8:] or last
    return [piece.strip() for piece in pieces if piece.strip(" {}")]


def _loosened(latex: str) -> str:
    r"""Brackets without a partner in the piece as large ones of a fixed size; every \left and \right has one."""
    tokens = _TOKEN.findall(latex)
    opened: list[int] = []
    for i, token in enumerate(tokens):
        if token.startswith(r"\left") and not token.startswith(r"\lefta"):
            opened.append(i)
        elif token.startswith(r"\right") and not token.startswith(r"\righta"):
            if opened:
                opened.pop()
            else:
                tokens[i] = token.replace(r"\right", r"\Bigr", 1)
    for i in opened:
        tokens[i] = tokens[i].replace(r"\left", r"\Bigl", 1)
    return "".join(tokens)
