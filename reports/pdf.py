"""A document as a PDF on A4, typeset by Typst, which comes as one Python package: no TeX, no browser, no network.

The document is handed to Typst as data; the only code that Typst runs is ``typst/report.typ``, whatever the document
says.  It reads no file but that one and ``typst/formula.typ``.  The PDF is tagged (PDF/UA-1): it has an outline, every
formula has its LaTeX as a description and every drawing its own, and Typst refuses it if a letter has no glyph.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from reports.document import Document
from reports.typst.content import Content

__all__ = ["to_pdf"]

_CODE = Path(__file__).parent / "typst"
_KEPT: list[str] = []  # the document of which Typst still keeps what it computed, if there is one
_MISSING = "a PDF needs the package typst; pip install 'bptt[pdf]'"


def to_pdf(document: Document, *, explicit: bool = False, numbers: bool = False) -> bytes:
    """The whole report as a PDF; the same document gives the same bytes.

    ``explicit`` prints each step entry by entry at a small size too, ``numbers`` the numbers behind each figure and
    what is folded within a fold.
    Raises ModuleNotFoundError where the extra ``pdf`` is not installed.
    """
    typst = _typst()
    content = Content(document, _glyphs(), explicit, numbers)
    _forget()
    _KEPT.append(document.name)
    return typst.compile(**_source(content), format="pdf", pdf_standards="ua-1")


def _source(content: Content) -> dict[str, Any]:
    """What every function of Typst needs: the code, the data, and nothing else from the machine but fonts."""
    return {
        "input": str(_CODE / "report.typ"),
        "root": str(_CODE),
        "sys_inputs": {"document": json.dumps(content.data())},
        "font_paths": _fonts(),
        "ignore_system_fonts": True,
    }


def _typst() -> Any:
    try:
        import typst
    except ModuleNotFoundError:
        raise ModuleNotFoundError(_MISSING) from None
    return typst


@lru_cache(maxsize=1)
def _fonts() -> Any:
    """Typst's own fonts, and those for what they do not have."""
    folders = [str(path.parent) for path in _font_files()]
    return _typst().Fonts(include_system_fonts=False, font_paths=folders)


@lru_cache(maxsize=1)
def _font_files() -> tuple[Path, ...]:
    """STIX Two Math and DejaVu Sans, which come with packages that are not imported here."""
    places = (("ziamath", "fonts/STIXTwoMath-Regular.ttf"), ("matplotlib", "mpl-data/fonts/ttf/DejaVuSans.ttf"))
    found = [Path(spec.origin).parent / path for name, path in places if (spec := find_spec(name)) and spec.origin]
    return tuple(path for path in found if path.is_file())


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    """The code points of those fonts."""
    from fontTools.ttLib import TTFont

    found: set[int] = set()
    for path in _font_files():
        with TTFont(path, lazy=True) as font:
            found |= set(font.getBestCmap())
    return frozenset(found)


def _forget() -> None:
    """Typst keeps what it computed for a document, some 70 MB, until ten other ones were compiled; these are empty.

    It is done before the next document, so that the last one, which is most often the only one, does not wait for it.
    """
    if not _KEPT:
        return
    _KEPT.clear()
    typst = _typst()
    compiler = typst.Compiler(font_paths=_no_fonts(), ignore_system_fonts=True)
    for _ in range(11):
        compiler.compile(b" ", format="svg")


@lru_cache(maxsize=1)
def _no_fonts() -> Any:
    return _typst().Fonts(include_system_fonts=False, include_embedded_fonts=False)
