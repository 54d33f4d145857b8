"""The ledger as a document: what it comes to, what is wrong and what is right instead, then every statement."""

from __future__ import annotations

from collections import Counter

from derive.claims import Book
from reports.checks.evidence import LEVELS, Evidence
from reports.document import Block, Document, Entry, Fold, Items, Link, Mark, Paragraph, Parts, Section, Table, slug
from reports.ledger import CONDITIONS, DEPENDS, FOUND_OUT, HOLDS, OPEN, REFUTED, Judged, Ledger
from reports.parts.statement import printed_blocks, sentence, statement_blocks
from reports.prose import joined

__all__ = ["ledger_document"]

KICKER = "The textbook's ledger: every statement checked"
_MARKS = {HOLDS: "holds", CONDITIONS: "open", DEPENDS: "open", REFUTED: "fails", OPEN: "open"}
_KINDS = {
    "formula": "displayed formula",
    "inline": "formula in a line",
    "listing": "listing",
    "table row": "row of a table",
    "words": "statement",
}
_SIGNS = {True: "holds", False: "fails", None: "open"}


def ledger_document(ledger: Ledger) -> Document:
    """The whole page: one book, or several side by side."""
    several = len(ledger.books) > 1
    book = ledger.books[0][0]
    return Document(
        name="ledger" if several else book.name,
        title="What textbooks say about backpropagation through time, statement by statement"
        if several
        else f"{book.title}, statement by statement",
        verdict=_overall(ledger),
        sections=(
            _summary(ledger),
            *_not_right(ledger),
            *(_book(book, claims) for book, claims in ledger.books),
            _method(),
        ),
        kicker=KICKER,
    )


def _overall(ledger: Ledger) -> Mark:
    """What is wrong in a book is a finding; only a corrected statement that does not hold fails the ledger."""
    if any(judged.corrected is False for judged in ledger.judged):
        return Mark("fails", "a corrected statement does not hold")
    left = sum(judged.verdict == OPEN or judged.corrected is None for judged in ledger.judged)
    if left:
        return Mark("open", f"{left} of {len(ledger.judged)} statements not decided")
    return Mark("holds", "every statement decided")


# ---------------------------------------------------------------------------------------------------- the answer


def _summary(ledger: Ledger) -> Section:
    return Section("What holds and what does not", "answer", (Paragraph(_lead(ledger), "lead"), _counts(ledger)))


def _not_right(ledger: Ledger) -> list[Section]:
    """Everything that is wrong, ambiguous or open, with what is right instead; each leads to its statement."""
    wrong = [(book, judged) for book, claims in ledger.books for judged in claims if not _plainly_right(judged)]
    parts = []
    for verdict in sorted(_MARKS, key=lambda v: v != REFUTED):  # the worst first
        found = [(book, judged) for book, judged in wrong if judged.verdict == verdict]
        if found:
            title = verdict.capitalize() if verdict != HOLDS else _mark(found[0][1]).text.capitalize()
            parts.append(Section(title, f"findings---{slug(verdict)}", (_findings(found, len(ledger.books) > 1),)))
    return [Section("What is not right as printed", "findings", (), tuple(parts))] if parts else []


def _plainly_right(judged: Judged) -> bool:
    return judged.verdict == HOLDS and judged.corrected is True


def _lead(ledger: Ledger) -> Parts:
    holds, under, depends, refuted, left = (ledger.count(v) for v in (HOLDS, CONDITIONS, DEPENDS, REFUTED, OPEN))
    told: list[Parts] = [(f"{holds} {'holds' if holds == 1 else 'hold'} as printed",)]
    told += [(f"{under} {'holds' if under == 1 else 'hold'} under conditions",)] * bool(under)
    told += [(f"{depends} {'depends' if depends == 1 else 'depend'} on a convention",)] * bool(depends)
    told += [(f"{refuted} {'is' if refuted == 1 else 'are'} refuted",)] * bool(refuted)
    told += [(f"{left} could not be decided here",)] * bool(left)
    said = "".join(map(str, (f"Of {len(ledger.judged)} statements ", *joined(told, last=" and "))))
    if not under + depends + refuted:
        return (f"{said}.",)
    more = " What is not right has a counterexample, and a corrected statement that was checked itself."
    return (f"{said}.{more if _all_corrected(ledger) else ''}",)


