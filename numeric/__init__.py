"""What runs: the engine that is generated from a proven derivation, and what checks it.

NumPy; everything a user needs is named here.
"""

from numeric.check import CheckRow, CrossCheck, check_gradients
from numeric.engine import Engine, Result

__all__ = ["CheckRow", "CrossCheck", "Engine", "Result", "check_gradients"]
