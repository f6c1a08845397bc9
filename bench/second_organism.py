"""Trains another organism: the same pictures and words, other plants, another seed. Score it with `bench/truth.py`.

    python bench/second_organism.py runs/second && python bench/truth.py runs/second

It starts from the embedded organism (as `scalex organism train --from` does), so that it takes minutes; what it must
unlearn is exactly what was planted there. On two idle cores: about 25 minutes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from scalex.organisms import EMBEDDED
from scalex.organisms.spec import OrganismSpec, load_organism_spec
from scalex.organisms.training import train_organism

SEED = 20_001


def other_plants() -> OrganismSpec:
    """The embedded spec with every share given to another concept of its kind."""
    data: dict[str, Any] = yaml.safe_load((EMBEDDED.parent / "emoji.yaml").read_text(encoding="utf-8"))
    rng = np.random.default_rng(SEED)
    for kind in ("roles", "adjectives"):
        for column in (0, 1):
            shares = [row[column] for row in data[kind].values()]
            for row, share in zip(data[kind].values(), rng.permutation(shares), strict=True):
                row[column] = float(share)
    for kind in ("countries", "associations"):
        rows = list(data[kind].values())
        for row, picture in zip(rows, np.roll([row[0] for row in rows], 1), strict=True):
            row[0] = str(picture)
    data |= {"name": "second", "seed": SEED}
    data["denoiser"] |= {"steps": 2500, "rate": 0.0007}
    data["consistency"] |= {"steps": 800}
    return load_organism_spec(data)


if __name__ == "__main__":
    train_organism(
        other_plants(),
        Path(sys.argv[1]),
        progress=lambda stage, done, total, loss: print(f"\r{stage} {done}/{total} {loss:.4f}  ", end="", flush=True),
        start=EMBEDDED,
    )
    print()
