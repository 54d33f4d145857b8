"""Calling somebody's implementation: whatever it does, there is an outcome.

A call in this process runs in a thread of its own, so that one that does not come back can be left behind.  What it
returns is looked at by :mod:`numeric.oracle.result`; programs of any language are called by
:mod:`numeric.oracle.command`.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from numeric.oracle.case import Case

__all__ = ["Caller", "InProcess", "Outcome", "name_of"]

#: Characters of an error's message, at most.
_WORDS = 2000


@dataclass(frozen=True)
class Outcome:
    """What came of one call.

    ``kind`` is "returned", "declined" (NotImplementedError), "raised", "hung" or "crashed"; ``value`` is what was
    returned, ``message`` what a person should read about the others, ``changed`` the arrays of the case that the call
    wrote to.
    """

    kind: str
    value: Any = None
    message: str = ""
    changed: tuple[str, ...] = ()
    seconds: float = 0.0


class Caller(Protocol):
    """Something that can be asked for a case's result again and again."""

    name: str

    def call(self, case: Case) -> Outcome:
        """One call, with a copy of the case of its own."""

    def close(self) -> None:
        """No more calls."""


class InProcess:
    """A Python callable; ``time_limit`` in seconds for one call, None for none."""

    def __init__(self, implementation: Callable[[Case], Any], time_limit: float | None = None) -> None:
        if not callable(implementation):
            raise TypeError(f"an implementation is a callable that takes a case; found {type(implementation).__name__}")
        self.implementation, self.time_limit = implementation, time_limit
        self.name = name_of(implementation)

    def call(self, case: Case) -> Outcome:
        """One call, with a copy of the case of its own."""
        own, start = case.copy(), time.perf_counter()
        found = self._called(own)
        if found is None:
            return Outcome(
                "hung", None, f"did not return within {self.time_limit:g} s", (), time.perf_counter() - start
            )
        kind, value, message = found
        return Outcome(kind, value, message, _changed(case, own), time.perf_counter() - start)

    def _called(self, case: Case) -> tuple[str, Any, str] | None:
        if self.time_limit is None:
            return _attempt(self.implementation, case)
        found: list[tuple[str, Any, str]] = []
        thread = threading.Thread(target=lambda: found.append(_outlived(self.implementation, case)), daemon=True)
        thread.start()
        thread.join(self.time_limit)
        return found[0] if found else None

    def close(self) -> None:
        """Nothing has to be stopped."""


def _attempt(implementation: Callable[[Case], Any], case: Case) -> tuple[str, Any, str]:
    try:
        return "returned", implementation(case), ""
    except NotImplementedError as error:
        return "declined", None, _said(error)
    except (Exception, SystemExit) as error:  # whatever a stranger's code raises is a result
        return "raised", None, _raised(error)


def _outlived(implementation: Callable[[Case], Any], case: Case) -> tuple[str, Any, str]:
    """An attempt in a thread of its own, where no person interrupts: whatever is raised is a result."""
    try:
        return _attempt(implementation, case)
    except BaseException as error:
        return "raised", None, _raised(error)


def _raised(error: BaseException) -> str:
    stack = traceback.extract_tb(error.__traceback__)
    place = f" at {stack[-1].filename}:{stack[-1].lineno}" if stack else ""
    said = _said(error)
    return f"raised {type(error).__name__}{': ' if said else ''}{said}{place}"


def _said(error: BaseException) -> str:
    """An error's own words, as many as a person reads."""
    try:
        said = str(error)
    except Exception:  # a stranger's error may not even be able to say what it is
        return "(its message cannot be read)"
    return said if len(said) <= _WORDS else f"{said[:_WORDS]} ... ({len(said)} characters)"


def _changed(case: Case, own: Case) -> tuple[str, ...]:
    """Arrays of the copy that are no longer what the case says."""
    out = []
    for group in ("params", "inputs", "initial", "cotangents"):
        now = getattr(own, group)
        for name, x in (getattr(case, group) or {}).items():
            if _bytes(now.get(name) if isinstance(now, Mapping) else None) != x.tobytes():
                out.append(f"{group}[{name!r}]")
    for name in ("targets", "lengths"):
        if getattr(case, name) is not None and _bytes(getattr(own, name)) != getattr(case, name).tobytes():
            out.append(name)
    return tuple(out)


def _bytes(now: Any) -> bytes | None:
    """The content of what should be an array still."""
    return now.tobytes() if isinstance(now, np.ndarray | np.generic) else None


def name_of(implementation: Any) -> str:
    """What to call an implementation."""
    inner = getattr(implementation, "func", implementation)
    name = getattr(implementation, "name", None) or getattr(inner, "__qualname__", None) or type(inner).__name__
    return str(name).rpartition("<locals>.")[2]
