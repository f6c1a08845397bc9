"""Captures against independent ones: whole diffusers pipelines with a plain hook, and readings in plain calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scalex.capture import CaptureStats, Plan, Probe, capture, generate, start_noise
from scalex.errors import ScalexError
from scalex.models import Model, load_model
from scalex.records import Reading
from tiny import interrupting

TEXT = "a photo of a nurse"
SAMPLES = [(text, seed) for text in (TEXT, "a photo of a man pilot", "a dark farmer") for seed in (0, 1, 5)]
Found = dict[Reading, dict[tuple[str, int], np.ndarray]]


def collect(model: Model, samples: Sequence[tuple[str, int]], plan: Plan) -> tuple[Found, CaptureStats]:
    """All latents by reading and sample."""
    found: Found = {}

    def sink(reading: Reading, batch: list[tuple[str, int]], values: np.ndarray) -> None:
        found.setdefault(reading, {}).update(zip(batch, values, strict=True))

    return found, capture(model, samples, plan, sink)


def pipeline(folder: Path) -> StableDiffusionPipeline:
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def hooked_call(folder: Path, text: str, seed: int, guidance: float, steps: int = 3) -> tuple[list[Any], torch.Tensor]:
    """The middle block's outputs and the final latent of a whole pipeline call, by a plain hook."""
    pipe, seen = pipeline(folder), []
    pipe.unet.mid_block.register_forward_hook(lambda module, inputs, output: seen.append(output))
    generator = torch.Generator().manual_seed(seed)
    call = {"num_inference_steps": steps, "guidance_scale": guidance, "output_type": "latent", "generator": generator}
    final = pipe(text, **call).images
    return seen, final


@contextmanager
def calls(model: Model, name: str) -> Iterator[list[str]]:
    """Counts the calls of a part of the U-Net."""
    made: list[str] = []
    part = model._unet.get_submodule(name)  # type: ignore[attr-defined]
    handle = part.register_forward_pre_hook(lambda module, inputs: made.append(name))
    yield made
    handle.remove()


# ------------------------------------------------------------------------------------------------ the text reading
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("scheduler", ["ddim", "lcm"])
def test_text_reading_is_that_of_a_whole_pipeline(
    scheduler: str, guidance: float, tiny_folder: Callable[..., Path]
) -> None:
    folder = tiny_folder(scheduler=scheduler)
    plan = Plan(readings=("text",), steps=3, guidance=guidance, keep="all", pooling="full")
    found, _ = collect(load_model(folder, device="cpu"), SAMPLES, plan)
    for text, seed in (SAMPLES[0], SAMPLES[5]):
        seen, _ = hooked_call(folder, text, seed, guidance)
        expected = np.stack([h[-1].numpy().ravel() for h in seen])  # the half with the prompt comes second
        np.testing.assert_allclose(found["text"][text, seed], expected, rtol=1e-5, atol=1e-5)


def test_nnsight_reads_the_same(ddim: Model, tiny_folder: Callable[..., Path]) -> None:
    nnsight = pytest.importorskip("nnsight")
    pipe = pipeline(tiny_folder())
    pipe.scheduler.set_timesteps(4)
    condition, _ = pipe.encode_prompt(TEXT, "cpu", 1, False)
    noise, at = start_noise(6, (1, 4, 8, 8)), pipe.scheduler.timesteps[0]
    traced = nnsight.NNsight(pipe.unet)
    with torch.no_grad(), traced.trace(noise, at, condition):
        value = traced.mid_block.output.save()
    found, _ = collect(ddim, [(TEXT, 6)], Plan(readings=("text",), guidance=1.0, pooling="full"))
    np.testing.assert_allclose(found["text"][TEXT, 6], value.detach().numpy().reshape(1, -1), rtol=1e-5, atol=1e-6)


