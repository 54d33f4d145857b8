"""Reports of verdicts and verifications: the answer first, then where, why and how, whatever strangers' text holds."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from odd_cells import ODD
from oracle_cases import CELL, right, small_cases

import derive
from derive.handwritten.typeset import expression_latex, line_latex
from derive.mistakes.table import SENTENCES
from numeric.oracle import judge
from numeric.oracle.mutants import Run, mutants
from numeric.oracle.verdict import Verdict
from reports.cli import main
from reports.commands.judge import _Judging
from reports.document import CodeLines, Entry, Figure, Formula, Listing, Paragraph, inlines, walk_blocks
from reports.html import to_html
from reports.judged_figure import tensor_latex
from reports.markdown import to_markdown
from reports.mathml import displayed
from reports.parts.foreign import foreign
from reports.parts.judged import verdict_document
from reports.parts.verified import in_order_of, verification_document
from reports.said import explained, said
from reports.written import written
from reports.wrong_lines import mutants_of, wrong_lines

CASES = small_cases()[:5]
DERIVATION = derive.differentiate(CELL)
HOSTILE = (
    "<script>alert(1)</script> `x` $\\input{/etc/passwd}$ | ]]> #eval(1) \ud800\x00\x1b[31m\u202eabc \\\\ " + "y" * 2000
)
EXAMPLES = sorted((Path(derive.__file__).parent / "examples").glob("*.backward"))


def planted(*wanted):
    """A right implementation with the gradients of known mistakes, by label; of each the tensors that it changes."""
    chosen = [m for m in mutants(CELL) for w in wanted if m.label.startswith(w)][: len(wanted)]

    def implementation(case):
        out = right(case)
        run = Run(case)
        for m in chosen:
            found = run.gradient(m) or {}
            changed = {n: x for n, x in found.items() if not np.allclose(x, run.right[n], rtol=1e-9, atol=0)}
            out["grads"] = {**out["grads"], **changed}
        return out

    return implementation


def unknown(case):
    out = right(case)
    w = out["grads"]["W_hh"]
    out["grads"]["W_hh"] = 1.2345 * w + np.sin(np.arange(w.size)).reshape(w.shape)
    return out


def traced(case):
    out = right(case)
    h = out["outputs"]["h"].copy()
    h[2:] *= 1.01
    return {**out, "trace": {"h": h}}


def crashes(case):
    if case.id == "mean":
        raise RuntimeError(HOSTILE)
    return right(case)


def declines(case):
    raise NotImplementedError(HOSTILE)


IMPLEMENTATIONS = {
    "agrees": right,
    "step": planted("recurrent-off-by-one in d W_hh: h[t] should"),
    "carry": planted("carry-not-transposed"),
    "sum": planted("first-step-lost in the sum"),
    "loss": planted("loss-sign in the loss: target[t] - p"),
    "loop": planted("detached-every-k in the loop: the carry is lost at the borders of chunks of 2"),
    "pair": planted("weight-transposed in d W_hh", "bias in d b"),
    "unknown": unknown,
    "traced": traced,
    "crashes": crashes,
    "declines": declines,
}


@pytest.fixture(scope="module")
def verdicts():
    """One verdict a kind, as they are asked for."""
    known = {}

    def of(name):
        if name not in known:
            known[name] = judge(IMPLEMENTATIONS[name], CELL, cases=CASES, name=name)
        return known[name]

    return of


@pytest.fixture(scope="module")
def document(verdicts):
    """The document of each of these verdicts."""
    known = {}

    def of(name):
        if name not in known:
            command = "bptt judge it:f --cell tanh_rnn"
            known[name] = verdict_document(verdicts(name), CELL, CASES, command=command)
        return known[name]

    return of


def text_of(document):
    """All words of a document."""
    parts = []

    def add(part):
        for inner in getattr(part, "parts", ()):
            add(inner)
        parts.append(part if isinstance(part, str) else getattr(part, "text", "") or getattr(part, "latex", ""))

    for block in document.blocks():
        for part in inlines(block):
            add(part)
    return "".join(parts)


def outside_code(markdown):
    """Markdown without what stands in it letter by letter."""
    markdown = re.sub(r"(?ms)^(`{3,}).*?^\1$", "", markdown)
    return re.sub(r"(?s)(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", markdown)


def formulas(document):
    return [b.latex for b in document.blocks() if isinstance(b, Formula)]


def lead(document):
    """The first paragraph, which is the answer."""
    first = document.sections[0].blocks[0]
    assert isinstance(first, Paragraph)
    assert first.role == "lead"
    return "".join(p if isinstance(p, str) else getattr(p, "latex", getattr(p, "text", "")) for p in first.parts)


# --------------------------------------------------------------------------------------------------- the answer first


@pytest.mark.parametrize(
    ("name", "status", "badge", "words"),
    [
        ("agrees", "agrees", ("holds", "agrees"), "as near to the exact one as rounding allows"),
        ("step", "disagrees", ("fails", "disagrees"), "h_{t} should be h_{t-1}"),
        ("sum", "disagrees", ("fails", "disagrees"), "the term of t = 1 is missing"),
        ("pair", "disagrees", ("fails", "disagrees"), "; and in "),
        ("unknown", "disagrees", ("fails", "disagrees"), "no known mistake explains"),
        ("traced", "disagrees", ("fails", "disagrees"), "a line of its trace is not"),
        ("crashes", "error", ("fails", "error"), "could not be judged to the end: raised RuntimeError: <script>"),
        ("declines", "undecidable", ("open", "nothing was judged"), "declined every case"),
    ],
)
def test_the_answer_comes_first(verdicts, document, name, status, badge, words):
    assert verdicts(name).status == status
    found = document(name)
    assert (found.verdict.verdict, found.verdict.text) == badge
    assert words in lead(found)
    titles = [s.anchor for s in found.sections]
    wanted = ["verdict", "where", "why", "reproduce", "coverage"]
    assert titles == {"agrees": wanted[:2] + wanted[4:], "declines": ["verdict", "coverage"]}.get(name, wanted)


@pytest.mark.parametrize(
    ("status", "words"), [("suspect", "nearer than mistakes are"), ("undecidable", "nothing tells")]
)
def test_what_is_not_decided_is_no_mistake(verdicts, status, words):
    seen = verdicts("unknown")
    distances = tuple(replace(d, status=status) if d.status == "disagrees" else d for d in seen.distances)
    findings = tuple(replace(f, status=status) for f in seen.findings)
    verdict = Verdict(CELL.name, "f", status, findings, judged=seen.judged, distances=distances)
    found = verdict_document(verdict, CELL, CASES)
    assert (found.verdict.verdict, found.verdict.text) == ("open", status)
    assert words in lead(found)
    assert "No name is given" in text_of(found)


def test_right_in_another_layout_is_no_mistake(verdicts):
    seen = verdicts("step")
    convention = "right, in another layout: W_hh as its transpose"
    verdict = replace(seen, diagnosis=replace(seen.diagnosis, mistake=None, places=(), convention=convention))
    found = verdict_document(verdict, CELL, CASES)
    assert found.verdict.verdict == "open"
    assert found.verdict.text == "right in another layout"
    assert lead(found) == "The numbers are right, in another layout: W_{hh} as its transpose."


def test_what_is_left_out_is_told(document, verdicts):
    seen = verdicts("agrees")
    only = replace(seen, distances=tuple(d for d in seen.distances if d.tensor in ("W_hy", "loss")))
    assert "or asked for, of W_hh, W_xh and b." in text_of(verdict_document(only, CELL, CASES))
    assert "or asked for" not in text_of(document("agrees"))
    assert verdicts("declines").declined
    assert "counts neither for nor against" in str(document("declines").sections[-1])
    found = text_of(document("agrees"))
    assert verdicts("agrees").untested
    assert all(feature in found for feature in verdicts("agrees").untested)


# ------------------------------------------------------------------------------------------------------------- where


def test_a_verdict_keeps_all_that_it_measured(verdicts):
    verdict = verdicts("carry")
    assert len(verdict.distances) == verdict.tensors
    for d in verdict.distances:
        assert (d.units > 16) == (d.status != "agrees")
        assert len(d.steps) in (0, next(c.T for c in CASES if c.id == d.case))
    wrong = {(d.case, d.tensor): d for d in verdict.distances if d.status == "disagrees"}
    assert {(f.case, f.tensor) for f in verdict.findings} == set(wrong)
    for f in verdict.findings:
        d = wrong[f.case, f.tensor]
        assert (f.index, f.found, f.exact, f.units) == (d.index, d.found, d.exact, d.units)
        if f.step is not None:
            assert f.step == next(t for t, u in enumerate(d.steps, 1) if u > 16)
    assert json.loads(verdict.to_json(distances=True))["distances"][0]["tensor"] == "W_hh"
    assert "distances" not in json.loads(verdict.to_json())


@pytest.mark.parametrize(
    ("name", "wrong", "well"),
    [
        ("step", r"h_{t}^{\top}", r"h_{t-1}^{\top}"),
        ("carry", r"W_{hh} \, \mathrm{d}a_{h,t+1}", r"W_{hh}^{\top} \, \mathrm{d}a_{h,t+1}"),
        ("sum", r"\sum_{t=2}^{T} g_t", r"\sum_{t=1}^{T} g_t"),
        ("loss", r"\mathrm{target}_{t} - p_{t}", r"p_{t} - \mathrm{target}_{t}"),
    ],
)
def test_the_wrong_equation_stands_beside_the_right_one(document, name, wrong, well):
    found = document(name)
    entry = next(b for b in found.blocks() if isinstance(b, Entry))
    shown = [b.latex for b in walk_blocks(entry.blocks) if isinstance(b, Formula)]
    assert wrong in shown[0]
    assert well in shown[1]
    assert shown[0].partition("=")[0] == shown[1].partition("=")[0]
    numbered = re.search(r"Equation \((\d+)\)", text_of(found))
    if numbered and name != "loss":
        assert shown[1] == DERIVATION.steps[int(numbered[1]) - 1].latex


def test_two_mistakes_are_two_equations(document):
    entries = [b for b in document("pair").blocks() if isinstance(b, Entry)]
    assert len(entries) == 2
    assert "Mistakes that are known as" in text_of(document("pair"))


def test_a_wrong_loop_has_no_wrong_equation(document):
    found = document("loop")
    assert not any(isinstance(b, Entry) for b in found.blocks())
    assert "the loop over time is wrong" in text_of(found)


def test_a_wrong_line_of_a_trace_stands_with_its_equation(document):
    found = document("traced")
    entry = next(b for b in found.blocks() if isinstance(b, Entry))
    assert entry.blocks[0] == Formula(DERIVATION.steps[0].latex)
    drawn = [b for b in found.blocks() if isinstance(b, Figure)]
    assert [f.stem for f in drawn] == ["errors", "steps"]
    assert "at t = 3" in text_of(found)


CELLS = {"tanh_rnn": CELL} | {n: ODD[n] for n in ("neither", "no parameters")}


@pytest.mark.parametrize("name", CELLS)
def test_every_mistake_of_a_step_is_a_wrong_equation(name):
    derivation = derive.differentiate(CELLS[name])
    known = {s.latex for s in derivation.steps}
    for m in mutants(CELLS[name]):
        lines = wrong_lines(derivation, m)
        assert all(line.wrong != line.right for line in lines)
        assert lines if m.kind in ("step", "loss") else m.kind in ("sum", "loop")
        if m.kind == "step":
            assert {line.right for line in lines} <= known
    assert mutants_of(derivation, ("no such label",)) == ()


def test_a_drawing_shows_its_numbers(document, verdicts):
    figure = next(b for b in document("carry").blocks() if isinstance(b, Figure))
    worst = {}
    for d in verdicts("carry").distances:
        worst[d.tensor] = max(worst.get(d.tensor, 0.0), d.units)
    rows = {row[0][0].latex: row[-1][0].value for row in figure.data.rows}
    assert rows == {tensor_latex(name): units for name, units in worst.items()}
    assert "var(--figure-third" in figure.svg
    right_only = next(b for b in document("agrees").blocks() if isinstance(b, Figure))
    assert "var(--figure-third" not in right_only.svg  # nothing is beyond the limit


# -------------------------------------------------------------------------------------------------------- why and how


def test_the_smallest_counterexample_is_there(document):
    found = text_of(document("step"))
    assert "The smallest network that shows it" in found
    assert "W_hh[1,1]" in found


def test_the_lines_to_copy_run(document, capsys):
    (listing,) = (b for b in document("step").blocks() if isinstance(b, Listing))
    lines = listing.text.splitlines()
    assert "implementation = ...  # yours: a function of a case" in lines
    lines = ["case = CASE" if x.startswith("case =") else x for x in lines if not x.startswith("implementation")]
    exec("\n".join(lines), {"implementation": IMPLEMENTATIONS["step"], "CASE": CASES[0]})
    assert "disagrees" in capsys.readouterr().out


def test_a_module_is_imported_in_the_lines_to_copy(verdicts):
    for name, words in (("my.rnn:Net.run", "from my.rnn import Net"), ("x; import os:f", "implementation = ...")):
        found = verdict_document(replace(verdicts("step"), implementation=name), CELL, CASES, source="mine.cell")
        (listing,) = (b for b in found.blocks() if isinstance(b, Listing))
        assert words in listing.text
        assert "import os" not in listing.text


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("h[t] should be h[t-1]", ["h_{t}", "h_{t-1}"]),
        ("the factor 1 - h[t]**2 is missing", ["1 - h_{t}^{2}"]),
        ("the term with W_hy.T is missing", [r"W_{hy}^{\top}"]),
        ("in dL/dh[t-1], W_hh should be W_hh.T; first visible at t = 2", [r"\mathrm{d}\mathcal{L}/\mathrm{d}h_{t-1}"]),
        ("the product should be transposed", []),
    ],
)
def test_pieces_of_equations_are_mathematics(text, latex):
    shown = [p.latex for p in said(text, CELL) if not isinstance(p, str)]
    assert shown[: len(latex)] == latex
    assert all(not re.search(r"\w\[|\.T", p) for p in said(text, CELL) if isinstance(p, str))


@pytest.mark.parametrize("name", SENTENCES)
def test_no_formula_of_the_catalogue_is_left_as_letters(name):
    words = [p for p in explained(name) if isinstance(p, str)]
    assert not any(re.search(r"\^|\.T|'\(|\[|\*|\bd[chWv]\b|[a-z]\(| - \d", text) for text in words), words


# -------------------------------------------------------------------------------------------------- strangers' text


def test_strange_text_is_shown_letter_by_letter():
    assert foreign("a\nb \ud800 \u202e") == "a b \\ud800 \\u202e"
    assert len(foreign("x" * 10_000)) < 500
    foreign(HOSTILE).encode()


@pytest.mark.parametrize("name", ["agrees", "step", "loop", "traced", "crashes", "declines"])
def test_every_writer_takes_every_verdict(verdicts, name):
    verdict = verdicts(name)
    if name in ("step", "crashes"):
        verdict = replace(verdict, implementation=HOSTILE, notes=(HOSTILE,), reproduce=HOSTILE)
        verdict = replace(verdict, declined=(("x" + HOSTILE, HOSTILE),))
    found = verdict_document(verdict, CELL, CASES, command=HOSTILE, source=HOSTILE)
    page, text = to_html(found), to_markdown(found, "v").text
    for shown in (page, text):
        shown.encode()
        assert not set("\x00\x1b\u202e") & set(shown)
    assert "<script" not in page
    assert "<script" not in outside_code(text)


def test_a_pdf_takes_strange_text(verdicts):
    pytest.importorskip("typst")
    pdf = pytest.importorskip("reports.pdf")
    verdict = replace(verdicts("crashes"), implementation=HOSTILE, notes=(HOSTILE,))
    assert pdf.to_pdf(verdict_document(verdict, CELL, CASES, command=HOSTILE)).startswith(b"%PDF")
    strange = "# <script> #eval(1) $x$ `y`\ndW_hy = sum(outer(dy[t], h[t-1]))  # é | ]]>\n"
    assert pdf.to_pdf(verification_document(derive.verify(strange, CELL))).startswith(b"%PDF")


# ------------------------------------------------------------------------------------------------------ verifications

ONE_WRONG = """\
# homework <b>3</b> | `x` $y$
dy[t] = p[t] - target[t]
dh[t] = W_hy.T @ dy[t] + W_hh @ da[t+1]   # from both sides

