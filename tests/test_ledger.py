"""The textbook's ledger: right statements hold, planted ones are refuted, hostile books are answered in one line."""

from __future__ import annotations

import pytest
from odd_cells import ODD
from planted_files import planted_files
from turns import ALL

import derive
from derive.claims import KINDS, ClaimError, books, load_book, read_book
from derive.claims.read import CHARACTERS
from reports.checks.evidence import LEVELS, Evidence
from reports.checks.registry import CHECKS, find_check
from reports.checks.truncation import _STATEMENTS as STATEMENTS
from reports.document import Code, Entry, Link, Mark, Math, Quantity, inlines, walk_blocks
from reports.html import to_html
from reports.ledger import CONDITIONS, DEPENDS, HOLDS, OPEN, REFUTED, Judged, Ledger, build_ledger, run_ledger
from reports.ledger_coverage import uncovered, uncovered_text
from reports.markdown import to_markdown
from reports.parts.ledger import ledger_document

TANH = derive.load("tanh_rnn")
ELSEWHERE = ("measured", "listing")  # mechanisms that run and measure; they have tests of their own

CLAIM = """
[[claim]]
id = "{id}"
line = {line}
heading = "Backward"
kind = "formula"
printed = '''{printed}'''
says = "What it says."
"""


def reading(**arguments):
    """A [[claim.reading]] table."""
    lines = []
    for key, value in arguments.items():
        shown = f"'''\n{value}'''" if isinstance(value, str) else str(value).lower() if value is True else list(value)
        lines.append(f"{key} = {shown}")
    return "[[claim.reading]]\n" + "\n".join(lines) + "\n"


def book(*claims, title="A book"):
    """A book of claims, each a tuple of readings as dicts."""
    texts = [
        CLAIM.format(id=f"c{i}", line=i + 1, printed="$x$") + "".join(reading(**r) for r in readings)
        for i, readings in enumerate(claims)
    ]
    return read_book(f'title = "{title}"\n' + "\n".join(texts))


def verdicts(*claims):
    return [judged.verdict for judged in run_ledger([book(*claims)]).judged]


def found(check, **arguments):
    return find_check(check)(arguments)


SKIPS = {"cell": "h[t] = h[t-1] + tanh(W @ h[t-1] + U @ x[t])", "start": "h[1]", "end": "h[T]"}


def graph(**arguments):
    return found("graph", **{"cell": "tanh_rnn", **arguments}).holds


def cost(**arguments):
    return found("cost", cell="tanh_rnn", **arguments).holds


# --------------------------------------------------------------------------------------------------- the shipped books


def every_reading(claim):
    return (*claim.readings, *(claim.corrected.readings if claim.corrected else ()))


@pytest.fixture(scope="module")
def chapter():
    """The chapter without what is run or measured, which is slower and tested where it is written."""
    shipped = load_book("chapter")
    own = [c for c in shipped.claims if not any(r.check in ELSEWHERE for r in every_reading(c))]
    return run_ledger([type(shipped)("chapter", shipped.title, tuple(own), shipped.about, shipped.headings)])


def test_every_statement_is_decided_and_every_correction_holds(chapter):
    assert [j.claim.id for j in chapter.judged if j.verdict == OPEN or j.corrected is not True] == []
    assert {HOLDS, CONDITIONS, DEPENDS, REFUTED} == {j.verdict for j in chapter.judged}


def test_what_is_not_right_has_a_correction_and_shows_why(chapter):
    for judged in chapter.judged:
        if judged.verdict != HOLDS:
            assert judged.claim.corrected, judged.claim.id
            assert all(e.blocks or numbers(e) for _, e in judged.found if not e.holds), judged.claim.id


def numbers(evidence):
    """What a sentence shows beyond words."""
    return [part for part in evidence.said if isinstance(part, Math | Code | Quantity)]


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        ("state", HOLDS),
        ("step-jacobian", HOLDS),
        ("cross-entropy", DEPENDS),  # the logarithm of an output that is no probability
        ("output-weights", DEPENDS),  # columns here,
        ("hidden-state", DEPENDS),  # rows there
        ("jacobian-product", DEPENDS),  # in which order
        ("recurrent-weights", DEPENDS),  # the last loss, not the whole
        ("forward-time", CONDITIONS),  # forgets D, O and B
        ("forward-space", DEPENDS),  # of what
        ("two-sources", CONDITIONS),  # not at the last step
        ("output-weights-local", CONDITIONS),  # not where an output is read by the next state
        ("manual-all-parameters", DEPENDS),  # the bias
        ("each-step-multiplies", DEPENDS),  # T - 1 times
        ("requires", REFUTED),  # forward mode
    ],
)
def test_known_suspects(chapter, claim, verdict):
    (judged,) = [j for j in chapter.judged if j.claim.id == claim]
    assert judged.verdict == verdict


def test_every_check_and_kind_that_a_shipped_book_names_is_there():
    for name in books():
        for claim in load_book(name).claims:
            assert {r.check for r in every_reading(claim)} <= set(CHECKS)
            assert claim.kind in KINDS


# ---------------------------------------------------------------------------------------------- what must be refuted


def one_of_each():
    """One planted file for every mistake, all of them where everything is tested."""
    seen = {}
    for planted in planted_files(TANH):
        seen.setdefault(planted.mistake if not ALL else (planted.mistake, planted.text), planted)
    return list(seen.values())


