"""What ends a fit: a number that is not finite, or a file that cannot be read or written."""

from __future__ import annotations

from typing import Any

__all__ = ["FitError"]


class FitError(Exception):
    """A fit that cannot go on; what was saved before is whole.

    ``step`` is the step that failed, counted from 1 (None where a file is meant); ``tensor`` what is not finite, such
    as "h", "dL/dh" or "dL/dW_hh"; ``time`` the time step, from 1 to T, at which it first appeared (0: the initial
    state), None where the tensor has no time.  ``reached`` is the :class:`numeric.Fit` of the steps that were
    finished in memory, where there are any: with a full disk, more than the file has.
    """

    def __init__(
        self, message: str, *, step: int | None = None, tensor: str | None = None, time: int | None = None
    ) -> None:
        super().__init__(message)
        self.step, self.tensor, self.time = step, tensor, time
        self.reached: Any = None
