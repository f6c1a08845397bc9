"""The tables that clusters leave: a map, a tree, names of clusters, and what the text encoder groups otherwise."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from scalex.analyses._grouping import NONE, Groups, central, distinguishing
from scalex.analyses._points import Space, carried, flattened, neighbours, placed, unit

__all__ = ["map_of", "moved", "named", "tree"]

_MEMBERS = 6  # named of a cluster beside its medoid
_MATES = 10  # neighbours that are compared between denoiser and text encoder
_SHOWN = 3  # of them, in words


def map_of(held: Space, groups: Groups, texts: Groups | None, seed: int) -> pd.DataFrame:
    """All names in two dimensions with their clusters, -1 for none: name, role, x, y, cluster, text_cluster."""
    x, y = placed(held.every, held.sample, flattened(held.points, seed)).T
    names, roles = zip(*held.names)
    own = carried(held.every, held.sample, groups.labels)
    other = np.full(len(names), NONE) if texts is None else carried(held.texts, held.sample, texts.labels)
    return pd.DataFrame({"name": names, "role": roles, "x": x, "y": y, "cluster": own, "text_cluster": other})


def tree(points: Float[np.ndarray, "names axes"]) -> pd.DataFrame:
    """Ward's tree (1963, Journal of the American Statistical Association 58: 236-244) as scipy's linkage holds it.

    Columns: first, second, distance, size. Numbers below the number of names are rows of the map, in its order.
    """
    from scipy.cluster.hierarchy import linkage

    links = pd.DataFrame(
        linkage(unit(points), "ward", optimal_ordering=True), columns=["first", "second", "distance", "size"]
    )
    return links.astype({"first": int, "second": int, "size": int})


def named(
    held: Space, points: Float[np.ndarray, "sampled axes"], groups: Groups, labels: Int[np.ndarray, "names"]
) -> pd.DataFrame:
    """The clusters: cluster, medoid, members (the next most central), words that distinguish it, size.

    Args:
        points: of the sample. groups: of the sample. labels: of all names.
    """
    texts = [name for name, _ in held.names]
    core = [[texts[held.sample[i]] for i in own] for own in central(points, groups.labels, 1 + _MEMBERS)]
    return pd.DataFrame(
        {
            "cluster": range(groups.number),
            "medoid": [own[0] for own in core],
            "members": [", ".join(own[1:]) for own in core],
            "words": [", ".join(found) for found in distinguishing(texts, labels)],
            "size": np.bincount(labels[labels > NONE], minlength=groups.number),
        }
    )


def moved(held: Space, groups: Groups, texts: Groups) -> pd.DataFrame:
    """The sampled names, those first whose nearest names differ most between denoiser and text encoder.

    Columns: name, cluster, text_cluster, shared (the part of the nearest ten that is the same), near, text_near (the
    nearest three).
    """
    names = [held.names[i][0] for i in held.sample]
    mates = min(_MATES, len(names) // 4)
    own, other = neighbours(held.points, mates), neighbours(held.texts[held.sample], mates)
    shared = [len(set(a) & set(b)) / mates for a, b in zip(own, other)]
    near, text_near = ([", ".join(names[i] for i in row[:_SHOWN]) for row in found] for found in (own, other))
    table = pd.DataFrame({"name": names, "cluster": groups.labels, "text_cluster": texts.labels, "shared": shared})
    ordered = table.assign(near=near, text_near=text_near).sort_values("shared", kind="stable")
    return ordered.reset_index(drop=True)
