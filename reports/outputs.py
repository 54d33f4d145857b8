"""Files that a command writes: what cannot be written is said before the work begins, in one line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from reports.console import UsageError
from reports.files import check_writable, write_files

__all__ = ["REPORTS", "check_apart", "checked_output", "checked_report", "write_all"]

#: What a report may be, by the end of its name.
REPORTS = (".html", ".md", ".pdf")


def checked_output(name: str | Path, suffixes: Sequence[str], what: str) -> Path:
    """The path of a file that can be written now; raises :class:`UsageError` for a name of another kind."""
    output = Path(name)
    if output.suffix.lower() not in suffixes:
        ends = " or ".join(filter(None, (", ".join(suffixes[:-1]), suffixes[-1])))
        raise UsageError(f"{output}: {what} is a file whose name ends in {ends}")
    _check([output])
    return output


def checked_report(name: str | Path) -> Path:
    """The path of a report that can be written now, with whatever else comes with it; raises :class:`UsageError`."""
    from reports.written import beside, check_format

    output = checked_output(name, REPORTS, "a report")
    check_format(output)
    _check(beside(output))
    return output


def check_apart(source: str, output: Path, what: str = "the cell") -> None:
    """Raise :class:`UsageError` where a result would be written over what it is made from."""
    if os.path.exists(source) and os.path.exists(output) and os.path.samefile(source, output):
        raise UsageError(f"{output} is {what} itself; give another file for the report")


def write_all(contents: Mapping[Path, str | bytes]) -> None:
    """Write all files or none; raises :class:`UsageError`."""
    _check(contents)
    try:
        write_files(contents)
    except OSError as error:
        raise UsageError(f"the report cannot be written ({error.strerror or error}); nothing was changed") from None


def _check(paths: Sequence[Path] | Mapping[Path, str | bytes]) -> None:
    try:
        for path in paths:
            check_writable(path)
    except (OSError, ValueError) as error:
        system = getattr(error, "strerror", None)  # of the system's own errors, which name no file as it was typed
        raise UsageError(f"{path}: {system}" if system else str(error)) from None
