"""A program that answers lines with lines: started without a shell, limited, and stopped with all that it started.

What it prints is read up to a bound, whatever it prints; its errors are read to the end, and the last of them kept.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence

__all__ = ["NoAnswerError", "Program", "memory_can_be_limited"]

_CHUNK = 1 << 16
#: Chunks that are read ahead: a program that prints more waits.
_AHEAD = 16
#: Bytes of standard error that are kept.
_TAIL = 2000
#: Seconds for a program to end by itself once its input is closed.
_GRACE = 0.5


class NoAnswerError(Exception):
    """A program did not answer; ``kind`` is "hung", "crashed" or "raised" (what it printed was too much)."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.message = kind, message


def memory_can_be_limited() -> bool:
    """Whether this system limits another process's memory: Linux does."""
    try:
        import resource
    except ImportError:
        return False
    return hasattr(resource, "prlimit")


class Program:
    """A running program; ``memory_limit`` in bytes of its address space, None for none.

    Raises OSError for one that cannot be started.
    """

    def __init__(
        self, arguments: Sequence[str], memory_limit: int | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.process = subprocess.Popen(
            list(arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=None if environment is None else dict(environment),
            start_new_session=os.name == "posix",  # a group of its own, and no Ctrl-C from this terminal
        )
        self.memory_limit = memory_limit
        if memory_limit is not None:
            self._limit(memory_limit)
        self.chunks: queue.Queue[bytes] = queue.Queue(_AHEAD)
        self.stopped = threading.Event()
        self.left, self.tail = b"", b""
        self.answered = False
        self.readers = (_started(self._read_answers), _started(self._read_errors))
        self.writer: threading.Thread | None = None

    def _limit(self, most: int) -> None:
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(self.process.pid, resource.RLIMIT_AS, (most, most))

    # ------------------------------------------------------------------------------------------------------- pipes

    def _read_answers(self) -> None:
        assert self.process.stdout is not None
        data = b"..."
        while data and not self.stopped.is_set():
            data = _read(self.process.stdout.fileno())
            while not self.stopped.is_set():
                with contextlib.suppress(queue.Full):
                    self.chunks.put(data, timeout=0.2)
                    break

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        while data := _read(self.process.stderr.fileno()):
            self.tail = (self.tail + data)[-_TAIL:]

    def _write(self, line: bytes) -> None:
        assert self.process.stdin is not None
        rest = memoryview(line)
        with contextlib.suppress(OSError, ValueError):  # that it has ended is seen where the answer is missing
            while rest:
                rest = rest[self.process.stdin.write(rest) :]

    # ----------------------------------------------------------------------------------------------------- answers

    def ask(self, request: bytes, most: int, limit: float | None) -> bytes:
        """The line that answers a line, within ``limit`` seconds and of at most ``most`` bytes; raises NoAnswerError.

        A program that answered before it had read the whole line is out of step, and its next answer shows it.
        """
        if request:
            self.writer = _started(lambda: self._write(request))
        end = None if limit is None else time.monotonic() + limit
        found, start, total, line = bytearray(self.left), 0, len(self.left), b""
        while not line.strip():  # an empty line says nothing
            while (at := found.find(b"\n", start)) < 0:
                if total > most:
                    raise NoAnswerError("raised", f"printed more than {most} bytes for one answer")
                start = len(found)
                found += self._next(end, limit)
                total += len(found) - start
            line, start = bytes(found[:at]), 0
            del found[: at + 1]
        self.left, self.answered = bytes(found), True
        return line

    def _next(self, end: float | None, limit: float | None) -> bytes:
        """More of what it prints."""
        ended = 0
        while True:
            wait = 0.1 if end is None else min(0.1, end - time.monotonic())
            try:
                data = self.chunks.get(timeout=max(wait, 0.001))
            except queue.Empty:
                # what something else that it started could still print is not waited for long
                ended += self._has_ended()
                if ended > 2:
                    raise self._crash() from None
                if wait <= 0:
                    raise self._hung(limit) from None
                continue
            if wait <= 0:  # one that prints without end is late, too
                raise self._hung(limit)
            if not data:
                raise self._crash()
            return data

    def _hung(self, limit: float | None) -> NoAnswerError:
        hint = " (is its output flushed, and ended by a line end?)" if not self.answered else ""
        return NoAnswerError("hung", f"did not answer within {limit:g} s{hint}{self._last_words()}")

    def _has_ended(self) -> bool:
        """Without taking the ended process away, so that its number still stands for its group."""
        if not hasattr(os, "waitid"):
            return self.process.poll() is not None
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return self.process.returncode is not None or os.waitid(os.P_PID, self.process.pid, flags) is not None

    def _crash(self) -> NoAnswerError:
        """How it ended, or that it closed its output."""
        until = time.monotonic() + _GRACE
        while not self._has_ended() and time.monotonic() < until:
            time.sleep(0.005)
        alive = not self._has_ended()
        self.stop()
        how = "closed its standard output" if alive else _ending(self.process.returncode)
        limit = f" (memory limit {self.memory_limit >> 20} MiB)" if self.memory_limit is not None else ""
        return NoAnswerError("crashed", f"{how}{limit}{self._last_words()}")

    def _last_words(self) -> str:
        lines = [line for line in self.tail.decode("utf-8", "replace").splitlines() if line.strip()]
        said = " | ".join(lines[-3:])[-300:]
        shown = "".join(c if c.isprintable() else "?" for c in said)
        return f"; its standard error ended with: {shown}" if shown else ""

    # -------------------------------------------------------------------------------------------------------- ends

    def finish(self) -> None:
        """Close its input, give it a moment to end by itself, and stop it."""
        if self.process.stdin is not None and not (self.writer and self.writer.is_alive()):
            with contextlib.suppress(OSError):
                self.process.stdin.close()
            until = time.monotonic() + _GRACE
            while not self._has_ended() and time.monotonic() < until:
                time.sleep(0.002)
        self.stop()

    def stop(self) -> None:
        """Kill it and its process group, nothing else."""
        if self.stopped.is_set():
            return
        self.stopped.set()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.name == "posix":
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()
        self.process.wait()
        threads = [t for t in (*self.readers, self.writer) if t is not None]
        for thread in threads:
            thread.join(1.0)
        if not any(thread.is_alive() for thread in threads):
            for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()


def _started(run: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def _read(handle: int) -> bytes:
    try:
        return os.read(handle, _CHUNK)
    except OSError:
        return b""


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with exit status {status} and without an answer"
    try:
        return f"crashed with {signal.Signals(-status).name}"
    except ValueError:
        return f"crashed with signal {-status}"
