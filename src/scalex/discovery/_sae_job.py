"""From a job to a trained sparse autoencoder in a folder, with what each latent tells apart."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Float32, Int
from scipy.stats import rankdata

from scalex.capture import Progress
from scalex.discovery._sae import SparseAutoencoder
from scalex.discovery._sae_files import Origin, load_sae, save_sae
from scalex.discovery._sae_streams import StoreStream, Stream, held_out
from scalex.discovery._sae_training import Quality, Settings, train
from scalex.disk import disk_errors, write_atomic
from scalex.engine import Fill, fill
from scalex.errors import ScalexError
from scalex.jobs import Job
from scalex.plan import Keep
from scalex.records import Prompt, Reading
from scalex.store import Store
from scalex.wording import did_you_mean

__all__ = ["TABLE", "Trained", "activations", "best_latents", "open_trained", "separations", "train_on"]

TABLE = "latents.csv"


@dataclass(frozen=True, eq=False)
class Trained:
    """A sparse autoencoder in a folder.

    Attributes:
        table: one row a latent and value of an attribute: `latent`, `density` (share of unseen vectors in which it is
            on), `worth` (of their variance, what is unexplained without it), `attribute`, `value`, `auc` (how well its
            activation tells prompts that say the value from prompts that say another, over the seeds learned from), and
            `auc_held` (the same over unseen seeds).
    """

    sae: SparseAutoencoder
    of: Origin
    table: pd.DataFrame


def train_on(
    job: Job,
    store: Store,
    folder: str | Path,
    settings: Settings | None = None,
    *,
    reading: Reading = "text",
    keep: Keep = "all",
    pooling: str = "full",
    every: int = 500,
    capturing: Progress | None = None,
    training: Progress | None = None,
    engine: Fill = fill,
) -> tuple[Trained, Quality]:
    """Trains a sparse autoencoder on a job's concepts and their variants, said in its first template, and saves it.

    Args:
        keep: the denoising steps; one dictionary is learned for all of them. pooling: "full" for a vector at every
            position of the map (they act most when switched off), "mean" for one a sample.
        every: as for `train`. capturing, training: called with samples, and steps, done and to do.

    Raises:
        ScalexError: as capturing, the store and `train` raise, or the folder cannot be written to.
    """
    settings = settings or Settings()
    plan = replace(job.plan, readings=(reading,), keep={reading: keep}, pooling=pooling, moments=0)
    prompts = _first_template(job.prompts)
    engine(store, job.model, prompts, job.seeds, plan, capturing)
    recipe = plan.recipes(job.model)[reading]
    stream = StoreStream(store, recipe, {p.text for p in prompts}, job.seeds, None, job.model.probe_shape[0])
    place = Path(folder)
    sae, quality = train(stream, settings, folder=place, every=every, device=str(job.model.device), progress=training)
    told = separations(sae, stream, _said(prompts), settings.held_out)
    table = pd.DataFrame({"density": quality.density, "worth": quality.worth}).rename_axis("latent").reset_index()
    table = table.merge(told, on="latent", how="left")
    figures = {"explained": quality.explained, "l0": quality.l0, "dead": quality.dead, "vectors": quality.vectors}
    save_sae(sae, place, Origin.of(recipe), quality=figures, settings=asdict(settings))
    with disk_errors(place, option="--out"):
        write_atomic(place / TABLE, table.to_csv(index=False))
    return Trained(sae, Origin.of(recipe), table), quality


def _first_template(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    own = [p for p in prompts if p.role == "concept"]
    if not own:
        raise ScalexError("the job has no prompts of concepts", "Name concepts in the spec")
    first = own[0].template
    return tuple({p.text: p for p in own if p.template == first}.values())


def _said(prompts: Sequence[Prompt]) -> dict[tuple[str, str], set[str]]:
    """The texts that say each value, by attribute and value."""
    found: dict[tuple[str, str], set[str]] = {}
    for p in prompts:
        if p.attribute:
            found.setdefault((p.attribute, p.value), set()).add(p.text)
    return found


def open_trained(folder: str | Path) -> Trained:
    """What `train_on` left.

    Raises:
        ScalexError: the folder holds no sparse autoencoder, or one that cannot be read.
    """
    sae, of = load_sae(folder)
    file = Path(folder) / TABLE
    try:
        table = pd.read_csv(file, keep_default_na=False, na_values={name: ["", "nan"] for name in ("auc", "auc_held")})
    except FileNotFoundError:
        table = pd.DataFrame(columns=["latent", "density", "worth", "attribute", "value", "auc", "auc_held"])
    except (OSError, ValueError) as error:
        raise ScalexError(
            f"{file} cannot be read ({error})", "Delete it: latents can still be named by number"
        ) from None
    return Trained(sae, of, table)


def best_latents(trained: Trained, attribute: str, value: str, n: int) -> list[int]:
    """The latents whose activation tells a value best from the attribute's other values, over the seeds learned from.

    Raises:
        ScalexError: the table knows no such attribute or value.
    """
    table = trained.table
    for column, asked in (("attribute", attribute), ("value", value)):
        known = [one for one in dict.fromkeys(table[column]) if one]
        if asked not in known:
            raise ScalexError(f"no latent was asked for {column} {asked!r}", did_you_mean(asked, known, "Known"))
        table = table[table[column] == asked]
    return [int(one) for one in table.sort_values("auc", ascending=False, kind="stable")["latent"].head(n)]


# ---------------------------------------------------------------------------------------------------- telling apart


def activations(
    sae: SparseAutoencoder, stream: Stream, places: Int[np.ndarray, "n"]
) -> Float32[np.ndarray, "n latents"]:
    """How much each latent is on in each sample: mean over its steps and positions."""
    found = np.empty((len(places), sae.latents), np.float32)
    some = max(1, (1 << 13) // stream.positions)
    for start in range(0, len(places), some):
        vectors = torch.from_numpy(stream.take(places[start : start + some]))
        found[start : start + len(vectors)] = sae.encode(vectors).mean(1).numpy()
    return found


def separations(
    sae: SparseAutoencoder, stream: Stream, said: Mapping[tuple[str, str], Collection[str]], share: float
) -> pd.DataFrame:
    """How well each latent tells samples that say a value of an attribute from those that say another of its values:
    areas under the ROC curve, over the seeds learned from (`auc`) and unseen ones (`auc_held`).

    Args:
        said: texts by attribute and value. share: of the seeds that are held out, as in training.
    """
    parts = {"auc": held_out(stream, share)[0], "auc_held": held_out(stream, share)[1]}
    columns: dict[str, list[Float[np.ndarray, "latents"]]] = {name: [] for name in parts}
    for name, places in parts.items():
        on, texts = activations(sae, stream, places), stream.texts[places]
        for (attribute, _), own in said.items():
            every = set().union(*(texts_ for (other, _), texts_ in said.items() if other == attribute))
            there = np.isin(texts, sorted(every))
            columns[name].append(_aucs(on[there], np.isin(texts[there], sorted(own))))
    rows = [(a, v, latent) for a, v in said for latent in range(sae.latents)]
    table = pd.DataFrame(rows, columns=["attribute", "value", "latent"])
    for name, arrays in columns.items():
        table[name] = np.concatenate(arrays) if arrays else np.empty(0)
    return table


def _aucs(values: Float[np.ndarray, "n latents"], own: Bool[np.ndarray, "n"]) -> Float[np.ndarray, "latents"]:
    """For each column, the probability that a row of `own` exceeds another one, ties counting half."""
    high, low = int(own.sum()), int((~own).sum())
    if not high or not low:
        return np.full(values.shape[1], np.nan)
    ranks = rankdata(values, axis=0)[own].sum(0)
    return np.asarray((ranks - high * (high + 1) / 2) / (high * low), dtype=np.float64)
