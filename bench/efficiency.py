"""What does a ranking cost? Rank correlation with the realised truth against compute, beside generate-and-classify.

    python bench/truth.py && python bench/efficiency.py    # both beds
    python bench/efficiency.py --bed undistilled           # one; what is told of the other stays as it was

The embedded organism's 62 concepts are ranked by P(woman) and by P(dark skin), from few samples to many, and each
ranking is held against the shares that the model really draws, in pictures of seeds that neither side sees. There are
two beds: the *distilled* U-Net, whose pictures take 4 steps (truth: `drawn` in runs/score-embedded/truth.csv, 512
pictures a concept), and the *undistilled* one that it was made from, whose pictures take 25, as ordinary checkpoints'
do (truth: the pictures of seeds 128..255, drawn here). Each bed's rules were fixed before any of its curves was looked
at, and they are the same:

- A figure is the mean over disjoint blocks of seeds, each an audit of its own. Both sides take seeds from 0 on.
- scalex: what specs can ask for, all of its samples counted: the neutral prompt and four variants of each concept, in
  each template. No concept is left out: where nothing can be said of one, its lean is 0. An audit has four seeds or
  more. On the undistilled bed the finished picture is not read: a sample would take 25 steps.
- Generate-and-classify: pictures of the neutral prompt alone, all steps and the decoder, read by the exact readout: a
  classifier that never errs and costs nothing. (CLIP ViT-B/32 would add 8.8 GFLOP a picture.) With the same noise for
  all concepts, which ranks better, and with other noise for each, as is usual.
- Compute is counted twice: in the organism's own operations, and as if each forward, decoding and text were one of
  Stable Diffusion 1.5, whose proportions are those of real models. So are seconds: a sample's on the organism, measured
  here, and a sample's on Stable Diffusion (both of its figures are from bench/results/speed-cpu-sd15.json).
- Of the undistilled bed it is also told what it would take, at Stable Diffusion's prices, if each picture took 50
  guided steps, as is usual there: 100 forwards in place of the 25 that were made. scalex's samples stay as they were
  run, without guidance. This takes no part in any mark.
- What no spec can ask for yet is measured, too, by leaving out captured samples, and takes no part in any mark:
  variants at four seeds only, a discriminant whose covariance is that of all concepts' variants together, and one that
  is carried over from the variants of 16 concepts to all.
- To reach 0.9 takes the least compute from which on the mean Spearman stays there, interpolated in its logarithm
  between the two sizes measured. The mark, on each bed: at most a fifth, at Stable Diffusion's prices and with as many
  forwards a picture as were made, of what generate-and-classify with the same noise takes, for the cheapest way of
  scalex.

Latents go to the store of bench/truth.py or to runs/efficiency, labels of pictures to runs/efficiency; all are kept.
Writes bench/results/efficiency.json and docs/efficiency.png; exit code 1 where a mark is missed.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.covariance import LedoitWolf

from _efficiency_chart import save_chart
from scalex.analyses import defaults, rates
from scalex.capture import Sample, capture, generate
from scalex.directions import variants_of
from scalex.disk import write_atomic
from scalex.engine import fill
from scalex.jobs import Job, prepare
from scalex.organisms import EMBEDDED
from scalex.organisms.check import Tally, Viewer
from scalex.organisms.marks import Mark
from scalex.organisms.readout import Readout, load_truth
from scalex.records import Latents, Reading
from scalex.store import Store
from scalex.truth import blocks
from scalex.wording import fill as say

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
SCORED, DRAWN = Path("runs/score-embedded"), Path("runs/efficiency")
SEEDS, SIZES = 64, (4, 8, 16, 32, 64)
PICTURES, DRAWS = 256, (1, 2, 4, 8, 16, 32, 64, 128, 256)
PART = 64  # pictures of each concept that are drawn and kept together
ASKED = (0.9, 0.95)
MOST = 1 / 5
FEW, SOME, WHAT_IF = 4, 16, "what if: lean, "
SAME, OTHER = "generate and classify, same noise for all", "generate and classify, other noise for each"
RATIOS = tuple((u, m, r) for u in ("tflop", "seconds") for m in ("sd15", "organism") for r in (SAME, OTHER))
ATTRIBUTES = {"gender": ("man", "woman"), "tone": ("light", "dark")}

Estimates: TypeAlias = np.ndarray  # (concepts,), of the share of the second value
Estimate: TypeAlias = Callable[[Latents, str], Estimates]


class Cost(NamedTuple):
    """Whole and stopped forwards, pictures decoded and texts encoded."""

    full: int
    stopped: int
    decode: int
    encode: int

    def gflop(self, prices: dict[str, float]) -> float:
        """Compute at these prices, in GFLOP each."""
        return sum(n * prices[name] for name, n in self._asdict().items())


class Prices(NamedTuple):
    """GFLOP by kind of operation, and seconds by kind of sample."""

    gflop: dict[str, float]
    seconds: dict[str, float]


class Point(NamedTuple):
    """A way at one size: seeds of an audit, or pictures of each concept; samples of all concepts, and what they cost.

    `kind` of sample has the seconds. `estimates` holds one set by block, of one attribute.
    """

    way: str
    kind: str
    attribute: str
    size: int
    samples: int
    cost: Cost
    estimates: list[Estimates]


@dataclass(frozen=True)
class Way:
    """One way to rank concepts. `keep` and `templates` are a spec's keys. Variants are captured of a share of the
    concepts, `varied`, at so many seeds at most."""

    name: str
    reading: Reading
    keep: str
    templates: int
    estimate: Estimate
    variant_seeds: int = SEEDS
    varied: float = 1.0


def main() -> int:
    """Draws and captures what is missing, scores, prints, and returns the exit code."""
    first, last = _job("first"), _job("last")
    truth = pd.read_csv(SCORED / "truth.csv").set_index(["attribute", "concept"]).drawn
    captured = {"first": _captured(first), "last": _captured(last)}
    concepts = captured["first"]["text"].concepts
    points = [p for way in _ways() for p in _of_way(way, last if way.keep == "last" else first, captured)]
    points += _of_pictures(last, concepts)
    prices = {"organism": _own_prices(first, last), "sd15": _other_prices()}
    curves = [_scored(p, truth[p.attribute][list(concepts)].to_numpy(), prices) for p in points]
    reached = _all_reached(curves)
    marks = list(_marks(reached))
    told = {"seeds": SEEDS, "pictures": PICTURES, "prices": {name: p._asdict() for name, p in prices.items()}}
    rows = [mark.row() for mark in marks]
    text = json.dumps(told | {"curves": curves, "reached": reached, "marks": rows}, indent=1) + "\n"
    (RESULTS / "efficiency.json").write_text(text, encoding="utf-8")
    save_chart(curves, ASKED, ROOT / "docs" / "efficiency.png")
    _print(reached, marks)
    return int(not all(mark.ok for mark in marks))


# ---------------------------------------------------------------------------------------------------------- scalex


def _ways() -> Iterator[Way]:
    for reading, keep, what in (
        ("text", "first", "text reading"),
        ("picture", "first", "picture reading of the one-step x0"),
        ("picture", "last", "picture reading of the picture"),
    ):
        for direction in ("own", "shared", "lda"):
            yield Way(f"lean, {what}, {direction} direction", reading, keep, 2, _lean(direction))
        if reading == "picture":
            yield Way(f"rate, {what}", reading, keep, 2, _rate)
            for few in (SEEDS, FEW):
                name = f"{WHAT_IF}{what}, one template, " + (f"variants at {few} seeds, " if few < SEEDS else "")
                yield Way(f"{name}shared covariance", reading, keep, 1, _pooled(few), few)
            name = f"{WHAT_IF}{what}, one template, variants of {SOME} concepts"
            yield Way(name, reading, keep, 1, _carried, varied=SOME / 62)
        yield Way(f"lean, {what}, own direction, one template", reading, keep, 1, _lean("own"))


def _job(keep: str) -> Job:
    """The embedded organism's audit, which keeps this step of the picture reading."""
    asked = {"keep": {"text": "first", "picture": keep}, "attributes": list(ATTRIBUTES)}
    return prepare(seeds=SEEDS, analyses=["defaults", "rates"], **asked)