def _all_corrected(ledger: Ledger) -> bool:
    return all(j.claim.corrected and j.corrected for j in ledger.judged if j.verdict in (CONDITIONS, DEPENDS, REFUTED))


def _counts(ledger: Ledger) -> Table:
    """Verdicts by book; what holds, by how far it was shown."""
    rows: list[tuple[Parts, ...]] = []
    for level in LEVELS:
        numbers = [sum(j.verdict == HOLDS and j.level == level for j in claims) for _, claims in ledger.books]
        if any(numbers):
            rows.append(((Mark("holds", "holds"), f", {level}"), *((str(n),) for n in numbers)))
    for verdict in (CONDITIONS, DEPENDS, REFUTED, OPEN):
        numbers = [sum(j.verdict == verdict for j in claims) for _, claims in ledger.books]
        if any(numbers):
            rows.append(((Mark(_MARKS[verdict], verdict),), *((str(n),) for n in numbers)))
    rows.append((("all",), *((str(len(claims)),) for _, claims in ledger.books)))
    head: tuple[Parts, ...] = (
        ("verdict",),
        *((Link((_short(book, ledger),), _all_of(book)),) for book, _ in ledger.books),
    )
    return Table(head, tuple(rows), "l" + "r" * len(ledger.books))


def _short(book: Book, ledger: Ledger) -> str:
    """A book's name where there are several."""
    return book.name if len(ledger.books) > 1 else "statements"


def _findings(wrong: list[tuple[Book, Judged]], several: bool) -> Table:
    rows: list[tuple[Parts, ...]] = []
    for book, judged in wrong:
        claim = judged.claim
        place = f"{book.name}, line {claim.line}" if several else f"Line {claim.line}"
        says: Parts = (Link((place,), book.anchor(claim)), ": ", *sentence(claim.says))
        right = sentence(claim.corrected.says) if claim.corrected else ("–",)
        rows.append((says, _where_it_fails(judged), right))
    return Table((("the statement, read formally",), ("where it fails",), ("what is right",)), tuple(rows), "lll")


def _where_it_fails(judged: Judged) -> Parts:
    """The readings that fail, by their names; the verdict where none has one."""
    names: list[Parts] = [sentence(r.name) for r, e in judged.found if e.holds is False and r.name]
    return joined(names, "; ") if names and judged.verdict not in (HOLDS, OPEN) else (_mark(judged),)


def _mark(judged: Judged) -> Mark:
    verdict = judged.verdict
    if verdict == HOLDS and judged.corrected is not True:
        return Mark("fails", "holds, but what is called right does not")
    return Mark(_MARKS[verdict], f"holds, {judged.level}" if verdict == HOLDS else verdict)


# -------------------------------------------------------------------------------------------------- the statements


def _book(book: Book, claims: tuple[Judged, ...]) -> Section:
    sections: list[Section] = []
    for heading in book.chapters:
        entries = tuple(_entry(book, judged) for judged in claims if judged.claim.heading == heading)
        if entries:
            anchor = f"{slug(book.name)}--{slug(heading) or len(sections)}"
            sections.append(Section(heading, anchor, entries))
    about = (Paragraph(sentence(book.about), "source"),) if book.about else ()
    return Section(book.title, _all_of(book), about, tuple(_apart(sections)))


def _all_of(book: Book) -> str:
    """The anchor of a book's section: no heading and no claim has one with three hyphens."""
    return f"{slug(book.name)}---all"


def _apart(sections: list[Section]) -> list[Section]:
    """Sections whose anchors are all different: headings may differ in what an anchor cannot have."""
    times = Counter[str]()
    out = []
    for section in sections:
        times[section.anchor] += 1
        more = f"--{times[section.anchor]}" if times[section.anchor] > 1 else ""
        out.append(Section(section.title, section.anchor + more, section.blocks))
    return out


