"""The PDF: its pages, outline, links and letters are those of the document; nothing is lost, lies outside, or runs."""

from __future__ import annotations

import html
import io
import json
import re
import sys
import unicodedata
from collections import Counter
from dataclasses import replace
from typing import get_args
from xml.etree import ElementTree

import numpy as np
import pytest
from test_report import quick

import derive
from reports import pdf
from reports.brackets import tightened
from reports.document import (
    Block,
    Code,
    CodeLine,
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
    Quantity,
    Section,
    Step,
    Table,
    inlines,
    seconds,
)
from reports.figures import norm_figure
from reports.measure import Curve
from reports.pdf import to_pdf
from reports.typst.content import Content
from reports.typst.fragments import fragments
from reports.typst.letters import printable
from reports.typst.mathematics import tree

typst = pytest.importorskip("typst")
pypdf = pytest.importorskip("pypdf")

HOSTILE = (
    '#set page(width: 1cm) #import "@preview/evil:0.1.0" #read("/etc/passwd") #{panic(1)} $x^2$ @ref <label> // no /*'
    " */ `raw` *bold* _emph_ [x] {y} \\u{41} ~ -- --- ... = == - + / \" ' </svg> {{ 7*7 }}"
)
WIDE = (
    r"\begin{pmatrix}" + " & ".join(rf"\frac{{\partial h_{{{k}}}}}{{\partial x}}" for k in range(30)) + r"\end{pmatrix}"
)
LONG = r"y = f\left(" + " + ".join(rf"W_{{{k}}} \, h_{{{k}}}" for k in range(40)) + r"\right)"
CURVE = Curve(0.5, np.log(0.5), True, {"h": -0.7 * np.arange(30.0)}, np.array([0, 29]), np.array([[0.0], [-20.0]]))


def page_of(*blocks, title="Title", **more):
    return Document("name", title, Mark("holds", "proven"), (Section("First", "first", blocks),), **more)


def entry(number):
    mark = (Mark("holds", "proven"), Mark("fails", "refuted"), Mark("open", "depends"))[number % 3]
    row = f"claim-{number}-row"
    blocks = (
        Paragraph(("as printed, ", Math(r"\frac{\partial \mathcal{L}}{\partial h_t}")), "quote"),
        Formula("x = 1"),
        Paragraph(("measured: ", Quantity(3e-16, 100.0), " in ", seconds(0.5), ", ", Link(("there",), row))),
        Table((("case",),), ((("first",),),), "l", anchors=(row,)),
    )
    return Entry((f"Statement {number} on ", Math("W_{hh}")), f"claim-{number}", mark, blocks)


