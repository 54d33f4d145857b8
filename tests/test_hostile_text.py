"""Hostile text: whatever it says, reading it runs nothing and ends in one CellError, soon and in little memory.

Each reading is a process of its own with hard limits, so that a text that hangs or swells is a failed test and not a
stuck one.  The processes are forked by a server, this file run as a program, which has imported the package already.
"""

from __future__ import annotations

import ast
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import derive
from derive.tokens import LIMITS

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="limits need a process of its own")

SECONDS = 2
MEGABYTES = 500


# --------------------------------------------------------------------------------------------- limited processes


def hang():
    while True:
        pass


# What a reading must not do, so that the limits are seen to work.
PLANTED = {"hang": hang, "wait": lambda: time.sleep(60), "swell": lambda: bytearray(1 << 29), "crash": os.abort}


def outcome(kind, what):
    """What a reading comes to: "accepted", or the error."""
    try:
        {"parse": derive.parse, "load": derive.load, "plant": lambda name: PLANTED[name]()}[kind](what)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "accepted"


def limited(kind, what, seconds):
    """The same in a process with limits on time and memory."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        signal.alarm(4 * seconds)  # for one that waits
        os.write(writing, outcome(kind, what)[:4000].encode("ascii", "backslashreplace"))
        os._exit(0)
    os.close(writing)
    _, status, usage = os.wait4(child, 0)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    megabytes = usage.ru_maxrss >> (20 if sys.platform == "darwin" else 10)
    if os.WIFSIGNALED(status):
        return f"killed by signal {os.WTERMSIG(status)}"
    return said if megabytes < MEGABYTES else f"took {megabytes} MB"


def serve():
    """Answer requests, one a line."""
    for line in sys.stdin:
        print(json.dumps(limited(*json.loads(line))), flush=True)


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """A function from a kind of reading and what to read to what that comes to."""
    directory = tmp_path_factory.mktemp("server")
    command = [sys.executable, str(Path(__file__).resolve())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=directory) as server:

        def ask(kind, what, seconds=SECONDS):
            server.stdin.write(json.dumps([kind, what, seconds]) + "\n")
            server.stdin.flush()
            return json.loads(server.stdout.readline())

        yield ask
        server.stdin.close()


@pytest.mark.parametrize(
    ("name", "seen"), [("hang", "killed"), ("wait", "killed"), ("swell", "MB"), ("crash", "killed")]
)
def test_a_reading_that_breaks_a_limit_is_caught(ask, name, seen):
    assert seen in ask("plant", name, seconds=4 if name == "swell" else 1)  # importing takes some of it


# ---------------------------------------------------------------------------------------------------- the texts

STATE = "h[t] = h[t-1]\n"
LONG = "abcdefghijklmnopqrstuvwxyzabcdefgh"


def joined(sign, n, term):
    return sign.join(term(i) for i in range(n))


def nested(before, inside, after, n):
    return before * n + inside + after * n


def lines(n, right):
    """``n`` equations, each different, so that nothing is remembered from the one before."""
    return STATE + "\n".join(f"a{i}[t] = {right(i)}" for i in range(n))


REFUSED = {
    # characters and lengths
    "zeros": "\0" * 30_000,
    "half a character": "h[t] = h[t-1] + \ud800",
    "half a character in a comment": "# \udfff\n" + STATE,
    "a long text": "h[t] = h[t-1]" + " " * LIMITS.characters,
    "a very long text": "h" * 50_000_000,
    "a long name": "h" * 39_000 + "[t] = h[t-1]",
    "many digits": "h[t] = h[t-1]*" + "1" * 39_000,
    "many fraction digits": "h[t] = h[t-1]*0." + "0" * 39_000 + "1",
    "a huge decimal exponent": "h[t] = h[t-1]*1e99999999999",
    "a tiny decimal exponent": "h[t] = h[t-1]*1e-99999999999",
    "an exponent of many digits": "h[t] = h[t-1]*1e" + "9" * 39_000,
    "many dots": "h[t] = " + "." * 39_000,
    "many comments": "# \n" * 13_000,
    "many declarations": "a: H\n" * 4_000,
    "many signs": "h[t] = " + "-" * 39_000 + "h[t-1]",
    "many equations": lines(1_000, lambda i: "h[t]"),
    "many names": STATE + "a[t] = " + joined("+", 20, lambda i: f"({joined('+', 30, lambda j: f'b{i}_{j}')})"),
    # nesting
    "round brackets": "h[t] = " + "(" * 39_000,
    "square brackets": "h[t] = h" + "[" * 39_000,
    "closed brackets": "h[t] = " + nested("(", "h[t-1]", ")", 1_900),
    "brackets in an index": "h[t] = h[" + nested("(", "t", ")", 1_900) + "]",
    "brackets in an exponent": "h[t] = x[t]" + nested("**(", "2", ")", 1_000),
    "nested functions": "h[t] = " + nested("tanh(", "h[t-1]", ")", 1_200),
    "a long sum": "h[t] = h[t-1]" + " + b" * 1_900,
    "a long left side": "h" + " + h" * 1_900 + " = 1",
    "a long index": "h[t" + " - 1" * 1_900 + "] = 1",
    "transposes": "h[t] = W" + ".T" * 1_900 + " @ h[t-1]",
    "functions of functions": "h[t] = tanh" + "(h[t-1])" * 500,
    # growth
    "doubling products": "h[t] = " + "(U + V) @ " * 60 + "h[t-1]",
    "doubling products in brackets": "h[t] = " + nested("((U + V) @ ", "h[t-1]", ")", 22),
    "doubling transposed products": "h[t] = (" + " @ ".join(["(U - V).T"] * 40) + ").T @ h[t-1]",
    "many doubling products": lines(50, lambda i: "(U + V) @ " * 11 + f"({i}*h[t-1])"),
    "a product of sums": STATE + "a[t] = " + joined("*", 20, lambda i: f"({joined('+', 40, lambda j: f'x{i}*y{j}')})"),
    "powers of powers": "h[t] = " + nested("(", "h[t-1]", ")**64", 22),
    "products of powers": "h[t] = " + "*".join(["h[t-1]**64"] * 60),
    "a huge constant power": "h[t] = h[t-1]*2**64**64",
    "a tower of constant powers": "h[t] = h[t-1]*" + nested("(", "2", ")**64", 22),
    "a tower of fractions": "h[t] = h[t-1]*" + nested("(", "1e-400", ")**-64", 22),
    "huge factors": "h[t] = h[t-1] + " + nested("1e400*(x[t] + ", "b", ")", 22),
    "coprime fractions": "h[t] = h[t-1] + " + " + ".join(f"b/{10**29 + i}" for i in range(60)),
    # constants that cannot be known
    "a tower of exponentials": "h[t] = h[t-1]/(" + nested("exp(", "100", ")", 20) + " - 1)",
    "exponentials of logarithms": "h[t] = h[t-1]/(" + nested("exp(log(", "1234567", "))", 10) + " - 1234567)",
    "a sine of a huge number": "h[t] = h[t-1]/sin(1e400)",
    "a logarithm of a sine": "h[t] = h[t-1] + log(" + nested("sin(1e9*", "2", ")", 20) + ")",
    "a hidden zero": "h[t] = h[t-1]/(sin(1)**2 + cos(1)**2 - 1)",
    # others
    "many names that are no slips": STATE
    + joined("\n", 140, lambda i: f"{LONG}{i:03}[t] = h[t-1]")
    + joined("", 9, lambda i: f"\nb{i}[t] = {joined('+', 15, lambda j: f'{LONG}{i}{j:02}xx[t]')}")
    + f"\n{LONG}XXXX: H",
    "a long circle": lines(190, lambda i: f"a{(i + 1) % 190}[t]"),
    "code": "__import__('os').system('touch ran')",
    "more code": "h[t] = h[t-1] + (lambda: open('ran', 'w'))()",
    "an attribute": "h[t] = h[t-1].__class__.__base__",
    "a format": "h[t] = {h.__class__}%s%n",
}  # fmt: skip

# Large, odd and right: these are read, within the same limits.
ACCEPTED = {
    "many equations": "\n".join(f"h{i}[t] = tanh(W @ h{i}[t-1] + b{i % 50})" for i in range(180)),
    "a chain of equations": STATE + "\n".join(f"a{i}[t] = a{i + 1}[t]" for i in range(190)) + "\na190[t] = h[t-1]",
    "a chain of products": "h[t] = log(1 + (" + "W @ " * 58 + "h[t-1])**2)",
    "continued fractions": lines(15, lambda i: nested("1/(x[t] + ", f"{i}*h[t-1]", ")", 22)),
    "continued functions": lines(22, lambda i: nested("1/tanh(b - ", f"{i}*h[t-1]", ")", 20)),
    "continued constants": lines(12, lambda i: "h[t]/" + nested("(pi + 1/", f"{i + 2}", ")", 22)),
    "kinks": lines(44, lambda i: nested("abs(", f"{i + 1}*h[t-1]", ")", 22)),
    "logarithms": lines(30, lambda i: nested("log(1 - ", f"{i + 1}*h[t-1]", ")", 22)),
    "a tower of powers": lines(24, lambda i: "1/" + nested("(", f"b*{i + 1}", " + 1)**64", 20)),
    "a tower of constant powers": lines(24, lambda i: "h[t]/" + nested("(", f"pi*{i + 1}", " + 1)**64", 20)),
    "powers and products": lines(10, lambda i: nested("(x[t]*(", f"b*{i + 1}", " + 1)**64 + 1)**64", 11)),
    "a tower of exponentials": STATE + "a[t] = h[t]*" + nested("exp(", "100", ")", 22),
    "nothing times a tower": STATE + "a[t] = h[t] + 0*" + nested("exp(", "100", ")", 22),
    "doubling within limits": lines(45, lambda i: f"1/(2 + 1/({'(U + V) @ ' * 7}({i + 1}*h[t-1])))"),
    "a sum times numbers": STATE + "a[t] = h[t] + " + nested("2*(", joined("+", 40, lambda i: f"x{i}*y"), ")", 22),
    "brackets in an exponent": "h[t] = h[t-1]**" + nested("(", "2", ")", 1_900),
    "numbers at their limits": "h[t] = h[t-1]*999999999999999999999999999999e400/999999999999999999999999999999e400",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_text_ends_in_one_error(ask, name):
    said = ask("parse", REFUSED[name])
    assert said.startswith("CellError: ")
    assert said.isprintable()
    assert len(said) < 700


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_large_text_that_is_right_is_read_within_the_same_limits(ask, name):
    assert ask("parse", ACCEPTED[name]) == "accepted"


def test_code_in_a_text_is_not_run(ask, tmp_path):
    target = tmp_path / "ran"
    for text in (f"h[t] = open({str(target)!r}, 'w')", f"__import__('pathlib').Path({str(target)!r}).touch()"):
        assert ask("parse", text).startswith("CellError: ")
    assert not target.exists()


def running(source):
    """Calls in ``source`` that run text as code, or hand it to something that does."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    named = {"eval", "exec", "compile", "__import__", "parse_expr", "lambdify", "system", "popen"}
    for call in calls:
        name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
        whole = ast.unparse(call)
        if name == "sympify" and "strict=True" not in whole:
            yield whole
        if name in named and not whole.startswith("re.compile("):
            yield whole


