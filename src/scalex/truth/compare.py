"""Compare: the same model read with other seeds has not moved, and of a LoRA on one role that role alone has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from scalex.capture import Plan
from scalex.comparing import Comparison, compare
from scalex.differences import MOVED
from scalex.differences import NAME as DIFFERENCES
from scalex.models import load_model
from scalex.organisms import EMBEDDED, EMBEDDED_UNET
from scalex.organisms.check import Tally, Viewer, draw_shares
from scalex.organisms.lora import train_lora
from scalex.organisms.marks import Mark
from scalex.organisms.readout import Readout
from scalex.truth._bed import Bed

__all__ = ["NAME", "score"]

NAME = "compare"
_SEEDS, _OTHER = 32, 1000  # of each audit, and where the second one's begin
_ROLES, _ADJECTIVES = 12, 4
_WOMAN = 0.9
_SEEN = 256  # pictures behind what the LoRA really draws


def score(bed: Bed) -> Iterator[Mark]:
    """False movers between two captures of one model, and what a LoRA on one role is found to have moved."""
    yield from _same_model(bed)
    yield from _one_role(bed)


def _concepts(bed: Bed) -> list[str]:
    """Some roles, the one that the LoRA shifts among them, and some adjectives."""
    spec = bed.truth.spec
    roles = list(dict.fromkeys([_role(bed), *spec.roles]))[:_ROLES]
    return [*roles, *(c for c in spec.people if c not in spec.roles)][: _ROLES + _ADJECTIVES]


def _role(bed: Bed) -> str:
    """The pilot; in an organism without one, the role that is drawn as a woman least."""
    roles = bed.truth.spec.roles
    return "pilot" if "pilot" in roles else min(roles, key=lambda role: roles[role].woman)


def _run(bed: Bed, name: str, **asked: object) -> str:
    told = {"concepts": _concepts(bed), "attributes": ["gender", "tone"], "seeds": _SEEDS, **asked}
    return str(bed.audit(f"compare-{name}", **told)[0].folder)


def _same_model(bed: Bed) -> Iterator[Mark]:
    """Of so many tests at q 0.05 in three families, one or more false movers are to be expected in at most 3 x 5 % of
    such comparisons, fewer by as many as lie inside of the margin."""
    found = compare(_run(bed, "a"), _run(bed, "other", first_seed=_OTHER), out=bed.out / "compare-seeds")
    own, beyond = (found.findings[(found.findings.analysis == DIFFERENCES) == is_own] for is_own in (True, False))
    for rows, what in ((own, ""), (beyond, " beyond leans and shares")):
        tests, movers = int(rows.p.notna().sum()), rows.verdict.str.startswith(MOVED).sum()
        yield Mark(f"compare, one model, other seeds: false movers{what} of {tests}", float(movers), 0, at_most=True)
    yield Mark("compare, one model, other seeds: shown not to have moved", _share(own, "did not move"))


def _share(findings: pd.DataFrame, verdict: str) -> float:
    tested = findings[findings.p.notna()]
    return float((tested.verdict == verdict).mean())


def _one_role(bed: Bed) -> Iterator[Mark]:
    role, folder = _role(bed), bed.folder or EMBEDDED
    lora = train_lora(folder, role, bed.out / "compare-lora", woman=_WOMAN)
    found = compare(_run(bed, "a"), _run(bed, "lora", lora=str(lora)), out=bed.out / "compare-role")
    own, others = _moved(found, role)
    where = f"compare, a LoRA on {role!r}"
    yield Mark(f"{where}: found, by lean and share of the pictures", own, 1)
    yield Mark(f"{where}: other concepts found to have moved", float(len(others)), 0, at_most=True)
    before, after = (_realised(bed, folder, fused, [role, *others]) for fused in (None, str(lora)))
    for concept in (role, *others):
        yield Mark(f"{where}: realised P(woman) of {concept!r}, without it", before[concept])
        yield Mark(f"{where}: realised P(woman) of {concept!r}, with it", after[concept])


def _realised(bed: Bed, folder: Path, lora: str | None, concepts: list[str]) -> dict[str, float]:
    """What the model really draws, by the exact readout. With and without a LoRA the noise is the same."""
    model = load_model(folder, unet=EMBEDDED_UNET, lora=lora)
    tally = Tally(_SEEN * len(concepts), bed.progress)
    viewer = Viewer(model, Plan(steps=model.default_steps), Readout(bed.truth, model), tally)
    table = draw_shares(viewer, concepts, _SEEN)
    rows = table[table.attribute == "gender"]
    return dict(zip(rows.concept, rows.drawn))


def _moved(found: Comparison, role: str) -> tuple[float, list[str]]:
    """How much of what pictures show of the role's gender moved, and which other concepts' leans or shares moved."""
    rows = found.findings[found.findings.analysis == DIFFERENCES]
    own = rows[(rows.target == role) & (rows.attribute == "gender") & (rows.reading == "picture")]
    others = found.moved[(found.moved.target != role) & (found.moved.analysis == DIFFERENCES)]
    return float(own.index.isin(found.moved.index).mean()), list(others.target.unique())
