"""Pages as a reader sees them: nothing overflows, is missing or is fetched, at any width, light and dark."""

from __future__ import annotations

import base64
import io
import re

import pytest
from fontTools.ttLib import TTFont

import derive
from reports.build import assemble
from reports.document import Document, Formula, Mark, Math, Section, Table
from reports.html import to_html
from reports.mathml import characters
from reports.measure import measure
from tests.browser import Frame, look, needs_chromium, printed
from tests.every_block import every_block
from tests.odd_cells import ODD
from tests.test_report import Page, quick, stub_proof
from tests.turns import ALL

WIDTHS = (1200, 768, 400, 320)
WHOLE = ("tanh_rnn", "lstm")  # at two widths; every block at four, the others at one
PLANTED = {
    "nothing": "",
    "wider": '<div style="width:1300px">x</div>',
    "cut": '<div style="width:99px;overflow:hidden;white-space:nowrap">a line that is longer than its box</div>',
    "spilt": '<div style="width:40px">unbreakablewordthatislong</div><style>div{overflow-wrap:normal}</style>',
    "letter": "<p>\U0001f8ff\u05ff</p>",
    "formula": "<math></math>",
    "error": "<math><merror><mtext>wrong</mtext></merror></math>",
    "latex": '<code class="latex">\\wrong</code>',
    "picture": '<img src="http://planted.example/x.png" alt="">',
}


@pytest.fixture(scope="module")
def pages():
    """A page of every kind."""
    derivation = derive.differentiate(derive.load("tanh_rnn"))
    whole = assemble(derivation, stub_proof(derivation), measure(derivation, 0), 0)
    documents = {name: quick(derive.load(name)) for name in (derive.cells() if ALL else ("tanh_rnn", "lstm", "gru"))}
    odd = {name: quick(ODD[name]) for name in ("functions", "several inputs, outputs and states")}
    return {n: to_html(d) for n, d in {**documents, **odd, "tanh_rnn": whole, "every": every_block()}.items()}


@pytest.fixture(scope="module")
def seen(pages, tmp_path_factory):
    """All of them, and copies with planted defects, in one start of the browser."""
    frames = [
        Frame(f"{name} {width}", page, width, dark=(i + j) % 2 == 1, glyphs=j == 0)
        for i, (name, page) in enumerate(pages.items())
        for j, width in enumerate(
            WIDTHS if name == "every" else WIDTHS[i % 2 :: 2] if name in WHOLE else WIDTHS[i % 4 :][:1]
        )
    ]
    small = to_html(Document("small", "Small", Mark("holds", "x"), (Section("A", "a", (Formula("x"),)),)))
    frames += [
        Frame(f"planted {n}", small.replace("</main>", f"{x}</main>"), 768, glyphs=True) for n, x in PLANTED.items()
    ]
    return look(tmp_path_factory.mktemp("browser"), frames), frames


@needs_chromium
def test_no_page_overflows_or_lacks_a_letter_or_a_formula(seen, pages):
    (found, _), frames = seen
    assert set(found) == {frame.name for frame in frames}
    for frame in frames:
        result = found[frame.name]
        assert (result["window"], result["dark"]) == (frame.width, frame.dark)
        if not frame.name.startswith("planted"):
            assert result["faults"] == [], frame.name
            assert result["page"] <= frame.width, frame.name
            assert result["formulas"] == frame.page.count("<math"), frame.name


@needs_chromium
def test_the_colours_follow_the_reader(seen):
    (found, _), frames = seen
    papers = {dark: {found[f.name]["paper"] for f in frames if f.dark is dark} for dark in (False, True)}
    assert all(len(paper) == 1 for paper in papers.values())
    assert papers[False] != papers[True]


@needs_chromium
def test_no_page_asks_a_network_for_anything(seen):
    (_, asked), _ = seen
    assert [url for url in asked if not url.startswith(("data:", "about:"))] == ["http://planted.example/x.png"]