def test_a_whole_pipeline_from_given_noise_and_condition_reads_the_same(
    ddim: Model, tiny_folder: Callable[..., Path]
) -> None:
    pipe, seen = pipeline(tiny_folder()), []
    pipe.unet.mid_block.register_forward_hook(lambda module, inputs, output: seen.append(output.mean((2, 3))))
    noise = torch.stack([start_noise(s, ddim.latent_shape) for s in (3, 4)])
    condition, _ = pipe.encode_prompt([TEXT] * 2, "cpu", 1, False)
    pipe(prompt_embeds=condition, latents=noise, num_inference_steps=4, guidance_scale=1.0, output_type="latent")
    plan = Plan(readings=("text",), guidance=1.0, keep=("first", "last"))
    found, _ = collect(ddim, [(TEXT, 3), (TEXT, 4)], plan)
    for i, seed in enumerate((3, 4)):
        expected = np.stack([seen[0][i], seen[-1][i]])
        np.testing.assert_allclose(found["text"][TEXT, seed], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of schedulers in diffusers
@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler"])
def test_other_schedulers_read_as_their_pipeline_does(name: str, tiny_folder: Callable[..., Path]) -> None:
    folder = tiny_folder()
    model = load_model(folder, device="cpu", scheduler=name)
    pipe, seen = pipeline(folder), []
    pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config)
    pipe.unet.mid_block.register_forward_hook(lambda module, inputs, output: seen.append(output))
    pipe(
        TEXT,
        num_inference_steps=4,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(2),
        output_type="latent",
    )
    found, _ = collect(model, [(TEXT, 2)], Plan(readings=("text",), guidance=1.0, keep="all", pooling="full"))
    expected = np.stack([h[0].numpy().ravel() for h in seen])
    np.testing.assert_allclose(found["text"][TEXT, 2], expected, rtol=1e-4, atol=1e-4)


def test_distilled_guidance_is_an_input(tiny_folder: Callable[..., Path]) -> None:
    folder = tiny_folder(scheduler="lcm", time_cond_proj_dim=17)
    model = load_model(folder, device="cpu")
    found, stats = collect(
        model, [(TEXT, 0)], Plan(readings=("text",), steps=3, guidance=8.0, keep="all", pooling="full")
    )
    seen, _ = hooked_call(folder, TEXT, 0, 8.0)
    expected = np.stack([h[0].numpy().ravel() for h in seen])
    np.testing.assert_allclose(found["text"][TEXT, 0], expected, rtol=1e-5, atol=1e-5)
    assert (model.embeds_guidance, model.default_guidance, stats.full) == (True, 8.5, 2)


