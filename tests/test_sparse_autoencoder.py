"""Sparse autoencoders against a known dictionary, against SAELens, and as a stream; and latents switched off."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from scalex import discovery, scratch
from scalex.ablation import NOTHING, ablate
from scalex.capture import Plan, generate
from scalex.cli import app
from scalex.direction_files import save_direction
from scalex.discovery import _sae_training, material
from scalex.discovery._sae_streams import blocks, held_out, shuffled
from scalex.discovery.sparse_autoencoder import (
    LatentStream,
    Origin,
    Settings,
    SparseAutoencoder,
    StoreStream,
    activations,
    best_latents,
    discover,
    judge,
    load_sae,
    open_trained,
    save_sae,
    separations,
    train,
    train_on,
)
from scalex.drawings import Drawings
from scalex.errors import ScalexError
from scalex.jobs import Job, prepare
from scalex.models import Model
from scalex.records import Latents, Prompt, Recipe
from scalex.steering_vectors import steering_vectors
from scalex.store import Store
from scalex.switches import Ablate, check_switches, random_latents
from scalex.switching import switch_off

WIDTH, FEATURES, ACTIVE = 24, 40, 3
FAST = Settings(k=ACTIVE, latents=2 * FEATURES, steps=800, batch=256, dead_after=2_000, rate=3e-3)
TINY = Settings(k=4, latents=32, steps=30, batch=32)
RECIPE = Recipe("m" * 64, "text", "s", 4, 1.0, (0, 3), 0, "mid_block", "mean", "fp32", (4, 8, 8))


def features() -> torch.Tensor:
    """The true dictionary: rows of length 1."""
    return torch.nn.functional.normalize(
        torch.from_numpy(np.random.default_rng(0).normal(size=(FEATURES, WIDTH))), dim=1
    )


def mixtures(n: int) -> np.ndarray:
    """Vectors of which three of the features are on, around a mean that is none of them."""
    rng = np.random.default_rng(1)
    on = np.zeros((n, FEATURES))
    for row in on:
        row[rng.choice(FEATURES, ACTIVE, replace=False)] = rng.uniform(1, 3, ACTIVE)
    return (on @ features().numpy() + 5 * np.ones(WIDTH)).astype(np.float32)


def latents_of(values: np.ndarray, seeds: int) -> Latents:
    """(samples, width) as latents of prompts and seeds, at two kept steps of which the second holds the values."""
    prompts = tuple(Prompt(f"text {i}", f"c{i}", "t") for i in range(len(values) // seeds))
    shaped = values.reshape(len(prompts), seeds, 1, -1)
    return Latents(np.concatenate([shaped - 7, shaped], axis=2), prompts, tuple(range(seeds)), (0, 3), "text")


@pytest.fixture(scope="module")
def known() -> LatentStream:
    """The mixtures as a stream."""
    return LatentStream(latents_of(mixtures(4096), 64), step=-1)


@pytest.fixture(scope="module", params=["topk", "batchtopk", "matryoshka"])
def learned(request: Any, known: LatentStream) -> tuple[SparseAutoencoder, _sae_training.Quality]:
    """A sparse autoencoder of each kind, trained on the mixtures."""
    if request.param == "matryoshka":
        return train(known, replace(FAST, prefixes=(20, 40)))
    return train(known, replace(FAST, kind=request.param))


def random_sae(kind: Any = "topk", width: int = 6, latents: int = 12, k: int = 3, **more: Any) -> SparseAutoencoder:
    generator = torch.Generator().manual_seed(3)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    decoder = torch.nn.functional.normalize(draw(latents, width), dim=1)
    return SparseAutoencoder(draw(width, latents), draw(latents), decoder, draw(width), kind, k, **more)


# ---------------------------------------------------------------------------------------------------- known answers


def test_a_known_dictionary_is_recovered(learned: tuple[SparseAutoencoder, _sae_training.Quality]) -> None:
    """Mean over the true features of the greatest cosine with a row: above 0.9, a bound fixed beforehand."""
    sae, quality = learned
    cosines = features().float() @ sae.decoder.T
    assert float(cosines.max(dim=1).values.mean()) > 0.9
    assert quality.explained > 0.9
    torch.testing.assert_close(sae.decoder.norm(dim=1), torch.ones(sae.latents))


def test_topk_has_k_on_exactly_and_batchtopk_on_the_average(known: LatentStream) -> None:
    for kind in ("topk", "batchtopk"):
        sae, quality = train(known, replace(FAST, kind=kind, steps=300))
        places = held_out(known, FAST.held_out)[1]
        on = torch.cat([sae.encode(block) > 0 for block in blocks(known, places)]).sum(1).float()
        assert quality.l0 == pytest.approx(float(on.mean()))
        if kind == "topk":
            assert set(on.tolist()) == {float(ACTIVE)}
        else:
            assert float(on.mean()) == pytest.approx(ACTIVE, rel=0.1)
            assert len(set(on.tolist())) > 1


def test_in_training_a_batch_of_batchtopk_has_k_on_the_average_exactly() -> None:
    from scalex.discovery._sae import batch_top_k, top_k

    before = torch.randn(50, 30, generator=torch.Generator().manual_seed(0))
    assert int((batch_top_k(before, 4) > 0).sum()) == 200
    assert (batch_top_k(before, 4)[batch_top_k(before, 4) > 0]).min() >= before[batch_top_k(before, 4) == 0].max()
    assert ((top_k(before, 4) > 0).sum(1) == 4).all()
    assert not (top_k(-before.abs(), 4) > 0).any()


def test_the_auxiliary_loss_brings_dead_latents_to_life(known: LatentStream) -> None:
    """70 of 80 latents begin where they are hardly ever on: with the auxiliary loss more than twice as many come to
    life, and less is left unexplained."""
    alive, loss = {}, {}
    places = np.arange(len(known.seeds))
    mean, scale = _sae_training._moments(known, places)
    for weight in (0.0, 1 / 32):
        trainer = _sae_training.Trainer(replace(FAST, auxiliary=weight, dead_after=1_000), mean, scale, "cpu")
        with torch.no_grad():
            trainer.parts["encoder_bias"][:70] = -4.0
        for _, batch in zip(range(500), shuffled(known, places, FAST.batch, 0)):
            trainer.step(batch, 500)
        alive[weight] = float((~trainer.dead[:70]).float().mean())
        with torch.no_grad():
            trainer.settings = replace(FAST, auxiliary=0.0)
            loss[weight] = float(trainer._loss(torch.from_numpy(known.take(places)[:, 0]) * scale)[0])
    assert alive[1 / 32] > 2 * alive[0.0]
    assert loss[1 / 32] < 0.9 * loss[0.0]


def test_explained_variance_and_worth_are_those_of_their_definitions() -> None:
    sae = random_sae()
    stream = LatentStream(latents_of(np.random.default_rng(5).normal(size=(40, 6)).astype(np.float32), 4), step=-1)
    places = np.arange(40)
    found = judge(sae, stream, places)
    x = torch.from_numpy(stream.take(places)[:, 0]).double()
    double = replace(sae, **{n: getattr(sae, n).double() for n in ("encoder", "encoder_bias", "decoder", "bias")})
    on = double.encode(x)
    variance = float((x - x.mean(0)).square().sum())
    left = float((x - double.decode(on)).square().sum())
    assert found.explained == pytest.approx(1 - left / variance, rel=1e-4)
    for latent in (0, 7):
        without = on.clone()
        without[:, latent] = 0
        more = float((x - double.decode(without)).square().sum()) - left
        assert found.worth[latent] == pytest.approx(more / variance, abs=1e-5)
    assert found.density == pytest.approx((on > 0).double().mean(0).numpy())
    assert found.dead == float((found.density == 0).mean())


# ---------------------------------------------------------------------------------------------------- streams


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Mixtures at two kept steps, written in no order."""
    store = Store.open(tmp_path / "store")
    latents = latents_of(mixtures(96), 8)
    pairs = [(p.text, seed) for p in latents.prompts for seed in latents.seeds]
    order = np.random.default_rng(0).permutation(len(pairs))
    values = latents.values.reshape(len(pairs), 2, WIDTH)
    for part in np.array_split(order, 3):
        store.write(RECIPE, [pairs[i] for i in part], values[part])
    return store