def _entry(book: Book, judged: Judged) -> Entry:
    claim = judged.claim
    last = max(claim.until, claim.line)
    where = f"{claim.line} to {last}" if last > claim.line else f"{claim.line}"
    where = ", ".join((f"Line{'s' * bool(last > claim.line or claim.also)} {where}", *map(str, claim.also)))
    blocks: list[Block] = [*printed_blocks(claim), Paragraph(("Read as: ", *sentence(claim.says)))]
    for reading, evidence in judged.found:
        blocks += _shown(reading.name, evidence, alone=len(judged.found) == 1)
    blocks += _right(judged)
    return Entry((f"{where}, {_KINDS[claim.kind]}",), book.anchor(claim), _mark(judged), tuple(blocks))


def _shown(name: str, evidence: Evidence, *, alone: bool) -> list[Block]:
    """One reading and what was said; what shows that it fails stands open, what shows that it holds is folded.

    A reading that is the only one has its verdict in the title already.
    """
    fails = f"fails, {evidence.level}" if evidence.level in FOUND_OUT else "fails"
    words = {True: f"holds, {evidence.level}", False: fails, None: evidence.level}[evidence.holds]
    mark: Parts = () if alone else (Mark(_SIGNS[evidence.holds], words), ". " if not name else " · ")
    told: Parts = (*sentence(name), ": ") if name else ()
    blocks: list[Block] = [Paragraph((*mark, *told, *evidence.said))]
    if evidence.blocks and evidence.holds:
        blocks.append(Fold("How it was shown", evidence.blocks))
    elif evidence.blocks:
        blocks += evidence.blocks
    return blocks


def _right(judged: Judged) -> list[Block]:
    corrected = judged.claim.corrected
    if corrected is None:
        return []
    said = statement_blocks(corrected.says)
    first = said[0]
    mark = Mark(_SIGNS[judged.corrected], "what is right")
    opening: list[Block] = [Paragraph((mark, ":"))]
    if isinstance(first, Paragraph):
        opening, said = [Paragraph((mark, ": ", *first.parts))], said[1:]
    blocks: list[Block] = [*opening, *said]
    if corrected.why:
        blocks.append(Paragraph(sentence(corrected.why), "note"))
    return [*blocks, *_checked(judged)]


def _checked(judged: Judged) -> list[Block]:
    """What was shown about the corrected statement; what shows it is left out where it stands above already."""
    above = [evidence for _, evidence in judged.found]
    out: list[Block] = []
    for reading, evidence in judged.right:
        words = {True: f"checked, {evidence.level}", False: "does not hold", None: evidence.level}[evidence.holds]
        told: Parts = (" · ", *sentence(reading.name), ": ") if reading.name else (". ",)
        again = any(evidence is other for other in above)
        out.append(
            Paragraph(
                (
                    Mark(_SIGNS[evidence.holds], words),
                    *told,
                    *(("as above." if reading.name else "As above.",) if again else evidence.said),
                )
            )
        )
        if evidence.blocks and not again:
            out.append(Fold("How it was shown", evidence.blocks))
        above.append(evidence)
    return out


# ------------------------------------------------------------------------------------------------------ the method


def _method() -> Section:
    levels: list[tuple[Parts, ...]] = [
        (("by definition",), ("it introduces a name or a convention, and what it names is there",)),
        (
            ("proven, every size",),
            ("an identity of one step as words in matrices and diagonals, and induction over time",),
        ),
        (("counted, every size",), ("the cost as a polynomial, counted from the program itself",)),
        (("proven, at a size",), ("the unrolled network, exactly, at small sizes; a counterexample too",)),
        (("tested, at a random point",), ("exact arithmetic modulo a prime, over longer sequences",)),
        (("run as printed",), ("the listing itself, over inputs with their edge cases",)),
        (("measured",), ("numbers side by side, each with what may differ elsewhere",)),
    ]
    rules: tuple[Parts, ...] = (
        ("A statement holds if every reading of it does, at the weakest of their levels.",),
        ("It holds under conditions if it holds in some cases, or for some inputs, and fails for others.",),
        ("It depends on a convention if some of the things that it may mean hold and others fail.",),
        ("It is refuted if no reading holds, or a part of it fails.",),
        ("It is not decided while anything about it is not.",),
        ("A counterexample to a formula is the smallest: few steps, few entries, and as many zeros as it can have.",),
    )
    table = Table((("level",), ("what it rests on",)), tuple(levels), "ll")
    return Section("How statements are judged", "method", (Items(rules), table))