def _captured(job: Job) -> dict[Reading, Latents]:
    store = Store.open(SCORED / "store")
    recipes = fill(store, job.model, job.prompts, job.seeds, job.plan, _progress("captured")).recipes
    return {reading: store.read(recipe, job.prompts, job.seeds) for reading, recipe in recipes.items()}


def _of_way(way: Way, job: Job, captured: dict[str, dict[Reading, Latents]]) -> Iterator[Point]:
    latents = _templates(captured[way.keep][way.reading], job.spec.templates[: way.templates])
    plan = replace(job.plan, readings=(way.reading,))
    full, stopped = plan.resolve(job.model).forwards
    neutral = len(latents.concepts) * way.templates
    variants = round((len(latents.prompts) - neutral) * way.varied)
    for attribute in ATTRIBUTES:
        for size in SIZES:
            samples = neutral * size + variants * min(size, way.variant_seeds)
            cost = Cost(samples * full, samples * stopped, 0, neutral + variants + (way.reading == "picture"))
            found = [way.estimate(block, attribute) for block in blocks(latents, size)]
            yield Point(way.name, f"{way.reading}, {way.keep}", attribute, size, samples, cost, found)


def _templates(latents: Latents, chosen: Sequence[str]) -> Latents:
    """The latents of an audit with these templates alone."""
    rows = [i for i, p in enumerate(latents.prompts) if p.template in chosen]
    return replace(latents, values=latents.values[rows], prompts=tuple(latents.prompts[i] for i in rows))


