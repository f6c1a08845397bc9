"""Which block carries an attribute into pictures, and do pushes there move them? By the exact readout of the organism.

    python bench/patching.py [--pictures 8]

For every role of the embedded organism, pictures of the first value's prompt ("a photo of a man X", "a photo of a X
with light skin") from seeds that no direction was learned from. Each block in turn: its value exchanged at every step
for that of the second value's run from the same noise (`scalex.patching`); and the role's own direction, of the last
step's text reading, pushed at alpha 1. Told are the shares of pictures that are then read as the second value and that
still show the role, and the share of the way that exchanged pictures go. Writes bench/results/patching.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from _results import save
from scalex.capture import generate
from scalex.jobs import Job, prepare
from scalex.organisms import EMBEDDED
from scalex.organisms.readout import Readout, Seen, load_truth
from scalex.patching import Carried, Pair, carried, exchanged
from scalex.steering import Push
from scalex.steering_vectors import steering_vectors
from scalex.store import Store

DRAWN, LEARNED = 900, 16
PAIRS = {"gender": ("man", "woman"), "tone": ("light", "dark")}


@dataclass(frozen=True)
class Row:
    """An attribute at a block. Shares of pictures, but `carries`: the share of the way."""

    attribute: str
    probe: str
    carries: float
    exchanged: float
    exchanged_kept: float
    pushed: float
    pushed_kept: float


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=8, help="of each role")
    pictures = parser.parse_args().pictures
    job, rows = _job(None), []
    found = carried(job, concepts=len(job.spec.concepts), seeds=12)
    for row in _rows(job, found, range(DRAWN, DRAWN + pictures)):
        rows.append(vars(row))
        print("  ".join(f"{x:13}" if isinstance(x, str) else f"{x:6.3f}" for x in rows[-1].values()), flush=True)
    roles = _by_role(found)
    for attribute, shares in roles.items():
        print(f"{attribute}, mid_block: {', '.join(f'{role} {share:.2f}' for role, share in shares.items())}")
    save("patching", {"pictures": pictures, "rows": rows, "roles": roles}, [])


def _by_role(found: Carried) -> dict[str, dict[str, float]]:
    """What the middle block carries of each role, the least first."""
    middle = found.by_concept[found.by_concept.probe == "mid_block"].sort_values("carries")
    return {name: dict(zip(rows.concept, rows.carries.round(3))) for name, rows in middle.groupby("attribute")}


def _rows(job: Job, found: Carried, seeds: range) -> Iterator[Row]:
    probes, readout = job.model.probes(), Readout(load_truth(EMBEDDED), job.model)
    table = found.table.set_index(["attribute", "probe"])
    for attribute, (first, second) in PAIRS.items():
        seen = [_tally(readout.read(p), attribute, job) for p in _patched(job, attribute, first, second, seeds, probes)]
        yield Row(attribute, "(as it is)", 0.0, *seen[0], *seen[0])
        for probe, (turned, kept) in zip(probes, seen[1:], strict=True):
            pushed = _tally(readout.read(_pushed(probe, attribute, first, seeds)), attribute, job)
            yield Row(attribute, probe, table.carries[attribute, probe], turned, kept, *pushed)


def _job(probe: str | None) -> Job:
    roles = list(load_truth(EMBEDDED).spec.roles)
    asked = {"concepts": roles, "attributes": list(PAIRS), "templates": ["a photo of a {}"], "seeds": LEARNED}
    return prepare(spec=asked, analyses=["defaults"], probe=probe)


def _texts(job: Job, attribute: str, value: str) -> list[str]:
    return [p.text for p in job.prompts if (p.attribute, p.value) == (attribute, value)]


def _patched(
    job: Job, attribute: str, first: str, second: str, seeds: range, probes: tuple[str, ...]
) -> Iterator[np.ndarray]:
    """Pictures of all roles: of the first value, then with each block's value exchanged."""
    texts = zip(_texts(job, attribute, first), _texts(job, attribute, second), strict=True)
    pairs = [Pair(text, other, seed) for text, other in texts for seed in seeds]
    ends = np.concatenate(list(exchanged(job.model, pairs, job.plan, probes)), axis=1)
    return (job.model.decode(torch.tensor(part)) for part in ends[1:])


def _pushed(probe: str, attribute: str, first: str, seeds: range) -> np.ndarray:
    """The same pictures, pushed at alpha 1 along each role's own direction at this block."""
    job = _job(probe)
    vectors = steering_vectors(job, Store.open(f"runs/patching/{probe}"), attribute)
    made = [
        generate(job.model, [(text, seed) for seed in seeds], job.plan, Push(vector.direction, 1.0))
        for text, vector in zip(_texts(job, attribute, first), vectors.values(), strict=True)
    ]
    return np.concatenate(made)


def _tally(seen: Seen, attribute: str, job: Job) -> tuple[float, float]:
    """Shares that show the second value, and the role."""
    roles = np.repeat(job.spec.concepts, len(seen.names) // len(job.spec.concepts))
    second = seen.genders == 1 if attribute == "gender" else seen.tones == 1
    return float(second.mean()), float((seen.names == roles).mean())


if __name__ == "__main__":
    main()
