"""Cross-checks: the engine's gradient against independent ways to the same number.

    unfused program       the derived program run node by node
    forward mode          tangents carried forward in time (real-time recurrent learning), one entry at a time
    complex step          Im L(theta + i h) / h with h = 1e-30: no cancellation, no derivation
    Richardson            central differences at h and h/2, extrapolated: needs nothing, has the fewest digits

An error is given relative to the magnitude of the gradient: the largest that an entry would be if no two terms of one
step cancelled.  A gradient that cancels to nothing still carries the rounding of what cancelled.

For the complex step: J. N. Lyness, C. B. Moler, "Numerical differentiation of analytic functions", SIAM Journal on
Numerical Analysis 4 (1967) 202-210, and W. Squire, G. Trapp, "Using complex variables to estimate derivatives of real
functions", SIAM Review 40 (1998) 110-112.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Unpack

import numpy as np

from numeric.arguments import check_known
from numeric.engine import Engine
from numeric.losses import evaluate_loss
from numeric.problem import Options, check_problem
from numeric.specification import Specification, by_name

__all__ = ["CheckRow", "CrossCheck", "check_gradients"]

Index = tuple[int, ...]

#: The error that each method may have, in units of the gradient's magnitude: 2^-40 for those that work to rounding.
LIMITS = {"unfused program": 2.0**-40, "forward mode": 2.0**-40, "complex step": 2.0**-40, "Richardson": 1e-6}


@dataclass(frozen=True)
class CheckRow:
    """One tensor by one method: the worst entry looked at, both values there, and the error against ``limit``."""

    parameter: str
    method: str
    error: float
    limit: float
    worst: tuple[int, ...]
    value: float
    engine: float
    entries: int

    @property
    def ok(self) -> bool:
        """Whether the error is within the method's accuracy."""
        return self.error <= self.limit


@dataclass(frozen=True)
class CrossCheck:
    """The table of all methods and tensors; ``reference`` is what they are compared to."""

    rows: tuple[CheckRow, ...]
    methods: tuple[str, ...]
    reference: str = "engine"

    @property
    def ok(self) -> bool:
        """Whether every row is within its limit."""
        return bool(self.rows) and all(row.ok for row in self.rows)

    def __str__(self) -> str:
        names = list(dict.fromkeys(row.parameter for row in self.rows))
        of = {(row.parameter, row.method): row for row in self.rows}
        width = max(map(len, [*names, "gradient by"]))
        lines = [f"{'gradient by':{width}}  " + "  ".join(f"{m:>15}" for m in self.methods)]
        for name in names:
            cells = [of.get((name, m)) for m in self.methods]
            shown = ("-" if c is None else f"{c.error:.1e}{'' if c.ok else ' WRONG'}" for c in cells)
            lines.append(f"{name:{width}}  " + "  ".join(f"{text:>15}" for text in shown))
        limits = ", ".join(f"{m} {LIMITS[m]:.1e}" for m in self.methods)
        return "\n".join([*lines, f"worst error relative to the gradient's magnitude; limits: {limits}"])

    def to_json(self) -> dict[str, Any]:
        """The table as plain data."""
        return {"ok": self.ok, "reference": self.reference, "rows": [asdict(row) | {"ok": row.ok} for row in self.rows]}


def check_gradients(
    engine: Engine,
    params: Mapping[str, Any],
    inputs: Any = None,
    targets: Any = None,
    *,
    entries: int = 12,
    seed: int = 0,
    methods: tuple[str, ...] = tuple(LIMITS),
    **options: Unpack[Options],
) -> CrossCheck:
    """Compare an engine's gradients by parameters, inputs and initial states with independent methods.

    The loss's arguments are those of :meth:`Engine.backward`.  Of each tensor ``entries`` entries, drawn by ``seed``,
    are looked at (all, where there are fewer); the unfused program is compared in every entry.  The engine must compute
    in float64.  Raises ValueError and TypeError as the engine does, and ValueError for an unknown method.
    """
    if str(engine.dtype) != "float64":
        raise ValueError(f"check_gradients looks at float64 engines; found {engine.dtype}")
    check_known("method", methods, LIMITS)
    if entries < 1:
        raise ValueError(f"entries is {entries}; expected at least 1")
    work = _Work(engine, params, inputs, targets, options)
    rows = []
    for name, point in work.tensors.items():
        chosen = _sample(name, point.shape, entries, seed)
        rows += [work.row(name, method, chosen) for method in methods]
    return CrossCheck(tuple(rows), tuple(methods))