def everything(entries=30):
    """A document with every kind of block and inline, hostile text among them."""
    lines = (
        CodeLine(1, "dy[t] = p[t] - target[t]", "holds", ("right",)),
        CodeLine(
            2, "\tdh[t] = W_hh @ da[t+1]" + "  # words" * 20, "fails", (Code("W_hh"), " should be ", Code("W_hh.T"))
        ),
        CodeLine(3, ""),
    )
    table = Table(
        (("a",), ("b",)), ((("first",), (Math("x"),)), ((HOSTILE,), ("2",))), "lr", ("caption",), ("", "row-2")
    )
    wide = Table(tuple((f"head {k}",) for k in range(14)), (tuple((f"entry-{k}",) for k in range(14)),), "l" * 14)
    data = Table((("lag",),), (((Quantity(0.123, 2.0, ".3f"),),),), "r", anchors=("datum",))
    first = (
        Paragraph((HOSTILE,), "lead"),
        Paragraph(("source, ", Link(("to a number",), "datum")), "source"),
        Paragraph((Code(HOSTILE), Link(("to the row",), "row-2"), Link(("to the end",), "entries")), "note"),
        Items((("one",), ("y" * 300,), (Code("x" * 300), Local(HOSTILE)), ("wide: ", Math(WIDE)))),
        wide,
    )
    step = Step(
        1, ("Sentence ", Math("h_t")), LONG, ("from ", Link(("(2)",), "step-2")), (Mark("holds", "shown"),), "step-1"
    )
    blocks = (
        replace(step, explicit=(r"\begin{pmatrix} q_{111} \\ b \end{pmatrix} = 0",)),
        Step(2, (), r"\mathrm{d}h_{T+1} = 0", (), (), "step-2"),
        Formula(WIDE),
        Formula(r"\begin{aligned} a &= b + c \\ ddd &= \sqrt{e} \end{aligned}"),
        Formula(r"\nosuchcommand #panic()"),
        Figure(norm_figure([CURVE]), ("What to conclude.",), "a line #falls", "norm", data),
        Fold("A fold #x", (table, Fold("Folded twice", (Paragraph((Code("deep"),)),)))),
        Listing("def f():\n    return 1  # " + HOSTILE, "python", "Source"),
        Listing("LATEXLISTING", "latex", "LaTeX"),
        CodeLines(lines),
    )
    claims = tuple(entry(k) for k in range(entries))
    sections = (
        Section("Verdict", "verdict", first),
        Section("Blocks", "blocks", (), (Section("Inner", "inner", blocks),)),
        Section("Entries", "entries", claims),
    )
    return Document("na_me #x", HOSTILE, Mark("fails", "refuted"), sections, kicker="Kicker #x")


# ------------------------------------------------------------------------------------------- what is seen in a PDF


class Printed:
    """A document and its PDF; the text of each page, without what an extraction gives as it likes."""

    def __init__(self, document, **options):
        self.document = document
        self.reader = opened(to_pdf(document, **options))
        self.pages = [letters(page.extract_text()) for page in self.reader.pages]
        self.text = "".join(self.pages)


def opened(data):
    return pypdf.PdfReader(io.BytesIO(data))


def letters(text):
    """Without spaces, hyphens and the styles of letters, which an extraction gives as it likes."""
    return re.sub(r"[\s\u00ad\u200b-]+", "", unicodedata.normalize("NFKC", text))


def titles(outline):
    for item in outline:
        if isinstance(item, list):
            yield from titles(item)
        else:
            yield item.title


def destinations(reader):
    """For each link, the index of the page to which it leads, or None."""
    numbers = {page.indirect_reference.idnum: k for k, page in enumerate(reader.pages)}
    for page in reader.pages:
        for annotation in page.get("/Annots") or ():
            link = annotation.get_object()
            to = link.get("/Dest") or link.get("/A", {}).get("/D")
            if isinstance(to, str):
                to = reader.named_destinations[to].dest_array if to in reader.named_destinations else [None]
            yield numbers.get(getattr(to[0], "idnum", None))


def unknown_glyphs(reader):
    """How often the empty box of a font is shown: glyph 0 of the composite fonts that Typst writes."""
    count = 0
    for page in reader.pages:
        for operands, operator in pypdf.generic.ContentStream(page.get_contents(), reader).operations:
            strings = operands[0] if operator == b"TJ" else operands if operator == b"Tj" else ()
            for shown in strings:
                if isinstance(shown, str | bytes):
                    raw = shown if isinstance(shown, bytes) else shown.original_bytes
                    count += sum(raw[k : k + 2] == b"\0\0" for k in range(0, len(raw), 2))
    return count


def pictures(**source):
    found = typst.compile(**source, format="png", ppi=40)
    return found if isinstance(found, list) else [found]


def outside(picture):
    """The number of dark dots beside the text block, which is 25 mm from either side, and at the edges of the paper."""
    from PIL import Image

    dots = np.asarray(Image.open(io.BytesIO(picture)).convert("L"))
    height, width = dots.shape
    side, edge = int(width * 24 / 210), int(height * 9 / 297)
    return int(sum((part < 200).sum() for part in (dots[:, :side], dots[:, -side:], dots[:edge], dots[-edge:])))


