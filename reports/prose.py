"""Sentences with their mathematics typeset: ``h[t]`` becomes a formula, the words around it stay words."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from derive.latex import d_latex, name_latex
from reports.document import Math, Parts, Quantity

__all__ = ["joined", "prose", "scientific", "shape_math"]

ROUNDING = 1000.0  # how far apart two machines' rounding errors of the same computation may be

# Phrases of the derivation and of the proof that are formulas as they stand.
_PHRASES = {
    "<W v, d> = <v, W.T d>": r"\langle W v, d \rangle = \langle v, W^{\top} d \rangle",
    "dW = d v.T": r"\mathrm{d}W = d \, v^{\top}",
    "W v": r"W v",
    "p sum(target) - target": r"p \sum_k \mathrm{target}_k - \mathrm{target}",
    "P[t] = ds[t]/dtheta": r"P_t = \partial s_t / \partial \theta",
    "ds_T/ds_0 = J_T ... J_1": r"\partial s_T / \partial s_0 = J_T \cdots J_1",
    "dL/dtheta = sum of (dL/ds_t) d+s_t/dtheta": (
        r"\mathrm{d}\mathcal{L}/\mathrm{d}\theta ="
        r" \textstyle\sum_t (\partial\mathcal{L}/\partial s_t) \, \partial^{+} s_t / \partial \theta"
    ),
    "P_t = J_t P_{t-1} + d+s_t/dtheta": r"P_t = J_t P_{t-1} + \partial^{+} s_t / \partial \theta",
    "ds_t/dtheta": r"\partial s_t / \partial \theta",
    "t = T": "t = T",
    "t = 1": "t = 1",
    "W.T (f'(a) dh)": r"W^{\top} (f'(a) \odot \mathrm{d}h)",
    "f'(a) (W.T dh)": r"f'(a) \odot (W^{\top} \mathrm{d}h)",
    "W.T dh": r"W^{\top} \mathrm{d}h",
    "W.T d": r"W^{\top} d",
    "W d": r"W d",
    "1 - tanh(a)^2": r"1 - \tanh(a)^2",
    "1 - a^2": r"1 - a^2",
    "a(1 - a)": r"a(1 - a)",
    "s(1 - s)": r"s(1 - s)",
    "dW = dh x.T": r"\mathrm{d}W = \mathrm{d}h \, x^{\top}",
    "(f'(a) dh) x.T": r"(f'(a) \odot \mathrm{d}h) \, x^{\top}",
    "2^61 - 1": r"2^{61} - 1",
}
_PHRASE = "|".join(re.escape(p) for p in sorted(_PHRASES, key=len, reverse=True))
_NAME = r"[A-Za-z_][A-Za-z_0-9]*"
_SIZES = rf"(?:[B-HJ-Z](?:_{_NAME})?(?:, | = ))+\d+"
_EQUAL = rf"{_SIZES}(?:, {_SIZES})*"
_TOKEN = re.compile(
    rf"(?<![\w'.])(?:(?P<phrase>{_PHRASE})|(?P<equal>{_EQUAL})|(?P<name>{_NAME})\[(?P<time>[A-Za-z0-9+-]+)\]"
    rf"|(?P<letter>t[+-]1|[b-zB-HJ-Z])|(?P<word>{_NAME}))(?![\w']|\.\w)"
)


def prose(text: str, names: Collection[str] = ()) -> Parts:
    """A sentence as inlines; ``names`` are those that are mathematics although they have no index.

    A single letter is mathematics too, if it is not a word (a, A, I).

    >>> prose("h[t] acts on W_hh at t", ["W_hh"])
    (Math(latex='h_{t}'), ' acts on ', Math(latex='W_{hh}'), ' at ', Math(latex='t'))
    """
    parts: list[str | Math] = [""]
    done = 0
    for match, latex in _formulas(text, names):
        parts += [text[done : match.start()], Math(latex)]
        done = match.end()
    parts.append(text[done:])
    return tuple(part for part in parts if part != "")


def _formulas(text: str, names: Collection[str]) -> Iterator[tuple[re.Match[str], str]]:
    for match in _TOKEN.finditer(text):
        latex = _latex(match, names)
        if latex:
            yield match, latex


def _latex(match: re.Match[str], names: Collection[str]) -> str:
    if match["phrase"]:
        return _PHRASES[match["phrase"]]
    if match["equal"]:
        return re.sub(_NAME, lambda m: name_latex(m[0]), match["equal"]).replace(", ", r",\, ")
    if match["name"]:
        return name_latex(match["name"], match["time"])
    if match["word"]:
        word = match["word"]
        if word[0] == "d" and word not in names and word[1:] in names:
            return d_latex(word[1:])
        return name_latex(word) if word in names else ""
    return match[0]


def scientific(value: float, spread: float = ROUNDING) -> Quantity:
    """A measured number with two digits and a power of ten; the size of a rounding error, if nothing else is said.

    >>> scientific(3.14e-15).shown
    Math(latex='3.1 \\\\times 10^{-15}')
    """
    return Quantity(value, spread)


def shape_math(shape: tuple[str, ...]) -> Math:
    """The space of a quantity with these sizes."""
    sizes = r" \times ".join(name_latex(letter) for letter in shape)
    return Math(rf"\mathbb{{R}}^{{{sizes}}}" if shape else r"\mathbb{R}")


def joined(parts: list[Parts], separator: str = ", ", last: str = "") -> Parts:
    """Enumerated inlines: a, b and c."""
    out: Parts = ()
    for i, part in enumerate(parts):
        gap = "" if i == 0 else last if last and i == len(parts) - 1 else separator
        out += (*((gap,) if gap else ()), *part)
    return out
