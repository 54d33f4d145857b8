"""The command ``bptt``: statuses, one line for an error, files that are replaced whole or not at all."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import derive
from derive.mistakes import plant
from reports import cli, files
from reports.cli import main
from reports.console import print_text
from reports.document import Document, Mark, Paragraph, Section
from reports.files import check_writable, write_files
from reports.measure import Measured
from reports.progress import Progress

COMMANDS = ("report", "prove", "verify", "flow", "cells", "judge", "cases")
FULL_DEVICE = Path("/dev/full")


def run(*arguments, **options):
    """The command as a program of its own."""
    environment = {**os.environ, "BPTT_DEBUG": "", **options.pop("env", {})}
    command = [sys.executable, "-m", "reports", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, env=environment, timeout=120, check=False, **options)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BPTT_DEBUG", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def derivation():
    return derive.differentiate(derive.load("tanh_rnn"))


@pytest.fixture(scope="module")
def proof(derivation):
    return derive.prove(derivation)


@pytest.fixture
def fast(monkeypatch, proof):
    """Reports without the work: the proof is there already and nothing is measured."""
    monkeypatch.setattr("reports.build.prove", lambda derivation, report: proof)
    monkeypatch.setattr("reports.build.measure", lambda derivation, seed: Measured({}, None, (), "left out"))


def one_error(captured, *words):
    """The single line on stderr; nothing on stdout."""
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("bptt: error: "), line
    for word in words:
        assert word in line, line
    return line


# ---------------------------------------------------------------------------------------------------------- results


def test_cells_are_listed(capsys):
    assert main(["cells"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(derive.cells())
    assert main(["cells", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [cell["name"] for cell in found] == list(derive.cells())
    lstm = next(cell for cell in found if cell["name"] == "lstm")
    assert set(lstm["states"]) == {"h", "c"}
    assert lstm["parameters"]["W_i"] == ["H", "D"]
    assert lstm["dimensions"]["D"] == ["x"]


def test_a_proof_is_printed(capsys):
    assert main(["prove", "tanh_rnn"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == "tanh_rnn: proven"
    assert "planted mistakes caught" in captured.out
    # progress only, and only where the machine took longer than two seconds
    assert all(line.startswith("bptt: ") and line.endswith(" ...") for line in captured.err.splitlines())


def test_a_proof_is_json_for_a_program(capsys, here):
    (here / "my.cell").write_text("h[t] = relu(W @ h[t-1] + x[t])\n")
    assert main(["prove", "my.cell", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["cell"], found["verdict"]) == ("my", "proven")
    assert {"name", "statement", "method", "level", "holds", "needed", "detail", "seconds"} == set(
        found["obligations"][0]
    )
    assert found["score"]["caught"] == found["score"]["planted"] > 0
    assert found["score"]["by_check"]["P3"]["planted"] > 0
    assert found["hypotheses"][0]["relation"] == "!= 0"
    assert found["trusted_base"]


def test_a_refuted_proof_is_status_1(capsys, monkeypatch, derivation):
    wrong = next(p.backward for p in plant(derivation.backward) if p.mistake == "sign")
    right = derive.prove
    monkeypatch.setattr(derive, "prove", lambda d, report: right(replace(derivation, backward=wrong), report=report))
    assert main(["prove", "tanh_rnn", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "refuted"
    assert any(o["holds"] is False and o["detail"] for o in found["obligations"])


def test_a_proof_that_shows_nothing_is_status_4(capsys, monkeypatch, proof):
    nothing = replace(proof, obligations=tuple(replace(o, holds=None) for o in proof.obligations))
    monkeypatch.setattr(derive, "prove", lambda d, report: nothing)
    assert main(["prove", "tanh_rnn"]) == 4
    assert "not proven" in capsys.readouterr().out


def test_a_report_is_written_and_named(capsys):
    assert main(["report", "tanh_rnn"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "tanh_rnn.html: tanh_rnn proven\n"
    text = Path("tanh_rnn.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert "gradient by" in text
    assert os.listdir() == ["tanh_rnn.html"]


def shown_beside(name):
    """The figures of a Markdown file, which are all the files that have come with it."""
    shown = set(re.findall(r"\]\(([^)#]+\.svg)\)", Path(name).read_text(encoding="utf-8")))
    assert shown == {n for n in os.listdir() if n.startswith(f"{Path(name).stem}-")}
    return shown


@pytest.mark.usefixtures("fast")
def test_markdown_comes_with_its_figure_if_there_is_one(capsys, monkeypatch, derivation):
    assert main(["report", "tanh_rnn", "-o", "a.MD"]) == 0
    few = shown_beside("a.MD")
    from reports.measure import measure

    monkeypatch.setattr("reports.build.measure", measure)
    assert main(["report", "tanh_rnn", "-o", "b.md", "--seed", "3"]) == 0
    assert "(seed 3)" in Path("b.md").read_text(encoding="utf-8")
    assert "b-gradient-norm.svg" in shown_beside("b.md")
    assert len(shown_beside("b.md")) > len(few)


@pytest.mark.usefixtures("fast")
def test_a_refuted_report_is_written_all_the_same(capsys, monkeypatch, proof):
    missed = replace(proof, score=replace(proof.score, missed=("sign",)))
    monkeypatch.setattr("reports.build.prove", lambda derivation, report: missed)
    assert main(["report", "tanh_rnn", "-o", "r.html"]) == 1
    assert capsys.readouterr().out == "r.html: tanh_rnn refuted\n"
    assert "Do not rely on" in Path("r.html").read_text(encoding="utf-8")


@pytest.fixture
def ledger(monkeypatch):
    """A ledger without the work, which comes to what is said."""

    def comes_to(verdict, missing=()):
        section = Section("Claims", "claims", (Paragraph(("one",)),))
        document = Document("textbook", "A textbook", Mark(verdict, "decided"), (section,))
        modules = {
            "reports.ledger": {"build_ledger": lambda book, report: document},
            "derive.claims": {"load_book": lambda book: book},
            "reports.ledger_coverage": {"uncovered": lambda text, book: list(missing)},
        }
        for name, contents in modules.items():
            monkeypatch.setitem(sys.modules, name, SimpleNamespace(**contents))

    return comes_to


@pytest.mark.parametrize(("verdict", "status"), [("holds", 0), ("fails", 1), ("open", 4)])
def test_a_ledger_is_written_and_named(capsys, ledger, verdict, status):
    ledger(verdict)
    assert main(["report", "--ledger"]) == status
    assert main(["report", "--ledger", "-o", "mine.md"]) == status
    assert main(["report", "--ledger", "book.toml"]) == status
    assert sorted(os.listdir()) == ["book.html", "mine.md", "textbook.html"]
    assert capsys.readouterr().out.splitlines()[0] == "textbook.html: textbook decided"


def test_what_has_no_row_in_a_book_is_listed(capsys, ledger):
    ledger("holds", [(7, "formula", "x = 1")])
    assert main(["report", "--ledger", "book.toml", "--against", "text.md"]) == 4
    assert capsys.readouterr().out.splitlines()[1] == "text.md:7: formula without a row: x = 1"
    ledger("holds")
    assert main(["report", "--ledger", "book.toml", "--against", "text.md"]) == 0


# ----------------------------------------------------------------------------------------------------------- errors


def unreadable(path):
    path.write_bytes(b"h[t] = \xff")


WRONG = {
    "a wrong equation": (lambda p: p.write_text("# c\n\nh[t] = tanh(W @ h[t-1] + )\n"), "my.cell:3:", "expected"),
    "a function that is not known": (lambda p: p.write_text("h[t] = tan(h[t-1])"), "my.cell:1:", "tanh"),
    "bytes": (unreadable, "my.cell:1:8", "UTF-8"),
    "nothing": (lambda p: p.write_text(""), "my.cell", "no equation"),
    "a folder": (lambda p: p.mkdir(), "my.cell", "not a regular file"),
    "no file": (lambda p: None, "my.cell", "no such file"),
    "terminal codes": (lambda p: p.write_text("h[t] = \x1b[31m\u202eh[t-1]\n"), "my.cell:1:"),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("command", [("prove",), ("report", "-o", "x.html")])
def test_a_wrong_cell_is_one_line(what, command, capsys, here):
    write, *words = WRONG[what]
    write(here / "my.cell")
    assert main([command[0], "my.cell", *command[1:]]) == 2
    line = one_error(capsys.readouterr(), *words)
    assert line.isprintable()
    assert not (here / "x.html").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["COMMAND", "--help"]),
        (["frobnicate"], ["frobnicate", "report", "prove", "cells"]),
        (["prove"], ["CELL", "bptt prove --help"]),
        (["prove", "lsmt"], ["lsmt", "lstm"]),
        (["prove", "a\0b"], []),
        (["prove", "x" * 5000], []),
        (["cells", "--jso"], ["--jso"]),
        (["report", "lstm", "--seed", "-1"], ["seed", "-1"]),
        (["report", "lstm", "--seed", "one"], ["seed", "one"]),
        (["report", "lstm", "-o", "x.txt"], ["x.txt", ".html", ".md", ".pdf"]),
        (["report"], ["CELL", "--ledger"]),
        (["report", "lstm", "--ledger"], ["CELL", "--ledger"]),
        (["report", "--ledger", "--seed", "3"], ["--seed", "--ledger"]),
        (["report", "--ledger", "--format", "backward"], ["backward", "--ledger"]),
        (["report", "--ledger", "--against", "text.md"], ["--against", "--ledger BOOK"]),
        (["report", "--ledger", "own.html", "-o", "own.html"], ["own.html", "the book itself"]),
        (["report", "--ledger", "no.toml", "-o", "x.backward"], ["backward", "--ledger"]),
        (["report", "lstm", "-o", "x"], [".html"]),
        (["report", "lstm", "-o", "folder.html"], ["folder.html", "directory"]),
        (["report", "lstm", "-o", "no/where/x.html"], ["no/where"]),
        (["report", "lstm", "-o", "taken.md"], ["taken-gradient-norm.svg", "directory"]),
        (["report", "own.html", "-o", "own.html"], ["own.html", "itself"]),
        (["report", "lstm", "-o", "circle.html"], ["circle.html", "nowhere"]),
        (["report", "lstm", "-o", "y" * 300 + ".html"], ["yyy.html: File name too long"]),
        (["verify", "own.html", "--cell", "lstm", "--report", ""], [".html", ".md"]),
        (["judge", "a:b", "--cell", "lstm", "--report", ""], [".html", ".md"]),
    ],
)
def test_bad_usage_is_one_line_before_any_work(arguments, words, capsys, here, monkeypatch):
    monkeypatch.setattr("reports.build.prove", lambda *a, **k: pytest.fail("work was done"))
    (here / "folder.html").mkdir()
    (here / "taken-gradient-norm.svg").mkdir()
    (here / "own.html").write_text("h[t] = tanh(h[t-1])")
    (here / "circle.html").symlink_to("circle.html")
    before = sorted(os.listdir())
    assert main(arguments) == 2
    one_error(capsys.readouterr(), *words)
    assert sorted(os.listdir()) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_what_may_not_be_written_is_said_before_any_work(capsys, here):
    (here / "shut").mkdir(mode=0o500)
    (here / "kept.html").write_text("old")
    (here / "kept.html").chmod(0o400)
    for name in ("shut/x.html", "kept.html"):
        assert main(["report", "lstm", "-o", name]) == 2
        one_error(capsys.readouterr(), name)


def test_a_file_that_may_not_be_written_is_refused(here, monkeypatch):
    (here / "kept.html").write_text("old")
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="kept"):
        check_writable(Path("kept.html"))


def test_our_own_fault_is_one_line_and_status_3(capsys, monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(derive, "prove", broken)
    assert main(["prove", "tanh_rnn"]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bptt: internal error: RuntimeError: first second; please report")
    assert "BPTT_DEBUG=1" in line
    monkeypatch.setenv("BPTT_DEBUG", "1")
    with pytest.raises(RuntimeError):
        main(["prove", "tanh_rnn"])


def test_an_interruption_is_quiet(capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(derive, "prove", interrupted)
    assert main(["prove", "tanh_rnn"]) == 130
    assert capsys.readouterr() == ("", "")


# -------------------------------------------------------------------------------------------------------- the files


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("place", ["reports.html.to_html", "reports.files.os.replace", "reports.files.os.fsync"])
def test_a_failure_keeps_the_old_report_and_leaves_nothing(place, capsys, monkeypatch, here):
    (here / "x.html").write_text("old")

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    def break_it(derivation, seed):
        monkeypatch.setattr(place, fail)
        return Measured({}, None, (), "left out")

    monkeypatch.setattr("reports.build.measure", break_it)  # after the first look at the folder, before the writing
    assert main(["report", "tanh_rnn", "-o", "x.html"]) in (2, 3)
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = (line for line in captured.err.splitlines() if not line.endswith(" ..."))  # progress left out
    assert "No space left" in line
    assert os.listdir() == ["x.html"]
    assert (here / "x.html").read_text() == "old"


def test_files_are_all_written_or_none(here):
    (here / "a").write_text("old")
    with pytest.raises(FileNotFoundError):
        write_files({Path("a"): "new", Path("no/where"): "new"})
    assert (here / "a").read_text() == "old"
    assert os.listdir() == ["a"]
    write_files({Path("a"): "new é", Path("b"): "new"})
    assert (here / "a").read_bytes() == "new é".encode()
    assert sorted(os.listdir()) == ["a", "b"]


def test_permissions_stay_and_new_files_get_the_usual_ones(here):
    (here / "a").write_text("old")
    (here / "a").chmod(0o604)
    old = os.umask(0o027)
    try:
        write_files({Path("a"): "new", Path("b"): "new"})
    finally:
        os.umask(old)
    assert stat.S_IMODE((here / "a").stat().st_mode) == 0o604
    assert stat.S_IMODE((here / "b").stat().st_mode) == 0o640


def test_a_symbolic_link_stays_and_leads_to_the_new_file(here):
    (here / "far").mkdir()
    (here / "far" / "real.html").write_text("old")
    (here / "link.html").symlink_to("far/real.html")
    check_writable(Path("link.html"))
    write_files({Path("link.html"): "new"})
    assert (here / "link.html").is_symlink()
    assert (here / "far" / "real.html").read_text() == "new"
    assert os.listdir("far") == ["real.html"]


def test_looking_whether_a_file_can_be_written_changes_nothing(here):
    (here / "a.html").write_text("old")
    check_writable(Path("a.html"))
    check_writable(Path("b.html"))
    assert os.listdir() == ["a.html"]
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe.html")
        with pytest.raises(OSError, match="not a regular file"):
            check_writable(Path("pipe.html"))


# ---------------------------------------------------------------------------------------------- help, progress, pipes


def test_help_has_an_example_for_every_command(capsys):
    for command in ([], *([c] for c in COMMANDS)):
        with pytest.raises(SystemExit) as stopped:
            main([*command, "--help"])
        assert stopped.value.code == 0
        text = capsys.readouterr().out
        assert "Exit status" in text
        example = re.search(r"^Examples?:\s+bptt (\w+)", text, re.M)
        assert example
        assert example[1] == (command or ["report"])[0]
    assert sorted(COMMANDS) == sorted(re.findall(r"^    (\w+) +[a-z]", _help(capsys), re.M))


def _help(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    return capsys.readouterr().out


def test_the_examples_are_understood(capsys):
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            main([command, "--help"])
        for line in re.findall(r"^  bptt (.*)$", capsys.readouterr().out, re.M):
            assert cli._parser().parse_args(line.split()).run


def test_progress_is_silent_at_first_and_then_names_the_stage(capsys):
    with Progress(patience=60) as progress:
        progress("quick")
    assert capsys.readouterr().err == ""
    with Progress(patience=0.01) as progress:
        progress("first")
        deadline = time.monotonic() + 10
        while not progress.speaking and time.monotonic() < deadline:
            time.sleep(0.01)
        progress("second")
    assert capsys.readouterr().err == "bptt: first ...\nbptt: second ...\n"


def test_the_version_is_printed():
    done = run("--version")
    assert (done.returncode, done.stderr) == (0, b"")
    assert re.fullmatch(rb"bptt \d+\.\d+.*\n", done.stdout)


def test_what_is_not_needed_is_not_imported():
    code = "import sys; from reports.cli import main; main({}); print(*sys.modules, file=sys.stderr)"
    for arguments, heavy in (
        (["cells"], {"matplotlib", "jinja2", "numeric", "fontTools", "math_core"}),
        (["--version"], {"sympy", "numpy", "matplotlib"}),
    ):
        script = code.format(arguments) if arguments != ["--version"] else code.replace("main({})", "import reports")
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        loaded = set(done.stderr.split())
        assert "reports" in loaded
        assert not heavy & loaded


def test_an_ascii_terminal_is_no_error(here):
    (here / "é.cell").write_text("# Ünïcode -- λ\nh[t] = tanh(W @ h[t-1] + x[t])\n", encoding="utf-8")
    (here / "ü.cell").write_text("h[t] = tanh(W @ h[t-1] + )\n", encoding="utf-8")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    for environment in (ascii_only, {"PYTHONIOENCODING": "ascii"}):
        done = run("prove", "é.cell", env=environment)
        assert done.returncode == 0
        assert all(line.endswith(b" ...") for line in done.stderr.splitlines())  # progress on a slow machine, no more
        assert re.match(rb"[\x00-\x7f]+: proven\n", done.stdout)
    done = run("prove", "ü.cell", env=ascii_only)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b".cell:1:" in done.stderr


def test_a_reader_who_leaves_is_no_error():
    child = subprocess.Popen([sys.executable, "-m", "reports", "cells"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.close()
    error = child.stderr.read()
    child.stderr.close()
    assert (child.wait(timeout=60), error) == (0, b"")


@pytest.mark.skipif(not FULL_DEVICE.exists(), reason="no full device here")
def test_a_full_disk_is_said_in_one_line():
    with FULL_DEVICE.open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "reports", "cells"], stdout=full, stderr=subprocess.PIPE, timeout=120, check=False
        )
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"standard output" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="no such signal")
def test_control_c_is_quiet_from_outside_too():
    child = subprocess.Popen(
        [sys.executable, "-m", "reports", "prove", "lstm_peephole"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    time.sleep(1.2)
    child.send_signal(signal.SIGINT)
    out, error = child.communicate(timeout=60)
    assert child.returncode in (130, -signal.SIGINT)
    assert (out, error) == (b"", b"")


# ---------------------------------------------------------------------------------------------------- own derivations

MINE = """\
dh[t] = W_hy.T @ dy[t] + W_hh @ da[t+1]
da[t] = dh[t]*(1 - h[t]**2)
dW_hh = sum(outer(da[t], h[t-1]))
"""


def test_verify_prints_the_wrong_line_and_its_name(here, capsys):
    Path("my.backward").write_text(MINE, encoding="utf-8")
    assert main(["verify", "my.backward", "--cell", "tanh_rnn"]) == 1
    shown = capsys.readouterr().out
    assert "WRONG: W_hh should be W_hh.T (carry-not-transposed)" in shown
    assert "smallest counterexample: T = 2, H = 2" in shown
    assert "missing: dW_xh, db, dW_hy" in shown
    Path("my.backward").write_text(MINE.replace("W_hh @", "W_hh.T @"), encoding="utf-8")
    assert main(["verify", "my.backward", "--cell", "tanh_rnn"]) == 0
    assert "WRONG" not in capsys.readouterr().out


def test_verify_prints_json(here, capsys):
    Path("my.backward").write_text(MINE, encoding="utf-8")
    assert main(["verify", "my.backward", "--cell", "tanh_rnn", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["holds"] is False
    assert [line["status"] for line in found["lines"]] == ["wrong", "definition", "right"]
    assert found["lines"][0]["mistake"] == "carry-not-transposed"
    assert found["lines"][0]["counterexample"]["steps"] == 2
    assert found["missing"] == ["dW_xh", "db", "dW_hy"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dq[t] = e[t]", "my.backward:1:9: nothing defines"),
        ("dW = 1", "unknown derivative"),
        ("", "no equation"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(here, capsys, text, words):
    Path("my.backward").write_text(text, encoding="utf-8")
    assert main(["verify", "my.backward", "--cell", "tanh_rnn"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert main(["verify", "none.backward", "--cell", "tanh_rnn"]) == 2
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize("name", derive.cells())
def test_a_report_as_equations_verifies(here, capsys, name):
    assert main(["report", name, "--format", "backward"]) == 0
    text = capsys.readouterr().out
    assert main(["report", name, "-o", "own.backward"]) == 0
    assert Path("own.backward").read_text(encoding="utf-8") == text
    assert main(["verify", "own.backward", "--cell", name]) == 0
    assert main(["report", name, "-o", "own.md", "--format", "backward"]) == 2
    assert main(["report", name, "-o", "own.backward", "--format", "html"]) == 2


def test_what_moves_a_cursor_or_turns_letters_around_is_written_out(capsys):
    """Somebody's error message, or the name of a key, is printed with the verdict on it."""
    print_text("right \N{CHECK MARK}\n\tone\x1b[31m \u202eeno\r\n")
    assert capsys.readouterr().out == "right \N{CHECK MARK}\n\tone\\x1b[31m \\u202eeno\\r\n"
