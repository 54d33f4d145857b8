"""What an implementation returned, copied at once and checked: every fault is said, and the rest is still judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from derive.errors import nearest
from numeric.arguments import Array

__all__ = ["Fault", "Result", "array_of", "items_of", "read_result", "same", "shape_of"]

#: Numbers of a trace, at most.
_MOST = 1 << 26
#: Names that are not known, of which each is said.
_NAMED = 20
_KEYS = ("grads", "loss", "outputs", "trace")


@dataclass(frozen=True)
class Fault:
    """Something about a result that is no number to be judged.

    ``kind`` is "missing", "shape", "type", "not-finite" or "extra" (the last is no error).
    """

    tensor: str
    kind: str
    message: str

    @property
    def is_error(self) -> bool:
        """Whether it makes the verdict an error."""
        return self.kind != "extra"


@dataclass(frozen=True)
class Result:
    """Arrays in float64 by name: gradients, outputs as ``outputs.h``, the ``loss``; ``trace`` by the names given.

    ``dtypes`` says in which type each was returned.
    """

    tensors: Mapping[str, Array]
    trace: Mapping[str, Array]
    faults: tuple[Fault, ...]
    dtypes: Mapping[str, str]


def same(a: Result, b: Result) -> tuple[str, ...]:
    """The tensors in which two results differ, in any bit."""
    names = dict.fromkeys((*a.tensors, *b.tensors))
    return tuple(
        n for n in names if n not in a.tensors or n not in b.tensors or a.tensors[n].tobytes() != b.tensors[n].tobytes()
    )


def shape_of(value: Any) -> tuple[int, ...] | None:
    """The shape that something says that it has; None for none, or for one that is no shape."""
    try:
        said = getattr(value, "shape", None)
        return tuple(int(n) for n in said) if isinstance(said, tuple) else None
    except Exception:  # a property of a foreign object may raise anything
        return None


def array_of(value: Any, room: int = _MOST) -> Array:
    """A copy of an array-like of real numbers; raises ValueError that says what it is instead.

    Arrays of other libraries are asked for their numbers as they allow it: ``detach``, ``cpu`` and DLPack included.
    What holds more than ``room`` numbers is not copied.
    """
    try:
        array = _copied(value, room)
    except (Exception, SystemExit) as error:  # whatever a foreign object raises when it is asked for its numbers
        raise ValueError(f"is no array: {error}") from None
    if array.dtype.kind == "c":
        raise ValueError(f"is complex ({array.dtype})")
    if array.dtype.kind not in "iuf" and str(array.dtype) not in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        what = f"has dtype {array.dtype}" if array.shape else f"is a {type(value).__name__}"
        raise ValueError(f"{what}; expected real numbers")
    return array


def _copied(value: Any, room: int) -> Array:
    if not isinstance(value, np.ndarray):
        for ask in ("detach", "cpu", "resolve_conj"):
            value = getattr(value, ask)() if hasattr(value, ask) else value
        if str(getattr(value, "dtype", "")) == "torch.bfloat16":
            value = value.float()
        if _entries(value, room) > room:
            raise ValueError(f"it holds more than {room} numbers")
    return np.array(value)


def _entries(value: Any, room: int) -> int:
    """How many numbers a sequence of sequences holds, as far as ``room``; one for anything else."""
    if isinstance(value, str | bytes) or hasattr(value, "__array__") or not hasattr(value, "__len__"):
        return 1
    total = count = len(value)
    for _, item in zip(range(count if count <= room else 0), value, strict=False):
        total += _entries(item, room - total) - 1 if total <= room else 0
    return total


def read_result(raw: Any, wanted: Iterable[str], shapes: Mapping[str, tuple[int, ...]]) -> Result:
    """Everything that can be judged; ``wanted`` are the tensors that must be there, ``shapes`` of all that may be."""
    faults: list[Fault] = []
    tensors: dict[str, Array] = {}
    dtypes: dict[str, str] = {}
    trace: dict[str, Array] = {}
    if not isinstance(raw, Mapping):
        what = "nothing" if raw is None else f"a {type(raw).__name__}"
        return Result({}, {}, (Fault("", "type", f"returned {what}; expected a dict with 'grads'"),), {})
    given, unknown = _flat(raw, faults), 0
    for name, value in given.items():
        if name.startswith("trace."):
            _take(name[6:], value, None, trace, {}, faults)
        elif name in shapes:
            _take(name, value, shapes[name], tensors, dtypes, faults)
        elif (unknown := unknown + 1) <= _NAMED:
            near = nearest(name, [n for n in shapes if n not in given])
            hint = f"; did you mean {near}?" if near else ""
            faults.append(Fault(name, "extra", f"{name} is not known here and ignored{hint}"))
    if unknown > _NAMED:
        faults.append(Fault("", "extra", f"{unknown - _NAMED} more names are not known and ignored"))
    known = {fault.tensor for fault in faults}
    for name in wanted:
        if name not in tensors and name not in known:
            faults.append(Fault(name, "missing", f"{_shown(name)} is missing"))
    return Result(tensors, trace, tuple(faults), dtypes)


def _shown(name: str) -> str:
    if name == "loss":
        return "the loss"
    return f"the output {name[8:]}" if name.startswith("outputs.") else f"the gradient of {name}"


def items_of(raw: Mapping[Any, Any]) -> dict[str, Any]:
    """A foreign mapping by texts; raises ValueError where it cannot be read."""
    try:
        return {_text(key): value for key, value in raw.items()}
    except Exception as error:
        raise ValueError(f"is a {type(raw).__name__} that cannot be read: {type(error).__name__}") from None


def _text(key: Any) -> str:
    """A key in words; of a text that is of an enumeration, too, its value."""
    return (str.__str__(key) if isinstance(key, str) else str(key))[:200]


def _flat(raw: Mapping[Any, Any], faults: list[Fault]) -> dict[str, Any]:
    """Everything by one name."""
    out: dict[str, Any] = {}
    given = _items(raw, "what was returned", "", faults)
    for key, value in given.items():
        if key not in _KEYS:
            hint = "; gradients stand in 'grads'" if "grads" not in given else ""
            faults.append(Fault(key, "extra", f"the key {key[:60]!r} is not known{hint}"))
        elif key == "loss":
            if value is not None:
                out["loss"] = value
        elif not isinstance(value, Mapping):
            faults.append(Fault(key, "type", f"{key} is a {type(value).__name__}; expected a dict of arrays"))
        else:
            prefix = "" if key == "grads" else f"{key}."
            own = _items(value, key, key, faults)
            out |= {f"{prefix}{name}": x for name, x in own.items() if x is not None}
    return out


def _items(raw: Mapping[Any, Any], what: str, tensor: str, faults: list[Fault]) -> dict[str, Any]:
    try:
        return items_of(raw)
    except ValueError as error:
        faults.append(Fault(tensor, "type", f"{what} {error}"))
        return {}


def _take(
    name: str,
    value: Any,
    shape: tuple[int, ...] | None,
    into: dict[str, Array],
    dtypes: dict[str, str],
    faults: list[Fault],
) -> None:
    """One array, if it is one; what has another shape is not copied, however large it says that it is."""
    said = shape_of(value)
    if shape is not None and said is not None and said != shape and name != "loss":
        faults.append(Fault(name, "shape", f"{_shown(name)} has shape {said}; expected {shape}"))
        return
    if said is not None and prod(said) > _MOST:
        faults.append(Fault(name, "shape", f"{_shown(name)} has shape {said}, too large to be looked at"))
        return
    try:
        # a little more than is expected: then its shape is said
        array = array_of(value, _MOST if shape is None else 16 * prod(shape) + (1 << 16))
    except ValueError as error:
        faults.append(Fault(name, "type", f"{_shown(name)} {error}"))
        return
    if shape is not None and array.shape != shape:
        if name == "loss" and array.size == 1:
            array = array.reshape(())
        else:
            faults.append(Fault(name, "shape", f"{_shown(name)} has shape {array.shape}; expected {shape}"))
            return
    dtypes[name] = str(array.dtype)
    with np.errstate(all="ignore"):
        wide = array.astype(np.float64)
    if not np.isfinite(wide).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(wide))[0])
        faults.append(Fault(name, "not-finite", f"{_shown(name)} holds {wide[where]} at {list(where)}"))
    into[name] = wide