def notes(content):
    """What was made smaller to fit, and by how much."""
    return [note["value"] for note in json.loads(typst.query(**pdf._source(content), selector="<fit>"))]


@pytest.fixture(scope="module")
def gru():
    return Printed(quick(derive.load("gru")))


@pytest.fixture(scope="module")
def full():
    return Printed(everything(), explicit=True, numbers=True)


# ------------------------------------------------------------------------------------------------- what is in it


def test_the_document_has_every_kind_of_block_and_inline():
    document = everything(3)
    blocks = list(document.blocks())
    assert {type(b) for b in blocks} == set(get_args(Block))
    assert {type(p) for b in blocks for p in inlines(b)} == set(get_args(Inline))


def test_pages_outline_title_and_language(gru):
    count = len(gru.reader.pages)
    assert 6 <= count <= 16
    for number, (page, text) in enumerate(zip(gru.reader.pages, gru.pages, strict=True), 1):
        assert f"{number}of{count}" in text
        assert [float(x) for x in page.mediabox[2:]] == pytest.approx([595.28, 841.89], abs=0.01)
    found = list(titles(gru.reader.outline))
    assert [re.sub(r"^[\d.]+\s+", "", title) for title in found] == [section.title for section in gru.document.walk()]
    assert found[:2] == ["What was shown", "1 The equations"]
    assert gru.reader.metadata.title == gru.document.title
    assert gru.reader.trailer["/Root"]["/Lang"] == "en"
    assert gru.reader.metadata.creation_date is None


def test_every_word_of_the_document_can_be_found(gru):
    count = 0
    drawn = [b.data for b in gru.document.blocks() if isinstance(b, Figure)]  # left to the pages that can fold
    for block in gru.document.blocks():
        for part in () if block in drawn else inlines(block):
            if isinstance(part, str):
                assert letters(part) in gru.text, part
                count += 1
        if isinstance(block, Step):
            assert f"({block.number})" in gru.text
    assert count > 200
    assert letters("a sentence that is not there") not in gru.text


def test_every_word_of_entries_folds_and_listings_can_be_found(full):
    said = ("Kicker #x", "na_me #x", "Statement 29 on", "✓ proven", "✗ refuted", "○ depends", "A fold #x", "def f():")
    assert [words for words in said if letters(words) not in full.text] == []
    assert "LATEXLISTING" not in full.text
    found = [title for title in titles(full.reader.outline) if title.startswith("Statement")]
    assert found == [f"Statement {k} on Whh" for k in range(30)]


def test_what_is_left_out_on_paper_is_there_on_request(full):
    plain = Printed(everything(0))
    for said in ("0.123", "q111", "deep"):
        assert said in full.text
        assert said not in plain.text
    note = (
        "Left out on paper: the steps written out entry by entry, the numbers behind the figures"
        ' and the tables "Folded twice".'
    )
    assert letters(note) in plain.text
    assert "Leftout" not in full.text


def test_cells_are_described_by_what_they_say_and_not_by_their_lines(gru):
    items = map(gru.reader.get_object, range(1, int(gru.reader.trailer["/Size"])))
    described = [o for o in items if isinstance(o, dict) and o.get("/S") == "/TD"]
    assert len(described) > 100
    assert not any("Border" in str(o.get("/A")) for o in described)


def test_links_lead_to_what_they_name(gru, full):
    for printed in (gru, full):
        found = list(destinations(printed.reader))
        assert None not in found
        assert len(found) >= sum(isinstance(p, Link) for b in printed.document.blocks() for p in inlines(b))
        for item in (item for item in printed.reader.outline if not isinstance(item, list)):
            page = printed.reader.get_destination_page_number(item)
            assert letters(item.title)[:40] in printed.pages[page]
    alone = pypdf.PdfWriter()
    alone.add_page(gru.reader.pages[0])
    data = io.BytesIO()
    alone.write(data)
    assert None in list(destinations(opened(data.getvalue())))  # the other pages are not there