# --------------------------------------------------------------------------------------------- the picture reading
def picture_reading(
    folder: Path, text: str, seed: int, guidance: float, level: int, scheduler: str = "", steps: int = 3
) -> np.ndarray:
    """The picture reading after every step, in plain diffusers calls and formulas."""
    pipe = pipeline(folder)
    if scheduler:
        pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
    condition, empty = (e.detach() for e in pipe.encode_prompt(text, "cpu", 1, True))
    generator = torch.Generator().manual_seed(seed)
    pipe.scheduler.set_timesteps(steps)
    x = torch.randn((1, 4, 8, 8), generator=generator) * pipe.scheduler.init_noise_sigma
    alphas, rows = pipe.scheduler.alphas_cumprod, []
    seen: list[torch.Tensor] = []
    pipe.unet.mid_block.register_forward_hook(lambda module, inputs, output: seen.append(output))
    for i, t in enumerate(pipe.scheduler.timesteps):
        with torch.no_grad():
            scaled = pipe.scheduler.scale_model_input(x, t)
            with_text, without = pipe.unet(scaled, t, condition).sample, pipe.unet(scaled, t, empty).sample
        output = without + guidance * (with_text - without)
        a = alphas[int(t)]
        x0 = {
            "epsilon": (x - (1 - a).sqrt() * output) / a.sqrt(),
            "v_prediction": a.sqrt() * x - (1 - a).sqrt() * output,
            "sample": output,
        }[pipe.scheduler.config.prediction_type]
        if isinstance(pipe.scheduler, diffusers.LCMScheduler):
            skip, out = pipe.scheduler.get_scalings_for_boundary_condition_discrete(t)
            x0 = out * x0 + skip * x
        if isinstance(pipe.scheduler, diffusers.EulerDiscreteScheduler):  # x = x0 + sigma * noise
            x0 = x - pipe.scheduler.sigmas[i] * output
        drawn = {"generator": generator} if isinstance(pipe.scheduler, diffusers.LCMScheduler) else {}
        x = pipe.scheduler.step(output, t, x, **drawn).prev_sample
        noisy = alphas[level].sqrt() * x0 + (1 - alphas[level]).sqrt() * start_noise(seed, (4, 8, 8), stream=1)
        with torch.no_grad():
            pipe.unet(noisy, level, empty)
        rows.append(seen[-1].mean((2, 3))[0].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("scheduler", ["ddim", "lcm"])
def test_picture_reading_is_that_of_plain_calls(
    scheduler: str, prediction: str, tiny_folder: Callable[..., Path]
) -> None:
    folder = tiny_folder(scheduler=scheduler, prediction=prediction)
    for guidance in (1.0, 3.0):
        plan = Plan(readings=("picture",), steps=3, guidance=guidance, keep="all", level=120)
        found, _ = collect(load_model(folder, device="cpu"), SAMPLES[:4], plan)
        sample = SAMPLES[3]
        expected = picture_reading(folder, *sample, guidance, 120)
        np.testing.assert_allclose(found["picture"][sample], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of schedulers in diffusers
@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler"])
def test_picture_reading_with_schedulers_that_scale_or_do_not_tell_the_clean_latent(
    name: str, tiny_folder: Callable[..., Path]
) -> None:
    plan = Plan(readings=("picture",), steps=4, guidance=2.0, keep="all", level=120)
    found, _ = collect(load_model(tiny_folder(), device="cpu", scheduler=name), [(TEXT, 1)], plan)
    expected = picture_reading(tiny_folder(), TEXT, 1, 2.0, 120, name, steps=4)
    np.testing.assert_allclose(found["picture"][TEXT, 1], expected, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------------------------- what runs, and how often
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize(
    ("readings", "keep", "full", "stopped"),
    [
        (("text",), "first", 0, 1),
        (("text",), "last", 2, 1),
        (("text",), ("first", 1), 1, 1),
        (("picture",), "first", 1, 1),
        (("picture",), "all", 3, 3),
        (("text", "picture"), None, 3, 1),
        (("text", "picture"), {"text": "all", "picture": 1}, 2, 2),
    ],
)
def test_a_forward_stops_at_the_probe_and_nothing_runs_after_it(
    readings: tuple[Reading, ...], keep: Any, full: int, stopped: int, guidance: float, ddim: Model
) -> None:
    plan = Plan(readings=readings, steps=3, keep=keep, guidance=guidance, batch=2)
    with calls(ddim, "up_blocks.0") as up, calls(ddim, "mid_block") as middle:
        _, stats = collect(ddim, SAMPLES[:4], plan)
    assert (len(up), len(middle)) == (2 * full, 2 * (full + stopped))
    each = (full * (1 if guidance == 1 else 2), stopped)
    assert plan.resolve(ddim).forwards == each
    assert (stats.samples, stats.full, stats.stopped, stats.batch) == (4, 4 * each[0], 4 * each[1], 2)


def test_the_counted_operations_are_those_that_run(ddim: Model) -> None:
    plan = Plan(steps=3, guidance=3.0, keep={"text": "all", "picture": ("first", 1)})
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        _, stats = collect(ddim, SAMPLES, plan)
    assert stats.flops(ddim) == counter.get_total_flops()
    each = ddim.flops()
    assert each["stopped"] < 0.5 * each["full"]


def test_each_text_is_encoded_once(ddim: Model) -> None:
    rows: list[int] = []
    encoder = ddim._encoder  # type: ignore[attr-defined]
    handle = encoder.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    _, stats = collect(ddim, [*SAMPLES, *SAMPLES[::-1]], Plan(batch=2))
    handle.remove()
    assert sum(rows) == stats.texts == 4  # three texts and the empty one


# ------------------------------------------------------------------------------------- one sample, whatever the batch
@pytest.mark.parametrize("scheduler", ["ddim", "lcm"])
def test_neither_batch_nor_order_changes_a_latent(scheduler: str, tiny_folder: Callable[..., Path]) -> None:
    model = load_model(tiny_folder(scheduler=scheduler), device="cpu")
    plans = [Plan(guidance=2.0, keep="all", batch=b, pooling="full") for b in (1, 4, 9)]
    mixed = [SAMPLES[i] for i in np.random.default_rng(0).permutation(len(SAMPLES))]
    runs = [collect(model, samples, plan)[0] for plan, samples in zip(plans, (SAMPLES, mixed, SAMPLES[::-1]))]
    for reading, latents in runs[0].items():
        for sample, values in latents.items():
            for other in runs[1:]:
                np.testing.assert_allclose(other[reading][sample], values, rtol=1e-5, atol=1e-5)


def test_noise_depends_on_seed_shape_and_stream_alone() -> None:
    noise = start_noise(3, (4, 8, 8))
    assert torch.equal(noise, torch.randn((4, 8, 8), generator=torch.Generator().manual_seed(3)))
    torch.manual_seed(0)
    assert torch.equal(noise, start_noise(3, (4, 8, 8)))
    others = [start_noise(4, (4, 8, 8)), start_noise(3, (4, 8, 8), 1), start_noise(3, (4, 8, 8), 2)]
    assert all(abs(float((noise * other).mean())) < 0.2 for other in others)
    assert start_noise(0, (100_000,), 1).std() == pytest.approx(1, abs=0.01)


def test_pooling(ddim: Model) -> None:
    found = {
        p: collect(ddim, SAMPLES[:1], Plan(pooling=p))[0]["picture"][SAMPLES[0]] for p in ("full", "mean", "grid:2")
    }
    maps = found["full"].reshape(1, 64, 4, 4)
    np.testing.assert_allclose(found["mean"], maps.mean((2, 3)), rtol=1e-5, atol=1e-6)
    quarters = maps.reshape(1, 64, 2, 2, 2, 2).mean((3, 5)).reshape(1, -1)
    np.testing.assert_allclose(found["grid:2"], quarters, rtol=1e-5, atol=1e-6)
    assert [Plan(pooling=p).width(ddim) for p in found] == [1024, 64, 256]


def test_bf16_reads_about_the_same(ddim: Model, tiny_folder: Callable[..., Path]) -> None:
    exact, _ = collect(ddim, SAMPLES, Plan(pooling="full"))
    rough, _ = collect(load_model(tiny_folder(), device="cpu", dtype="bf16"), SAMPLES, Plan(pooling="full"))
    for reading in exact:
        pairs = [np.stack([exact[reading][s].ravel(), rough[reading][s].ravel()]) for s in SAMPLES]
        assert min(np.corrcoef(pair)[0, 1] for pair in pairs) > 0.99
        assert rough[reading][SAMPLES[0]].dtype == np.float32


# ------------------------------------------------------------------------------------------------------- the pictures
@pytest.mark.parametrize(("scheduler", "guidance"), [("ddim", 3.0), ("lcm", 1.0)])
def test_pictures_are_those_of_the_pipeline_for_the_same_seed(
    scheduler: str, guidance: float, tiny_folder: Callable[..., Path]
) -> None:
    folder = tiny_folder(scheduler=scheduler)
    model = load_model(folder, device="cpu")
    pictures = generate(model, SAMPLES[:5], Plan(steps=3, guidance=guidance, batch=2))
    pipe = pipeline(folder)
    for (text, seed), picture in zip(SAMPLES[:5], pictures):
        call = {"num_inference_steps": 3, "guidance_scale": guidance, "output_type": "np"}
        expected = pipe(text, generator=torch.Generator().manual_seed(seed), **call).images[0]
        assert np.abs(picture / 255 - expected).max() < 1.01 / 255
    assert pictures.shape == (5, 16, 16, 3)
    assert len(np.unique(pictures)) > 50


# ------------------------------------------------------------------------------------------------------- when it fails
def hooks(model: Model) -> int:
    return len(model.probe_module()._forward_hooks)


def test_the_hook_goes_whatever_happens(ddim: Model) -> None:
    def broken(reading: Reading, batch: list[tuple[str, int]], values: np.ndarray) -> None:
        raise KeyboardInterrupt

    collect(ddim, SAMPLES[:2], Plan())
    assert hooks(ddim) == 0
    with pytest.raises(KeyboardInterrupt):
        capture(ddim, SAMPLES, Plan(), broken)
    assert hooks(ddim) == 0


def test_a_probe_that_does_not_fire_once_is_an_error(ddim: Model) -> None:
    empty, noisy = ddim.encode([""]), torch.zeros(1, *ddim.latent_shape)
    with Probe(ddim) as probe:
        with pytest.raises(
            RuntimeError, match=r"did not stop at the probe mid_block \(UNetMidBlock2DCrossAttn\): 0 firings"
        ):
            probe.stop(lambda: noisy)
        with pytest.raises(RuntimeError, match=r"the hook at the probe mid_block .* fired 0 times, not once"):
            probe.read(lambda: noisy)
        with pytest.raises(RuntimeError, match=r"fired 2 times, not once"):
            probe.read(lambda: ddim.predict(ddim.predict(noisy, 1, empty), 1, empty))
    with (
        Probe(ddim, lambda value, step: value[:, :3]) as probe,
        pytest.raises(RuntimeError, match=r"shape \(1, 3, 4, 4\)"),
    ):
        probe.stop(lambda: ddim.predict(noisy, 1, empty), at=0)


def test_a_probe_edits_what_the_forward_goes_on_with(ddim: Model) -> None:
    empty, noisy = ddim.encode([""]), torch.ones(1, *ddim.latent_shape)
    handle = ddim.probe_module().register_forward_hook(lambda module, inputs, output: output * 0.5)
    expected = ddim.predict(noisy, 1, empty)
    handle.remove()
    with Probe(ddim, lambda value, step: value * (0.5 + step)) as probe:
        output, value = probe.read(lambda: ddim.predict(noisy, 1, empty), at=0)
        unedited, _ = probe.read(lambda: ddim.predict(noisy, 1, empty))
    with Probe(ddim) as probe:
        plain = probe.stop(lambda: ddim.predict(noisy, 1, empty))
    assert torch.equal(output, expected)
    assert torch.equal(value, plain * 0.5)
    assert torch.equal(unedited, ddim.predict(noisy, 1, empty))


@pytest.mark.parametrize(
    ("dtype", "way_out"), [("fp32", "weights may be damaged"), ("bf16", "Capture with precision: fp32")]
)
def test_a_latent_that_is_not_finite_is_named_by_prompt_and_seed(
    dtype: str, way_out: str, tiny_folder: Callable[..., Path]
) -> None:
    model = load_model(tiny_folder(), device="cpu", dtype=dtype)
    token = model._parts.tokenizers["tokenizer"].convert_tokens_to_ids("dark</w>")  # type: ignore[attr-defined]
    model._encoder.get_input_embeddings().weight[token] = float("nan")  # type: ignore[attr-defined]
    for plan in (Plan(readings=("text",)), Plan(readings=("picture",))):
        named = (
            f"the {plan.readings[0]} reading of prompt 'a dark farmer', seed 0, is not finite in {dtype}. .*{way_out}"
        )
        with pytest.raises(ScalexError, match=named):
            collect(model, SAMPLES, plan)
    with pytest.raises(ScalexError, match=r"the picture of prompt 'a dark farmer', seed 0, is not finite"):
        generate(model, SAMPLES, Plan())
    assert hooks(model) == 0


@contextmanager
def memory_for(model: Model, most: int) -> Iterator[list[int]]:
    """A U-Net whose device has memory for so many rows only: the real exception, on the real path."""
    tried: list[int] = []

    def check(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        tried.append(len(inputs[0]))
        if len(inputs[0]) > most:
            raise torch.OutOfMemoryError(f"CUDA out of memory: {len(inputs[0])} rows")

    handle = model._unet.conv_in.register_forward_pre_hook(check)  # type: ignore[attr-defined]
    yield tried
    handle.remove()


def test_out_of_memory_halves_the_batch_and_goes_on(ddim: Model) -> None:
    plan = Plan(readings=("text",), batch=9)
    expected, _ = collect(ddim, SAMPLES, plan)
    with memory_for(ddim, 2) as tried:
        found, stats = collect(ddim, SAMPLES, plan)
    assert (tried, stats.batch) == ([9, 4, 2, 2, 2, 2, 1], 2)
    assert list(found["text"]) == SAMPLES
    for sample in SAMPLES:
        np.testing.assert_allclose(found["text"][sample], expected["text"][sample], rtol=1e-5, atol=1e-6)


def test_out_of_memory_while_encoding_encodes_fewer_texts_at_once(ddim: Model) -> None:
    """It would not end if texts that did not fit were taken off the queue."""
    samples = [(f"a {word} cat", seed) for word in ("red", "big", "old", "wet", "shy") for seed in (0, 1)]
    plan, tried = Plan(readings=("text",)), []
    expected, _ = collect(ddim, samples, plan)

    def check(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        tried.append(len(inputs[0]))
        if len(inputs[0]) > 2:
            raise torch.OutOfMemoryError(f"CUDA out of memory: {len(inputs[0])} texts")

    handle = ddim._encoder.register_forward_pre_hook(check)  # type: ignore[attr-defined]
    try:
        found, _ = collect(ddim, samples, plan)
    finally:
        handle.remove()
    assert tried == [1, 5, 2, 2, 1], "the empty prompt, then all, then fewer"
    for sample in samples:
        np.testing.assert_allclose(found["text"][sample], expected["text"][sample], rtol=1e-5, atol=1e-5)


def test_out_of_memory_with_one_sample_is_said(ddim: Model) -> None:
    with (
        memory_for(ddim, 0),
        pytest.raises(ScalexError, match=r"does not suffice for one sample. Use a lower precision"),
    ):
        collect(ddim, SAMPLES, Plan(batch=4))
    assert hooks(ddim) == 0


def test_another_error_of_the_model_is_not_taken_for_a_lack_of_memory(ddim: Model) -> None:
    def fail(module: torch.nn.Module, inputs: Any) -> None:
        raise RuntimeError("the device is on fire")

    handle = ddim._unet.conv_in.register_forward_pre_hook(fail)  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="on fire"):
        collect(ddim, SAMPLES, Plan())
    handle.remove()


def test_a_text_that_is_too_long_is_an_error_or_is_cut(ddim: Model) -> None:
    long = "a photo of " * 5 + "nurse"
    with pytest.raises(
        ScalexError, match=r"a text has 16 tokens, but the model takes 10: 'a photo of .*say truncate: true"
    ):
        collect(ddim, [(long, 0)], Plan(readings=("text",)))
    found, _ = collect(ddim, [(long, 0)], Plan(readings=("text",), truncate=True))
    cut, _ = collect(ddim, [(" ".join(long.split()[:10]), 0)], Plan(readings=("text",)))
    np.testing.assert_array_equal(found["text"][long, 0], next(iter(cut["text"].values())))


def test_batches_that_wait_are_written_at_once_and_in_order(ddim: Model) -> None:
    """The first write waits until all others have been captured."""
    captured, counter, written, told = Event(), count(1), [], []

    def count_forwards(module: torch.nn.Module, inputs: Any) -> None:
        if next(counter) == len(SAMPLES):
            captured.set()

    def sink(reading: Reading, samples: list[tuple[str, int]], values: np.ndarray) -> None:
        assert captured.wait(60)
        assert len(samples) == len(values)
        written.append(samples)

    handle = ddim.probe_module().register_forward_pre_hook(count_forwards)
    capture(ddim, SAMPLES, Plan(readings=("text",), batch=1), sink, lambda done, total: told.append(done))
    handle.remove()
    assert [sample for samples in written for sample in samples] == SAMPLES
    assert len(written) < len(SAMPLES)
    assert told == list(range(1, len(SAMPLES) + 1))


def test_what_was_captured_before_an_error_is_written(ddim: Model) -> None:
    written: list[tuple[str, int]] = []
    plan = Plan(readings=("text",), batch=2)
    with interrupting(ddim, lambda n: n == 4), pytest.raises(KeyboardInterrupt):
        capture(ddim, SAMPLES, plan, lambda reading, samples, values: written.extend(samples))
    assert written == SAMPLES[:6]


def test_a_sink_that_fails_ends_the_capture(ddim: Model) -> None:
    def fail(reading: Reading, samples: list[tuple[str, int]], values: np.ndarray) -> None:
        raise ScalexError("disk full", "Free space")

    with pytest.raises(ScalexError, match="disk full"):
        capture(ddim, SAMPLES, Plan(batch=1), fail)
    assert hooks(ddim) == 0


def test_nothing_to_do_is_no_error(ddim: Model) -> None:
    found, stats = collect(ddim, [], Plan())
    assert (found, stats.samples, stats.full) == ({}, 0, 0)
    assert len(generate(ddim, [], Plan())) == 0


# ----------------------------------------------------------------------------------------------------------- the plan
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"guidance": 0.5}, "guidance is 0.5. It is at least 1"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"readings": ()}, "Choose from text, picture"),
        ({"pooling": "grid:0"}, "unknown pooling 'grid:0'. Choose mean, full or grid:N"),
        ({"pooling": "grid:5"}, "pooling grid:5 is finer than the probe's map of 4 x 4"),
        (
            {"keep": "frist"},
            "the text reading can't keep step 'frist' of 4. Choose first, last, all, or numbers in 0..3",
        ),
        ({"keep": {"picture": [0, 4]}}, "the picture reading can't keep step 4 of 4"),
        ({"keep": []}, "no step is kept for the text reading"),
        ({"level": 1000}, "level is 1000. The model's timesteps are 0..999"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(changes: dict[str, Any], said: str, ddim: Model) -> None:
    with pytest.raises(ScalexError, match=said):
        Plan(**changes).recipes(ddim)


def test_more_steps_than_the_sampler_can_make_are_refused(lcm: Model) -> None:
    with pytest.raises(ScalexError, match=r"LCMScheduler can't make 60 steps .*Choose fewer"):
        Plan(steps=60).recipes(lcm)


def test_kept_steps(ddim: Model) -> None:
    keeps: list[Any] = [None, "all", ("first", "last"), [2, -1, 2], 1]
    resolved = [Plan(keep=keep).resolve(ddim) for keep in keeps]
    assert [(r.text, r.picture) for r in resolved] == [
        ((0,), (3,)),
        ((0, 1, 2, 3), (0, 1, 2, 3)),
        ((0, 3), (0, 3)),
        ((2, 3), (2, 3)),
        ((1,), (1,)),
    ]


def test_a_recipe_holds_all_that_determines_a_latent(ddim: Model, lcm: Model, tiny_folder: Callable[..., Path]) -> None:
    plain = Plan(guidance=2.0)
    recipes = plain.recipes(ddim)
    assert recipes == Plan(guidance=2.0, batch=3).recipes(ddim)
    assert recipes["text"] == Plan(readings=("text",), guidance=2.0, level=50).recipes(ddim)["text"]
    changes: list[dict[str, Any]] = [{"steps": 5}, {"guidance": 3.0}, {"keep": 1}, {"level": 50}, {"pooling": "full"}]
    changed = [Plan(**({"guidance": 2.0} | c)).recipes(ddim)["picture"] for c in [*changes, {"truncate": True}]]
    other = load_model(tiny_folder(), device="cpu", dtype="bf16", size=32)
    ids = {r.id for r in [*recipes.values(), *changed, plain.recipes(lcm)["picture"], plain.recipes(other)["picture"]]}
    assert len(ids) == 10
    assert recipes["text"].sampler.startswith("DDIMScheduler-")
    assert Plan().recipes(ddim)["text"].guidance == 7.5
    assert Plan().recipes(lcm)["text"].guidance == 1.0
