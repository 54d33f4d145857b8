"""Reports: complete, well formed, self-contained, the same twice, and honest when something is wrong."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

import derive
import numeric
import reports
from derive.mistakes import plant
from derive.obligations import AT_A_SIZE, EVERY_SIZE, Obligation
from derive.prove import Proof, Score
from reports.brackets import tightened
from reports.build import assemble
from reports.document import Document, Figure, Formula, Link, Mark, Math, Paragraph, Section, Step, Table, slug
from reports.fonts import embedded_font
from reports.html import to_html
from reports.linebreak import aligned, clauses
from reports.markdown import _latex, to_markdown
from reports.mathml import characters, displayed, inline
from reports.measure import BATCH, STEPS, Measured, check, measure, sizes_of
from reports.prose import prose
from tests.odd_cells import ODD

SECTIONS = (
    "verdict",
    "cell",
    "roles",
    "forward",
    "unrolled",
    "loss",
    "outputs",
    "recursion",
    "recurrent",
    "others",
    "jacobian",
    "truncation",
    "cost",
    "proof",
    "planted",
    "numbers",
    "conditions",
    "trusted",
    "versions",
)

HOSTILE = """# evil.cell -- <script>alert(1)</script> | `x` **b** $y$ [l](http://e.example) & &amp; {{ 7*7 }}
# "quoted" <img src=x onerror=alert(2)> | a `code | span` | \\$ _under_ ~~strike~~ --> </title></style>
h[t] = tanh(W @ h[t-1] + U @ x[t])  # <b>bold</b> ``` fence
"""


def stub_proof(derivation, holds=True):
    """A proof with an obligation for every name that the steps refer to, without the work."""
    names = list(
        dict.fromkeys(
            [*(s.obligation for s in derivation.steps if s.obligation), "lemma/time", "P1/jets T=2 B=1 size=2"]
        )
    )
    obligations = tuple(
        Obligation(n, f"{n} is right", "by decree", EVERY_SIZE if "=" not in n else AT_A_SIZE, holds, 0.1)
        for n in names
    )
    return Proof(derivation, obligations, Score(2, 2, (), {"P3": (2, 2)}), derivation.cell.hypotheses)


def quick(cell):
    """The document of a cell with a stubbed proof and no measurements."""
    derivation = derive.differentiate(cell)
    return assemble(
        derivation, stub_proof(derivation), Measured(sizes_of(tuple(cell.dimensions)), None, (), "left out"), 0
    )


@pytest.fixture(scope="module")
def shipped():
    return {name: quick(derive.load(name)) for name in derive.cells()}


@pytest.fixture(scope="module")
def results():
    """Derivation, proof and measurements of the smallest cell."""
    derivation = derive.differentiate(derive.load("tanh_rnn"))
    return derivation, derive.prove(derivation), measure(derivation, 0)


@pytest.fixture(scope="module")
def tanh(results):
    """The whole report of the smallest cell."""
    return assemble(*results, 0)


def formulas(document):
    """Every formula of a document, as (LaTeX, displayed)."""
    for block in document.blocks():
        if isinstance(block, Formula | Step):
            yield block.latex, True
        if isinstance(block, Step):
            yield from ((latex, True) for latex in block.explicit)
        parts = getattr(block, "parts", ()) or getattr(block, "caption", ())
        cells = [c for row in (block.head, *block.rows) for c in row] if isinstance(block, Table) else []
        sentences = (block.sentence, block.rests) if isinstance(block, Step) else ()
        for part in (p for line in (parts, *cells, *sentences) for p in line):
            if isinstance(part, Math):
                yield part.latex, False


# ------------------------------------------------------------------------------------------------------ what is there


def test_every_section_is_there_for_every_cell(shipped):
    assert set(shipped) == set(derive.cells())
    for name, document in shipped.items():
        anchors = [section.anchor for section in document.walk()]
        assert [a for a in anchors if a in SECTIONS] == list(SECTIONS), name
        steps = [block.number for block in document.blocks() if isinstance(block, Step)]
        rows = [
            block
            for block in document.blocks()
            if isinstance(block, Table) and block.anchors[:1] == (f"step-{steps[-1] + 1}",)
        ]
        derivation = derive.differentiate(derive.load(name))
        assert len(steps) + len(rows[0].rows) == len(derivation.steps), name


def test_what_should_be_concluded_comes_first(tanh):
    first, table, _ = tanh.sections[0].blocks
    assert isinstance(first, Paragraph)
    assert first.role == "lead"
    assert tanh.verdict == Mark("holds", "proven")
    assert {row[1][0].verdict for row in table.rows} == {"holds"}
    assert all(any(isinstance(p, Link) for p in row[-1]) for row in table.rows)


def test_a_full_report_has_its_numbers_and_its_figures(tanh, results):
    places = {
        section.anchor: [b.stem for b in section.blocks if isinstance(b, Figure)]
        for section in tanh.walk()
        if any(isinstance(b, Figure) for b in section.blocks)
    }
    assert places == {
        "unrolled": ["unrolled-graph"],
        "jacobian": ["gradient-norm", "singular-values"],
        "truncation": ["truncation-bias"],
        "cost": ["time-and-memory"],
        "planted": ["mistakes-revealed"],
        "numbers": ["difference-errors"],
    }
    html = to_html(tanh)
    score = results[1].score
    assert f"{score.caught} of {score.planted}" in html
    assert "complex step" in html
    assert "J. L. Elman" in html
    assert len(html) < 3_000_000


def test_the_story_is_told_in_order(tanh):
    told = [section.anchor for section in tanh.sections]
    assert told == [
        *("verdict", "cell", "unrolled", "loss", "outputs", "recursion", "recurrent", "others", "jacobian"),
        *("truncation", "cost", "proof", "numbers", "basis"),
    ]
    numbers = [b.number for b in tanh.blocks() if isinstance(b, Step)]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("name", ["no outputs", "neither", "no parameters", "vectors only", "scalars everywhere"])
def test_a_chapter_is_there_where_the_cell_has_something_to_tell(name):
    told = [section.anchor for section in quick(ODD[name]).sections]
    cell = ODD[name]
    assert ("outputs" in told) == bool(cell.outputs)
    assert ("others" in told) == (name != "neither")
    assert {"recursion", "recurrent", "jacobian"} <= set(told)


def test_every_formula_of_every_cell_is_typeset(shipped, tanh):
    count = 0
    for document in (*shipped.values(), tanh):
        for latex, display in formulas(document):
            shown = displayed(latex) if display else inline(latex)
            assert "<math" in shown, latex
            assert 'class="latex"' not in shown, latex
            count += 1
    assert count > 500
    assert 'class="latex"' in inline(r"\unknowncommand{x}")  # what the line above would see


def test_names_with_digits_and_greek_letters_are_typeset():
    text = "s0[t] = tanh(W0 @ s1[t-1] + x[t])\ns1[t] = tanh(W1 @ s0[t-1] + alpha_1*s1[t-1]) + lambda_max*s0[t-1]"
    for latex, display in formulas(quick(derive.parse(text))):
        assert 'class="latex"' not in (displayed(latex) if display else inline(latex)), latex


# ------------------------------------------------------------------------------------------------- how it is typeset


def test_the_pieces_of_a_formula_are_the_formula(shipped):
    def letters(latex):
        return re.sub(r"[\s{}]|\\qquad|\\quad|\\Longrightarrow", "", latex)

    broken = 0
    for document in shipped.values():
        for latex, _ in formulas(document):
            pieces = clauses(latex)
            whole = "".join(c.left + "".join(c.terms) for c in pieces)
            assert letters(whole) == letters(latex)
            for piece in (p for c in pieces for p in (c.left, *c.terms)):
                assert piece.count("{") == piece.count("}"), piece
                assert len(re.findall(r"\\left(?![a-z])", piece)) == len(re.findall(r"\\right(?![a-z])", piece)), piece
                assert piece.count(r"\lVert") == piece.count(r"\rVert"), piece
            broken += len(pieces) > 1 or len(pieces[0].terms) > 1
            assert aligned(latex).count(r"\begin") == aligned(latex).count(r"\end")
    assert broken > 20


def test_long_formulas_are_broken_before_a_sign():
    long = "x = " + " + ".join(rf"W_{{{k}}} \, h_{{{k}}}" for k in range(20))
    assert len(clauses(long)[0].terms) == 20
    assert aligned(long).count(r"\\") >= 2
    assert aligned("x = a + b") == "x = a + b"


def test_brackets_are_only_as_large_as_needed():
    assert tightened(r"f\left(x\right)") == "f(x)"
    assert tightened(r"\left(\frac{a}{b}\right)") == r"\left(\frac{a}{b}\right)"
    assert tightened(r"\left(a \left(b \left(c\right)\right)\right)") == r"\bigl(a (b (c))\bigr)"
    assert tightened(r"s{}^{(0)}_{t}^{2}") == r"{s{}^{(0)}_{t}}^{2}"


def test_names_in_sentences_become_formulas():
    assert prose("h[t] acts on W_hh at t", ["W_hh"]) == (Math("h_{t}"), " acts on ", Math("W_{hh}"), " at ", Math("t"))
    assert prose("SymPy's diff, a word and e.g. another") == ("SymPy's diff, a word and e.g. another",)
    assert prose("a of b", ["b"])[0] == "a of "


def test_the_font_of_the_same_letters_is_the_same():
    assert embedded_font("abc") == embedded_font("cba")
    assert "√" in characters(inline(r"\sqrt{x}"))  # what a root is drawn with stands in no text
    assert "√" not in characters(inline("x"))
    assert embedded_font("abc") != embedded_font("abd")


# ------------------------------------------------------------------------------------------------------------- HTML


class Page(HTMLParser):
    """What a browser would see: open elements, ids, links, and everything that it would fetch or run."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "wbr", "input"})

    def __init__(self, html):
        super().__init__()
        self.open, self.faults, self.ids, self.links, self.fetched, self.elements = [], [], [], [], [], []
        self.feed(html)
        self.close()
        self.faults += [f"<{tag}> is not closed" for tag in self.open]
        self.faults += [f"id {i} twice" for i in {i for i in self.ids if self.ids.count(i) > 1}]
        self.faults += [f"#{link} leads nowhere" for link in self.links if link not in self.ids]

    def handle_starttag(self, tag, attributes):
        self.look(tag, attributes)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.look(tag, attributes)

    def look(self, tag, attributes):
        self.elements.append(tag)
        if tag in ("script", "iframe", "object", "embed", "link", "img"):
            self.fetched.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name.startswith("on") or name in ("src", "srcset", "action", "poster", "data"):
                self.fetched.append(f"{tag} {name}={value}")
            if name in ("href", "xlink:href"):
                (
                    self.links.append(value[1:])
                    if value.startswith("#")
                    else self.fetched.append(f"{tag} {name}={value}")
                )
            if name == "style" and "url(" in value and "url(#" not in value:
                self.fetched.append(f"{tag} style={value}")

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")

    def handle_data(self, data):
        if self.open[-1:] == ["style"]:
            self.fetched += [
                u for u in re.findall(r"(?:url\(|@import)\s*([^)]{0,30})", data) if not u.startswith("data:")
            ]