def test_formulas_and_drawings_are_described(full):
    described = set()
    for number in range(1, int(full.reader.trailer["/Size"])):
        item = full.reader.get_object(number)
        if isinstance(item, pypdf.generic.DictionaryObject) and "/Alt" in item:
            described.add(str(item["/Alt"]))
    assert {r"\mathrm{d}h_{T+1} = {}", "h_t", "a line #falls"} <= described


def test_a_long_table_has_its_head_on_every_page():
    rows = tuple(((f"row {k}",), ("words",)) for k in range(130))
    reader = opened(to_pdf(page_of(Table((("leftmost",), ("right",)), rows, "ll"))))
    assert len(reader.pages) >= 3
    for page in reader.pages:
        assert page.extract_text().count("leftmost") == ("row" in page.extract_text())


def test_the_same_document_gives_the_same_bytes():
    first, other = (
        page_of(*(entry(k) for k in range(count)), Figure(norm_figure([CURVE]), (), "a", "b")) for count in (2, 3)
    )
    assert to_pdf(first) == to_pdf(first)
    assert to_pdf(first) != to_pdf(other)


# ---------------------------------------------------------------------------------------------- how it is typeset


def test_no_letter_is_missing(gru, full):
    assert unknown_glyphs(gru.reader) == unknown_glyphs(full.reader) == 0
    planted = typst.compile("漢 and 字".encode(), ignore_system_fonts=True)
    assert unknown_glyphs(opened(planted)) == 2


def test_letters_without_a_glyph_are_said():
    odd = "漢 \u202eevil \N{CHART WITH DOWNWARDS TREND} \ud800 \x07 e\u0301 \u2265 \N{GREEK SMALL LETTER ALPHA} /\u0337"
    document = page_of(Paragraph((odd, Code(odd), Math(rf"\text{{{odd[0]}}}_{{{odd[0]}}}"))), title=odd)
    printed = Printed(document)
    assert unknown_glyphs(printed.reader) == 0
    for said in (
        "⟨U+6F22⟩",
        "⟨U+202E⟩",
        "⟨chartwithdownwardstrend⟩",
        "⟨U+D800⟩",
        "⟨U+0007⟩",
        "é",
        "≥",
        "α",
        "/⟨U+0337⟩",
    ):
        assert said in printed.text, said
    assert printable("plain") == "plain"


def test_nothing_lies_outside_of_the_text_block():
    content = Content(quick(derive.load("lstm_peephole")), pdf._glyphs())
    assert not any(outside(picture) for picture in pictures(**pdf._source(content)))
    assert notes(content) == []


def test_a_formula_stays_in_its_line():
    line = ("alpha ", Math("h_t"), ", ", Math(r"\frac{a}{b}"), Code("code"), Quantity(0.5, 2.0, ".1f"), " omega")
    data = to_pdf(page_of(Paragraph(line), Items((line,)), Table((("head",),), ((line,),), "l")))
    heights: dict[str, list[float]] = {}

    def visit(text, page, line, *_):
        heights.setdefault(text.strip(), []).append(line[4] * page[1] + line[5] * page[3] + page[5])

    opened(data).pages[0].extract_text(visitor_text=visit)
    assert len(heights["alpha"]) == 3
    assert heights["alpha"] == pytest.approx(heights["omega"], abs=0.5)


def test_what_is_too_wide_is_made_to_fit():
    content = Content(everything(2), pdf._glyphs(), True, True)
    assert not any(outside(picture) for picture in pictures(**pdf._source(content)))
    found = Counter(note["what"] for note in notes(content))
    # only the wide ones; the long formulas are broken instead
    assert found == {"table": 1, "formula": 1, "formula in a line": 1}
    assert all(0.3 < note["factor"] < 1 for note in notes(content))


