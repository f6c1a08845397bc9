"""Mitigation: pictures of a concept are steered, as few and as little as can be, until its rate is the target.

    mitigation = scalex.Mitigation.fit(job, store, "gender", 0.5)
    with mitigation.apply(pipe):
        pipe("a photo of a nurse")

Calibration reads on some seeds what each strength of steering does to a concept's pictures; doses are chosen from that
curve; each (prompt, seed) draws its dose. `evaluate` measures on other seeds what is left of the bias and what suffers,
beside rewritten prompts and an erased direction. (Fair Diffusion, Friedrich et al. 2023, arXiv 2302.10893, steers the
same end by guidance on prompts.)
"""

from __future__ import annotations

from scalex.mitigation._doses import RULES, Curve, Dose
from scalex.mitigation._evaluating import METHODS, Evaluation, evaluate
from scalex.mitigation._fitting import ALPHAS, fit, refitted
from scalex.mitigation._grid import save_grid
from scalex.mitigation._mitigation import Made, Mitigation, Remedy
from scalex.mitigation._report import notes_of, write_report
from scalex.mitigation._targets import Target, shares_of

__all__ = [
    "ALPHAS",
    "METHODS",
    "RULES",
    "Curve",
    "Dose",
    "Evaluation",
    "Made",
    "Mitigation",
    "Remedy",
    "Target",
    "evaluate",
    "fit",
    "notes_of",
    "refitted",
    "save_grid",
    "shares_of",
    "write_report",
]