def test_a_page_is_well_formed_and_fetches_nothing(shipped, tanh):
    for document in (*shipped.values(), tanh):
        page = Page(to_html(document))
        assert page.faults == []
        assert page.fetched == []
        assert page.elements.count("h1") == 1
    assert not re.search(r"https?://(?!www\.w3\.org/)", to_html(tanh))


@pytest.mark.parametrize(
    "wrong",
    [
        "<p><b></p>",
        "<i id=a></i><i id=a></i>",
        "<a href='#no'>x</a>",
        "<script>1</script>",
        "<a href='http://x.example'>x</a>",
        "<style>@import 'x.css'</style>",
        "<style>a{background:url(http://x)}</style>",
        "<p onclick='x'></p>",
        "<svg><use xlink:href='x.svg'></use></svg>",
    ],
)
def test_the_look_at_a_page_finds_what_is_wrong(wrong):
    page = Page(wrong)
    assert page.faults or page.fetched


def test_hostile_text_is_text():
    document = quick(derive.parse(HOSTILE))
    html = to_html(document)
    page = Page(html)
    assert (page.faults, page.fetched) == ([], [])
    assert "script" not in page.elements
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "{{ 7*7 }}" in html
    assert "<b>bold" not in html
    text = to_markdown(document, "evil").text
    outside = re.sub(r"(?ms)^(`{3,})text$.*?^\1$", "", text)
    assert "<script" not in outside
    assert "<img" not in outside
    assert r"\[l\](http://e.example)" in outside
    assert markdown_faults(text) == []


