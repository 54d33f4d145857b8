"""The arguments of a check, read one by one: each has a type, a default or none, and what is left over is an error."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from derive.cell import Cell
from derive.claims import ClaimError
from derive.errors import CellError, nearest
from derive.parse import cells, load, parse

__all__ = ["Arguments"]

_NONE: Any = object()


class Arguments:
    """Reads what a claims file says; every method raises :class:`ClaimError` with the field that is wrong.

    >>> given = Arguments({"of": "h", "steps": 3})
    >>> given.text("of"), given.whole("steps", 1, 8), given.whole("size", 1, 4, 2)
    ('h', 3, 2)
    >>> given.done()
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.asked: set[str] = set()

    def _value(self, key: str, default: Any, kind: type | tuple[type, ...], wanted: str) -> Any:
        self.asked.add(key)
        value = self.given.get(key, default)
        if value is _NONE:
            raise ClaimError("this argument is missing", field=key, expected=wanted)
        if key in self.given and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            raise ClaimError("of another type", field=key, found=_plain(value), expected=wanted)
        return value

    def text(self, key: str, default: Any = _NONE) -> str:
        """A text."""
        return self._value(key, default, str, "text")

    def sentence(self, key: str) -> str:
        """A text that says something."""
        said = self.text(key)
        if not said.strip():
            raise ClaimError("this is empty", field=key, expected="a sentence")
        return said

    def choice(self, key: str, known: Collection[str], default: Any = _NONE) -> str:
        """One of some words."""
        word = self._value(key, default, str, ", ".join(known))
        if key in self.given and word not in known:
            near = nearest(word[:80], known)
            raise ClaimError("unknown", field=key, found=word, expected=", ".join(known), near=near)
        return word

    def whole(self, key: str, least: int, most: int, default: Any = _NONE) -> int:
        """A whole number within bounds."""
        wanted = f"a whole number from {least} to {most}"
        value = self._value(key, default, int, wanted)
        if key in self.given and not least <= value <= most:
            raise ClaimError("out of range", field=key, found=value, expected=wanted)
        return value

    def number(self, key: str, least: float, most: float, default: Any = _NONE) -> float:
        """A number within bounds."""
        wanted = f"a number from {least:g} to {most:g}"
        value = self._value(key, default, (int, float), wanted)
        if key in self.given and not least <= value <= most:
            raise ClaimError("out of range", field=key, found=value, expected=wanted)
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        """True or false."""
        return self._value(key, default, bool, "true or false")

    def words(self, key: str, known: Collection[str] | None = None, default: Any = _NONE) -> tuple[str, ...]:
        """A list of words, out of ``known`` if that is given."""
        found = self._value(key, default, (tuple, list), "a list of words")
        for word in found:
            if not isinstance(word, str) or (known is not None and word not in known):
                wanted = "words" if known is None else ", ".join(known)
                raise ClaimError("unknown", field=key, found=_plain(word), expected=wanted)
        return tuple(found)

    def cell(self, key: str = "cell") -> Cell:
        """A shipped cell's name, or a cell's own equations as text; never a file."""
        text = self.text(key)
        if text not in cells() and "=" not in text:
            wanted = f"{', '.join(cells())}, or equations"
            raise ClaimError("unknown cell", field=key, found=text, expected=wanted, near=nearest(text[:80], cells()))
        try:
            return load(text) if text in cells() else parse(text)
        except CellError as error:
            raise ClaimError(str(error), field=key) from None

    def done(self) -> None:
        """Refuse what nothing has asked for."""
        for key in self.given:
            if key not in self.asked:
                wanted = ", ".join(sorted(self.asked))
                raise ClaimError("unknown argument", field=key, expected=wanted, near=nearest(key, self.asked))


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
