"""Writing files so that an old one is replaced only by a complete new one."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

__all__ = ["check_writable", "write_files"]


def check_writable(path: Path) -> None:
    """Raise OSError, with the reason in its text, unless a file could be written there now."""
    target = _target(path)
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a directory; give the name of a file")
    if target.exists() and not stat.S_ISREG(target.stat().st_mode):
        raise OSError(f"{path} is not a regular file")
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(f"{path} may not be written")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no directory {target.parent}")
    try:
        os.unlink(_create(target.parent, b"", 0o600))
    except OSError as error:
        raise type(error)(f"{path}: nothing can be written in {target.parent} ({error.strerror})") from None


def write_files(contents: Mapping[Path, str | bytes]) -> None:
    """Write all files or none: each first beside its place, then all moved; nothing is left behind on failure.

    A file that is there keeps its permissions; a symbolic link stays, and what it points to is replaced.
    Raises OSError.
    """
    waiting: dict[Path, str] = {}
    try:
        for path, text in contents.items():
            target = _target(path)
            data = text.encode("utf-8") if isinstance(text, str) else text
            waiting[target] = _create(target.parent, data, _mode(target))
        for target in list(waiting):
            os.replace(waiting[target], target)
            del waiting[target]
            _sync_directory(target.parent)
    finally:
        for left in waiting.values():
            with contextlib.suppress(OSError):
                os.unlink(left)


def _target(path: Path) -> Path:
    """Where a path leads, links followed; raises OSError for links in a circle."""
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(f"{path} is a symbolic link that leads nowhere")
    return target


def _mode(target: Path) -> int | None:
    try:
        return stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        return None


def _create(directory: Path, data: bytes, mode: int | None) -> str:
    """A new file with this content, on the disk; its permissions are ``mode``, or what the system gives a new file."""
    name = os.path.join(directory, f".bptt-{secrets.token_hex(8)}.tmp")
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(name, mode)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    return name


def _sync_directory(directory: Path) -> None:
    """Make the new name itself last, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