def test_a_stream_from_the_store_gives_what_latents_in_memory_give(store: Store) -> None:
    latents = latents_of(mixtures(96), 8)
    for step in (None, -1):
        ours, theirs = LatentStream(latents, step), StoreStream(store, RECIPE, step=step)
        assert (ours.texts == theirs.texts).all()
        assert (ours.seeds == theirs.seeds).all()
        places = np.array([5, 0, 95, 40])
        np.testing.assert_array_equal(ours.take(places), theirs.take(places))
    one, two = (train(s, TINY)[0] for s in (LatentStream(latents), StoreStream(store, RECIPE)))
    assert all(torch.equal(getattr(one, n), getattr(two, n)) for n in ("encoder", "encoder_bias", "decoder", "bias"))
    assert one.threshold == two.threshold


def test_a_stream_holds_what_was_asked_for(store: Store) -> None:
    stream = StoreStream(store, RECIPE, {"text 1", "text 2"}, range(3))
    assert list(stream.texts) == ["text 1"] * 3 + ["text 2"] * 3
    with pytest.raises(ScalexError, match="holds none of these samples"):
        StoreStream(store, RECIPE, {"text 1000"})
    with pytest.raises(ScalexError, match="holds nothing of recipe"):
        StoreStream(store, replace(RECIPE, steps=5))
    with pytest.raises(ScalexError, match="moments are stored"):
        StoreStream(store, replace(RECIPE, moments=4))


