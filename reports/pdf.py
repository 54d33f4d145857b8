"""A document as a PDF on A4, typeset by Typst, which comes as one Python package: no TeX, no browser, no network.

The document is handed to Typst as data; the only code that Typst runs is ``typst/report.typ``, whatever the document
says.  It reads no file but that one and ``typst/formula.typ``.
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
_MISSING = "a PDF needs the package typst; pip install 'bptt[pdf]'"


def to_pdf(document: Document, *, explicit: bool = False, numbers: bool = False) -> bytes:
    """The whole report as a PDF; the same document gives the same bytes.

    ``explicit`` prints each step entry by entry at a small size too, ``numbers`` the numbers behind each figure.
    Raises ModuleNotFoundError where the extra ``pdf`` is not installed.
    """
    typst = _typst()
    content = Content(document, _glyphs(), explicit, numbers)
    return typst.compile(**_source(content), format="pdf", timestamp=0)  # undated: the same bytes at any time


def _source(content: Content) -> dict[str, Any]:
    """What every function of Typst needs: the code, the data, and nothing else from the machine but fonts."""
    return {
        "input": str(_CODE / "report.typ"),
        "root": str(_CODE),
        "sys_inputs": {"document": json.dumps(content.data())},
        "font_paths": [str(font.parent) for font in _fonts()],
        "ignore_system_fonts": True,
    }


def _typst() -> Any:
    try:
        import typst
    except ModuleNotFoundError:
        raise ModuleNotFoundError(_MISSING) from None
    return typst


@lru_cache(maxsize=1)
def _fonts() -> tuple[Path, ...]:
    """Fonts for what Typst's own do not have: STIX Two Math and DejaVu Sans; the packages are not imported."""
    places = (("ziamath", "fonts/STIXTwoMath-Regular.ttf"), ("matplotlib", "mpl-data/fonts/ttf/DejaVuSans.ttf"))
    found = [Path(spec.origin).parent / path for name, path in places if (spec := find_spec(name)) and spec.origin]
    return tuple(path for path in found if path.is_file())


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    """The code points of those fonts."""
    from fontTools.ttLib import TTFont

    return frozenset().union(*(TTFont(path, lazy=True).getBestCmap() for path in _fonts()))
