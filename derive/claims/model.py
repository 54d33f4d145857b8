"""A book, its claims, and their formal readings, as frozen values checked on construction."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from derive.claims.errors import ClaimError

__all__ = ["KINDS", "Book", "Claim", "Correction", "Reading"]

KINDS = ("formula", "inline", "listing", "table row", "words")

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
_CHECK = re.compile(r"[a-z][a-z_]{0,39}")


@dataclass(frozen=True)
class Reading:
    """One formal reading of a statement: the check that decides it, and that check's arguments.

    ``name`` is what tells it from the claim's other readings ("row vectors"); empty where there is only one.
    """

    check: str
    arguments: Mapping[str, Any]
    name: str = ""

    def __post_init__(self) -> None:
        if not _CHECK.fullmatch(self.check):
            raise ClaimError("this cannot be the name of a check", field="check", found=self.check)


@dataclass(frozen=True)
class Correction:
    """What a wrong or ambiguous statement should say; every one of its readings must hold."""

    says: str
    readings: tuple[Reading, ...]
    why: str = ""

    def __post_init__(self) -> None:
        if not self.says.strip():
            raise ClaimError("a corrected statement says something", field="corrected.says", found=self.says)
        if not self.readings:
            raise ClaimError("a corrected statement is checked too", field="corrected.check", expected="a check")


@dataclass(frozen=True)
class Claim:
    """One statement as printed, with its readings.

    Several readings are different things that it may mean; with ``parts`` they are parts of what it says, all of them;
    with ``cases`` they are cases in which it is used, whatever is meant by it (the last step, a larger input).
    ``line`` to ``until`` are its lines in the document; ``also`` lists other lines where the same stands again.
    ``printed`` is the document's own text, TeX between dollar signs; ``says`` our sentence for what it claims.
    """

    id: str
    line: int
    heading: str
    kind: str
    printed: str
    says: str
    readings: tuple[Reading, ...]
    corrected: Correction | None = None
    until: int = 0
    also: tuple[int, ...] = ()
    parts: bool = False
    cases: bool = False

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            wanted = "up to 60 small letters, digits and hyphens, such as hidden-state"
            raise ClaimError("this cannot be an id", field="id", found=self.id, expected=wanted)
        if self.kind not in KINDS:
            raise ClaimError("unknown kind", claim=self.id, field="kind", found=self.kind, expected=", ".join(KINDS))
        if min(self.line, *self.also, self.line) < 1 or (self.until and self.until < self.line):
            wanted = "lines from 1 on, the last not before the first"
            raise ClaimError("lines of the document", claim=self.id, field="line", found=self.line, expected=wanted)
        for field in ("heading", "printed", "says"):
            if not getattr(self, field).strip():
                raise ClaimError("this is empty", claim=self.id, field=field, expected="text")
        self._check_readings()

    def _check_readings(self) -> None:
        if self.parts and self.cases:
            raise ClaimError("parts are no cases", claim=self.id, field="cases", expected="one of the two, or neither")
        if not self.readings:
            raise ClaimError("nothing decides this claim", claim=self.id, field="reading", expected="[[claim.reading]]")
        names = [reading.name for reading in self.readings]
        if len(names) > 1 and (len(set(names)) < len(names) or "" in names):
            wanted = "a name for each, all different"
            raise ClaimError("several readings", claim=self.id, field="reading.name", found=names, expected=wanted)


@dataclass(frozen=True)
class Book:
    """A document's claims, in the order of their lines.

    ``name`` begins every anchor of the book, ``source`` is the file that it was read from ("" for a text).
    """

    name: str
    title: str
    claims: tuple[Claim, ...]
    about: str = ""
    headings: tuple[str, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ClaimError("this cannot be the name of a book", source=self.source, found=self.name)
        if not self.title.strip():
            raise ClaimError("a book has a title", source=self.source, field="title", expected="text")
        if not self.claims:
            raise ClaimError("a book has claims", source=self.source, field="claim", expected="[[claim]]")
        seen: dict[str, Claim] = {}
        for claim in self.claims:
            if seen.setdefault(claim.id, claim) is not claim:
                raise ClaimError("this id is there twice", source=self.source, claim=claim.id, field="id")
            if self.headings and claim.heading not in self.headings:
                wanted = "one of the book's headings"
                raise ClaimError(
                    "unknown heading",
                    source=self.source,
                    claim=claim.id,
                    field="heading",
                    found=claim.heading,
                    expected=wanted,
                )

    @property
    def chapters(self) -> tuple[str, ...]:
        """The headings in order: the book's own list, else as the claims have them."""
        return self.headings or tuple(dict.fromkeys(claim.heading for claim in self.claims))

    def anchor(self, claim: Claim) -> str:
        """Where a report shows a claim."""
        return f"{self.name}-{claim.id}"
