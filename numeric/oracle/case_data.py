"""A case as JSON: what files hold and what a program is sent, and back.

    {"schema": "bptt-case", "version": 1, "id": "separating", "cell": "tanh_rnn", "text": "h[t] = ...", ...
     "params": {"W_hh": {"dtype": "float64", "shape": [4, 4], "values": [...], "hex": [...]}, ...}, ...}

Where the numbers stand in a file beside it, "data" is its name, and arrays are called params.W_hh, inputs.x,
initial.h, cotangents.y, targets and lengths.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from numeric.arguments import Array
from numeric.oracle.case import Case
from numeric.oracle.flags import flags_of
from numeric.oracle.tensors import exact_in_json, tensor_array, tensor_text

__all__ = ["VERSION", "case_from_data", "case_text", "check_head", "fits_json", "named_arrays"]

#: Version of everything that is written for other programs: cases, results, the protocol.
VERSION = 1

_WORDS = ("id", "family", "purpose", "cell", "text", "dtype", "accumulate", "loss", "on", "at", "reduction")
_GROUPS = ("params", "inputs", "initial", "cotangents")
_ARRAYS = ("targets", "lengths")
#: For the reader of a file only.
_DERIVED = ("flags", "T", "B", "sizes")
_KNOWN = ("schema", "version", *_WORDS, "truncate", *_GROUPS, *_ARRAYS, *_DERIVED, "data", "digest")


# --------------------------------------------------------------------------------------------------------- writing


def case_text(case: Case, *, data: str | None = None, lines: bool = False) -> str:
    """A case as JSON, in one line, or in a line for each key and array; ``data`` names a file that has the numbers."""
    said: dict[str, Any] = {"schema": "bptt-case", "version": VERSION}
    said |= {name: getattr(case, name) for name in _WORDS}
    said["truncate"] = None if case.truncate is None else list(case.truncate)
    said |= {"flags": list(flags_of(case)), "T": case.T, "B": case.B, "sizes": dict(case.sizes)}
    said["digest"] = case.digest
    texts = {name: json.dumps(value) for name, value in said.items()}
    if data is None:
        texts |= _array_texts(case, "\n  " if lines else " ")
    else:
        texts["data"] = json.dumps(data)
    between = ",\n " if lines else ", "
    return f"{{{between.join(f'{json.dumps(name)}: {text}' for name, text in texts.items())}}}"


def _array_texts(case: Case, before: str) -> dict[str, str]:
    out = {}
    for group in _GROUPS:
        arrays = getattr(case, group)
        parts = [f"{before}{json.dumps(name)}: {tensor_text(x)}" for name, x in (arrays or {}).items()]
        out[group] = "null" if arrays is None else f"{{{','.join(parts)}}}"
    for name in _ARRAYS:
        x = getattr(case, name)
        out[name] = "null" if x is None else tensor_text(x)
    return out


def named_arrays(case: Case) -> dict[str, Array]:
    """Every array by one name, as a file of numbers holds them."""
    out = {f"{group}.{name}": x for group in _GROUPS for name, x in (getattr(case, group) or {}).items()}
    return out | {name: getattr(case, name) for name in _ARRAYS if getattr(case, name) is not None}


def fits_json(case: Case, most: int) -> bool:
    """Whether a case is small, and comes back from JSON bit by bit."""
    arrays = named_arrays(case).values()
    return sum(x.size for x in arrays) <= most and all(map(exact_in_json, arrays))


# --------------------------------------------------------------------------------------------------------- reading


def check_head(data: Any, schema: str) -> dict[str, Any]:
    """The object itself, if it is one of this schema and of this version; raises ValueError if not."""
    if not isinstance(data, dict):
        raise ValueError(f"it is a {type(data).__name__}; expected a JSON object")
    found, version = data.get("schema"), data.get("version")
    if found != schema:
        raise ValueError(f"its schema is {str(found)[:40]!r}; expected {schema!r}")
    if type(version) is not int or version != VERSION:
        hint = "; a newer bptt may read it" if isinstance(version, int) and version > VERSION else ""
        raise ValueError(f"it is of version {str(version)[:40]}; this bptt reads version {VERSION}{hint}")
    return data


def case_from_data(data: Any, arrays: Mapping[str, Array] | None = None) -> Case:
    """The case of an object as above; ``arrays`` are those of the file beside it, by name.

    Raises ValueError that says what is wrong; the shapes, the loss and the cell are checked, too.
    """
    said = check_head(data, "bptt-case")
    unknown = [key for key in said if key not in _KNOWN]
    if unknown:
        raise ValueError(f"the key {unknown[0][:60]!r} is not known")
    words: dict[str, Any] = {name: _word(said, name) for name in _WORDS}
    groups = _groups_of(arrays, said) if arrays is not None else _groups_in(said)
    try:
        case = Case(**words, **groups, truncate=_truncate(said.get("truncate")))
        _ = case.problem
    except TypeError as error:
        raise ValueError(str(error)) from None
    if said.get("digest") is not None and said["digest"] != case.digest:
        raise ValueError("its digest is not that of its numbers: it was changed; leave out 'digest' if that was meant")
    return case


def _word(said: Mapping[str, Any], name: str) -> str | None:
    value = said.get(name)
    if not isinstance(value, str) and not (name == "on" and value is None):
        raise ValueError(f"{name!r} is {str(value)[:40]!r}; expected a text")
    return value


def _truncate(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or any(type(k) is not int for k in value):
        raise ValueError(f"'truncate' is {str(value)[:40]}; expected null or [k1, k2]")
    return value[0], value[1]


def _groups_in(said: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays that stand in the JSON itself."""
    out: dict[str, Any] = {}
    for group in _GROUPS:
        found = said.get(group)
        if found is None and group == "cotangents":
            out[group] = None
            continue
        if not isinstance(found, dict):
            raise ValueError(f"{group!r} is {str(found)[:40]}; expected an object of arrays")
        out[group] = {name: _array(f"{group}.{name}", x) for name, x in found.items()}
    return out | {name: None if said.get(name) is None else _array(name, said[name]) for name in _ARRAYS}


def _array(name: str, data: Any) -> Array:
    try:
        return tensor_array(data)
    except ValueError as error:
        raise ValueError(f"{name[:80]}: {error}") from None


def _groups_of(arrays: Mapping[str, Array], said: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays of the file beside it; only the linear loss has cotangents."""
    out: dict[str, Any] = {group: {} for group in _GROUPS} | dict.fromkeys(_ARRAYS)
    for name, x in arrays.items():
        group, dot, rest = name.partition(".")
        if dot and group in _GROUPS:
            out[group][rest] = x
        elif name in _ARRAYS:
            out[name] = x
        else:
            raise ValueError(f"the array {name[:60]!r} is not known; expected names such as params.W_hh or targets")
    if said.get("loss") != "linear" and not out["cotangents"]:
        out["cotangents"] = None
    return out
