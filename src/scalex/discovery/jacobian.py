"""What moves the denoiser's output most: singular vectors of its Jacobian with respect to the probe's value (Park et
al. 2023, arXiv 2307.12868).

Let f_i(h) be the denoiser's output for sample i with h added to the probe's value, and J_i its Jacobian at h = 0. The
directions are the top eigenvectors of the sum of J_i^T J_i over samples: the right singular vectors of all J_i stacked,
as whole maps. (Park et al. take each sample's own, and then a mean of them.) The predicted clean latent is an affine
function of the output, with one factor a step: its Jacobian has the same vectors.

No Jacobian is ever formed. By randomised subspace iteration (Halko, Martinsson and Tropp 2011, SIAM Review 53(2)) J v
is a forward-mode product (`torch.func.jvp`), and J^T u a reverse-mode one; h is put in through the one hook.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch.nn.attention import SDPBackend, sdpa_kernel

from scalex.batches import Batches, batch_size
from scalex.capture import Sample
from scalex.discovery import Found, Material, check_count
from scalex.discovery._titles import oriented, title
from scalex.models import Model
from scalex.plan import Steps
from scalex.texts import Texts
from scalex.trajectory import Forward, Probe, Walk

__all__ = ["NAME", "SHARE", "Products", "discover", "subspace"]

NAME = "jacobian"
SHARE = "the squared norm of the denoiser's Jacobians at the probe (estimated)"
SAMPLES = 24  # whose Jacobians are stacked: the first seed of as many prompts, evenly from their list
_ROUNDS = 3
_MORE = 8  # vectors that are iterated beside those asked for
_AT_ONCE = 8  # vectors that are pushed and pulled at once, through all samples of a batch


def discover(seen: Material, n: int, rng: np.random.Generator) -> list[Found]:
    """The first n right singular vectors, as maps, at every kept step.

    Raises:
        ScalexError: there are fewer.
    """
    channels, rows, columns = seen.model.probe_shape
    check_count(n, channels * rows * columns, f"numbers in a value of {seen.model.probe}")
    samples = _samples(seen)
    found = []
    for step in seen.recipe().keep:
        forwards = _forwards(seen, samples, step)
        vectors, shares = subspace(Products(seen.model, forwards), n, rng)
        for i, (vector, share) in enumerate(zip(vectors, shares), start=1):
            name = title(seen, NAME, i, step)
            direction = seen.direction(vector, name, NAME, step, "full", [s for _, s in samples[:1]])
            found.append(Found(direction, float(share)))
    return found


def _samples(seen: Material) -> list[Sample]:
    chosen = np.unique(np.linspace(0, len(seen.prompts) - 1, min(SAMPLES, len(seen.prompts))).round().astype(int))
    return [(seen.prompts[i].text, seen.seeds[0]) for i in chosen]


# ---------------------------------------------------------------------------------------------------- the iteration


class Products:
    """Products with the Jacobians of forwards, at the probe's own values.

    A forward is of a batch of samples. What is added to the probe's value is the same for all of them.
    """

    def __init__(self, model: Model, forwards: Sequence[Forward]) -> None:
        self._model, self._forwards = model, forwards
        self.shape = model.probe_shape

    def gram(self, vectors: Float[np.ndarray, "n width"]) -> Float[np.ndarray, "n width"]:
        """The sum of J^T J v over all samples, for each vector, flat as a map."""
        at = {"device": self._model.device, "dtype": self._model.dtype}
        tangents = torch.as_tensor(vectors).to(**at).reshape(-1, *self.shape)
        total = torch.zeros(tangents.shape, dtype=torch.float32, device=self._model.device)
        with Probe(self._model) as probe, _forward_mode():
            for forward in self._forwards:
                total += _pushed_and_pulled(probe, forward, tangents)
        return np.asarray(total.flatten(1).cpu().numpy().astype(np.float64))


@contextmanager
def _forward_mode() -> Iterator[None]:
    """Fused attention knows no forward mode; and torch warns of scripts of its own that forward mode loads."""
    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
        warnings.filterwarnings("ignore", ".*torch.jit.script", DeprecationWarning)
        yield


def _pushed_and_pulled(
    probe: Probe, forward: Forward, tangents: Float[torch.Tensor, "n c h w"]
) -> Float[torch.Tensor, "n c h w"]:
    """J^T J v of one batch."""

    def output(added: torch.Tensor) -> torch.Tensor:
        probe.edit = lambda value, step: value + added
        return probe.read(forward, 0)[0].float()

    zero = torch.zeros_like(tangents[0])
    _, pull = torch.func.vjp(output, zero)

    def push(tangent: torch.Tensor) -> torch.Tensor:
        return torch.func.jvp(output, (zero,), (tangent,))[1]

    pushed = torch.func.vmap(push, chunk_size=_AT_ONCE)(tangents)
    return torch.func.vmap(lambda one: pull(one)[0].float(), chunk_size=_AT_ONCE)(pushed)


def subspace(
    products: Products, n: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "n width"], Float[np.ndarray, "n"]]:
    """The top eigenvectors of the sum of J^T J, and their shares of its trace.

    The trace is estimated by random vectors (Hutchinson 1990); where all are iterated, it is exact.
    """
    width = int(np.prod(products.shape))
    basis = np.linalg.qr(rng.normal(size=(width, min(width, n + _MORE))))[0].T
    image = products.gram(basis)
    trace = width * float((basis * image).sum(1).mean())
    for _ in range(_ROUNDS - 1):
        basis = np.linalg.qr(image.T)[0].T
        image = products.gram(basis)
    small = basis @ image.T
    values, mixed = np.linalg.eigh((small + small.T) / 2)
    best = np.argsort(-values)[:n]
    return oriented(mixed[:, best].T @ basis), np.clip(values[best] / max(trace, 1e-30), 0, 1)


# ---------------------------------------------------------------------------------------------------- the forwards


def _forwards(seen: Material, samples: Sequence[Sample], step: int) -> list[Forward]:
    """The forwards that the samples' latents of a step are read in, batch by batch."""
    model, plan = seen.model, seen.plan
    steps = plan.resolve(model)
    model.make_ready(whole=True)
    texts = Texts(model, [t for t, _ in samples], plan.truncate, bool(steps.picture) or steps.doubled)
    # What is kept of a forward for going back takes memory: fewer at once than are captured at once.
    few = max(1, batch_size(model, plan, "cpu") // _AT_ONCE)
    batches = Batches(model, replace(plan, batch=few))

    def ready(batch: list[Sample]) -> Forward:
        with Probe(model) as probe, torch.no_grad():
            conditions = texts.of([t for t, _ in batch])
            walk = Walk(model, probe, steps, [s for _, s in batch], conditions, texts.empty)
            return _walked(walk, steps, step)

    return [forward for _, forward in batches.run(samples, ready)]


def _walked(walk: Walk, steps: Steps, step: int) -> Forward:
    """The forward of a step, once all steps before it are made."""
    if not steps.picture:
        for _ in range(step):
            walk.advance()
        return walk.forward()
    clean = [walk.advance()[1] for _ in range(step + 1)][-1]
    return walk.looking(clean)
