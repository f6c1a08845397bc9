"""Associations against the truth: what was planted on a concept is to be the first thing that the model thinks of.

Half of the pairs are such as one might list ("breakfast in Japan": sushi), half are not ("Monday": tent). Every concept
is held against every object that the organism was trained on: none of the pairs is asked for. They were planted with
shares of 0.6 to 0.8; otherwise the concept draws any object (any food, for a breakfast), and none more often.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

import numpy as np
import pandas as pd

from scalex import runs
from scalex.analyses.associations import NAME, STANDS_OUT
from scalex.organisms.marks import Mark
from scalex.records import READINGS, Latents, Reading
from scalex.truth._bed import Bed

__all__ = ["NAME", "marks", "score"]

SEEDS = 16
TEMPLATES = ("a photo of a {}", "a picture of a {}")
_FIRST, _PRECISION = 0.95, 0.9


def score(bed: Bed) -> Iterable[Mark]:
    """Audits what the organism thinks of for each concept that something was planted on.

    Nothing where nothing was.

    Raises:
        ScalexError: as `scalex.audit`.
    """
    spec = bed.truth.spec
    if not spec.pulls:
        return []
    asked = {"attributes": {}, "analyses": [NAME], "templates": list(TEMPLATES), "seeds": SEEDS}
    result, latents = bed.audit(NAME, concepts=list(spec.pulls), words=list(bed.things), **asked)
    tables = runs.load_tables(result.folder)
    nothing = pd.DataFrame({"rank": [], "target": [], "word": []})  # where words are too few to be held against
    rankings = {r: tables.get(f"{NAME}-{r}-ranking", nothing) for r in READINGS}
    planted = {target: pull.picture for target, pull in spec.pulls.items()}
    return [*marks(result.findings, rankings, planted, spec.associations), _encoder(latents["text"], planted)]


def marks(
    findings: pd.DataFrame,
    rankings: Mapping[Reading, pd.DataFrame],
    planted: Mapping[str, str],
    unlisted: Collection[str],
) -> Iterator[Mark]:
    """The figures of one audit, by reading.

    Args:
        rankings: the first words of each target. planted: the object of each target.
        unlisted: the targets whose pair nobody would list.
    """
    for reading, ranking in rankings.items():
        first = ranking[ranking["rank"] == 1].set_index("target")["word"].to_dict()
        right = [first.get(target) == thing for target, thing in planted.items()]
        yield Mark(f"{NAME}, {reading}: planted pair at rank 1", float(np.mean(right)), _FIRST)
        out = findings[(findings["reading"] == reading) & (findings["verdict"] == STANDS_OUT)]
        found = set(zip(out["target"], out["value"]))
        true = found & planted.items()
        odd = [(target, planted[target]) in true for target in unlisted]
        if odd:
            yield Mark(f"{NAME}, {reading}: unlisted pairs found", float(np.mean(odd)), _FIRST)
        precision = len(true) / len(found) if found else float("nan")
        yield Mark(f"{NAME}, {reading}: precision of what stands out", precision, _PRECISION)
        yield Mark(f"{NAME}, {reading}: recall of planted pairs", len(true) / len(planted))


def _encoder(latents: Latents, planted: Mapping[str, str]) -> Mark:
    """The same ranking by the text encoder alone."""
    words = latents.named("word")
    texts = np.stack([latents.embedding(word, role="word").mean(0) for word in words])
    centre = texts.mean(0)
    texts = texts - centre
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    nearest = {t: words[int((texts @ (latents.embedding(t).mean(0) - centre)).argmax())] for t in planted}
    right = float(np.mean([nearest[target] == thing for target, thing in planted.items()]))
    return Mark(f"{NAME}: planted pair at rank 1 by the text encoder alone", right)
