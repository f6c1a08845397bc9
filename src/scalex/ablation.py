"""Targeted ablation: latents or directions switched off while pictures are made, and what leaves and what stays.

A latent of a sparse autoencoder is switched off by taking away what it adds, f_i(x) d_i, and nothing else: what the
dictionary does not explain stays in place. (RecSAE does so in recommenders; Marks et al. 2024, arXiv 2403.19647, for
why the error is kept.)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from scalex import stats
from scalex.capture import Edit, Plan, Progress, Sample, Steer, generate
from scalex.direction_files import load_direction
from scalex.discovery.sparse_autoencoder import Origin, SparseAutoencoder, Trained, best_latents, open_trained
from scalex.disk import disk_errors, write_atomic
from scalex.errors import ScalexError
from scalex.jobs import Job
from scalex.models import Model
from scalex.organisms import EMBEDDED
from scalex.organisms.readout import PLANTED, Readout, load_truth
from scalex.records import Prompt, Rules
from scalex.report.grid import grid, save_grid
from scalex.scorers import AttributeScorer, scored
from scalex.scorers.exact import Exact
from scalex.steering import MOST, Erase, check_steers
from scalex.wording import did_you_mean

__all__ = ["Ablate", "Ablation", "ablate", "check_switches", "exact_scorers", "random_latents", "switch_off"]

_EXACT = ("gender", "tone")  # what an organism's exact readout knows, beside concepts
NOTHING, PICTURE = "(none of these)", "picture"
_AT_ONCE = 256  # pictures between two reports of progress
_SHOWN, _ROWS = 4, 16  # pictures of each prompt in the grid, and prompts
_CONCEPTS = 8  # that are tried by default

Values: TypeAlias = Float[torch.Tensor, "n c h w"]
Pictures: TypeAlias = UInt8[np.ndarray, "n height width 3"]


@dataclass(frozen=True, eq=False)
class Ablate:
    """Switches latents of a sparse autoencoder off at the probe, where it was trained: at each position of the map, in
    each cell of a grid, or in the mean over the map. Where no latent is named, or none is on, the value stays as it is.

    Attributes:
        of: where the autoencoder comes from; its pooling says what it reads. steps: as for `Push`.
        scale: what the latents are multiplied by: 0 switches them off, less than 0 turns them round (SAeUron, Cywiński
            and Deja 2025, arXiv 2501.18052, does so to unlearn), more than 1 makes them stronger.

    Raises:
        ScalexError: there is no such latent, or the scale is no number or beyond 100.
    """

    sae: SparseAutoencoder
    latents: Sequence[int]
    of: Origin = field(default_factory=Origin)
    steps: Collection[int] | None = None
    scale: float = 0.0

    def __post_init__(self) -> None:
        self.sae.check_latents(self.latents)
        if not abs(self.scale) <= MOST:
            raise ScalexError(f"the scale of latents is {self.scale}", f"0 is off; from -{MOST:g} to {MOST:g}")

    def __call__(self, samples: Sequence[Sample]) -> Edit:
        """The edit, the same for all samples."""

        def off(value: Values, step: int) -> Values:
            if not self.latents or self.scale == 1 or (self.steps is not None and step not in self.steps):
                return value
            return (value.float() - (1 - self.scale) * self._added(value)).to(value.dtype)

        return off

    def _added(self, value: Values) -> Values:
        """What the latents add to a value, as a map of its shape."""
        grid, size = self.of.grid, value.shape[2:]
        if value.shape[1] != self.sae.width:
            wrong = f"the sparse autoencoder is {self.sae.width} wide, and the probe gives {value.shape[1]} channels"
            raise ScalexError(wrong, "Train one at this probe")
        cells = value.float() if grid is None else torch.nn.functional.adaptive_avg_pool2d(value.float(), grid)
        vectors = cells.movedim(1, -1)
        added = self.sae.to(value.device).contribution(vectors, self.latents).movedim(-1, 1)
        return added if grid is None else torch.nn.functional.interpolate(added, size=size, mode="nearest")


def check_switches(sae: SparseAutoencoder, of: Origin, model: Model) -> None:
    """Raises ScalexError where a sparse autoencoder is of another model, probe or width. What is not known fits."""
    for what, own, other in (("model", of.model[:12], model.fingerprint[:12]), ("probe", of.probe, model.probe)):
        if own and other and own != other:
            wrong = f"the sparse autoencoder was trained on another {what} ({own}, not {other})"
            raise ScalexError(wrong, f"Train one on this {what}")
    if sae.width != model.probe_shape[0]:
        wrong = f"the sparse autoencoder is {sae.width} wide, and the probe gives {model.probe_shape[0]} channels"
        raise ScalexError(wrong, "Train one at this probe")


def random_latents(density: Float[np.ndarray, "latents"], chosen: Sequence[int], rng: np.random.Generator) -> list[int]:
    """As many other latents, each drawn among the ten that are on about as often as one that was chosen.

    Raises:
        ScalexError: there are not as many others.
    """
    left = [i for i in range(len(density)) if i not in set(chosen) and density[i] > 0]
    if len(left) < len(chosen):
        raise ScalexError(f"there are {len(left)} other latents for {len(chosen)} chosen ones", "Choose fewer")
    found: list[int] = []
    for one in chosen:
        near = sorted(left, key=lambda other: abs(density[other] - density[one]))[:10]
        found.append(int(rng.choice(near)))
        left.remove(found[-1])
    return found


# ---------------------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True, eq=False)
class Ablation:
    """What leaves and what stays.

    Attributes:
        table: one row for what was switched `off`, the group of `prompts` ("neutral", "gender=woman"), and `attribute`
            and `value`: the share of pictures that show it `before` and `after`, the `change` with `low` and `high`
            (paired by seed), a `verdict` ("leaves", "comes", "stays", "undecided"), a `reason`, and how many concepts
            and seeds are behind it. Attribute "concept" asks whether the picture still shows the prompt's own concept;
            "picture" is the root-mean-square distance between the two pictures, from 0 to 1.
        shown: the first pictures, by text and by what is off ("" for nothing).
    """

    table: pd.DataFrame
    shown: Mapping[str, Mapping[str, Pictures]]

    def save(self, folder: str | Path) -> Path:
        """Writes `ablation.csv` and `ablation.png`. Returns the folder.

        Raises:
            ScalexError: it cannot be written to.
        """
        place = Path(folder)
        save_grid(_grid(self.shown), place / "ablation.png")
        with disk_errors(place, option="--out"):
            write_atomic(place / "ablation.csv", self.table.to_csv(index=False))
        return place


def ablate(
    model: Model,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    plan: Plan,
    off: Mapping[str, Steer],
    scorers: Sequence[AttributeScorer] = (),
    *,
    rules: Rules | None = None,
    progress: Progress | None = None,
) -> Ablation:
    """Draws the pictures of prompts as they are and with something switched off, from the same noise, and reads both.

    Args:
        off: by name what is switched off: `Ablate`, `Erase`, or another edit, such as that of random latents.
        scorers: of the attributes to look at. One whose attribute is "concept" is asked for each prompt's own concept.
        progress: called with pictures done and to do.

    Raises:
        ScalexError: there are fewer seeds than an interval takes, no prompts, or as generating and scorers raise.
    """
    if not prompts or not off:
        raise ScalexError("there is nothing to switch off, or no prompt to try it on", "Name latents and concepts")
    rules = rules or Rules()
    stats.resampling_plan(1, len(seeds), 1, np.random.default_rng(0))  # too few seeds are said before anything is drawn
    drawn = _draw(model, prompts, seeds, plan, off, scorers, progress)
    rows: list[dict[str, Any]] = []
    for group, places in _groups(prompts).items():
        rng = np.random.default_rng(rules.seed)
        resampling = stats.resampling_plan(len(places), len(seeds), rules.resamples, rng)
        for name in off:
            for what, (before, after) in drawn.readings(name).items():
                kept = [i for i in places if not np.isnan(before[i]).all()]
                if kept:
                    again = resampling if len(kept) == len(places) else _plan(len(kept), len(seeds), rules)
                    told = dict(zip(("off", "prompts", "attribute", "value"), (name, group, *what)))
                    rows.append(told | _row(before[kept], after[kept], again, rules, what[0]))
    return Ablation(pd.DataFrame(rows), drawn.shown)


def _plan(concepts: int, seeds: int, rules: Rules) -> stats.ResamplingPlan:
    return stats.resampling_plan(concepts, seeds, rules.resamples, np.random.default_rng(rules.seed))


def _groups(prompts: Sequence[Prompt]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for i, p in enumerate(prompts):
        found.setdefault(f"{p.attribute}={p.value}" if p.attribute else "neutral", []).append(i)
    return found


def _row(
    before: Float[np.ndarray, "concepts seeds"],
    after: Float[np.ndarray, "concepts seeds"],
    plan: stats.ResamplingPlan,
    rules: Rules,
    attribute: str,
) -> dict[str, Any]:
    change = after - before
    low, high = stats.bootstrap_interval(plan, change, rules.level)
    verdict, reason = _verdict(float(change.mean()), low, high, rules.margin, attribute)
    note = stats.template_note(len(change)).replace("template", "concept") if plan.templates_fixed else ""
    ends = {"before": float(before.mean()), "after": float(after.mean()), "change": float(change.mean())}
    told = {"low": low, "high": high, "verdict": verdict, "reason": "; ".join(filter(None, (reason, note)))}
    return ends | told | {"n_concepts": len(change), "n_seeds": change.shape[1]}


def _verdict(change: float, low: float, high: float, margin: float, attribute: str) -> tuple[str, str]:
    """What a change says, and why."""
    if attribute == PICTURE:
        return "", "a distance, not a share"
    if np.isnan(low):
        return ("stays" if change == 0 else "undecided"), "all pictures say the same: there is no interval"
    if -margin < low and high < margin:
        return "stays", f"the interval lies within {margin:g} of no change"
    if low > 0 or high < 0:
        return ("comes" if low > 0 else "leaves"), "the interval leaves out no change"
    return "undecided", "more seeds would decide"


class _Drawn:
    """Readings of pictures as they are drawn: by what is off, attribute and value."""

    def __init__(self, prompts: Sequence[Prompt], seeds: Sequence[int], scorers: Sequence[AttributeScorer]) -> None:
        self._prompts, self._seeds, self._scorers = prompts, seeds, scorers
        self._found: dict[tuple[str, str, str], Float[np.ndarray, "samples"]] = {}
        self.shown: dict[str, dict[str, Pictures]] = {}

    def add(self, start: int, name: str, pictures: Pictures, plain: Pictures) -> None:
        """The pictures of samples from `start` on, with something off (or "" for nothing)."""
        distance = np.sqrt(((pictures.astype(np.float32) - plain) ** 2).mean((1, 2, 3))) / 255
        self._put(start, (name, PICTURE, "distance"), distance)
        for scorer in self._scorers:
            shares = np.nan_to_num(scored(scorer, pictures))  # what shows nobody shows none of the values
            if scorer.attribute == "concept":
                self._put(start, (name, "concept", "own"), self._own(start, shares, scorer.values))
                continue
            for column, value in enumerate(scorer.values):
                self._put(start, (name, scorer.attribute, value), shares[:, column])
            self._put(start, (name, scorer.attribute, NOTHING), 1 - shares.sum(1))
        self._show(start, name, pictures)

    def _own(self, start: int, shares: Float[np.ndarray, "n values"], values: Sequence[str]) -> Float[np.ndarray, "n"]:
        """The share of each prompt's own concept; NaN where the scorer does not know it."""
        at = {value: column for column, value in enumerate(values)}
        own = [at.get(self._prompts[(start + i) // len(self._seeds)].concept) for i in range(len(shares))]
        return np.array([np.nan if column is None else row[column] for row, column in zip(shares, own)])

    def _put(self, start: int, key: tuple[str, str, str], values: Float[np.ndarray, "n"]) -> None:
        total = len(self._prompts) * len(self._seeds)
        self._found.setdefault(key, np.full(total, np.nan))[start : start + len(values)] = values

    def _show(self, start: int, name: str, pictures: Pictures) -> None:
        each = len(self._seeds)
        for i, picture in enumerate(pictures):
            prompt, seed = divmod(start + i, each)
            if prompt < _ROWS and seed < _SHOWN:
                held = self.shown.setdefault(self._prompts[prompt].text, {})
                held[name] = np.concatenate([held[name], picture[None]]) if name in held else picture[None]

    def readings(self, name: str) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
        """By attribute and value, (prompts, seeds) before and after."""
        shape = (len(self._prompts), len(self._seeds))
        keys = [key[1:] for key in self._found if key[0] == name]
        return {key: tuple(self._found[(n, *key)].reshape(shape) for n in ("", name)) for key in keys}  # type: ignore[misc]


def _draw(
    model: Model,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    plan: Plan,
    off: Mapping[str, Steer],
    scorers: Sequence[AttributeScorer],
    progress: Progress | None,
) -> _Drawn:
    """All pictures, some at a time."""
    samples = [(p.text, seed) for p in prompts for seed in seeds]
    drawn, done = _Drawn(prompts, seeds, scorers), 0
    for start in range(0, len(samples), _AT_ONCE):
        some = samples[start : start + _AT_ONCE]
        plain = generate(model, some, plan)
        for name, steer in {"": None, **off}.items():
            drawn.add(start, name, plain if steer is None else generate(model, some, plan, steer), plain)
            done += len(some)
            if progress:
                progress(done, len(samples) * (1 + len(off)))
    return drawn


# ---------------------------------------------------------------------------------------------------- of a job


def switch_off(
    job: Job,
    folder: str | Path | None = None,
    *,
    latents: Sequence[int] = (),
    attribute: str | None = None,
    value: str | None = None,
    top: int = 5,
    scale: float = 0.0,
    directions: Sequence[str | Path] = (),
    concepts: Sequence[str] | None = None,
    scorers: Sequence[AttributeScorer] | None = None,
    progress: Progress | None = None,
) -> Ablation:
    """Switches off what is named and says what leaves and what stays, beside as many random latents.

    Tried on the neutral prompts of concepts and, where an attribute is named, on those that say its values.

    Args:
        folder: of a sparse autoencoder, whose latents are meant. latents: by number; none for the `top` ones whose
            activation tells `value` of `attribute` best from its other values.
        scale: what latents are multiplied by, as for `Ablate`. directions: files of directions to erase, too.
        concepts: of the job's spec; None is the first eight. scorers: None is the exact readout of an organism, and
            nothing for other models.
        progress: called with pictures done and to do.

    Raises:
        ScalexError: nothing is named, what is named is not there or does not fit the model, or as `ablate`.
    """
    off: dict[str, Steer] = {}
    if folder is not None:
        off |= _latents_off(job, open_trained(folder), _named(latents, attribute, value, top), scale)
    for file in directions:
        direction = load_direction(file)
        check_steers(direction, job.model)
        off[direction.name] = Erase(direction)
    prompts = _tried(job, attribute, concepts)
    readouts = exact_scorers(job) if scorers is None else scorers
    rules = job.spec.rules
    return ablate(job.model, prompts, job.seeds, job.plan, off, readouts, rules=rules, progress=progress)


class _Choice(NamedTuple):
    """Which latents to switch off."""

    latents: Sequence[int]
    attribute: str
    value: str
    top: int

    def of(self, trained: Trained) -> tuple[list[int], str]:
        """Their numbers, and what to call them."""
        if self.latents:
            return trained.sae.check_latents(self.latents), f"latents {', '.join(map(str, self.latents))}"
        chosen = best_latents(trained, self.attribute, self.value, self.top)
        return chosen, f"{len(chosen)} latents of {self.attribute}={self.value}"


def _named(latents: Sequence[int], attribute: str | None, value: str | None, top: int) -> _Choice:
    if not latents and not (attribute and value):
        raise ScalexError("no latents are named", "Give --latent, or --attribute and --value to find them")
    return _Choice(latents, attribute or "", value or "", top)


def _latents_off(job: Job, trained: Trained, choice: _Choice, scale: float) -> dict[str, Steer]:
    """The latents that were named or found, and as many random ones."""
    check_switches(trained.sae, trained.of, job.model)
    chosen, name = choice.of(trained)
    told = trained.table.drop_duplicates("latent").set_index("latent")["density"]
    density = told.reindex(range(trained.sae.latents)).fillna(0.0).to_numpy(np.float64)
    turned = f" x {scale:g}" if scale else ""
    found: dict[str, Steer] = {f"{name}{turned}": Ablate(trained.sae, chosen, trained.of, scale=scale)}
    if density.any():
        others = random_latents(density, chosen, np.random.default_rng(job.spec.rules.seed))
        found[f"{len(others)} random latents{turned}"] = Ablate(trained.sae, others, trained.of, scale=scale)
    return found


def _tried(job: Job, attribute: str | None, concepts: Sequence[str] | None) -> list[Prompt]:
    """The prompts in their first template: of each concept the neutral one, then the attribute's variants."""
    own = [p for p in job.prompts if p.role == "concept" and p.attribute in ("", attribute)]
    known = list(dict.fromkeys(p.concept for p in own))
    chosen = known[:_CONCEPTS] if concepts is None else list(concepts)
    for concept in chosen:
        if concept not in known:
            raise ScalexError(f"the spec has no concept {concept!r}", did_you_mean(concept, known, "Concepts"))
    if attribute is not None and attribute not in job.spec.attribute_values:
        way_out = did_you_mean(attribute, job.spec.attribute_values, "Attributes")
        raise ScalexError(f"the spec has no attribute {attribute!r}", way_out)
    first = [p for p in own if p.template == own[0].template and p.concept in chosen]
    return sorted({p.text: p for p in first}.values(), key=lambda p: (chosen.index(p.concept), p.attribute, p.value))


def exact_scorers(job: Job) -> list[AttributeScorer]:
    """The exact readouts of an organism: its attributes that the spec names, and its concepts. None of other models."""
    folder = EMBEDDED if job.spec.model is None else Path(str(job.spec.model))
    if not (folder / PLANTED).is_file():
        return []
    readout = Readout(load_truth(folder), job.model)
    names = {shown.name for shown in readout.truth.shown}
    concepts = tuple(dict.fromkeys(p.concept for p in job.prompts if p.concept in names))
    known = [(name, tuple(values)) for name, values in job.spec.attribute_values.items() if name in _EXACT]
    chosen = [Exact(readout, name, values) for name, values in (*known, ("concept", concepts)) if values]
    return list(chosen)


def _grid(shown: Mapping[str, Mapping[str, Pictures]]) -> Image.Image:
    """A row a prompt; the first pictures as they are, then the same ones with something off."""
    rows = [[picture for pictures in own.values() for picture in pictures] for own in shown.values()]
    firsts = [name or "as it is" for name in next(iter(shown.values()))]
    each = [len(pictures) for pictures in next(iter(shown.values())).values()]
    columns = [label for name, n in zip(firsts, each) for label in (name, *[""] * (n - 1))]
    return grid(rows, list(shown), columns)
