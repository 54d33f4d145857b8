"""The measurements as text, as Markdown and as data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from .agreement import TOLERANCE
from .memory import MemoryRow, WarmRow
from .rows import RATIOS, Row
from .timing import Time

__all__ = [
    "MEMORY",
    "SPEED",
    "WARM",
    "Table",
    "as_data",
    "by_hand",
    "legend",
    "memory_cells",
    "speed_cells",
    "warm_cells",
]


@dataclass(frozen=True)
class Table:
    """Headings, and the widths of the columns as text."""

    headings: tuple[str, ...]
    widths: tuple[int, ...]

    def line(self, cells: Sequence[str]) -> str:
        """A line of text: the first column to the left, the others to the right, the last one as it is."""
        first, *middle, last = cells
        inner = "".join(f"{c:>{w}}" for c, w in zip(middle, self.widths[1:-1], strict=True))
        return f"{first:<{self.widths[0]}}{inner}  {last}".rstrip()

    def markdown(self, rows: Iterable[Sequence[str]]) -> str:
        """All of it as Markdown."""
        rule = ["---", *["--:"] * (len(self.headings) - 2), "---"]
        return "\n".join("| " + " | ".join(cells) + " |" for cells in (self.headings, rule, *rows))


SPEED = Table(
    ("case", "ours", "PyTorch", "JAX", "floor", "by hand", *(title for title, _ in RATIOS.values()), "reached"),
    (50, 10, 11, 10, 10, 10, 17, 15, 15, 16, 0),
)
MEMORY = Table(
    (
        "case",
        "full, ms",
        "plan, ms",
        "time, plan / full",
        "tape, MB",
        "full peak",
        "plan peak",
        "peak, plan / full",
        "reached",
    ),
    (50, 11, 11, 19, 10, 11, 11, 19, 0),
)
WARM = Table(("call", "T", "2 T", "returned at T", "at 2 T", "grows"), (50, 16, 16, 16, 16, 0))


def speed_cells(row: Row) -> list[str]:
    """One row of the table."""
    times = [_ms(row.ours), *(_ms(row.times.get(name)) for name in RATIOS)]
    name = str(replace(row.case, problem=row.problem)) + (f" ({row.mode})" if row.case.ours == "best" else "")
    return [name, *times, *(_ratio(row, name) for name in RATIOS), _reached(row)]


def _ms(time: Time | None) -> str:
    """Milliseconds to three or four digits, a star where it was timed once."""
    if time is None:
        return "-"
    digits = 3 if time.median < 1 else 2 if time.median < 10 else 1 if time.median < 1_000 else 0
    return f"{time.median:,.{digits}f}" + ("*" if time.samples == 1 else "")


def _ratio(row: Row, name: str) -> str:
    ratio, bound = row.ratio(name), row.bound(name)
    sign = ">=" if RATIOS[name][1] else "<="
    return ("-" if ratio is None else f"{ratio:.2f}") + (f" ({sign} {bound:g})" if bound is not None else "")


def _reached(row: Row) -> str:
    missed, unknown = row.missed()
    if missed:
        return "no: " + ", ".join(missed)
    return "open: " + ", ".join(unknown) if unknown else "yes"


def memory_cells(row: MemoryRow) -> list[str]:
    """One row of the table of memory plans."""
    longer = f"{row.longer:.2f} (<= {row.case.longer:g})"
    share = f"{row.share:.1%} (<= {row.case.share:.0%})"
    reached = "yes" if row.reached else "no"
    sizes = map(_mb, (row.tape, row.full_peak, row.plan_peak))
    return [str(row.case), _ms(row.full), _ms(row.plan), longer, *sizes, share, reached]


def _mb(count: int) -> str:
    return f"{count / 1e6:,.2f}"


def warm_cells(row: WarmRow) -> list[str]:
    """One row of the table of warm calls."""
    numbers = (row.short.working, row.long.working, row.short.result, row.long.result)
    return [row.call, *(f"{n:,}" for n in numbers), "yes" if row.grows else "no"]


def by_hand(rows: Iterable[Row]) -> str:
    """The last line: the generated engine against loops written by hand, over all rows."""
    ratios = [(ratio, row) for row in rows if (ratio := row.ratio("hand")) is not None]
    if not ratios:
        return ""
    worst, row = min(ratios, key=lambda pair: pair[0])
    never = sum(ratio >= 1 for ratio, _ in ratios)
    case = replace(row.case, problem=row.problem)
    return f"generated against written by hand: not slower in {never} of {len(ratios)}; worst {worst:.2f} at {case}"


def legend(rows: Sequence[Row]) -> list[str]:
    """What the table's reader has to know."""
    seen = ", ".join(
        f"{max(found):.0e} in {dtype} (tolerance {TOLERANCE[dtype]:.0e})"
        for dtype in TOLERANCE
        if (found := [row.difference for row in rows if row.problem.dtype == dtype])
    )
    notes = dict.fromkeys(note for row in rows for note in row.notes)
    return [
        "Milliseconds: forward, softmax cross-entropy at every step and backward for all parameters; medians of "
        "interleaved runs; * timed once. PyTorch's padded time on ragged batches is multiplied by "
        "sum(lengths) / (T B).",
        "The floor: the matrix products alone, each in the better layout, and as many tanh as there are activations.",
        f"All compute the same gradient: largest difference of a parameter's, relative to its norm, {seen}.",
        *notes,
        *dict.fromkeys(f"NOT THE SAME GRADIENT: {text}" for row in rows for text in row.disagreements),
    ]


def as_data(rows: Iterable[Row], memory: Iterable[MemoryRow]) -> dict[str, Any]:
    """Everything, for a program."""
    speed = [
        asdict(row)
        | {"name": speed_cells(row)[0], "ratios": {n: row.ratio(n) for n in RATIOS}, "missed": row.missed()[0]}
        for row in rows
    ]
    return {"speed": speed, "memory": [asdict(row) | {"longer": row.longer, "share": row.share} for row in memory]}
