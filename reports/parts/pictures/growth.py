"""Cost in words: how work and memory grow with the number of steps."""

from __future__ import annotations

from sympy import Poly, latex

from derive.cost import size_symbol
from derive.derivation import Derivation
from reports.document import Figure, Math, Paragraph, Parts, Quantity, Table
from reports.figures import growth_figure
from reports.measure import Growth, Measured
from reports.parts.pictures.absent import absent
from reports.prose import prose

__all__ = ["growth"]


def growth(derivation: Derivation, measured: Measured, seed: int) -> Figure | Paragraph:
    """Time and memory against T."""
    study = measured.growth
    if isinstance(study, str):
        return absent("time and memory", study)
    caption = (*_conclusion(derivation), *_drawn(derivation, study, seed))
    first, last = study.points[0], study.points[-1]
    alt = (
        f"Two charts with logarithmic axes against T from {first.steps} to {last.steps}: milliseconds of one gradient"
        " beside the line of the counted operations, and megabytes held beside the line of the numbers that the"
        " backward pass needs. Both grow in proportion to T."
    )
    return Figure(growth_figure(study), caption, alt, "time-and-memory", _data(study))


def _conclusion(derivation: Derivation) -> Parts:
    """What the polynomials say, exactly."""
    cost, T = derivation.cost, size_symbol("T")
    if cost.stored == 0:
        work: Parts = ("Twice the steps cost twice the work: the count is linear in ", Math("T"))
        return (*work, ". No memory has to grow with it: the backward pass reads no number of the forward pass. ")
    degrees = {Poly(e, T).degree() for e in (cost.forward + cost.backward, cost.stored) if e != 0}
    if degrees <= {1}:
        return ("Twice the steps cost twice the work and twice the memory: both counts are linear in ", Math("T"), ". ")
    return ("Work and memory grow as the counts say. ",)


def _drawn(derivation: Derivation, study: Growth, seed: int) -> Parts:
    cost = derivation.cost
    sizes = ", ".join(f"{letter} = {n}" for letter, n in study.sizes.items())
    kept: Parts = ("; nothing is kept, and what the engine held is its results and what it works in.",)
    if cost.stored != 0:
        kept = (
            "; and ",
            Math(latex(cost.stored)),
            " numbers that the backward pass reads, at 8 bytes. The engine held ",
            Quantity(study.share, 1.6, ".1f"),
            " times as much, for its results and what it works in.",
        )
    return (
        "Markers: one gradient at ",
        *prose(sizes),
        f" (seed {seed}), the best of a few runs, and the most that it held. Lines: the count of operations, of which"
        " the matrix products make ",
        Math(latex(cost.forward + cost.backward)),
        ", at the one rate of the longest sequence (short ones also pay for the call)",
        *kept,
    )


def _data(study: Growth) -> Table:
    head: tuple[Parts, ...] = ((Math("T"),), ("operations",), ("time",), ("numbers kept",), ("bytes held",))
    rows = tuple(
        (
            (str(p.steps),),
            (f"{p.work:,}",),
            (Quantity(1e3 * p.seconds, float("inf"), ".2f"), " ms"),
            (f"{p.stored:,}",),
            (Quantity(float(p.bytes), 1.6),),
        )
        for p in study.points
    )
    return Table(head, rows, "rrrrr")