# --------------------------------------------------------------------------------------------------------- Markdown


def markdown_faults(text):
    """What GitHub would not show as it is meant."""
    faults = []
    text = re.sub(r"(?ms)^(`{3,})\w*$.*?^\1$", "", text)
    lines = text.split("\n")
    fences = [i for i, line in enumerate(lines) if line == "$$"]
    faults += ["an odd number of $$"] if len(fences) % 2 else []
    for begin, end in zip(fences[::2], fences[1::2], strict=False):
        faults += [f"no empty line around the formula in line {begin}"] if lines[begin - 1] or lines[end + 1] else []
        body = lines[begin + 1 : end]
        faults += [
            f"{line!r} begins like a list or a heading" for line in body if re.match(r"\s*([-+*#>=]|\d+[.)])", line)
        ]
        faults += dangerous("\n".join(body))
        lines[begin : end + 1] = [""] * (end + 1 - begin)
    width = 0
    for line in lines:
        plain = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", lambda m: m[0].replace("$", "").replace(r"\|", ""), line)
        plain = plain.replace("<span>$</span>", "")
        faults += [f"an odd number of $ in {line!r}"] if plain.count("$") % 2 else []
        faults += [f for formula in plain.split("$")[1::2] for f in dangerous(formula)]
        cells = len(re.split(r"(?<!\\)\|", plain)) if line.startswith("|") else 0
        faults += [f"{cells} cells in a table of {width}: {line!r}"] if cells and width and cells != width else []
        width = cells
    return faults