def test_a_true_derivation_altered_in_every_way_of_the_catalogue_is_refuted():
    planted = one_of_each()
    assert len({p.mistake for p in planted}) > 25
    evidence = [found("backward", cell="tanh_rnn", lines=p.text) for p in planted]
    assert [p.mistake for p, e in zip(planted, evidence, strict=True) if e.holds is not False] == []
    for e in evidence:
        assert any("smallest counterexample" in str(b) for b in e.blocks)


def test_a_polynomial_in_the_number_of_steps_is_no_identity():
    zero = "*".join(f"(T - {n})" for n in range(1, 10))  # at all T that brute force reaches
    carry = "(W_hy.T @ dl_dy[t] + W_hh.T @ (dh[t+1]*(1 - h[t+1]**2)))"
    for lines in (f"dW_hy = sum(outer(dy[t], h[t]))*(1 + {zero})", f"dh[t] = {carry}*(1 + {zero})"):
        assert found("backward", cell="tanh_rnn", lines=lines).holds is not True
        assert found("backward", cell="tanh_rnn", lines=lines.replace(zero, "T - T")).holds is True


@pytest.mark.parametrize(
    "equations",
    [
        "h[t] = tanh(W_hh @ h[t-1] + W_xh @ x[t])",
        "h[t] = tanh(W_hh @ h[t-1] - W_xh @ x[t] + b)",
        "h[t] = tanh(W_hh.T @ h[t-1] + W_xh @ x[t] + b)",
        "h[t] = sigmoid(W_hh @ h[t-1] + W_xh @ x[t] + b)",
        "h[t] = W_hh @ h[t-1] + W_xh @ x[t] + b",
        "y[t] = W_hy @ h[t-1]",
        "y[t] = W_hy @ tanh(h[t])",
    ],
)
def test_an_altered_forward_equation_is_refuted(equations):
    assert found("forward", cell="tanh_rnn", equations=equations).holds is False


def test_forward_equations_hold_however_they_are_written():
    assert found("forward", cell="tanh_rnn", equations="h[t] = tanh(b + W_xh @ x[t] + W_hh @ h[t-1])").holds


@pytest.mark.parametrize(
    ("formula", "gradient", "holds"),
    [
        ("-target[t]*log(p[t])", "p[t] - target[t]", True),
        ("-target[t]*log(p[t])", "y[t] - target[t]", False),
        ("-target[t]*log(p[t])", "target[t] - p[t]", False),
        ("-target[t]*log(p[t])", "2*(p[t] - target[t])", False),
        ("-target[t]*log(p[t])", "-target[t]/p[t]", False),
        ("-target[t]*log(p[t])", "(p[t] - target[t])*p[t]*(1 - p[t])", False),
        ("target[t]*log(p[t])", "p[t] - target[t]", False),
        ("(y[t] - target[t])**2/2", "y[t] - target[t]", True),
        ("(y[t] - target[t])**2", "y[t] - target[t]", False),
        ("(p[t] - target[t])**2/2", "p[t] - target[t]", False),
        ("target[t]**2", "0", True),
        ("(y[t] - target[t])**2", "0", False),
    ],
)
def test_the_gradient_of_a_loss(formula, gradient, holds):
    evidence = found("loss", formula=formula, that="gradient", gradient=gradient)
    assert evidence.holds is holds
    assert bool(evidence.blocks) is not holds  # a counterexample exactly where it fails


def test_the_closed_form_of_cross_entropy_needs_targets_that_sum_to_one():
    given = {"formula": "-target[t]*log(p[t])", "that": "gradient", "gradient": "p[t] - target[t]"}
    assert found("loss", **given).holds
    assert found("loss", **given, masses="any").holds is False


@pytest.mark.parametrize(
    ("formula", "more", "holds"),
    [
        ("-target[t]*log(y[t])", {}, False),
        ("-target[t]*log(y[t])", {"y": "softmax"}, True),
        ("-target[t]*log(p[t])", {}, True),
        ("target[t]/y[t]", {}, False),
        ("log(1 + exp(y[t]))", {}, True),
        ("log(p[t] - 1)", {}, False),
    ],
)
def test_where_a_loss_is_defined(formula, more, holds):
    assert found("loss", formula=formula, that="defined", **more).holds is holds


def test_a_bound_holds_for_what_grows_and_fails_for_what_it_forgets():
    both = ("T", "H")
    assert cost(of=("forward",), bound="T*H**2", grows=both)
    assert cost(of=("forward",), bound="T*H**2", grows=both, sense="exactly")
    assert cost(of=("forward",), bound="T**2*H**2", grows=both)  # an upper bound may be loose
    assert cost(of=("forward",), bound="T**2*H**2", grows=both, sense="exactly") is False
    assert cost(of=("forward",), bound="T*H", grows=both) is False
    assert cost(of=("forward",), bound="H**2", grows=both) is False
    for forgotten in "DOB":
        assert cost(of=("forward",), bound="T*H**2", grows=(*both, forgotten)) is False
    whole = "T*B*H**2 + T*B*H*D + T*B*H*O"
    assert cost(of=("forward", "backward"), bound=whole, grows=("T", "B", "H", "D", "O"), sense="exactly")
    assert cost(of=("forward",), bound="T*B*H**2 + T*B*H*D", grows=("T", "B", "H", "D", "O")) is False


