"""The chapter's listings: shipped as printed, run only by what ships with them, and found wrong where they are."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from derive.claims import ClaimError, books, load_book, read_book
from reports.checks import listing
from reports.checks.listing import check_listing
from reports.checks.registry import check_reading
from reports.document import Code, CodeLines, Listing, Mark, Quantity, Table, walk_blocks
from reports.ledger import CONDITIONS, HOLDS, OPEN, run_ledger
from reports.listings import record, running, worker
from reports.listings.rows import AGREES, STOPS, WRONG, Row, row_data, row_from_data, rows_from_data
from reports.listings.running import Runner, observe
from reports.listings.source import FORMS, HARNESSES, Source, shipped
from reports.listings.watching import watch

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")

#: What the document prints, between its fences.
PRINTED = {
    "automatic": "616bf8283ac5e0be231c5fea28d5ddb38223d4ccfccc09a223c3eb95e09f1445",
    "flow": "420fc4b09f85f545c2bc22c480acbf4d39b53e5e821d3e2794356fae4fb71c60",
    "manual": "7cfae96ed351a62b017e2d40e7b3927e5e1002c059b1b11c36d80f78feb3d398",
    "truncated": "dbeaf45c654fe9d6d1775b5f28cff1a8a1fbb76a192344b5388633c67e2885e6",
}
#: Groups in which a listing as printed does what is asked on every input; in all others, on some it does not.
RIGHT = {
    "automatic": {"printed", "sizes", "graph", "last-state"},
    "flow": {"sums"},
    "manual": {"probabilities", "squares", "dy", "dh", "dh_raw", "carry", "order", "future"},
    "truncated": {"whole", "detach"},
}


# ---------------------------------------------------------------------------------------------------------- as printed


@pytest.mark.parametrize("name", HARNESSES)
def test_a_listing_is_what_the_document_prints(name):
    assert hashlib.sha256(shipped(name).path.read_bytes()).hexdigest() == PRINTED[name]


def test_every_file_of_the_folder_is_a_listing_or_its_mended_form():
    names = {shipped(name, form).path.name for name in HARNESSES for form in FORMS}
    assert {p.name for p in shipped("manual").path.parent.glob("*.*")} == names


# ----------------------------------------------------------------------------------------- nothing else is ever run


@pytest.mark.parametrize("name", ["", "../manual", "manual.py", "/etc/passwd", "manual_mended", "MANUAL", "source"])
def test_only_shipped_names_are_names(name):
    with pytest.raises(ValueError, match="there is no"):
        shipped(name)
    with pytest.raises(ValueError, match="there is no"):
        worker.groups(name)
    with pytest.raises(ValueError, match="there is no"):
        shipped("manual", name)
    with pytest.raises((ValueError, ClaimError)):
        check_listing({"harness": name, "inputs": ("sums",)})


@pytest.mark.parametrize(
    "keys",
    [
        'harness = "{evil}"\ninputs = ["sums"]',
        'harness = "../../{evil}"\ninputs = ["sums"]',
        'harness = "manual"\ninputs = ["{evil}"]',
        'harness = "manual"\ninputs = ["sums"]\nform = "{evil}"',
        'harness = "manual"\ninputs = ["sums"]\ncode = "open({marker!r}, \'w\')"',
        'harness = "manual"\ninputs = ["sums"]\npath = "{evil}"',
        'harness = "manual"\ninputs = ["sums"]\nmodule = "evil"',
    ],
)
def test_a_claims_file_cannot_make_anything_run(tmp_path, monkeypatch, keys):
    marker, evil = tmp_path / "marker", tmp_path / "evil.py"
    evil.write_text(f"open({str(marker)!r}, 'w')\nGROUPS = ()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    text = keys.replace("{evil}", str(evil)).replace("{marker!r}", "'marker'")
    book = read_book(
        'title = "Mine"\n[[claim]]\nid = "a"\nline = 1\nheading = "H"\nkind = "listing"\nprinted = "p"\nsays = "s"\n'
        f'[[claim.reading]]\ncheck = "listing"\n{text}\n'
    )
    with pytest.raises(ClaimError):
        check_reading(book.claims[0].readings[0])
    assert not marker.exists()


def test_modules_in_the_folder_of_the_user_are_not_found(tmp_path, monkeypatch):
    """A torch.py beside the user's book is not taken for the library."""
    (tmp_path / "beside.py").write_text("")
    monkeypatch.chdir(tmp_path)
    python, option, _, start, *folders = Runner().arguments
    assert "sys.path[:] = sys.argv[1:]" in start
    look = (
        "import sys, importlib.util as u; sys.path[:] = sys.argv[1:]; print(*map(u.find_spec, ('beside', 'reports')))"
    )
    found = subprocess.run([python, option, "-c", look, *folders], capture_output=True, text=True, check=True).stdout
    assert found.startswith("None ModuleSpec")


