"""A document as data for ``report.typ``: dictionaries, lists and strings, with nothing in them that Typst would run."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from reports.document import (
    Block,
    Code,
    CodeLines,
    Document,
    Entry,
    Figure,
    Fold,
    Formula,
    Inline,
    Items,
    Link,
    Listing,
    Local,
    Mark,
    Math,
    Paragraph,
    Parts,
    Quantity,
    Section,
    Step,
    Table,
)
from reports.figures import standalone
from reports.typst.letters import breakable, printable, words
from reports.typst.lines import displayed, within_line

__all__ = ["Content"]

Data = dict[str, Any]
_NAMELESS = "–"  # instead of an empty title
_TITLES = 3  # of what is left out


@dataclass(frozen=True)
class Content:
    """What is printed of a document; ``glyphs`` are the letters that the fonts have (None: any).

    ``explicit`` prints each step entry by entry too, ``numbers`` the numbers behind each figure and what is folded
    within a fold.
    """

    document: Document
    glyphs: Collection[int] | None = None
    explicit: bool = False
    numbers: bool = False

    def data(self) -> Data:
        """The whole document."""
        document = self.document
        first, *rest = document.sections
        return {
            "name": self._text(document.name),
            "title": self._text(document.title).strip() or _NAMELESS,
            "kicker": self._text(document.kicker),
            "verdict": self._inline(document.verdict),
            "first": self._section(first),
            "sections": [self._section(section) for section in rest],
            "left_out": self._left_out(),
        }

    def _left_out(self) -> str:
        """One line about what other formats have and this one does not; empty where nothing is missing."""
        blocks = list(self.document.blocks())
        steps = not self.explicit and any(isinstance(b, Step) and b.explicit for b in blocks)
        data = not self.numbers and any(isinstance(b, Figure) and b.data is not None for b in blocks)
        missing = ["the steps written out entry by entry"] * steps + ["the numbers behind the figures"] * data
        folds = [] if self.numbers else list(_folded_twice(blocks))
        missing += [f'the tables "{title}"' for title in dict.fromkeys(fold.title for fold in folds)][:_TITLES]
        *some, last = missing or [""]
        return f"Left out on paper: {', '.join(some)}{' and ' * bool(some)}{last}." if missing else ""

    def _text(self, text: str) -> str:
        return breakable(printable(re.sub(r"\s+", " ", text), self.glyphs))

    def _code(self, text: str) -> str:
        return breakable(printable(text, self.glyphs))

    # ------------------------------------------------------------------------------------------------- inlines

    def _parts(self, parts: Parts) -> list[Data]:
        return [self._inline(part) for part in parts]

    def _inline(self, part: Inline) -> Data:
        match part:
            case str():
                text = self._text(part)
                return {"kind": "text", "text": text, "longest": max(words(text), key=len)}
            case Math(latex=latex):
                return within_line(latex, self.glyphs)
            case Code(text=text) | Local(text=text):
                text = self._text(text)
                return {"kind": "code", "text": text, "longest": max(words(text), key=len)}
            case Link(parts=parts, anchor=anchor):
                to = anchor if anchor in self._anchors else ""
                return {"kind": "link", "to": to, "parts": self._parts(parts), "page": anchor in self._sections}
            case Mark(verdict=verdict, text=text):
                text = self._text(text)
                return {"kind": "mark", "verdict": verdict, "text": text, "longest": max(words(text), key=len)}
            case Quantity(form=form):
                shown = self._inline(part.shown)
                whole = {"whole": True, "longest": shown["text"]} if shown["kind"] == "text" else {}
                return {**shown, **whole, "soft": form == "seconds"}
        raise TypeError(part)

    @cached_property
    def _sections(self) -> set[str]:
        return {section.anchor for section in self.document.walk()}

    @cached_property
    def _anchors(self) -> set[str]:
        """Where a link can lead on paper."""
        shown = set(self._sections)
        for section in self.document.walk():
            shown |= set(_anchors(section.blocks, self.numbers))
        return shown

    # -------------------------------------------------------------------------------------------------- blocks

    def _section(self, section: Section) -> Data:
        return {
            "title": self._text(section.title).strip() or _NAMELESS,
            "anchor": section.anchor,
            "blocks": self._blocks(section.blocks),
            "sections": [self._section(part) for part in section.sections],
        }

    def _blocks(self, blocks: tuple[Block, ...]) -> list[Data]:
        return [data for block in blocks for data in self._block(block)]

    def _block(self, block: Block) -> Iterator[Data]:
        match block:
            case Paragraph(parts=parts, role=role):
                yield {"kind": "paragraph", "role": role, "parts": self._parts(parts)}
            case Items(items=items):
                yield {"kind": "items", "items": [self._parts(parts) for parts in items]}
            case Formula(latex=latex):
                yield {"kind": "formula", **displayed(latex, self.glyphs)}
            case Step():
                yield self._step(block)
            case Table():
                yield self._table(block)
            case Figure(svg=svg, caption=caption, alt=alt, data=data):
                yield {
                    "kind": "figure",
                    "svg": standalone(svg),
                    "alt": self._text(alt) or _NAMELESS,
                    "caption": self._parts(caption),
                }
                if data is not None and self.numbers:
                    yield self._table(data)
            case Listing(text=text, language=language, title=title) if language != "latex":
                yield {"kind": "listing", "title": self._text(title), "text": self._code(text)}
            case CodeLines():
                yield self._code_lines(block)
            case Fold(title=title, blocks=blocks):
                inner = blocks if self.numbers else _unfolded(blocks)
                yield {"kind": "fold", "title": self._text(title), "blocks": self._blocks(inner)}
            case Entry(title=title, anchor=anchor, mark=mark, blocks=blocks):
                title = title if any(_is_visible(part) for part in title) else (_NAMELESS,)
                shown = {"title": self._parts(title), "anchor": anchor, "mark": self._inline(mark)}
                yield {"kind": "entry", **shown, "blocks": self._blocks(blocks)}

    def _step(self, step: Step) -> Data:
        explicit = [displayed(latex, self.glyphs) for latex in step.explicit] if self.explicit else []
        return {
            "kind": "step",
            "number": f"({step.number})",
            "anchor": step.anchor,
            "sentence": self._parts(step.sentence),
            "formula": displayed(step.latex, self.glyphs),
            "notes": [self._parts(parts) for parts in (step.rests, step.proof) if parts],
            "explicit": explicit,
        }

    def _table(self, table: Table) -> Data:
        return {
            "kind": "table",
            "head": [self._parts(cell) for cell in table.head],
            "rows": [[self._parts(cell) for cell in row] for row in table.rows],
            "alignment": list(table.alignment),
            "anchors": list(table.anchors or ("",) * len(table.rows)),
            "caption": self._parts(table.caption),
        }

    def _code_lines(self, block: CodeLines) -> Data:
        lines = [
            {
                "number": str(line.number),
                "text": self._code(line.text),
                "verdict": line.verdict,
                "note": self._parts(line.note),
            }
            for line in block.lines
        ]
        return {"kind": "code-lines", "lines": lines}


def _unfolded(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """What stands open once a fold is."""
    return tuple(block for block in blocks if not isinstance(block, Fold))


def _folded_twice(blocks: list[Block]) -> Iterator[Fold]:
    """The folds within folds."""
    yield from (b for fold in blocks if isinstance(fold, Fold) for b in fold.blocks if isinstance(b, Fold))


def _is_visible(part: Inline) -> bool:
    match part:
        case str():
            return bool(part.strip())
        case Code(text=text) | Local(text=text) | Mark(text=text) | Math(latex=text):
            return bool(text.strip())
        case Link(parts=parts):
            return any(map(_is_visible, parts))
    return True


def _anchors(blocks: tuple[Block, ...], numbers: bool) -> Iterator[str]:
    """The anchors of blocks that are printed."""
    for block in blocks:
        match block:
            case Step(anchor=anchor):
                yield anchor
            case Entry(anchor=anchor, blocks=inner):
                yield anchor
                yield from _anchors(inner, numbers)
            case Fold(blocks=inner):
                yield from _anchors(inner if numbers else _unfolded(inner), numbers)
            case Table(anchors=anchors):
                yield from filter(None, anchors)
            case Figure(data=Table(anchors=anchors)) if numbers:
                yield from filter(None, anchors)
