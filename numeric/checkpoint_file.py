"""The file of a fit: written so that an old one is replaced only by a complete new one, and read with suspicion.

An .npz archive without pickles, not compressed:

    about                  UTF-8 JSON: format, step, updates, and ``settings``, which a resumed fit must share
    losses                 (step,) float64
    params/<name>          each parameter
    moments/<kind>/<name>  what the optimizer remembers of it

What the archive must hold, with every dtype and shape, is known before it is read: nothing larger is read, and
whatever is not as expected is a :class:`FitError` that says what was found.  Each entry carries its CRC-32.  The end
of an archive lists them all: by it a file is known that somebody else has written since, and is left alone.
"""

from __future__ import annotations

import contextlib
import glob
import io
import json
import os
import secrets
import stat
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from numeric.arguments import Array
from numeric.fit_error import FitError
from numeric.optimize import UpdateState

__all__ = ["Seen", "Snapshot", "read_snapshot", "write_snapshot"]

Seen = tuple[int, bytes] | None  # the length and the end of a file; None where there is none

FORMAT = 1
HEADER = 4096  # bytes, more than the header of any array that is written here
ABOUT = 1 << 20  # bytes, more than any settings
TAIL = 4096  # bytes, more than the list of the last entries: about and losses are among them
STALE = 600.0  # seconds after which an unfinished file is nobody's


@dataclass(frozen=True)
class Snapshot:
    """A fit after ``step`` steps; ``losses`` are theirs."""

    step: int
    params: Mapping[str, Array]
    state: UpdateState
    losses: Array


# ------------------------------------------------------------------------------------------------------------- writing


def write_snapshot(path: Path, snapshot: Snapshot, settings: Mapping[str, Any], seen: Seen) -> Seen:
    """Replace the file in one move, once the new one is on the disk, and say what it looks like now.

    ``seen`` is what it looked like when it was last read or written.  The permissions of an old file are kept, and a
    symbolic link stays one.  Raises :class:`FitError` where another file stands there now, and OSError where it cannot
    be written; both leave it as it is.
    """
    target, data = Path(os.path.realpath(path)), _archive(snapshot, settings)
    if target.exists() and not target.is_file():
        raise OSError(f"{target} is not a regular file")
    waiting = target.parent / f".{target.name}.{secrets.token_hex(8)}.tmp"
    handle = os.open(waiting, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            _check_unchanged(target, seen)
            os.chmod(waiting, stat.S_IMODE(target.stat().st_mode))
        os.replace(waiting, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(waiting)
        raise
    _sync_directory(target.parent)
    return len(data), data[-TAIL:]


def _check_unchanged(target: Path, seen: Seen) -> None:
    """Raise FitError if the file is not the one that was seen."""
    with open(target, "rb") as file:
        if _look(file) != seen:
            raise FitError("it was written by somebody else in the meantime; give each fit a file of its own")


def _look(file: IO[bytes]) -> Seen:
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - TAIL))
    return length, file.read(TAIL)


def _archive(snapshot: Snapshot, settings: Mapping[str, Any]) -> bytes:
    about = {"format": FORMAT, "step": snapshot.step, "updates": snapshot.state.updates, "settings": settings}
    if len(text := json.dumps(about).encode()) > ABOUT:
        raise FitError(f"the settings have {len(text)} bytes, more than {ABOUT}; an optimizer's repr must be short")
    arrays = _named(snapshot.params, snapshot.state) | {
        "about": np.frombuffer(text, np.uint8),
        "losses": np.asarray(snapshot.losses, np.float64),
    }
    room = io.BytesIO()
    np.savez(room, **arrays)  # type: ignore[arg-type]
    return room.getvalue()


def _named(params: Mapping[str, Array], state: UpdateState) -> dict[str, Array]:
    """The arrays by their names in the archive."""
    moments = {f"moments/{k}/{n}": x for k, of in state.moments.items() for n, x in of.items()}
    return {f"params/{n}": x for n, x in params.items()} | moments


