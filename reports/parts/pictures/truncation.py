"""Truncation in words: that its bias is the sum of the dropped terms, and which length is enough."""

from __future__ import annotations

from collections.abc import Sequence

from derive.derivation import Derivation
from reports.document import Figure, Math, Paragraph, Parts, Quantity, Table
from reports.figures import truncation_figure
from reports.measure import Measured, Truncation
from reports.parts.pictures.absent import absent
from reports.prose import prose, scientific

__all__ = ["truncation"]

EXACT, WANTED = 1e-10, 0.01


def truncation(derivation: Derivation, measured: Measured, seed: int) -> Figure | Paragraph:
    """The bias of truncated gradients against k."""
    study = measured.truncation
    if isinstance(study, str):
        return absent("the bias of truncation", study)
    if not study.drops:
        return absent("the bias of truncation", "truncating loses nothing, for no use is felt at a later step")
    caption = (*_conclusion(study), *_drawn(study, seed))
    return Figure(truncation_figure(study), caption, _alt(study), "truncation-bias", _data(study))


def _conclusion(study: Truncation) -> Parts:
    if study.apart > EXACT:
        first: Parts = (
            "Truncated gradients are not what the dropped terms predict: they differ by ",
            scientific(study.apart),
        )
        return (*first, " of the gradient. ")
    parts: Parts = (
        "What truncation loses is the sum of the dropped terms, no more and no less: the two agree to ",
        scientific(max(study.apart, 1e-17)),
        " of the gradient. ",
    )
    chunks, windows = _enough(study.lengths, study.chunks), _enough(study.lengths, study.windows)
    parts += (
        "To keep the bias below one per cent, each loss must be carried back over ",
        *((Quantity(float(windows), 1.4, ".0f"), " steps") if windows < study.steps else ("all steps",)),
    )
    if chunks == study.steps:
        return (*parts, "; no cut into chunks is good enough, for the first losses of a chunk see next to nothing. ")
    long: Parts = (Quantity(float(chunks), 1.4, ".0f"), " steps")
    return (*parts, ", or the sequence be cut into chunks of ", *long, ", whose first losses see next to nothing. ")


def _enough(lengths: Sequence[int], biases: Sequence[float]) -> int:
    """The shortest of the lengths from which on the bias is small."""
    late = [k for k, b in zip(lengths, biases, strict=True) if b >= WANTED]
    return next((k for k in lengths if not late or k > max(late)), lengths[-1])


def _drawn(study: Truncation, seed: int) -> Parts:
    return (
        "Drawn is ",
        Math(r"\lVert g_k - g \rVert / \lVert g \rVert"),
        " over all parameters, for a random loss at every one of ",
        *prose(f"T = {study.steps}"),
        f" steps (seed {seed}): markers from the engine, truncated and not; lines from the numbers of the single pairs"
        " of a loss and an earlier use, added up without any truncation.",
    )


def _data(study: Truncation) -> Table:
    head: tuple[Parts, ...] = ((Math("k"),), ("chunks",), ("dropped terms",), ("windows",), ("dropped terms",))
    columns = (study.chunks, study.chunks_predicted, study.windows, study.windows_predicted)
    rows: list[tuple[Parts, ...]] = [
        ((str(k),), *((_bias(column[i]),) for column in columns)) for i, k in enumerate(study.lengths)
    ]
    return Table(head, tuple(rows), "rrrrr")


def _bias(value: float) -> Quantity:
    return Quantity(value if value > 1e-13 else 0.0, 1.02)


def _alt(study: Truncation) -> str:
    faster = "; the bias of windows falls faster" if study.windows[6] < study.chunks[6] / 2 else ""
    return (
        "Chart, logarithmic vertical axis: relative bias of the truncated gradient against the truncation length k"
        f" from 1 to {study.steps}, for chunks and for windows. The markers lie on the lines of the dropped"
        f" terms{faster}."
    )
