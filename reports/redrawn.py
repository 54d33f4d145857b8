"""Whether a drawing written down elsewhere is what a figure shows: its title, labels and numbers, and its marks.

Where a line or a mark stands follows from the numbers, which are in the file as text; how letters and ticks are drawn
differs between versions of matplotlib and with what was measured, and is left out.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator

__all__ = ["drawn_marks", "told"]

_SERIES = re.compile(r"#(?:1f5f99|2d7a4f|b4471f)")
_DECIMAL = re.compile(r"[0-9]+\.[0-9]+")  # of a label; what was measured is in the table
_COLOUR = re.compile(r"#[0-9a-f]{6}")


def told(svg: str) -> list[str]:
    """The texts of a drawing, line by line: its title, the table of its numbers, its labels without decimals.

    >>> told("<svg><title>Norms</title><metadata>| k | 1 |</metadata><desc>time lag; norm &lt; 1.5</desc><path/></svg>")
    ['Norms', '| k | 1 |', 'time lag; norm < #']
    """
    found = re.findall(r"<(title|metadata|desc)>(.*?)</\1>", svg, flags=re.DOTALL)
    texts = (_DECIMAL.sub("#", text) if tag == "desc" else text for tag, text in found)
    return [line for text in texts for line in html.unescape(text).splitlines()]


def drawn_marks(svg: str) -> Counter[str]:
    """Kinds of elements by their colours: how many in a colour of a series, and whether there are any in another.

    >>> marks = drawn_marks('<path stroke="#1f5f99"/><path stroke="#1f5f99"/><g fill="#22252a"/><g fill="#22252a"/>')
    >>> sorted(marks.items())
    [('g #22252a', 1), ('path #1f5f99', 2)]
    """
    counted: Counter[str] = Counter()
    for kind in _kinds(svg):
        counted[kind] = counted[kind] + 1 if _SERIES.search(kind) else 1
    return counted


def _kinds(svg: str) -> Iterator[str]:
    for tag, attributes in re.findall(r"<([a-z]+)((?:\s[^<>]*)?)>", svg):
        colours = sorted(set(_COLOUR.findall(attributes)))
        if colours:
            yield f"{tag} {' '.join(colours)}"