def _sample(name: str, shape: tuple[int, ...], entries: int, seed: int) -> list[Index]:
    every = list(np.ndindex(*shape))
    if len(every) <= entries:
        return every
    random = np.random.default_rng([seed, len(every), *name.encode()])
    return [every[i] for i in sorted(random.choice(len(every), entries, replace=False))]


class _Work:
    """The point, the engine's gradients there, and every method's way to one entry."""

    def __init__(self, engine: Engine, params: Mapping[str, Any], inputs: Any, targets: Any, options: Options) -> None:
        self.engine, self.targets = engine, targets
        problem = check_problem(engine.cell, engine.dtype, params, inputs, targets, options)
        data = self.data = problem.data
        self.tensors = by_name(data.params, data.inputs, data.initial)
        self.options = options | {"steps": data.steps, "batch": data.batch}
        result = engine.backward(params, inputs, targets, **options)
        self.gradients = by_name(result.params, result.inputs, result.initial)
        self.local = evaluate_loss(problem.loss, result.outputs)[1]
        self.specification = Specification(engine.cell)
        self.complex = Engine(engine.cell, "complex128")
        plain = self.specification.backward(params, inputs, targets, **options)
        self.plain, self.magnitude = by_name(plain.params, plain.inputs, plain.initial), plain.magnitude

    def loss(self, engine: Engine, name: str, index: Index, step: complex) -> Any:
        """The loss with one entry moved."""
        point = {n: v.astype(engine.dtype) for n, v in self.tensors.items()}
        point[name][index] += step
        initial = {n: point[f"{n}0"] for n in self.data.initial}
        params, inputs = ({n: point[n] for n in names} for names in (self.data.params, self.data.inputs))
        return engine.value_and_grad(params, inputs, self.targets, **(self.options | {"initial": initial}))[0]

    # ------------------------------------------------------------------------------------------------------ the methods

    def unfused(self, name: str, index: Index) -> float:
        """The derived program, run node by node."""
        return float(self.plain[name][index])

    def complex_step(self, name: str, index: Index) -> float:
        """Im L(theta + i h) / h."""
        h = 1e-30
        return self.loss(self.complex, name, index, 1j * h).imag / h

    def richardson(self, name: str, index: Index) -> float:
        """Central differences at h, h/2 and h/4, extrapolated twice."""
        h = 2.0**-10 * max(1.0, 2.0 ** np.ceil(np.log2(max(abs(self.tensors[name][index]), 1e-300))))

        def central(step: float) -> float:
            return (self.loss(self.engine, name, index, step) - self.loss(self.engine, name, index, -step)) / (2 * step)

        coarse, middle, fine = (central(h / 2**k) for k in range(3))
        first, second = (4 * middle - coarse) / 3, (4 * fine - middle) / 3
        return (16 * second - first) / 15

    def forward_mode(self, name: str, index: Index) -> float:
        """<dL/d(outputs and states), their tangents>."""
        direction = np.zeros(self.tensors[name].shape)
        direction[index] = 1.0
        data = self.data
        dot = self.specification.tangent(
            data.params,
            data.inputs,
            {name: direction},
            data.initial,
            data.lengths,
            steps=data.steps,
            batch=data.batch,
        )
        return float(sum((g * dot[n]).sum() for n, g in self.local.items()))

    # -------------------------------------------------------------------------------------------------------- the table

    def row(self, name: str, method: str, chosen: list[Index]) -> CheckRow:
        """The worst entry of one tensor by one method."""
        indices = list(np.ndindex(*self.tensors[name].shape)) if method == "unfused program" else chosen
        own = np.array([self.gradients[name][index] for index in indices])
        other = np.array([_METHODS[method](self, name, index) for index in indices])
        scale = self.magnitude[name].max()
        difference = np.abs(other - own)
        error = difference / scale if scale else np.where(difference == 0, 0, np.inf)
        error[np.isnan(error)] = np.inf
        k = int(error.argmax())
        return CheckRow(
            name, method, float(error[k]), LIMITS[method], indices[k], float(other[k]), float(own[k]), len(indices)
        )


_METHODS: dict[str, Callable[[_Work, str, Index], float]] = {
    "unfused program": _Work.unfused,
    "forward mode": _Work.forward_mode,
    "complex step": _Work.complex_step,
    "Richardson": _Work.richardson,
}
