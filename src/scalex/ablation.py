"""Targeted ablation: pictures drawn with something switched off at the probe say what leaves and what stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, UInt8
from PIL import Image

from scalex import stats
from scalex.capture import Plan, Progress, Steer
from scalex.disk import disk_errors, write_atomic
from scalex.drawings import Drawings
from scalex.errors import ScalexError
from scalex.models import Model
from scalex.records import Prompt, Rules
from scalex.report.grid import grid, save_grid
from scalex.scorers import AttributeScorer, scored

__all__ = ["NOTHING", "Ablation", "Scorers", "ablate"]

NOTHING, PICTURE = "(none of these)", "picture"
_AT_ONCE = 256  # pictures between two reports of progress
_SHOWN, _ROWS = 4, 16  # pictures of each prompt in the grid, and prompts

Pictures: TypeAlias = UInt8[np.ndarray, "n height width 3"]
Scorers: TypeAlias = Callable[[str], Sequence[AttributeScorer]]
"""The scorers of a concept's pictures."""


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
    scorers: Sequence[AttributeScorer] | Scorers = (),
    *,
    rules: Rules | None = None,
    drawings: Drawings | None = None,
    progress: Progress | None = None,
) -> Ablation:
    """Draws the pictures of prompts as they are and with something switched off, from the same noise, and reads both.

    Args:
        off: by name what is switched off: `Ablate`, `Erase`, or another edit, such as that of random latents.
        scorers: of the attributes to look at, for all pictures or by concept. One whose attribute is "concept" is asked
            for each prompt's own concept.
        drawings: where pictures are kept, and found again. progress: called with pictures done and to do.

    Raises:
        ScalexError: there are fewer seeds than an interval takes, no prompts, or as generating and scorers raise.
    """
    if not prompts or not off:
        raise ScalexError("there is nothing to switch off, or no prompt to try it on", "Name latents and concepts")
    rules = rules or Rules()
    stats.resampling_plan(1, len(seeds), 1, np.random.default_rng(0))  # too few seeds are said before anything is drawn
    drawn = _Drawn(prompts, seeds, scorers if callable(scorers) else lambda _: scorers)
    _draw(model, plan, off, drawn, drawings or Drawings(), progress)
    groups = _groups(prompts).items()
    rows = [row for group, places in groups for name in off for row in _rows(drawn, name, group, places, rules)]
    return Ablation(pd.DataFrame(rows), drawn.shown)


def _rows(drawn: _Drawn, name: str, group: str, places: Sequence[int], rules: Rules) -> Iterator[dict[str, Any]]:
    """A row for all that was read of a group of prompts, with one thing off."""
    for (attribute, value), (before, after) in drawn.readings(name).items():
        kept = [i for i in places if not np.isnan(before[i]).all()]
        if kept:
            told = {"off": name, "prompts": group, "attribute": attribute, "value": value}
            yield told | _row(before[kept], after[kept], rules, attribute)


def _groups(prompts: Sequence[Prompt]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for i, p in enumerate(prompts):
        found.setdefault(f"{p.attribute}={p.value}" if p.attribute else "neutral", []).append(i)
    return found


def _row(
    before: Float[np.ndarray, "concepts seeds"],
    after: Float[np.ndarray, "concepts seeds"],
    rules: Rules,
    attribute: str,
) -> dict[str, Any]:
    change = after - before
    rng = np.random.default_rng(rules.seed)
    plan = stats.resampling_plan(len(change), change.shape[1], rules.resamples, rng)
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

    def __init__(self, prompts: Sequence[Prompt], seeds: Sequence[int], scorers: Scorers) -> None:
        self._prompts, self._seeds, self._scorers = prompts, seeds, scorers
        self.samples = [(p.text, seed) for p in prompts for seed in seeds]
        self._concepts = np.array([p.concept for p in prompts for _ in seeds])
        self._found: dict[tuple[str, str, str], Float[np.ndarray, "samples"]] = {}
        self.shown: dict[str, dict[str, Pictures]] = {}

    def add(self, start: int, name: str, pictures: Pictures, plain: Pictures) -> None:
        """The pictures of samples from `start` on, with something off (or "" for nothing)."""
        distance = np.sqrt(((pictures.astype(np.float32) - plain) ** 2).mean((1, 2, 3))) / 255
        self._put(np.arange(start, start + len(pictures)), (name, PICTURE, "distance"), distance)
        concepts = self._concepts[start : start + len(pictures)]
        for concept in dict.fromkeys(concepts.tolist()):
            own = np.flatnonzero(concepts == concept)
            for scorer in self._scorers(concept):
                shares = np.nan_to_num(scored(scorer, pictures[own]))  # what shows nobody shows none of the values
                for what, column in _columns(scorer, shares, concept):
                    self._put(start + own, (name, *what), column)
        self._show(start, name, pictures)

    def _put(self, places: Int[np.ndarray, "n"], key: tuple[str, str, str], values: Float[np.ndarray, "n"]) -> None:
        self._found.setdefault(key, np.full(len(self.samples), np.nan))[places] = values

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


def _columns(
    scorer: AttributeScorer, shares: Float[np.ndarray, "n values"], concept: str
) -> Iterator[tuple[tuple[str, str], Float[np.ndarray, "n"]]]:
    """What a scorer says of a concept's pictures, by attribute and value; of concepts the pictures' own alone."""
    if scorer.attribute == "concept":
        if concept in scorer.values:
            yield ("concept", "own"), shares[:, scorer.values.index(concept)]
        return
    for column, value in enumerate(scorer.values):
        yield (scorer.attribute, value), shares[:, column]
    yield (scorer.attribute, NOTHING), 1 - shares.sum(1)


def _draw(
    model: Model,
    plan: Plan,
    off: Mapping[str, Steer],
    drawn: _Drawn,
    drawings: Drawings,
    progress: Progress | None,
) -> None:
    """All pictures, some at a time."""
    samples, done = drawn.samples, 0
    for start in range(0, len(samples), _AT_ONCE):
        some = samples[start : start + _AT_ONCE]
        plain = drawings.pictures(model, some, plan)
        for name, steer in {"": None, **off}.items():
            drawn.add(start, name, plain if steer is None else drawings.pictures(model, some, plan, steer), plain)
            done += len(some)
            if progress:
                progress(done, len(samples) * (1 + len(off)))


def _grid(shown: Mapping[str, Mapping[str, Pictures]]) -> Image.Image:
    """A row a prompt; the first pictures as they are, then the same ones with something off."""
    rows = [[picture for pictures in own.values() for picture in pictures] for own in shown.values()]
    firsts = [name or "as it is" for name in next(iter(shown.values()))]
    each = [len(pictures) for pictures in next(iter(shown.values())).values()]
    columns = [label for name, n in zip(firsts, each) for label in (name, *[""] * (n - 1))]
    return grid(rows, list(shown), columns)