@pytest.mark.parametrize("margin", ["left: 20mm", "right: 20mm"])
def test_what_lies_outside_is_seen(margin):
    page = f'#set page("a4", margin: ({margin}, rest: 25mm))\n#rect(width: 100%, height: 1cm, fill: black)'
    (picture,) = pictures(input=page.encode(), ignore_system_fonts=True)
    assert outside(picture) > 0


def test_long_terms_are_broken_outside_first():
    term = r"\operatorname{diag}\left(" + r" \odot ".join([r"o_{t}", r"\left(1 - o_{t}\right)"] * 12) + r"\right) \, U"
    pieces = fragments(term)
    assert len(pieces) > 10
    assert not any(piece.startswith("{} -") for piece in pieces)  # 1 - o stays together
    tall = r"\left(\frac{a}{b}" + " + c" * 50 + r"\right)"
    for piece in (*pieces, *fragments(tall)):
        assert piece.count("{") == piece.count("}")
        assert piece.count(r"\left") == piece.count(r"\right")
        assert tree(piece) is not None
    assert fragments("a + b") == ("a + b",)
    assert fragments(r"\begin{pmatrix} a \end{pmatrix}" * 9) == (r"\begin{pmatrix} a \end{pmatrix}" * 9,)


# ---------------------------------------------------------------------------------------------------- mathematics

TEXTBOOK = (
    r"\frac{\partial \mathcal{L}}{\partial W_{hy}} = \sum_{t=1}^{T} \frac{\partial L_t}{\partial y_t} \cdot h_t^T",
    r"\frac{\partial h_T}{\partial h_t} = \prod_{k=t}^{T-1} \frac{\partial h_{k+1}}{\partial h_k}",
    r"L_t = -\sum_{c} \hat{y}_{t,c} \log(y_{t,c}), \quad \text{diag}(1 - h_{k+1}^2) \cdot W_{hh} \odot \tanh'",
    r"\begin{pmatrix} a & b \\ c & d \end{pmatrix} \begin{cases} 1 & \text{if } x > 0 \\ 0 & \text{else} \end{cases}",
    r"\begin{aligned} a &= b + c \\ &= \frac{d}{e} \end{aligned}",
    r"\lVert \operatorname{diag}(x) \rVert_2 \le \tfrac{1}{2} \left\lVert \frac{a}{b} \right\rVert",
    r"\bigl( \lceil T/k \rceil \bigr) \left.\frac{\partial^{+} f}{\partial x}\right|_{x=0} \underbrace{a+b}_{c}",
    r"\left[x > 0\right] \left|x\right| J_T \cdots J_1, \ldots \langle a, b \rangle \sigma(\theta) \mathbf{1}^{\top}",
    r"x\sb{t} \in \mathbb{R}^{H \times D}, \quad \max_i x_i \lim_{n \to \infty} \mathrm{target}_k \neq O(k \cdot H)",
    r"a \Longrightarrow \hat{y} \bar{x} \tilde{z} f'' \overline{z} \boldsymbol{\delta} \sqrt[3]{x}",
)
MARKS = "\u0302\u0303\u0304\u0332"  # drawn, or put together with their letter


def shown_letters(text):
    text = re.sub(
        r"[\ufe00-\ufe0f\u2061-\u2064]", "", text.replace("ˆ", "\u0302").replace("˜", "\u0303").replace("¯", "\u0304")
    )
    text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text)).replace("\u2212", "-")
    return Counter(c for c in text if not c.isspace() and c not in MARKS)


def read_letters(latex, display):
    """The letters of the MathML that a browser is given."""
    import math_core

    text = math_core.LatexToMathML(annotation=False).convert_with_local_state(
        tightened(latex.replace(r"\sb", "_")), displaystyle=display
    )
    text = re.sub(r"&(?!amp;|lt;|gt;|quot;|apos;|#)\w+;", lambda m: html.unescape(m[0]), text)
    roots = "√" * len(re.findall("<m(?:sqrt|root)", text))
    return shown_letters("".join(ElementTree.fromstring(text).itertext()) + roots)