def test_a_map_is_a_vector_at_every_position(ddim: Model) -> None:
    maps = np.random.default_rng(0).normal(size=(4, 2, 1, 3, 2, 2)).astype(np.float32)
    prompts = tuple(Prompt(f"{i}", "c", "t") for i in range(4))
    latents = Latents(maps.reshape(4, 2, 1, 12), prompts, (0, 1), (0,), "text")
    whole = LatentStream(latents, None, "full", 3)
    assert (whole.width, whole.positions) == (3, 4)
    np.testing.assert_array_equal(whole.take(np.array([3])), maps[1, 1, 0].reshape(3, 4).T[None])
    assert LatentStream(latents, None, "grid:2").positions == 4
    with pytest.raises(ScalexError, match="do not say how many channels"):
        LatentStream(latents, None, "full")
    with pytest.raises(ScalexError, match="are no maps of 5 channels"):
        LatentStream(latents, None, "full", 5)


def test_batches_go_over_all_samples_in_another_order_each_pass(known: LatentStream) -> None:
    places = np.arange(100)
    batches = shuffled(known, places, 25, 0)
    passes = [torch.cat([next(batches) for _ in range(4)]) for _ in range(2)]
    everything = torch.from_numpy(known.take(places)[:, 0])
    assert not torch.equal(passes[0], passes[1])
    for one in passes:
        torch.testing.assert_close(one.sort(dim=0).values, everything.sort(dim=0).values)
    later = shuffled(known, places, 25, 0, first=5)
    again = shuffled(known, places, 25, 0)
    assert torch.equal(next(later), [next(again) for _ in range(6)][-1])


def test_it_is_judged_by_seeds_that_it_has_not_seen(known: LatentStream) -> None:
    learned, held = held_out(known, 0.125)
    assert len(held) == 4096 // 8
    assert not set(known.seeds[learned]) & set(known.seeds[held])
    with pytest.raises(ScalexError, match="there is but one"):
        held_out(LatentStream(latents_of(mixtures(4), 1)), 0.5)


def test_a_killed_training_goes_on_to_the_same_result(store: Store, tmp_path: Path) -> None:
    stream = StoreStream(store, RECIPE)
    whole, _ = train(stream, TINY)

    def kill(done: int, total: int) -> None:
        if done == 17:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(stream, TINY, folder=tmp_path / "sae", every=8, progress=kill)
    seen: list[int] = []
    resumed, _ = train(stream, TINY, folder=tmp_path / "sae", every=8, progress=lambda done, total: seen.append(done))
    assert seen[0] == 17
    assert all(torch.equal(getattr(whole, n), getattr(resumed, n)) for n in ("encoder", "decoder", "bias"))
    assert not list((tmp_path / "sae").iterdir())
    with pytest.raises(KeyboardInterrupt):
        train(stream, TINY, folder=tmp_path / "sae", every=8, progress=kill)
    with pytest.raises(ScalexError, match="is a checkpoint of another training"):
        train(stream, replace(TINY, seed=1), folder=tmp_path / "sae")


def test_another_seed_gives_another_one_and_the_same_the_same(store: Store) -> None:
    stream = StoreStream(store, RECIPE)
    first, again, other = (train(stream, replace(TINY, seed=seed))[0] for seed in (0, 0, 1))
    assert torch.equal(first.decoder, again.decoder)
    assert not torch.equal(first.decoder, other.decoder)


