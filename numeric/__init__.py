"""What runs: the engine that is generated from a proven derivation, and what checks it.

NumPy; everything a user needs is named here.
"""

from numeric.check import CheckRow, CrossCheck, check_gradients
from numeric.engine import Engine, Result
from numeric.fit import Fit, fit
from numeric.fit_error import FitError
from numeric.flow import Flow, flow
from numeric.optimize import SGD, Adam, Optimizer, UpdateState, clip_by_norm, clip_by_value
from numeric.regimes import (
    REGIMES,
    fixed_point,
    norm_bound,
    theoretical_rate,
    with_orthogonal,
    with_spectral_radius,
)
from numeric.run_backward import FileResult, run_backward
from numeric.spectra import JacobianProduct, jacobian_product, lyapunov

__all__ = [
    "REGIMES",
    "SGD",
    "Adam",
    "CheckRow",
    "CrossCheck",
    "Engine",
    "FileResult",
    "Fit",
    "FitError",
    "Flow",
    "JacobianProduct",
    "Optimizer",
    "Result",
    "UpdateState",
    "check_gradients",
    "clip_by_norm",
    "clip_by_value",
    "fit",
    "fixed_point",
    "flow",
    "jacobian_product",
    "lyapunov",
    "norm_bound",
    "run_backward",
    "theoretical_rate",
    "with_orthogonal",
    "with_spectral_radius",
]
