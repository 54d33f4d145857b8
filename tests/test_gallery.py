"""The pages of the gallery say what is made anew: letter by letter, and within its spread what is measured."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest

import derive
from numeric.oracle.criterion import Measured
from numeric.oracle.distances import Distance
from numeric.oracle.verdict import Finding, Verdict
from reports.document import Code, Document, Figure, Local, Mark, Paragraph, Quantity, Section, Table, inlines
from reports.exhibits import GALLERY, exhibits
from reports.markdown import to_markdown
from reports.parts.judged import verdict_document
from reports.parts.judged_tensors import both_values, noise_units, place_parts, worst_of
from reports.portable import differences, redrawn_differences
from reports.redrawn import drawn_marks, told
from tests.proof_laws import check_proof


def drawings():
    return {path.name: path.read_text(encoding="utf-8") for path in GALLERY.glob("*.svg")}


@pytest.fixture
def proofs(monkeypatch):
    """Every proof that a report is made of."""
    made = []

    def kept(*arguments, **options):
        made.append(derive.prove(*arguments, **options))
        return made[-1]

    monkeypatch.setattr("reports.build.prove", kept)
    return made


@pytest.mark.parametrize("stem", exhibits())
def test_a_page_is_what_is_made_anew(stem, proofs):
    document = exhibits()[stem]()
    assert [proof.derivation.cell.name for proof in proofs] == [stem] * (stem in derive.cells())
    for proof in proofs:
        check_proof(proof)
    page = (GALLERY / f"{stem}.md").read_text(encoding="utf-8")
    found = [*differences(document, stem, page), *redrawn_differences(document, stem, drawings())]
    assert "\n".join(map(str, found)) == ""
    figures = [block for block in document.blocks() if isinstance(block, Figure)]
    assert all(block.data is not None for block in figures if "unrolled" not in block.stem)


def test_nothing_else_lies_there():
    pages = {f"{stem}.md" for stem in exhibits()}
    texts = {name: (GALLERY / name).read_text(encoding="utf-8") for name in pages}
    shown = {name for text in texts.values() for name in re.findall(r"\]\(([^)#/]+\.svg)\)", text)}
    found = {path.name for path in GALLERY.iterdir() if path.is_file()}
    assert found - pages - shown == {"README.md", "student.backward", "my_gru.py"}
    assert shown <= found


def test_the_index_leads_to_every_page():
    index = (GALLERY / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(([a-z_]+)\.md\)", index)) == set(exhibits())


def test_a_drawing_and_its_page_were_made_together():
    """The numbers in a drawing are those of the page beside it, and there is a drawing in each file."""
    for name, svg in drawings().items():
        stem, _, _ = name.partition("-")
        page = (GALLERY / f"{stem}.md").read_text(encoding="utf-8")
        numbers = [line for line in told(svg) if line.startswith("| ")]
        assert "\n".join(numbers) in page, name
        assert numbers or "unrolled" in name
        assert svg.count("<path") > 3, name


# --------------------------------------------------------------------------------- the comparison sees what is wrong


def document(*parts, blocks=()):
    return Document("a", "A", Mark("holds", "proven"), (Section("S", "s", (Paragraph(parts), *blocks)),))


PARTS = ("It is ", Quantity(2.5, 1.1, ".2f"), " and ", Quantity(3e-16, 100.0), " by ", Local("numpy 2"), " steps.")


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({1: Quantity(2.6, 1.1, ".2f")}, True),
        ({1: Quantity(3.1, 1.1, ".2f")}, False),
        ({1: Quantity(-2.5, 1.1, ".2f")}, False),
        ({3: Quantity(9e-15, 100.0)}, True),
        ({3: Quantity(9e-13, 100.0)}, False),
        ({3: Quantity(float("nan"), 100.0)}, False),
        ({5: Local("numpy 3")}, True),
        ({5: Code("numpy 3"), 6: " step."}, False),
        ({0: "It was "}, False),
        ({6: " steps. More."}, False),
    ],
)
def test_a_page_of_another_machine_is_the_same_within_the_spread(change, same):
    page = to_markdown(document(*(change.get(i, part) for i, part in enumerate(PARTS))), "a").text
    assert (differences(document(*PARTS), "a", page) == []) is same


def test_a_missing_line_and_one_more_are_seen():
    made = document("One.")
    page = to_markdown(made, "a").text
    assert differences(made, "a", page + "more\n")
    assert differences(made, "a", page.replace("One.\n", ""))
    assert differences(replace(made, title="B"), "a", page)


def test_a_missing_line_that_may_say_anything_is_seen():
    made = document(Local("numpy 2"))
    page = to_markdown(made, "a").text
    assert differences(made, "a", page.replace("`numpy 2`\n", ""))


def rows(*values):
    head = ((("k",), ("n",)),)
    return Table(*head, tuple(((str(k),), (Quantity(x, 1.1, ".2f"),)) for k, x in enumerate(values)), "lr")


@pytest.mark.parametrize("values", [(1.0, 3.0), (1.0, 2.0, 3.0, 4.0), (2.0, 1.0, 3.0), ()])
def test_a_row_more_or_less_or_moved_is_one_difference_and_not_the_rest_of_the_page(values):
    made = document("One.", blocks=(rows(1.0, 2.0, 3.0), Paragraph(("Last.",))))
    page = to_markdown(document("One.", blocks=(rows(*values), Paragraph(("Last.",)))), "a").text
    found = differences(made, "a", page)
    assert 0 < len(found) <= 3 + (not values)
    assert not any("Last" in f.found + f.expected for f in found)


SVG = (
    '<svg viewBox="0 0 9 9"><desc>time lag</desc><path d="M0 0" style="stroke: var(--figure-first, #1f5f99)"/>'
    '<path d="M0 1" style="stroke: var(--figure-ink, #22252a)"/></svg>'
)


def drawn(svg=SVG, alt="Norms by lag", values=(1.0, 2.0)):
    return document("One.", blocks=(Figure(svg, ("It falls.",), alt, "norms", rows(*values)),))


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (drawn(), True),
        (drawn(values=(1.05, 2.0)), True),
        (drawn(svg=SVG.replace("M0 0", "M0 2")), True),
        (drawn(svg=SVG.replace("</svg>", '<path style="stroke: #22252a"/></svg>')), True),  # a tick more
        (drawn(values=(1.2, 2.0)), False),
        (drawn(values=(1.0,)), False),
        (drawn(alt="Norms"), False),
        (drawn(svg=SVG.replace("time lag", "lag")), False),
        (drawn(svg=SVG.replace("</svg>", '<path style="stroke: #1f5f99"/></svg>')), False),
        (drawn(svg=SVG.replace("#1f5f99", "#2d7a4f")), False),
        (drawn(svg=SVG.replace("<path d", "<circle d", 1)), False),
    ],
)
def test_a_stale_drawing_is_seen(other, same):
    assert (redrawn_differences(drawn(), "a", to_markdown(other, "a").files) == []) is same


def test_a_missing_drawing_is_seen():
    found = redrawn_differences(drawn(), "a", {})
    assert {f.file for f in found} == {"a-norms.svg"}


def test_marks_are_counted_in_the_colours_of_series_alone():
    assert drawn_marks(SVG + SVG) == {"path #1f5f99": 2, "path #22252a": 1}


# ------------------------------------------------------------------------------ a verdict is the same on every machine


def distance(units, case="a", index=(0,), status="disagrees"):
    return Distance(case, "W", status, units, index, 1.5, 1.0, 1e-17)


def test_what_is_wrong_by_the_same_but_for_rounding_is_told_in_its_order():
    near = [distance(2e15, "first"), distance(2e15 * (1 + 1e-12), "second")]
    assert worst_of(near).case == "first"
    assert worst_of([*near, distance(3e15, "third")]).case == "third"
    measured = Measured("W", "disagrees", np.array([1.0, 2e15, 2e15 * (1 + 1e-12)]), *[np.zeros(3)] * 3)
    assert measured.where == (1,)
    assert measured.most == 2e15 * (1 + 1e-12)
    assert Measured("W", "disagrees", np.array([1.0, np.nan, np.inf]), *[np.zeros(3)] * 3).where == (1,)


@pytest.mark.parametrize(
    ("units", "other", "same"),
    [(0.2, 9.0, True), (0.2, 17.0, False), (0.2, math.inf, False), (2e15, 2.1e15, True), (2e15, 2.3e15, False)],
)
def test_units_of_noise_are_any_rounding_or_the_same(units, other, same):
    assert noise_units(units).agrees(other) is same


def test_where_rounding_is_largest_is_local_and_where_it_is_wrong_is_not():
    (entry, case), (found, exact) = place_parts(distance(3.0)), both_values(distance(3.0))
    assert (entry, case) == ((Local("[0]"),), (Local("a"),))
    assert found[0].spread == exact[0].spread == math.inf
    (entry, case), (found, exact) = place_parts(distance(2e15)), both_values(distance(2e15))
    assert (entry, case) == ((Code("[0]"),), (Code("a"),))
    assert found[0].spread == exact[0].spread < 1.00001


def test_no_measured_number_of_a_verdict_is_plain_text():
    finding = Finding("a", "W", "disagrees", "dL/dW[0] is off by 2e+15 noise units, first at t = 1", units=2e15)
    verdict = Verdict("gru", "mine", "disagrees", (finding,), judged=("a",), distances=(distance(2e15),))
    made = verdict_document(verdict, derive.load("gru"))
    said = [part for block in made.blocks() for part in inlines(block) if isinstance(part, str)]
    assert not any("e+15" in text for text in said)
    assert any("noise units, first at t = 1" in text for text in said)
