"""From what a person hands in, a text or a path, to lines whose kinds and times are known."""

from __future__ import annotations

import os
from pathlib import Path

from derive.cell import Cell
from derive.errors import CellError
from derive.handwritten.bench import Bench, Understanding
from derive.handwritten.indices import read_indices
from derive.handwritten.kinds import find_kinds
from derive.handwritten.lines import read_script
from derive.handwritten.losses_read import read_loss
from derive.handwritten.text import Text
from derive.handwritten.truth import LossRead
from derive.parse import read_text
from derive.tokens import normal

__all__ = ["loss_of", "read", "read_source"]


def read_source(source: str | os.PathLike[str]) -> tuple[str, str]:
    """The name of a file, or nothing, and its text.

    A string with a line break, an equals sign or brackets is a text, and so is an empty one.  Raises
    :class:`CellError` for a file that is not text, FileNotFoundError where there is none, TypeError for anything else.
    """
    if isinstance(source, str) and (not source.strip() or set(source) & set("\n=[@")) and not _exists(source):
        return "", source
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"equations are a text or a path; found {type(source).__name__}")
    try:
        return str(source), read_text(Path(source))
    except CellError as error:
        raise error.in_source(str(source)) from None


def _exists(source: str) -> bool:
    try:
        return os.path.isfile(source)
    except ValueError:  # a name with a zero in it
        return False


def read(text: str, cell: Cell) -> Text:
    """A .backward text, its kinds and indices found; raises :class:`CellError` for what cannot be read."""
    script = read_script(normal(text), cell)
    indices = read_indices(script)
    return Text(script, find_kinds(script), indices)


def loss_of(text: Text, bench: Bench) -> LossRead:
    """The loss that a file speaks of."""
    return read_loss(text.script, text.indices, lambda line, loss: bench.is_right(line, Understanding(loss)))
