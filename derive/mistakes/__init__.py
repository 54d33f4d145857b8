"""Known wrong derivations: the catalogue, as edits of a derivation, of a loss, of a sum over time or of the time loop.

An edit is found by the shape of the derivation, so a mistake applies to any cell that has the edited part.
"""

from derive.mistakes.loop import LoopMistake
from derive.mistakes.sums import LOSS_EDITS, STEPS, SUM_EDITS, LossEdit, SumEdit
from derive.mistakes.table import (
    CATALOGUE,
    LOOP_MISTAKES,
    MISTAKES,
    Mistake,
    Planted,
    Row,
    applies,
    kinds,
    plant,
    sentence,
)

__all__ = [
    "CATALOGUE",
    "LOOP_MISTAKES",
    "LOSS_EDITS",
    "MISTAKES",
    "STEPS",
    "SUM_EDITS",
    "LoopMistake",
    "LossEdit",
    "Mistake",
    "Planted",
    "Row",
    "SumEdit",
    "applies",
    "kinds",
    "plant",
    "sentence",
]