def test_a_count_that_is_said_exactly_is_checked_with_its_coefficients():
    assert cost(of=("backward",), bound="2*T*B*H**2 + T*B*H*D + 2*T*B*H*O", sense="equal")
    assert cost(of=("backward",), bound="2*T*B*H**2 + T*B*H*D + T*B*H*O + T*B*H*O", sense="equal")
    for bound in ("T*B*H**2 + T*B*H*D + 2*T*B*H*O", "2*T*B*H**2 + T*B*H*D", "2*T*B*H**2 + T*B*H*O + 2*T*B*H*D"):
        assert cost(of=("backward",), bound=bound, sense="equal") is False
    assert cost(of=("backward",), bound="T*B*H**2 + T*B*H*D + T*B*H*O", grows=("H",), sense="exactly")


def test_chunks_save_memory_and_no_work():
    given = {"grows": ("T", "k", "H"), "chunk": "k"}
    assert cost(of=("stored",), bound="k*H", **given)
    assert cost(of=("forward", "backward"), bound="k*H**2", **given) is False
    assert cost(of=("forward", "backward"), bound="T*H**2", **given)


@pytest.mark.parametrize(
    ("more", "holds"),
    [
        ({"of": ("forward",), "bound": "1", "grows": ("T",)}, False),  # no products, and T H multiplications
        ({"of": ("backward",), "bound": "H", "grows": ("T", "H")}, False),
        ({"of": ("forward",), "bound": "T*H", "grows": ("T", "H"), "sense": "exactly"}, True),
        ({"of": ("input values",), "bound": "1", "grows": ("T",)}, True),  # there are none
        ({"of": ("input values",), "bound": "1", "grows": ("T",), "sense": "exactly"}, False),
    ],
)
def test_the_cost_of_a_cell_without_products(more, holds):
    assert found("cost", cell="a: scalar\nh[t] = tanh(a*h[t-1])", **more).holds is holds


def test_an_assumption_between_letters_is_used():
    given = {"of": ("stored", "parameters"), "bound": "T*H", "grows": ("T", "H")}
    assert cost(**given) is False  # H**2 weights, T held
    assert cost(**given, assume=("H <= T",)) is True
    assert cost(**given, assume=("T <= H",)) is False


def test_a_bound_is_refuted_by_the_numbers_that_it_was_counted_from():
    evidence = found("cost", cell="tanh_rnn", of=("forward",), bound="T*H**2", grows=("T", "H", "D"))
    table = evidence.blocks[-1]
    assert [row[-1] for row in table.rows] == [("3",), ("4",), ("6",), ("18",), ("66",)]  # (1 + D + 1) / 1


@pytest.mark.parametrize(
    ("given", "holds"),
    [
        ({"that": "feedforward"}, True),
        ({"that": "count", "start": "x[1]", "end": "L[T]", "counts": ("h",), "equals": "T"}, True),
        ({"that": "count", "start": "x[1]", "end": "L[T]", "counts": ("h",), "equals": "T-1"}, False),
        ({"that": "count", "start": "x[1]", "end": "L[T]", "counts": ("h", "y"), "equals": "T"}, False),
        ({"that": "count", "start": "x[1]", "end": "L[T]", "counts": ("W_hh",), "equals": "T"}, False),
        ({"that": "count", "start": "x[1]", "end": "L[T]", "counts": ("W_hh",), "equals": "T-1"}, True),
        ({"that": "count", "start": "h[t]", "end": "h[T]", "counts": ("h",), "equals": "T-t+1"}, False),
        ({"that": "count", "start": "h[t]", "end": "x[1]", "counts": ("h",), "equals": "1"}, False),
        ({"that": "terms", "of": "W_hy", "equals": "T"}, True),
        ({"that": "depends", "of": "h[t]", "on": ("h[1]",), "when": "t > 1"}, True),
        ({"that": "terms", "of": "W_hy", "equals": "T-1"}, False),
        ({"that": "terms", "of": "W_hy", "equals": "T+1"}, False),
        ({"that": "count", **SKIPS, "counts": ("tanh",), "equals": "T-1"}, False),  # of some paths only
        ({"that": "count", **SKIPS, "counts": ("tanh",), "equals": "0"}, False),
        ({"that": "count", **SKIPS, "counts": ("h",), "equals": "T-1"}, True),
        ({"that": "terms", "of": "W_hy", "equals": "T", "loss": "last"}, False),
        ({"that": "terms", "of": "W_hh", "equals": "T", "loss": "last"}, True),
        ({"that": "independent", "of": "h[t]", "on": ("W_hy",)}, True),
        ({"that": "independent", "of": "h[t]", "on": ("W_hh",)}, False),
        ({"that": "depends", "of": "h[t]", "on": ("h[j]",)}, True),
        ({"that": "depends", "of": "h[t]", "on": ("L[t]",)}, False),
        ({"that": "depends", "of": "h[t]", "on": ("L[j]",), "after": True}, True),
        ({"that": "readers", "of": "h[t]", "names": ("y[t]", "h[t+1]"), "when": "t < T"}, True),
        ({"that": "readers", "of": "h[t]", "names": ("y[t]", "h[t+1]")}, False),
        ({"that": "readers", "of": "h[t]", "names": ("h[t+1]",), "when": "t < T"}, False),
        ({"that": "reads", "of": "h[t]", "names": ("h[t-1]", "x[t]"), "only": True}, False),
        ({"that": "edges", "steps": 1, "names": ("h[0] -> h[1]", "x[1] -> h[1]", "h[1] -> y[1]")}, False),
    ],
    ids=lambda given: "-".join(map(str, given.values())) if isinstance(given, dict) else str(given),
)
def test_the_structure_of_the_unrolled_network(given, holds):
    assert graph(**given) is holds


