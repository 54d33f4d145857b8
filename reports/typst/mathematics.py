r"""LaTeX as a tree that ``formula.typ`` typesets: the MathML that a browser is given, turned into Typst's terms.

One reading of LaTeX for every format: what a browser shows and what is printed come from the same MathML.  A node is
a list, its kind first: ``["symbol", "h"]``, ``["fraction", above, below, "display"]``.  Nothing in it is code.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from xml.etree import ElementTree

import math_core

from reports.brackets import tightened

__all__ = ["Node", "tree"]

Node = list[Any]

_CONVERTER = math_core.LatexToMathML(annotation=False)
_ENTITY = re.compile(r"&(?!amp;|lt;|gt;|quot;|apos;|#)\w+;")
_SCRIPTS = re.compile(r"\\(sb|sp)(?![A-Za-z])\s*")
_SELECTORS = "\ufe00\ufe01"  # which form of a letter is meant
_APPLY, _NOTHING = "\u2061", "\u2062\u2063\u2064\u200b"
_OPENING, _CLOSING, _BARS = "([{⟨⌈⌊⟦", ")]}⟩⌉⌋⟧", "|‖∣∥/\\⁄∖"
_FENCES = frozenset(_OPENING + _CLOSING + _BARS + "\u2063")
_LARGE = frozenset("∑∏∐⋃⋂⨁⨂⨀⋁⋀∫∬∭∮")
_ARROWS = frozenset("→←↔⇒⇐⇔⟶⟵⟷⟹⟸⟺↦")
_ACCENTS = {
    "ˆ": "\u0302", "^": "\u0302", "\u0302": "\u0302", "˜": "\u0303", "~": "\u0303", "¯": "\u0304", "‾": "\u0304",
    "˙": "\u0307", "¨": "\u0308", "˘": "\u0306", "ˇ": "\u030c", "˚": "\u030a", "´": "\u0301", "`": "\u0300",
    "\u20d7": "\u20d7", "→": "\u20d7",
}  # fmt: skip
_LINES = frozenset("\u0332\u0305_―")  # over or under what they stand at, as long as it is
_BRACES = {"⏞": "overbrace", "⏟": "underbrace", "⎴": "overbracket", "⎵": "underbracket"}


class _UnknownError(ValueError):
    """MathML for which there is no node."""


@lru_cache(maxsize=8192)
def tree(latex: str, display: bool = False) -> Node | None:
    """The tree of a formula; None where it cannot be typeset, as in HTML.

    >>> tree("x_t")
    ['row', ['scripts', ['symbol', 'x'], ['symbol', 't'], None, '']]
    """
    latex = _SCRIPTS.sub(lambda m: "_" if m[1] == "sb" else "^", latex)
    try:
        text = _CONVERTER.convert_with_local_state(tightened(latex), displaystyle=display)
        root = ElementTree.fromstring(_ENTITY.sub(lambda m: html.unescape(m[0]), text))
        return _row(root)
    except (math_core.LatexError, ElementTree.ParseError, _UnknownError):
        return None


def _row(element: Iterable[ElementTree.Element]) -> Node:
    return ["row", *(_node(child) for child in element)]


def _node(element: ElementTree.Element) -> Node:
    """The node of one element; raises _UnknownError."""
    kind, text = element.tag, element.text or ""
    if "color" in element.get("style", "") and kind != "mtd":
        raise _UnknownError("colour")
    match kind:
        case "mi":
            return _identifier(text, element.get("mathvariant") == "normal")
        case "mo":
            return _operator(element, text)
        case "mn" | "mtext":
            return ["text", text]
        case "mspace":
            return _space(_width(element))
        case "mrow" | "mstyle":
            return _group(element) if len(element) else ["empty"]
        case "msub" | "msup" | "msubsup" | "munder" | "mover" | "munderover":
            return _scripted(element)
        case "mfrac":
            return _fraction(element)
        case "msqrt":
            return ["root", _row(element), None]
        case "mroot":
            return ["root", _node(element[0]), _node(element[1])]
        case "mpadded":
            return _padded(element)
        case "mphantom":
            return ["hidden", _row(element)]
        case "mtable":
            return _table(element)
    raise _UnknownError(kind)


def _identifier(text: str, upright: bool) -> Node:
    """One letter is slanted unless it says otherwise; a word never is."""
    if len(text.rstrip(_SELECTORS)) != 1:
        return ["text", text]
    return ["upright", text] if upright else ["symbol", text]


def _operator(element: ElementTree.Element, text: str) -> Node:
    """A sign, with the spaces around it where they are not what its class has anyway."""
    left, right = _em(element.get("lspace", "")), _em(element.get("rspace", ""))
    if text == _APPLY:
        return _space(left or 0.0)
    if text in _NOTHING:
        return ["row"]
    if len(text.rstrip(_SELECTORS)) != 1:
        return ["text", text]
    if size := element.get("minsize"):
        return ["big", text, _em(size), _class(element, text) or "normal"]
    form = {"prefix": "opening", "postfix": "closing"}.get(element.get("form", ""), "")
    if form:
        return ["sign", text, form]
    if (left, right) == (0.0, 0.0) and text not in _LARGE:
        return ["sign", text, "normal"]
    if left and right and text in "⋯…":
        return ["row", ["space", left], ["sign", text, "normal"], ["space", right]]
    return ["symbol", text]


def _class(element: ElementTree.Element, text: str) -> str:
    return "opening" if text in _OPENING else "closing" if text in _CLOSING else ""


def _em(length: str) -> float | None:
    """A length in em.

    >>> _em("0.5em"), _em("0"), _em("")
    (0.5, 0.0, None)
    """
    found = re.fullmatch(r"(-?[0-9.]+)(?:em)?", length)
    return float(found[1]) if found else None


def _space(width: float) -> Node:
    """A space; one of no width would still keep two signs from having the space that they need."""
    return ["space", width] if width else ["row"]


def _width(element: ElementTree.Element) -> float:
    negative = re.search(r"margin-left:\s*(-[0-9.]+em)", element.get("style", ""))
    return _em(negative[1] if negative else element.get("width", "0")) or 0.0


def _padded(element: ElementTree.Element) -> Node:
    sides = [re.search(rf"padding-{side}:\s*([0-9.]+em)", element.get("style", "")) for side in ("left", "right")]
    before, after = (_space(_em(side[1]) or 0.0) if side else ["row"] for side in sides)
    return ["row", before, *_row(element)[1:], after]


def _group(element: ElementTree.Element) -> Node:
    children = list(element)
    if len(children) > 1 and _fence(children[0]) and _fence(children[-1]):
        opening, closing = children[0].text or "", children[-1].text or ""
        middle = [_middle(child) for child in children[1:-1]]
        return ["fenced", opening.strip(_NOTHING), ["row", *middle], closing.strip(_NOTHING)]
    return _styled(element, _row(children))


def _fence(element: ElementTree.Element) -> bool:
    """Whether a sign grows with what stands between it and its partner."""
    stretchy = element.get("stretchy") != "false" and element.get("minsize") is None
    return element.tag == "mo" and stretchy and (element.text or "") in _FENCES


def _middle(child: ElementTree.Element) -> Node:
    if child.tag == "mo" and child.get("stretchy") == "true" and child.get("minsize") is None:
        return ["middle", child.text or ""]
    return _node(child)


def _styled(element: ElementTree.Element, node: Node) -> Node:
    style = element.get("displaystyle")
    return node if style is None else ["style", "display" if style == "true" else "inline", node]


def _fraction(element: ElementTree.Element) -> Node:
    above, below = _node(element[0]), _node(element[1])
    if element.get("linethickness") in ("0", "0px"):
        return ["matrix", [[above], [below]], "center", False, 0.0]
    return _styled(element, ["fraction", above, below])


def _scripted(element: ElementTree.Element) -> Node:
    """Scripts beside, or over and under: an accent, a line, a brace, limits, or a label."""
    base, *rest = element
    over_or_under = element.tag.startswith("mu") or element.tag == "mover"
    if over_or_under and len(rest) == 1:
        if rest[0].tag == "mspace":  # keeps an arrow long
            return _node(base)
        mark = _mark(element, base, rest[0])
        if mark is not None:
            return mark
    has_sub = element.tag in ("msub", "msubsup", "munder", "munderover")
    sub = _node(rest[0]) if has_sub else None
    sup = _node(rest[-1]) if len(rest) == 2 or not has_sub else None
    return ["scripts", _base(base, over_or_under), sub, sup, _limits(base) if over_or_under else ""]


def _mark(element: ElementTree.Element, base: ElementTree.Element, mark: ElementTree.Element) -> Node | None:
    sign = mark.text or ""
    if mark.tag != "mo" or "true" not in (element.get("accent"), element.get("accentunder")):
        return None
    if sign in _LINES or (sign in "¯‾" and mark.get("stretchy") == "true"):
        return ["over", "overline" if element.tag == "mover" else "underline", _node(base)]
    if sign in _BRACES:
        return ["over", _BRACES[sign], _node(base)]
    if element.tag == "mover" and sign in _ACCENTS:
        return ["accent", _node(base), _ACCENTS[sign]]
    raise _UnknownError(f"the accent {sign}")


def _base(base: ElementTree.Element, over_or_under: bool) -> Node:
    if over_or_under and base.tag == "mo" and (base.text or "") in _ARROWS:
        return ["stretched", base.text]
    return _node(base)


def _limits(base: ElementTree.Element) -> str:
    """Sums and operators have theirs beside them within a line; everything else keeps them over and under."""
    if base.tag == "mo" and (base.text or "") in _LARGE:
        return ""
    operator = base.tag == "mrow" and len(base) == 2 and base[0].tag == "mspace"
    return "display" if operator else "always"


def _table(element: ElementTree.Element) -> Node:
    """A matrix; columns right and left by turns, as in ``aligned``, are put together at their common edge."""
    styles = [cell.get("style", "") for row in element for cell in row]
    if any("border" in style for style in styles):
        raise _UnknownError("lines in a table")
    rows = [[_row(cell) for cell in row] for row in element]
    display = element.get("displaystyle") == "true"
    sides = [re.search(r"text-align: (\w+)", cell.get("style", "")) for cell in (element[0] if len(element) else ())]
    found = [side[1] if side else "center" for side in sides]
    if found[:2] == ["right", "left"]:
        return ["aligned", rows, display]
    gap = 1.0 if any("padding-left:1em" in style for style in styles) else 0.5
    return ["matrix", rows, found[0] if len(set(found)) == 1 else "center", display, gap]
