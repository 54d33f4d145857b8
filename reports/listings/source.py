"""The text of a listing, and running it: the one place where the packages run a file as a program.

The files are the package's own; which one is said by a name out of a fixed list, never by a path.
"""

from __future__ import annotations

import runpy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import derive.claims

__all__ = ["FORMS", "HARNESSES", "Source", "shipped"]

#: What a listing is run as: as the book prints it, or as it should be.
FORMS = ("printed", "mended")
#: The shipped listings; each has a harness of that name in this package.
HARNESSES = ("automatic", "flow", "manual", "truncated")

_FOLDER = Path(derive.claims.__file__).parent / "listings"


@dataclass(frozen=True)
class Source:
    """A listing's file."""

    path: Path

    @property
    def text(self) -> str:
        """What it says."""
        return self.path.read_text(encoding="utf-8")

    def run(self, **given: Any) -> dict[str, Any]:
        """Run it from the top, with some names given, and hand out every name that it then has."""
        return runpy.run_path(str(self.path), init_globals=given)


def shipped(harness: str, form: str = "printed") -> Source:
    """A listing of this package; raises ValueError for a name that is none.

    >>> shipped("manual").text.splitlines()[0]
    'def bptt_manual(xs, hs, ys, targets, W_xh, W_hh, W_hy):'
    """
    if harness not in HARNESSES or form not in FORMS:
        raise ValueError(f"there is no listing {harness!r} as {form!r}; expected one of {HARNESSES}, {FORMS}")
    return Source(_FOLDER / f"{harness}{'_mended' if form == 'mended' else ''}.py")
