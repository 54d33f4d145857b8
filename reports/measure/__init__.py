"""What is measured for a report: the cross-check of all gradients, and the numbers of every figure.

Sizes are small, and every number comes from the seed.
"""

from reports.measure.cost import Growth, GrowthPoint
from reports.measure.cross_check import ENTRIES, is_exact
from reports.measure.differences import Differences
from reports.measure.mistakes import Revealed
from reports.measure.problem import BATCH, STEPS, recurrent_matrices, sizes_of, square_matrices
from reports.measure.reach import FLOW_STEPS, Curve, entries_of
from reports.measure.truncation import Truncation
from reports.measure.whole import Measured, check, measure

__all__ = [
    "BATCH",
    "ENTRIES",
    "FLOW_STEPS",
    "STEPS",
    "Curve",
    "Differences",
    "Growth",
    "GrowthPoint",
    "Measured",
    "Revealed",
    "Truncation",
    "check",
    "entries_of",
    "is_exact",
    "measure",
    "recurrent_matrices",
    "sizes_of",
    "square_matrices",
]