# --------------------------------------------------------------------------------------------- between two processes


def test_rows_come_back_as_they_were():
    row = Row(
        "T = 1",
        ("off by ", Quantity(float("inf"), 1.5, ".2g"), " in ", Code("W_hh"), Quantity(2.0, float("inf"))),
        WRONG,
    )
    assert row_from_data(row_data(row)) == row


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"given": 1, "did": [], "verdict": "agrees"},
        {"given": "", "did": [], "verdict": "fine"},
        {"given": "", "did": [{"html": "<b>"}], "verdict": "agrees"},
        {"given": "", "did": [{"value": "x", "spread": 2, "form": ""}], "verdict": "agrees"},
        [],
    ],
)
def test_what_is_no_row_is_refused(data):
    with pytest.raises(ValueError, match=r"no row|no part|a row is"):
        row_from_data(data)
    with pytest.raises(ValueError, match="list"):
        rows_from_data({"rows": data if isinstance(data, dict) else None})


READY = "import sys, time; print('{}', flush=True); "


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("time.sleep(60)", "it was stopped"),
        ("sys.exit(3)", "ended"),
        ("sys.stdin.readline(); print('no json', flush=True); time.sleep(60)", "no answer"),
        ("sys.stdin.readline(); print('{\"rows\": 5}', flush=True); time.sleep(60)", "no answer"),
        ("sys.stdin.readline(); print('[1]', flush=True); time.sleep(60)", "no answer"),
        ("sys.stdin.readline()\nwhile True: print('x' * 100000)", "no answer"),
    ],
)
def test_a_process_that_hangs_or_dies_is_stopped_and_said(script, said):
    runner = Runner((sys.executable, "-c", READY + script), limit=0.5)
    (row,) = runner.rows("manual", "printed", "sums")
    assert row.verdict == STOPS
    assert said in row.did[0]
    assert runner.program is None


@needs_torch
def test_a_listing_that_hangs_is_stopped(tmp_path):
    text = shipped("manual").text.replace("for t in reversed(range(T)):", "while True:\n        t = 0")
    (tmp_path / "manual.py").write_text(text)
    script = (
        "import sys, pathlib; import reports.listings.worker as w; from reports.listings.source import Source; "
        f"w.shipped = lambda harness, form: Source(pathlib.Path({str(tmp_path / 'manual.py')!r})); w.main()"
    )
    runner = Runner((sys.executable, "-c", script), limit=1.0)
    (row,) = runner.rows("manual", "printed", "squares")
    assert (row.verdict, row.did) == (STOPS, ("no answer within 1 s; it was stopped",))


# --------------------------------------------------------------------------------------------------- what was found


@needs_torch
@pytest.mark.parametrize("name", HARNESSES)
def test_a_mended_listing_does_what_it_says_on_every_input(name):
    for group in worker.groups(name):
        if "mended" in group.forms:
            rows = observe(name, "mended", group.name)
            assert [row for row in rows if row.verdict != AGREES] == []
            assert rows


