"""A document as the files that a person asked for: HTML, Markdown with its figures beside it, or PDF."""

from __future__ import annotations

import glob
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from reports.console import UsageError

if TYPE_CHECKING:
    from reports.document import Document

__all__ = ["beside", "check_format", "written"]

#: What the extra ``pdf`` installs.
_FOR_PDF = "typst"


def written(document: Document, output: Path) -> dict[Path, str | bytes]:
    """Every file of a report, by path; the end of the name says which kind it is."""
    match output.suffix.lower():
        case ".pdf":
            check_format(output)
            from reports.pdf import to_pdf

            return {output: to_pdf(document)}
        case ".md":
            from reports.markdown import to_markdown

            page = to_markdown(document, output.stem)
            figures: dict[Path, str | bytes] = {output.parent / name: svg for name, svg in page.files.items()}
            return {**figures, output: page.text}
    from reports.html import to_html

    return {output: to_html(document)}


def check_format(output: Path) -> None:
    """Raise :class:`UsageError` where a library that this kind of file needs is not installed."""
    if output.suffix.lower() == ".pdf" and find_spec(_FOR_PDF) is None:
        what = f"a PDF needs the package {_FOR_PDF}: pip install 'bptt[pdf]'"
        raise UsageError(f"{output}: {what}; .html and .md need nothing more")


def beside(output: Path) -> tuple[Path, ...]:
    """Files that are there already and that a report's figures may replace, whatever these are called."""
    if output.suffix.lower() != ".md":
        return ()
    pattern = f"{glob.escape(str(output.parent / output.stem))}-*.svg"
    return tuple(Path(name) for name in sorted(glob.glob(pattern)))
