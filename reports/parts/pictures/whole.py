"""Every figure of a report by its key."""

from __future__ import annotations

from derive.derivation import Derivation
from reports.document import Figure, Paragraph
from reports.measure import Measured
from reports.parts.pictures.differences import differences
from reports.parts.pictures.growth import growth
from reports.parts.pictures.mistakes import mistakes
from reports.parts.pictures.reach import flow, spectrum
from reports.parts.pictures.truncation import truncation
from reports.parts.pictures.unrolled import unrolled

__all__ = ["KEYS", "pictures"]

KEYS = ("unrolled", "flow", "spectrum", "truncation", "differences", "cost", "mistakes")


def pictures(derivation: Derivation, measured: Measured, seed: int) -> dict[str, Figure | Paragraph]:
    """All figures of :data:`KEYS`; a note where one makes no sense for the cell, or was not measured."""
    return {
        "unrolled": unrolled(derivation),
        "flow": flow(derivation, measured, seed),
        "spectrum": spectrum(derivation, measured, seed),
        "truncation": truncation(derivation, measured, seed),
        "differences": differences(derivation, measured, seed),
        "cost": growth(derivation, measured, seed),
        "mistakes": mistakes(derivation, measured),
    }
