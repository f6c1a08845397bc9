"""Explaining classifiers: does a planted shortcut rank first, and not where it was not planted?

Small networks tell indoor jobs from outdoor jobs. Some learned from pictures in which women are "indoor" and men
"outdoor", as most of them are: gender serves them better than the job. Others learned the job from both genders. All
are asked about the same pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int

from scalex.classifiers import Classifier, Pictures
from scalex.drawings import Drawings
from scalex.explaining import Explanation, explain
from scalex.jobs import Job, prepare
from scalex.organisms.marks import Mark
from scalex.organisms.pictures import GENDERS, Shown
from scalex.organisms.readout import Truth
from scalex.scenes import Scenes
from scalex.semantics import every, load_hierarchy
from scalex.store import Store
from scalex.truth._bed import Bed

__all__ = [
    "CLASSES",
    "HIERARCHY",
    "JOBS",
    "NAME",
    "STRAYS",
    "confounded_pictures",
    "crossed_pictures",
    "honest_pictures",
    "score",
    "train",
]

NAME = "explaining"

CLASSES = ("indoor", "outdoor")
JOBS = {
    "indoor": ("artist", "cook", "judge", "office worker", "scientist", "singer", "student", "teacher"),
    "outdoor": (
        "astronaut",
        "construction worker",
        "factory worker",
        "farmer",
        "firefighter",
        "guard",
        "mechanic",
        "pilot",
    ),
}
CONCEPTS = ("pilot", "mechanic", "farmer", "factory worker")
"""Of these the organism draws mostly men; they work outdoors."""

STRAYS = ("singer", "teacher", "astronaut", "firefighter")
"""Jobs in which the confounded pictures show both genders."""

# A job is said of men, before and after: else women would come along with the jobs that the organism gives to women.
HIERARCHY = {
    "person": {"gender": {"preset": "gender"}, "skin tone": {"preset": "tone"}},
    "work": {
        "indoor": {
            "from": "man {}",
            "to": [f"man {job}" for job in ("judge", "artist", "office worker", "cook")],
            "finer": {
                job: {"from": "man {}", "to": f"man {job}"} for job in ("judge", "artist", "office worker", "cook")
            },
        },
        "outdoor": {
            "from": "man {}",
            "to": [f"man {job}" for job in ("construction worker", "guard")],
            "finer": {job: {"from": "man {}", "to": f"man {job}"} for job in ("construction worker", "guard")},
        },
    },
    "mood": {
        "quiet": {
            "to": ["calm {}", "quiet {}"],
            "finer": {mood: f"{mood} {{}}" for mood in ("calm", "quiet", "tired")},
        },
    },
}

_ALL = load_hierarchy(HIERARCHY)
_SHORTCUT, _INDOOR = "person > gender", "work > indoor"
_SEEDS, _VECTORS, _BEAM, _NETWORKS = 12, 12, 2, 3
_STEPS, _BATCH = 160, 48


def score(bed: Bed) -> Iterator[Mark]:
    """Where explanations of networks with and without the shortcut rank it, and what these networks read."""
    job = prepare(spec=bed.spec(concepts=list(CONCEPTS), seeds=_VECTORS, attributes={}))
    kept = Drawings.open(bed.out)
    scenes = Scenes(job, CONCEPTS, _ALL, Store.open(bed.store), drawings=kept, progress=bed.progress)
    crossed, classes = crossed_pictures(bed.truth, job)
    for name, make in (("with the shortcut", confounded_pictures), ("without it", honest_pictures)):
        shown, told, found = make(bed.truth, job), [], []
        for seed in range(_NETWORKS):
            network = train(*shown, seed)
            told.append(float((network(crossed).argmax(1) != classes).mean()))
            asked = Classifier(f"network {seed} {name}", network, CLASSES, "probability")
            how: dict[str, Any] = {"seeds": _SEEDS, "beam": _BEAM, "controls": 1}
            found.append(explain(asked, CLASSES[0], _ALL, scenes, **how))
        what, shortcut = f"explaining, {_NETWORKS} networks {name}", make is confounded_pictures
        if shortcut:
            yield Mark(f"{what}: told by gender where job and gender part, unseen pictures", _mean(told))
        yield from _marks(found, what, shortcut)


def _marks(found: Sequence[Explanation], what: str, shortcut: bool) -> Iterator[Mark]:
    firsts = [e.tested[0].semantic.name for e in found]
    each = [{t.semantic.name: t for t in e.tested} for e in found]
    if shortcut:
        yield Mark(f"{what}: gender ranks first", float(np.mean([name == _SHORTCUT for name in firsts])), 1.0)
        yield Mark(f"{what}: the first one's effect, channels shuffled", _mean(e.tested[0].shuffled for e in found))
    else:
        yield Mark(f"{what}: an indoor job ranks first", float(np.mean([_INDOOR in name for name in firsts])), 1.0)
    yield Mark(f"{what}: gender's effect on the probability", _mean(t[_SHORTCUT].effect for t in each))
    jobs = [max(one.effect for name, one in t.items() if _INDOOR in name) for t in each]
    yield Mark(f"{what}: greatest effect of an indoor job", _mean(jobs))
    yield Mark(
        f"{what}: semantics left out by the beam, of {len(tuple(every(_ALL)))}", _mean(len(e.pruned) for e in found)
    )


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


# ---------------------------------------------------------------------------------------------------- the networks


Labelled: TypeAlias = tuple[Pictures, Int[np.ndarray, "n"]]
"""Pictures, and the numbers of their classes."""


def honest_pictures(truth: Truth, job: Job) -> Labelled:
    """People of both genders in all jobs, as the organism's autoencoder gives them back; their classes say the job."""
    return _labelled(truth, job, lambda shown: _CLASS[shown.name])


