"""Edits at the probe: alone, in generations, and in a pipeline that belongs to a user."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, HeunDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel

from scalex.capture import Plan, capture, generate
from scalex.direction_files import Direction, Provenance, save_direction
from scalex.errors import ScalexError
from scalex.models import Model, around
from scalex.steering import MOST, Erase, Push, check_steers, steer, together

COMPILES = pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
TEXT, OTHER = "a photo of a nurse", "a man pilot"
PLAN = Plan(steps=3, guidance=1.0)


def made(vector: np.ndarray, **told: Any) -> Direction:
    of = {"name": "push", "origin": "value", "reading": "text", "step": 0, **told}
    return Direction(vector.astype(np.float64), Provenance(**of))


def pushing(model: Model, seed: int = 0, /, **told: Any) -> Direction:
    return made(np.random.default_rng(seed).normal(size=model.probe_shape[0]), **told)


def pipeline(folder: Path) -> Any:
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def called(pipe: Any, *texts: str, seeds: tuple[int, ...] = (1,), **options: Any) -> np.ndarray:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    asked = {"num_inference_steps": 3, "guidance_scale": 1.0, "output_type": "np", **options}
    return np.asarray(pipe(list(texts or [TEXT]), generator=generators, **asked).images)


def edited(edit: Any, value: torch.Tensor, step: int = 0) -> torch.Tensor:
    return edit(())(value, step)


# ---------------------------------------------------------------------------------------------------- edits


def test_a_pooled_direction_is_spread_over_space() -> None:
    value, vector = torch.zeros(2, 3, 4, 4), np.array([1.0, -2.0, 0.5])
    moved = edited(Push(made(vector, pooling="mean"), 2.0), value)
    assert torch.equal(moved, torch.tensor(2 * vector, dtype=torch.float32)[None, :, None, None].expand(2, 3, 4, 4))


def test_a_grid_of_means_is_spread_over_its_cells_and_a_map_as_it_is() -> None:
    value, grid = torch.zeros(1, 2, 4, 4), np.arange(8.0)
    moved = edited(Push(made(grid, pooling="grid:2")), value)
    back = torch.nn.functional.adaptive_avg_pool2d(moved, 2).flatten()
    assert back.tolist() == grid.tolist()
    whole = np.arange(32.0)
    assert edited(Push(made(whole, pooling="full")), value).flatten().tolist() == whole.tolist()


def test_alpha_zero_gives_the_very_value() -> None:
    value = torch.randn(2, 3, 4, 4)
    assert edited(Push(made(np.ones(3)), 0.0), value) is value


def test_each_image_of_a_batch_may_have_its_own_alpha_also_with_guidance() -> None:
    push = Push(made(np.ones(3)), [1.0, 0.0])
    for repeats in (1, 2):  # with guidance a batch comes twice
        moved = edited(push, torch.zeros(2 * repeats, 3, 2, 2)).mean((1, 2, 3))
        assert moved.tolist() == [1.0, 0.0] * repeats
    by_sample = Push(made(np.ones(3)), {(TEXT, 1): 0.5})
    moved = by_sample([(TEXT, 0), (TEXT, 1)])(torch.zeros(2, 3, 2, 2), 0).mean((1, 2, 3))
    assert moved.tolist() == [0.0, 0.5]
    with pytest.raises(ScalexError, match="there are 2 alphas for a batch of 3 images"):
        edited(push, torch.zeros(3, 3, 2, 2))


def test_an_edit_of_some_steps_leaves_the_others() -> None:
    push, value = Push(made(np.ones(3)), steps=(1,)), torch.zeros(1, 3, 2, 2)
    assert [float(edited(push, value, step).max()) for step in range(3)] == [0.0, 1.0, 0.0]


def test_a_value_may_keep_its_length() -> None:
    value = torch.randn(2, 3, 4, 4)
    moved = edited(Push(made(np.array([3.0, 0.0, 0.0])), 1.0, keep_norm=True), value)
    assert moved.flatten(1).norm(dim=1).numpy() == pytest.approx(value.flatten(1).norm(dim=1).numpy(), rel=1e-5)
    cosine = torch.nn.functional.cosine_similarity(moved.mean((2, 3)) - value.mean((2, 3)), torch.eye(3)[:1])
    assert (cosine > 0.5).all()


def test_an_erased_direction_is_that_of_the_centre() -> None:
    value, vector = torch.randn(3, 4, 2, 2), np.array([1.0, 2.0, 0.0, -1.0])
    gone = edited(Erase(made(vector), centre=np.array([2.0, 0.0, 5.0, 0.0])), value)
    axis = torch.tensor(vector, dtype=torch.float32)
    assert (gone.mean((2, 3)) @ axis).tolist() == pytest.approx([2.0] * 3, abs=1e-5)
    rest = torch.eye(4) - torch.outer(axis, axis) / (axis @ axis)
    torch.testing.assert_close((gone - value).mean((2, 3)) @ rest, torch.zeros(3, 4), atol=1e-5, rtol=0)
    none = edited(Erase(made(vector)), value)
    assert (none.mean((2, 3)) @ axis).tolist() == pytest.approx([0.0] * 3, abs=1e-5)


def test_several_edits_follow_each_other() -> None:
    both = together(Push(made(np.ones(3)), 2.0), Erase(made(np.array([1.0, 0.0, 0.0]))))
    assert edited(both, torch.zeros(1, 3, 1, 1)).flatten().tolist() == [0.0, 2.0, 2.0]


@pytest.mark.parametrize("alpha", [math.nan, math.inf, MOST + 1, [0.0, -MOST - 1]])
def test_an_alpha_that_is_absurd_is_refused(alpha: Any) -> None:
    with pytest.raises(ScalexError, match="alpha is"):
        Push(made(np.ones(3)), alpha)


# ---------------------------------------------------------------------------------------------------- generations


def test_a_steered_generation_is_that_of_a_plain_hook(ddim: Model) -> None:
    direction = pushing(ddim)
    pushed = torch.tensor(3 * direction.vector, dtype=torch.float32)[None, :, None, None]
    handle = ddim.probe_module().register_forward_hook(lambda module, inputs, output: output + pushed)
    expected = generate(ddim, [(TEXT, 1), (OTHER, 2)], PLAN)
    handle.remove()
    assert np.array_equal(generate(ddim, [(TEXT, 1), (OTHER, 2)], PLAN, Push(direction, 3.0)), expected)


def test_alphas_follow_their_samples_through_batches(ddim: Model) -> None:
    samples = [(text, seed) for text in (TEXT, OTHER) for seed in range(3)]
    alphas = {sample: float(i) for i, sample in enumerate(samples)}
    direction = pushing(ddim)
    together_ = generate(ddim, samples, Plan(steps=3, guidance=2.0, batch=4), Push(direction, alphas))
    for sample, picture in zip(samples, together_, strict=True):
        alone = generate(ddim, [sample], Plan(steps=3, guidance=2.0), Push(direction, alphas[sample]))
        assert np.abs(alone[0].astype(int) - picture).max() <= 1


def test_a_picture_is_read_without_the_edit_that_made_it(ddim: Model) -> None:
    """The trajectory of one step is steered, its picture is not: its clean latent alone tells of the edit."""
    found: dict[str, dict[str, np.ndarray]] = {"plain": {}, "steered": {}}
    direction, plan = pushing(ddim), Plan(steps=1, guidance=1.0)
    for name, how in (("plain", None), ("steered", Push(direction, 2.0))):
        capture(ddim, [(TEXT, 1)], plan, lambda r, batch, v, name=name: found[name].update({r: v}), steer=how)
    gone = {reading: found["steered"][reading] - found["plain"][reading] for reading in ("text", "picture")}
    np.testing.assert_allclose(gone["text"][0, 0], 2 * direction.vector, rtol=1e-4, atol=1e-4)
    assert 0 < np.abs(gone["picture"]).max() < 0.5 * np.abs(gone["text"]).max()


# ---------------------------------------------------------------------------------------------------- a user's pipeline


def test_a_pipeline_is_steered_by_a_direction_or_its_file(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    pipe = pipeline(tiny_folder())
    direction = pushing(around(pipe))
    file = save_direction(direction, tmp_path / "push.safetensors")
    found = []
    for given in (direction, file, str(file), [file], Push(direction, 2.0)):
        with steer(pipe, given, 2.0) as same:
            assert same is pipe
            found.append(called(pipe, TEXT, OTHER, seeds=(1, 2), guidance_scale=2.0))
    assert np.abs(found[0] - called(pipe, TEXT, OTHER, seeds=(1, 2), guidance_scale=2.0)).max() > 0.01
    assert all(np.abs(found[0] - other).max() < 1e-4 for other in found[1:])


def test_several_directions_have_an_alpha_each(tiny_folder: Callable[..., Path]) -> None:
    pipe = pipeline(tiny_folder())
    one, two = (pushing(around(pipe), seed) for seed in (1, 2))
    joined = made(one.vector - 0.5 * two.vector)
    with steer(pipe, [one, two], [1.0, -0.5]):
        both = called(pipe)
    with steer(pipe, joined):
        np.testing.assert_allclose(called(pipe), both, atol=1e-4)
    with pytest.raises(ScalexError, match="there are 3 alphas for 2 directions"), steer(pipe, [one, two], [1, 2, 3]):
        pass


def test_directions_of_several_probes_are_each_added_at_their_own(tiny_folder: Callable[..., Path]) -> None:
    pipe = pipeline(tiny_folder())
    own = [pushing(around(pipe, probe=at), probe=at) for at in ("mid_block", "up_blocks.0")]
    with steer(pipe, own, [2.0, -1.0]), steer(pipe, []):
        both = called(pipe)
    with steer(pipe, own[0], 2.0), steer(pipe, own[1], -1.0):
        np.testing.assert_array_equal(called(pipe), both)
    with steer(pipe, own[0], 2.0):
        assert np.abs(called(pipe) - both).max() > 0.01
    with steer(pipe, replace(own[1], of=replace(own[1].of, probe="mid_block")), -1.0), steer(pipe, own[0], 2.0):
        assert np.abs(called(pipe) - both).max() > 0.01, "not where it was found"
    assert not any(module._forward_hooks for module in pipe.unet.modules())


@pytest.mark.parametrize(("scheduler", "guidance"), [("ddim", 1.0), ("ddim", 3.0), ("lcm", 1.0)])
def test_steps_are_counted_anew_for_each_picture(
    tiny_folder: Callable[..., Path], scheduler: str, guidance: float
) -> None:
    pipe = pipeline(tiny_folder() if scheduler == "ddim" else tiny_folder(scheduler="lcm"))
    seen: list[int] = []

    def count(samples: Any) -> Any:
        return lambda value, step: seen.append(step) or value

    with steer(pipe, count):
        for _ in range(2):
            called(pipe, guidance_scale=guidance)
    assert seen == [0, 1, 2, 0, 1, 2]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of the scheduler
def test_a_second_forward_of_a_step_is_of_the_same_step(tiny_folder: Callable[..., Path]) -> None:
    pipe = pipeline(tiny_folder())
    pipe.scheduler = HeunDiscreteScheduler.from_config(pipe.scheduler.config)
    seen: list[int] = []

    def count(samples: Any) -> Any:
        return lambda value, step: seen.append(step) or value

    with steer(pipe, count):
        called(pipe)
    assert seen == [0, 1, 1, 2, 2]


def test_a_pipeline_is_as_it_was_whatever_happens(tiny_folder: Callable[..., Path]) -> None:
    pipe = pipeline(tiny_folder())
    before = called(pipe)

    def broken(*args: Any) -> Any:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"), steer(pipe, pushing(around(pipe)), 3.0):
        called(pipe, callback_on_step_end=broken)
    with steer(pipe, pushing(around(pipe)), 3.0):
        assert not np.array_equal(called(pipe), before)
    assert np.array_equal(called(pipe), before)
    for part in (pipe.unet, pipe.text_encoder, pipe.vae):
        assert not any(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in part.modules())


def test_an_offloaded_pipeline_is_steered(tiny_folder: Callable[..., Path]) -> None:
    pipe, other = pipeline(tiny_folder()), pipeline(tiny_folder())
    direction = pushing(around(pipe))
    with steer(pipe, direction, 2.0):
        expected = called(pipe)
    accelerate.cpu_offload(other.unet, torch.device("cpu"))
    with steer(other, direction, 2.0):
        np.testing.assert_allclose(called(other), expected, atol=1e-5)


@COMPILES
@pytest.mark.parametrize("part", ["unet", "block", "blocks"])
def test_a_compiled_pipeline_is_refused_by_name(tiny_folder: Callable[..., Path], part: str) -> None:
    pipe = pipeline(tiny_folder())
    direction = pushing(around(pipe))
    if part == "unet":
        pipe.unet = torch.compile(pipe.unet)
    else:
        (pipe.unet if part == "blocks" else pipe.unet.mid_block).compile()
    with pytest.raises(ScalexError, match=r"is compiled \(torch.compile\)"), steer(pipe, direction):
        pass


@COMPILES
def test_what_lies_beside_the_probe_may_be_compiled(tiny_folder: Callable[..., Path]) -> None:
    pipe = pipeline(tiny_folder())
    pipe.vae.compile()
    pipe.unet.up_blocks[0].compile()
    assert around(pipe).probe == "mid_block"


# ---------------------------------------------------------------------------------------------------- bad input


def test_a_direction_of_another_model_is_refused_unless_told_otherwise(tiny_folder: Callable[..., Path]) -> None:
    pipe = pipeline(tiny_folder())
    own = around(pipe).fingerprint
    assert len(own) == 64
    with steer(pipe, pushing(around(pipe), model=own, probe="mid_block", pooling="mean")):
        pass
    foreign = pushing(around(pipe), model="0" * 64)
    with pytest.raises(ScalexError, match="was found in another model"), steer(pipe, foreign):
        pass
    with steer(pipe, foreign, check=False):
        pass


def test_a_denoiser_of_elsewhere_makes_another_model(tiny_folder: Callable[..., Path], tmp_path: Path) -> None:
    pipe = pipeline(tiny_folder())
    own = around(pipe).fingerprint
    pipe.unet.save_pretrained(tmp_path)
    with torch.no_grad():
        pipe.unet.conv_out.bias += 1
    pipe.unet.save_pretrained(tmp_path / "other")
    same = StableDiffusionPipeline.from_pretrained(tiny_folder(), unet=UNet2DConditionModel.from_pretrained(tmp_path))
    unet = UNet2DConditionModel.from_pretrained(tmp_path / "other")
    other = StableDiffusionPipeline.from_pretrained(tiny_folder(), unet=unet)
    assert around(other).fingerprint not in ("", own)
    assert around(same).fingerprint != ""


def test_a_pipeline_made_in_memory_is_not_known_and_is_steered(tiny_folder: Callable[..., Path]) -> None:
    pipe = pipeline(tiny_folder())
    unet = UNet2DConditionModel.from_config(dict(pipe.unet.config) | {"_name_or_path": ""})
    fresh = StableDiffusionPipeline(**{**pipe.components, "unet": unet})
    assert around(fresh).fingerprint == ""
    with steer(fresh, pushing(around(pipe), model="0" * 64)):
        pass


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"probe": "up_blocks.0"}, r"is 5 wide"),
        ({"probe": "mid_blocks"}, r"no probe 'mid_blocks'"),
        ({"pooling": "full"}, r"is 5 wide \(its pooling is full, but the probe gives"),
        ({"pooling": "grid:3"}, r"is 5 wide \(its pooling is grid:3"),
    ],
)
def test_a_direction_that_does_not_fit_is_refused(
    tiny_folder: Callable[..., Path], told: dict[str, str], message: str
) -> None:
    pipe = pipeline(tiny_folder())
    with pytest.raises(ScalexError, match=message), steer(pipe, made(np.ones(5), **told)):
        pass


def test_a_direction_of_another_probe_is_refused(ddim: Model) -> None:
    with pytest.raises(ScalexError, match="was found in another probe"):
        check_steers(pushing(ddim, probe="up_blocks.0"), ddim)


def test_what_is_no_pipeline_or_of_no_family_is_refused(tiny_folder: Callable[..., Path]) -> None:
    with pytest.raises(ScalexError, match="a dict is no pipeline of diffusers"), steer({}, made(np.ones(3))):
        pass

    class Strange(DiffusionPipeline):
        def __init__(self, unet: Any) -> None:
            super().__init__()
            self.register_modules(unet=unet)

    pipe = Strange(pipeline(tiny_folder()).unet)
    with pytest.raises(ScalexError, match="no family of scalex reads a Strange"), steer(pipe, made(np.ones(3))):
        pass