def _sync_directory(directory: Path) -> None:
    """Make the new name itself last, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# ------------------------------------------------------------------------------------------------------------- reading


def read_snapshot(
    path: Path, start: Snapshot, settings: Mapping[str, Any], most: int
) -> tuple[Snapshot, Seen] | tuple[None, None]:
    """The snapshot in a file, which must be like ``start``, have these settings and at most ``most`` steps.

    With it, what the file looks like.  None where there is no file.  Unfinished files that an earlier run left behind
    are removed.  Raises :class:`FitError` that says what was found, what was expected and what to do; the file stays
    as it is.
    """
    try:
        target = Path(os.path.realpath(path))
        _remove_stale(target)
        if not os.path.lexists(target):
            return None, None
        if not target.is_file():
            raise FitError(f"{path} is not a regular file; give the name of a file")
        if target.stat().st_size > (bound := _bound(start, most)):
            raise FitError(
                f"the file has {target.stat().st_size} bytes; expected at most {bound}: it is of another fit"
            )
        with open(target, "rb") as file, zipfile.ZipFile(file) as archive:
            found = _read(archive, start, settings, most)
            return found, _look(file)
    except FitError as error:
        raise FitError(f"{path}: {error}") from None
    except OSError as error:
        raise FitError(f"{path} cannot be read: {error.strerror or error}; nothing was changed") from error
    except Exception as error:  # whatever the archive's reader raises on bytes that nobody meant
        advice = "restore a copy, or move it away to begin again"
        raise FitError(f"{path} is damaged, or not the file of a fit: {error}; {advice}") from error


def _bound(start: Snapshot, most: int) -> int:
    """Bytes that a file may have: enough for one of another fit, so that it can be said what differs."""
    arrays = _named(start.params, start.state)
    return 4 * (sum(x.nbytes for x in arrays.values()) + 8 * most + HEADER * len(arrays)) + 16 * ABOUT


def _read(archive: zipfile.ZipFile, start: Snapshot, settings: Mapping[str, Any], most: int) -> Snapshot:
    entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
    if "about" not in entries:
        raise ValueError(f"it holds {_few(entries)}; expected about, losses and params")
    with archive.open(entries["about"]) as file:
        _header(file)
        about = json.loads(_rest(file, entries["about"], ABOUT))
    step, updates = _count(about, "step"), _count(about, "updates")
    _check_settings(about.get("settings"), settings)
    if step > most:
        raise FitError(f"the file holds {step} steps, and steps is {most}; ask for at least {step}")
    expected = _named(start.params, start.state) | {"losses": np.broadcast_to(0.0, step)}
    if set(entries) != {*expected, "about"}:
        wrong = _few(set(entries) ^ {*expected, "about"})
        raise FitError(f"the file holds {_few(entries)}; {wrong} differ from the parameters and the optimizer given")
    found = {name: _array(archive, entries[name], name, model) for name, model in expected.items()}
    params = {n: found[f"params/{n}"] for n in start.params}
    moments = {k: {n: found[f"moments/{k}/{n}"] for n in of} for k, of in start.state.moments.items()}
    return Snapshot(step, params, UpdateState(updates, moments), found["losses"])


def _check_settings(found: Any, expected: Mapping[str, Any]) -> None:
    """Raise FitError for the first setting that differs."""
    if not isinstance(found, dict):
        raise ValueError("it says nothing of its settings")
    for name, value in json.loads(json.dumps(expected)).items():
        if found.get(name) != value:
            mine, yours = _differing(str(found.get(name)), str(value))
            advice = "give the same, or another file"
            raise FitError(f"the file belongs to a fit with another {name}: {mine}; found now: {yours}; {advice}")


def _differing(a: str, b: str) -> tuple[str, str]:
    """The first line in which two texts differ."""
    lines = zip([*a.splitlines(), ""], [*b.splitlines(), ""], strict=False)
    return next(((x[:200], y[:200]) for x, y in lines if x != y), (a[:200], b[:200]))


def _count(about: Any, name: str) -> int:
    value = about.get(name) if isinstance(about, dict) and about.get("format") == FORMAT else None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise ValueError(f"it says no {name} in format {FORMAT}")
    return value


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, model: Array) -> Array:
    """One entry, which must have the model's shape and dtype and be finite; its CRC is checked."""
    with archive.open(entry) as file:
        shape, dtype = _header(file)
        if shape != model.shape or dtype != model.dtype:
            raise FitError(f"{name} has shape {shape} and dtype {dtype}; expected {model.shape} and {model.dtype}")
        data = _rest(file, entry, model.nbytes)
    if len(data) != model.nbytes:
        raise ValueError(f"{name} has {len(data)} bytes; expected {model.nbytes}")
    array = np.frombuffer(data, model.dtype).reshape(model.shape).copy()
    if not np.isfinite(array).all():
        raise ValueError(f"{name} is not finite")
    return array


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of an array in C order."""
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an array is not in format 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if fortran:
        raise ValueError("an array is in Fortran's order")
    return shape, dtype


def _rest(file: IO[bytes], entry: zipfile.ZipInfo, most: int) -> bytes:
    """All that is left of an entry, unless it is larger than it can be."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > most + HEADER:
        raise ValueError(f"{entry.filename} has {entry.file_size} bytes; expected about {most}, uncompressed")
    return file.read()


def _few(names: Any) -> str:
    names = sorted(names)
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"


def _remove_stale(target: Path) -> None:
    """Remove what killed runs left half written."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.{'[0-9a-f]' * 16}.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink()
