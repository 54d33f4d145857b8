"""The pages of the gallery say what is made anew: letter by letter, and within its spread what is measured."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from reports.document import Document, Figure, Local, Mark, Paragraph, Quantity, Section
from reports.exhibits import GALLERY, exhibits
from reports.markdown import to_markdown
from reports.portable import differences


@pytest.mark.parametrize("stem", exhibits())
def test_a_page_is_what_is_made_anew(stem):
    document = exhibits()[stem]()
    page = (GALLERY / f"{stem}.md").read_text(encoding="utf-8")
    assert "\n".join(map(str, differences(document, stem, page))) == ""
    for name in to_markdown(document, stem).files:
        assert (GALLERY / name).read_text(encoding="utf-8").count("<path") > 3, name


def test_nothing_else_lies_there():
    pages = {f"{stem}.md" for stem in exhibits()}
    texts = {name: (GALLERY / name).read_text(encoding="utf-8") for name in pages}
    shown = {name for text in texts.values() for name in re.findall(r"\]\(([^)#/]+\.svg)\)", text)}
    found = {path.name for path in GALLERY.iterdir() if path.is_file()}
    assert found - pages - shown == {"README.md", "student.backward", "my_gru.py"}


def test_the_index_leads_to_every_page():
    index = (GALLERY / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(([a-z_]+)\.md\)", index)) == set(exhibits())


# --------------------------------------------------------------------------------- the comparison sees what is wrong


def document(*parts):
    return Document("a", "A", Mark("holds", "proven"), (Section("S", "s", (Paragraph(parts),)),))


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


def test_figures_bring_their_numbers():
    """A drawing is compared by the numbers that it draws, so that every one that is measured must have them."""
    made = exhibits()["tanh_rnn"]()
    figures = [block for block in made.blocks() if isinstance(block, Figure)]
    assert figures
    assert all(block.data is not None for block in figures if "unrolled" not in block.stem)
