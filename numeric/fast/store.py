"""Where compiled loops are kept between processes: a directory of the user's own, or nowhere.

``BPTT_CACHE`` names the directory; otherwise it is ``bptt`` below ``XDG_CACHE_HOME`` or ``~/.cache``.  What lies there
is run, so a directory that belongs to another user, or that others may write to, is not used.  Each loop has a file of
its own, named after everything that decides what it computes, and Numba keeps the machine code beside it, by processor.
Whatever goes wrong with files, the loop is compiled in memory instead.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from types import FunctionType
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import config, types

__all__ = ["cache_directory", "compiled_function"]

_PACKAGE = Path(__file__).parent
_READ = (*sorted(_PACKAGE.glob("*.py")), _PACKAGE.parent / "compile.py")


def cache_directory() -> Path | None:
    """The directory, made if need be; None where there is none that is safe to use."""
    named = os.environ.get("BPTT_CACHE")
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        path = Path(named) if named else base / "bptt"
        inner = path / "__pycache__"  # Numba's place
        for part in (path, inner):
            part.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path if path.is_absolute() and _is_own(path) and _is_own(inner) else None
    except (OSError, RuntimeError):  # no such place, or no home
        return None


def _is_own(path: Path) -> bool:
    """Whether only this user can put anything there."""
    if not hasattr(os, "getuid"):
        return True
    found = path.stat()
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


@lru_cache(maxsize=1)
def _versions() -> str:
    """What decides how a loop is written and compiled, apart from the loop itself."""
    sources = hashlib.sha256(b"".join(path.read_bytes() for path in _READ)).hexdigest()
    return repr((sources, sys.version, np.__version__, numba.__version__, llvmlite.__version__))


def _written(directory: Path, name: str) -> Path:
    """The file of a loop, written unless it is there; Numba looks for machine code beside the file of a function."""
    path = directory / f"{name}.py"
    if not path.exists():
        handle, temporary = tempfile.mkstemp(dir=directory, suffix=".tmp")
        try:
            with os.fdopen(handle, "w") as file:
                file.write("# A compiled time loop is kept in __pycache__ under this file's name.\n")
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
    return path


def compiled_function(body: Any, kinds: Sequence[Any], description: str) -> Callable[[tuple[Any, ...]], float]:
    """A compiled function of one tuple, of ``kinds``, that is ``body``, an intrinsic.

    ``description`` has to say everything that ``body`` depends on.  Raises RuntimeError where Numba is told not to
    compile.
    """
    if config.DISABLE_JIT:
        raise RuntimeError("NUMBA_DISABLE_JIT is set; the compiled loop needs Numba's compiler: unset it")
    # the name is in the machine code, too: two loops that were compiled by different processes must not be confused
    name = "loop_" + hashlib.sha256(f"{_versions()}\n{description}".encode()).hexdigest()[:32]
    directory = cache_directory()
    if directory is not None:
        try:
            return _compiled(name, str(_written(directory, name)), body, kinds, cache=True)
        except Exception:  # whatever a full or read-only disk or a damaged file leads to; what is left does without
            pass
    return _compiled(name, __file__, body, kinds, cache=False)


def _template(values: Any) -> Any:
    return body(values)  # type: ignore[name-defined]  # noqa: F821 - a global of each function made from this one


def _compiled(
    name: str, file: str, body: Any, kinds: Sequence[Any], *, cache: bool
) -> Callable[[tuple[Any, ...]], float]:
    code = _template.__code__.replace(co_name=name, co_qualname=name, co_filename=file)
    # Numba looks the module up by its name when it takes the function from disk
    function = FunctionType(code, {"body": body, "__name__": __name__})
    arguments: Any = types  # what it holds is made when it is imported
    signature = arguments.float64(arguments.Tuple(tuple(kinds)))
    made = numba.njit(signature, nogil=True, error_model="numpy", cache=cache)(function)
    (overload,) = made.overloads.values()
    return overload.entry_point
