"""The figures of a report, each with what to conclude, what is drawn, and the numbers behind it."""

from reports.parts.pictures.differences import differences
from reports.parts.pictures.growth import growth
from reports.parts.pictures.mistakes import mistakes
from reports.parts.pictures.reach import flow, spectrum
from reports.parts.pictures.truncation import truncation
from reports.parts.pictures.unrolled import unrolled
from reports.parts.pictures.whole import KEYS, pictures

__all__ = ["KEYS", "differences", "flow", "growth", "mistakes", "pictures", "spectrum", "truncation", "unrolled"]