def letters_of(trees):
    """The letters of one formula a page."""
    code = """#import "formula.typ": piece
        #set page(width: 60cm, height: 12cm)
        #show math.equation: set text(font: "New Computer Modern Math")
        #for it in json(bytes(sys.inputs.trees)) {
          piece((tree: it, latex: "x", tall: true), display: true) + pagebreak(weak: true)
        }"""
    data = typst.compile(
        code.encode(),
        root=str(pdf._CODE),
        sys_inputs={"trees": json.dumps(trees)},
        font_paths=pdf._fonts(),
        ignore_system_fonts=True,
    )
    return [shown_letters(page.extract_text()) for page in opened(data).pages]


def test_every_letter_of_every_formula_is_printed(gru, monkeypatch):
    monkeypatch.chdir(pdf._CODE)  # the code below is not a file
    found = [b.latex for b in gru.document.blocks() if isinstance(b, Formula | Step)]
    odd = derive.parse("a: scalar\nh[t] = sqrt(abs(W @ h[t-1]))/(1 + a**2) + softplus(x[t])*relu(lambda_max*h[t-1])")
    found += [b.latex for b in quick(odd).blocks() if isinstance(b, Formula | Step)]
    formulas = list(dict.fromkeys([*found, *TEXTBOOK]))
    trees = [tree(latex, True) for latex in formulas]
    assert [latex for latex, found in zip(formulas, trees, strict=True) if found is None] == []
    for latex, letters_printed in zip(formulas, letters_of(trees), strict=True):
        assert letters_printed == read_letters(latex, True), latex
    less = [*trees[-1][:-2], trees[-1][-1]]
    assert letters_of([less]) != [read_letters(formulas[-1], True)]
    assert len(formulas) > 60


def test_what_cannot_be_typeset_is_printed_as_it_was_written(full):
    for unknown in (r"\nosuchcommand{x}", r"\color{red}{x}", r"\begin{array}{l|r} a & b \end{array}"):
        assert tree(unknown) is None
    assert letters(r"\nosuchcommand #panic()") in full.text


# ------------------------------------------------------------------------------------------------- hostile documents


def test_no_text_is_code(full):
    """What would run as Typst is there letter by letter, wherever it stood."""
    with pytest.raises(typst.TypstError):
        typst.compile(HOSTILE.encode(), root=str(pdf._CODE), ignore_system_fonts=True)
    assert full.text.count(letters(HOSTILE)[:60]) >= 4  # title, lead, table, note
    assert full.reader.metadata.title.startswith('#set page(width: 1cm) #import "')


def test_the_code_reads_nothing():
    """No file, package or string is run; Typst may see only the folder of the code."""
    for path in pdf._CODE.glob("*.typ"):
        code = path.read_text(encoding="utf-8")
        assert not re.search(r"\b(?:eval|read|plugin|include)\b\s*[(\"]|@preview|@local", code), path
        assert set(re.findall(r"#import (\S+):", code)) <= {'"formula.typ"'}
    assert pdf._source(Content(page_of()))["root"] == str(pdf._CODE)
    with pytest.raises(typst.TypstError):
        typst.compile(b'#read("/../pdf.py")', root=str(pdf._CODE))


def test_empty_titles_and_texts_are_printed():
    empty = Entry(("",), "e", Mark("open", ""), (Paragraph(()), Items(()), Listing("", "python", ""), CodeLines(())))
    section = Section("", "a", (empty, Table((("",),), (), "l"), Formula(""), Paragraph((Math(""), Code("")))))
    document = Document("", "", Mark("open", ""), (section, Section(" ", "b")), kicker="")
    assert len(opened(to_pdf(document)).pages) == 1


def test_without_the_extra_one_line_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'bptt\[pdf\]'"):
        to_pdf(page_of())
