"""Difference quotients in words: how many digits each has at its best step, and that the complex step has them all."""

from __future__ import annotations

import numpy as np

from derive.derivation import Derivation
from reports.document import Figure, Math, Paragraph, Parts, Quantity, Table
from reports.figures import differences_figure
from reports.measure import Differences, Measured
from reports.parts.pictures.absent import absent

__all__ = ["differences"]

SPREAD = 1e5  # rounding errors of one computation may be that far apart: one of them may be zero by accident
SMALL, ALL_DIGITS = 1e-8, 1e-12


def differences(derivation: Derivation, measured: Measured, seed: int) -> Figure | Paragraph:
    """The errors of three numerical derivatives against the step size."""
    study = measured.differences
    if isinstance(study, str):
        return absent("the errors of numerical derivatives", study)
    caption = (*_conclusion(study), *_drawn(study, seed))
    alt = (
        "Chart with logarithmic axes: relative error against the step size from 1e-15 to 1. Central differences and"
        " Richardson extrapolation each fall and rise again like the letter V, Richardson's lower and further to the"
        " right; the complex step falls to rounding as the step shrinks, and stays there."
    )
    return Figure(differences_figure(study), caption, alt, "difference-errors", _data(study))


def _conclusion(study: Differences) -> Parts:
    small = np.array(study.steps) <= SMALL
    exact = bool((study.complex_step[small] < ALL_DIGITS).all())
    best: Parts = (
        "the best central difference is off by ",
        Quantity(float(np.nanmin(study.central)), SPREAD),
        ", the best extrapolation by ",
        Quantity(float(np.nanmin(study.richardson)), SPREAD),
        ", and only at the right step. ",
    )
    if exact and not _truncates(study):
        return ("The complex step has every digit at any small step; differences have them only at large ones: ", *best)
    if not exact:
        return ("No step size suits every method: ", *best)
    return ("The complex step has every digit at any small step; differences never do: ", *best)


def _truncates(study: Differences) -> bool:
    """Whether too large a step is seen to be one: along a line on which the loss is a parabola, no step is."""
    return study.curvature > 0


def _drawn(study: Differences, seed: int) -> Parts:
    large: Parts = (
        "Too large a step truncates (",
        Math("h^2"),
        ", with one extrapolation ",
        Math("h^4"),
        "), too small a one cancels",
    )
    return (
        "Drawn is the error of a derivative of the loss along a random direction through all ",
        study.along,
        f", relative to the derived gradient (seed {seed}). ",
        *(large if _truncates(study) else ("Too small a step cancels",)),
        ": the rounding ",
        Math(r"u \, |\mathcal{L}|"),
        " of the loss is divided by ",
        Math("h"),
        ". The complex step ",
        Math(r"\operatorname{Im} \mathcal{L}(\mathrm{i} h) / h"),
        " subtracts nothing.",
    )


def _data(study: Differences) -> Table:
    head: tuple[Parts, ...] = ((Math("h"),), ("central",), ("Richardson",), ("complex step",))
    columns = (study.central, study.richardson, study.complex_step)
    rows: list[tuple[Parts, ...]] = [
        ((Math(rf"10^{{{round(np.log10(h), 1):g}}}"),), *((Quantity(float(x[i]), SPREAD),) for x in columns))
        for i, h in enumerate(study.steps)
        if i % 2 == 0
    ]
    return Table(
        head, tuple(rows), "rrrr", ("Relative errors; nothing below half a unit in the last place is told apart.",)
    )
