"""What runs: the engine that is generated from a proven derivation, and what checks it.

NumPy; everything a user needs is named here.
"""

from numeric.check import CheckRow, CrossCheck, check_gradients
from numeric.engine import Engine, Result
from numeric.run_backward import FileResult, run_backward

__all__ = ["CheckRow", "CrossCheck", "Engine", "FileResult", "Result", "check_gradients", "run_backward"]
