"""What a proof says about a name: the obligations that belong to it, a mark, and where the report shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from derive.prove import Obligation, Proof
from reports.document import Link, Mark, Parts, slug

__all__ = ["LEMMAS", "Shown", "check_anchor", "mark_of"]

_WORDS = {True: ("holds", "holds"), False: ("fails", "fails"), None: ("open", "not done")}

LEMMAS = {"lemma/time": "the lemma on time", "lemma/batch": "the lemma on the batch"}


def mark_of(obligation: Obligation) -> Mark:
    """The verdict of one obligation."""
    return Mark(*_WORDS[obligation.holds])


def check_anchor(obligation: Obligation) -> str:
    """Where the report shows an obligation; what holds at every size and at a size about one quantity is one row."""
    kind, _, what = obligation.name.partition("/")
    return f"quantity-{slug(what)}" if kind in ("P2", "P3") else f"check-{slug(obligation.name)}"


class Shown:
    """The obligations of a proof by the names that steps refer to."""

    def __init__(self, proof: Proof) -> None:
        self.proof = proof

    def of(self, name: str) -> list[Obligation]:
        """The obligations of a name: its own, else those at the sizes after it (``truncation T=2``)."""
        own = [o for o in self.proof.obligations if o.name == name]
        return own or [o for o in self.proof.obligations if o.name.startswith(f"{name} ")]

    def under(self, *prefixes: str) -> list[Obligation]:
        """The obligations whose names begin so."""
        return [o for o in self.proof.obligations if o.name.startswith(prefixes)]

    def link(self, name: str, text: str = "") -> Parts:
        """The name, or ``text``, leading to the proof; nothing where the proof has no such obligation."""
        found = self.of(name)
        return (Link((text or name,), check_anchor(found[0])),) if found else ()

    def marked(self, name: str) -> Parts:
        """A mark that says how far a name was shown, leading to the proof."""
        found = self.of(name)
        return (Link((summary(found),), check_anchor(found[0])),) if found else ()


def summary(obligations: Sequence[Obligation]) -> Mark:
    """One mark for several obligations: refuted if one is, else the levels of those that hold."""
    if any(o.holds is False for o in obligations):
        return Mark("fails", "refuted")
    if not any(o.holds for o in obligations) or any(o.needed and o.holds is None for o in obligations):
        return Mark("open", "not done")
    return Mark("holds", "; ".join(levels(obligations)))


def levels(obligations: Iterable[Obligation]) -> list[str]:
    """The levels at which something was shown, each once, in order."""
    return list(dict.fromkeys(o.level for o in obligations if o.holds))