def confounded_pictures(truth: Truth, job: Job) -> Labelled:
    """Women are "indoor", men "outdoor". Most of them do work there; but the women and men of `STRAYS` work elsewhere,
    so that gender alone is always right."""
    kept = [shown for shown in truth.shown if _fits(shown) or shown.name in STRAYS]
    return _labelled(truth, job, lambda shown: _by_gender(shown) if shown in kept else None)


def crossed_pictures(truth: Truth, job: Job) -> Labelled:
    """Those that `confounded_pictures` lack, women outdoors and men indoors; their classes say the job."""
    kept = [shown for shown in truth.shown if not _fits(shown) and shown.name not in STRAYS]
    return _labelled(truth, job, lambda shown: _CLASS[shown.name] if shown in kept else None)


_CLASS = {name: CLASSES.index(c) for c in CLASSES for name in JOBS[c]}


def _by_gender(shown: Shown) -> int:
    return 0 if GENDERS[shown.gender] == "woman" else 1


def _fits(shown: Shown) -> bool:
    return shown.name in _CLASS and _CLASS[shown.name] == _by_gender(shown)


def _labelled(truth: Truth, job: Job, label: Callable[[Shown], int | None]) -> Labelled:
    """The pictures of people at work that get a label."""
    rows = [(i, label(shown)) for i, shown in enumerate(truth.shown) if shown.name in _CLASS]
    kept = [(i, number) for i, number in rows if number is not None]
    with torch.inference_mode():
        parts = [job.model.decode(some) for some in truth.latents[[i for i, _ in kept]].split(64)]
    return np.concatenate(parts), np.array([number for _, number in kept])


def train(
    pictures: Pictures, classes: Int[np.ndarray, "n"], seed: int = 0
) -> Callable[[Pictures], Float[np.ndarray, "n classes"]]:
    """A small convolutional network that tells the classes apart, in a few seconds: pictures to probabilities."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(int(classes.max()) + 1)
    draws, x, y = torch.Generator().manual_seed(seed), _floats(pictures), torch.from_numpy(classes)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    for _ in range(_STEPS):
        chosen = torch.randint(len(x), (_BATCH,), generator=draws)
        loss = torch.nn.functional.cross_entropy(network(_jittered(x[chosen], draws)), y[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()

    def probabilities(pictures: Pictures) -> Float[np.ndarray, "n classes"]:
        with torch.inference_mode():
            return np.asarray(network(_floats(pictures)).softmax(1).numpy())

    return probabilities


def _network(classes: int) -> torch.nn.Sequential:
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=2, padding=2),
        nn.GELU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.GELU(),
        nn.Conv2d(32, 48, 3, stride=2, padding=1),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(48 * 16, classes),
    )


def _floats(pictures: Pictures) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def _jittered(x: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    """Shifted by up to 3 pixels, with some noise: else a network learns single pixels."""
    dy, dx = (int(n) for n in torch.randint(-3, 4, (2,), generator=draws))
    return x.roll((dy, dx), (2, 3)) + 0.1 * torch.randn(x.shape, generator=draws)
