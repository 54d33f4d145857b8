"""Reading cells: from text, from a file, and the shipped ones by name."""

from __future__ import annotations

import os
import re
import stat
from importlib.resources import files
from pathlib import Path

from derive.cell import Cell, build
from derive.errors import CellError, nearest
from derive.tokens import LIMITS, normal

__all__ = ["cells", "load", "parse", "read_text"]

_HEADING = re.compile(r"(?P<name>[A-Za-z_][A-Za-z_0-9]*)\.cell(?:\s+[-–—]+\s+|$)")


def cells() -> tuple[str, ...]:
    """Names of the shipped cells.

    >>> cells()
    ('gru', 'gru_reset_after', 'lstm', 'lstm_peephole', 'tanh_rnn')
    """
    names = (entry.name for entry in files("derive").joinpath("cells").iterdir())
    return tuple(sorted(name.removesuffix(".cell") for name in names if name.endswith(".cell")))


def parse(text: str, name: str | None = None) -> Cell:
    """A cell from its equations.

    The first block of comments is the title (its first line) and the source; ``NAME.cell --`` before the title names
    the cell unless ``name`` does.  Raises :class:`CellError`, a ValueError that says line, column, what was found and
    what was expected.

    >>> parse("h[t] = tanh(W @ h[t-1] + U @ x[t])").parameters["U"]
    ('H', 'D')
    """
    if not isinstance(text, str):
        raise TypeError(f"a cell is text, a str; found {type(text).__name__}")
    text = normal(text)
    title = _first_comment(text)
    heading = _HEADING.match(title)
    return build(text, name or (heading["name"] if heading else "cell"), title[heading.end() :] if heading else title)


def _first_comment(text: str) -> str:
    """The first line of the comment that a text opens with."""
    for line in text.split("\n"):
        if words := line.strip():
            comment = words.lstrip("#").strip() if words.startswith("#") else ""
            if comment or not words.startswith("#"):
                return comment
    return ""


def load(name_or_path: str | os.PathLike[str]) -> Cell:
    """A shipped cell by its name, or a cell from the path of a .cell file.

    Raises :class:`CellError` (with the file's name) for a wrong text, FileNotFoundError where there is neither.
    """
    if isinstance(name_or_path, str) and name_or_path in cells():
        entry = files("derive").joinpath("cells", f"{name_or_path}.cell")
        return parse(entry.read_text(encoding="utf-8"), name_or_path)
    path = Path(name_or_path)
    if not _exists(path) and path.suffix != ".cell" and len(path.parts) == 1:
        near = nearest(str(path), cells())
        hint = f"; did you mean {near}?" if near else ""
        raise FileNotFoundError(f"{str(path)!r} is neither a shipped cell ({', '.join(cells())}) nor a file{hint}")
    try:
        stem = path.stem if re.fullmatch(r"\w{1,40}", path.stem) else None
        return parse(read_text(path), stem)
    except CellError as error:
        raise error.in_source(str(path)) from None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long
        return False


def read_text(path: Path, *, characters: int = LIMITS.characters) -> str:
    """The text of a regular file of bounded length; raises :class:`CellError` for anything else."""
    # Looked at before it is opened, because opening a device may do something, and after, because it may have changed;
    # opened without blocking, because a pipe must not be waited for.
    try:
        status = os.stat(path)
    except ValueError:  # a name with a zero in it, or with half a character
        raise FileNotFoundError(f"{str(path)!r} cannot be the name of a file") from None
    _check_regular(status)
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _check_regular(os.fstat(handle))
        data = b""
        limit = 4 * characters + 4
        while len(data) < limit and (chunk := os.read(handle, limit - len(data))):
            data += chunk
    finally:
        os.close(handle)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        if len(data) >= limit:
            raise CellError("the text is too long", expected=f"at most {characters} characters") from None
        found = f"byte 0x{data[error.start]:02x}"
        raise CellError("the text is not UTF-8", (line, column), found=found, expected="text saved as UTF-8") from None


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise CellError("this is not a regular file", expected="a text file with a cell's equations")
