"""Directions that are found without prompts for them: every method alike, and each against a known answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from typer.testing import CliRunner

from scalex import discovery
from scalex.auditing import analyze, capture_run
from scalex.capture import Plan, capture, generate
from scalex.cli import app
from scalex.direction_files import Direction, Provenance, averaged, load_direction, save_direction
from scalex.discovering import discover_directions
from scalex.discovery import Material, jacobian, pca, sefa
from scalex.errors import ScalexError
from scalex.jobs import prepare
from scalex.models import Model, load_model
from scalex.naming import name_run
from scalex.records import Latents, Prompt
from scalex.steering import Push, check_steers
from scalex.store import Store
from scalex.trajectory import Probe
from scalex.truth.discovery import Match, matches
from tiny_families import FAMILIES, save_family

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of schedulers

METHODS = sorted(discovery.available())
PROMPTS = tuple(Prompt(f"a photo of a {name}", name, "a photo of a {}") for name in ("pilot", "nurse"))
PLAN = Plan(readings=("picture",), steps=2, guidance=1.0, keep="last", pooling="full")
Rng = np.random.Generator


def rng(seed: int = 0) -> Rng:
    return np.random.default_rng(seed)


def material(model: Model, folder: Path, plan: Plan = PLAN, seeds: int = 8) -> Material:
    return Material(model, plan, PROMPTS, tuple(range(seeds)), Store.open(folder / "store"))


@pytest.fixture(scope="module")
def seen(ddim: Model, tmp_path_factory: pytest.TempPathFactory) -> Material:
    return material(ddim, tmp_path_factory.mktemp("seen"))


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Model]:
    made: dict[str, Path] = {}

    def load(name: str, probe: str | None = None) -> Model:
        if name not in made:
            made[name] = save_family(name, tmp_path_factory.mktemp("family") / name)
        return load_model(made[name], device="cpu", probe=probe, size=16)

    return load


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


# ---------------------------------------------------------------------------------------------------- every method


@pytest.mark.parametrize("name", METHODS)
def test_a_method_finds_as_many_directions_as_are_asked_for(name: str, seen: Material, tmp_path: Path) -> None:
    found = discovery.method(name).discover(seen, 3, rng())
    assert len(found) == 3
    for one in found:
        assert one.direction.of.origin == name == discovery.method(name).NAME
        assert one.direction.of.model == seen.model.fingerprint
        assert one.direction.of.probe == seen.model.probe
        assert 0 <= one.share <= 1
        assert np.abs(one.direction.vector).max() > 0
        check_steers(one.direction, seen.model)
        again = load_direction(save_direction(one.direction, tmp_path / "d.safetensors"))
        assert replace(again.of, scalex="", made="") == one.direction.of, "but for where and when it was saved"
    shares = [one.share for one in found]
    assert shares == sorted(shares, reverse=True)
    assert len({one.direction.name for one in found}) == 3
    units = np.stack([one.direction.vector / np.linalg.norm(one.direction.vector) for one in found])
    assert np.abs(units @ units.T - np.eye(3)).max() < 0.999


@pytest.mark.parametrize("name", METHODS)
def test_a_method_finds_the_same_again(name: str, seen: Material) -> None:
    first, second = (discovery.discover(seen, name, 2, seed=3) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.direction.vector, other.direction.vector)
        assert one.share == other.share


@pytest.mark.parametrize("name", METHODS)
def test_what_is_found_is_as_long_as_samples_vary_along_it(name: str, seen: Material) -> None:
    channels = seen.model.probe_shape[0]
    for one in discovery.discover(seen, name, 2):
        vector = one.direction.vector
        values = seen.latents("full").values[:, :, -1].astype(np.float64)
        if len(vector) == channels:
            values = values.reshape(*values.shape[:2], channels, -1).mean(-1)
        along = values @ (vector / np.linalg.norm(vector))
        deviation = (along - along.mean(1, keepdims=True)).std()
        assert np.linalg.norm(vector) == pytest.approx(2 * deviation, rel=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_what_is_found_moves_pictures(name: str, seen: Material) -> None:
    [one] = discovery.discover(seen, name, 1)
    samples = [(PROMPTS[0].text, 0)]
    plain, pushed = (generate(seen.model, samples, seen.plan, steer) for steer in (None, Push(one.direction, 2.0)))
    assert (plain != pushed).any()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("n", [0, -1, discovery.MOST + 1])
def test_a_count_out_of_range_is_one_clear_line(name: str, n: int, seen: Material) -> None:
    with pytest.raises(ScalexError, match=rf"^{n} directions were asked for\. Ask for at least 1; "):
        discovery.discover(seen, name, n)


def test_a_method_that_is_unknown_is_told_the_nearest(seen: Material) -> None:
    with pytest.raises(ScalexError, match=r"there is no method 'pcaa'\. Did you mean 'pca'\?"):
        discovery.discover(seen, "pcaa", 3)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "sparse_autoencoder"])
def test_directions_are_found_at_every_kept_step_of_either_reading(name: str, ddim: Model, tmp_path: Path) -> None:
    plan = replace(PLAN, readings=("text",), keep="all")
    found = discovery.method(name).discover(material(ddim, tmp_path, plan, seeds=4), 2, rng())
    steps = {one.direction.of.step for one in found}
    assert steps == ({1} if name == "sefa" else {0, 1})  # weights know no step
    assert {one.direction.of.reading for one in found} == {"text"}
    assert len({one.direction.name for one in found}) == len(found) == 2 * len(steps)


# -------------------------------------------------------------------------------------------- principal components


def low_rank(prompts: int = 6, seeds: int = 20, width: int = 40, noise: float = 0.01) -> tuple[Latents, np.ndarray]:
    """Samples that seeds move along three axes, 4 : 2 : 1, and prompts a hundred times as far along a fourth."""
    draw = rng(1)
    axes = np.linalg.qr(draw.normal(size=(width, 4)))[0].T
    places = draw.normal(size=(prompts, seeds, 3)) * [4, 2, 1]
    values = places @ axes[:3] + 100 * draw.normal(size=(prompts, 1, 1)) * axes[3]
    values = values + noise * draw.normal(size=values.shape)
    told = tuple(Prompt(f"p{i}", f"p{i}", "{}") for i in range(prompts))
    return Latents(values[:, :, None].astype(np.float32), told, tuple(range(seeds)), (0,), "picture"), axes


def test_components_are_the_axes_that_seeds_move_samples_along_and_not_prompts() -> None:
    latents, axes = low_rank()
    found, shares = pca.components(latents, 3)
    assert [abs(cosine(a, b)) for a, b in zip(found, axes)] == pytest.approx([1, 1, 1], abs=0.02)
    assert shares.sum() == pytest.approx(1, abs=0.001)
    assert shares == pytest.approx(np.array([16, 4, 1]) / 21, abs=0.1)


@pytest.mark.parametrize("size", [1 << 30, 1])  # bytes of a batch: all samples at once, and as few as can be
def test_components_in_batches_are_those_of_all_samples_at_once(size: int) -> None:
    latents, _ = low_rank(prompts=11, noise=0.3)
    values = latents.values[:, :, 0].astype(np.float64)
    centred = (values - values.mean(1, keepdims=True)).reshape(-1, values.shape[-1])
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    found, shares = pca.components(latents, 3, batch=size)
    assert [abs(cosine(a, b)) for a, b in zip(found, axes)] == pytest.approx([1, 1, 1], abs=1e-4)
    assert shares == pytest.approx((lengths**2 / (lengths**2).sum())[:3], rel=1e-3)


def test_batches_are_of_whole_prompts_and_hold_every_sample_once() -> None:
    latents, _ = low_rank(prompts=7)
    sizes = [len(batch) for batch in pca._batches(latents, -1, 40, 1)]
    assert sizes == [40, 40, 60]  # the last prompt alone would be too few samples


def test_more_components_than_samples_give_are_refused(seen: Material) -> None:
    most = len(PROMPTS) * (len(seen.seeds) - 1)
    assert len(pca.discover(seen, most, rng())) == most
    with pytest.raises(ScalexError, match=f"there are at most {most} of so many samples"):
        pca.discover(seen, most + 1, rng())


# ---------------------------------------------------------------------------------------------------- weights


@pytest.fixture
def by_hand(tiny_folder: Callable[..., Path], tmp_path: Path) -> Material:
    """A model in which what reads the middle block is set by hand: no weight but those that a test sets."""
    model = load_model(tiny_folder(), device="cpu")
    resnet: Any = model.denoiser().get_submodule("up_blocks.0.resnets.0")
    with torch.no_grad():
        resnet.conv1.weight.zero_()
        resnet.conv_shortcut.weight.zero_()
    return material(model, tmp_path)


def _set(model: Model, layer: str, rows: dict[int, np.ndarray], first: int = 0) -> None:
    conv: Any = model.denoiser().get_submodule(f"up_blocks.0.resnets.0.{layer}")
    middle = conv.weight.shape[-1] // 2
    with torch.no_grad():
        for output, weights in rows.items():
            numbers = torch.as_tensor(weights, dtype=torch.float32)
            conv.weight[output, first : first + len(weights), middle, middle] = numbers


def centred_in_groups(size: int, group: int, seed: int = 4) -> np.ndarray:
    vector = rng(seed).normal(size=(size // group, group))
    flat = (vector - vector.mean(1, keepdims=True)).ravel()
    return np.asarray(flat / np.linalg.norm(flat))


def test_the_directions_that_layers_by_hand_read_come_in_their_order(by_hand: Material) -> None:
    own, other = centred_in_groups(64, 16), centred_in_groups(64, 16, seed=5)
    other -= own * (other @ own)
    other /= np.linalg.norm(other)
    _set(by_hand.model, "conv1", {0: 3 * own, 1: other})
    _set(by_hand.model, "conv_shortcut", {5: 0.01 * own})  # a layer counts alike, whatever its scale
    for layer in ("conv1", "conv_shortcut"):  # what comes over the skip connection is another's
        _set(by_hand.model, layer, {2: 50 * centred_in_groups(64, 16)}, first=64)
    first, second = sefa.discover(by_hand, 2, rng())
    assert abs(cosine(first.direction.vector, own)) == pytest.approx(1, abs=1e-6)
    assert abs(cosine(second.direction.vector, other)) == pytest.approx(1, abs=1e-6)
    assert (first.share, second.share) == pytest.approx((0.95, 0.05), abs=1e-6)  # of 9 : 1, and of all
    assert first.direction.of.pooling == "mean"
    with pytest.raises(ScalexError, match="there are at most 64 channels at mid_block"):
        sefa.discover(by_hand, 65, rng())


def test_a_norm_takes_the_mean_of_a_group_out(by_hand: Material) -> None:
    _set(by_hand.model, "conv1", {0: np.ones(16)})  # a whole group alike
    matrix = sefa.readers(by_hand.model)["up_blocks.0.resnets.0.conv1"]
    assert np.abs(matrix).max() < 1e-6


def test_readers_give_what_the_layers_give_of_a_value_that_is_the_same_all_over(ddim: Model) -> None:
    resnet: Any = ddim.denoiser().get_submodule("up_blocks.0.resnets.0")
    vector = torch.as_tensor(centred_in_groups(64, 16), dtype=torch.float32)
    value = torch.cat([vector, torch.zeros(64)])[None, :, None, None].expand(1, 128, 5, 5)
    with torch.no_grad():
        scaled = value * resnet.norm1.weight[None, :, None, None]  # its groups have no mean
        given = {"conv1": resnet.conv1(scaled) - resnet.conv1(0 * scaled)}
        given["conv_shortcut"] = resnet.conv_shortcut(value) - resnet.conv_shortcut(0 * value)
    for name, matrix in sefa.readers(ddim).items():
        expected = given[name.rsplit(".", 1)[-1]][0, :, 2, 2].numpy()
        np.testing.assert_allclose(matrix @ vector.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_it_is_known_what_reads_every_probe_of_every_family(name: str, family: Callable[..., Model]) -> None:
    for probe in family(name).probes():
        model = family(name, probe)
        matrices = sefa.readers(model)
        assert matrices
        assert {matrix.shape[1] for matrix in matrices.values()} == {model.probe_shape[0]}
        assert all(np.abs(matrix).max() > 0 for matrix in matrices.values())


# ---------------------------------------------------------------------------------------------------- the Jacobian


@contextmanager
def pushed(model: Model, added: torch.Tensor) -> Iterator[None]:
    """The probe's value with something added, by a hook of the test's own."""

    def add(module: Any, inputs: Any, output: Any) -> Any:
        return model.write_probe(output, model.read_probe(output) + added)

    handle = model.probe_module().register_forward_hook(add)
    with sdpa_kernel(SDPBackend.MATH):
        yield
    handle.remove()


def dense(model: Model, forwards: Sequence[Any]) -> np.ndarray:
    """The Jacobians of the denoiser's output by the probe's value, stacked: backwards from every output."""
    rows = []
    for forward in forwards:
        added = torch.zeros(model.probe_shape, requires_grad=True)
        with pushed(model, added):
            flat = forward().flatten()
        rows.append(torch.autograd.grad(flat, added, torch.eye(len(flat)), is_grads_batched=True)[0].flatten(1))
    return torch.cat(rows).double().numpy()


def _forwards(seen: Material) -> list[Any]:
    return jacobian._forwards(seen, [(prompt.text, 0) for prompt in seen.prompts], seen.recipe().keep[-1])


@pytest.mark.parametrize("reading", ["text", "picture"])
def test_products_are_those_of_the_dense_jacobian_of_a_unet(reading: Any, ddim: Model, tmp_path: Path) -> None:
    seen = material(ddim, tmp_path, replace(PLAN, readings=(reading,)))
    _check_products(seen, _forwards(seen))


def test_products_are_those_of_the_dense_jacobian_of_a_transformer(
    family: Callable[..., Model], tmp_path: Path
) -> None:
    seen = material(family("pixart"), tmp_path)
    _check_products(seen, _forwards(seen))


@pytest.mark.parametrize("name", FAMILIES)
def test_products_are_those_of_differences_in_every_family(
    name: str, family: Callable[..., Model], tmp_path: Path
) -> None:
    seen = material(family(name), tmp_path)
    forwards, vector = _forwards(seen), rng().normal(size=(1, int(np.prod(seen.model.probe_shape))))
    step = 1e-3 * torch.as_tensor(vector[0], dtype=torch.float32).reshape(seen.model.probe_shape)
    ends: list[list[torch.Tensor]] = []
    for side in (step, -step):
        with pushed(seen.model, side), torch.no_grad():
            ends.append([forward().double() for forward in forwards])
    square = sum(float(((a - b) ** 2).sum()) for a, b in zip(*ends)) / 4e-6
    found = jacobian.Products(seen.model, forwards).gram(vector)
    assert float(vector[0] @ found[0]) == pytest.approx(square, rel=0.02)


def _check_products(seen: Material, forwards: list[Any]) -> None:
    whole = dense(seen.model, forwards)
    vectors = rng().normal(size=(11, whole.shape[1]))  # no whole number of what goes at once
    expected = vectors @ whole.T @ whole
    found = jacobian.Products(seen.model, forwards).gram(vectors)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_half_precision_is_as_good_as_half_precision_can_be(
    ddim: Model, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    vectors = rng().normal(size=(3, int(np.prod(ddim.probe_shape)))) / 32
    found = []
    for model in (ddim, load_model(tiny_folder(), device="cpu", dtype="bf16")):
        seen = material(model, tmp_path / model.precision)
        found.append(jacobian.Products(model, _forwards(seen)).gram(vectors))
    assert all(cosine(*pair) > 0.99 for pair in zip(*found))


def test_singular_vectors_are_those_of_the_dense_jacobian(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    small = load_model(tiny_folder(block_out_channels=(8, 8)), device="cpu")
    seen = material(small, tmp_path)
    forwards = _forwards(seen)
    _, lengths, axes = np.linalg.svd(dense(small, forwards), full_matrices=False)
    shares = lengths**2 / (lengths**2).sum()
    products = jacobian.Products(small, forwards)
    found, told = jacobian.subspace(products, 4, rng())
    reached = np.linalg.norm(found @ axes.T * lengths, axis=1) ** 2 / (lengths**2).sum()
    assert told == pytest.approx(shares[:4], rel=0.3)  # the trace is an estimate
    assert reached.sum() > 0.95 * shares[:4].sum()
    assert abs(cosine(found[0], axes[0])) > 0.95
    every, all_shares = jacobian.subspace(products, len(axes[0]), rng())  # nothing is left to chance
    assert all_shares[:20] == pytest.approx(shares[:20], rel=1e-3)
    assert abs(cosine(every[0], axes[0])) > 0.999


@pytest.mark.parametrize("reading", ["text", "picture"])
def test_forwards_are_those_that_latents_are_read_in(reading: Any, ddim: Model, tmp_path: Path) -> None:
    seen = material(ddim, tmp_path, replace(PLAN, readings=(reading,)))
    read: list[np.ndarray] = []
    with Probe(ddim) as probe, torch.no_grad():
        read = [probe.stop(forward).flatten(1).numpy() for forward in _forwards(seen)]
    np.testing.assert_allclose(np.concatenate(read), seen.latents().values[:, 0, 0], atol=1e-4)


def test_the_model_is_left_without_a_hook(seen: Material) -> None:
    jacobian.discover(seen, 1, rng())
    assert not seen.model.probe_module()._forward_hooks
    captured: list[Any] = []
    capture(seen.model, [(PROMPTS[0].text, 0)], seen.plan, lambda *batch: captured.append(batch[-1]))
    np.testing.assert_allclose(captured[0][0, 0], seen.latents().values[0, 0, 0], atol=1e-5)


# ---------------------------------------------------------------------------------------------------- names and files


def test_a_map_as_its_mean_and_what_that_keeps() -> None:
    of = Provenance("d", "pca", "picture", 0, pooling="full", recipe="abc")
    flat, kept = averaged(Direction(np.repeat([1.0, -2.0], 4), of), 2)
    assert (flat.vector.tolist(), kept) == ([1, -2], 1)
    assert (flat.of.pooling, flat.of.recipe) == ("mean", "")
    assert averaged(Direction(np.array([1.0, -1, 1, -1, 3, -3, 0, 0]), of), 2)[1] == 0
    half, kept = averaged(Direction(np.array([2.0, 0, 0, 0]), of), 2)
    assert (half.vector.tolist(), kept) == ([1, 0], 0.5)
    with pytest.raises(ScalexError, match="is 4 wide, which are no maps of 3 channels"):
        averaged(Direction(np.ones(4), of), 3)


SPEC: dict[str, Any] = {
    "concepts": ["pilot", "nurse", "farmer"],
    "attributes": {},
    "templates": ["a photo of a {}"],
    "seeds": 4,
    "steps": 2,
    "guidance": 1.0,
    "analyses": ["naming"],
}


def test_directions_are_found_named_and_saved(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    job = prepare(tiny_folder(), SPEC, device="cpu")
    done = discover_directions(job, tmp_path, ["pca", "sefa"], 3)
    assert done.table["name"].tolist() == ["pca 1", "pca 2", "pca 3", "sefa 1", "sefa 2", "sefa 3"]
    assert done.table["named_as"].tolist() == ["full"] * 3 + ["mean"] * 3
    assert (done.table["nearest"] != "").all()
    for one, row in zip(done.found, done.table.to_dict("records"), strict=True):
        saved = load_direction(tmp_path / row["file"])
        np.testing.assert_allclose(saved.vector, one.direction.vector, rtol=1e-6)
        assert (saved.name, saved.of.origin) == (row["name"], row["method"])
        assert bool(row["words"]) != bool(row["reason"])
    assert len(pd.read_csv(tmp_path / "directions.csv")) == 6
    rows = json.loads((tmp_path / "directions.json").read_text())
    assert [row["share"] for row in rows] == pytest.approx([one.share for one in done.found])


def test_maps_too_large_for_memory_are_named_by_their_means(
    tiny_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCALEX_MEMORY", "0.00001")
    done = discover_directions(prepare(tiny_folder(), SPEC, device="cpu"), tmp_path, ["pca"], 2)
    assert done.table["named_as"].tolist() == ["mean", "mean"]
    assert done.table["in_mean"].between(0, 1).all()


def test_a_file_of_a_map_is_named_in_a_run_of_means(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    job = prepare(tiny_folder(), SPEC, device="cpu")
    analyze(capture_run(job, tmp_path / "run", tmp_path / "store")[0])
    done = discover_directions(job, tmp_path / "found", ["pca"], 1, store=tmp_path / "store")
    [naming] = name_run(tmp_path / "run", direction=tmp_path / "found" / "pca-1.safetensors")
    kept = done.table["in_mean"][0]
    assert naming.direction.name == f"pca 1 (its mean over the map, {kept:.0%} of its squared length)"
    assert naming.n_words == 3


def _told(*options: str) -> Any:
    return CliRunner().invoke(app, ["discover", *options])


def test_the_command_says_what_was_found(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(json.dumps(SPEC))
    options = [str(tiny_folder()), "--spec", str(tmp_path / "spec.yaml"), "--out", str(tmp_path / "out")]
    shown = _told(*options, "--n", "2", "--method", "pca", "--method", "jacobian", "--device", "cpu")
    assert shown.exit_code == 0, shown.output
    assert [line.split("  ")[0] for line in shown.output.splitlines() if "%" in line][-4:] == [
        "pca 1",
        "pca 2",
        "jacobian 1",
        "jacobian 2",
    ]
    assert f"Directions: {tmp_path / 'out' / 'directions.csv'}" in shown.output.replace("\n", "")


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        (["--method", "pcc"], "there is no method 'pcc'. Did you mean 'pca'?"),
        (["--n", "0"], "0 directions were asked for. Ask for at least 1"),
        (["--n", "10000"], "10000 directions were asked for. Ask for at least 1; at most 1024"),
        (["--n", "100"], "100 directions were asked for. Ask for at least 1; there are at most 9 of so many samples"),
        (["--reading", "image"], "there is no reading 'image'. Readings: picture, text"),
        (["--keep", "7"], "the picture reading can't keep step 7 of 2"),
        (["--pooling", "max"], "unknown pooling 'max'"),
    ],
)
def test_a_wrong_option_is_one_clear_line(
    options: list[str], wrong: str, tiny_folder: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "spec.yaml").write_text(json.dumps(SPEC))
    told = [str(tiny_folder()), "--spec", str(tmp_path / "spec.yaml"), "--out", str(tmp_path / "out")]
    error = _told(*told, "--device", "cpu", *options).exception
    assert isinstance(error, ScalexError)
    assert str(error).startswith(wrong)
    assert not list(tmp_path.glob("out/*.safetensors"))


# ---------------------------------------------------------------------------------------------------- against the truth


def variants(width: int = 32, apart: float = 6.0) -> tuple[Latents, dict[str, np.ndarray]]:
    """Roles whose variants lie along an axis of each attribute, in maps of 8 channels and 4 cells."""
    draw = rng(7)
    axes = dict(zip(("gender", "tone"), np.linalg.qr(draw.normal(size=(width, 2)))[0].T))
    told = {"gender": ("man", "woman"), "tone": ("light", "dark")}
    prompts, places = [], []
    for role in ("pilot", "nurse", "cook", "judge"):
        for attribute, values in told.items():
            for value, side in zip(values, (-1, 1)):
                prompts.append(Prompt(f"{value} {role}", role, "{}", attribute, value))
                places.append(side * apart / 2 * axes[attribute])
    values = np.stack(places)[:, None] + draw.normal(size=(len(prompts), 10, width))
    return Latents(values[:, :, None].astype(np.float32), tuple(prompts), tuple(range(10)), (0,), "picture"), axes


def _direction(vector: np.ndarray, pooling: str = "full") -> Direction:
    return Direction(vector, Provenance("d", "given", "picture", 0, pooling=pooling))


def test_a_planted_attribute_is_recovered_by_its_own_axis_alone_whichever_way_it_points() -> None:
    held, axes = variants()
    found = matches([_direction(-5 * axes["gender"]), _direction(rng(9).normal(size=32))], held)
    assert found["gender"].cosine > 0.95
    assert found["gender"].auroc > 0.99
    assert found["tone"].cosine < 0.5
    assert found["tone"].auroc < 0.9


def test_a_direction_of_means_is_held_against_means() -> None:
    held, axes = variants()
    mean = axes["gender"].reshape(8, 4).mean(1)
    found = matches([_direction(mean, "mean")], held)
    assert found["gender"].cosine > 0.9


@pytest.mark.parametrize("pooling", ["full", "mean"])
def test_the_nearest_direction_is_turned_to_the_second_value_and_as_long_as_the_planted_one(pooling: str) -> None:
    held, axes = variants()
    own = axes["gender"] if pooling == "full" else axes["gender"].reshape(8, 4).mean(1)
    found = matches([_direction(rng(9).normal(size=len(own)), pooling), _direction(-5 * own, pooling)], held)
    nearest = found["gender"].nearest
    assert cosine(nearest.vector, own) == pytest.approx(1)
    on_map = np.linalg.norm(np.repeat(nearest.vector, 32 // len(own)))
    assert on_map == pytest.approx(6, rel=0.1)


def test_the_mark_is_reached_by_either_figure() -> None:
    nearest = _direction(np.ones(4))
    assert Match(0.6, 0.5, nearest).reached == Match(0.1, 0.9, nearest).reached == 1
    assert Match(0.59, 0.89, nearest).reached < 1
