"""Text that can be printed: every letter has a glyph, and no word is longer than a line.

What has no glyph, what would change the direction of the line, and an accent that belongs to no letter that has it, is
said instead of shown: a picture by its name, anything else by its number, ``⟨U+202E⟩``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

__all__ = ["breakable", "printable", "words"]

_LONGEST = 24  # letters of a word that is not broken
_PIECE = re.compile(rf"[^\W_]{{{_LONGEST}}}|[^\w\s]+|_+")  # after these a longer word may be broken
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Mn", "Mc", "Me"})
_ALLOWED = "\n\t"
_CHOSEN_FORM = re.compile("[\ufe00-\ufe0f]")  # after a letter: which form of it is meant


def printable(text: str, glyphs: Collection[int] | None = None) -> str:
    """The text with every letter that cannot be seen said; ``glyphs`` are the code points of the fonts.

    >>> printable("a\\u202eb"), printable("\N{ROCKET}", {ord("a")})
    ('a⟨U+202E⟩b', '⟨rocket⟩')
    """
    text = _CHOSEN_FORM.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = unicodedata.normalize("NFC", text)
    return "".join(c if _is_seen(c, glyphs) else f"⟨{_said(c)}⟩" for c in text)


def _said(letter: str) -> str:
    if unicodedata.category(letter) == "So":
        return unicodedata.name(letter, f"U+{ord(letter):04X}").lower()
    return f"U+{ord(letter):04X}"


def _is_seen(letter: str, glyphs: Collection[int] | None) -> bool:
    if letter in _ALLOWED or " " <= letter <= "~":
        return True
    if unicodedata.category(letter) in _UNSEEN:
        return False
    return glyphs is None or ord(letter) in glyphs


def breakable(text: str) -> str:
    """The text with places in it where a very long word may be broken; they have no width.

    >>> breakable("short words"), len(breakable("a" * 100))
    ('short words', 104)
    """
    return re.sub(rf"\S{{{_LONGEST + 1},}}", lambda m: _PIECE.sub("\\g<0>\u200b", m[0]), text)


def words(text: str) -> list[str]:
    """The pieces between which a line may end.

    >>> words("two words")
    ['two', 'words']
    """
    return re.split("[\\s\u200b]+|(?<=-)", text.strip())