# ---------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("kind", ["topk", "batchtopk"])
def test_a_file_gives_back_what_was_saved(kind: Any, tmp_path: Path) -> None:
    sae = random_sae(kind, threshold=0.3 if kind == "batchtopk" else 0.0, prefixes=(4, 12))
    of = Origin.of(RECIPE)
    back, told = load_sae(save_sae(sae, tmp_path / "sae", of))
    assert told == of
    x = torch.randn(9, 6)
    assert torch.equal(back.encode(x), sae.encode(x))
    assert torch.equal(back.decode(back.encode(x)), sae.decode(sae.encode(x)))
    assert (back.kind, back.k, back.prefixes) == (sae.kind, sae.k, sae.prefixes)


@pytest.mark.parametrize("kind", ["topk", "batchtopk"])
@pytest.mark.filterwarnings("ignore")  # of SAELens and what it imports
def test_saelens_loads_what_was_saved(kind: Any, tmp_path: Path) -> None:
    saelens = pytest.importorskip("sae_lens", reason="SAELens is not installed: pip install sae-lens")
    sae = random_sae(kind, threshold=0.3 if kind == "batchtopk" else 0.0)
    theirs = saelens.SAE.load_from_disk(str(save_sae(sae, tmp_path / "ours", Origin.of(RECIPE))))
    assert theirs.cfg.architecture() == {"topk": "topk", "batchtopk": "jumprelu"}[kind]
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(theirs.encode(x), sae.encode(x))
        torch.testing.assert_close(theirs(x), sae.decode(sae.encode(x)))
    theirs.save_model(tmp_path / "theirs")
    back, of = load_sae(tmp_path / "theirs")
    assert torch.equal(back.encode(x), sae.encode(x))
    assert (back.kind, of) == (kind, Origin.of(RECIPE))


def test_a_folder_that_holds_no_sparse_autoencoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScalexError, match=r"it has no cfg.json"):
        load_sae(tmp_path / "nowhere")

    def saved(**config: Any) -> Path:
        folder = save_sae(random_sae("batchtopk", threshold=0.1), tmp_path / "sae")
        told = json.loads((folder / "cfg.json").read_text()) | config
        (folder / "cfg.json").write_text(json.dumps(told))
        return folder

    for config, message in (
        ({"architecture": "gated"}, "of architecture 'gated'. scalex reads topk, jumprelu"),
        ({"normalize_activations": "layer_norm"}, "says normalize_activations: 'layer_norm'"),
        ({"d_sae": 13}, r"W_enc in .* is \(6, 12\), and cfg.json says \(6, 13\)"),
        ({"metadata": {"scalex": {"origin": {"planet": "x"}}}}, "tells more of its origin than scalex knows"),
        ({"metadata": {"scalex": {"origin": {"reading": "mind"}}}}, "names no reading: 'mind'"),
    ):
        with pytest.raises(ScalexError, match=message):
            load_sae(saved(**config))
    folder = saved()
    (folder / "cfg.json").write_text("{")
    with pytest.raises(ScalexError, match=r"cfg.json cannot be read"):
        load_sae(folder)
    weights = saved() / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ScalexError, match="is damaged"):
        load_sae(weights.parent)
    weights.unlink()
    with pytest.raises(ScalexError, match="it has no sae_weights"):
        load_sae(weights.parent)


def test_a_threshold_for_each_latent_and_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = save_sae(random_sae("batchtopk"), tmp_path) / "sae_weights.safetensors"
    for name, values, message in (
        ("threshold", torch.arange(12.0), "a threshold of its own for each latent"),
        ("b_dec", torch.full((6,), math.nan), "b_dec in .* holds values that are not finite"),
    ):
        whole = load_file(file)
        save_file(whole | {name: values}, file)
        with pytest.raises(ScalexError, match=message):
            load_sae(tmp_path)
        save_file(whole, file)


def test_a_latent_is_a_direction_of_length_one() -> None:
    sae, of = random_sae(), Origin.of(RECIPE)
    direction = of.direction(sae, 3)
    np.testing.assert_allclose(direction.vector, sae.decoder[3].numpy())
    assert (direction.of.origin, direction.of.pooling, direction.of.model) == ("sparse_autoencoder", "mean", "m" * 64)
    with pytest.raises(ScalexError, match=r"there is no latent 12. They are numbered 0..11"):
        of.direction(sae, 12)


