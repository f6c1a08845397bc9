"""Which direction moves pictures most, at the same alpha? On the embedded organism, by its exact readout.

    python bench/steering.py [--pictures 8]

Pictures of "a photo of a man X" for every role X, with a direction pushed at every step: the role's own or that of all
roles; a mean over the map or the whole map; of the first step, of each step at its own, or of the last; at H-space and
at other blocks. And the same lengths in random directions, and with channels shuffled. Writes
bench/results/steering.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from _results import save
from scalex.capture import Plan, Steer, capture, generate
from scalex.direction_files import Direction, Provenance
from scalex.models import Model, load_model
from scalex.organisms import EMBEDDED, EMBEDDED_UNET
from scalex.organisms.readout import Readout, load_truth
from scalex.steering import Push, together

VALUES, LEARNED, DRAWN, STEPS = ("man", "woman"), range(32), 900, 4
PROBES = ("down_blocks.1", "mid_block", "up_blocks.0")

Maps = Float[np.ndarray, "roles steps width"]


@dataclass(frozen=True)
class Row:
    """One way to steer: the share of pictures read as woman, and of those that still show the role; and the mean
    distance (root mean square, of 2) to the nearest picture of the training."""

    probe: str
    way: str
    alpha: float
    woman: float
    kept: float
    distance: float


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=8, help="of each role")
    pictures = parser.parse_args().pictures
    truth, rows = load_truth(EMBEDDED), list[Row]()
    roles = tuple(truth.spec.roles)
    for probe in PROBES:
        model = load_model(EMBEDDED, unet=EMBEDDED_UNET, probe=probe)
        scene = Scene(model, Readout(truth, model), roles, range(DRAWN, DRAWN + pictures))
        for row in scene.rows():
            rows.append(row)
            print(f"{row.probe:14} {row.way:44} {row.alpha:4} {row.woman:6.3f} {row.kept:6.3f} {row.distance:6.3f}")
    save("steering", {"pictures": pictures, "roles": len(roles), "rows": [vars(row) for row in rows]}, [])


@dataclass(frozen=True, eq=False)
class Scene:
    """A model probed at one place, and what it is asked."""

    model: Model
    readout: Readout
    roles: tuple[str, ...]
    seeds: range

    def rows(self) -> Iterator[Row]:
        """Every way to steer at this probe."""
        yield self.row("as it is", 0.0, np.zeros((len(self.roles), STEPS, 1)), "")
        whole = self.own()
        channels = whole.reshape(*whole.shape[:2], self.model.probe_shape[0], -1)
        for pooling, own in (("mean", channels.mean(-1)), ("full", whole)):
            for alpha in (1.0, 2.0) if pooling == "full" else (1.0, 4.0):
                for name, maps in self.ways(own).items():
                    yield self.row(f"{pooling}, {name}", alpha, maps, pooling)
        last, rng = whole[:, -1:].repeat(STEPS, 1), np.random.default_rng(0)
        random = rng.normal(size=last[:, :1].shape).repeat(STEPS, 1)
        random *= np.linalg.norm(last, axis=2, keepdims=True) / np.linalg.norm(random, axis=2, keepdims=True)
        shuffled = channels[:, -1:, rng.permutation(channels.shape[2])].repeat(STEPS, 1).reshape(last.shape)
        yield self.row("full, random of equal length", 1.0, random, "full")
        yield self.row("full, own of the last step, channels shuffled", 1.0, shuffled, "full")

    def ways(self, own: Maps) -> Mapping[str, Maps]:
        """Directions for each role and step."""
        shared = own.mean(0, keepdims=True).repeat(len(own), 0)
        return {
            "own, of the first step": own[:, :1].repeat(STEPS, 1),
            "own, each step's": own,
            "own, of the last step": own[:, -1:].repeat(STEPS, 1),
            "shared, of the last step": shared[:, -1:].repeat(STEPS, 1),
        }

    def own(self) -> Maps:
        """Each role's second variant minus its first, at every step."""
        sums = dict.fromkeys(((role, value) for role in self.roles for value in VALUES), 0.0)
        names = {f"a photo of a {value} {role}": (role, value) for role, value in sums}
        plan = Plan(readings=("text",), steps=STEPS, keep="all", pooling="full")

        def add(_: str, batch: list[tuple[str, int]], values: np.ndarray) -> None:
            for (text, _seed), value in zip(batch, values, strict=True):
                sums[names[text]] += value.astype(np.float64) / len(LEARNED)

        capture(self.model, [(text, seed) for text in names for seed in LEARNED], plan, add)
        return np.stack([sums[role, VALUES[1]] - sums[role, VALUES[0]] for role in self.roles])

    def row(self, way: str, alpha: float, maps: Maps, pooling: str) -> Row:
        """What pictures of all roles show when they are steered so."""
        woman, kept, distance = [], [], []
        for role, own in zip(self.roles, maps, strict=True):
            samples = [(f"a photo of a {VALUES[0]} {role}", seed) for seed in self.seeds]
            steer = _steer(own, alpha, pooling) if alpha else None
            seen = self.readout.read(generate(self.model, samples, Plan(steps=STEPS), steer))
            woman.append(np.mean(seen.genders == 1))
            kept.append(np.mean(seen.names == role))
            distance.append(seen.distance.mean())
        return Row(self.model.probe, way, alpha, *(float(np.mean(part)) for part in (woman, kept, distance)))


def _steer(own: Float[np.ndarray, "steps width"], alpha: float, pooling: str) -> Steer:
    of = [Provenance("", "own", "text", step, pooling=pooling) for step in range(STEPS)]
    return together(*(Push(Direction(vector, told), alpha, (told.step,)) for vector, told in zip(own, of)))


if __name__ == "__main__":
    main()
