"""Programs as implementations: whatever one does, there is an outcome, and the other cases are judged."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from oracle_cases import CELL, right, small_cases

from numeric.oracle import Verdict, judge
from numeric.oracle.calling import InProcess, Outcome
from numeric.oracle.command import CommandCaller, WorkerCaller
from numeric.oracle.files import FileError
from numeric.oracle.keep import KeepingCaller
from numeric.oracle.result_data import outcome_text
from numeric.oracle.worker import find
from reports.cli import main
from reports.commands import judge as judging

CASES = small_cases()
FEW = CASES[:3]
FOREIGN = Path(__file__).parent / "foreign"

#: Answers with results that were computed before; does something else when it is asked for the case "mean".
PROGRAM = """
import json, os, signal, subprocess, sys, time
answers = json.load(open(sys.argv[1]))
mode = sys.argv[2]
def say(text):
    sys.stdout.write(text); sys.stdout.flush()
open("started", "a").write("x")
for line in sys.stdin:
    request = json.loads(line)
    case, number = request["case"]["id"], request["id"]
    answer = {**answers[case], "id": number}
    if case == "mean" or mode in ("declines", "wrong"):
        if mode == "crashes": os.kill(os.getpid(), signal.SIGSEGV)
        if mode == "exits": sys.stderr.write("first\\nbad \\x1b[31mluck\\n"); sys.exit(3)
        if mode == "leaves": sys.exit(0)
        if mode == "hangs": time.sleep(60)
        if mode == "child":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            open("child", "w").write(str(child.pid)); time.sleep(60)
        if mode == "orphan":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            open("child", "w").write(str(child.pid)); os._exit(5)
        if mode == "rubbish": say("Segmentation fault? no\\n"); continue
        if mode == "pickle": sys.stdout.buffer.write(b"\\x80\\x04cos\\nsystem\\n."); say("\\n"); continue
        if mode == "nan": say('{"id": %d, "grads": {}, "loss": NaN}\\n' % number); continue
        if mode == "other": answer["id"] = number + 1
        if mode == "no-id": del answer["id"]
        if mode == "list": say("[1]\\n"); continue
        if mode == "absurd": answer["grads"] = {"b": {"shape": [10**15], "values": [1]}}
        if mode == "ragged": answer["grads"] = {"b": [[1], [1, 2]]}
        if mode == "empty": answer = {"id": number}
        if mode == "endless":
            while True: say("x" * 65536)
        if mode == "blank": say("\\n \\r\\n")
        if mode == "unended": say(json.dumps(answer)); time.sleep(60)
        if mode == "newlines":
            while True: say("\\n" * 65536)
        if mode == "drips":
            while True: say("x"); time.sleep(0.02)
        if mode == "half": say('{"id": '); sys.exit(0)
        if mode == "closes": os.close(1); time.sleep(60)
        if mode == "memory": bytearray(1 << 32)
        if mode == "error": answer = {"id": number, "error": "no such layer"}
        if mode == "declines": answer = {"id": number, "declined": "not yet"}
        if mode == "wrong": answer["grads"]["b"]["hex"][0] = "0x1p0"
    say(json.dumps(answer) + "\\n")
    if mode == "twice" and case == "mean": say(json.dumps(answer) + "\\n")
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    path = tmp_path_factory.mktemp("answers") / "answers.json"
    known = {case.id: json.loads(outcome_text(Outcome("returned", right(case)), {}, 10**6)) for case in CASES}
    path.write_text(json.dumps(known))
    return path


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.setenv("BPTT_CACHE", "")
    monkeypatch.delenv("BPTT_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(answers, tmp_path):
    """The words of a program with a mode."""
    (tmp_path / "program.py").write_text(PROGRAM)
    return lambda mode: [sys.executable, "-S", "-E", str(tmp_path / "program.py"), str(answers), mode]


@pytest.fixture
def few(monkeypatch):
    """Three default cases."""
    monkeypatch.setattr("numeric.oracle.families.default_cases", lambda cell, seed=0: FEW)


def gone(pid):
    """Whether a process ends soon; one that nobody has waited for is gone, too."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
            os.kill(pid, 0)
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.02)
    return False


# --------------------------------------------------------------------------------------------------------- programs


def test_a_right_program_agrees_and_is_started_once(command):
    verdict = judge(CommandCaller(command("right")), CELL, cases=CASES)
    assert verdict, verdict
    assert len(verdict.judged) == len(CASES)
    assert Path("started").read_text() == "x"


def test_empty_lines_say_nothing(command):
    assert judge(CommandCaller(command("blank")), CELL, cases=FEW)


def test_an_answer_without_a_line_end_is_hinted_at(command):
    caller = CommandCaller(command("unended"), time_limit=0.4)
    found = caller.call(FEW[1])
    caller.close()
    assert found.kind == "hung"
    assert "ended by a line end" in found.message


def test_not_a_bit_is_lost(command):
    caller = CommandCaller(command("right"))
    sent = caller.call(CASES[0]).value
    caller.close()
    direct = InProcess(right).call(CASES[0]).value
    for name, x in direct["grads"].items():
        assert sent["grads"][name].tobytes() == x.tobytes()
    assert float(sent["loss"]).hex() == float(direct["loss"]).hex()


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("crashes", "crashed with SIGSEGV"),
        ("exits", r"exit status 3.*first \| bad \?\[31mluck"),
        ("leaves", "exit status 0 and without an answer"),
        ("hangs", "did not answer within 0.4 s"),
        ("orphan", "exit status 5"),
        ("rubbish", "no answer.*no JSON.*Segmentation fault. no"),
        ("pickle", "no answer.*UTF-8"),
        ("nan", "NaN is no JSON"),
        ("other", "it answers id"),
        ("no-id", "it answers id None"),
        ("list", "it is a list"),
        ("absurd", "grads.b: the shape"),
        ("ragged", "equally long"),
        ("empty", "the gradient of W_hh is missing"),
        ("endless", "printed more than"),
        ("newlines", "printed more than"),
        ("drips", "did not answer within 0.4 s"),
        ("half", "exit status 0"),
        ("closes", "closed its standard output"),
        ("error", "no such layer"),
        ("wrong", "dL/db"),
    ],
)
def test_whatever_a_program_does_the_rest_is_judged(command, mode, words):
    started = time.monotonic()
    verdict = judge(CommandCaller(command(mode), time_limit=0.4 if mode in ("hangs", "drips") else 20), CELL, cases=FEW)
    assert time.monotonic() - started < 15
    assert verdict.status == ("disagrees" if mode == "wrong" else "error")
    assert verdict.judged == tuple(case.id for case in FEW)
    said = [f.message for f in verdict.findings if mode == "wrong" or f.case == "mean"]
    assert any(re.search(words, message) for message in said), said
    if mode != "wrong":
        assert {f.case for f in verdict.findings} == {"mean"}
        assert verdict.tensors >= 2 * 8


def test_an_answer_nobody_asked_for_is_seen(command):
    verdict = judge(CommandCaller(command("twice")), CELL, cases=FEW)
    assert verdict.status == "error"
    assert any("it answers id" in f.message for f in verdict.findings)


@pytest.mark.skipif(os.name != "posix", reason="process groups")
@pytest.mark.parametrize("mode", ["child", "orphan"])
def test_what_a_program_started_ends_with_it(command, mode):
    caller = CommandCaller(command(mode), time_limit=1)
    assert caller.call(FEW[1]).kind in ("hung", "crashed")
    assert gone(int(Path("child").read_text()))
    caller.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory")
def test_memory_is_limited(command):
    caller = CommandCaller(command("memory"), memory_limit=300 << 20)
    found = caller.call(FEW[1])
    caller.close()
    assert found.kind == "crashed"
    assert "memory limit 300 MiB" in found.message
    assert "MemoryError" in found.message


def test_a_program_that_never_reads_is_stopped():
    caller = CommandCaller([sys.executable, "-S", "-c", "import time; time.sleep(60)"], time_limit=0.3)
    assert caller.call(CASES[0]).kind == "hung"
    caller.close()


def test_no_shell_reads_the_command(command, tmp_path):
    line = f"{shlex.join(command('right'))} ; touch {tmp_path}/touched $(touch {tmp_path}/touched)"
    caller = CommandCaller(line)
    caller.call(CASES[0])
    caller.close()
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("line", ["", "no-such-program-anywhere", "'open", "./nothing x"])
def test_no_program_is_a_usage_error(line, capsys):
    assert main(["judge", "--command", line, "--cell", "tanh_rnn"]) == 2
    assert capsys.readouterr().err.startswith("bptt: error: ")


def test_a_file_that_is_no_program(tmp_path, capsys):
    (tmp_path / "text").write_text("not a program")
    (tmp_path / "text").chmod(0o755)
    assert main(["judge", "--command", "./text", "--cell", "tanh_rnn"]) == 2
    assert "cannot be started" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------------- worker


IMPLEMENTATION = """
import os, sys, time
import numpy as np
from oracle_cases import right
print("imported")
def odd(case):
    print("a line on standard output")
    if case.id == "mean": os.kill(os.getpid(), 11)
    if case.id == "last": time.sleep(60)
    if case.id == "squared": raise RuntimeError(f"boo {sys.stdin.read()!r}")
    if case.id == "linear": raise NotImplementedError("no linear loss")
    if case.id == "one":
        x = case.params["b"]; x.flags.writeable = True; x[0] += 1
    return right(case)
fine = right
not_callable = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_rnn.py").write_text(IMPLEMENTATION)
    (tmp_path / "numeric.py").write_text("raise SystemExit('this is not that package')")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    return "my_rnn"


def test_a_callable_in_a_process_of_its_own(module):
    verdict = judge(WorkerCaller(f"{module}:odd", time_limit=1), CELL, cases=CASES[:7])
    said = {f.case: f.message for f in verdict.findings}
    assert verdict.status == "error"
    assert set(said) == {"mean", "last", "squared", "one"}
    assert "SIGSEGV" in said["mean"]
    assert "did not answer" in said["last"]
    assert "RuntimeError: boo ''" in said["squared"]
    assert "modified in place" in " ".join(f.message for f in verdict.findings if f.case == "one")
    assert dict(verdict.declined) == {"linear": "no linear loss"}
    assert verdict.tensors >= 8


def test_a_right_callable_agrees(module, few, capsys):
    assert main(["judge", f"{module}:fine", "--cell", "tanh_rnn", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["status"] == "agrees"
    assert said["implementation"] == "my_rnn:fine"


def test_what_cannot_be_imported_is_a_usage_error(capsys):
    assert main(["judge", "no_such_module_here:f", "--cell", "tanh_rnn"]) == 2
    assert "no module no_such_module_here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("no_such_module:f", "no module no_such_module"),
        ("json", "expected module:name"),
        (":f", "expected module:name"),
        ("json:nothing", "has no nothing"),
        ("json:__name__", "callable"),
        ("raises_on_import:f", "ZeroDivisionError"),
        ("exits_on_import:f", "SystemExit"),
        ("needs_something:f", "cannot be imported: No module named 'no_such'"),
    ],
)
def test_what_is_no_implementation(target, words, tmp_path, monkeypatch):
    (tmp_path / "raises_on_import.py").write_text("1 / 0")
    (tmp_path / "exits_on_import.py").write_text("raise SystemExit(0)")
    (tmp_path / "needs_something.py").write_text("import no_such")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=words):
        find(target)


