"""From latents of images and of prompts to findings and tables. Pure numbers, no model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import binomtest

from scalex import stats
from scalex.errors import ScalexError
from scalex.records import Finding, Latents, Rules
from scalex.validation._agreement import Agreement, agreement, matched, prompt_direction
from scalex.validation._names import Names, rank_of
from scalex.wording import did_you_mean

__all__ = ["NAME", "attributes_in", "concluded", "directions", "found_again", "names_of", "positions", "value_of"]

NAME = "image_conditioning"
_TOPS = (1, 5)


def value_of(labels: Sequence[str], values: Sequence[str]) -> str:
    """The one value of an attribute that an image is labelled with, whatever its capitals; "" for none or several."""
    said = {label.casefold() for label in labels}
    shown = [value for value in values if value.casefold() in said]
    return shown[0] if len(shown) == 1 else ""


def attributes_in(
    labels: Sequence[Sequence[str]], attributes: Mapping[str, Sequence[str]], asked: Sequence[str] = ()
) -> list[str]:
    """The attributes that labels speak of: those of which two values or more are there. All that are asked for must be.

    Raises:
        ScalexError: an attribute is asked for that the run does not have, or that no two labels are values of.
    """
    for name in asked:
        if name not in attributes:
            raise ScalexError(f"the run has no attribute {name!r}", did_you_mean(name, list(attributes), "Attributes"))
    seen = {name: {value_of(row, values) for row in labels} - {""} for name, values in attributes.items()}
    for name in asked:
        if len(seen[name]) < 2:
            way_out = f"Put images into subfolders named so ({', '.join(attributes[name])}), or write a labels.csv"
            raise ScalexError(f"no two values of {name!r} are among the images' labels", way_out)
    return [name for name in asked or attributes if len(seen[name]) >= 2]


def directions(
    images: Latents,
    labels: Sequence[Sequence[str]],
    prompts: Latents,
    attributes: Mapping[str, Sequence[str]],
    target: str,
    rules: Rules,
) -> tuple[list[Finding], pd.DataFrame]:
    """Image directions against prompt directions: one row for two values, a row a value for more.

    Images are compared with those that have the same other labels, where there are such (see `matched`).

    Returns:
        Findings without q and verdict, and a table of the rest: attribute, value, against, images, others, groups, and
        the numbers of `Agreement`.
    """
    found, rows = [], []
    for attribute, values in attributes.items():
        shown = np.array([value_of(row, values) for row in labels])
        for value in values[1:] if len(values) == 2 else values:
            others = [v for v in values if v != value]
            x = images.values[shown != "", :, -1].astype(np.float64)
            rest = [_besides(row, values) for row, one in zip(labels, shown) if one]
            sets = matched(x, shown[shown != ""] == value, rest)
            a = agreement(sets, prompt_direction(prompts, attribute, value, others), rules)
            counts = int(sets.shows.sum()), int((~sets.shows).sum()), sets.groups
            against = others[0] if len(others) == 1 else "the others"
            row = Finding(
                *(NAME, "picture", target, attribute, value, a.cosine, "cosine", a.low, a.high, a.p, math.nan),
                *(a.separability, "", _why(a, counts, value, against), len(images.seeds), prompts.n_templates),
            )
            found.append(row)
            rows.append((attribute, value, against, *counts, *a))
    columns = ["attribute", "value", "against", "images", "others", "groups", *Agreement._fields]
    return found, pd.DataFrame(rows, columns=columns)


def _besides(labels: Sequence[str], values: Sequence[str]) -> frozenset[str]:
    """What else is known of an image than its value."""
    return frozenset(label.casefold() for label in labels) - {value.casefold() for value in values}


def _why(a: Agreement, counts: tuple[int, int, int], value: str, against: str) -> str:
    said = f"{counts[0]} images of {value}, {counts[1]} of {against}"
    said += f", in {counts[2]} groups alike in all other labels" if counts[2] > 1 else ""
    if math.isnan(a.cosine):
        few = min(counts[:2]) < 2
        return f"{said}: {'two of each carry a direction' if few else 'images or prompts do not differ'}"
    return f"{said}; shuffled labels stay below {a.chance:.2f}, noise alone would keep it at {a.ceiling:.2f}"


def concluded(found: Sequence[Finding], rules: Rules) -> list[Finding]:
    """The findings with q, over all of them (Benjamini-Hochberg), and verdict."""
    q = stats.benjamini_hochberg(np.array([f.p for f in found], dtype=np.float64))
    return [_concluded(replace(f, q=float(one)), rules) for f, one in zip(found, q)]


def _concluded(f: Finding, rules: Rules) -> Finding:
    sure = f.q <= 1 - rules.level
    if f.unit != "cosine":
        return replace(f, verdict="found again" if sure else "not found again")
    return replace(f, verdict=("agrees" if f.estimate > 0 else "opposes") if sure else "undecided")


def positions(
    images: Latents,
    labels: Sequence[Sequence[str]],
    named: Sequence[str],
    prompts: Latents,
    attributes: Mapping[str, Sequence[str]],
) -> pd.DataFrame:
    """Where each image stands on each attribute of two values: -1/2 as prompts of the first, +1/2 as of the second.

    The lean of an image: d its latent minus the middle of both variants of the concept that it is named by, w their
    difference, lean = <d, w> / <w, w>. (What differs between concepts would drown it.) An image whose name is no
    concept with variants is held against the mean of all.

    Returns:
        Columns: file, attribute, label (its own value, "" for none), lean.
    """
    rows: list[tuple[str, str, str, float]] = []
    for attribute, values in attributes.items():
        if len(values) == 2:
            sides = {name: _sides(prompts, [name], attribute, values) for name in prompts.concepts}
            every = _sides(prompts, prompts.concepts, attribute, values)
            for image, p, row, name in zip(images.values[:, :, -1], images.prompts, labels, named, strict=True):
                rows.append((p.concept, attribute, value_of(row, values), _lean(image, *sides.get(name, every))))
    return pd.DataFrame(rows, columns=["file", "attribute", "label", "lean"])


def _sides(
    prompts: Latents, concepts: Sequence[str], attribute: str, values: Sequence[str]
) -> tuple[Float[np.ndarray, "seeds width"], Float[np.ndarray, "seeds width"]]:
    """Both variants, means over concepts and templates."""
    first, second = (
        np.mean([prompts.of(c, attribute, v).astype(np.float64) for c in concepts], axis=(0, 1)) for v in values
    )
    return first, second


def _lean(
    image: Float[np.ndarray, "imageseeds width"],
    first: Float[np.ndarray, "seeds width"],
    second: Float[np.ndarray, "seeds width"],
) -> float:
    w, middle = (second - first).mean(0), (first + second)[: len(image)] / 2
    return float((image - middle).mean(0) @ w / (w @ w)) if w.any() else math.nan


def names_of(images: Latents, labels: Sequence[Sequence[str]], names: Names, rules: Rules) -> pd.DataFrame:
    """Each image in words. Columns: file, labels, name, nearest, cosine, needed, second, margin (over the second's
    cosine).

    `name` is the nearest where its cosine is as large as is `needed`, else "": no concept of this vocabulary fits. An
    image that goes with no name more than with any other (its latent is the mean of all) has none nearest, and NaN.
    """
    cosines = names.cosines(images.values[:, :, -1].astype(np.float64))
    order = np.argsort(-cosines, axis=1)[:, :2]
    best, second = np.take_along_axis(cosines, order, axis=1).T
    known, needed = np.isfinite(best), names.needed(rules)
    nearest = [names.names[i] if ok else "" for i, ok in zip(order[:, 0], known)]
    return pd.DataFrame(
        {
            "file": [p.concept for p in images.prompts],
            "labels": [", ".join(row) for row in labels],
            "name": [name if fits else "" for name, fits in zip(nearest, best >= needed)],
            "nearest": nearest,
            "cosine": best,
            "needed": needed,
            "second": [names.names[i] if ok else "" for i, ok in zip(order[:, 1], known)],
            "margin": best - second,
        }
    )


def found_again(
    images: Latents, own: Sequence[str], names: Names, target: str, rules: Rules, n_templates: int
) -> list[Finding]:
    """How many images fall nearest to their own name, and how many have it among the nearest five.

    Images of one name are no independent draws: interval (Wilson's) and p (binomial, against chance) count names.

    Args:
        own: the name of each image; images whose own is "" are left out.
    """
    kept = [i for i, name in enumerate(own) if name in names.names]
    if not kept:
        return []
    at = np.array([names.names.index(own[i]) for i in kept])
    ranks = rank_of(names.cosines(images.values[kept, :, -1].astype(np.float64)), at)
    return [
        _share(ranks <= top, at, top, len(names.names), target, rules, (len(images.seeds), n_templates))
        for top in _TOPS
        if top < len(names.names)
    ]


def _share(
    hits: np.ndarray, at: Int[np.ndarray, "n"], top: int, of: int, target: str, rules: Rules, counts: tuple[int, int]
) -> Finding:
    share, n = float(hits.mean()), len(np.unique(at))
    low, high = stats.wilson(share, float(n), rules.level)
    p = float(binomtest(math.floor(share * n + 1e-9), n, top / of, alternative="greater").pvalue)
    value = f"nearest of {of}" if top == 1 else f"among the nearest {top} of {of}"
    why = f"{len(hits)} images of {n} names; chance is {100 * top / of:.2g}%"
    return Finding(
        *(NAME, "picture", target, "", value, share, "share", low, high, p, math.nan, math.nan, "", why, *counts)
    )
