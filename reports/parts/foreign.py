"""Text of strangers, such as names of programs and what they print: letter by letter, and never too much of it."""

from __future__ import annotations

__all__ = ["foreign"]

#: Letters of one text, at most.
MOST = 400


def foreign(text: str, most: int = MOST) -> str:
    """The text in a line; what does not show, or turns the reading order, stands as its escape.

    >>> foreign("two" + chr(10) + "lines, " + chr(0x202E) + "turned")
    'two lines, \\\\u202eturned'
    """
    line = " ".join(text[: 4 * most].split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)
    return shown if len(shown) <= most else f"{shown[:most]}…"