def _lean(direction: defaults.Direction) -> Estimate:
    def estimate(latents: Latents, attribute: str) -> Estimates:
        values = ATTRIBUTES[attribute]
        along = defaults.lean_directions(latents, attribute, values, direction)
        leans = []
        for concept, one in zip(latents.concepts, along, strict=True):
            neutral = latents.of(concept).astype(np.float64)
            pair = variants_of(latents, concept, attribute, values)
            leans.append(float(defaults.lean_scores(neutral, *pair, one).mean()))
        return np.nan_to_num(np.array(leans), nan=0.0) + 0.5

    return estimate


def _pooled(variant_seeds: int) -> Estimate:
    """The lean along the concept's own difference, whitened by the covariance within the variants of all concepts."""

    def estimate(latents: Latents, attribute: str) -> Estimates:
        few = replace(latents, values=latents.values[:, :variant_seeds], seeds=latents.seeds[:variant_seeds])
        pairs = {a: np.stack([variants_of(few, c, a, v) for c in few.concepts]) for a, v in ATTRIBUTES.items()}
        within = np.concatenate([_flat(p - p.mean((2, 3), keepdims=True)) for p in pairs.values()])
        means = pairs[attribute].mean((2, 3))
        gaps, middles = means[:, 1] - means[:, 0], means.mean(1)
        along = np.linalg.solve(LedoitWolf(assume_centered=True).fit(within).covariance_, gaps.T).T
        places = np.stack([latents.of(c).mean((0, 1)) for c in latents.concepts]) - middles
        return (places * along).sum(1) / (gaps * along).sum(1) + 0.5

    return estimate


