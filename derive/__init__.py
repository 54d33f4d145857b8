"""What is true: a recurrent cell's equations, its BPTT derivation and the proof that the derivation is right.

SymPy only, no arrays.  Everything a user needs is named here.
"""

from derive.cell import Cell
from derive.errors import CellError
from derive.notation import FUNCTIONS, at, lin, parameter, transpose
from derive.parse import cells, load, parse

__all__ = [
    "FUNCTIONS",
    "Cell",
    "CellError",
    "at",
    "cells",
    "lin",
    "load",
    "parameter",
    "parse",
    "transpose",
]
