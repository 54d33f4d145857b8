"""Cross-checks: the engine's gradient against independent ways to the same number.

    unfused program       the derived program run node by node
    forward mode          tangents carried forward in time (real-time recurrent learning), one entry at a time
    complex step          Im L(theta + i h) / h with h = 1e-30: no cancellation, no derivation
    Richardson            central differences at h and h/2, extrapolated: needs nothing, has the fewest digits

An error is given relative to the largest sum of absolute terms that an entry of the gradient is made of (its magnitude),
because a gradient that cancels to nothing still carries the rounding of what cancelled.
J. N. Lyness, C. B. Moler, "Numerical differentiation of analytic functions", SIAM Journal on Numerical Analysis 4 (1967)
202-210, and W. Squire, G. Trapp, "Using complex variables to estimate derivatives of real functions", SIAM Review 40 (1998)
110-112, for the complex step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from numeric.arguments import Array
from numeric.engine import Engine
from numeric.losses import check_loss
from numeric.specification import Specification

__all__ = ["CheckRow", "CrossCheck", "check_gradients"]

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
    **options: Any,
) -> CrossCheck:
    """Compare an engine's gradients by parameters, inputs and initial states with independent methods.

    The loss's arguments are those of :meth:`Engine.backward`.  Of each tensor ``entries`` entries, drawn by ``seed``, are
    looked at (all, where there are fewer); the unfused program is compared in every entry.  The engine must compute in
    float64.  Raises ValueError as the engine does, and for an unknown method.
    """
    if str(engine.dtype) != "float64":
        raise ValueError(f"check_gradients looks at float64 engines; found {engine.dtype}")
    unknown = [m for m in methods if m not in LIMITS]
    if unknown:
        raise ValueError(f"unknown method {unknown[0]!r}; expected any of {', '.join(LIMITS)}")
    work = _Work(engine, params, inputs, targets, options)
    rows: list[CheckRow] = []
    for name, point in work.tensors.items():
        chosen = _sample(name, point.shape, entries, seed)
        for method in methods:
            rows.append(work.row(name, method, chosen))
    return CrossCheck(tuple(rows), methods)


def _sample(name: str, shape: tuple[int, ...], entries: int, seed: int) -> list[tuple[int, ...]]:
    every = list(np.ndindex(*shape))
    if len(every) <= entries:
        return every
    random = np.random.default_rng([seed, len(every), *name.encode()])
    return [every[i] for i in sorted(random.choice(len(every), entries, replace=False))]


class _Work:
    """The point, the engine's gradients there, and every method's way to one entry."""

    def __init__(
        self, engine: Engine, params: Mapping[str, Any], inputs: Any, targets: Any, options: dict[str, Any]
    ) -> None:
        self.engine, self.targets, self.options = engine, targets, dict(options)
        cell = engine.cell
        self.result = engine.backward(params, inputs, targets, **options)
        initial = self.options.pop("initial", None) or {}
        self.params = {n: np.asarray(v, np.float64) for n, v in params.items()}
        raw = inputs if isinstance(inputs, Mapping) else {cell.inputs[0]: inputs} if cell.inputs else {}
        self.inputs = {n: np.asarray(v, np.float64) for n, v in raw.items()}
        self.initial = {n: np.asarray(initial.get(n, np.zeros_like(self.result.initial[n]))) for n in cell.states}
        self.specification = Specification(cell, backward=None)
        self.complex = Engine(cell, "complex128")
        self.plain = self.specification.backward(
            self.params, self.inputs, targets, initial=self.initial, **self.options
        )
        self.magnitude = {n: float(m.max(initial=0)) for n, m in self.specification.magnitude.items()}
        starts = {f"{n}0": v for n, v in self.initial.items()}
        self.tensors: dict[str, Array] = {**self.params, **self.inputs, **starts}

    def gradient(self, result: Any, name: str) -> Array:
        if name in self.params:
            return result.params[name]
        return result.inputs[name] if name in self.inputs else result.initial[name[:-1]]

    def loss(self, engine: Engine, name: str, index: tuple[int, ...], step: complex) -> Any:
        """The loss with one entry moved."""
        point = {n: v.astype(engine.dtype) for n, v in self.tensors.items()}
        point[name][index] += step
        return engine.value_and_grad(
            {n: point[n] for n in self.params},
            {n: point[n] for n in self.inputs},
            self.targets,
            initial={n: point[f"{n}0"] for n in self.initial},
            **self.options,
        )[0]

    def complex_step(self, name: str, index: tuple[int, ...]) -> float:
        h = 1e-30
        return self.loss(self.complex, name, index, 1j * h).imag / h

    def richardson(self, name: str, index: tuple[int, ...]) -> float:
        h = 2.0**-10 * max(1.0, 2.0 ** np.ceil(np.log2(max(abs(self.tensors[name][index]), 1e-300))))

        def central(step: float) -> float:
            return (self.loss(self.engine, name, index, step) - self.loss(self.engine, name, index, -step)) / (2 * step)

        coarse, middle, fine = (central(h / 2**k) for k in range(3))
        first, second = (4 * middle - coarse) / 3, (4 * fine - middle) / 3
        return (16 * second - first) / 15

    def forward_mode(self, name: str, index: tuple[int, ...]) -> float:
        """<dL/d(outputs and states), their tangents>."""
        direction = np.zeros(self.tensors[name].shape)
        direction[index] = 1.0
        size = {k: self.options[k] for k in ("steps", "batch") if k in self.options}
        lengths = self.options.get("lengths")
        if not self.inputs and not size:
            size = dict(zip(("steps", "batch"), next(iter(self.result.outputs.values())).shape[:2], strict=True))
        dot = self.specification.tangent(self.params, self.inputs, {name: direction}, self.initial, lengths, **size)
        return float(sum((g * dot[n]).sum() for n, g in self.local.items()))

    @property
    def local(self) -> dict[str, Array]:
        """What the loss gives each output and state."""
        from numeric.arguments import check_data
        from numeric.losses import evaluate_loss

        given = {k: self.options[k] for k in ("loss", "at", "reduction", "on", "cotangents") if k in self.options}
        defaults = {"loss": "softmax_cross_entropy", "at": "every", "reduction": "sum", "on": None, "cotangents": None}
        spec = check_loss(self.engine.cell, targets=self.targets, **(defaults | given))
        steps, batch = next(iter(self.result.outputs.values())).shape[:2]
        size = {} if self.inputs else {"steps": steps, "batch": batch}
        data = check_data(
            self.engine.cell,
            self.engine.dtype,
            self.params,
            self.inputs,
            self.initial,
            self.options.get("lengths"),
            **size,
        )
        return evaluate_loss(spec, data, self.result.outputs)[1]

    def row(self, name: str, method: str, chosen: list[tuple[int, ...]]) -> CheckRow:
        """The worst entry of one tensor by one method."""
        own = self.gradient(self.result, name)
        scale = self.magnitude.get(name) or float(np.abs(own).max(initial=0))
        worst: tuple[float, tuple[int, ...], float] | None = None
        looked = list(np.ndindex(*own.shape)) if method == "unfused program" else chosen
        for index, value in self.values(name, method, looked):
            difference = abs(value - float(own[index]))
            error = difference / scale if scale else (0.0 if difference == 0 else np.inf)
            error = np.inf if np.isnan(error) else error
            if worst is None or error > worst[0]:
                worst = (error, index, value)
        assert worst is not None
        error, index, value = worst
        return CheckRow(name, method, float(error), LIMITS[method], index, value, float(own[index]), len(looked))

    def values(self, name: str, method: str, indices: list[tuple[int, ...]]) -> Iterator[tuple[tuple[int, ...], float]]:
        if method == "unfused program":
            whole = self.gradient(self.plain, name)
            yield from ((index, float(whole[index])) for index in indices)
            return
        of: dict[str, Callable[[str, tuple[int, ...]], float]] = {
            "complex step": self.complex_step,
            "Richardson": self.richardson,
            "forward mode": self.forward_mode,
        }
        yield from ((index, of[method](name, index)) for index in indices)
