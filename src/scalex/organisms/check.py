"""Does an organism draw what its captions say, and draw by default what was planted? By the exact readout."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from scalex.capture import Plan, Progress, generate
from scalex.models import Model, load_model
from scalex.organisms.captions import TONE_WORDS, explicit_text
from scalex.organisms.marks import Mark
from scalex.organisms.pictures import GENDERS
from scalex.organisms.readout import Readout, Seen, load_truth
from scalex.organisms.spec import OrganismSpec
from scalex.organisms.training import CONSISTENCY
from scalex.wording import fill

__all__ = ["FIRST_SEED", "Check", "check_organism", "draw_shares", "measure"]

FIRST_SEED = 1_000_000  # far from the seeds of any audit
_FULL_STEPS, _FEW_STEPS = 25, 4


@dataclass(frozen=True)
class Check:
    """The figures, and what neutral captions draw.

    Attributes:
        shares: of people: planted and drawn shares by concept, attribute and sampler (see `draw_shares`).
        pairs: of planted pairs: planted and drawn shares of the picture by concept and sampler.
    """

    marks: tuple[Mark, ...]
    shares: pd.DataFrame
    pairs: pd.DataFrame


def check_organism(folder: Path, images: int = 64, explicit: int = 4, progress: Progress = lambda *_: None) -> Check:
    """Draws explicit and neutral captions with the full sampler and with the distilled U-Net, and reads them exactly.

    Args:
        images: pictures of each neutral caption. explicit: pictures of each explicit one.
        progress: called with the samplers done, and in all.

    Raises:
        ScalexError: the folder holds no organism.
    """
    truth = load_truth(folder)
    parts = [
        ("full", load_model(folder), Plan(steps=_FULL_STEPS), (0.97, 0.90)),
        ("lcm", load_model(folder, unet=CONSISTENCY), Plan(steps=_FEW_STEPS), (0.93, 0.85)),
    ]
    marks: list[Mark] = []
    tables, pairs = [], []
    for done, (name, model, plan, (role_mark, tone_mark)) in enumerate(parts):
        progress(done, len(parts))
        readout = Readout(truth, model)
        person, tone = _explicit(truth.spec, model, plan, readout, explicit)
        table = draw_shares(truth.spec, list(truth.spec.people), model, plan, readout, images)
        marks += [
            Mark(f"{name}: role and gender right, explicit captions", person, role_mark),
            Mark(f"{name}: tone half right, explicit captions", tone, tone_mark),
            *_share_marks(name, table, set(truth.spec.roles)),
        ]
        drawn = _draw_pairs(truth.spec, model, plan, readout, images)
        marks += _pair_marks(name, drawn)
        tables.append(table.assign(sampler=name))
        pairs.append(drawn.assign(sampler=name))
    return Check(tuple(marks), pd.concat(tables, ignore_index=True), pd.concat(pairs, ignore_index=True))


def measure(model: Model, plan: Plan, readout: Readout, texts: Sequence[str], seeds: Sequence[int]) -> Seen:
    """Draws every text with every seed (texts outer) and reads the pictures."""
    return readout.read(generate(model, [(t, s) for t in texts for s in seeds], plan))


def _explicit(spec: OrganismSpec, model: Model, plan: Plan, readout: Readout, images: int) -> tuple[float, float]:
    """Shares of pictures with role and gender right, and with the tone in the right half, of captions that say it."""
    says = list(_sayings(spec))
    texts = [
        fill(spec.templates[i % len(spec.templates)], explicit_text(role, g, t)) for i, (role, g, t) in enumerate(says)
    ]
    seen = measure(model, plan, readout, texts, range(FIRST_SEED, FIRST_SEED + images))
    said = [row for row in says for _ in range(images)]
    roles, genders, tones = (np.array(column) for column in zip(*said, strict=True))
    person = (seen.names == roles) & (seen.genders == np.where(genders == "woman", 1, 0))
    tone = seen.tones == np.where(tones == "dark", 1, 0)
    return float(person[genders != ""].mean()), float(tone[tones != ""].mean())


def _sayings(spec: OrganismSpec) -> Iterator[tuple[str, str, str]]:
    tones = [t for t in TONE_WORDS if t != "medium"]
    for role in spec.roles:
        yield from ((role, g, "") for g in GENDERS)
        yield from ((role, "", t) for t in tones)
        yield from ((role, g, t) for g in GENDERS for t in tones)


def draw_shares(
    spec: OrganismSpec,
    concepts: Sequence[str],
    model: Model,
    plan: Plan,
    readout: Readout,
    images: int,
    templates: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Planted and drawn shares by concept and attribute, over `images` seeds spread over the templates.

    Columns: concept, attribute, value, planted, drawn, n (pictures that show somebody with that attribute), images.
    """
    frames = templates or spec.templates
    rows = []
    for concept in concepts:
        samples = [(fill(frames[i % len(frames)], concept), FIRST_SEED + i) for i in range(images)]
        seen = readout.read(generate(model, samples, plan))
        for attribute, value, planted, labels in (
            ("gender", "woman", spec.people[concept].woman, seen.genders),
            ("tone", "dark", spec.people[concept].dark, seen.tones),
        ):
            shown = labels[(labels == 0) | (labels == 1)]
            drawn = float(shown.mean()) if len(shown) else float("nan")
            rows.append((concept, attribute, value, planted, drawn, len(shown), images))
    return pd.DataFrame(rows, columns=["concept", "attribute", "value", "planted", "drawn", "n", "images"])


