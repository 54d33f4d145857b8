"""What is true: a recurrent cell's equations, its BPTT derivation and the proof that the derivation is right.

SymPy only, no arrays.  Everything a user needs is named here.
"""

from derive.cell import Cell
from derive.derivation import Derivation, Step, differentiate
from derive.errors import CellError
from derive.notation import FUNCTIONS, at, lin, parameter, transpose
from derive.parse import cells, load, parse
from derive.prove import Obligation, Proof, Score, prove
from derive.verify import Verification, VerifiedLine, verify

__all__ = [
    "FUNCTIONS",
    "Cell",
    "CellError",
    "Derivation",
    "Obligation",
    "Proof",
    "Score",
    "Step",
    "Verification",
    "VerifiedLine",
    "at",
    "cells",
    "differentiate",
    "lin",
    "load",
    "parameter",
    "parse",
    "prove",
    "transpose",
    "verify",
]