def test_an_attribute_of_an_attribute():
    assert find("json:JSONDecoder.decode") is json.JSONDecoder.decode


# ---------------------------------------------------------------------------------------------- kept, and gone on with


class Counting:
    """Right, counted, and interrupted at one call."""

    name = "counting"

    def __init__(self, stop=None):
        self.calls, self.stop, self.inner = 0, stop, InProcess(right)

    def call(self, case):
        if self.calls == self.stop:
            raise KeyboardInterrupt
        self.calls += 1
        return self.inner.call(case)

    def close(self):
        pass


def test_an_interrupted_judging_goes_on(tmp_path):
    first = Counting(stop=5)
    with pytest.raises(KeyboardInterrupt):
        judge(KeepingCaller(first, FEW, tmp_path / "kept", {"implementation": "x"}), CELL, cases=FEW)
    second = Counting()
    kept = KeepingCaller(second, FEW, tmp_path / "kept", {"implementation": "x"}, resume=True)
    verdict = judge(kept, CELL, cases=FEW)
    assert verdict
    assert (kept.taken, second.calls) == (5, 3 * len(FEW) - 5)
    assert verdict.largest == judge(right, CELL, cases=FEW).largest


def test_only_the_same_judging_goes_on(tmp_path):
    def kept(cases=FEW, resume=True, **about):
        return KeepingCaller(Counting(), cases, tmp_path / "kept", {"fingerprint": "1"} | about, resume=resume)

    judge(kept(resume=False), CELL, cases=FEW)
    with pytest.raises(FileError, match="not empty"):
        kept(resume=False)
    with pytest.raises(FileError, match="set of cases"):
        kept(cases=CASES)
    with pytest.raises(FileError, match="file has changed"):
        kept(fingerprint="2")
    path = tmp_path / "kept" / "plain.1.json"
    path.write_text((tmp_path / "kept" / "mean.1.json").read_text())
    with pytest.raises(FileError, match="another case"):
        judge(kept(), CELL, cases=FEW)
    path.write_text("{")
    with pytest.raises(FileError, match="no JSON"):
        judge(kept(), CELL, cases=FEW)


