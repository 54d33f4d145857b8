"""A program listing of a book, run over a range of inputs: does it do what its reading says?

``harness`` names one that ships with this package (:mod:`reports.listings`); a claims file brings no code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from numeric.noise import LIMIT
from reports.checks.arguments import Arguments
from reports.checks.evidence import Evidence
from reports.document import Block, Code, CodeLine, CodeLines, Fold, Listing, Local, Mark, Paragraph, Parts, Table
from reports.listings.record import recorded, recorded_with
from reports.listings.rows import AGREES, STOPS, WRONG, Group, Row
from reports.listings.running import observe, torch_is_there
from reports.listings.source import FORMS, HARNESSES, shipped
from reports.listings.worker import groups
from reports.prose import prose

__all__ = ["check_listing"]

_MARKS = {
    AGREES: Mark("holds", "agrees"),
    WRONG: Mark("fails", "differs"),
    STOPS: Mark("fails", "stops"),
}
#: Of inputs that no reading promises anything about, an error is a fair answer.
_REFUSED = Mark("open", "stops")
_NAMES = ("h_0", "h_n", "W_xh", "W_hh", "W_hy", "b_y", "h_t", "h_T")
Observed = tuple[Group, tuple[Row, ...]]


def check_listing(given: Mapping[str, Any]) -> Evidence:
    """``harness``, and in ``inputs`` the groups of inputs that decide; in ``beside`` groups that are shown with them.

    ``form`` is "printed", where left out, or "mended"; ``code`` shows the text, too.  Without PyTorch nothing is
    run; what was kept of a run with it is shown, and it is said that this is so.
    Raises :class:`derive.claims.ClaimError` for what does not ship with this package.
    """
    arguments = Arguments(given)
    harness = arguments.choice("harness", HARNESSES)
    form = arguments.choice("form", FORMS, "printed")
    known = {group.name: group for group in groups(harness) if form in group.forms}
    deciding = [known[name] for name in arguments.words("inputs", known)]
    beside = [known[name] for name in arguments.words("beside", known, ())]
    code = arguments.flag("code")
    arguments.done()
    seen, other = (_observed(harness, form, some) for some in (deciding, beside))
    rows = [row for _, found in seen for row in found]
    if not torch_is_there() and any(not found for _, found in (*seen, *other)):
        said = ("The listing needs PyTorch, which is not installed here, and no run of this text is kept.",)
        return Evidence(None, "not run", said, _code(harness, form, []) if code else (), needs="torch")
    holds = bool(rows) and all(row.verdict == AGREES for row in rows)
    blocks: list[Block] = [*_smallest(rows), *(_table(one, True) for one in seen)]
    blocks += [Fold(_title(group), (_table((group, found), False),)) for group, found in other]
    blocks += (
        _code(harness, form, _observed(harness, form, known.values() if form == "printed" else ())) if code else ()
    )
    return Evidence(holds, "run as printed", _said(rows, form), tuple(blocks))


def _observed(harness: str, form: str, some: Iterable[Group]) -> list[Observed]:
    """Run now or, where PyTorch is missing, what was kept of the last run."""
    ask = observe if torch_is_there() else recorded
    return [(group, ask(harness, form, group.name)) for group in some]


def _torch() -> Local:
    """Which PyTorch it was."""
    try:
        return Local(version("torch"))
    except PackageNotFoundError:
        return Local(f"{recorded_with()}, as kept: not installed here")


def _said(rows: Sequence[Row], form: str) -> Parts:
    """How many inputs, and how many give something else."""
    how: Parts = (f"Run as {form} on {len(rows)} input{'s' * (len(rows) != 1)} (PyTorch ", _torch(), ")")
    wrong, stops = (sum(row.verdict == kind for row in rows) for kind in (WRONG, STOPS))
    if not wrong and not stops:
        return (*how, f", it does so on {'each' if len(rows) > 1 else 'it'}.")
    counts = [f"on {wrong} it gives something else without an error"] * bool(wrong)
    counts += [f"on {stops} it stops with an error"] * bool(stops)
    return (*how, f": {', and '.join(counts)}.")


def _smallest(rows: Sequence[Row]) -> tuple[Block, ...]:
    """The first input that shows it; harnesses begin with the smallest."""
    for row in rows:
        if row.verdict != AGREES:
            it = "it " if row.verdict == STOPS else ""
            said = (*_words(row.given), f": {it}", *_typeset(row.did), ".")
            return (Paragraph(("Smallest counterexample: ", *said)),)
    return ()


def _table(observed: Observed, deciding: bool) -> Table:
    """Input, what it did, verdict."""
    group, rows = observed
    head: tuple[Parts, ...] = (("Input",), ("What it does",), ("Verdict",))
    marks = _MARKS if deciding else _MARKS | {STOPS: _REFUSED}
    body = tuple((_words(row.given), _typeset(row.did), (marks[row.verdict],)) for row in rows)
    counted = any(isinstance(part, str) and "units of rounding" in part for row in rows for part in row.did)
    limit: Parts = (f" Rounding explains up to {LIMIT:g} units.",) if counted else ()
    return Table(head, body, "lll", ("Asked: ", *_words(group.asks), ".", *limit) if deciding else limit)


def _typeset(parts: Parts) -> Parts:
    """What is text, with its mathematics and its code set as such."""
    out: Parts = ()
    for part in parts:
        out += _words(part) if isinstance(part, str) else (part,)
    return out


def _words(text: str) -> Parts:
    """A text with code between backticks."""
    out: Parts = ()
    for n, part in enumerate(text.split("`")):
        out += (Code(part),) if n % 2 else prose(part, _NAMES)
    return out


def _title(group: Group) -> str:
    return f"Beside that: {group.asks.replace('`', '')}"


# ------------------------------------------------------------------------------------------------------------- the text


def _code(harness: str, form: str, seen: Sequence[Observed]) -> tuple[Block, ...]:
    """The text: with what was found beside its lines, as printed; to copy, as mended."""
    text = shipped(harness, form).text
    if form == "mended":
        return (Listing(text, "python", "The mended listing"),)
    lines = tuple(_line(n, line, seen) for n, line in enumerate(text.splitlines(), 1))
    return (Fold("The listing, line by line", (CodeLines(lines),)),)


def _line(number: int, text: str, seen: Sequence[Observed]) -> CodeLine:
    about = [(group, all(row.verdict == AGREES for row in rows)) for group, rows in seen if group.line == number]
    if not about:
        return CodeLine(number, text)
    so, not_so = ("; ".join(group.asks for group, right in about if right is kind) for kind in (True, False))
    if not not_so:
        return CodeLine(number, text, "holds", _words(so))
    return CodeLine(number, text, "fails", _words(f"Not so: {not_so}.{f' So it is: {so}.' if so else ''}"))