def test_a_dependence_through_many_states_is_seen():
    chain = [f"s{i}[t] = s{i - 1}[t-1]" for i in range(2, 9)]
    cell = "\n".join(["x: H", "a: scalar", "s1[t] = a*x[t]", *chain, "y[t] = a*s8[t]"])
    assert found("graph", cell=cell, that="independent", of="y[t]", on=("x[j]",)).holds is False
    assert found("graph", cell=cell, that="independent", of="y[t]", on=("x[t-6]",)).holds
    assert found("graph", cell=cell, that="depends", of="y[t]", on=("x[t-7]",)).holds


def test_a_product_of_rows_and_columns():
    jacobian = r"\partial h_{t+1} / \partial h_t: H x H"
    assert found("shape", factors=("g: 1 x H", jacobian), gives="1 x H").holds
    assert found("shape", factors=("g: H x 1", jacobian), gives="H x 1").holds is False
    assert found("shape", factors=("g: 1 x H", jacobian), gives="H x 1").holds is False
    assert found("shape", factors=("g: H x 1", jacobian), gives="H x H").holds is False
    assert found("shape", factors=("g: 1 x H", "J: H x D"), gives="1 x O").holds is False


def test_what_truncation_keeps():
    assert found("truncation", form="chunks", that="at most k").holds
    assert found("truncation", form="chunks", that="k each").holds is False
    assert found("truncation", form="window", that="k each").holds
    assert found("truncation", form="chunks", that="longer than k lost").holds
    assert found("truncation", form="chunks", that="neighbours kept").holds is False
    assert found("truncation", form="window", that="neighbours kept").holds


@pytest.mark.parametrize(
    ("that", "t", "j", "k", "kept"),
    [
        ("at most k", 3, 1, 2, True),  # three steps, kept with k = 2
        ("k each", 2, 1, 2, False),  # two steps, lost with k = 2
        ("longer than k lost", 3, 1, 2, True),
        ("neighbours kept", 3, 2, 2, False),
    ],
)
def test_a_pair_at_the_edge_breaks_a_statement_about_truncation(that, t, j, k, kept):
    wrong = STATEMENTS[that].wrong
    assert wrong(t, j, k, kept)
    assert not wrong(t, j, k, not kept)


def test_what_is_proven_refutes_its_opposite():
    given = {"cell": "tanh_rnn", "obligations": ("forward-recursion T=2",), "so": "It can be had forward."}
    assert found("proof", **given).holds
    assert found("proof", **given, against=True).holds is False


def test_lines_that_leave_a_parameter_out_are_not_complete():
    lines = "dW_hy = sum(outer(dy[t], h[t]))"
    assert found("backward", cell="tanh_rnn", lines=lines).holds
    assert found("backward", cell="tanh_rnn", lines=lines, complete=True).holds is False


def test_a_name_that_the_cell_does_not_have_is_no_definition():
    assert found("definition", why="It names things.", cell="lstm", names=("c", "U_f")).holds
    assert found("definition", why="It names things.", cell="tanh_rnn", names=("c",)).holds is False


@pytest.mark.parametrize("name", sorted(ODD))
def test_checks_run_for_any_cell(name):
    text = ODD[name].text
    assert found("graph", cell=text, that="feedforward").holds
    assert found("cost", cell=text, of=("forward", "stored", "one step"), bound="1", grows=("B",)).holds is not None


# ------------------------------------------------------------------------------------------------- the verdict's rules

YES = {"check": "definition", "why": "It introduces a letter."}
NO = {"check": "definition", "why": "It names things.", "cell": "tanh_rnn", "names": ["nothing"]}


RIGHT = {"check": "shape", "factors": ["g: 1 x H", "J: H x D"], "gives": "1 x D"}
WRONG = {**RIGHT, "gives": "D x 1"}


def named(given, name):
    return {**given, "name": name}


def test_all_hold_some_do_or_none():
    assert verdicts((YES,), (named(RIGHT, "a"), named(NO, "b")), (NO,)) == [HOLDS, DEPENDS, REFUTED]
    assert verdicts((named(WRONG, "a"), named(NO, "b"))) == [REFUTED]


RUN = {"check": "measured", "quantity": "tape", "cell": "tanh_rnn", "relation": "states < 1"}


def test_what_fails_by_its_numbers_or_in_some_cases_holds_under_conditions():
    assert verdicts((named(RIGHT, "a"), named(RUN, "b"))) == [CONDITIONS]
    assert verdicts((named(RIGHT, "a"), named(NO, "b"), named(RUN, "c"))) == [CONDITIONS]
    assert verdicts((named(NO, "a"), named(RUN, "b"))) == [REFUTED]
    text = f'title = "A"\n{CLAIM.format(id="a", line=1, printed="x")}cases = true\n' + reading(**named(RIGHT, "a"))
    assert [j.verdict for j in run_ledger([read_book(text + reading(**named(NO, "b")))]).judged] == [CONDITIONS]
    assert [j.verdict for j in run_ledger([read_book(text)]).judged] == [HOLDS]
    with pytest.raises(ClaimError, match="parts are no cases"):
        read_book(text.replace("cases", "parts = true\ncases"))


