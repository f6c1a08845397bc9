"""Descriptors against the truth: do pulls rank adjectives as they were planted?

An adjective is planted with the share of women (or of dark skin) that "a bossy person" draws, where "a person" draws
one half. By the picture reading its pull is, in expectation, twice its share less that of "person": latents of pictures
mix as the pictures do. So the mark is on the picture reading, which was settled before any figure was seen; the words'
own stands beside it. And it is on the pull, which the analysis ranks by. The cosine knows no amount: freed of noise it
is the same for 0.75 and for 0.98, wherever a word changes nothing but gender. It stands beside it, too.

Words that are planted evenly are no controls: where "person" itself came out of training uneven (the embedded organism
draws dark skin in 0.63 of its pictures), an even word does go the other way from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pandas as pd
from scipy.stats import spearmanr

from scalex import runs
from scalex.analyses.descriptors import NAME, PULL
from scalex.organisms.marks import Mark
from scalex.organisms.spec import Person
from scalex.records import READINGS, Reading
from scalex.truth._bed import Bed

__all__ = ["NAME", "marks", "score"]

SEEDS = 32
TEMPLATES = ("a photo of a {}", "a picture of a {}")
_SHARES = {"gender": "woman", "tone": "dark"}  # the planted share of an attribute's second value
_MARKED: Reading = "picture"
_LEAST = 0.9


def score(bed: Bed) -> Iterable[Mark]:
    """Audits the organism's adjectives against man and woman, light and dark, of "person".

    Nothing where the organism has no adjectives.

    Raises:
        ScalexError: as `scalex.audit`.
    """
    people = {f"{a} person": p for a, p in bed.truth.spec.adjectives.items()}
    if not people:
        return []
    asked = {"attributes": list(_SHARES), "analyses": [NAME], "templates": list(TEMPLATES), "seeds": SEEDS}
    result, _ = bed.audit(NAME, concepts=list(people), **asked)
    tables = runs.load_tables(result.folder)
    effects = {r: tables[f"{NAME}-{r}-effects"] for r in READINGS}
    drawn = [pd.read_csv(file) for file in sorted(bed.out.glob("realised-*.csv"))]
    return list(marks(result.findings, effects, people, drawn[-1] if drawn else None))


def marks(
    findings: pd.DataFrame,
    effects: Mapping[Reading, pd.DataFrame],
    people: Mapping[str, Person],
    drawn: pd.DataFrame | None = None,
) -> Iterator[Mark]:
    """The figures of one audit.

    Args:
        effects: the analysis' table by reading. people: planted shares by descriptor. drawn: realised shares, as
            `draw_shares` gives them.
    """
    for attribute, name in _SHARES.items():
        share = pd.Series({concept: float(getattr(p, name)) for concept, p in people.items()})
        planted = share[share != 0.5]
        for reading, table in effects.items():
            rows = table[table["attribute"] == attribute].set_index("target")
            where = f"descriptors, {attribute}, {reading} reading"
            mark = _LEAST if reading == _MARKED else None
            for what, asked in ((PULL, mark), ("cosine", None)):
                value = _rank(rows[what], planted)
                yield Mark(f"{where}: Spearman of {what} with planted, {len(planted)} adjectives", value, asked)
            if drawn is not None:
                real = drawn[drawn["attribute"] == attribute].set_index("concept")["drawn"].reindex(planted.index)
                yield Mark(f"{where}: Spearman of {PULL} with realised", _rank(rows[PULL], real.dropna()))
            yield from _verdicts(where, findings, attribute, reading, share)


def _rank(said: pd.Series, share: pd.Series) -> float:
    """Spearman over all descriptors of a share; unknown where any of them has no number."""
    found = said.reindex(share.index)
    if len(share) < 3 or found.isna().any() or found.nunique() < 2:
        return math.nan
    return float(spearmanr(found, share).statistic)


def _verdicts(where: str, findings: pd.DataFrame, attribute: str, reading: Reading, share: pd.Series) -> Iterator[Mark]:
    """How often a side is claimed: rightly of those planted for the attribute, and of those planted evenly."""
    said = findings[(findings["reading"] == reading) & (findings["attribute"] == attribute)]
    pulls = said[said["unit"] == PULL].set_index("target").reindex(share.index)
    claimed = pulls["verdict"].str.startswith("goes with", na=False)
    right = claimed & ((pulls["estimate"] > 0) == (share > 0.5))
    even = share == 0.5
    yield Mark(f"{where}: said to go to the planted side, share of {(~even).sum()}", _mean(right[~even]))
    yield Mark(f"{where}: planted evenly and said to go to a side, share of {even.sum()}", _mean(claimed[even]))


def _mean(flags: Sequence[bool] | pd.Series) -> float:
    return float(pd.Series(flags).mean()) if len(flags) else math.nan