da[t] = dh[t]*(1 - h[t]**2)
dW_hh = sum(outer(da[t], h[t-1]))
"""


def test_one_wrong_line_is_the_one_red_line():
    found = verification_document(derive.verify(ONE_WRONG, CELL))
    assert (found.verdict.verdict, found.verdict.text) == ("fails", "1 line wrong")
    assert lead(found).startswith("3 of 4 lines are right. One is wrong, line ")
    lines = next(b for b in found.blocks() if isinstance(b, CodeLines)).lines
    assert [line.text for line in lines] == ONE_WRONG.splitlines()
    assert [line.number for line in lines if line.verdict == "fails"] == [3]
    assert [line.number for line in lines if line.verdict == "holds"] == [2, 5, 6]
    wrong, well = formulas(found)[:2]
    assert r"W_{hh} \, \mathrm{d}a_{t+1}" in wrong
    assert r"W_{hh}^{\top} \, \mathrm{d}a_{t+1}" in well
    words = text_of(found)
    assert "dh[1][1]" in words
    assert "Without a line: dW_xh, db, dW_hy" in words
    assert "<b>" not in to_html(found)
    assert "<b>" not in outside_code(to_markdown(found, "v").text)


def test_the_right_line_has_its_terms_in_the_order_of_the_wrong_one():
    found = verification_document(derive.verify(ONE_WRONG, CELL))
    wrong, well = formulas(found)[:2]
    assert well == wrong.replace(r"W_{hh} \,", r"W_{hh}^{\top} \,")
    for yours, expected in (("a = x - y", "a = z + y"), ("a = x", "a = y + z"), ("a = (x + y)*z", "a = x*z + y*z")):
        assert in_order_of(yours, expected) == expected


def test_a_convention_of_a_whole_file_is_told():
    text = (EXAMPLES[0].parent / "lstm_gates.backward").read_text(encoding="utf-8")
    seen = derive.verify(text, "lstm")
    assert seen.notes
    found = text_of(verification_document(seen))
    assert "as this file uses it throughout" in found


def test_a_right_derivation_has_no_red_line():
    found = verification_document(derive.verify(ONE_WRONG.replace("W_hh @", "W_hh.T @"), CELL))
    assert found.verdict.verdict == "holds"
    lines = next(b for b in found.blocks() if isinstance(b, CodeLines)).lines
    assert not any(line.verdict == "fails" for line in lines)
    assert [s.anchor for s in found.sections] == ["verdict", "lines", "basis"]


def test_a_file_that_is_wrong_as_it_stands_is_not_called_right():
    seen = derive.verify(ONE_WRONG.replace("W_hh @", "W_hh.T @"), CELL)
    found = verification_document(replace(seen, ran=False))
    assert found.verdict.verdict == "fails"
    assert "run as it stands, the file does not" in lead(found)


def test_what_no_known_mistake_explains_has_a_difference():
    found = verification_document(
        derive.verify("dW_hh = sum(outer(dh[t]*h[t], x[t]*3))\n", derive.parse("h[t] = tanh(W_hh @ h[t-1] + x[t])"))
    )
    assert found.verdict.verdict == "fails"
    assert "None of the known mistakes is exactly this line" in text_of(found)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_every_line_of_the_examples_is_mathematics(path):
    cell = derive.load(max((c for c in derive.cells() if path.stem.startswith(c)), key=len))
    for line in derive_lines(path):
        latex = line_latex(line, cell)
        assert latex is not None, line
        assert not re.search(r"(?<!\\left)\[", latex) or "truncated" in line
        assert "<merror" not in displayed(latex)


def derive_lines(path):
    """The equations of a file, each on one line."""
    from derive.syntax import parse_lines

    return [e.text for e in parse_lines(path.read_text(encoding="utf-8"))[0]]


def test_what_is_no_equation_is_no_mathematics():
    assert line_latex("a = b\nc = d", CELL) is None
    assert line_latex("a = (", CELL) is None
    assert expression_latex("and )", CELL) is None


# --------------------------------------------------------------------------------------------------- the command line


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BPTT_CACHE", "")
    (tmp_path / "my.backward").write_text(ONE_WRONG, encoding="utf-8")
    return tmp_path


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["v.html", "v.md", "V.MD"])
def test_a_verification_is_written_and_named(capsys, name):
    line = ["verify", "my.backward", "--cell", "tanh_rnn"]
    assert main(line) == 1
    plain = capsys.readouterr().out
    assert main([*line, "--report", name]) == 1
    assert capsys.readouterr().out == f"{plain}{name}: the verification of my.backward\n"
    assert "carry-not-transposed" in Path(name).read_text(encoding="utf-8")
    assert main([*line, "--report", name, "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["holds"] is False
    assert name in captured.err


@pytest.mark.usefixtures("here")
def test_a_verdict_is_written_and_named(verdicts, capsys, monkeypatch):
    verdict = replace(verdicts("carry"), implementation="my_rnn:f")
    monkeypatch.setattr("reports.commands.judge._judged_program", lambda arguments: _Judging(verdict, CELL, CASES))
    line = ["judge", "my_rnn:f", "--cell", "tanh_rnn"]
    assert main([*line, "--report", "v.md"]) == 1
    assert capsys.readouterr().out == f"{verdict}\nv.md: the verdict on my_rnn:f\n"
    assert sorted(os.listdir()) == ["my.backward", "v-errors.svg", "v-steps.svg", "v.md"]
    text = Path("v.md").read_text(encoding="utf-8")
    assert "`bptt judge my_rnn:f --cell tanh_rnn`" in text
    assert "from my_rnn import f" in text
    assert main([*line, "--report", "v.html", "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["diagnosis"]["mistake"] == "carry-not-transposed"
    assert "v.html" in captured.err


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("output", "words"),
    [("v.txt", ".html, .md or .pdf"), ("no/v.html", "no directory"), ("taken.md", "taken-errors.svg")],
)
@pytest.mark.parametrize("command", ["judge", "verify"])
def test_what_cannot_be_written_is_told_before_the_work(capsys, monkeypatch, command, output, words):
    monkeypatch.setattr(derive, "verify", lambda *a, **k: pytest.fail("work was done"))
    monkeypatch.setattr("reports.commands.judge._judged_program", lambda arguments: pytest.fail("work was done"))
    Path("taken-errors.svg").mkdir()
    line = {
        "judge": ["judge", "json:loads", "--cell", "tanh_rnn"],
        "verify": ["verify", "my.backward", "--cell", "lstm"],
    }
    assert main([*line[command], "--report", output]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert words in error


def test_a_derivation_is_not_written_over(here, capsys):
    (here / "d.md").write_text(ONE_WRONG)
    assert main(["verify", "d.md", "--cell", "tanh_rnn", "--report", "d.md"]) == 2
    assert "the derivation itself" in capsys.readouterr().err


def test_a_pdf_without_its_library_is_one_line(here, capsys, monkeypatch):
    monkeypatch.setattr("reports.written.find_spec", lambda name: None)
    assert main(["verify", "my.backward", "--cell", "tanh_rnn", "--report", "v.pdf"]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert "bptt[pdf]" in error
    assert not (here / "v.pdf").exists()


def test_a_pdf_is_bytes(tmp_path):
    pytest.importorskip("typst")
    pytest.importorskip("reports.pdf")
    found = written(verification_document(derive.verify(ONE_WRONG, CELL)), tmp_path / "v.pdf")
    assert found[tmp_path / "v.pdf"].startswith(b"%PDF")