def test_the_command_keeps_and_resumes(command, few, tmp_path, capsys):
    line = ["judge", "--command", shlex.join(command("exits")), "--cell", "tanh_rnn", "-o", "kept"]
    assert main(line) == 1
    first = capsys.readouterr().out
    assert json.loads(Path("kept/verdict.json").read_text())["status"] == "error"
    assert main(line) == 2
    assert "resume" in capsys.readouterr().err
    Path("started").unlink()
    assert main([*line, "--resume"]) == 1
    assert capsys.readouterr().out == first
    assert Path("started").read_text() == "x"  # for the case that had crashed, and for it alone
    assert main([*line, "--resume", "--only", "W_hh"]) == 1
    Path("program.py").write_text(PROGRAM + "\n")
    assert main([*line, "--resume"]) == 2
    assert "file has changed" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------ the command


def test_the_status_says_what_was_found():
    def status(**more):
        return judging._status(Verdict("tanh_rnn", "f", **more))

    assert status(status="agrees", judged=("a",)) == 0
    assert [status(status=s, judged=("a",)) for s in ("disagrees", "suspect", "error")] == [1, 1, 1]
    assert status(status="undecidable", judged=("a",)) == 4
    assert status(status="undecidable", declined=(("a", ""),)) == 4
    assert status(status="agrees") == 4


