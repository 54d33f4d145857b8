"""The proof: every obligation with its method, level, time and verdict, and the mistakes that its checks reject."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from derive.latex import name_latex
from derive.mistakes import CATALOGUE
from derive.prove import Obligation, Proof
from reports.document import Block, Code, Items, Mark, Math, Paragraph, Parts, Quantity, Section, Table, seconds
from reports.parts.shown import LEMMAS, Shown, check_anchor, mark_of
from reports.prose import joined, prose
from reports.said import explained

__all__ = ["proof_section"]

_TABLED = ("P3/", "P2/", "P1/")
_GROUPS = (
    ("The program", "proof-program", ("program/",)),
    (
        "What is built on the recursion",
        "proof-built",
        ("jacobian-product", "immediate-derivative", "forward-recursion", "truncation"),
    ),
    ("Losses, lemmas and rules", "proof-lemmas", ("loss/", "lemma/", "rule/")),
)


def proof_section(proof: Proof, *more: Block) -> Section:
    """The proof; ``more`` blocks stand with the planted mistakes."""
    shown = Shown(proof)
    names = tuple(proof.derivation.cell.parameters)
    groups = [_group(title, anchor, shown.under(*prefixes), names) for title, anchor, prefixes in _GROUPS]
    unrolled = _unrolled(shown)
    rest = [o for o in proof.obligations if not o.name.startswith((*_TABLED, *(p for g in _GROUPS for p in g[2])))]
    sections = [groups[0], _one_step(shown), unrolled, *groups[1:], _group("Other checks", "proof-others", rest, names)]
    lead = Paragraph(
        (
            f"{len(proof.obligations)} obligations, ",
            _time(proof.obligations),
            " without the planted mistakes. ",
            "What is proven holds over the real numbers; rounding is the subject of the ",
            "cross-check.",
        )
    )
    return Section("The proof", "proof", (lead, _levels()), (*(s for s in sections if s.blocks), _planted(proof, more)))


def _levels() -> Items:
    return Items(
        (
            (
                Mark("holds", "proven, every size"),
                ": for all numbers of steps and sequences and all sizes, by an identity in the free algebra of matrices"
                " and diagonals and an induction over time",
            ),
            (
                Mark("holds", "proven, at a size"),
                ": an exact identity of rational functions at the sizes that are named; no rounding, no sampling",
            ),
            (
                Mark("holds", "tested, at a random point"),
                ": exact arithmetic modulo a large prime at one random point; a wrong formula passes with negligible"
                " probability",
            ),
            (Mark("open", "not done"), ": the budget did not reach; it is never counted as a pass"),
        )
    )


def _one_step(shown: Shown) -> Section:
    """One row a quantity, one column a proof of it."""
    every = {o.name.removeprefix("P3/"): o for o in shown.under("P3/")}
    at_size = {o.name.removeprefix("P2/"): o for o in shown.under("P2/")}
    quantities = list(dict.fromkeys((*every, *at_size)))
    rows = [_quantity_row(q, every.get(q), at_size.get(q)) for q in quantities]
    head: tuple[Parts, ...] = (("gradient by",), ("every size",), ("at a size",), ("time",))
    anchors = tuple(check_anchor(found) for q in quantities if (found := every.get(q) or at_size.get(q)))
    table = Table(head, tuple(rows), "lllr", anchors=anchors)
    lemmas = [shown.link(name, text) for name, text in LEMMAS.items()]
    after = (
        "Together with ",
        *joined([x for x in lemmas if x], last=" and "),
        " this is the gradient of the whole loss.",
    )
    blocks: tuple[Block, ...] = (
        Paragraph(_explained(every.values(), at_size.values())),
        table,
        *((Paragraph(after),) if any(lemmas) else ()),
    )
    return Section("One step", "proof-step", blocks if rows else ())


def _explained(every: Collection[Obligation], at_size: Collection[Obligation]) -> Parts:
    """What the table of one step shows, and by which methods."""
    sizes = next((m[1] for o in at_size if (m := re.search(r"one step at (.*)$", o.statement))), "")
    return (
        "That one step handed back is the transposed derivative of one step forward, with free cotangents standing for"
        " everything later. ",
        "For every size by ",
        *_method(every),
        "; at ",
        *(prose(sizes) if sizes else ("a size",)),
        " by ",
        *_method(at_size),
        ". Nodes within the step have no row at a size: they are inside the quantities that do.",
    )


def _method(obligations: Iterable[Obligation]) -> Parts:
    return (" or ".join(dict.fromkeys(o.method.replace("; ", ", decided by ") for o in obligations)),)


def _quantity_row(quantity: str, every: Obligation | None, at_size: Obligation | None) -> tuple[Parts, ...]:
    found = [o for o in (every, at_size) if o]
    cells = [(mark_of(o), *_detail(o)) if o else ("",) for o in (every, at_size)]
    name, _, time = quantity.partition("[")
    return (Math(name_latex(name, *([time.removesuffix("]")] if time else []))),), *cells, (_time(found),)


def _time(obligations: Sequence[Obligation]) -> Quantity:
    return seconds(sum(o.seconds for o in obligations))


def _detail(obligation: Obligation) -> Parts:
    """The counterexample, or the reason why nothing was decided."""
    if obligation.holds is False:
        return (": ", Code(obligation.detail)) if obligation.detail else ()
    reason = obligation.detail.removeprefix("not done at this size: ")
    return (f": {reason}",) if reason else ()


def _unrolled(shown: Shown) -> Section:
    """One row a network: its steps, sequences and sizes."""
    found = shown.under("P1/")
    letters = [name_latex(letter) for letter in shown.proof.derivation.cell.dimensions]
    head: tuple[Parts, ...] = (
        (Math("T"),),
        (Math("B"),),
        (Math(", ".join(letters)),),
        ("how",),
        ("level",),
        ("verdict",),
        ("time",),
    )
    rows = tuple((*_extent(o.name), *_row(o, ())[1:]) for o in found)
    lead = Paragraph(
        (
            "The loss of a small network, unrolled into explicit scalars and differentiated as a whole, has the"
            " gradient that the recursion gives: for so many steps and sequences, and with every size as large as is"
            " said.",
        )
    )
    table = Table(head, rows, "llllllr", anchors=tuple(check_anchor(o) for o in found))
    return Section("Unrolled networks", "proof-unrolled", (lead, table) if rows else ())


def _extent(name: str) -> tuple[Parts, Parts, Parts]:
    numbers = dict(re.findall(r"(\w+)=(\d+)", name))
    return (numbers.get("T", ""),), (numbers.get("B", "1"),), (numbers.get("size", ""),)


def _group(title: str, anchor: str, obligations: Sequence[Obligation], names: tuple[str, ...]) -> Section:
    """One row an obligation."""
    head: tuple[Parts, ...] = (("statement",), ("how",), ("level",), ("verdict",), ("time",))
    rows = tuple(_row(o, names) for o in obligations)
    table = Table(head, rows, "llllr", anchors=tuple(check_anchor(o) for o in obligations))
    return Section(title, anchor, (table,) if rows else ())


def _row(o: Obligation, names: tuple[str, ...]) -> tuple[Parts, ...]:
    word = o.statement.split(" ", 1)[0]
    statement = o.statement[:1].upper() + o.statement[1:] if word.isalpha() and word not in names else o.statement
    return prose(statement, names), prose(o.method), (o.level,), (mark_of(o), *_detail(o)), (seconds(o.seconds),)


def _planted(proof: Proof, more: Sequence[Block]) -> Section:
    score = proof.score
    lead = (
        Mark("fails" if score.missed else "holds", f"{score.caught} of {score.planted}"),
        " wrong derivations were rejected. Each known mistake below was made at every place of this derivation where it"
        " can be made; an edit that changes no number is not a mistake and was left out. A check that is never seen to"
        " reject anything proves nothing.",
    )
    rows: list[tuple[Parts, ...]] = [
        ((name,), (str(planted),), (Mark("holds" if caught == planted else "fails", str(caught)),))
        for name, (caught, planted) in score.by_check.items()
    ]
    counts = Table((("check",), ("planted",), ("rejected",)), tuple(rows), "lll", caption=(_what(proof),))
    missed = Paragraph(("Not rejected: ", *joined([(Code(m),) for m in score.missed]), "."))
    blocks: tuple[Block, ...] = (Paragraph(lead), counts, *((missed,) if score.missed else ()), *more, _mistakes())
    return Section("Planted mistakes", "planted", blocks)


def _what(proof: Proof) -> str:
    checks = set(proof.score.by_check)
    words = {
        "P3": "P3 is the proof for every size",
        "P2": "P2 the one at a size",
        "P1, the loop": "P1 the unrolled network",
    }
    said = [text for name, text in words.items() if name in checks]
    return "; ".join(said) + "." if said else ""


def _mistakes() -> Table:
    known = dict.fromkeys(row.name for row in CATALOGUE if row.kind != "loss")
    rows = tuple(((Code(name),), explained(name)) for name in known)
    return Table((("mistake",), ("what is done wrong",)), rows, "ll")
