"""Directions found without prompts, each in the words of the spec where one fits, saved as files with a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scalex import discovery, scratch
from scalex.analyses.naming import UNFIT, Naming, namings
from scalex.capture import Keep, Progress
from scalex.direction_files import Direction, averaged, save_direction
from scalex.discovery import Found, Material
from scalex.disk import disk_errors, write_atomic
from scalex.engine import Fill, fill
from scalex.errors import ScalexError, resumable
from scalex.jobs import Job
from scalex.records import READINGS, Latents, Prompt, Role, Rules
from scalex.store import Store
from scalex.wording import did_you_mean

__all__ = ["TABLE", "Discovered", "discover_directions", "names_of", "write_table"]

TABLE = "directions"
"""The name of the table, without its suffix."""

_SEEDS = 8  # that words are read with, at most: names are of their means


@dataclass(frozen=True, eq=False)
class Discovered:
    """What was found.

    Attributes:
        found: directions, method by method. namings: of each, as a mean over the map.
        table: one row a direction: `name`, `method`, `share` and what it is a `share_of`, `reading`, `step` (from 1),
            `pooling`, `words` (empty where none fits), `nearest` (the best word or pair, whether or not it is a name),
            `cosine` and `p` of that one, `named_as` (the pooling of the latents that it was named in), `in_mean` (how
            much of its squared length its mean over the map keeps: of that alone speaks a name by means), `reason`,
            `file`.
        folder: of the files.
    """

    found: Sequence[Found]
    namings: Sequence[Naming]
    table: pd.DataFrame
    folder: Path


def discover_directions(
    job: Job,
    out: str | Path,
    methods: Sequence[str],
    n: int = 16,
    *,
    reading: str = "picture",
    keep: Keep = "last",
    pooling: str = "full",
    store: str | Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    engine: Fill = fill,
) -> Discovered:
    """Finds directions, names them, and saves them in a folder: one file a direction, and `directions.csv` and `.json`.

    Args:
        job: its neutral prompts of concepts are what is learned from; these, and its words, give names.
        out: the folder. methods: as `scalex.discovery.available` lists them. n: directions of each, at each kept step.
        reading, keep, pooling: of the latents, as for `scalex.discovery.material`.
        store: of the latents; by default in the folder. seed: of what methods draw.
        progress: called with samples captured and to capture. engine: what captures.

    Raises:
        ScalexError: there is no such method or reading, not so many directions, or as capturing and the store raise.
    """
    folder = Path(out)
    for method in methods:
        discovery.method(method)  # before anything is captured
    discovery.check_count(n, discovery.MOST, "")
    if reading not in READINGS:
        raise ScalexError(f"there is no reading {reading!r}", did_you_mean(reading, READINGS, "Readings"))
    with disk_errors(folder, option="--out"):
        folder.mkdir(parents=True, exist_ok=True)
    held = Store.open(store or folder / "store")
    seen = discovery.material(job, held, reading=reading, keep=keep, pooling=pooling, progress=progress, engine=engine)
    with resumable(f"what was captured is kept in {held.address}"):
        found = [one for name in dict.fromkeys(methods) for one in discovery.discover(seen, name, n, seed)]
        named = names_of(job, seen, [one.direction for one in found])
    files = [save_direction(one.direction, folder / _file(one.direction)).name for one in found]
    channels, level = seen.model.probe_shape[0], job.spec.rules.level
    rows = [_row(*each, channels, level) for each in zip(found, named, files, strict=True)]
    table = pd.DataFrame(rows)
    write_table(table, folder)
    return Discovered(found, named, table, folder)


def names_of(job: Job, seen: Material, found: Sequence[Direction]) -> list[Naming]:
    """Names in the job's words and concepts, or none that fits.

    Maps are named as maps, where those of all words fit into the budget of memory (see `scalex.scratch`); else, and
    where they are of other latents than the material's, by their means over the map.

    Raises:
        ScalexError: as capturing and the store raise.
    """
    prompts = (*_neutral(job, "concept"), *_neutral(job, "word"))
    whole = replace(seen, prompts=prompts, seeds=seen.seeds[:_SEEDS]).latents()
    channels, rules = seen.model.probe_shape[0], job.spec.rules
    means = _means(whole, channels)
    fits = whole.values.nbytes <= scratch.budget()
    named: dict[int, Naming] = {}
    for step in whole.steps:
        for latents, in_whole in ((whole, True), (means, False)):
            places = [
                i
                for i, d in enumerate(found)
                if d.of.step == step and (fits and d.of.pooling == seen.plan.pooling) == in_whole
            ]
            own = [found[i] if in_whole else averaged(found[i], channels)[0] for i in places]
            named.update(zip(places, _named(own, latents, rules, step), strict=True))
    return [named[i] for i in range(len(found))]


def _named(own: list[Direction], latents: Latents, rules: Rules, step: int) -> list[Naming]:
    if not own:
        return []
    try:
        return namings(own, latents, rules, step=latents.steps.index(step), top=1)
    except ScalexError as error:  # nothing to name them in
        return [Naming(direction, reason=error.wrong) for direction in own]


def _neutral(job: Job, role: Role) -> list[Prompt]:
    return [p for p in job.prompts if p.role == role and not p.attribute]


def _means(latents: Latents, channels: int) -> Latents:
    """Latents of maps as those of their means."""
    shape = (*latents.values.shape[:3], channels)
    values = scratch.array(shape, np.float32)
    for rows in scratch.blocks(latents.values):
        block = latents.values[rows]
        values[rows] = block.reshape(*block.shape[:3], channels, -1).mean(-1)
    return replace(latents, values=values)


# ---------------------------------------------------------------------------------------------------- files


def _row(found: Found, naming: Naming, file: str, channels: int, level: float) -> dict[str, Any]:
    of, best = found.direction.of, naming.best
    return {
        "name": of.name,
        "method": of.origin,
        "share": found.share,
        "share_of": discovery.method(of.origin).SHARE,
        "reading": of.reading,
        "step": of.step + 1,
        "pooling": of.pooling,
        "words": naming.words if naming.named(level) else "",
        "nearest": naming.words,
        "cosine": best.cosine if best else np.nan,
        "p": best.p if best else np.nan,
        "named_as": naming.direction.of.pooling,
        "in_mean": averaged(found.direction, channels)[1],
        "reason": naming.reason or ("" if naming.named(level) else UNFIT),
        "file": file,
    }


def _file(direction: Direction) -> str:
    return "-".join(direction.name.replace(",", "").split()) + ".safetensors"


def write_table(table: pd.DataFrame, folder: Path, name: str = TABLE) -> None:
    """Writes a table beside the directions, as CSV and as JSON.

    Raises:
        ScalexError: the folder cannot be written to.
    """
    with disk_errors(folder, option="--out"):
        write_atomic(folder / f"{name}.csv", table.to_csv(index=False))
        write_atomic(folder / f"{name}.json", table.to_json(orient="records", indent=1, force_ascii=False))
