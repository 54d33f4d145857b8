"""Exact results that were computed before: in memory, and in a folder, by the digest of the case.

The folder is ``bptt`` in the user's cache (``XDG_CACHE_HOME``, else ``~/.cache``), or what BPTT_CACHE says; an empty
BPTT_CACHE means none.  A file holds arrays only; one that cannot be read is computed anew.
"""

from __future__ import annotations

import os
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from numeric.certify import Enclosure, Enclosures
from numeric.oracle.case import Case
from numeric.oracle.criterion import Truth, truth_of

__all__ = ["Store", "cache_folder"]

#: Changes when what is stored, or how it is computed, changes.
VERSION = 1
_KEPT = 256


def cache_folder() -> Path | None:
    """Where exact results are kept; None for nowhere."""
    said = os.environ.get("BPTT_CACHE")
    if said is not None:
        return Path(said) / f"truth-{VERSION}" if said else None
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "bptt" / f"truth-{VERSION}"


class Store:
    """Truths by case; ``folder`` as :func:`cache_folder` says where left out, None for memory alone."""

    _memory: ClassVar[OrderedDict[str, Truth]] = OrderedDict()

    def __init__(self, folder: Path | str | None = "default") -> None:
        self.folder = cache_folder() if folder == "default" else None if folder is None else Path(folder)

    def truth(self, case: Case) -> Truth:
        """The exact results of a case; raises ArithmeticError where they cannot be enclosed."""
        key = case.digest
        known = self._memory.get(key)
        if known is None:
            known = self._read(key, case)
            if known is None:
                known = truth_of(case)
                self._write(key, known)
            self._memory[key] = known
            while len(self._memory) > _KEPT:
                self._memory.popitem(last=False)
        return known

    def _path(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{key}.npz"

    def _read(self, key: str, case: Case) -> Truth | None:
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as found:
                return _unpacked(dict(found), case)
        except Exception:  # whatever is wrong with a file of ours, the answer can be had
            return None

    def _write(self, key: str, truth: Truth) -> None:
        path = self._path(key)
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
            try:
                with os.fdopen(handle, "wb") as file:
                    np.savez(file, **_packed(truth))
                os.replace(name, path)
            finally:
                Path(name).unlink(missing_ok=True)
        except OSError:  # a full or read-only disk costs time, not the answer
            return


def _packed(truth: Truth) -> dict[str, Any]:
    out: dict[str, Any] = {"lax": truth.lax, "bits": truth.exact.bits, "certified": truth.exact.certified}
    for name, noise in truth.noise.items():
        e = truth.enclosure(name)
        out[f"noise:{name}"], out[f"whole:{name}"] = noise, truth.whole[name]
        out[f"hi:{name}"], out[f"lo:{name}"], out[f"radius:{name}"] = e.hi, e.lo, e.log2_radius
    return out


def _unpacked(found: dict[str, Any], case: Case) -> Truth:
    names = [key[6:] for key in found if key.startswith("noise:")]
    noise = {n: found[f"noise:{n}"] for n in names}
    parts = {n: Enclosure(found[f"hi:{n}"], found[f"lo:{n}"], found[f"radius:{n}"]) for n in names}
    shapes = _shapes(case)
    for n, shape in shapes.items():
        e = parts[n]
        if any(x.shape != shape for x in (noise[n], e.hi, e.lo, e.log2_radius)):
            raise ValueError("these are the results of another case")
    outputs = {n[8:]: e for n, e in parts.items() if n.startswith("outputs.")}
    gradients = {n: parts[n] for n in case.gradients()}
    exact = Enclosures(parts["loss"], gradients, outputs, int(found["bits"]), bool(found["certified"]))
    return Truth(exact, noise, {n: float(found[f"whole:{n}"]) for n in names}, float(found["lax"]))


def _shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """The shape of everything that a truth holds."""
    cell = case.parsed
    outputs = {f"outputs.{n}": (case.T, case.B, case.sizes[cell.axes[n]]) for n in (*cell.outputs, *cell.states)}
    return case.gradients() | outputs | {"loss": ()}
