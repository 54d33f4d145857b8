"""Text to words: the limits that every text is held to, and what a strange character is answered with.

Every limit is checked on the text, before anything else sees it.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from derive.errors import CellError, Position

__all__ = ["LIMITS", "Limits", "Token", "normal", "tokens"]


@dataclass(frozen=True)
class Limits:
    """How much text is read before it is refused."""

    characters: int = 40_000
    tokens: int = 4_000
    equations: int = 200
    names: int = 300
    depth: int = 24
    height: int = 64
    name: int = 40
    digits: int = 30
    decimal_exponent: int = 400
    power: int = 64

    @property
    def number(self) -> int:
        """Numerators and denominators are below this."""
        return 10 ** (self.digits + self.decimal_exponent)


LIMITS = Limits()


@dataclass(frozen=True)
class Token:
    """A word of the text; kind is number, name, sign, newline or end."""

    kind: str
    text: str
    position: Position


_WORD = re.compile(
    r"(?P<space>[ \t\f]+)|(?P<comment>#[^\n]*)|(?P<newline>\n)"
    r"|(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z_0-9]*)|(?P<sign>\*\*|[-+*/@=\[\](),:.])"
)

# Characters that do not show, end lines or turn the reading order: not even in a comment.
_UNSEEN = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

# What people type or paste instead of the language's own signs.
_INSTEAD = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "·": "*", "×": "*", "⋅": "*", "∗": "*",
    "⊙": "*", "∘": "*", "÷": "/", "∕": "/", "⁄": "/", "²": "**2", "³": "**3", "ᵀ": ".T", "⊤": ".T",
    "σ": "sigmoid", "√": "sqrt", "π": "pi", "∑": "sum", "Σ": "sum", "∏": "prod", "′": "a name such as dtanh",
    "\u00a0": "a space", "^": "**", "⊗": "outer", "∂": "d", "ₜ": "[t]",
}  # fmt: skip

# Letters of other alphabets that look like ASCII ones.
_LOOK_ALIKES = dict(
    zip("аеорсухіјѕһԁАВЕКМНОРСТУХοΟΑΒΕΖΗΙΚΜΝΡΤΥΧ", "aeopcyxijshdABEKMHOPCTYXoOABEZHIKMNPTYX", strict=True)
)

_SIGNS = "one of + - * / @ **"
_COMPARISON = ("comparison is not in the language", "smooth functions, relu or abs")
_BRACE = ("braces are not in the language", "( ) around a sum, h[t] or h[t-1] for an index")
_STRING = (
    "strings and primes are not in the language",
    "letters, digits and underscores; a transpose is W.T, a derivative dtanh(a)",
)

# Why a character is not in the language, and what is.
_WHY = {
    "<": _COMPARISON, ">": _COMPARISON, "!": _COMPARISON, "≤": _COMPARISON, "≥": _COMPARISON, "≠": _COMPARISON,
    "%": ("the remainder is not in the language", _SIGNS), "&": ("logic is not in the language", _SIGNS),
    "|": ("logic is not in the language", _SIGNS), "~": ("logic is not in the language", _SIGNS),
    '"': _STRING, "'": _STRING, "{": _BRACE, "}": _BRACE, ";": ("one equation a line", "a new line"),
    "\\": ("a backslash is not in the language", "plain names; a line goes on inside parentheses"),
}  # fmt: skip


def _instead(character: str) -> str | None:
    """What to write in place of a character: an ASCII sign, a letter's name, or nothing."""
    if character in _INSTEAD or character in _LOOK_ALIKES:
        return _INSTEAD.get(character) or _LOOK_ALIKES[character]
    if character.isspace() or not character.isprintable():
        return "nothing, or a plain space"
    plain = "".join(_INSTEAD.get(c, c) for c in unicodedata.normalize("NFKC", character))
    if plain != character and plain.isascii() and (_WORD.fullmatch(plain) or plain.replace("/", "").isalnum()):
        return plain
    name = unicodedata.name(plain[0], "")
    if name.startswith("GREEK") and "LETTER" in name:
        return name.split("LETTER ", 1)[1].split(" WITH", 1)[0].split()[-1].lower().replace("lamda", "lambda")
    base = unicodedata.normalize("NFKD", character)[0]
    return base if base.isascii() and base.isalnum() else None


def _strange(character: str, position: Position, after: str = "") -> CellError:
    if character == "^" and after == "T":
        why = "this character is not in the language"
        return CellError(why, position, found="'^T'", expected=".T, the transpose of a matrix")
    name = unicodedata.name(character, f"U+{ord(character):04X}")
    found = repr(character) if character.isascii() else f"{character!r} ({name})"
    if character in _WHY:
        why, wanted = _WHY[character]
        return CellError(why, position, found=found, expected=wanted)
    if character.isascii():
        instead = _instead(character) or "letters, digits, underscores and signs"
        return CellError("this character is not in the language", position, found=found, expected=instead)
    return CellError(
        "names and signs are ASCII", position, found=found, expected=_instead(character) or "an ASCII letter"
    )


def normal(text: str) -> str:
    """A text without byte-order mark, its lines ended by newlines alone; raises CellError if it is too long."""
    _check_length(text, 2 * LIMITS.characters + 1)  # every line may end in two characters
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    _check_length(text, LIMITS.characters)
    return text


def _check_length(text: str, most: int) -> None:
    if len(text) > most:
        wanted = f"at most {LIMITS.characters}"
        raise CellError("the text is too long", found=f"{len(text)} characters", expected=wanted)


def _check_seen(text: str) -> None:
    if unseen := _UNSEEN.search(text):
        before, found = text[: unseen.start()], f"U+{ord(unseen.group()):04X}"
        position = (before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise CellError("this character does not show", position, found=found, expected="nothing, or a plain space")


def tokens(text: str) -> list[Token]:
    """The words of a text, newlines inside brackets left out."""
    _check_seen(text)
    out: list[Token] = []
    depth, line, start, place = 0, 1, 0, 0
    while place < len(text):
        match = _WORD.match(text, place)
        position = (line, place - start + 1)
        if match is None:
            raise _strange(text[place], position, text[place + 1 : place + 2])
        kind, word = str(match.lastgroup), match.group()
        place = match.end()
        if kind == "newline":
            line, start = line + 1, place
            if depth == 0:
                out.append(Token("newline", "the end of the line", position))
        elif kind not in ("space", "comment"):
            depth = max(0, depth + (word in "([") - (word in ")]")) if kind == "sign" else depth
            out.append(Token(kind, word, position))
        if len(out) > LIMITS.tokens:
            raise CellError("the text is too long", position, expected=f"at most {LIMITS.tokens} words and signs")
    out.append(Token("newline", "the end of the line", (line, place - start + 1)))
    out.append(Token("end", "the end of the text", (line, place - start + 1)))
    return out