def test_the_page_counts_what_holds_under_conditions_by_itself():
    page = ledger_document(
        run_ledger([book((YES,), (named(RIGHT, "a"), named(RUN, "b")), (named(RIGHT, "a"), named(NO, "b")))])
    )
    text = to_markdown(page, "a").text
    assert "Of 3 statements 1 holds as printed, 1 holds under conditions and 1 depends on a convention." in text
    assert "| ○ holds under conditions | 1 |" in text
    assert "| ○ depends on a convention | 1 |" in text


def test_a_drawing_keeps_its_spaces_in_markdown():
    page = to_markdown(drawing(), "a").text
    assert "\n```\nLoss = L₁ + L₂ + L₃ + L₄\n        ↑    ↑    ↑    ↑\n" in page


def drawing():
    """The page of the drawing alone."""
    shipped = load_book("chapter")
    (own,) = (c for c in shipped.claims if c.id == "drawing")
    return ledger_document(run_ledger([type(shipped)("chapter", shipped.title, (own,))]))


def test_a_part_that_fails_refutes_the_whole():
    text = f'title = "A"\n{CLAIM.format(id="a", line=1, printed="x")}parts = true\n'
    text += reading(**named(YES, "a")) + reading(**named(NO, "b"))
    assert [j.verdict for j in run_ledger([read_book(text)]).judged] == [REFUTED]


def judged(*holds, right=()):
    """A claim of which this was found."""

    def evidence(value):
        level = "not run" if value is None else "proven, every size" if value else "measured"
        return (claim.readings[0], Evidence(value, level, ("Said.",)))

    (claim,) = book((YES,)).claims
    return Judged(claim, tuple(map(evidence, holds)), tuple(map(evidence, right)))


def with_corrected(**arguments):
    return with_reading(**RIGHT) + '[claim.corrected]\nsays = "x"\n' + reading(**arguments).partition("\n")[2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (lambda: with_corrected(**YES), "corrected.check: what is right is not so by definition"),
        (lambda: with_reading(**named(WRONG, "a")) + reading(**named(YES, "b")), "decides nothing between readings"),
        (lambda: with_reading(**named(RIGHT, "a")) + reading(**named(RIGHT, "b")), "two readings ask the same"),
    ],
)
def test_an_argument_that_shows_nothing_is_refused(text, words):
    assert words in error(text())


def test_a_part_may_be_a_definition_and_a_correction_may_fail():
    parts = with_reading(**named(RIGHT, "a")).replace("[[claim.reading]]", "parts = true\n[[claim.reading]]", 1)
    (judged,) = run_ledger([read_book(parts + reading(**named(YES, "b")))]).judged
    assert judged.verdict == HOLDS
    (judged,) = run_ledger([read_book(with_corrected(**WRONG))]).judged
    assert judged.corrected is False


def test_what_is_not_decided_leaves_the_claim_open():
    assert judged(True, None).verdict == judged(False, None).verdict == OPEN
    assert judged(True, True).verdict == HOLDS


def test_a_claim_holds_at_its_weakest_level():
    assert judged(True).level == "proven, every size"
    assert [LEVELS.index(x) < LEVELS.index("measured") for x in ("proven, every size", "proven, at a size")] == [
        True
    ] * 2


@pytest.mark.parametrize(
    ("given", "mark"),
    [
        (judged(True), "holds"),
        (judged(False), "holds"),  # what is wrong in a book is a finding
        (judged(False, right=(True,)), "holds"),
        (judged(False, right=(False,)), "fails"),
        (judged(True, right=(True, False)), "fails"),
        (judged(None), "open"),
        (judged(False, right=(None,)), "open"),
    ],
)
def test_only_a_correction_that_fails_fails_the_ledger(given, mark):
    ledger = Ledger(((book((YES,)), (given,)),))
    assert ledger_document(ledger).verdict.verdict == mark


def test_evidence_is_consistent():
    with pytest.raises(ValueError, match="neither holds nor fails"):
        Evidence(True, "not run", ("Said.",))
    with pytest.raises(ValueError, match="neither holds nor fails"):
        Evidence(None, "measured", ("Said.",))
    with pytest.raises(ValueError, match="a level is one of"):
        Evidence(True, "believed", ("Said.",))


# ------------------------------------------------------------------------------------------------ a book of one's own

OWN = r"""
title = "My lecture notes"

[[claim]]
id = "carry"
line = 12
heading = "Backward"
kind = "formula"
printed = '$$\delta_t = W^T \delta_{t+1} \odot (1 - h_t^2)$$'
says = "The error of step $t$ is handed back through the recurrent weights."
[[claim.reading]]
check = "backward"
cell = "tanh_rnn"
lines = '''
dh[t] = W_hy.T @ dy[t] + W_hh @ da[t+1]
da[t] = dh[t]*(1 - h[t]**2)
'''
[claim.corrected]
says = '$$\frac{\partial L}{\partial h_t} = W_{hy}^T \frac{\partial L}{\partial y_t} + W_{hh}^T \delta_{t+1}$$'
check = "backward"
cell = "tanh_rnn"
lines = '''
dh[t] = W_hy.T @ dy[t] + W_hh.T @ da[t+1]
da[t] = dh[t]*(1 - h[t]**2)
'''

[[claim]]
id = "memory"
line = 20
heading = "Cost"
kind = "words"
printed = "Memory grows linearly with $T$."
says = "What is stored is of the order of $T$."
[[claim.reading]]
check = "cost"
cell = "lstm"
of = ["stored"]
bound = "T"
grows = ["T"]
sense = "exactly"

[[claim]]
id = "leak"
line = 3
heading = "The cell"
kind = "formula"
printed = '$$h_t = a h_{t-1} + W x_t$$'
says = "A leaky state."
[[claim.reading]]
check = "forward"
cell = '''
a: scalar
h[t] = a*h[t-1] + W @ x[t]
'''
equations = "h[t] = W @ x[t] + a*h[t-1]"
"""


