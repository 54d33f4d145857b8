"""What an implementation answered, as JSON: in result files, and over the protocol.

    {"id": ..., "grads": {"W_hh": array, ...}, "loss": number, "outputs": {"y": array}, "trace": {"h": array}}
    {"id": ..., "declined": "no truncation"}
    {"id": ..., "error": "what went wrong"}

An array is an object as in :mod:`numeric.oracle.tensors`, or nested lists; a number is a number, null for NaN, or a
text such as "0x1.8p-3".  "loss", "outputs" and "trace" may be left out; keys that are not known are named and ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from numeric.arguments import Array
from numeric.oracle.calling import Outcome
from numeric.oracle.case import Case
from numeric.oracle.result import array_of, items_of, shape_of
from numeric.oracle.tensors import DTYPE_NAMES, check_shape, tensor_array, tensor_text

__all__ = ["Unreadable", "most_bytes", "outcome_of", "outcome_text"]

_GROUPS = ("grads", "outputs", "trace")
#: Beside those of a result: "extra" names other keys that an implementation returned.
_KEYS = (*_GROUPS, "loss", "changed", "seconds", "extra")
_KINDS = ("raised", "hung", "crashed")
#: Characters of a number at most: both forms, and what stands between.
_NUMBER = 64


class Unreadable:
    """What was in place of an array: it has a shape, if it had one, and a complaint when its numbers are asked for."""

    def __init__(self, message: str, shape: tuple[int, ...] | None = None) -> None:
        self.message = message
        if shape is not None:
            self.shape = shape

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        raise ValueError(self.message)


def most_bytes(case: Case) -> int:
    """Bytes of an answer, at most: with everything that may be said, and a margin."""
    steps = case.T * case.B * max(case.sizes.values(), default=1)
    # outputs, and a trace of everything that a cell computes with its gradient
    arrays = 2 * len(case.parsed.axes) + 4
    numbers = sum(prod(shape) for shape in case.gradients().values()) + arrays * steps
    return (1 << 20) + _NUMBER * numbers


# --------------------------------------------------------------------------------------------------------- reading


def outcome_of(said: Mapping[str, Any]) -> Outcome:
    """The outcome of an answer without its "id"; raises ValueError that says what is wrong with it."""
    changed, seconds, extra = said.get("changed", []), said.get("seconds", 0.0), said.get("extra", [])
    if not isinstance(changed, list) or not isinstance(extra, list) or not isinstance(seconds, int | float):
        raise ValueError("'changed' or 'extra' is no list, or 'seconds' no number")
    for key, kind in (("declined", "declined"), ("error", str(said.get("kind", "raised")))):
        if key in said:
            if not isinstance(said[key], str) or kind not in ("declined", *_KINDS):
                raise ValueError(f"{key!r} is {str(said[key])[:40]!r}; expected a text")
            return Outcome(kind, None, said[key][:2000], (), float(seconds))
    value = {str(key)[:200]: None for key in (*extra, *(key for key in said if key not in _KEYS))} | _value(said)
    return Outcome("returned", value, "", tuple(str(name)[:200] for name in changed), float(seconds))


def _value(said: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for group in _GROUPS:
        if said.get(group) is not None:
            if not isinstance(said[group], dict):
                raise ValueError(f"{group!r} is {str(said[group])[:40]!r}; expected an object of arrays")
            out[group] = {name: _read(f"{group}.{name}", x) for name, x in said[group].items()}
    if "loss" in said:
        out["loss"] = _read("loss", said["loss"])
    return out


def _read(name: str, data: Any) -> Any:
    if isinstance(data, dict) and "unreadable" in data:
        return Unreadable(str(data["unreadable"])[:500], check_shape(data["shape"]) if "shape" in data else None)
    if isinstance(data, np.ndarray):  # of a file of arrays
        return data
    try:
        return tensor_array(data)
    except ValueError as error:
        raise ValueError(f"{name[:80]}: {error}") from None


# --------------------------------------------------------------------------------------------------------- writing


def outcome_text(outcome: Outcome, head: Mapping[str, Any], most: int) -> str:
    """An outcome in one line; ``head`` goes before, and of arrays with more than ``most`` numbers only the shape."""
    said: dict[str, Any] = dict(head)
    if outcome.kind == "declined":
        return json.dumps({**said, "declined": outcome.message})
    if outcome.kind != "returned":
        return json.dumps({**said, "error": outcome.message, "kind": outcome.kind})
    try:
        value = _by_texts(outcome.value)
    except ValueError as error:
        return json.dumps({**said, "error": f"returned {error}", "kind": "raised"})
    extra = [key for key in value if key not in (*_GROUPS, "loss")]
    said |= {"changed": list(outcome.changed), "seconds": outcome.seconds, "extra": extra[:100]}
    return _joined(said, value, most)


def _by_texts(value: Any) -> dict[str, Any]:
    """A result with texts for keys; raises ValueError that says what is wrong with it as a whole."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{'nothing' if value is None else f'a {type(value).__name__}'}; expected a dict with 'grads'")
    out = _read_items("what", value)
    for group in _GROUPS:
        if group in out and not isinstance(out[group], Mapping):
            raise ValueError(f"{group} that is a {type(out[group]).__name__}; expected a dict of arrays")
    return {key: _read_items(f"{key} that", x) if key in _GROUPS else x for key, x in out.items()}


def _read_items(what: str, value: Mapping[Any, Any]) -> dict[str, Any]:
    try:
        return items_of(value)
    except ValueError as error:
        raise ValueError(f"{what} {error}") from None


def _joined(said: Mapping[str, Any], value: Mapping[str, Any], most: int) -> str:
    """Every array beside what is said already."""
    texts = {name: json.dumps(x) for name, x in said.items()}
    for group in _GROUPS:
        if group in value:
            parts = (f"{json.dumps(name)}: {_text(x, most)}" for name, x in value[group].items() if x is not None)
            texts[group] = f"{{{', '.join(parts)}}}"
    if value.get("loss") is not None:
        texts["loss"] = _text(value["loss"], most)
    return f"{{{', '.join(f'{json.dumps(name)}: {text}' for name, text in texts.items())}}}"


def _text(value: Any, most: int) -> str:
    """One array, or what is in its place."""
    shape = shape_of(value)
    if shape is not None and prod(shape) > most:
        return json.dumps({"unreadable": "is too large to be looked at", "shape": list(shape)})
    try:
        array = array_of(value, most)
    except ValueError as error:
        return json.dumps({"unreadable": str(error).removeprefix("is no array: ")[:500]})
    if array.size > most:
        return json.dumps({"unreadable": "is too large to be looked at", "shape": list(array.shape)})
    if str(array.dtype) not in DTYPE_NAMES:
        array = array.astype(np.float64)
    return tensor_text(array, decimal=False)