def _carried(latents: Latents, attribute: str) -> Estimates:
    """Along one discriminant for all concepts, learned from some concepts' variants and cut at their middle."""
    every = latents.concepts
    some = every[:: len(every) // SOME][:SOME]
    pairs = np.stack([variants_of(latents, c, attribute, ATTRIBUTES[attribute]) for c in some])
    means = pairs.mean((0, 2, 3))
    within = _flat(pairs - means[:, None, None])  # what varies between concepts counts as noise, too
    along = np.linalg.solve(LedoitWolf(assume_centered=True).fit(within).covariance_, means[1] - means[0])
    places = np.stack([latents.of(c).mean((0, 1)) for c in every]) - means.mean(0)
    return places @ along / ((means[1] - means[0]) @ along) + 0.5


def _flat(latents: np.ndarray) -> np.ndarray:
    return latents.reshape(-1, latents.shape[-1])


def _rate(latents: Latents, attribute: str) -> Estimates:
    shares = []
    for concept in latents.concepts:
        variants = variants_of(latents, concept, attribute, ATTRIBUTES[attribute])
        neutral = latents.of(concept).astype(np.float64)
        called = [rates.classify(samples, variants, rates.METHOD) for samples in (neutral, *variants)]
        shares.append(float(rates.share_estimate(called[0], np.stack(called[1:]))[1]))
    return np.array(shares)


# --------------------------------------------------------------------------------------------- generate and classify


def _of_pictures(job: Job, concepts: Sequence[str]) -> Iterator[Point]:
    steps, texts = job.plan.resolve(job.model).total, len(concepts) * len(job.spec.templates)
    rng = np.random.default_rng(0)
    others = np.array([rng.permutation(PICTURES) for _ in concepts])
    shown = _shown(job, concepts)
    for attribute in ATTRIBUTES:
        seen = shown[attribute].to_numpy().reshape(len(concepts), PICTURES)
        for way, labels in ((SAME, seen), (OTHER, np.take_along_axis(seen, others, axis=1))):
            for n in DRAWS:
                samples = n * len(concepts)
                cost = Cost(samples * steps, 0, samples, texts if n > 1 else len(concepts))
                found = [share_of_second(labels[:, i : i + n]) for i in range(0, PICTURES, n)]
                yield Point(way, "drawn", attribute, n, samples, cost, found)


def share_of_second(labels: np.ndarray) -> Estimates:
    """Of the pictures that show either value, the part that shows the second; one half where none does."""
    either, second = ((labels == 0) | (labels == 1)).sum(1), (labels == 1).sum(1)
    return np.where(either > 0, second / np.maximum(either, 1), 0.5)


def _shown(job: Job, concepts: Sequence[str]) -> pd.DataFrame:
    """What pictures show, by the exact readout: a row a concept (outer) and seed, templates in turn. Kept in parts."""
    DRAWN.mkdir(parents=True, exist_ok=True)
    progress = _progress("drawn")
    parts = []
    for start in range(0, PICTURES, PART):
        file = DRAWN / f"shown-{job.plan.recipes(job.model)['picture'].id}-{start}.csv"
        if not file.exists():
            viewer = Viewer(job.model, job.plan, Readout(load_truth(EMBEDDED), job.model), Tally(PICTURES, progress))
            write_atomic(file, _see(viewer, job.spec.templates, concepts, start).to_csv(index=False))
        parts.append(pd.read_csv(file))
    shown = pd.concat(parts)
    order = {concept: i for i, concept in enumerate(concepts)}
    return shown.assign(place=shown.concept.map(order)).sort_values(["place", "seed"])


def _see(viewer: Viewer, templates: Sequence[str], concepts: Sequence[str], start: int) -> pd.DataFrame:
    seeds = range(start, start + PART)
    samples = [(say(templates[seed % len(templates)], c), seed) for c in concepts for seed in seeds]
    seen = viewer.see(samples)
    names = [c for c in concepts for _ in seeds]
    return pd.DataFrame(
        {"concept": names, "seed": [seed for _, seed in samples], "gender": seen.genders, "tone": seen.tones}
    )


# ----------------------------------------------------------------------------------------------------------- scores


def _scored(point: Point, drawn: np.ndarray, prices: dict[str, Prices]) -> dict[str, Any]:
    """A point of a curve: mean over blocks, standard deviation, and what it cost."""
    rho = [float(np.nan_to_num(spearmanr(e, drawn)[0])) if np.ptp(e) else 0.0 for e in point.estimates]
    errors = [float(np.abs(np.clip(e, 0, 1) - drawn).mean()) for e in point.estimates]
    return {
        "way": point.way,
        "attribute": point.attribute,
        "size": point.size,
        "samples": point.samples,
        "blocks": len(rho),
        "spearman": statistics.mean(rho),
        "spread": statistics.stdev(rho) if len(rho) > 1 else None,
        "error": statistics.mean(errors),
        "tflop": {model: point.cost.gflop(price.gflop) / 1e3 for model, price in prices.items()},
        "seconds": {model: point.samples * price.seconds[point.kind] for model, price in prices.items()},
    }


def _all_reached(curves: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What it takes to reach each rank correlation, by way, attribute, unit and model; None where it is not reached."""
    rows = []
    for way, attribute in dict.fromkeys((c["way"], c["attribute"]) for c in curves):
        own = [c for c in curves if (c["way"], c["attribute"]) == (way, attribute)]
        for unit, model in itertools.product(("tflop", "seconds"), own[0]["tflop"]):
            points = [(c[unit][model], c["spearman"]) for c in own]
            reached = {f"{asked:g}": reached_at(points, asked) for asked in ASKED}
            rows.append({"way": way, "attribute": attribute, "unit": unit, "model": model, **reached})
    return rows


def reached_at(points: Sequence[tuple[float, float]], asked: float) -> float | None:
    """The least compute from which on the correlation stays at what is asked; of a curve that begins there, its
    beginning."""
    below = [i for i, (_, rho) in enumerate(points) if rho < asked]
    if not below:
        return points[0][0]
    if below[-1] == len(points) - 1:
        return None
    (x, low), (y, high) = points[below[-1]], points[below[-1] + 1]
    return math.exp(math.log(x) + (asked - low) / (high - low) * math.log(y / x))


def _marks(reached: Sequence[dict[str, Any]]) -> Iterator[Mark]:
    """The cheapest way of scalex against generate-and-classify. What only one side reaches has no ratio."""
    for attribute in ATTRIBUTES:
        for asked in (f"{one:g}" for one in ASKED):
            for unit, model, rival in RATIOS:
                own = [r for r in reached if (r["attribute"], r["unit"], r["model"]) == (attribute, unit, model)]
                base = next(r[asked] for r in own if r["way"] == rival)
                ours = [r[asked] for r in own if r["way"].startswith(("lean", "rate")) and r[asked]]
                least = min(ours, default=None)
                ratio = least / base if least and base else math.nan
                where = "Stable Diffusion 1.5" if model == "sd15" else "the organism"
                name = f"efficiency, {attribute}: {unit} to reach Spearman {asked} at {where}'s prices, against {rival}"
                yield Mark(name, ratio, MOST if (unit, model, rival) == RATIOS[0] else None, at_most=True)


def _other_prices() -> Prices:
    """Of Stable Diffusion 1.5. A finished picture is read after three more whole forwards than that of one step."""
    told = json.loads((RESULTS / "speed-cpu-sd15.json").read_text(encoding="utf-8"))
    each = {name: row["seconds"] for name, row in told["rows"].items()}
    finished = each["picture"] + 3 * each["hooked"]
    kinds = {"text, first": each["text"], "picture, first": each["picture"], "picture, last": finished}
    return Prices(told["gflop"], kinds | {"drawn": each["lcm"]})


def _own_prices(first: Job, last: Job, samples: int = 64, repeats: int = 3) -> Prices:
    """Of the organism, here: seconds are medians of interleaved repeats, after one that warms up."""
    some: list[Sample] = first.samples[:samples]

    def read(job: Job, reading: Reading) -> Callable[[], object]:
        return lambda: capture(job.model, some, replace(job.plan, readings=(reading,)), lambda *_: None)

    ways = {
        "text, first": read(first, "text"),
        "picture, first": read(first, "picture"),
        "picture, last": read(last, "picture"),
        "drawn": lambda: generate(last.model, some, last.plan),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            took[name].append((time.perf_counter() - began) / samples)
    gflop = {name: n / 1e9 for name, n in first.model.flops().items()}
    return Prices(gflop, {name: statistics.median(each[1:]) for name, each in took.items()})


def _print(reached: Sequence[dict[str, Any]], marks: Sequence[Mark]) -> None:
    chosen = [row for row in reached if (row["unit"], row["model"]) == ("tflop", "sd15")]
    table = pd.DataFrame(chosen).drop(columns=["unit", "model"])
    print("TFLOP to reach a rank correlation, at Stable Diffusion 1.5's prices")
    print(table.to_string(index=False, float_format="{:.0f}".format, na_rep="not reached"))
    for mark in marks:
        said = "" if mark.mark is None else "ok" if mark.ok else "MISSED"
        print(f"{said:6} {mark.value:6.2f} {mark.asked:7} {mark.name}")


def _progress(what: str) -> Callable[[int, int], None]:
    return lambda done, total: print(f"\r{what} {done} of {total}", end="\n" if done == total else "", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