# ---------------------------------------------------------------------------------------------------- switching off


def value_of(sae: SparseAutoencoder, n: int = 2, side: int = 4) -> torch.Tensor:
    return torch.randn(n, sae.width, side, side, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("pooling", ["full", "mean", "grid:2"])
@pytest.mark.parametrize("kind", ["topk", "batchtopk"])
def test_a_latent_switched_off_takes_exactly_what_it_adds(pooling: str, kind: Any) -> None:
    sae = random_sae(kind, threshold=0.1)
    value = value_of(sae)
    grid = {"full": 4, "mean": 1, "grid:2": 2}[pooling]
    cells = torch.nn.functional.adaptive_avg_pool2d(value, grid)
    on = sae.encode(cells.movedim(1, -1)).sum((0, 1, 2))
    chosen = on.argsort(descending=True)[1:3].tolist()
    gone = value - Ablate(sae, chosen, Origin(pooling=pooling))(())(value, 0)
    for i in range(4):
        for j in range(4):
            x = cells[:, :, i * grid // 4, j * grid // 4]
            own = sum(sae.encode(x)[:, [latent]] * sae.decoder[latent] for latent in chosen)
            torch.testing.assert_close(gone[:, :, i, j], own, atol=1e-5, rtol=1e-5)
    assert float(gone.abs().max()) > 0.1


def test_nothing_switched_off_changes_nothing_to_the_last_bit(ddim: Model) -> None:
    sae = random_sae(width=ddim.probe_shape[0], latents=128)
    plan, samples = Plan(steps=2, guidance=1.0), [("a photo of a nurse", 1), ("a man pilot", 2)]
    plain = generate(ddim, samples, plan)
    for edit in (
        Ablate(sae, []),
        Ablate(sae, [3], steps=()),
        Ablate(sae, [3], scale=1.0),
        Ablate(replace(sae, kind="batchtopk", threshold=1e9), range(128), Origin(pooling="full")),
    ):
        assert np.array_equal(generate(ddim, samples, plan, edit), plain)
    off = Ablate(sae, range(128), Origin(pooling="full"))
    assert not np.array_equal(generate(ddim, samples, plan, off), plain)


def test_a_scale_multiplies_what_latents_add_and_steps_are_kept_to() -> None:
    sae = random_sae()
    value, of = value_of(sae), Origin(pooling="full")
    off = value - Ablate(sae, [2], of)(())(value, 0)
    turned = value - Ablate(sae, [2], of, scale=-1.0)(())(value, 0)
    torch.testing.assert_close(turned, 2 * off)
    later = Ablate(sae, [2], of, steps=(1,))(())
    assert later(value, 0) is value
    assert not torch.equal(later(value, 1), value)
    half = Ablate(sae, [2], of)(())(value.half(), 0)
    assert half.dtype == torch.float16


def test_what_does_not_fit_is_refused(ddim: Model) -> None:
    sae = random_sae()
    for make, message in (
        (lambda: Ablate(sae, [12]), "there is no latent 12"),
        (lambda: Ablate(sae, [1], scale=math.nan), "the scale of latents is nan"),
        (lambda: Ablate(sae, [1])(())(torch.zeros(1, 5, 2, 2), 0), "is 6 wide, and the probe gives 5 channels"),
        (lambda: check_switches(sae, Origin(), ddim), "is 6 wide, and the probe gives 64 channels"),
        (lambda: check_switches(sae, Origin(model="0" * 64), ddim), "was trained on another model"),
        (lambda: check_switches(sae, Origin(probe="up_blocks.0"), ddim), "was trained on another probe"),
        (lambda: random_latents(np.array([0.5, 0.5, 0.0]), [0, 1], np.random.default_rng(0)), "there are 0 other"),
    ):
        with pytest.raises(ScalexError, match=message):
            make()


def test_random_latents_are_others_that_are_on_as_often() -> None:
    density = np.linspace(0.01, 1, 100)
    found = random_latents(density, [50, 51], np.random.default_rng(0))
    assert not {50, 51} & set(found)
    assert np.abs(density[found] - 0.5).max() < 0.15


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"kind": "gated"}, "unknown kind of sparse autoencoder 'gated'. Choose from topk, batchtopk"),
        ({"k": 0}, "k of a sparse autoencoder is 0"),
        ({"k": 9, "latents": 8}, "9 of 8 latents can't be on"),
        ({"latents": 16, "prefixes": (8, 4)}, r"prefixes \[8, 4\] do not rise from 1 to 16"),
        ({"latents": 16, "prefixes": (20,)}, r"prefixes \[20\] do not rise from 1 to 16"),
        ({"held_out": 1.0}, "held_out is 1.0"),
    ],
)
def test_settings_out_of_range_are_refused(told: dict[str, Any], message: str) -> None:
    with pytest.raises(ScalexError, match=message):
        Settings(**told)


