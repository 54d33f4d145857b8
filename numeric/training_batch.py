"""One batch of a fit: what the engine takes, by name, and how it is cut along time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from numeric.arguments import check_known

__all__ = ["Batch", "Objective", "read_batch"]

_NAMES = ("inputs", "targets", "cotangents", "initial", "lengths", "steps", "batch")


@dataclass(frozen=True)
class Objective:
    """Which loss is made small; the names are those of :class:`numeric.problem.Options`."""

    loss: str
    at: str
    on: str | None
    reduction: str


@dataclass(frozen=True)
class Batch:
    """The arrays of one batch, by the names of the engine's arguments, and the objective."""

    arrays: Mapping[str, Any]
    objective: Objective

    @property
    def steps(self) -> int:
        """T, as the inputs, ``steps`` or the loss's arrays say it; 0 where nothing does."""
        inputs = self.arrays.get("inputs")
        said = next(iter(inputs.values()), None) if isinstance(inputs, Mapping) else inputs
        if said is None and self.arrays.get("steps") is not None:
            return int(self.arrays["steps"])
        if said is None and self.objective.at == "every":
            cotangents = self.arrays.get("cotangents")
            said = next(iter(cotangents.values()), None) if cotangents else self.arrays.get("targets")
        shape = () if said is None else np.shape(said)
        return int(shape[0]) if shape else 0

    @property
    def passed(self) -> dict[str, Any]:
        """The arguments of a backward pass."""
        return dict(self.arrays) | asdict(self.objective)

    @property
    def passed_forward(self) -> dict[str, Any]:
        """The arguments of a forward pass."""
        return {name: x for name, x in self.arrays.items() if name not in ("targets", "cotangents")}

    def cut(self, start: int, stop: int, initial: Mapping[str, Any] | None = None) -> Batch:
        """Steps ``start`` + 1 to ``stop``, from the states ``initial``; the last step's targets are kept whole."""
        arrays = dict(self.arrays)
        timed = ("inputs", "targets", "cotangents") if self.objective.at == "every" else ("inputs",)
        for name in timed:
            arrays[name] = _cut(arrays.get(name), start, stop)
        if arrays.get("lengths") is not None:
            arrays["lengths"] = np.clip(np.asarray(arrays["lengths"]) - start, 1, stop - start)
        if arrays["inputs"] is None or arrays.get("steps") is not None:
            arrays["steps"] = stop - start
        if initial is not None:
            arrays["initial"] = initial
        return Batch(arrays, self.objective)


def _cut(value: Any, start: int, stop: int) -> Any:
    if isinstance(value, Mapping):
        return {name: x[start:stop] for name, x in value.items()}
    return None if value is None else value[start:stop]


def read_batch(given: Any, objective: Objective) -> Batch:
    """What a batch function returned: ``(inputs, targets)``, or a dict of the engine's arguments by name.

    Raises ValueError for anything else; the arrays are checked by the engine.
    """
    if isinstance(given, tuple) and len(given) == 2:
        given = {"inputs": given[0], "targets": given[1]}
    if not isinstance(given, Mapping):
        raise ValueError(f"batches gave {type(given).__name__}; expected (inputs, targets) or a dict of them by name")
    check_known("array of a batch", given, _NAMES)
    return Batch(dict(given), objective)