@needs_torch
@pytest.mark.parametrize("name", HARNESSES)
def test_a_printed_listing_does_what_it_says_where_it_does(name):
    groups = [group.name for group in worker.groups(name) if "printed" in group.forms]
    right = {g for g in groups if all(row.verdict == AGREES for row in observe(name, "printed", g))}
    assert right == RIGHT[name]


@needs_torch
def test_mistakes_have_their_names():
    named = [part.text for row in observe("manual", "printed", "outputs") for part in row.did if isinstance(part, Code)]
    assert named == ["loss-form"] * 3
    window = observe("truncated", "printed", "window")
    assert [Code("detached-every-k") in row.did for row in window] == [True, True, False]


PLANTED = [
    ("manual", "squares", "(1 - hs[t + 1] ** 2)", "(1 - hs[t] ** 2)"),
    ("manual", "squares", "W_hh.T @ dh_raw", "W_hh @ dh_raw"),
    ("manual", "squares", "W_hh.T @ dh_raw", "W_hh.T @ dh"),
    ("manual", "squares", " + dh_next", ""),
    ("manual", "squares", "torch.outer(dh_raw, hs[t])", "torch.outer(dh_raw, hs[t + 1])"),
    ("manual", "squares", "torch.outer(dy, hs[t + 1])", "torch.outer(dy, hs[t])"),
    ("manual", "squares", "dW_hh +=", "dW_hh ="),
    ("manual", "squares", "reversed(range(T))", "range(T)"),
    ("manual", "order", "reversed(range(T))", "range(T)"),
    ("manual", "dh", "dh = W_hy.T @ dy + dh_next", "dh = W_hy.T @ dy - dh_next"),
    ("manual", "dh_raw", "dh * (1 - hs[t + 1] ** 2)", "dh * (1 - hs[t + 1])"),
    ("manual", "carry", "W_hh.T @ dh_raw", "W_hh.T @ dh"),
    ("manual", "future", " + dh_next", ""),
    ("automatic", "sizes", "h_n.squeeze(0)", "outputs[:, 0]"),
    ("automatic", "sizes", "loss.backward()", "(2 * loss).backward()"),
    ("automatic", "last-state", "outputs, h_n = rnn(x)", "outputs, h_n = rnn(x)\nh_n = h_n + 1e-9"),
    ("truncated", "whole", "hidden = hidden.detach()", "hidden = None"),
    ("truncated", "detach", "hidden = hidden.detach()", "hidden = None"),
    ("truncated", "whole", "sequence[i + 1:i + chunk_size + 1]", "sequence[i:i + chunk_size]"),
    ("truncated", "whole", "        optimizer.zero_grad()\n", ""),
    ("truncated", "whole", "total_loss += loss.item()", "total_loss = loss.item()"),
    ("flow", "sums", "outputs[0, -1, :]", "outputs[0, 0, :]"),
    ("flow", "sums", ".norm(dim=-1)", ".sum(dim=-1)"),
    ("flow", "sums", "x.grad[0].norm", "x.grad[-1].norm"),
]


@needs_torch
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of NumPy, quiet where listings run
@pytest.mark.parametrize(("name", "group", "right", "wrong"), PLANTED)
def test_a_planted_mistake_is_found(tmp_path, name, group, right, wrong):
    text = shipped(name).text
    assert text.count(right) == 1
    (tmp_path / f"{name}.py").write_text(text.replace(right, wrong))
    asked = next(g for g in worker.groups(name) if g.name == group)
    assert any(row.verdict == WRONG for row in islice(asked.rows(Source(tmp_path / f"{name}.py")), 4))


@needs_torch
def test_a_planted_mistake_that_pytorch_refuses_is_an_error(tmp_path):
    text = shipped("truncated").text.replace("hidden = hidden.detach()", "pass")
    (tmp_path / "truncated.py").write_text(text)
    whole = next(g for g in worker.groups("truncated") if g.name == "whole")
    row = next(whole.rows(Source(tmp_path / "truncated.py")))
    assert (row.verdict, row.did[:2]) == (STOPS, ("stops", " at its line 23"))


