"""What a command is doing, on stderr, once it has taken longer than a person likes to wait in silence."""

from __future__ import annotations

import contextlib
import sys
import threading
from types import TracebackType

__all__ = ["Progress"]

PATIENCE = 2.0  # seconds


class Progress:
    """Told each stage as it begins; says nothing for two seconds, then the stage that is on, then every later one.

    >>> with Progress() as progress:
    ...     progress("something quick")
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self.lock = threading.Lock()
        self.stage = ""
        self.speaking = False
        self.timer = threading.Timer(patience, self._speak)
        self.timer.daemon = True

    def __enter__(self) -> Progress:
        self.timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.lock:
            self.stage, self.speaking = "", False
        self.timer.cancel()

    def __call__(self, stage: str) -> None:
        """A stage begins."""
        with self.lock:
            self.stage = stage
            if self.speaking:
                self._print()

    def _speak(self) -> None:
        with self.lock:
            self.speaking = True
            if self.stage:
                self._print()

    def _print(self) -> None:
        if sys.stderr is None:
            return
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"bptt: {self.stage} ...\n")
            sys.stderr.flush()
