"""The gallery: what each of its pages is made from, and the command that writes all of them.

python -m reports.exhibits          writes reports/gallery
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import derive
from reports.document import Document

__all__ = ["GALLERY", "exhibits", "write_gallery"]

GALLERY = Path(__file__).parent / "gallery"
COMMAND = "bptt judge reports.gallery.my_gru:my_gru --cell gru"


def exhibits() -> dict[str, Callable[[], Document]]:
    """The pages by the stems of their names, each with what makes its document.

    >>> list(exhibits())[-3:]
    ['textbook', 'verification', 'verdict']
    """
    cells = {name: partial(_derived, name) for name in derive.cells()}
    return {**cells, "textbook": _ledger, "verification": _verified, "verdict": _judged}


def _derived(name: str) -> Document:
    from reports.build import build_report

    return build_report(derive.load(name))


def _ledger() -> Document:
    from reports.ledger import build_ledger

    return build_ledger(None)


def _verified() -> Document:
    """A student's derivation of the LSTM, with its one wrong line."""
    from reports.parts.verified import verification_document

    return verification_document(derive.verify(GALLERY / "student.backward", "lstm"))


def _judged() -> Document:
    """A GRU written by hand, with one mistake."""
    from numeric.oracle import judge
    from reports.gallery.my_gru import my_gru
    from reports.parts.judged import verdict_document

    return verdict_document(judge(my_gru, "gru"), derive.load("gru"), command=COMMAND, source="gru")


def write_gallery(folder: Path, stems: list[str] | None = None) -> dict[str, float]:
    """Make the pages anew, with their figures; the seconds that each took, by its stem."""
    from reports.files import write_files
    from reports.markdown import to_markdown

    took = {}
    for stem, make in exhibits().items():
        if stems and stem not in stems:
            continue
        start = time.perf_counter()
        page = to_markdown(make(), stem)
        write_files({folder / f"{stem}.md": page.text, **{folder / name: svg for name, svg in page.files.items()}})
        took[stem] = time.perf_counter() - start
    return took


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m reports.exhibits", description="Write the gallery.")
    parser.add_argument("pages", nargs="*", metavar="PAGE", help=f"out of {', '.join(exhibits())}; all if left out")
    parser.add_argument(
        "-o", "--output", type=Path, default=GALLERY, metavar="DIR", help="where (default: the gallery)"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.pages) - set(exhibits())
    if unknown:
        parser.error(f"no such page: {', '.join(sorted(unknown))}; expected some of {', '.join(exhibits())}")
    for stem, seconds in write_gallery(arguments.output, arguments.pages).items():
        print(f"{stem}.md: {seconds:.1f} s")


if __name__ == "__main__":
    _main()