def test_nothing_that_reads_a_cell_runs_text():
    for path in sorted(Path(derive.__file__).parent.glob("*.py")):
        assert list(running(path.read_text(encoding="utf-8"))) == [], path.name
    for planted in ("eval(text)", "sympy.sympify(text)", "os.system(text)", "sympy.parse_expr(text)"):
        assert list(running(planted)) == [planted]


# ---------------------------------------------------------------------------------------------------- the files


def fifo(path):
    os.mkfifo(path)


def sparse(path):
    with open(path, "wb") as file:
        file.truncate(1 << 30)


def loop(path):
    path.symlink_to(path)


def listening(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (fifo, "not a regular file"),
        (listening, "not a regular file"),
        (Path.mkdir, "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: path.symlink_to("/dev/tty"), "not a regular file"),
        (sparse, "too long"),
        (lambda path: path.write_bytes(b"\xf0\x9f\x98\x80" * 200_000), "too long"),
        (lambda path: path.write_bytes(b"h[t] = h[t-1]" + b" " * 10_000_000), "too long"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "not UTF-8"),
        (loop, "OSError: "),
        (lambda path: path.symlink_to("nowhere"), "FileNotFoundError: "),
    ],
)
def test_a_file_that_is_no_text_is_not_waited_for_and_not_read_whole(ask, tmp_path, monkeypatch, make, said):
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    make(Path("a.cell"))
    answer = ask("load", str(tmp_path / "a.cell"))
    assert said in answer
    assert answer.startswith(("CellError: ", "OSError: ", "FileNotFoundError: "))


