"""JSON of strangers, read strictly: no duplicate keys, no NaN, no deep nesting, no numbers without end."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["DEPTH", "parse_json"]

#: Brackets inside brackets, at most.
DEPTH = 32

#: A string, to its end or to that of the text, or a bracket; possessive, so that no text takes long.
_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


def parse_json(data: bytes) -> Any:
    """What a text in UTF-8 says; -0 is the float -0.0, and whole numbers beyond 64 bits are floats.

    Raises ValueError that says what is wrong.

    >>> parse_json(b'{"a": [1, -0, 2.5]}')
    {'a': [1, -0.0, 2.5]}
    >>> parse_json(b'{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ValueError: the key 'a' stands twice in one object
    """
    _check_depth(data)
    try:
        text = data.decode("utf-8")
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_whole, parse_float=float
        )
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON: {error.msg} at character {error.pos + 1} of {len(error.doc)}") from None


def _check_depth(data: bytes) -> None:
    """Before anything is built from it."""
    depth = 0
    for match in _BRACKET.finditer(data):
        mark = match.group()
        depth += mark in (b"[", b"{")
        depth -= mark in (b"]", b"}")
        if depth > DEPTH:
            raise ValueError(f"it is nested more than {DEPTH} deep")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:60]!r} stands twice in one object")
    return out


def _no_constant(name: str) -> Any:
    raise ValueError(f'{name} is no JSON; a number that is not finite is null, or a string: "nan", "inf", "-inf"')


def _whole(text: str) -> int | float:
    """Of a number without point and exponent; only a float has a zero with a sign."""
    return float(text) if text == "-0" or len(text) > 19 else int(text)
