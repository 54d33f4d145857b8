"""What runs: the engine that is generated from a proven derivation, and what checks it.

NumPy; everything a user needs is named here.
"""

from numeric.check import CheckRow, CrossCheck, check_gradients
from numeric.dot_product import check_dot_product
from numeric.engine import Engine, Result
from numeric.fit import Fit, fit
from numeric.fit_error import FitError
from numeric.flow import Flow, flow
from numeric.forward_mode import jvp
from numeric.memory import MemoryPlan
from numeric.noise import noise_scale
from numeric.nonfinite import Nonfinite, first_nonfinite
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
from numeric.sensitivity import rtrl
from numeric.shard import ShardedEngine, ShardError, shard
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
    "MemoryPlan",
    "Nonfinite",
    "Optimizer",
    "Result",
    "ShardError",
    "ShardedEngine",
    "UpdateState",
    "check_dot_product",
    "check_gradients",
    "clip_by_norm",
    "clip_by_value",
    "first_nonfinite",
    "fit",
    "fixed_point",
    "flow",
    "jacobian_product",
    "jvp",
    "lyapunov",
    "noise_scale",
    "norm_bound",
    "rtrl",
    "run_backward",
    "shard",
    "theoretical_rate",
    "with_orthogonal",
    "with_spectral_radius",
]