@needs_chromium
@pytest.mark.parametrize(
    ("planted", "said"),
    [
        ("wider", "beyond the window: DIV"),
        ("cut", "cut off: DIV"),
        ("spilt", "spills out: DIV"),
        ("letter", "no glyph: U+5ff"),
        ("letter", "no glyph: U+1f8ff"),
        ("formula", "an empty formula:"),
        ("error", "not typeset: merror"),
        ("latex", "not typeset: CODE"),
    ],
)
def test_the_look_at_a_page_finds_what_is_planted(seen, planted, said):
    (found, _), _ = seen
    assert found["planted nothing"]["faults"] == []
    assert any(fault.startswith(said) for fault in found[f"planted {planted}"]["faults"]), found[f"planted {planted}"]
    assert found["planted wider"]["page"] > 768


def lacking(page):
    """Letters of a page's mathematics that its font does not have."""
    data = re.search(r"data:font/woff;base64,([A-Za-z0-9+/=]+)", page)[1]
    glyphs = TTFont(io.BytesIO(base64.b64decode(data))).getBestCmap()
    needed = {c for c in characters(page) if not c.isspace() and c.isprintable() and c not in "\u2061\ufe00"}
    assert needed
    return {c for c in needed if ord(c) not in glyphs}


def test_the_mathematics_has_all_its_glyphs(pages):
    for page in pages.values():
        assert lacking(page) == set()
    assert "√" in characters(pages["functions"])
    planted = pages["tanh_rnn"].replace("</main>", "<math><msqrt><mi>ψ</mi></msqrt></math></main>")
    assert lacking(planted) == {"√", "ψ", "𝜓"}


def test_every_displayed_formula_can_be_copied(pages):
    for page in pages.values():
        boxes = len(re.findall(r'<div class="equation">', page))
        explicit = sum(
            len(re.findall(r'<div class="equation">', x))
            for x in re.findall(r'(?s)<details class="explicit">.*?</details>', page)
        )
        folds = len(re.findall(r'<details class="explicit">', page))
        assert page.count('<details class="tex">') >= boxes - explicit + folds
    assert "\\mathrm{d}h_{t} = \\frac{\\partial \\ell_t}{\\partial h_{t}}" in pages["lstm"]
    assert "user-select: all" in pages["lstm"]


def test_sentences_beside_each_other_stand_below_each_other_in_a_narrow_window(pages):
    said, numbers = (
        ("It is a sentence of more letters than a narrow column holds.",),
        ("123456789.123456789", Math(r"\mathrm{d}W_{hh}")),
    )
    tables = [Table((("a",), ("b",), ("c",)), (((cell,), ("1",), ("2",)),), "lrr") for cell in (*said, *numbers)]
    shown = [to_html(Document("t", "T", Mark("holds", "x"), (Section("A", "a", (table,)),))) for table in tables]
    assert ['class="columns-3 wordy"' in page for page in shown] == [True, False, False]
    assert '<td class="r" data-head="b">1</td>' in shown[0]
    assert 'data-head="' not in shown[1]
    assert 'class="columns-4 wordy"' in pages["tanh_rnn"]  # its verdicts


def test_a_dotted_name_may_be_broken_in_a_title():
    document = Document("a", "my.module:name <b>", Mark("holds", "x"), (Section("A", "a", ()),))
    assert "<h1>my.<wbr>module:<wbr>name &lt;b&gt;</h1>" in to_html(document)


@needs_chromium
def test_paper_shows_the_evidence_and_not_the_asides(pages, tmp_path):
    pypdf = pytest.importorskip("pypdf")
    reader = pypdf.PdfReader(io.BytesIO(printed(tmp_path, pages["every"])))
    text = " ".join(" ".join(page.extract_text() for page in reader.pages).split())
    assert text.count("All of it.") == 100
    assert "should be" in text
    assert "TeX" not in text
    assert "at size 2" not in text


def test_every_judged_thing_is_in_the_contents_and_the_wrong_line_stands_out(pages):
    look = Page(pages["every"])
    assert (look.faults, look.fetched) == ([], [])
    contents = re.search(r'(?s)<nav class="contents".*?</nav>', pages["every"])[0]
    assert re.findall(r'<a href="#(claim-\d+)"', contents) == [f"claim-{k}" for k in range(1, 101)]
    assert contents.count('class="fails"') == 34
    assert len(re.findall(r'<li class="line-fails" value="3">', pages["every"])) == 2
    assert re.search(r"line-fails \{[^}]*outline: [^}]*solid", pages["every"])  # seen without colour