def test_variables_are_seen_in_order(tmp_path):
    (tmp_path / "f.py").write_text("def f(n):\n    x = 0\n    for i in range(n):\n        x = x + 1.5\n    return x\n")
    source = Source(tmp_path / "f.py")
    f = source.run()["f"]
    found, seen = watch(source, ["x", "y"], lambda: f(3))
    assert (found, seen) == (4.5, {"x": [0, 1.5, 3.0, 4.5], "y": []})


# ------------------------------------------------------------------------------------------------------- as evidence


def test_without_pytorch_nothing_is_run(monkeypatch):
    monkeypatch.setattr(listing, "torch_is_there", lambda: False)
    monkeypatch.setattr(listing, "observe", lambda *_: pytest.fail("it was run"))
    found = check_listing({"harness": "manual", "inputs": ("sums",), "code": True})
    assert (found.holds, found.level) == (False, "run as printed")  # as it was recorded
    monkeypatch.setattr(listing, "recorded", lambda *_: ())
    found = check_listing({"harness": "manual", "inputs": ("sums",), "code": True})
    assert (found.holds, found.level, found.needs) == (None, "not run", "torch")


def test_a_record_is_of_the_text_as_it_is(monkeypatch):
    assert record.recorded("manual", "printed", "sums")
    assert record.recorded("manual", "printed", "nothing") == ()
    monkeypatch.setattr(record, "shipped", lambda harness, form: shipped("flow"))
    assert record.recorded("manual", "printed", "sums") == ()


@needs_torch
def test_the_record_is_what_happens_now():
    for harness in HARNESSES:
        for form in FORMS:
            for group in worker.groups(harness):
                if form in group.forms:
                    kept, now = record.recorded(harness, form, group.name), observe(harness, form, group.name)
                    assert same(kept, now), (harness, form, group.name)


def same(kept, now):
    """Whether two runs are one, measured numbers within their spread."""
    parts = [[part for row in rows for part in (row.given, row.verdict, *row.did)] for rows in (kept, now)]
    return len(parts[0]) == len(parts[1]) and all(
        a.agrees(b.value) if isinstance(a, Quantity) and isinstance(b, Quantity) else a == b
        for a, b in zip(*parts, strict=True)
    )


def test_two_runs_that_differ_are_seen():
    row = Row("T = 1", ("off by ", Quantity(2.0, 1.1)), WRONG)
    assert same((row,), (Row("T = 1", ("off by ", Quantity(2.1, 1.1)), WRONG),))
    for other in (Row("T = 1", ("off by ", Quantity(3.0, 1.1)), WRONG), Row("T = 1", row.did, STOPS)):
        assert not same((row,), (other,))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"harness": "manual"},
        {"harness": "manual", "inputs": ("nothing",)},
        {"harness": "manual", "inputs": "sums"},
        {"harness": "manual", "inputs": ("squares",), "form": "mended"},
        {"harness": "manual", "inputs": ("sums",), "beside": ("nothing",)},
        {"harness": "manual", "inputs": ("sums",), "code": 1},
        {"harness": "manual", "inputs": ("sums",), "more": 1},
    ],
)
def test_wrong_arguments_are_refused(given):
    with pytest.raises(ClaimError):
        check_listing(given)


def _given(rows, of="outputs"):
    """These rows for one group and for the other inputs, one that agrees for any other group."""
    return lambda harness, form, group: rows if group in (of, "other") else rows[:1]


def words(said):
    return "".join(part for part in said if isinstance(part, str))


