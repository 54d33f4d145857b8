"""The first thing in a report: what was shown, how far, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from derive.latex import name_latex
from derive.prove import Obligation, Proof
from reports.document import Block, Link, Mark, Math, Paragraph, Parts, Section, Table
from reports.measure import Measured, is_exact
from reports.parts.numbers import check_summary, not_done, worst
from reports.parts.shown import Shown, levels
from reports.parts.steps import step_link
from reports.prose import joined, scientific

__all__ = ["overall", "verdict_section"]


def overall(proof: Proof, measured: Measured) -> Mark:
    """What a report comes to: refuted, if anything is; proven, if the proof holds and the numbers do not object."""
    if proof.refuted or measured.ok is False:
        return Mark("fails", "refuted")
    return Mark("holds", "proven") if proof.holds else Mark("open", "not proven")


@dataclass(frozen=True)
class _Claim:
    """One row: what is claimed, the obligations that it is made of, and where it is derived and shown."""

    text: str
    names: tuple[str, ...]
    steps: str  # an obligation of the first step that states it
    anchor: str


_CLAIMS = (
    _Claim(
        "The backward recursion and every gradient are right",
        ("program/", "P3/", "lemma/", "rule/"),
        "P3/",
        "proof-step",
    ),
    _Claim(
        "The same by brute force, one step and unrolled networks",
        ("P2/", "P1/diff", "P1/jets"),
        "P3/",
        "proof-unrolled",
    ),
    _Claim("The same over many steps", ("P1/point",), "P3/", "proof-unrolled"),
    _Claim("The losses' closed-form gradients", ("loss/",), "loss/", "proof-lemmas"),
    _Claim("The Jacobian product", ("jacobian-product",), "jacobian-product", "proof-built"),
    _Claim("The immediate derivatives and their sum", ("immediate-derivative",), "immediate-derivative", "proof-built"),
    _Claim("The forward recursion", ("forward-recursion",), "forward-recursion", "proof-built"),
    _Claim("What truncation drops", ("truncation",), "truncation", "proof-built"),
)


def verdict_section(proof: Proof, measured: Measured) -> Section:
    """The section before section 1."""
    shown = Shown(proof)
    rows = [_row(claim, found, proof) for claim in _CLAIMS if (found := shown.under(*claim.names))]
    rows += [_planted(proof), _numbers(measured)]
    if proof.hypotheses:
        rows.append(_conditions(proof))
    table = Table((("what was shown",), ("verdict",), ("how far",), ("where",)), tuple(rows), "llll")
    blocks: list[Block] = [Paragraph(_lead(proof, measured), "lead"), table, Paragraph(_how_to_read())]
    return Section("What was shown", "verdict", tuple(blocks))


def _how_to_read() -> Parts:
    return (
        "Every step below has a number. With its equation stand the steps and rules that it rests on, and what was"
        " shown about it; both lead there. Each is also written out entry by entry, with 2 for every size. ",
        Math(r"\mathrm{d}v"),
        " is the derivative of the loss by ",
        Math("v"),
        ".",
    )


def _lead(proof: Proof, measured: Measured) -> Parts:
    if proof.refuted or measured.ok is False:
        return _refuted(proof, measured)
    if not proof.holds:
        return (
            "The derivation below is not proven: nothing was found to be wrong, but not everything that has to be shown"
            " was within the budget. The rows that are not done say what is missing.",
        )
    return _proven(proof, measured)


def _proven(proof: Proof, measured: Measured) -> Parts:
    letters = ("T", "B", *proof.derivation.cell.dimensions)
    conditions: Parts = (
        ("Under ", Link(("the conditions on the cell",), "conditions"), ", the") if proof.hypotheses else ()
    )
    return (
        *(conditions or ("The",)),
        " recursion derived in ",
        *_steps(proof),
        " is the gradient of the loss, for all sizes ",
        *joined([(Math(name_latex(letter)),) for letter in letters]),
        f". The checks that show it reject all {proof.score.planted} wrong derivations that were planted",
        *_agreement(measured),
        ".",
    )


def _agreement(measured: Measured) -> Parts:
    if measured.check is None:
        return ()
    exact = [r.error for r in measured.check.rows if is_exact(r)]
    if not exact:
        return (", and the numbers that the engine computes agree",)
    return (", and what the engine computes agrees with independent methods to ", scientific(max(exact)))


def _refuted(proof: Proof, measured: Measured) -> Parts:
    failed = [o.name for o in proof.obligations if o.holds is False]
    said = []
    if failed:
        said.append(f"{len(failed)} of {len(proof.obligations)} obligations fail, the first of them {failed[0]}")
    if proof.score.missed:
        said.append(f"{len(proof.score.missed)} planted mistakes were not rejected")
    if measured.ok is False:
        said.append(
            measured.reason if measured.failed else "the engine's numbers differ from those of independent methods"
        )
    return (
        "Do not rely on the derivation below: " + "; ".join(said) + ". The rows marked below lead to what is wrong.",
    )


def _steps(proof: Proof) -> Parts:
    numbers = [s.number for s in proof.derivation.steps if s.obligation.startswith("P3/")]
    if not numbers:
        return ("this report",)
    return "steps ", step_link(min(numbers)), " to ", step_link(max(numbers))


def _row(claim: _Claim, found: Sequence[Obligation], proof: Proof) -> tuple[Parts, ...]:
    steps = [s.number for s in proof.derivation.steps if s.obligation.startswith(claim.steps)]
    where: list[Parts] = [(step_link(steps[0]),)] if steps else []
    where.append((Link(("proof",), claim.anchor),))
    return (claim.text,), (_verdict(found),), _how_far(found), joined(where)


def _verdict(found: Sequence[Obligation]) -> Mark:
    failed = sum(o.holds is False for o in found)
    if failed:
        return Mark("fails", f"{failed} of {len(found)} fail")
    done = sum(o.holds is True for o in found)
    if done < len(found):
        enough = done and all(o.holds for o in found if o.needed)
        return Mark("holds" if enough else "open", f"{done} of {len(found)} hold, the rest not done")
    return Mark("holds", "holds")


def _how_far(found: Sequence[Obligation]) -> Parts:
    return ("; ".join(levels(found)) or "nothing",)


def _planted(proof: Proof) -> tuple[Parts, ...]:
    score = proof.score
    mark = Mark("fails" if score.missed else "holds", f"{score.caught} of {score.planted}")
    return (
        ("Wrong derivations are rejected",),
        (mark,),
        ("every known mistake, at every place",),
        (Link(("score",), "planted"),),
    )


def _numbers(measured: Measured) -> tuple[Parts, ...]:
    text, where = ("The engine computes these gradients",), (Link(("numbers",), "numbers"),)
    if measured.check is None:
        return text, (not_done(measured),), (measured.reason,), where
    largest = max((r for r in worst(measured.check).values() if is_exact(r)), key=lambda r: r.error, default=None)
    far: Parts = ("measured", *((", worst error ", scientific(largest.error)) if largest else ()))
    return text, (check_summary(measured.check),), far, where


def _conditions(proof: Proof) -> tuple[Parts, ...]:
    count = len(proof.hypotheses)
    said = f"{count} condition{'s' if count > 1 else ''}"
    return (
        ("The cell is defined and differentiable",),
        (Mark("open", said),),
        ("assumed, not shown",),
        (Link(("conditions",), "conditions"),),
    )
