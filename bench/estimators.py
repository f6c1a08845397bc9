"""Which estimator comes nearest to the truth? Every one that the analyses offer, on the latents of a scored organism.

    python bench/truth.py && python bench/estimators.py runs/score-embedded [RUN ...]

Captures nothing. Prints a row an estimator and seeds: leans by rank correlation with the realised shares and by their
scatter around them (less one half), rates by mean absolute error and correlation. Below it what the truth table says of
leans, along each direction that a spec can ask for. Few seeds are disjoint blocks of the run's, and their figures the
mean over blocks: one draw of 32 seeds is a lucky or an unlucky one. Of eight seeds it tells estimates alone.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeAlias, get_args

import numpy as np
import pandas as pd
from scipy.stats import pearsonr, spearmanr

from scalex import analyses
from scalex.analyses import defaults, rates
from scalex.auditing import latents_of, open_run
from scalex.records import Finding, Latents, LeanDirection, Rules
from scalex.truth import SCORERS, Scored, blocks

RULES = Rules(resamples=100, permutations=99)  # only the estimates are looked at
SEEDS, MARKED = (8, 32, 128), (32, 128)
LEANS = ("lean, ", "controls, ")  # how the names of their marks begin

Values: TypeAlias = Mapping[str, Sequence[str]]


def main(runs: list[Path]) -> None:
    """Prints both tables of each run."""
    for run in runs:
        result = open_run(run)
        values = {name: tuple(v) for name, v in result.manifest["spec"]["attributes"].items()}
        truth = pd.read_csv(run / "truth.csv")
        picture = latents_of(result)["picture"]
        print(f"\n{run}\n{_text(_estimators(picture, values, truth))}", flush=True)
        print(f"\n{_text(_marks(picture, values, truth))}", flush=True)


def _text(table: pd.DataFrame) -> str:
    return table.to_string(index=False, float_format="{:.3f}".format, na_rep="")


def _estimators(picture: Latents, values: Values, truth: pd.DataFrame) -> pd.DataFrame:
    drawn = truth.set_index(["concept", "attribute"]).drawn
    rows = [row for n in SEEDS for part in blocks(picture, n) for row in _scores(part, values, drawn)]
    grouped = pd.DataFrame(rows).groupby(["seeds", "estimator"], sort=False)
    return grouped.mean().assign(blocks=grouped.size()).reset_index()


def _scores(picture: Latents, values: Values, truth: pd.Series) -> Iterator[dict[str, object]]:
    n = len(picture.seeds)
    for direction in get_args(LeanDirection):
        found = defaults.analyse(picture, values, replace(RULES, lean_direction=direction))
        yield {"seeds": n, "estimator": f"lean, {direction} direction"} | _against(found, truth, rank=True)
    for method in ("mean", "lda"):
        for correct in (True, False):
            found = rates.analyse(picture, values, RULES, method=method, correct=correct)
            second = [f for f in found if f.value == values[f.attribute][1]]
            name = f"rate, {method}{', corrected' if correct else ''}"
            yield {"seeds": n, "estimator": name} | _against(second, truth, rank=False)


def _against(found: list[Finding], truth: pd.Series, rank: bool) -> dict[str, float]:
    scores = {}
    for attribute in dict.fromkeys(f.attribute for f in found):
        said = [f for f in found if f.attribute == attribute and np.isfinite(f.estimate)]
        estimate = np.array([f.estimate for f in said])
        drawn = np.array([truth[f.target, attribute] for f in said])
        scores[f"{attribute} r"] = float(pearsonr(estimate, drawn)[0])
        if rank:
            scores[f"{attribute} rho"] = float(spearmanr(estimate, drawn)[0])
            scores[f"{attribute} scatter"] = float((estimate - (drawn - 0.5)).std())
        else:
            scores[f"{attribute} MAE"] = float(np.abs(estimate - drawn).mean())
    return scores


# ------------------------------------------------------------------------------------------------------------ marks


def _marks(picture: Latents, values: Values, truth: pd.DataFrame) -> pd.DataFrame:
    """What `scalex.truth` says of the picture reading's leans (and what it asks), by direction."""
    rows = []
    for n, direction in itertools.product(MARKED, get_args(LeanDirection)):
        for part in blocks(picture, n):
            scored = Scored(_beside(truth, part, values, Rules(lean_direction=direction)))
            marks = [m for score in SCORERS for m in score(scored) if _of_leans(m.name)]
            rows += [{"seeds": n, "mark": m.name, "asked": m.asked, direction: m.value} for m in marks]
    return pd.DataFrame(rows).groupby(["seeds", "mark", "asked"], sort=False).mean().reset_index()


def _of_leans(name: str) -> bool:
    return name.startswith(LEANS) and "picture" in name


def _beside(truth: pd.DataFrame, picture: Latents, values: Values, rules: Rules) -> pd.DataFrame:
    """The truth's table with leans and verdicts by these rules in place of its own."""
    found = analyses.run(["defaults"], {"picture": picture}, values, rules)
    own = pd.DataFrame([asdict(f) for f in found]).set_index(["target", "attribute"])
    told = truth.set_index(["concept", "attribute"])
    return told.assign(picture=own.estimate, picture_verdict=own.verdict).reset_index()


if __name__ == "__main__":
    main([Path(run) for run in sys.argv[1:]])