def _draw_pairs(spec: OrganismSpec, model: Model, plan: Plan, readout: Readout, images: int) -> pd.DataFrame:
    """How often each caption of a planted pair draws its picture. Columns: concept, picture, planted, drawn, most.

    `most` says whether no other picture is drawn more often.
    """
    rows = []
    for concept, pull in spec.pulls.items():
        samples = [(fill(spec.templates[i % len(spec.templates)], concept), FIRST_SEED + i) for i in range(images)]
        names, counts = np.unique(readout.read(generate(model, samples, plan)).names, return_counts=True)
        share = dict(zip(names, counts / images, strict=True))
        drawn = float(share.get(pull.picture, 0.0))
        rows.append((concept, pull.picture, pull.share, drawn, drawn >= max(share.values())))
    return pd.DataFrame(rows, columns=["concept", "picture", "planted", "drawn", "most"])


def _pair_marks(name: str, pairs: pd.DataFrame) -> Iterator[Mark]:
    if len(pairs):
        where = f"{name}: planted pairs, {len(pairs)} captions"
        yield Mark(f"{where}: draw the planted picture most often", float(pairs.most.mean()))
        yield Mark(f"{where}: mean share drawn (planted: {pairs.planted.mean():.2f})", float(pairs.drawn.mean()))


def _share_marks(name: str, table: pd.DataFrame, roles: set[str]) -> Iterator[Mark]:
    for attribute, rows in table.groupby("attribute"):
        own = rows[rows.concept.isin(roles)]
        yield Mark(f"{name}: r(planted, drawn), {attribute}, {len(own)} roles", _r(own), 0.97)
        yield Mark(f"{name}: r(planted, drawn), {attribute}, all {len(rows)} concepts", _r(rows), 0.97)
        controls = rows[rows.planted == 0.5]
        off = [
            binomtest(round(d * n), n).pvalue < 0.05 / len(controls)
            for d, n in zip(controls.drawn, controls.n, strict=True)
            if n
        ]
        share = sum(off) / max(1, len(controls))
        yield Mark(
            f"{name}: controls outside binomial noise, {attribute}, {len(controls)} concepts", share, 0.0, at_most=True
        )


def _r(rows: pd.DataFrame) -> float:
    shown = rows[rows.n > 0]
    varied = shown.planted.nunique() > 1 and shown.drawn.nunique() > 1
    return float(np.corrcoef(shown.planted, shown.drawn)[0, 1]) if varied else math.nan
