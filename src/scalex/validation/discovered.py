"""Directions that were found without prompts, pushed: which attributes do pictures follow by, and do concepts stay?

What was found claims nothing. So every attribute of the spec is read in the same pictures, either way round, as
`dose_response` reads them: from neutral prompts of some concepts, with the direction added at every step, alpha in its
own length (two standard deviations of samples along it), at seeds that nothing was learned from. A slope counts where
it is sure over all directions and attributes (Benjamini-Hochberg), at least the rules' margin, and twice that of
directions as long that mean nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from scalex import stats
from scalex.capture import Progress
from scalex.direction_files import Direction, Validation, save_direction
from scalex.discovering import Discovered, write_table
from scalex.drawings import Drawings
from scalex.errors import ScalexError, resumable
from scalex.jobs import Job
from scalex.prompts import build_prompts
from scalex.readouts import learned_readings, named_readouts
from scalex.records import Rules
from scalex.report import views
from scalex.scorers import AttributeScorer, Readouts, scored
from scalex.store import Store
from scalex.sweep import evenly
from scalex.validation._doses import Doses, Pixels, Pusher, controls, stands
from scalex.validation._effects import CONCEPT, effect, slopes

__all__ = ["EFFECTS", "Effects", "effects_of", "validate_discovered"]

EFFECTS = "effects"
"""The name of the table, without its suffix."""

_CONCEPTS, _KNOWN = 2, 8  # that are pushed, and that the picture reading tells apart
_COLUMNS = ["name", "attribute", "first", "value", "slope", "low", "high", "p", "q", "chance", "kept"]
_COLUMNS += ["readout", "verdict"]
_DOSES = Doses(alphas=(-1.0, 0.0, 1.0), controls=1)

Curves = Mapping[str, Float[np.ndarray, "alphas concepts seeds"]]


@dataclass(frozen=True)
class Effects:
    """What pushing along found directions did.

    Attributes:
        table: one row a direction and attribute (of one with more values than two, a row each): `name`, `attribute`,
            `first` and `value` (a positive slope leads to this one; of many values `first` is empty), `slope` of its
            share per alpha, with `low`, `high`, `p` and `q`; `chance`, the greatest slope of directions that mean
            nothing; `kept`, the share of pictures that show their concept at alpha -1 or 1, of those that do without a
            push; `readout`; and a `verdict`, such as "moves gender to woman" or "does not move gender".
        discovered: what was found, with a column `moves` in its table.
    """

    table: pd.DataFrame
    discovered: Discovered


def validate_discovered(
    job: Job,
    done: Discovered,
    *,
    scorer: str | Readouts = "picture",
    doses: Doses | None = None,
    concepts: int = _CONCEPTS,
    store: Store | None = None,
    capturing: Progress | None = None,
    pushing: Progress | None = None,
) -> Effects:
    """Pushes along what was found. Leaves `effects.csv` and `.json` in its folder, a column `moves` in its table, and
    in each file what the attribute did that it moves most.

    Args:
        scorer: as for `scalex.validation.dose_response.validate`. "picture" learns from variants of concepts.
        concepts: of the job's spec that are pushed, evenly from its list. store: of latents; by default the folder's.
        capturing: called with samples captured and to do, for the picture reading. pushing: with pictures.

    Raises:
        ScalexError: the spec has no attributes, or as capturing, generating and scorers raise.
    """
    plan, known = doses or _DOSES, list(dict.fromkeys(p.concept for p in build_prompts(job.spec)))
    if not job.spec.attributes:
        raise ScalexError("there is no attribute that pictures could follow by", "Add `attributes` to the spec")
    held = store or Store.open(done.folder / "store")
    with resumable("what was captured and drawn is kept"):
        if isinstance(scorer, str):
            learned = partial(learned_readings, job, evenly(known, _KNOWN), held, capturing)
            scorer = named_readouts(scorer, job, learned, without=plan.numbers)
        found = [one.direction for one in done.found]
        drawings = Drawings.open(done.folder)
        table = effects_of(job, found, scorer, plan, evenly(known, concepts), drawings, pushing)
    write_table(table, done.folder, EFFECTS)
    return Effects(table, _with_moves(done, table))


def effects_of(
    job: Job,
    directions: Sequence[Direction],
    readouts: Readouts,
    doses: Doses,
    concepts: Sequence[str],
    drawings: Drawings | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """What pushing along each direction does to every attribute of the spec: the table of `Effects`.

    Raises:
        ScalexError: nothing reads any attribute of these concepts' pictures, or a direction does not fit the model.
    """
    scenes = [scene for scene in (_scene(job, concept, readouts) for concept in concepts) if scene.readers]
    if not any(set(scene.readers) - {CONCEPT} for scene in scenes):
        raise ScalexError("no readout tells the values of any attribute apart", "Name another --scorer")
    each = doses.seeds * len(scenes)
    total = each * (1 + len(directions) * (len(doses.alphas) - 1 + 2 * doses.controls * len(doses.ends)))
    pusher = Pusher(job, doses, drawings or Drawings(), lambda done: progress(done, total) if progress else None)
    bare = [pusher.pictures(directions[0], [scene.text], 0.0) for scene in scenes] if directions else []
    rows = [row for one in directions for row in _rows(pusher, one, scenes, bare)]
    q = stats.benjamini_hochberg(np.array([row["p"] for row in rows], dtype=np.float64))
    known = [row | {"q": float(one)} for row, one in zip(rows, q, strict=True)]
    return pd.DataFrame([row | {"verdict": _verdict(row, job.spec.rules)} for row in known], columns=_COLUMNS)


# ---------------------------------------------------------------------------------------------------- parts


@dataclass(frozen=True)
class _Scene:
    """A concept's neutral prompt, and what reads its pictures, by attribute; `CONCEPT` is whether it is still there."""

    text: str
    readers: Mapping[str, AttributeScorer]