def test_all_declined_is_nothing_checked(command, few, capsys):
    assert main(["judge", "--command", shlex.join(command("declines")), "--cell", "tanh_rnn"]) == 4
    assert "not yet" in capsys.readouterr().out


def test_parts_are_judged(command, few, capsys):
    line = ["judge", "--command", shlex.join(command("wrong")), "--cell", "tanh_rnn"]
    assert main(line) == 1
    assert "bptt judge --command" in capsys.readouterr().out
    assert main([*line, "--only", "W_hh,W_xh"]) == 0
    assert main([*line, "--scope", "outputs"]) == 0


@pytest.mark.parametrize(
    "line",
    [
        [],
        ["x:y"],
        ["x", "--cell", "tanh_rnn"],
        ["x:y", "--command", "true", "--cell", "tanh_rnn"],
        ["--command", "true", "--cell", "no_such_cell"],
        ["--command", "true", "--cell", "tanh_rnn", "--only", "nothing"],
        ["--command", "true", "--cell", "tanh_rnn", "--only", ","],
        ["--command", "true", "--cell", "tanh_rnn", "--scope", "outputs", "--only", "b"],
        ["--command", "true", "--cell", "tanh_rnn", "--scope", "some"],
        ["--command", "true", "--cell", "tanh_rnn", "--time-limit", "nan"],
        ["--command", "true", "--cell", "tanh_rnn", "--time-limit", "0"],
        ["--command", "true", "--cell", "tanh_rnn", "--memory-limit", "-1"],
        ["--command", "true", "--cell", "tanh_rnn", "--resume"],
    ],
)
def test_what_makes_no_sense_is_one_line(line, capsys):
    assert main(["judge", *line]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_request_to_end_stops_the_program(tmp_path):
    sits = "import os, time; open('child', 'w').write(str(os.getpid())); time.sleep(60)"
    program = shlex.join([sys.executable, "-S", "-c", sits])
    line = [sys.executable, "-m", "reports", "judge", "--command", program, "--cell", "tanh_rnn"]
    environment = {**os.environ, "PYTHONPATH": str(Path(judging.__file__).parents[2])}
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as judged:
        until = time.monotonic() + 60
        while not (tmp_path / "child").exists() and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.2)
        judged.send_signal(signal.SIGTERM)
        assert judged.wait(30) == 128 + signal.SIGTERM
    assert gone(int((tmp_path / "child").read_text()))


# ----------------------------------------------------------------------------------------------------- C, JavaScript


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")

    def build(*options):
        program = tmp_path_factory.mktemp("foreign") / "tanh_rnn"
        subprocess.run([compiler, "-O1", *options, "-o", program, FOREIGN / "tanh_rnn.c", "-lm"], check=True)
        return [str(program)]

    return build


@pytest.fixture
def node():
    program = shutil.which("node")
    if program is None:
        pytest.skip("no node")
    return lambda *options: [program, str(FOREIGN / "tanh_rnn.js"), *options]


def test_the_client_in_c(compiled):
    check_client(compiled(), compiled("-DWRONG"))


def test_the_client_in_javascript(node):
    check_client(node(), node("wrong"))


def check_client(right_one, wrong_one):
    verdict = judge(CommandCaller(right_one), CELL, cases=CASES)
    assert verdict, verdict
    assert dict(verdict.declined) == {"truncated": "no truncation"}
    assert len(verdict.judged) == len(CASES) - 1
    verdict = judge(CommandCaller(wrong_one), CELL, cases=CASES)
    assert verdict.status == "disagrees"
    assert {f.tensor for f in verdict.findings} == {"W_hh"}


@pytest.mark.parametrize("path", sorted(FOREIGN.iterdir()), ids=lambda p: p.name)
def test_clients_are_short(path):
    if path.name.startswith("tanh_rnn."):
        assert len(path.read_text().splitlines()) <= 150
