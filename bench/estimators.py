"""Which estimator comes nearest to the truth? Every one that the analyses offer, on the latents of a scored organism.

    python bench/truth.py && python bench/estimators.py runs/score-embedded [RUN ...]

Captures nothing. Prints a row an estimator and seeds: leans by rank correlation with the realised shares and by their
scatter around them (less one half), rates by mean absolute error and correlation. Few seeds are disjoint blocks of the
run's, and their figures the mean over blocks: one draw of 32 seeds is a lucky or an unlucky one. The best estimator is
the analyses' default.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import pearsonr, spearmanr

from scalex.analyses import defaults, rates
from scalex.auditing import latents_of, open_run
from scalex.records import Finding, Latents, Rules
from scalex.truth import blocks

RULES = Rules(resamples=100, permutations=99)  # only the estimates are looked at
SEEDS = (32, 128)


def main(runs: list[Path]) -> None:
    """Prints the table of each run."""
    for run in runs:
        result = open_run(run)
        values = {name: tuple(v) for name, v in result.manifest["spec"]["attributes"].items()}
        truth = pd.read_csv(run / "truth.csv").set_index(["concept", "attribute"]).drawn
        picture = latents_of(result)["picture"]
        rows = [row for n in SEEDS for part in blocks(picture, n) for row in _scores(part, values, truth)]
        grouped = pd.DataFrame(rows).groupby(["seeds", "estimator"], sort=False)
        table = grouped.mean().assign(blocks=grouped.size()).reset_index()
        print(f"\n{run}\n{table.to_string(index=False, float_format='{:.3f}'.format, na_rep='')}")


def _scores(picture: Latents, values: dict[str, tuple[str, ...]], truth: pd.Series) -> Iterator[dict[str, object]]:
    n = len(picture.seeds)
    for direction in ("own", "shared", "lda"):
        found = defaults.analyse(picture, values, RULES, direction=direction)
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


if __name__ == "__main__":
    main([Path(run) for run in sys.argv[1:]])
