"""What runs: the engine that is generated from a proven derivation, and what checks it.

NumPy; everything a user needs is named here.
"""

from numeric.engine import Engine, Result

__all__ = ["Engine", "Result"]
