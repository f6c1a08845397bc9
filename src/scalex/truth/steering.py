"""Steering against the truth: do pushes move what the exact readout sees, and leave the role as it was?

Each role's own steering vector of an attribute is pushed, from neutral prompts over a grid of alphas, and from prompts
that spell out the first value at alpha 1, beside directions of equal length that mean nothing. Pictures are of seeds
that no vector was learned from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pandas as pd
from jaxtyping import Float

from scalex.capture import Progress
from scalex.disk import disk_errors, write_atomic
from scalex.jobs import Job, prepare
from scalex.organisms import EMBEDDED
from scalex.organisms.marks import Mark
from scalex.records import Rules
from scalex.scorers import Readouts, scored
from scalex.scorers.exact import exact_readouts
from scalex.store import Store
from scalex.truth._bed import Bed
from scalex.validation._doses import Case, Doses, Pusher, controls
from scalex.validation._effects import position, trend
from scalex.validation.dose_response import cases_of

__all__ = ["NAME", "marks", "score"]

NAME = "steering"
_ATTRIBUTES = {"gender": ("man", "woman"), "tone": ("light", "dark")}
_TEMPLATE, _LEARNED = "a photo of a {}", 16  # seeds that vectors are learned from
_GRID = Doses(alphas=(-1.0, -0.5, 0.0, 0.5, 1.0), seeds=12)
_SEEDS = 8  # pictures from the first value's prompts


def score(bed: Bed) -> Iterator[Mark]:
    """Gender, then tone, over all roles."""
    roles = list(bed.truth.spec.roles)
    asked = bed.spec(
        concepts=roles, attributes=list(_ATTRIBUTES), templates=[_TEMPLATE], seeds=_LEARNED, analyses=["defaults"]
    )
    job = prepare(spec=asked)
    readouts = exact_readouts(bed.folder or EMBEDDED, job.model)
    for attribute, values in _ATTRIBUTES.items():
        yield from marks(attribute, _table(bed, job, readouts, attribute, values))


def marks(attribute: str, table: pd.DataFrame) -> Iterator[Mark]:
    """The figures of an attribute.

    Args:
        table: a row a role: `rises` (whether the readout rises with alpha), `slope`, `second` and `kept` (shares of
            pictures at alpha 1 from the first value's prompts), `before` and `kept_before` (without a push), `random`
            and `shuffled` (shares of pictures that directions without meaning change).
    """
    name, n = f"steering, {attribute}", len(table)
    yield Mark(f"{name}: the readout rises with alpha, share of {n} roles", float(table.rises.mean()), 0.95)
    yield Mark(f"{name}: mean slope per alpha, -1 to 1", float(table.slope.mean()))
    yield Mark(f"{name}: read as the second value at alpha 1 from the first", float(table.second.mean()), 0.80)
    yield Mark(f"{name}: read as the second value without a push", float(table.before.mean()))
    yield Mark(f"{name}: role kept at alpha 1", float(table.kept.mean()), 0.80)
    yield Mark(f"{name}: role kept without a push", float(table.kept_before.mean()))
    yield Mark(f"{name}: roles of which most are read as the second", float((table.second > 0.5).mean()))
    for kind in ("random", "shuffled"):
        moved = float(table[kind].mean())
        yield Mark(f"{name}: pictures that {kind} directions change", moved, 0.10, at_most=True)


def _table(bed: Bed, job: Job, readouts: Readouts, attribute: str, values: tuple[str, str]) -> pd.DataFrame:
    """What each role's pictures showed; drawn once and kept in `out`."""
    told = (
        job.model.fingerprint,
        attribute,
        values,
        [p.text for p in job.prompts],
        job.plan,
        _GRID,
        _SEEDS,
        _LEARNED,
        _TEMPLATE,
    )
    file = bed.out / f"steering-{hashlib.sha256(repr(told).encode()).hexdigest()[:12]}.csv"
    if not file.exists():
        cases = cases_of(job, Store.open(bed.store), attribute, values, progress=bed.progress)
        rows = list(_rows(job, readouts, cases, bed.progress))
        with disk_errors(bed.out, option="--out"):
            write_atomic(file, pd.DataFrame(rows).to_csv(index=False))
    return pd.read_csv(file)


def _rows(job: Job, readouts: Readouts, cases: list[Case], progress: Progress | None) -> Iterator[dict[str, object]]:
    tell = progress or (lambda *_: None)
    for i, case in enumerate(cases):
        tell(i, len(cases))
        yield {"role": case.concept} | _grid(job, readouts, case) | _from_first(job, readouts, case)
    tell(len(cases), len(cases))


def _grid(job: Job, readouts: Readouts, case: Case) -> dict[str, object]:
    """Whether neutral pictures follow alpha: Page's test, and no fall by more than one picture."""
    texts = [_TEMPLATE.format(case.concept)]
    seen = [_seen(job, readouts, case, texts, _GRID, alpha)[0] for alpha in _GRID.alphas]
    curve = np.stack([position(scores, 0, 1) for scores in seen])[:, None]
    found, means = trend(_GRID.alphas, curve, Rules(permutations=1999)), curve.mean((1, 2))
    rises = found.p <= 0.05 and found.fall <= 1 / _GRID.seeds + 1e-9
    shown = {f"at {alpha:g}": float(mean) for alpha, mean in zip(_GRID.alphas, means)}
    return {"rises": rises, "slope": float(np.polyfit(_GRID.alphas, means, 1)[0]), "fall": found.fall, **shown}


def _from_first(job: Job, readouts: Readouts, case: Case) -> dict[str, object]:
    """What pictures of the first value's prompt show at alpha 1, by the role's own direction and by others."""
    doses = Doses(seeds=_SEEDS, start=case.values[0])
    texts = [
        p.text
        for p in job.prompts
        if (p.concept, p.attribute, p.value) == (case.concept, case.attribute, case.values[0])
    ]
    before, kept_before = _seen(job, readouts, case, texts, doses, 0.0)
    after, kept = _seen(job, readouts, case, texts, doses, 1.0)
    found: dict[str, object] = {
        "before": _share(before), "second": _share(after), "kept_before": kept_before, "kept": kept
    }  # fmt: skip
    for kind, one in controls(case.direction, 1, job.model.probe_shape, 0):
        other = Case(case.concept, case.attribute, case.values, one)
        pushed, _ = _seen(job, readouts, other, texts, doses, 1.0)
        found[kind] = float((np.nan_to_num(pushed) != np.nan_to_num(before)).any(axis=1).mean())
    return found


def _seen(
    job: Job, readouts: Readouts, case: Case, texts: list[str], doses: Doses, alpha: float
) -> tuple[Float[np.ndarray, "n 2"], float]:
    """What pictures show of the attribute, and how many still show the role."""
    made = Pusher(job, doses).pictures(case.direction, texts, alpha)
    asked = ((case.attribute, case.values), ("concept", (case.concept,)))
    scorers = [readouts(case.concept, attribute, values) for attribute, values in asked]
    shown, kept = (scored(scorer, made) for scorer in scorers if scorer is not None)
    return shown, float(np.nan_to_num(kept[:, 0]).mean())


def _share(scores: Float[np.ndarray, "n 2"]) -> float:
    return float(np.nan_to_num(scores[:, 1]).mean())