def test_evidence_says_what_there_is(monkeypatch):
    rows = (
        Row("T = 1", ("fine",), AGREES),
        Row("T = 2", ("off by ", Quantity(2.0, 1.1)), WRONG),
        Row("x", ("stops",), STOPS),
    )
    monkeypatch.setattr(listing, "torch_is_there", lambda: True)
    monkeypatch.setattr(listing, "observe", _given(rows))
    found = check_listing({"harness": "manual", "inputs": ("outputs",), "beside": ("other",), "code": True})
    assert (found.holds, found.level) == (False, "run as printed")
    how = "Run as printed on 3 inputs (PyTorch ): "
    text = f"{how}on 1 it gives something else without an error, and on 1 it stops with an error."
    assert words(found.said) == text
    smallest, table, *_ = found.blocks
    assert "Smallest counterexample: " in smallest.parts
    assert [row[2] for row in table.rows] == [
        (Mark("holds", "agrees"),), (Mark("fails", "differs"),), (Mark("fails", "stops"),),
    ]  # fmt: skip
    every = list(walk_blocks(found.blocks))
    beside = [b for b in every if isinstance(b, Table)][1]
    assert beside.rows[2][2] == (Mark("open", "stops"),)
    (code,) = (b for b in every if isinstance(b, CodeLines))
    verdicts = {line.number: line.verdict for line in code.lines if line.verdict}
    assert verdicts.pop(26) == "fails"
    assert set(verdicts.values()) == {"holds"}
    monkeypatch.setattr(listing, "observe", _given(rows[:1]))
    right = check_listing({"harness": "manual", "inputs": ("outputs",), "form": "mended", "code": True})
    assert right.holds
    assert words(right.said) == "Run as mended on 1 input (PyTorch ), it does so on it."
    assert isinstance(right.blocks[-1], Listing)


def test_no_rows_are_no_evidence(monkeypatch):
    monkeypatch.setattr(listing, "torch_is_there", lambda: True)
    monkeypatch.setattr(listing, "observe", _given(()))
    assert check_listing({"harness": "manual", "inputs": ("outputs",)}).holds is False


def test_pytorch_is_looked_for_without_importing_it():
    assert running.torch_is_there() == (importlib.util.find_spec("torch") is not None)


def test_the_lines_that_groups_are_about_are_there():
    for name in HARNESSES:
        count = len(shipped(name).text.splitlines())
        lines = [group.line for group in worker.groups(name)]
        assert all(0 <= line <= count for line in lines)
        assert all(shipped(name).text.splitlines()[line - 1].strip() for line in lines if line)
    assert Path(shipped("flow").path).name == "flow.py"


# ------------------------------------------------------------------------------------------------------- in the books


def _readings():
    """Every reading of a shipped book that is decided by running a listing, with its claim."""
    for name in books():
        for claim in load_book(name).claims:
            for reading in (*claim.readings, *(claim.corrected.readings if claim.corrected else ())):
                if reading.check == "listing":
                    yield claim, reading


def test_rows_of_the_books_ask_what_can_be_asked(monkeypatch):
    monkeypatch.setattr(listing, "torch_is_there", lambda: True)
    monkeypatch.setattr(listing, "observe", _given((Row("T = 1", ("fine",), AGREES),)))
    found = [check_reading(reading) for _, reading in _readings()]
    assert len(found) > 20
    assert all(evidence.holds for evidence in found)


def test_a_row_has_the_lines_of_its_listing():
    for claim, reading in _readings():
        if claim.id == f"listing-{reading.arguments['harness']}":
            assert claim.until - claim.line + 1 == len(shipped(reading.arguments["harness"]).text.splitlines())


@needs_torch
def test_rows_of_the_books_are_decided_and_what_is_called_right_holds():
    own = {claim.id: claim for claim, _ in _readings()}
    book = load_book("chapter")
    ledger = run_ledger([type(book)("chapter", book.title, tuple(own.values()), book.about, book.headings)])
    for judged in ledger.judged:
        assert judged.verdict != OPEN, judged.claim.id
        assert judged.corrected is True, judged.claim.id
        assert judged.verdict == HOLDS or judged.claim.corrected, judged.claim.id
    verdicts = {judged.claim.id: judged.verdict for judged in ledger.judged}
    assert {i for i, v in verdicts.items() if v == CONDITIONS} == {
        "flow-docstring", "listing-automatic", "listing-flow", "listing-manual", "listing-truncated",
        "truncated-total-loss",
    }  # fmt: skip
