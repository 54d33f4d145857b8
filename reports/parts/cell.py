"""The equations: as their author wrote them, one by one, with their sources, what plays which part, and the sizes."""

from __future__ import annotations

from collections.abc import Mapping

from derive.cell import Cell
from derive.derivation import Derivation
from derive.latex import cell_latex, name_latex
from reports.document import Block, Code, Formula, Listing, Math, Paragraph, Parts, Section, Table
from reports.parts.shown import Shown
from reports.parts.steps import chapter_section, latex_of
from reports.prose import joined, prose, shape_math

__all__ = ["cell_section", "source_lines"]

_KINDS = {2: "matrix", 1: "vector", 0: "scalar"}


def source_lines(text: str) -> tuple[str, ...]:
    """The lines of the first comment block after the title: where the equations come from.

    >>> source_lines("# a.cell -- A\\n# B, 1990.\\n\\nh[t] = h[t-1]")
    ('B, 1990.',)
    """
    lines: list[str] = []
    for line in text.removeprefix("\ufeff").splitlines():
        if line.strip().startswith("#"):
            lines.append(line.strip().lstrip("#").strip())
        elif lines or line.strip():
            break
    return tuple(line for line in lines[1:] if line)


def cell_section(derivation: Derivation, shown: Shown, sizes: Mapping[str, int]) -> Section:
    """The first section of the story; ``sizes`` are those of the measurements (empty where nothing was measured)."""
    cell = derivation.cell
    source = " ".join(source_lines(cell.text))
    blocks: list[Block] = [Paragraph((source,), "source")] if source else []
    blocks.append(Formula(cell_latex(cell)))
    blocks.append(
        Paragraph((Math(r"\odot"), " and functions act entry by entry; every other product is a matrix product."))
    )
    notes = [Paragraph(("Note: ", *prose(note, cell.axes), "."), "note") for note in cell.notes]
    listings = (
        Listing(cell.text.strip(), "text", "The text that everything in this report was made from"),
        Listing(latex_of(derivation), "latex", "LaTeX of every step, to copy"),
    )
    parts = (
        Section("Roles and sizes", "roles", (_roles(cell), _sizes(cell, sizes), *notes, *listings)),
        *chapter_section(derivation, "forward", shown),
    )
    return Section("The equations", "cell", tuple(blocks), parts)


def _roles(cell: Cell) -> Table:
    rows: list[tuple[Parts, ...]] = []
    for kind in ("states", "inputs", "intermediates", "outputs"):
        for size, names in _by_size(getattr(cell, kind), cell).items():
            listed = joined([(Math(name_latex(n, "t")),) for n in names])
            rows.append(((kind.removesuffix("s"),), (shape_math((size,)),), listed))
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, shape in cell.parameters.items():
        groups.setdefault(shape, []).append(name)
    for shape in sorted(groups, key=lambda s: -len(s)):
        listed = joined([(Math(name_latex(n)),) for n in groups[shape]])
        rows.append(((f"parameter, {_KINDS[len(shape)]}",), (shape_math(shape),), listed))
    return Table((("role",), ("in",), ("quantities",)), tuple(rows), "lll")


def _by_size(names: tuple[str, ...], cell: Cell) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(cell.axes[name], []).append(name)
    return found


def _sizes(cell: Cell, sizes: Mapping[str, int]) -> Table:
    rows: list[tuple[Parts, ...]] = [
        ((Math("T"),), ("the number of steps",)),
        ((Math("B"),), ("the number of sequences",)),
    ]
    for letter, names in cell.dimensions.items():
        listed = joined([(Math(name_latex(n, "t")),) if n in cell.axes else (Code(n),) for n in names])
        rows.append(((Math(name_latex(letter)),), ("the size of ", *listed)))
    if not sizes:
        return Table((("size",), ("meaning",)), tuple(rows), "ll")
    letters = ["T", "B", *cell.dimensions]
    measured = [(*row, (str(sizes[n]) if n in sizes else "",)) for row, n in zip(rows, letters, strict=True)]
    return Table((("size",), ("meaning",), ("in the cross-check",)), tuple(measured), "llr")
