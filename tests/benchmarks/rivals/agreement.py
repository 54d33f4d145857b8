"""Before anything is timed: all contenders compute the same gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["TOLERANCE", "DisagreementError", "check_same", "difference"]

#: The norm of the difference by the norm of the gradient, parameter by parameter.
TOLERANCE = {"float64": 1e-11, "float32": 3e-4}


class DisagreementError(Exception):
    """A rival computes something else; what it takes for that says nothing."""


def difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> tuple[float, str]:
    """The largest relative difference of a parameter's gradient, and the parameter; parameters must be the same."""
    if set(found) != set(expected):
        raise DisagreementError(f"gradients of {sorted(found)}; expected {sorted(expected)}")
    return max((_relative(np.asarray(found[name]), np.asarray(expected[name])), name) for name in expected)


def _relative(a: Any, b: Any) -> float:
    if a.shape != b.shape or a.dtype != b.dtype:
        raise DisagreementError(f"a gradient of shape {a.shape}, {a.dtype}; expected {b.shape}, {b.dtype}")
    error = np.linalg.norm(a.astype(float) - b) / np.linalg.norm(b.astype(float))
    return float(error) if np.isfinite(error) else float("inf")


def check_same(name: str, found: Mapping[str, Any], expected: Mapping[str, Any], dtype: str) -> float:
    """The largest relative difference.  Raises DisagreementError above the tolerance."""
    error, parameter = difference(found, expected)
    if error > TOLERANCE[dtype]:
        raise DisagreementError(
            f"{name}: dL/d{parameter} is off by {error:.1e} of its norm, tolerance {TOLERANCE[dtype]}"
        )
    return error