def test_a_book_of_ones_own(tmp_path):
    path = tmp_path / "notes of mine.toml"
    path.write_text(OWN, encoding="utf-8")
    seen = []
    document = build_ledger(str(path), report=seen.append)
    assert [s.rpartition(" ")[2] for s in seen] == ["leak", "carry", "memory"]
    assert document.verdict.verdict == "holds"
    entries = {b.anchor: b for b in document.blocks() if isinstance(b, Entry)}
    marks = [entry.mark.verdict for entry in entries.values()]
    assert marks == ["holds", "fails", "holds"]
    wrong = entries["notes-of-mine-carry"]
    said = [part for block in walk_blocks(wrong.blocks) for part in inlines(block)]
    assert Code("dW_hh") not in said
    assert any(isinstance(part, Mark) and part.verdict == "holds" for part in said)  # the corrected statement
    assert any("counterexample" in str(block) for block in wrong.blocks)
    titles = ["What holds and what does not", "What is not right as printed", "My lecture notes"]
    assert [s.title for s in document.sections[:3]] == titles
    for text in (to_html(document), to_markdown(document, "notes").text):
        assert "My lecture notes" in text
        assert "carry-not-transposed" not in text or "W_hh.T" in text


def test_what_is_wrong_comes_before_the_statements_and_links_to_them():
    document = ledger_document(run_ledger([read_book(OWN, "notes")]))
    blocks = [block for section in document.sections[1].walk() for block in section.blocks]
    links = {p.anchor for b in blocks for p in inlines(b) if isinstance(p, Link)}
    assert "notes-carry" in links
    assert "notes-memory" not in links


def test_headings_that_look_alike_and_books_with_any_name_have_anchors():
    claims = [
        CLAIM.format(id=i, line=1, printed="x").replace("Backward", h)
        for i, h in (("all", "A?"), ("b", "A!"), ("c", "…"))
    ]
    text = 'title = "B"\n' + "".join(claim + reading(**YES) for claim in claims)
    for name in ("book", "answer", "method", "all", "findings", "refuted"):
        assert ledger_document(run_ledger([read_book(text, name)])).verdict.verdict == "holds"


# ------------------------------------------------------------------------------------------------------ hostile books


def error(text):
    """The one line that a book is answered with, when read or when run."""
    with pytest.raises(ClaimError) as caught:
        run_ledger([read_book(text, source="bad.toml")])
    said = str(caught.value)
    assert said.startswith("bad.toml: ")
    assert "\n" not in said
    assert len(said) < 700
    assert said.isprintable()
    return said


def with_reading(**arguments):
    return 'title = "A"\n' + CLAIM.format(id="a", line=1, printed="x") + reading(**arguments)