def dangerous(formula):
    """Characters in a formula that Markdown reads first, and brackets without a partner."""
    found = [f"{c!r} in {formula!r}" for c in ("*", "|", "<", ">", "[", "]", "`", "~", r"\,", r"\\") if c in formula]
    found += [f"emphasis in {formula!r}"] if re.search(r"[^A-Za-z0-9]_", formula) else []
    return found + ([f"brackets in {formula!r}"] if formula.count("{") != formula.count("}") else [])


def test_markdown_is_what_github_renders(shipped, tanh):
    for document in (*shipped.values(), tanh):
        text = to_markdown(document, "report").text
        assert markdown_faults(text) == []
        assert text.count("\n$$\n") >= 2 * sum(isinstance(b, Step) for b in document.blocks())
        ids = re.findall(r'<a id="([^"]+)"></a>', text)
        assert len(ids) == len(set(ids))
        assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= set(ids)


@pytest.mark.parametrize(
    "wrong",
    [
        "a\n$$\nx\n$$\n\nb",
        "a\n\n$$\nx\n",
        "\n$$\n- x\n$$\n",
        "\n$$\nx | y\n$$\n",
        "a $x",
        "a $x * y$",
        r"a ${x}_{i}$",
        "| a | b |\n| --- |\n",
    ],
)
def test_the_look_at_markdown_finds_what_is_wrong(wrong):
    assert markdown_faults(wrong)


def test_formulas_are_written_in_letters_where_markdown_would_read_them():
    assert _latex(r"\left|x\right|_{2} \, y") == r"\left\vert x\right\vert \sb{2} \thinspace y"
    assert _latex("- x") == "{}- x"


def test_a_figure_lies_beside_its_markdown(tanh):
    page = to_markdown(tanh, "my report")
    assert len(page.files) == sum(isinstance(b, Figure) for b in tanh.blocks())
    assert "](my%20report-gradient-norm.svg)" in page.text
    svg = page.files["my report-gradient-norm.svg"]
    assert svg.startswith("<?xml")
    assert "var(" not in svg


# -------------------------------------------------------------------------------------------------- the same twice


def without_times(text):
    return re.sub(r'<span class="time">[^<]*</span>|(?:&lt; 0\.01|\d+\.\d\d) s\b', "TIME", text)


def timeless(document):
    """The document without the figures that draw times."""

    def kept(section):
        blocks = tuple(b for b in section.blocks if not (isinstance(b, Figure) and b.stem == "time-and-memory"))
        return replace(section, blocks=blocks, sections=tuple(map(kept, section.sections)))

    return replace(document, sections=tuple(map(kept, document.sections)))


def test_the_same_cell_gives_the_same_bytes(tanh, results):
    again, tanh = timeless(assemble(*results, 0)), timeless(tanh)
    for write in (to_html, lambda d: to_markdown(d, "x").text):
        assert without_times(write(again)) == without_times(write(tanh))
    seeds = [without_times(to_html(assemble(*results[:2], check(results[0], seed), seed))) for seed in (0, 1)]
    assert seeds[0].replace("seed 0", "seed 1") != seeds[1]


def test_times_are_what_is_taken_out(tanh):
    html = to_html(tanh)
    assert html.count('class="time"') > 30
    assert without_times(html.replace("< 0.01 s", "0.42 s").replace("&lt; 0.01 s", "0.42 s")) == without_times(html)


# ------------------------------------------------------------------------------------------- when something is wrong


def test_a_refuted_proof_is_said_first(results):
    derivation, proof, measured = results
    wrong = replace(proof.obligations[3], holds=False, detail="W_hh[0,1]: 3 is not <4>")
    refuted = replace(proof, obligations=(*proof.obligations[:3], wrong, *proof.obligations[4:]))
    document = assemble(derivation, refuted, measured, 0)
    assert document.verdict == Mark("fails", "refuted")
    lead = document.sections[0].blocks[0].parts
    assert lead[0].startswith("Do not rely on")
    assert wrong.name in lead[0]
    shown = {b.proof[0].parts[0] for b in document.blocks() if isinstance(b, Step) and b.proof}
    assert Mark("fails", "refuted") in shown
    html = to_html(document)
    assert "3 is not &lt;4&gt;" in html
    assert "1 of" in html
    assert 'class="badge fails"' in html


