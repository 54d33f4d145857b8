"""A bar on stderr that says how far a loop is: redrawn in place on a terminal, else a line now and then."""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType

__all__ = ["Bar"]

REDRAW = 0.1  # seconds between drawings on a terminal
LINE = 10.0  # seconds between lines elsewhere
WIDTH = 24  # characters of the bar itself


class Bar:
    """Told each finished step; silent where ``shown`` is false or where there is no stderr.

    >>> with Bar(100, shown=False) as bar:
    ...     bar(1, 0.25)
    """

    def __init__(self, steps: int, *, start: int = 0, shown: bool = True) -> None:
        self.steps, self.start = steps, start
        self.stream = sys.stderr if shown else None
        self.terminal = self.stream is not None and self.stream.isatty()
        self.began = self.drawn = time.monotonic()
        self.text = self.last = ""

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.terminal and self.text:
            self._write(f"\r{self.text}\n")
        elif self.last:
            self._write(f"{self.text}\n")

    def __call__(self, step: int, loss: float) -> None:
        """A step is done."""
        if self.stream is None:
            return
        now = time.monotonic()
        self.text = self._say(step, loss, now - self.began)
        if now - self.drawn >= (REDRAW if self.terminal else LINE):
            self.drawn, self.last = now, self.text
            self._write(f"\r{self.text}" if self.terminal else f"{self.text}\n")

    def _say(self, step: int, loss: float, seconds: float) -> str:
        done = WIDTH * step // self.steps
        rate = (step - self.start) / max(seconds, 1e-9)
        left = round((self.steps - step) / max(rate, 1e-9))
        pace = f"{rate:.1f} steps/s, {left // 60}:{left % 60:02d} left"
        return f"fit {step}/{self.steps} [{'=' * done}{' ' * (WIDTH - done)}] loss {loss:<10.4g} {pace:<32}"

    def _write(self, text: str) -> None:
        if self.stream is not None:
            with contextlib.suppress(OSError, ValueError):
                self.stream.write(text)
                self.stream.flush()