def test_latents_that_do_not_vary_are_refused() -> None:
    with pytest.raises(ScalexError, match="the latents do not vary"):
        train(LatentStream(latents_of(np.ones((8, 6), np.float32), 4), -1), TINY)


# ---------------------------------------------------------------------------------------------------- of a job


class Halves:
    """Tells whether the left half of a picture is brighter than its right half."""

    name, attribute, values = "halves", "side", ("left", "right")

    def score(self, pictures: np.ndarray) -> np.ndarray:
        """As of an `AttributeScorer`."""
        middle = pictures.shape[2] // 2
        left = pictures[:, :, :middle].mean((1, 2, 3)) > pictures[:, :, middle:].mean((1, 2, 3))
        return np.stack([left, ~left], axis=1).astype(float)


@pytest.fixture(scope="module")
def job(tiny_folder: Callable[..., Path]) -> Job:
    """Two concepts and their variants of a tiny model."""
    spec = {"concepts": ["nurse", "pilot"], "templates": ["a photo of a {}"], "attributes": ["gender"], "steps": 2}
    return prepare(tiny_folder(), spec, seeds=8, guidance=1.0, analyses=["defaults"], device="cpu")


@pytest.fixture(scope="module")
def trained(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sparse autoencoder of its whole maps, in a folder."""
    folder = tmp_path_factory.mktemp("sae")
    train_on(job, Store.open(folder / "store"), folder, replace(TINY, latents=128, steps=60))
    return folder


def test_a_job_gives_a_sparse_autoencoder_and_what_its_latents_tell_apart(job: Job, trained: Path) -> None:
    found = open_trained(trained)
    assert (found.of.model, found.of.probe, found.of.pooling) == (job.model.fingerprint, "mid_block", "full")
    assert found.of.steps == (0, 1)
    man, woman = (found.table[found.table["value"] == value] for value in ("man", "woman"))
    assert len(man) == len(woman) == 128
    np.testing.assert_allclose(man["auc"].to_numpy(), 1 - woman["auc"].to_numpy())
    best = best_latents(found, "gender", "woman", 3)
    assert found.table.set_index(["value", "latent"]).loc[("woman", best[0]), "auc"] == woman["auc"].max()
    for asked, message in ((("gender", "robot"), "no latent was asked for value 'robot'"), (("hair", "x"), "'hair'")):
        with pytest.raises(ScalexError, match=message):
            best_latents(found, *asked, 3)


def test_separations_are_areas_under_the_curve() -> None:
    sae = random_sae(width=WIDTH, latents=20)
    stream = LatentStream(latents_of(mixtures(96), 8), -1)
    table = separations(sae, stream, {("a", "x"): {"text 0", "text 1"}, ("a", "y"): {"text 5"}}, 0.25)
    places = held_out(stream, 0.25)[1]
    on, texts = activations(sae, stream, places), stream.texts[places]
    from scalex.stats import auc

    for latent in (0, 11):
        told = table[(table["value"] == "x") & (table["latent"] == latent)]["auc_held"].item()
        own = np.isin(texts, ["text 0", "text 1"])
        assert told == pytest.approx(auc(on[texts == "text 5", latent], on[own, latent]))


def test_what_leaves_and_what_stays(job: Job, trained: Path, tmp_path: Path) -> None:
    found = switch_off(job, trained, attribute="gender", value="woman", top=40, scale=-20.0, scorers=[Halves()])
    table = found.table
    assert set(table["prompts"]) == {"neutral", "gender=man", "gender=woman"}
    assert list(dict.fromkeys(table["off"])) == ["40 latents of gender=woman x -20", "40 random latents x -20"]
    sides = table[table["attribute"] == "side"].groupby(["off", "prompts"])
    for _, rows in sides:
        assert set(rows["value"]) == {"left", "right", NOTHING}
        assert rows["before"].sum() == pytest.approx(1)
        assert rows["after"].sum() == pytest.approx(1)
        assert rows["change"].sum() == pytest.approx(0)
    pictures = table[table["value"] == "distance"]
    assert (pictures["before"] == 0).all()
    assert (pictures["after"] > 0).all()
    place = found.save(tmp_path / "out")
    assert (place / "ablation.csv").read_text().startswith("off,prompts,attribute,value,before,after,change,low,high")
    assert (place / "ablation.png").stat().st_size > 2000


def test_readings_are_those_of_the_pictures(job: Job, trained: Path) -> None:
    sae, of = load_sae(trained)
    off = Ablate(sae, range(sae.latents), of)
    prompts = [p for p in job.prompts if not p.attribute and p.role == "concept"]
    found = ablate(job.model, prompts, job.seeds, job.plan, {"all": off}, [Halves()])
    samples = [(p.text, seed) for p in prompts for seed in job.seeds]
    plain, without = (generate(job.model, samples, job.plan, steer) for steer in (None, off))
    row = found.table[found.table["value"] == "left"].iloc[0]
    assert row["before"] == pytest.approx(Halves().score(plain)[:, 0].mean())
    assert row["after"] == pytest.approx(Halves().score(without)[:, 0].mean())
    apart = np.sqrt(((plain.astype(float) - without) ** 2).mean((1, 2, 3))).mean() / 255
    assert found.table[found.table["value"] == "distance"]["after"].item() == pytest.approx(apart, rel=1e-4)
    shown = found.shown[prompts[1].text]
    assert np.array_equal(shown[""], plain[8:12])
    assert np.array_equal(shown["all"], without[8:12])


def test_an_interrupted_ablation_goes_on_and_a_done_one_draws_nothing(
    job: Job, trained: Path, tmp_path: Path, forwards: list[int]
) -> None:
    asked: dict[str, Any] = {"attribute": "gender", "value": "woman", "top": 40, "scale": -20.0, "scorers": [Halves()]}
    whole, uninterrupted = switch_off(job, trained, **asked), sum(forwards)

    def breaking(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    forwards.clear()
    with pytest.raises(KeyboardInterrupt):
        switch_off(job, trained, **asked, drawings=Drawings.open(tmp_path), progress=breaking)
    for left in (uninterrupted - sum(forwards), 0):
        forwards.clear()
        found = switch_off(job, trained, **asked, drawings=Drawings.open(tmp_path))
        assert sum(forwards) == left < uninterrupted
        pd.testing.assert_frame_equal(found.table, whole.table)
    forwards.clear()
    switch_off(job, trained, **{**asked, "scale": -19.0}, drawings=Drawings.open(tmp_path))
    assert forwards, "another edit is drawn"


def test_what_is_not_there_is_not_switched_off(job: Job, trained: Path) -> None:
    for told, message in (
        ({}, "no latents are named"),
        ({"latents": [500]}, "there is no latent 500"),
        ({"latents": [1], "concepts": ["nurs"]}, "no concept 'nurs'. Did you mean 'nurse'"),
        ({"latents": [1], "attribute": "hair"}, "no attribute 'hair'"),
        ({"attribute": "gender", "value": "robot"}, "value 'robot'"),
    ):
        with pytest.raises(ScalexError, match=message):
            switch_off(job, trained, **told)
    with pytest.raises(ScalexError, match="there is nothing to switch off"):
        switch_off(job)
    few = replace(job, seeds=(1, 2))
    with pytest.raises(ScalexError, match="2 seeds cannot carry an interval"):
        switch_off(few, trained, latents=[1])


def test_discovery_gives_the_latents_that_explain_most(job: Job, tmp_path: Path) -> None:
    seen = material(job, Store.open(tmp_path))
    found = discover(seen, 3, np.random.default_rng(0))
    assert [one.direction.name for one in found] == [f"sparse_autoencoder {i}" for i in (1, 2, 3)]
    assert found[0].share >= found[1].share >= found[2].share >= 0
    again = discover(seen, 3, np.random.default_rng(0))
    assert np.array_equal(found[0].direction.vector, again[0].direction.vector)
    with pytest.raises(ScalexError, match="1000 directions were asked for"):
        discover(seen, 1000, np.random.default_rng(0))


def test_discovery_reads_the_store_in_blocks(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One prompt at a time gives what all of them at once give, to the last bit; no more is ever read."""
    whole, parts = (material(job, Store.open(tmp_path)) for _ in range(2))
    whole.latents()
    at_once = discovery.discover(whole, "sparse_autoencoder", 3)
    monkeypatch.setattr(scratch, "_BLOCK", 1)
    monkeypatch.setattr(discovery, "_BLOCKS", 1)
    read, held = Store.read, list[int]()

    def counting(store: Store, recipe: Recipe, prompts: Any, seeds: Any) -> Latents:
        held.append(len(prompts))
        return read(store, recipe, prompts, seeds)

    monkeypatch.setattr(Store, "read", counting)
    for one, other in zip(discovery.discover(parts, "sparse_autoencoder", 3), at_once, strict=True):
        np.testing.assert_array_equal(one.direction.vector, other.direction.vector)
    assert held == [1] * (2 * len(parts.prompts))
    assert len(parts.prompts) > 1


def test_commands_train_and_switch_off(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("concepts: [nurse, pilot]\nattributes: [gender]\ntemplates: ['a photo of a {}']\nguidance: 1.0\n")
    asked = ["--spec", str(spec), "--steps", "2", "--device", "cpu"]
    out = str(tmp_path / "sae")
    told = [str(tiny_folder()), "--out", out, "--seeds", "4", "--training", "20", "--latents", "64", "--k", "4"]
    done = CliRunner().invoke(app, ["train-sae", *told, *asked])
    assert done.exit_code == 0, done.output
    assert "64 latents" in done.output
    assert "gender=woman: latent" in done.output
    told = [out, "--model", str(tiny_folder()), "--latent", "3", "--seeds", "4", "--out", str(tmp_path / "off")]
    told += ["--scorer", f"{__name__}:brightness", "--attribute", "gender"]
    done = CliRunner().invoke(app, ["ablate", *told, *asked])
    assert done.exit_code == 0, done.output
    assert "gender=woman" in done.output
    assert "latents 3" in done.output
    assert (tmp_path / "off" / "ablation.png").is_file()
    bad = CliRunner().invoke(app, ["train-sae", str(tiny_folder()), "--reading", "mind"])
    assert isinstance(bad.exception, ScalexError)


ASKED = {"concepts": ["artist", "pilot"], "attributes": ["gender"], "templates": ["a photo of a {}"], "seeds": 6}


@pytest.fixture(scope="module")
def organism() -> Job:
    return prepare(spec={**ASKED, "first_seed": 1000}, device="cpu")


@pytest.fixture(scope="module")
def gone(organism: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The direction of a pilot's gender, in a file."""
    folder = tmp_path_factory.mktemp("direction")
    found = steering_vectors(organism, Store.open(folder / "store"), "gender", concepts=["pilot"])
    return save_direction(found["pilot"].direction, folder / "gender.safetensors")


def brightness(pictures: np.ndarray) -> np.ndarray:
    return np.asarray(pictures.mean((1, 2, 3)) / 255)


def test_pictures_are_read_by_what_is_named(organism: Job, gone: Path, tmp_path: Path) -> None:
    """The model's own reading says of an organism about what the exact one says; one's own function too."""
    asked: dict[str, Any] = {"directions": [gone], "attribute": "gender"}
    tables = {
        name: switch_off(organism, scorers=name, store=Store.open(tmp_path), **asked).table
        for name in (None, "picture", f"{__name__}:brightness")
    }
    exact, own, function = (
        t.set_index(["off", "prompts", "attribute", "value"])["before"].drop("picture", level="attribute")
        for t in tables.values()
    )
    assert set(exact.index) == set(own.index)
    for group, women in (("gender=woman", 1.0), ("gender=man", 0.0)):
        rows = exact.xs(group, level="prompts").droplevel("off")
        assert rows["gender", "woman"] == women
        assert rows["concept", "own"] >= 0.9, "each picture is asked for its own concept"
    assert (exact - own).abs().max() <= 0.2
    assert set(function.index.get_level_values("attribute")) == {"gender"}
    with pytest.raises(ScalexError, match="the picture reading has no store to learn from"):
        switch_off(organism, scorers="picture", **asked)
    with pytest.raises(ScalexError, match="there is no scorer 'pictures'"):
        switch_off(organism, scorers="pictures", **asked)
