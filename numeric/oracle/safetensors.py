"""The format safetensors: named arrays in one file, nothing else, so that reading one runs no code.

    8 bytes      N, unsigned, the lowest byte first
    N bytes      JSON: {"name": {"dtype": "F64", "shape": [2, 3], "data_offsets": [0, 48]}, ...}
    the rest     the arrays' numbers, row by row, the lowest byte first, without gaps

``__metadata__`` in the JSON is an object of strings.  (Format: https://github.com/huggingface/safetensors.)
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from numeric.arguments import Array
from numeric.oracle.strict_json import parse_json
from numeric.oracle.tensors import check_shape, dtype_of

__all__ = ["parse_safetensors", "safetensors_bytes"]

#: Bytes of a header, at most.
MOST_HEADER = 1 << 20

_NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8",
}  # fmt: skip
_CODES = {name: code for code, name in _NAMES.items()}


def safetensors_bytes(arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> bytes:
    """The file as bytes; the header is padded so that numbers begin at a multiple of eight."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    parts, end = [], 0
    for name, array in arrays.items():
        part = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        start, end = end, end + len(part)
        header[name] = {"dtype": _CODES[str(array.dtype)], "shape": list(array.shape), "data_offsets": [start, end]}
        parts.append(part)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def parse_safetensors(data: bytes) -> tuple[dict[str, Array], dict[str, str]]:
    """Arrays of their own by name, and the metadata; raises ValueError that says what is wrong."""
    header, body = _split(data)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or any(not isinstance(x, str) for x in metadata.values()):
        raise ValueError("__metadata__ is no object of strings")
    spans = {name: _span(name, entry, len(body)) for name, entry in header.items()}
    _check_gapless(spans, len(body))
    return {name: _array(header[name], body[start:end]) for name, (start, end) in spans.items()}, metadata


def _split(data: bytes) -> tuple[dict[str, Any], memoryview]:
    """The header, and what follows."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > MOST_HEADER or 8 + size > len(data):
        said = f"its header is said to have {size} bytes" if len(data) >= 8 else "it has no header"
        raise ValueError(f"it is no safetensors file, or is truncated: of its {len(data)} bytes, {said}")
    try:
        header = parse_json(data[8 : 8 + size])
    except ValueError as error:
        raise ValueError(f"its header: {error}") from None
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    return header, memoryview(data)[8 + size :]


def _span(name: str, entry: Any, size: int) -> tuple[int, int]:
    """Where an array stands; its bytes are as many as its shape says."""
    try:
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise ValueError("expected the keys dtype, shape and data_offsets")
        if not isinstance(entry["dtype"], str) or entry["dtype"] not in _NAMES:
            raise ValueError(f"the dtype is {str(entry['dtype'])[:20]!r}; expected any of {', '.join(_NAMES)}")
        count = math.prod(check_shape(entry["shape"]))
        offsets = entry["data_offsets"]
        if not isinstance(offsets, list) or len(offsets) != 2 or any(type(x) is not int for x in offsets):
            raise ValueError("data_offsets are no two whole numbers")
        start, end = offsets
        if not 0 <= start <= end <= size:
            raise ValueError(f"data_offsets {offsets} are outside of the {size} bytes of numbers")
        if end - start != count * _width(entry["dtype"]):
            raise ValueError(f"{end - start} bytes do not make {entry['dtype']} of shape {entry['shape']}")
    except ValueError as error:
        raise ValueError(f"{name[:60]!r}: {error}") from None
    return start, end


def _width(code: str) -> int:
    return 2 if code == "BF16" else np.dtype(_NAMES[code]).itemsize


def _check_gapless(spans: Mapping[str, tuple[int, int]], size: int) -> None:
    at = 0
    for name, (start, end) in sorted(spans.items(), key=lambda item: item[1]):
        if start != at:
            raise ValueError(f"{name[:60]!r} {'overlaps another array' if start < at else 'leaves a gap before it'}")
        at = end
    if at != size:
        raise ValueError(f"{size - at} bytes after the last array belong to none")


def _array(entry: Mapping[str, Any], raw: memoryview) -> Array:
    dtype = dtype_of(_NAMES[entry["dtype"]])
    found = np.frombuffer(raw, dtype=dtype.newbyteorder("<") if dtype.kind in "iuf" else dtype)
    return found.reshape(entry["shape"]).astype(dtype, copy=True)
