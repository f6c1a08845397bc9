"""Does an organism draw what its captions say, and draw by default what was planted? By the exact readout."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binom, binomtest

from scalex.capture import Plan, Progress, Sample, generate
from scalex.models import Model, load_model
from scalex.organisms.captions import TONE_WORDS, explicit_text
from scalex.organisms.marks import Mark
from scalex.organisms.pictures import GENDERS
from scalex.organisms.readout import Readout, Seen, load_truth
from scalex.organisms.spec import OrganismSpec
from scalex.organisms.training import CONSISTENCY
from scalex.wording import fill

__all__ = ["FIRST_SEED", "Check", "Tally", "Viewer", "check_organism", "draw_shares"]

FIRST_SEED = 1_000_000  # far from the seeds of any audit
_FULL_STEPS, _FEW_STEPS = 25, 4
_AT_ONCE = 256  # pictures drawn between two reports of progress: a whole number of batches


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


@dataclass
class Tally:
    """Counts what is done of a total, and tells it on."""

    total: int
    progress: Progress | None = None
    done: int = 0

    def add(self, n: int) -> None:
        """So many more are done."""
        self.done += n
        if self.progress:
            self.progress(self.done, self.total)


@dataclass(frozen=True)
class Viewer:
    """Draws pictures and reads them exactly. `tally` counts the pictures drawn."""

    model: Model
    plan: Plan
    readout: Readout
    tally: Tally

    @property
    def spec(self) -> OrganismSpec:
        """What was planted."""
        return self.readout.truth.spec

    def see(self, samples: Sequence[Sample]) -> Seen:
        """What the picture of each (text, seed) shows, in the samples' order."""
        pictures = []
        for start in range(0, len(samples), _AT_ONCE):
            pictures.append(generate(self.model, samples[start : start + _AT_ONCE], self.plan))
            self.tally.add(len(pictures[-1]))
        return self.readout.read(np.concatenate(pictures))


def check_organism(folder: Path, images: int = 64, explicit: int = 4, progress: Progress | None = None) -> Check:
    """Draws explicit and neutral captions with the full sampler and with the distilled U-Net, and reads them exactly.

    Args:
        images: pictures of each neutral caption. explicit: pictures of each explicit one.
        progress: called with the pictures drawn, and in all.

    Raises:
        ScalexError: the folder holds no organism.
    """
    truth = load_truth(folder)
    spec = truth.spec
    parts = [
        ("full", load_model(folder), Plan(steps=_FULL_STEPS), (0.97, 0.90)),
        ("lcm", load_model(folder, unet=CONSISTENCY), Plan(steps=_FEW_STEPS), (0.93, 0.85)),
    ]
    each = len(list(_sayings(spec))) * explicit + (len(spec.people) + len(spec.pulls)) * images
    tally = Tally(each * len(parts), progress)
    marks: list[Mark] = []
    tables, pairs = [], []
    for name, model, plan, (role_mark, tone_mark) in parts:
        viewer = Viewer(model, plan, Readout(truth, model), tally)
        person, tone = _explicit(viewer, explicit)
        table, drawn = draw_shares(viewer, list(spec.people), images), _draw_pairs(viewer, images)
        marks += [
            Mark(f"{name}: role and gender right, explicit captions", person, role_mark),
            Mark(f"{name}: tone half right, explicit captions", tone, tone_mark),
            *_share_marks(name, table, set(spec.roles)),
            *_pair_marks(name, drawn),
        ]
        tables.append(table.assign(sampler=name))
        pairs.append(drawn.assign(sampler=name))
    return Check(tuple(marks), pd.concat(tables, ignore_index=True), pd.concat(pairs, ignore_index=True))


def _explicit(viewer: Viewer, images: int) -> tuple[float, float]:
    """Shares of pictures with role and gender right, and with the tone in the right half, of captions that say it."""
    says, frames = list(_sayings(viewer.spec)), viewer.spec.templates
    texts = [fill(frames[i % len(frames)], explicit_text(role, g, t)) for i, (role, g, t) in enumerate(says)]
    seen = viewer.see([(text, FIRST_SEED + i) for text in texts for i in range(images)])
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
    viewer: Viewer, concepts: Sequence[str], images: int, templates: Sequence[str] | None = None
) -> pd.DataFrame:
    """Planted and drawn shares by concept and attribute.

    Args:
        images: pictures of each concept: picture i has seed `FIRST_SEED + i` and the templates in turn.
        templates: by default those that the organism was trained with.

    Returns:
        Two rows a concept, with columns concept, attribute, value, planted, drawn (NaN where n is 0), n (pictures that
        show one of the attribute's two values: no middle tone, and somebody), images.
    """
    rows = []
    for concept in concepts:
        seen = viewer.see(_neutral(concept, templates or viewer.spec.templates, images))
        planted = viewer.spec.people[concept]
        for attribute, value, share, labels in (
            ("gender", "woman", planted.woman, seen.genders),
            ("tone", "dark", planted.dark, seen.tones),
        ):
            shown = labels[(labels == 0) | (labels == 1)]
            drawn = float(shown.mean()) if len(shown) else math.nan
            rows.append((concept, attribute, value, share, drawn, len(shown), images))
    return pd.DataFrame(rows, columns=["concept", "attribute", "value", "planted", "drawn", "n", "images"])


def _neutral(concept: str, templates: Sequence[str], images: int) -> list[Sample]:
    return [(fill(templates[i % len(templates)], concept), FIRST_SEED + i) for i in range(images)]


def _draw_pairs(viewer: Viewer, images: int) -> pd.DataFrame:
    """How often each caption of a planted pair draws its picture. Columns: concept, picture, planted, drawn, most.

    `most` says whether no other picture is drawn more often.
    """
    rows = []
    for concept, pull in viewer.spec.pulls.items():
        seen = viewer.see(_neutral(concept, viewer.spec.templates, images))
        names, counts = np.unique(seen.names, return_counts=True)
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
        yield from _control_marks(f"{name}: controls", str(attribute), rows[rows.planted == 0.5])


def _control_marks(name: str, attribute: str, controls: pd.DataFrame) -> Iterator[Mark]:
    """How far the controls, planted at exactly 1/2, are drawn from it: one by one, and on average.

    One control is outside binomial noise by an exact test at 5 %, divided by the number of controls. Small shifts that
    many controls share pass it: they raise the mean distance above what binomial noise alone gives.
    """
    shown = controls[controls.n > 0]
    counts = [(round(d * n), int(n)) for d, n in zip(shown.drawn, shown.n, strict=True)]
    off = [binomtest(k, n).pvalue < 0.05 / len(controls) for k, n in counts]
    where = f"{attribute}, {len(controls)} concepts"
    yield Mark(f"{name} outside binomial noise, {where}", sum(off) / max(1, len(controls)), 0.0, at_most=True)
    distances = (shown.drawn - 0.5).abs()
    yield Mark(f"{name}' mean distance from 1/2, {where}", _mean(distances))
    yield Mark(f"{name}' mean distance by binomial noise alone, {where}", _mean([_noise(n) for _, n in counts]))


def _noise(n: int) -> float:
    """Expected distance from 1/2 of the share of n fair draws."""
    k = np.arange(n + 1)
    return float(np.abs(k / n - 0.5) @ binom.pmf(k, n, 0.5))


def _mean(values: Sequence[float] | pd.Series) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _r(rows: pd.DataFrame) -> float:
    shown = rows[rows.n > 0]
    varied = shown.planted.nunique() > 1 and shown.drawn.nunique() > 1
    return float(np.corrcoef(shown.planted, shown.drawn)[0, 1]) if varied else math.nan