DEPENDS_ON = {"check": "graph", "cell": "lstm", "that": "depends", "of": "h[t]"}
TERMS = {"check": "graph", "cell": "lstm", "that": "terms"}
COUNT = {"check": "graph", "cell": "lstm", "that": "count", "start": "h[t]", "end": "h[T]", "equals": "0"}
CARRY = {"check": "backward", "cell": "tanh_rnn", "lines": "dh[t] = W_hh.T @ da[t+1]"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({**CARRY, "check": "backwards"}, "claim a: check: unknown check (found 'backwards'; expected"),
        ({**CARRY, "cell": "tanh"}, "backward: cell: unknown cell"),
        ({**CARRY, "cell": "/dev/zero"}, "unknown cell"),
        ({**CARRY, "cell": "../../etc/passwd"}, "unknown cell"),
        ({**CARRY, "lines": "import os"}, "backward: lines"),
        ({**CARRY, "lines": "dh[t] = __import__('os').system('true')"}, "backward: lines"),
        ({**CARRY, "lines": "(" * 5000}, "backward: lines"),
        ({**CARRY, "lines": "dh[t] = " + "-" * 15_000 + "h[t]"}, "backward: lines"),
        ({**CARRY, "lines": "\n".join(f"a{i}[t] = a{i + 1}[t]" for i in range(400))}, "backward: lines"),
        ({**CARRY, "lines": "dh[t] = h[t]**999999999"}, "backward: lines"),
        ({**CARRY, "lines": "c[t] = W_hh @ dh[t]\ndW_hy = sum(outer(dy[t], h[t]))"}, "nothing reads this name"),
        ({**CARRY, "lines": "jacobian(h[t+1], h[t]) = jacobian(h[t+1], h[t])"}, "equations go in a circle"),
        ({**CARRY, "lines": "jacobian(h[T], h[t]) = 2*jacobian(h[T], h[t])/2"}, "equations go in a circle"),
        ({**CARRY, "lines": "dW_hy = outer(dy[T], h[T])"}, "loss: the lines hold for a loss of the last step alone"),
        ({**CARRY, "lines": "a[t] = 2*h[t]"}, "only define names, and claim nothing"),
        ({**CARRY, "linse": "x"}, "unknown argument"),
        ({"check": "backward", "cell": "tanh_rnn"}, "lines: this argument is missing"),
        ({**CARRY, "lines": ["a"]}, "lines: of another type"),
        ({**CARRY, "lines": ""}, "backward: lines"),
        ({**CARRY, "lines": "dW_hy = sum(outer(dy[t], h[t]))", "loss": "last"}, "the lines speak of another loss"),
        ({"check": "cost", "cell": "lstm", "of": ["forward"], "bound": "T^H", "grows": ["T"]}, "this is not a bound"),
        ({"check": "cost", "cell": "lstm", "of": ["forward"], "bound": "T*" * 9000, "grows": ["T"]}, "not a bound"),
        ({"check": "cost", "cell": "lstm", "of": ["speed"], "bound": "T", "grows": ["T"]}, "of: unknown"),
        ({"check": "cost", "cell": "lstm", "of": ["forward"], "bound": "T", "grows": ["Z"]}, "grows: unknown"),
        ({"check": "cost", "cell": "lstm", "of": ["forward"], "bound": "T", "grows": []}, "nothing to compare"),
        ({"check": "graph", "cell": "lstm", "that": "count"}, "start: this argument is missing"),
        ({"check": "graph", "cell": "lstm", "that": "reads", "of": "h[t", "names": []}, "of: unknown"),
        ({"check": "graph", "cell": "lstm", "that": "reads", "of": "h[9**9]", "names": []}, "not a number of steps"),
        ({"check": "graph", "cell": "lstm", "that": "edges", "steps": 10**9, "names": []}, "of another type"),
        ({**DEPENDS_ON, "on": ["h[t+9]"]}, "nothing to look at"),
        ({**DEPENDS_ON, "on": ["W_f", "h[t+9]"]}, "nothing to look at (found 'h[t+9]'"),
        ({**DEPENDS_ON, "of": "h[t+9]", "on": ["W_f"]}, "nothing to look at"),
        ({**DEPENDS_ON, "on": []}, "nothing to look at"),
        ({**DEPENDS_ON, "on": ["h[t]"]}, "not asked about itself"),
        ({**DEPENDS_ON, "of": "h[j]", "on": ["h[t]"]}, "j is every step"),
        ({**TERMS, "of": "h[j]", "equals": "2"}, "j is every step"),
        ({**TERMS, "of": "h[t]", "equals": "T-j"}, "j is every step"),
        ({**COUNT, "counts": []}, "nothing to count"),
        ({**COUNT, "counts": ["h"], "end": "h[t]"}, "a path leads somewhere"),
        ({"check": "cost", "cell": "lstm", "of": ["forward"], "bound": "T", "grows": ["T", "T"]}, "named twice"),
        ({"check": "cost", "cell": "lstm", "of": ["forward"] * 2, "bound": "T", "grows": ["T"]}, "named twice"),
        ({"check": "shape", "factors": ["W: D x H"], "gives": "D x H"}, "2 to 8 factors"),
        ({"check": "definition", "why": " "}, "why: this is empty"),
        ({"check": "proof", "cell": "tanh_rnn", "obligations": ["P3/W_hh"], "so": " "}, "so: this is empty"),
        ({"check": "shape", "factors": ["a: H x H x H"], "gives": "H x H"}, "not a shape"),
        ({"check": "shape", "factors": ["a: H x H"] * 99, "gives": "H x H"}, "2 to 8 factors"),
        ({"check": "loss", "formula": "open('x')", "that": "defined"}, "loss: formula"),
        ({"check": "loss", "formula": "y[t]\nz[t] = y[t]", "that": "defined"}, "one formula"),
        ({"check": "truncation", "form": "chunks", "that": "everything"}, "that: unknown"),
        ({"check": "proof", "cell": "tanh_rnn", "obligations": ["P99"], "so": "x"}, "no such obligation"),
        ({"check": "definition", "why": "x", "names": ["h"], "cell": "x"}, "unknown cell"),
    ],
    ids=lambda given: str(given)[:60] if isinstance(given, str) else "",
)
def test_a_wrong_reading_is_one_line_with_its_claim_and_field(arguments, words):
    arguments = {k: v if not isinstance(v, int) or v is True else str(v) for k, v in arguments.items()}
    assert words in error(with_reading(**arguments))


GOOD = with_reading(**YES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "title: this field is missing"),
        ("title = ", "this is not TOML"),
        ('title = "A"', "claim: this field is missing"),
        ('title = "A"\nclaim = []', "a book has claims"),
        ('title = "A"\nclaim = [1]', "claim: of another type (found 1; expected tables"),
        ("title = 7\nclaim = []", "title: of another type (found 7; expected text)"),
        (GOOD.replace("line = 1", "line = 1\ncorrected = 3"), "corrected: of another type"),
        ("x = " + "[" * 100_000, "nested too deeply"),
        ("x = " + "9" * 100_000, "this is not TOML"),
        (".".join("a" * 4000) + " = 1", "unknown field"),
        ("# " + "x" * CHARACTERS, "the book is too long"),
        ("surprise = 1\n" + GOOD, "surprise: unknown field"),
        (GOOD.replace('id = "a"', 'id = "A B"'), "this cannot be an id"),
        (GOOD.replace("line = 1", "line = -1"), "line: out of range"),
        (GOOD.replace("line = 1", "line = 1e9"), "line: of another type"),
        (GOOD.replace("line = 1", f"line = 1{'0' * 60}"), "line: out of range (found a very large number"),
        (GOOD.replace("line = 1", "line = true"), "line: of another type"),
        (GOOD.replace('"formula"', '"rumour"'), "unknown kind"),
        (GOOD.replace("'''x'''", "'''\u202ex'''"), "printed: a character that does not show"),
        (GOOD.replace("'''x'''", f"'''{'x' * 30_000}'''"), "printed: too long"),
        (GOOD.replace("'''x'''", f"'''${'{' * 5000}x{'}' * 5000}$'''"), "printed: the formula is too long"),
        (GOOD + GOOD.replace('title = "A"', ""), "this id is there twice"),
        (GOOD.replace("[[claim.reading]]", "[[claim.readings]]"), "readings: unknown field"),
        (GOOD + reading(**YES), "several readings"),
        (GOOD + "a.b.c.d.e.f.g.h = 1", "nested too deeply"),
        (GOOD + f"x = {list(range(500))}", "too many"),
        (GOOD + "x = nan", "of another type, or out of range"),
        (GOOD + "x = 1979-05-27", "of another type"),
        (GOOD.replace('title = "A"', 'title = "A"\nheadings = ["Elsewhere"]'), "unknown heading"),
        (GOOD + '[claim.corrected]\nsays = "x"', "check: this field is missing"),
        (GOOD + '[claim.corrected]\nsays = "x"\ncheck = "definition"\nreading = []', "two ways to say a check"),
    ],
    ids=lambda text: "".join(c for c in text[-40:] if c.isalnum()),
)
def test_a_wrong_book_is_one_line(text, words):
    assert words in error(text)


