"""Books from TOML files: bounded, every field checked, nothing in them ever evaluated."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from derive.claims.errors import ClaimError
from derive.claims.model import Book, Claim, Correction, Reading
from derive.claims.statement import check_formulas
from derive.errors import CellError, nearest
from derive.parse import read_text

__all__ = ["books", "load_book", "read_book"]

CHARACTERS, CLAIMS, READINGS, TEXT, ITEMS, DEPTH, WHOLE = 500_000, 1_000, 12, 20_000, 400, 4, 10**12

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_BOOK = {"title": str, "about": str, "headings": list, "claim": list}
_CLAIM = {
    "id": str, "line": int, "until": int, "also": list, "heading": str, "kind": str, "printed": str, "says": str,
    "reading": list, "corrected": dict, "parts": bool, "cases": bool,
}  # fmt: skip
_TYPES = {str: "text", int: "a whole number", bool: "true or false", list: "a list", dict: "a table"}


def books() -> tuple[str, ...]:
    """Names of the shipped books."""
    names = (entry.name for entry in files("derive").joinpath("claims").iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def load_book(name_or_path: str | os.PathLike[str]) -> Book:
    """A shipped book by its name, or a book from the path of a .toml file.

    Raises :class:`ClaimError` for a file that is no book, FileNotFoundError where there is none.
    """
    if isinstance(name_or_path, str) and name_or_path in books():
        entry = files("derive").joinpath("claims", f"{name_or_path}.toml")
        return read_book(entry.read_text(encoding="utf-8"), name_or_path)
    path = Path(name_or_path)
    if not os.path.exists(path) and path.suffix != ".toml" and len(path.parts) == 1:
        near = nearest(str(path)[:80], books())
        hint = f"; did you mean {near}?" if near else ""
        raise FileNotFoundError(f"{str(path)!r} is neither a shipped book ({', '.join(books())}) nor a file{hint}")
    try:
        text = read_text(path, characters=CHARACTERS)
    except CellError as error:
        wanted = "a text file with [[claim]] tables" if error.line is None else error.expected or ""
        raise ClaimError(error.message, source=str(path), expected=wanted) from None
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem).strip("-_")[:40]
    return read_book(text, stem or "book", source=str(path))


#: Where a book names no headings.
HEADING = "Statements"


def read_book(text: str, name: str = "book", *, source: str = "") -> Book:
    """A book from TOML text; raises :class:`ClaimError` with the claim, the field, what was found and expected.

    >>> read_book('''
    ... title = "A book"
    ... [[claim]]
    ... id = "carry"
    ... line = 3
    ... heading = "Backward"
    ... kind = "formula"
    ... printed = "$$dh_t = W^T da_{t+1}$$"
    ... says = "The hidden state's gradient is what the next step hands back."
    ... [[claim.reading]]
    ... check = "backward"
    ... cell = "tanh_rnn"
    ... lines = "dh[t] = W_hh.T @ da[t+1]"
    ... ''').claims[0].readings[0].arguments["cell"]
    'tanh_rnn'
    """
    try:
        return _book(_toml(text), name, source)
    except ClaimError as error:
        raise error.within(source=source) from None


def _toml(text: str) -> dict[str, Any]:
    if len(text) > CHARACTERS:
        wanted = f"at most {CHARACTERS:,} characters"
        raise ClaimError("the book is too long", found=f"{len(text):,} characters", expected=wanted)
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except RecursionError:
        raise ClaimError("this is nested too deeply", expected=f"at most {DEPTH} levels") from None
    except ValueError as error:  # TOMLDecodeError, and numbers with too many digits
        raise ClaimError(f"this is not TOML: {str(error)[:200]}") from None


def _book(data: dict[str, Any], name: str, source: str) -> Book:
    _check_fields(data, _BOOK, ("title", "claim"))
    tables = _tables(data["claim"], "claim", CLAIMS)
    claims = sorted((_claim(table) for table in tables), key=lambda claim: claim.line)
    return Book(
        name=name,
        title=_text(data, "title"),
        claims=tuple(claims),
        about=_text(data, "about"),
        headings=tuple(_listed(data, "headings", str)),
        source=source,
    )


def _claim(table: dict[str, Any]) -> Claim:
    try:
        return _checked_claim(table)
    except ClaimError as error:
        known = table.get("id")
        raise error.within(claim=known[:80] if isinstance(known, str) else f"at line {table.get('line')}") from None


def _checked_claim(table: dict[str, Any]) -> Claim:
    _check_fields(table, _CLAIM, ("id", "line", "kind", "printed", "says", "reading"))
    return Claim(
        id=_text(table, "id"),
        line=_whole(table, "line"),
        until=_whole(table, "until"),
        also=tuple(_listed(table, "also", int)),
        heading=_text(table, "heading") if "heading" in table else HEADING,
        kind=_text(table, "kind"),
        printed=check_formulas(_text(table, "printed").strip("\n"), "printed"),
        says=check_formulas(_text(table, "says").strip(), "says"),
        readings=_readings(table["reading"], "reading"),
        corrected=_correction(table["corrected"]) if "corrected" in table else None,
        parts=table.get("parts", False),
        cases=table.get("cases", False),
    )


def _readings(value: Any, field: str) -> tuple[Reading, ...]:
    return tuple(_reading(table, field) for table in _tables(value, field, READINGS))


def _reading(table: dict[str, Any], field: str) -> Reading:
    _check_fields(table, {"name": str, "check": str}, ("check",), more=True)
    arguments = {key: _frozen(value, f"{field}.{key}") for key, value in table.items() if key not in ("name", "check")}
    return Reading(_text(table, "check"), MappingProxyType(arguments), _text(table, "name"))


def _correction(table: dict[str, Any]) -> Correction:
    """``says`` and ``why``, then one check with its arguments or several as [[claim.corrected.reading]]."""
    _check_fields(table, {"says": str, "why": str, "reading": list, "check": str}, ("says",), more=True)
    own = {key: value for key, value in table.items() if key not in ("says", "why", "reading")}
    if "reading" in table and own:
        wanted = "one check here, or [[claim.corrected.reading]]"
        raise ClaimError("two ways to say a check", field="corrected", found=", ".join(own)[:80], expected=wanted)
    given = table.get("reading", [own])
    says, why = (check_formulas(_text(table, key).strip(), f"corrected.{key}") for key in ("says", "why"))
    return Correction(says, _readings(given, "corrected"), why)


# ------------------------------------------------------------------------------------------------------ field by field


def _check_fields(
    table: dict[str, Any], known: Mapping[str, type], needed: tuple[str, ...], *, more: bool = False
) -> None:
    for key, value in table.items():
        if key not in known and not more:
            wanted = ", ".join(known)
            raise ClaimError("unknown field", field=key[:80], expected=wanted, near=nearest(key[:80], known))
        if key in known and (not isinstance(value, known[key]) or isinstance(value, bool) != (known[key] is bool)):
            raise ClaimError("of another type", field=key, found=value, expected=_TYPES[known[key]])
    for key in needed:
        if key not in table:
            raise ClaimError("this field is missing", field=key, expected=_TYPES[known[key]])


def _tables(value: list[Any], field: str, most: int) -> list[dict[str, Any]]:
    if len(value) > most:
        raise ClaimError("too many", field=field, found=len(value), expected=f"at most {most}")
    for item in value:
        if not isinstance(item, dict):
            raise ClaimError("of another type", field=field, found=item, expected=f"tables, [[{field}]]")
    return value


def _text(table: dict[str, Any], key: str) -> str:
    text = table.get(key, "")
    if len(text) > TEXT:
        raise ClaimError("too long", field=key, found=f"{len(text):,} characters", expected=f"at most {TEXT:,}")
    if unseen := _UNSEEN.search(text):
        raise ClaimError("a character that does not show", field=key, found=ascii(unseen[0]), expected="plain text")
    return text


def _whole(table: dict[str, Any], key: str) -> int:
    value = table.get(key, 0)
    if not 0 <= value <= WHOLE:
        raise ClaimError("out of range", field=key, found=value, expected=f"0 to {WHOLE:,}")
    return value


def _listed(table: dict[str, Any], key: str, kind: type) -> list[Any]:
    values = table.get(key, [])
    if len(values) > ITEMS:
        raise ClaimError("too many", field=key, found=len(values), expected=f"at most {ITEMS}")
    for value in values:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ClaimError("of another type", field=key, found=value, expected=f"a list, each {_TYPES[kind]}")
        _text({key: value}, key) if kind is str else _whole({key: value}, key)
    return values


def _frozen(value: Any, field: str, depth: int = 0) -> Any:
    """An argument of a check: text, numbers, truth values, lists and tables of them, not too many and not too deep."""
    if depth > DEPTH:
        raise ClaimError("this is nested too deeply", field=field, expected=f"at most {DEPTH} levels")
    if isinstance(value, dict | list) and len(value) > ITEMS:
        raise ClaimError("too many", field=field, found=len(value), expected=f"at most {ITEMS}")
    if isinstance(value, dict):
        return MappingProxyType({_key(key, field): _frozen(v, field, depth + 1) for key, v in value.items()})
    if isinstance(value, list):
        return tuple(_frozen(v, field, depth + 1) for v in value)
    if isinstance(value, str):
        return _text({field: value}, field)
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and abs(value) <= WHOLE:
        return value
    wanted = f"text, true or false, a number up to {WHOLE:,}, or a list or table of them"
    raise ClaimError("of another type, or out of range", field=field, found=value, expected=wanted)


def _key(key: str, field: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,39}", key):
        raise ClaimError("this cannot be a name", field=field, found=key, expected="letters, digits, _ and -")
    return key
