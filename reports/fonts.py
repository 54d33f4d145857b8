"""The mathematics font of a page: STIX Two Math (SIL Open Font License), cut down to the letters that the page shows.

The glyphs from which large brackets, sums and roots are built stay, and so do the small forms for subscripts.
"""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["embedded_font"]

_FEATURES = ["ssty", "dtls", "flac", "ccmp", "kern", "mark", "mkmk"]


def embedded_font(letters: Iterable[str]) -> str:
    """A data URI of the font with at least these letters; the same letters give the same bytes."""
    return _data_uri(frozenset(map(ord, letters)))


@lru_cache(maxsize=8)
def _data_uri(codes: frozenset[int]) -> str:
    data = base64.b64encode(_subset(codes)).decode("ascii")
    return f"data:font/woff;base64,{data}"


def _subset(codes: frozenset[int]) -> bytes:
    from fontTools import subset, ttLib

    logging.getLogger("fontTools").setLevel(logging.ERROR)
    font = ttLib.TTFont(io.BytesIO(_source().read_bytes()), lazy=True, recalcTimestamp=False)
    options = subset.Options(
        layout_features=_FEATURES, hinting=False, name_IDs=[0, 1, 2, 13, 14], drop_tables=["DSIG", "FFTM", "gasp"]
    )
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=sorted(codes))
    subsetter.subset(font)
    _level_scripts(font)
    font.flavor = "woff"
    out = io.BytesIO()
    font.save(out)
    return out.getvalue()


def _source() -> Path:
    """The font that the package ziamath carries; the package itself is not imported."""
    spec = find_spec("ziamath")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package ziamath, which carries the mathematics font, is not installed")
    return Path(spec.origin).parent / "fonts" / "STIXTwoMath-Regular.ttf"


def _level_scripts(font: Any) -> None:
    """Let subscripts stand at one height, below y as below h, and superscripts too.

    TeX moves a script away from a tall or deep *formula* only; browsers do so for a letter too, by these constants.
    """
    constants = font["MATH"].table.MathConstants
    constants.SubscriptBaselineDropMin.Value = -1000
    constants.SuperscriptBaselineDropMax.Value = 400