@pytest.mark.parametrize(
    "name", ["", "a\0b", "a\0b.cell", "\ud800", "\ud800.cell", "x" * 10_000_000, "x" * 300 + ".cell"]
)
def test_a_name_that_no_file_can_have_is_an_error_that_says_so(ask, name):
    assert ask("load", name).startswith(("CellError: ", "OSError: ", "FileNotFoundError: "))


# --------------------------------------------------------------------------------------------------- random texts

TOKENS = """h[t] h[t-1] x[t] c[t-1] y[t] W U V b alpha tanh( sigmoid( exp( log( sqrt( abs( relu( ( ) [ ] + - * / @ ** .T
= : , 0 1 2 0.5 1e5 1e400 64 -1 pi t T H D scalar # . ; ' " \\ é σ − ² in lambda W.T W@h[t-1] W@x[t] h0"""
WORDS = [*TOKENS.split(), *"\n\n\n\t\r\0\ufeff\u2028\ud800"]


def soup(rng):
    return "".join(rng.choice(WORDS) + rng.choice(["", " "]) for _ in range(rng.randint(1, 60)))


def mutant(rng):
    text = derive.load(rng.choice(derive.cells())).text
    for _ in range(rng.randint(1, 4)):
        i, j = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        j = min(j, i + 12)
        text = rng.choice(
            [
                text[:i] + rng.choice(WORDS) + text[j:],
                text[:i] + text[j:],
                text[:j] + text[i:],
                text[:i] + text[i:j] * 3,
            ]
        )
    return text


def check_reading(text, parse=derive.parse):
    """Whether a text is a cell or is refused in one printable line."""
    try:
        parse(text)
    except derive.CellError as error:
        return str(error).isprintable() and bool(error.message)
    except Exception:
        return False
    return True


@pytest.mark.parametrize("kind", [soup, mutant])
def test_random_texts_are_cells_or_one_error(kind):
    rng = random.Random(kind.__name__)
    for _ in range(500):
        text = kind(rng)
        assert check_reading(text), repr(text)


def test_a_reader_that_fails_in_another_way_is_caught():
    def careless(text):
        return {"h": 1}[text]

    def talkative(text):
        raise derive.CellError("one\nline\x1b")

    assert not check_reading("x", careless)
    assert check_reading("x", talkative)  # the message is made printable
    assert "\n" not in str(derive.CellError("one\nline"))


if __name__ == "__main__":
    serve()
