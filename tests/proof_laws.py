"""What the proof of every shipped cell has to have; test_gallery asks it of the very proofs that its pages print."""

from __future__ import annotations

from derive.losses import LOSSES
from derive.obligations import EVERY_SIZE

__all__ = ["check_proof"]


def check_proof(proof):
    """Raise AssertionError for the first law that a proof breaks."""
    _is_whole_and_catches_every_mistake(proof)
    _has_an_obligation_for_everything(proof)
    _rests_on_earlier_steps(proof)


def _is_whole_and_catches_every_mistake(proof):
    assert proof.holds, str(proof)
    assert not proof.refuted
    assert proof.score.missed == ()
    assert proof.score.caught == proof.score.planted > 40
    assert set(proof.score.by_check) == {"P2", "P3", "P1, the loop"}
    assert all(rejected == planted > 0 for rejected, planted in proof.score.by_check.values())


def _has_an_obligation_for_everything(proof):
    of = {o.name: o for o in proof.obligations}
    cell = proof.derivation.cell
    leaves = [*cell.parameters, *(f"{x}[t]" for x in cell.inputs), *(f"{s}[t-1]" for s in cell.states)]
    for leaf in leaves:
        assert of[f"P3/{leaf}"].holds is True
        assert of[f"P3/{leaf}"].level == EVERY_SIZE
        assert of[f"P2/{leaf}"].holds is True
    for named in cell.equations:
        assert of[f"P3/{named}[t]"].holds is True
    for loss in LOSSES:
        assert of[f"loss/{loss}"].holds is True
    for required in ("program/cut", "lemma/time", "lemma/batch", "P1/diff T=1 size=1", "P1/jets T=2 B=1 size=2"):
        assert of[required].holds is True
    for built in ("jacobian-product", "immediate-derivative", "forward-recursion", "truncation"):
        assert of[f"{built} T=2"].holds is True
        assert of[f"{built} T=5"].holds is True


def _rests_on_earlier_steps(proof):
    stems = {o.name for o in proof.obligations} | {o.name.rpartition(" ")[0] for o in proof.obligations}
    for i, step in enumerate(proof.derivation.steps, 1):
        assert step.number == i
        assert all(n < i for n in step.rests_on if isinstance(n, int))
        assert not step.obligation or step.obligation in stems, step
