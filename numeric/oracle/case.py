"""One problem: a cell, its numbers, and what is to be computed from them.

    grad  = dL/d(parameter), L a loss of what the cell computes from ``params``, ``inputs`` and ``initial``

Arrays are time-major, as for :class:`numeric.Engine`.  A case is frozen and its arrays are read-only; an implementation
gets a copy of its own at every call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np

from derive.cell import Cell
from derive.parse import parse
from numeric.arguments import Array
from numeric.problem import Problem, check_problem

__all__ = ["DTYPES", "Case", "cell_of", "check_stored"]

#: Storage types of a case; the last two need the package ml_dtypes (float16 is NumPy's own).
DTYPES = ("float64", "float32", "float16", "bfloat16")


@dataclass(frozen=True, eq=False)
class Case:
    """A problem as an implementation sees it.

    ``id`` is unlike any other's in its set, ``family`` the kind of case and ``purpose`` a sentence: what it is there to
    show.  ``cell`` is the cell's name, ``text`` its equations.  ``params`` maps parameters to arrays, ``inputs`` inputs
    to (T, B, size), ``initial`` every state to (B, size).  ``loss``, ``on``, ``at`` and ``reduction`` are as for
    :meth:`numeric.Engine.backward`; ``targets`` or ``cotangents`` belong to the loss, the other is None; ``lengths`` is
    (B,) or None; ``truncate`` is (k1, k2) or None for the whole gradient.  ``dtype`` is what arrays are stored in,
    ``accumulate`` the type in which an implementation is expected to sum.
    """

    id: str
    family: str
    purpose: str
    cell: str
    text: str
    params: Mapping[str, Array]
    inputs: Mapping[str, Array]
    initial: Mapping[str, Array]
    loss: str
    on: str | None = None
    at: str = "every"
    reduction: str = "sum"
    targets: Array | None = None
    cotangents: Mapping[str, Array] | None = None
    lengths: Array | None = None
    truncate: tuple[int, int] | None = None
    dtype: str = "float64"
    accumulate: str = "float64"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES or self.accumulate not in DTYPES:
            raise ValueError(
                f"dtype is {self.dtype!r}, accumulate {self.accumulate!r}; expected of {', '.join(DTYPES)}"
            )
        for one in fields(self):
            value = getattr(self, one.name)
            value = np.asarray(value) if one.name in ("targets", "lengths") and value is not None else value
            object.__setattr__(self, one.name, _frozen(value))

    def __repr__(self) -> str:
        return f"<Case {self.id} of {self.cell}: T {self.T}, B {self.B}, {self.dtype}>"

    # ----------------------------------------------------------------------------------------------------------- sizes

    @property
    def T(self) -> int:
        """Steps."""
        return self._problem.data.steps

    @property
    def B(self) -> int:
        """Sequences."""
        return self._problem.data.batch

    @property
    def sizes(self) -> Mapping[str, int]:
        """The size of every letter of the cell."""
        return self._problem.data.sizes

    # -------------------------------------------------------------------------------------------------------- readings

    @cached_property
    def parsed(self) -> Cell:
        """The cell itself; raises :class:`derive.CellError` for a text that is none."""
        return cell_of(self.text, self.cell)

    @property
    def problem(self) -> Problem:
        """The case in float64, checked; the values are exactly those of its own type.

        Raises ValueError that names the array, its shape and the one expected.
        """
        return self._problem

    @cached_property
    def _problem(self) -> Problem:
        return check_problem(self.parsed, np.dtype(np.float64), *self._arguments())

    def _arguments(self) -> tuple[Any, Any, Any, dict[str, Any]]:
        options: dict[str, Any] = {
            "loss": self.loss, "at": self.at, "reduction": self.reduction, "truncate": self.truncate,
            "initial": _wide(self.initial), "lengths": self.lengths,
        }  # fmt: skip
        if self.loss != "linear":
            options["on"] = self.on
        else:
            options["cotangents"] = _wide(self.cotangents or {})
        inputs: Any = _wide(self.inputs)
        if not inputs:
            shape = next((x.shape for x in self._timed()), None)
            inputs, options["steps"] = None, shape[0] if shape else None
        return _wide(self.params), inputs, None if self.targets is None else _wide_array(self.targets), options

    def _timed(self) -> list[Array]:
        arrays = [self.targets] if self.targets is not None else list((self.cotangents or {}).values())
        return arrays if self.at == "every" else []

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of :meth:`numeric.Engine.backward`, in float64."""
        return self._arguments()[3]

    @cached_property
    def digest(self) -> str:
        """A name made of everything that decides the right answer."""
        seen = hashlib.sha256()
        for one in fields(self):
            if one.name not in ("id", "family", "purpose"):
                _feed(seen, one.name, getattr(self, one.name))
        return seen.hexdigest()[:32]

    # ----------------------------------------------------------------------------------------------------------- copies

    def copy(self) -> Case:
        """The same case with arrays of its own, read-only like these."""
        return replace(self, **{one.name: _copied(getattr(self, one.name)) for one in fields(self)})

    def gradients(self) -> dict[str, tuple[int, ...]]:
        """The shape of every gradient that may be returned: parameters, inputs, and initial states with a ``0``."""
        data = self._problem.data
        out = {name: p.shape for name, p in data.params.items()}
        out |= {name: x.shape for name, x in data.inputs.items()}
        return out | {f"{name}0": s.shape for name, s in data.initial.items()}


def check_stored(case: Case) -> None:
    """Raise ValueError for an array that is not stored in the case's type."""
    for group in ("params", "inputs", "initial", "cotangents"):
        for name, x in (getattr(case, group) or {}).items():
            if x.dtype.kind == "f" and str(x.dtype) != case.dtype:
                raise ValueError(f"{name} is stored in {x.dtype}, the case in {case.dtype}; convert one of them")


@lru_cache(maxsize=64)
def cell_of(text: str, name: str) -> Cell:
    """The cell of a text; read once."""
    return parse(text, name)


def _frozen(value: Any) -> Any:
    """Read-only arrays, in read-only mappings."""
    if isinstance(value, np.ndarray):
        value = value if value.flags.owndata and not value.flags.writeable else value.copy()
        value.flags.writeable = False
        return value
    if isinstance(value, Mapping):
        return MappingProxyType({str(name): _frozen(np.asarray(x)) for name, x in value.items()})
    return value


def _copied(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy()
    return {name: x.copy() for name, x in value.items()} if isinstance(value, Mapping) else value


def _wide_array(x: Array) -> Array:
    """The same values in float64; integers stay integers.  Raises ValueError for what is no real number."""
    if x.dtype.kind in "cOSU":
        raise ValueError(f"an array of the case has dtype {x.dtype}; expected real numbers")
    return x if x.dtype.kind in "iu" else x.astype(np.float64)


def _wide(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: _wide_array(x) for name, x in arrays.items()}


def _feed(seen: Any, name: str, value: Any) -> None:
    """Take a value into a digest, unmistakably."""
    if isinstance(value, Mapping):
        for key in sorted(value):
            _feed(seen, f"{name}.{key}", value[key])
    elif isinstance(value, np.ndarray):
        seen.update(f"{name}:{value.dtype}:{value.shape}:".encode())
        seen.update(np.ascontiguousarray(value).tobytes())
    else:
        seen.update(f"{name}:{value!r};".encode())