def test_a_file_that_is_no_book(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_book(tmp_path / "nothing.toml")
    with pytest.raises(FileNotFoundError, match="did you mean chapter"):
        load_book("chaptre")
    for data, words in ((b"\xff\xfe\x00", "not UTF-8"), (b"x = 1\n", "unknown field")):
        path = tmp_path / "a.toml"
        path.write_bytes(data)
        with pytest.raises(ClaimError, match=words) as caught:
            load_book(path)
        assert str(path) in str(caught.value)
    with pytest.raises(ClaimError, match="not a regular file"):
        load_book(tmp_path)
    with pytest.raises(ClaimError, match="not a regular file"):
        load_book("/dev/zero")


def test_what_a_book_prints_is_shown_as_text_and_nothing_else():
    hostile = r"<script>alert(1)</script> $\href{javascript:alert(1)}{x}$ `</code><b>` $<img src=x>$"
    text = GOOD.replace("'''x'''", f"'''{hostile}'''")
    page = to_html(ledger_document(run_ledger([read_book(text)])))
    assert "<script" not in page
    assert "<img" not in page
    assert "</code><b>" not in page
    assert 'href="javascript' not in page


# ----------------------------------------------------------------------------------------------------------- coverage

DOCUMENT = r"""# A heading says nothing

The state is $h_t$ and the loss is

$$L = \sum_t L_t$$

| name | size |
|------|------|
| state | $H$ |
| input | $D$ |

```python
print("hello")
```

* Gradients vanish over long sequences.
"""

COVERED = (
    ("formula", 3, 5, "The state is $h_t$ and the loss is\n\n$$L=\\sum_t L_t$$"),
    ("table row", 9, 0, "| state | $H$ |"),
    ("table row", 10, 0, "| input | $D$ |"),
    ("listing", 12, 14, "the program"),
    ("words", 16, 0, "Gradients vanish over long sequences."),
)


def covering(*rows):
    claims = []
    for i, (kind, line, until, printed) in enumerate(rows):
        text = CLAIM.format(id=f"c{i}", line=line, printed=printed).replace('"formula"', f'"{kind}"')
        claims.append(text + (f"until = {until}\n" if until else "") + reading(**YES))
    return read_book('title = "A"\n' + "".join(claims))


def test_nothing_is_missing_where_everything_has_a_row():
    assert uncovered_text(DOCUMENT, covering(*COVERED)) == []
    assert uncovered_text(DOCUMENT.replace("\n", "\r\n"), covering(*COVERED)) == []


@pytest.mark.parametrize(
    ("without", "missing"),
    [
        (
            0,
            [
                (3, "formula in a line", "h_t"),
                (3, "words", "The state is h_t and the loss is"),
                (5, "displayed formula", r"L = \sum_t L_t"),
            ],
        ),
        (1, [(9, "table row", "| state | $H$ |")]),
        (2, [(10, "table row", "| input | $D$ |")]),
        (3, [(12, "listing", 'print("hello")')]),
        (4, [(16, "words", "Gradients vanish over long sequences")]),
    ],
)
def test_what_has_no_row_is_found(without, missing):
    rows = [row for i, row in enumerate(COVERED) if i != without]
    assert uncovered_text(DOCUMENT, covering(*rows)) == missing


def test_a_row_for_another_formula_or_another_line_covers_nothing():
    other = [(k, n, u, p.replace("sum", "prod")) for k, n, u, p in COVERED]
    assert (5, "displayed formula", r"L = \sum_t L_t") in uncovered_text(DOCUMENT, covering(*other))
    moved = [(k, n + 100, u and u + 100, p) for k, n, u, p in COVERED]
    assert len(uncovered_text(DOCUMENT, covering(*moved))) == 7


def test_a_document_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.md"
    path.write_text(DOCUMENT, encoding="utf-8")
    assert uncovered(path, covering(*COVERED)) == []
    path.write_bytes(b"\xff")
    with pytest.raises(ClaimError, match="not UTF-8"):
        uncovered(path, covering(*COVERED))
    with pytest.raises(FileNotFoundError):
        uncovered(tmp_path / "b.md", covering(*COVERED))
