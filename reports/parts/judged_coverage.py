"""What was judged and what was not: cases, what was declined, what no case could show, and what it all rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from numeric.noise import LIMIT
from numeric.oracle.case import Case
from numeric.oracle.criterion import worst
from numeric.oracle.features import FEATURES, SET_FEATURES
from numeric.oracle.verdict import Verdict
from reports.document import Block, Code, Formula, Items, Local, Paragraph, Parts, Section, Table, seconds
from reports.parts.basis import versions
from reports.parts.foreign import foreign
from reports.parts.judged_tensors import mark_of, noise_units

__all__ = ["coverage_section"]

_FORMULA = rf"\left| g - g^{{\ast}} \right| \le {LIMIT:g} \, u \, \sigma' + r"
_SAYS = {f.name: f.says for f in FEATURES} | SET_FEATURES


def coverage_section(verdict: Verdict, cases: Mapping[str, Case]) -> Section:
    """The last section of a verdict."""
    parts = [Section("Cases", "cases", tuple(_cases(verdict, cases)))]
    if verdict.declined:
        parts.append(Section("Declined", "declined", (_declined(verdict),)))
    parts.append(Section("Not tested", "untested", tuple(_untested(verdict))))
    if verdict.notes:
        parts.append(Section("Remarks", "remarks", (Items(tuple((foreign(n),) for n in verdict.notes[:40])),)))
    parts.append(Section("When is a number wrong?", "criterion", tuple(_criterion())))
    parts.append(Section("What the verdict rests on", "trusted", (_trusted(), _versions(verdict))))
    return Section("What was judged", "coverage", (), tuple(parts))


def _cases(verdict: Verdict, cases: Mapping[str, Case]) -> Iterator[Block]:
    if not verdict.judged:
        yield Paragraph(("No case was judged.",))
        return
    rows: list[tuple[Parts, ...]] = []
    for name in verdict.judged:
        found = [d for d in verdict.distances if d.case == name]
        status = worst([*(d.status for d in found), *(f.status for f in verdict.findings if f.case == name)])
        most = (noise_units(max(d.units for d in found)),) if found else ("–",)
        case = cases.get(name)
        about = (foreign(case.purpose, 160),) if case else ("",)
        size = (f"{case.T}, {case.B}",) if case else ("",)
        rows.append(((Code(foreign(name, 60)),), about, size, (mark_of(status),), most))
    head = (("case",), ("what it is for",), ("T, B",), ("verdict",), ("units",))
    caption: Parts = (
        "Each was called twice, and once more after the others. The last column is the largest error in noise units.",
    )
    yield Table(head, tuple(rows), "lllll", caption)


def _declined(verdict: Verdict) -> Block:
    reasons: dict[str, list[str]] = {}
    for case, reason in verdict.declined:
        reasons.setdefault(foreign(reason, 120) or "no reason given", []).append(foreign(case, 60))
    rows = tuple(((reason,), (", ".join(names),)) for reason, names in reasons.items())
    return Table((("reason",), ("cases",)), rows, "ll", ("A case that is declined counts neither for nor against.",))


def _untested(verdict: Verdict) -> Iterator[Block]:
    if not verdict.untested:
        yield Paragraph(("Nothing that the default cases can show was left out.",))
        return
    yield Paragraph(("What no judged case had. A mistake that shows only there would not have been seen.",))
    yield Items(tuple((f"{name}: {_SAYS[name]}" if name in _SAYS else name,) for name in verdict.untested))


def _criterion() -> Iterator[Block]:
    yield Formula(_FORMULA)
    yield Paragraph(
        (
            "The exact value is known with a certified radius r. The noise scale says what the rounding of every single"
            " operation does to this very entry: a unit is a typical rounding error of a right program. No"
            " tolerance is chosen. Beyond the limit an error is suspect, and beyond what sums as long as these could"
            " lose at worst it is wrong. What must be exactly zero, such as the gradient of padding, must be so.",
        )
    )


def _trusted() -> Block:
    items = (
        ("the exact values: ball arithmetic (python-flint) on the cell's equations and the derived backward program",),
        ("the derived backward program, which bptt prove proves for this cell",),
        ("the noise scale: measured with noise of a known size at every operation, the same in every run",),
        ("for a name of a mistake: that mistake, run in float64 on every case",),
    )
    return Items(items)


def _versions(verdict: Verdict) -> Block:
    rows: list[tuple[Parts, ...]] = [((name,), (Local(number),)) for name, number in versions().items()]
    rows.append((("time taken",), (seconds(verdict.seconds),)))
    return Table((("program",), ("version",)), tuple(rows), "ll")
