"""Results as plain data, for a program to read."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from derive.cell import Cell
from derive.prove import Proof
from derive.verify import Verification, VerifiedLine
from derive.write import write

__all__ = ["as_json", "cell_data", "proof_data", "verification_data"]


def as_json(data: Any) -> str:
    """ASCII, so that any terminal and any program can take it."""
    return json.dumps(data, indent=2, allow_nan=False) + "\n"


def proof_data(proof: Proof) -> dict[str, Any]:
    """Verdict, obligations, score, hypotheses and trusted base of a proof."""
    score = proof.score
    return {
        "cell": proof.derivation.cell.name,
        "verdict": "proven" if proof.holds else "refuted" if proof.refuted else "not proven",
        "obligations": [
            {
                "name": o.name,
                "statement": o.statement,
                "method": o.method,
                "level": o.level,
                "holds": o.holds,
                "needed": o.needed,
                "detail": o.detail,
                "seconds": round(o.seconds, 4),
            }
            for o in proof.obligations
        ],
        "score": {
            "caught": score.caught,
            "planted": score.planted,
            "missed": list(score.missed),
            "by_check": {name: {"caught": c, "planted": p} for name, (c, p) in score.by_check.items()},
        },
        "hypotheses": [
            {"expression": write(h.expression), "relation": h.relation, "why": h.why, "line": h.line}
            for h in proof.hypotheses
        ],
        "trusted_base": list(proof.trusted_base),
    }


def cell_data(cell: Cell) -> dict[str, Any]:
    """What a list of cells says about one."""
    return {
        "name": cell.name,
        "title": cell.title,
        "states": list(cell.states),
        "inputs": list(cell.inputs),
        "outputs": list(cell.outputs),
        "parameters": {name: list(shape) for name, shape in cell.parameters.items()},
        "dimensions": {letter: list(names) for letter, names in cell.dimensions.items()},
    }


def verification_data(verification: Verification) -> dict[str, Any]:
    """Every line of a person's derivation with its verdict."""
    return {
        "cell": verification.cell.name,
        "file": verification.name,
        "holds": verification.holds,
        "loss": verification.loss,
        "missing": list(verification.missing),
        "notes": list(verification.notes),
        "runs_right": verification.ran,
        "lines": [_line_data(line) for line in verification.lines],
    }


def _line_data(line: VerifiedLine) -> dict[str, Any]:
    example = line.counterexample
    return {
        "number": line.number,
        "text": line.text,
        "status": line.status,
        "level": line.level,
        "note": line.note,
        "expected": line.expected,
        "mistake": line.mistake,
        "says": line.says,
        "also": list(line.also),
        "difference": line.difference,
        "counterexample": None if example is None else asdict(example),
    }