def _scene(job: Job, concept: str, readouts: Readouts) -> _Scene:
    asked = {name: tuple(values) for name, values in job.spec.attribute_values.items()}
    found = {name: readouts(concept, name, values) for name, values in asked.items()}
    found[CONCEPT] = readouts(concept, "concept", (concept,))
    text = next(p.text for p in build_prompts(job.spec) if p.concept == concept and not p.attribute)
    return _Scene(text, {name: scorer for name, scorer in found.items() if scorer is not None})


def _rows(
    pusher: Pusher, direction: Direction, scenes: Sequence[_Scene], bare: Sequence[Pixels]
) -> Iterator[dict[str, Any]]:
    """One a number that is read: the place between two values, or the share of each of many."""
    doses, job = pusher.doses, pusher.job
    ends = tuple(sorted({*doses.ends, 0.0}))
    own = _curves(pusher, direction, scenes, bare, doses.alphas)
    made = controls(direction, doses.controls, job.model.probe_shape, job.spec.rules.seed)
    others = [_curves(pusher, one, scenes, bare, ends) for _, one in made]
    names = {name: scorer for scene in reversed(scenes) for name, scorer in scene.readers.items()}
    kept = _kept(own.get(CONCEPT), doses)
    for what, (attribute, first, value) in _told(job.spec.attribute_values).items():
        if what not in own:
            continue
        e = effect(doses.alphas, own[what], job.spec.rules)
        chance = max((abs(float(slopes(ends, one[what]).mean())) for one in others), default=math.nan)
        numbers = {"slope": e.slope, "low": e.low, "high": e.high, "p": e.p, "chance": chance, "kept": kept}
        told = {"name": direction.name, "attribute": attribute, "first": first, "value": value}
        yield told | numbers | {"readout": names[attribute].name}


def _told(attributes: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, str, str]]:
    """What `stands` calls a number, to the attribute and the values that it is least and greatest at."""
    found: dict[str, tuple[str, str, str]] = {}
    for name, values in attributes.items():
        many = {f"{name} {value}": (name, "", value) for value in values}
        found |= {name: (name, values[0], values[1])} if len(values) == 2 else many
    return found


def _curves(
    pusher: Pusher,
    direction: Direction,
    scenes: Sequence[_Scene],
    bare: Sequence[Pixels],
    alphas: Sequence[float],
) -> Curves:
    found: dict[str, list[Float[np.ndarray, "alphas seeds"]]] = {}
    for scene, plain in zip(scenes, bare, strict=True):
        made = np.stack([pusher.pictures(direction, [scene.text], alpha) if alpha else plain for alpha in alphas])
        flat = made.reshape(-1, *made.shape[2:])
        for name, scorer in scene.readers.items():
            for what, places in stands(name, scorer.values, scored(scorer, flat)):
                found.setdefault(what, []).append(places.reshape(len(alphas), -1))
    return {what: np.stack(curves, axis=1) for what, curves in found.items()}


def _kept(curve: Float[np.ndarray, "alphas concepts seeds"] | None, doses: Doses) -> float:
    """Of the concepts that are there without a push, the share that stays at the worse end."""
    if curve is None:
        return math.nan
    shown = dict(zip(doses.alphas, curve.mean((1, 2))))
    return float(min(shown[end] for end in doses.ends) / shown[0.0]) if shown[0.0] else math.nan


def _verdict(row: Mapping[str, Any], rules: Rules) -> str:
    slope, name = row["slope"], row["attribute"]
    sure = row["q"] <= 1 - rules.level and abs(slope) >= rules.margin and not abs(slope) < 2 * row["chance"]
    if not sure:
        return f"does not move {name}"
    back = f"to {row['first']}" if row["first"] else f"away from {row['value']}"
    return f"moves {name} {'to ' + str(row['value']) if slope > 0 else back}"


def _with_moves(done: Discovered, table: pd.DataFrame) -> Discovered:
    """What was found, with what it moves in its table and its files."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in views.records(table):
        by_name.setdefault(row["name"], []).append(row)
    found = [replace(one, direction=_validated(one.direction, by_name[one.direction.name])) for one in done.found]
    told = done.table.assign(moves=[_moves(by_name[str(name)]) for name in done.table["name"]])
    for one, file in zip(found, told["file"], strict=True):
        save_direction(one.direction, done.folder / str(file))
    write_table(told, done.folder)
    return replace(done, found=found, table=told)


def _moves(rows: Sequence[Mapping[str, Any]]) -> str:
    """What a direction moves, the most first."""
    sure = sorted((r for r in rows if r["verdict"].startswith("moves")), key=lambda r: -abs(r["slope"]))
    return "; ".join(f"{row['verdict'].removeprefix('moves ')} ({row['slope']:+.2f})" for row in sure)


def _validated(direction: Direction, rows: Sequence[Mapping[str, Any]]) -> Direction:
    """With what is known of the attribute that it moves most."""
    best = max(rows, key=lambda row: abs(row["slope"]))
    known = Validation(best["readout"], best["slope"], best["low"], best["high"], best["verdict"])
    return replace(direction, of=replace(direction.of, validation=known))
