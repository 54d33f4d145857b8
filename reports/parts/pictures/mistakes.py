"""Which case reveals which mistake, in words: that one case is not enough, and what each is there for."""

from __future__ import annotations

from derive.derivation import Derivation
from reports.document import Code, Figure, Paragraph, Parts, Table
from reports.figures import mistakes_figure
from reports.measure import Measured, Revealed
from reports.parts.pictures.absent import absent
from reports.prose import joined

__all__ = ["mistakes"]


def mistakes(derivation: Derivation, measured: Measured) -> Figure | Paragraph:
    """The matrix of mistakes and cases."""
    study = measured.revealed
    if isinstance(study, str):
        return absent("which case reveals which mistake", study)
    caption = (*_conclusion(study), *_drawn(study))
    hides = ", ".join(f"{name} {n}" for name, n in zip(study.cases, (study.shows == 0).sum(axis=0), strict=True))
    alt = (
        f"Matrix of {len(study.mistakes)} known mistakes and {len(study.cases)} cases. How many mistakes stay hidden in"
        f" each case: {hides}. {len(study.certain)} mistakes show in every case in which they can be made."
    )
    return Figure(mistakes_figure(study), caption, alt, "mistakes-revealed", _data(study))


def _uncertain(study: Revealed) -> list[tuple[int, str]]:
    certain = set(study.certain)
    return [(i, m) for i, m in enumerate(study.mistakes) if m not in certain]


def _quiet(study: Revealed, i: int) -> list[str]:
    return [c for c, shows in zip(study.cases, study.shows[i], strict=True) if shows == 0]


def _conclusion(study: Revealed) -> Parts:
    """Which cases let most pass, and whether one of them shows all."""
    total, hides = len(study.mistakes), (study.shows == 0).sum(axis=0)
    worst = sorted(range(len(study.cases)), key=lambda k: (-hides[k], k))[:2]
    said: list[Parts] = [(Code(study.cases[k]), f" {hides[k]}") for k in worst if hides[k]]
    if not said:
        return (f"Every one of these cases reveals each of {total} known mistakes that can be made in it. ",)
    complete = [name for name, column in zip(study.cases, study.shows.T, strict=True) if (column == 1).all()]
    last: Parts = (Code(complete[0]), " shows all. ") if complete else ("no case shows all. ",)
    if study.hidden:
        last = (*joined([(Code(m),) for m in study.hidden], last=" and "), " pass all of these cases. ")
    return (
        f"A case that lacks something lets mistakes pass. Of {total} that are known, stay hidden in ",
        *joined(said, last=" and "),
        "; ",
        *last,
    )


def _drawn(study: Revealed) -> Parts:
    return (
        "A square: what the mistake computes differs from the exact gradient by more than rounding can explain; a ring:"
        " it does not, and an implementation with that mistake would pass; nothing: the case has another loss. One of"
        " the oracle's cases for each purpose, and one place of each known mistake.",
    )


def _data(study: Revealed) -> Table:
    rows: list[tuple[Parts, ...]] = []
    for i, name in _uncertain(study):
        hidden: Parts = joined([(Code(c),) for c in _quiet(study, i)]) or ("nowhere",)
        rows.append(((Code(name),), (study.sentences[i],), hidden))
    if study.certain:
        others = joined([(Code(m),) for m in study.certain])
        rows.append((others, ("each of these",), ("nowhere",)))
    head: tuple[Parts, ...] = (("mistake",), ("what is done",), ("stays hidden in",))
    return Table(head, tuple(rows), "lll")
