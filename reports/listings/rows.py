"""What a harness reports: for each input, what the listing did with it; as values, and as data between processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from reports.document import Code, Parts, Quantity
from reports.listings.source import FORMS, Source

__all__ = ["AGREES", "STOPS", "WRONG", "Group", "Row", "row_data", "row_from_data", "rows_from_data"]

#: As it says; something else, without an error; no result, with an error.
AGREES, WRONG, STOPS = VERDICTS = ("agrees", "wrong", "stops")
_MOST = 2_000


@dataclass(frozen=True)
class Row:
    """One input in words, what the listing did with it, and which of :data:`VERDICTS` that is."""

    given: str
    did: Parts
    verdict: str

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"a row is one of {', '.join(VERDICTS)}; found {self.verdict!r}")


@dataclass(frozen=True)
class Group:
    """One question to a listing, asked over several inputs.

    ``asks`` says what the listing would have to do, ``line`` the line of the listing as printed that it is about (0 for
    the whole), ``forms`` as what the listing is asked.  The rows come one by one.
    """

    name: str
    asks: str
    rows: Callable[[Source], Iterator[Row]]
    line: int = 0
    forms: tuple[str, ...] = FORMS


def row_data(row: Row) -> dict[str, Any]:
    """A row as JSON can say it."""
    return {"given": row.given, "did": [_part_data(part) for part in row.did], "verdict": row.verdict}


def _part_data(part: Any) -> Any:
    if isinstance(part, Quantity):
        number = part.value if math.isfinite(part.value) else str(part.value)
        most = {} if part.most == math.inf else {"most": float(part.most)}
        return {"value": number, "spread": None if part.spread == math.inf else part.spread, "form": part.form, **most}
    return {"code": part.text} if isinstance(part, Code) else str(part)


def row_from_data(data: Any) -> Row:
    """The row again; raises ValueError for anything else."""
    match data:
        case {"given": str(given), "did": list(did), "verdict": str(verdict)} if len(did) <= _MOST:
            return Row(given, tuple(_part_from_data(part) for part in did), verdict)
    raise ValueError("this is no row")


def _part_from_data(data: Any) -> str | Code | Quantity:
    match data:
        case str():
            return data
        case {"code": str(text)}:
            return Code(text)
        case {"value": int() | float() | ("nan" | "inf" | "-inf") as value, "spread": spread, "form": str(form)}:
            most = float(data.get("most", math.inf))
            return Quantity(float(value), math.inf if spread is None else float(spread), form, most)
    raise ValueError("this is no part of a row")


def rows_from_data(data: Any) -> tuple[Row, ...]:
    """The rows of an answer; raises ValueError for anything else."""
    found = data.get("rows") if isinstance(data, dict) else None
    if not isinstance(found, list) or len(found) > _MOST:
        raise ValueError("this is no list of rows")
    return tuple(row_from_data(row) for row in found)
