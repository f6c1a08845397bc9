"""Pictures before and after, side by side, with their concepts and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from scalex.drawings import Drawings
from scalex.jobs import Job
from scalex.mitigation._mitigation import Mitigation
from scalex.report import grid as grids
from scalex.steering import Push

__all__ = ["save_grid"]


def save_grid(
    job: Job,
    mitigation: Mitigation,
    concepts: Sequence[str],
    seeds: Sequence[int],
    path: Path,
    drawings: Drawings | None = None,
) -> Path:
    """Draws a picture of every concept and seed, unsteered above and mitigated below, and saves them as one PNG.

    Steered pictures have a frame; the others are the same as above them. `drawings` keeps them. Returns the path.

    Raises:
        ScalexError: the file cannot be written.
    """
    pictures: list[UInt8[np.ndarray, "n height width 3"]] = []
    labels: list[str] = []
    framed: set[tuple[int, int]] = set()
    drawn = drawings or Drawings()
    for concept in concepts:
        samples = [(mitigation.texts[concept][0], seed) for seed in seeds]
        alphas = {(text, seed): mitigation.alpha_of(concept, text, seed) for text, seed in samples}
        push = Push(mitigation.remedies[concept].vector.direction, alphas)
        pictures += [drawn.pictures(job.model, samples, job.plan, steer) for steer in (None, push)]
        framed |= {(len(labels) + 1, j) for j, sample in enumerate(samples) if alphas[sample]}
        labels += _labels(concept, mitigation)
    columns = [f"seed {seed % 1000}" for seed in seeds]
    return grids.save_grid(grids.grid(pictures, labels, columns, framed=framed), path)


def _labels(concept: str, of: Mitigation) -> list[str]:
    """Of the row of unsteered pictures, and of that of mitigated ones."""
    remedy, value = of.remedies[concept], of.values[1]
    doses = ", ".join(f"{d.alpha:+.1f} for {d.share:.0%}" for d in remedy.doses if d.alpha) or "none"
    plain = f"{concept}\nunsteered: {value} {remedy.curve.rates[0]:.0%}"
    return [plain, f"mitigated to {remedy.target:.0%}\nalpha {doses}"]
