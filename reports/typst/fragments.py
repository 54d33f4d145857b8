"""Where a term that is wider than the paper is broken although it is within brackets: as far outside as possible.

A pair of brackets of which the halves are on two lines no longer grows with its contents: both halves become large.
"""

from __future__ import annotations

import re
from itertools import pairwise

from reports.brackets import tightened
from reports.linebreak import width

__all__ = ["fragments"]

_TOKEN = re.compile(r"\\(?:left|right|[bB]igg?[lr]?)\s*(?:\\[A-Za-z]+|\\.|.)|\\[A-Za-z]+|\\.|.", re.DOTALL)
_SIGNS, _PRODUCTS = ("+", "-", "="), (r"\odot", r"\cdot", r"\times", r"\,")
_OPENING = re.compile(r"[(\[]|\\left(?![A-Za-z]).*|\\[bB]igg?l.*|\\l(?:Vert|vert|angle|ceil|floor)", re.DOTALL)
_CLOSING = re.compile(r"[)\]]|\\right(?![A-Za-z]).*|\\[bB]igg?r.*|\\r(?:Vert|vert|angle|ceil|floor)", re.DOTALL)
_LONG = 40  # a fragment up to this width is not broken


def fragments(latex: str) -> tuple[str, ...]:
    r"""The pieces of a term, none of which ends within braces; a short term is one piece.

    >>> [len(fragments(r"f\left(" + " + ".join(["a"] * n) + r"\right)")) for n in (5, 50)]
    [1, 50]
    """
    return (latex,) if r"\begin" in latex else tuple(map(_loosened, _pieces(tightened(latex))))


def _pieces(latex: str) -> list[str]:
    """Cut at the outermost signs, else at the outermost products, and what is still long again."""
    if width(latex) <= _LONG:
        return [latex]
    tokens = _TOKEN.findall(latex)
    depths = _depths(tokens)
    for depth in range(min(depths), max(depths) + 1):
        for signs in (_SIGNS, _PRODUCTS):
            places = [i for i in _binary(tokens) if tokens[i] in signs and depths[i] == depth]
            if places:
                cut = [0, *places, len(tokens)]
                return [piece for a, b in pairwise(cut) for piece in _pieces(_piece(tokens[a:b]))]
    return [latex]


def _piece(tokens: list[str]) -> str:
    """A piece that begins with a sign has nothing before it; a space at its beginning is none."""
    if tokens[0] == r"\,":
        tokens = tokens[1:]
    begins = bool(tokens) and tokens[0] in (*_SIGNS, *_PRODUCTS)
    return ("{} " if begins else "") + "".join(tokens).strip()


def _depths(tokens: list[str]) -> list[int]:
    """How many brackets are open at each token; within braces, more than anywhere else."""
    found, depth, braces = [], 0, 0
    for token in tokens:
        braces += (token == "{") - (token == "}")
        depth += bool(_OPENING.fullmatch(token)) - bool(_CLOSING.fullmatch(token))
        found.append(depth + (1000 if braces else 0))
    return found


def _binary(tokens: list[str]) -> list[int]:
    """The places of signs between two operands, outside braces."""
    places: list[int] = []
    before, braces = "", 0
    first = 2 if tokens[:2] == ["{", "}"] else 0  # nothing, in front of a sign that begins a piece
    for i, token in enumerate(tokens[first:], first):
        braces += (token == "{") - (token == "}")
        operand = before not in ("", "{", "^", "_", *_SIGNS, *_PRODUCTS) and not _OPENING.fullmatch(before)
        if not braces and operand and token in (*_SIGNS, *_PRODUCTS) and places[-1:] != [i - 1]:
            places.append(i)
        before = token if token.strip() else before
    return places


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
