"""The textbook ledger, run: every claim's readings decided, and the document that says so.

A claim holds if all of its readings do.  If some do and some do not, it holds under conditions where one that does not
was measured or run, or where the readings are cases; else they are meanings, and it depends on a convention.  It is
refuted if none does (or if one does not that is a part of it), and is open while anything about it is not decided.
Nothing of this is stored with the claim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from derive.claims import Book, Claim, ClaimError, Reading, books, load_book
from reports.checks.evidence import Evidence, weakest
from reports.checks.registry import check_reading, find_check
from reports.document import Document
from reports.listings.running import expect

__all__ = [
    "CONDITIONS",
    "DEPENDS",
    "FOUND_OUT",
    "HOLDS",
    "OPEN",
    "REFUTED",
    "Judged",
    "Ledger",
    "build_ledger",
    "run_ledger",
]

HOLDS, REFUTED, OPEN = "holds", "refuted", "not decided"
CONDITIONS, DEPENDS = "holds under conditions", "depends on a convention"

#: Where a reading fails by being run, or by its numbers, it is no matter of what is meant.
FOUND_OUT = ("run as printed", "measured")

Result = TypeVar("Result")
Decided = tuple[Reading, Evidence]


@dataclass(frozen=True)
class Judged:
    """A claim with what was found: about each of its readings, and about the corrected statement's."""

    claim: Claim
    found: tuple[Decided, ...]
    right: tuple[Decided, ...] = ()

    @property
    def verdict(self) -> str:
        """Holds, holds under conditions, depends on a convention, refuted, or not decided."""
        holds = [evidence.holds for _, evidence in self.found]
        if None in holds:
            return OPEN
        if all(holds) or not any(holds) or self.claim.parts:
            return HOLDS if all(holds) else REFUTED
        conditions = self.claim.cases or any(e.level in FOUND_OUT for _, e in self.found if not e.holds)
        return CONDITIONS if conditions else DEPENDS

    @property
    def level(self) -> str:
        """The weakest level among the readings that give the verdict."""
        shown = [e.level for _, e in self.found if e.holds is None or self.verdict != OPEN]
        return weakest(shown)

    @property
    def corrected(self) -> bool | None:
        """Whether the corrected statement's own checks hold; None if one of them is not decided; True without one."""
        holds = [evidence.holds for _, evidence in self.right]
        return False if False in holds else None if None in holds else True

    @property
    def needs(self) -> tuple[str, ...]:
        """Optional libraries without which something about this claim is not run."""
        return tuple(sorted({e.needs for _, e in (*self.found, *self.right) if e.needs}))


@dataclass(frozen=True)
class Ledger:
    """Some books, each with its claims judged."""

    books: tuple[tuple[Book, tuple[Judged, ...]], ...]

    @property
    def judged(self) -> tuple[Judged, ...]:
        """Every claim of every book."""
        return tuple(judged for _, claims in self.books for judged in claims)

    def count(self, verdict: str) -> int:
        """How many claims have a verdict."""
        return sum(judged.verdict == verdict for judged in self.judged)


def build_ledger(book_path: str | None, *, report: Callable[[str], None] = lambda stage: None) -> Document:
    """The ledger's document: of the shipped books, or of one book, by its name or the path of a TOML file.

    Raises :class:`derive.claims.ClaimError` for a book that is wrong, FileNotFoundError where there is none.
    """
    from reports.parts.ledger import ledger_document

    chosen = [load_book(name) for name in ([book_path] if book_path is not None else books())]
    return ledger_document(run_ledger(chosen, report=report))


def run_ledger(chosen: Iterable[Book], *, report: Callable[[str], None] = lambda stage: None) -> Ledger:
    """Run every check of some books; ``report`` is told each claim as it begins.

    Raises :class:`derive.claims.ClaimError`, before anything is run where a check is unknown, else where a check
    refuses its arguments.
    """
    chosen = tuple(chosen)
    asked = [r for book in chosen for claim in book.claims for r in _readings(claim) if r.check == "listing"]
    expect({(str(r.arguments.get("harness")), str(r.arguments.get("form", "printed"))) for r in asked})
    for book in chosen:
        for claim in book.claims:
            for reading in _readings(claim):
                _within(book, claim, reading.check, partial(find_check, reading.check))
            _within(book, claim, "", partial(_check_arguable, claim))
    known: dict[str, Evidence] = {}
    return Ledger(tuple((book, tuple(_judge(book, claim, known, report) for claim in book.claims)) for book in chosen))


def _check_arguable(claim: Claim) -> None:
    """Refuse a claim that is decided whatever it says: by a definition beside other readings, or as what is right."""
    if claim.corrected and any(_nothing_false(r) for r in claim.corrected.readings):
        wanted = "a check that a wrong statement would fail"
        raise ClaimError("what is right is not so by definition", field="corrected.check", expected=wanted)
    if len(claim.readings) > 1 and not claim.parts and any(_nothing_false(r) for r in claim.readings):
        wanted = "readings that could fail; or parts = true"
        raise ClaimError("what holds by definition decides nothing between readings", field="reading", expected=wanted)
    for readings in (claim.readings, claim.corrected.readings if claim.corrected else ()):
        asked = [_question(r) for r in readings]
        if len(set(asked)) < len(asked):
            wanted = "another check, or other arguments"
            raise ClaimError("two readings ask the same", field="reading", expected=wanted)


def _nothing_false(reading: Reading) -> bool:
    """Whether a reading names nothing, so that nothing about it could be false."""
    return reading.check in ("definition", "convention") and not reading.arguments.get("names")


def _readings(claim: Claim) -> tuple[Reading, ...]:
    return (*claim.readings, *(claim.corrected.readings if claim.corrected else ()))


def _judge(book: Book, claim: Claim, known: dict[str, Evidence], report: Callable[[str], None]) -> Judged:
    report(f"{book.title}: {claim.id}")

    def decide(readings: tuple[Reading, ...]) -> tuple[Decided, ...]:
        return tuple((r, _within(book, claim, r.check, partial(_evidence, r, known))) for r in readings)

    return Judged(claim, decide(claim.readings), decide(claim.corrected.readings) if claim.corrected else ())


def _evidence(reading: Reading, known: dict[str, Evidence]) -> Evidence:
    """What a check finds; the same question is asked once, however many claims come to it."""
    key = _question(reading)
    if key not in known:
        known[key] = check_reading(reading)
    return known[key]


def _question(reading: Reading) -> str:
    """What a reading asks, as text."""
    return f"{reading.check} {sorted((name, _told(value)) for name, value in reading.arguments.items())}"


def _told(value: object) -> str:
    """An argument as text, its type included, in an order of its own."""
    if isinstance(value, Mapping):
        return f"{sorted((name, _told(inner)) for name, inner in value.items())}"
    return f"{[_told(inner) for inner in value]}" if isinstance(value, tuple) else repr(value)


def _within(book: Book, claim: Claim, check: str, run: Callable[[], Result]) -> Result:
    """What ``run`` returns; whatever is wrong with the arguments says in which claim."""
    try:
        return run()
    except ClaimError as error:
        if check and error.field and error.field != "check":
            error.field = f"{check}: {error.field}"
        raise error.within(source=book.source or book.name, claim=claim.id) from None