def test_a_missed_mistake_refutes(results):
    derivation, proof, measured = results
    score = replace(proof.score, caught=proof.score.planted - 1, missed=("sign in d h[t], number 3 (P3)",))
    document = assemble(derivation, replace(proof, score=score), measured, 0)
    assert document.verdict.verdict == "fails"
    assert "sign in d h[t], number 3" in to_html(document)


def test_what_was_not_done_is_not_proven(results):
    derivation, proof, measured = results
    obligations = tuple(
        replace(o, holds=None, detail="more than 3 terms") if o.needed else o for o in proof.obligations
    )
    document = assemble(derivation, replace(proof, obligations=obligations), measured, 0)
    assert document.verdict == Mark("open", "not proven")
    assert "more than 3 terms" in to_html(document)


def test_a_wrong_engine_is_noticed(monkeypatch, results):
    derivation, proof, _ = results
    right = numeric.Engine
    wrong = next(p.backward for p in plant(derivation.backward) if p.mistake == "carry-not-transposed")
    monkeypatch.setattr(numeric, "Engine", lambda cell, *rest, **more: right(cell, *rest, backward=wrong, **more))
    measured = check(derivation, 0)
    assert measured.ok is False
    document = assemble(derivation, proof, measured, 0)
    assert document.verdict == Mark("fails", "refuted")
    assert "differs" in to_html(document)


def test_difference_quotients_alone_do_not_refute(results):
    derivation, proof, measured = results
    last = measured.check.rows[-1]
    rows = (*measured.check.rows[:-1], replace(last, error=1.0))
    apart = replace(measured, check=replace(measured.check, rows=rows))
    assert last.method == "Richardson"
    assert apart.ok is None
    document = assemble(derivation, proof, apart, 0)
    assert document.verdict.verdict == "holds"
    assert "no judge" in to_html(document)


def test_a_cell_that_is_never_finite_is_not_measured():
    derivation = derive.differentiate(derive.parse("h[t] = exp(exp(exp(9 + h[t-1]**2 + x[t]**2)))"))
    measured = measure(derivation, 0)
    assert (measured.check, measured.ok) == (None, None)
    assert "not done" in to_html(assemble(derivation, stub_proof(derivation), measured, 0))


@pytest.mark.parametrize(
    "text",
    [
        "h[t] = tanh(W @ h[t-1] + b)",
        "s[t] = log(x[t]) + a*s[t-1]\ny[t] = V @ sqrt(s[t])",
        "h[t] = tanh(W @ h[t-1] + U @ x[t] + V @ u[t])\ny[t] = A @ h[t]\nz[t] = C @ h[t]",
        "alpha: scalar\nh[t] = relu(alpha*h[t-1] + x[t])",
    ],
)
def test_cells_without_inputs_with_several_and_with_conditions_are_measured(text):
    assert check(derive.differentiate(derive.parse(text)), 0).ok is True


def test_sizes_are_all_different():
    sizes = sizes_of(("H", "D", "O", "K", "H_c", "D_u", "A"))
    assert len({*sizes.values(), STEPS, BATCH}) == len(sizes) + 2


def test_a_document_is_checked_when_it_is_made():
    section = Section("A", "a", (Paragraph((Link(("x",), "nowhere"),)),))
    with pytest.raises(ValueError, match="nowhere"):
        Document("n", "t", Mark("holds", "x"), (section,))
    with pytest.raises(ValueError, match="twice"):
        Document("n", "t", Mark("holds", "x"), (Section("A", "a"), Section("B", "a")))
    with pytest.raises(ValueError, match="2 columns"):
        Table((("a",), ("b",)), ((("1",),),), "ll")
    with pytest.raises(ValueError, match="letters"):
        Table((("a",), ("b",)), (), "l")
    with pytest.raises(ValueError, match="mark"):
        Mark("maybe", "x")
    assert slug("P3/h[t-1]") != slug("P3/h[t]")


@pytest.mark.parametrize("module", sorted(m.name for m in pkgutil.walk_packages(reports.__path__, "reports.")))
def test_the_examples_in_docstrings_are_true(module):
    if module != "reports.__main__":
        assert doctest.testmod(importlib.import_module(module)).failed == 0
