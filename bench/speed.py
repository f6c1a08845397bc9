"""What does a sample cost? Every way to learn of a concept from one seed, side by side in one run.

    python bench/speed.py                         # the organism, and a model of Stable Diffusion 1.5's size
    python bench/speed.py --size sdxl             # of SDXL's size, at 1,024 pixels
    python bench/speed.py --device cuda --batch 16

    python bench/speed.py --compile               # the text reading with compiled blocks, too
    python bench/speed.py --device cuda --size sd15 --size sdxl --compile     # on a GPU: some minutes

Models of another size have random weights: what a forward costs does not depend on them. Repeats are interleaved, and
each row is their median. A guided step costs what any other does, so that the 50 are measured by two of them. scalex
encodes a text once and keeps it, however many seeds follow; a pipeline's call encodes its texts each time. Then one
stopped and one whole forward are taken apart, by kinds of operations. On CUDA the rate of a matrix product is measured
in the same run. Writes bench/results/speed-DEVICE-SIZE.json; exit code 1 where a mark is missed.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from torch.profiler import ProfilerActivity, profile
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, CLIPVisionConfig, CLIPVisionModelWithProjection

from _results import save
from scalex.capture import Plan, capture
from scalex.models import Model, load_model
from scalex.organisms import EMBEDDED, EMBEDDED_UNET
from scalex.organisms.marks import Mark
from scalex.trajectory import Probe

TEXT = "a photo of a nurse"
GUIDED = 50
BATCHES = {"organism": 256, "sd15": 32, "sdxl": 8}  # on a GPU


def main() -> int:
    """Measures and prints; returns the exit code."""
    asked = _asked()
    marks: list[Mark] = []
    with tempfile.TemporaryDirectory() as cache:
        os.environ["SCALEX_CACHE"] = cache
        for size in asked.size or ["organism", "sd15"]:
            with _model(size, asked.device) as (model, folder):
                marks += _measure(model, folder, size, asked)
    return int(not all(mark.ok for mark in marks))


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", action="append", choices=["organism", "sd15", "sdxl"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, help="samples in a batch; by default what suits the device")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="the text reading with compiled blocks, too")
    return parser.parse_args()


# ------------------------------------------------------------------------------------------------------ the models


@contextmanager
def _model(size: str, device: str) -> Iterator[tuple[Model, Path]]:
    """A model of this size, in bf16 where it is large, and its folder."""
    if size == "organism":
        yield load_model(EMBEDDED, unet=EMBEDDED_UNET, device=device, dtype="fp32"), EMBEDDED
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _save(folder, size)
        yield load_model(folder, device=device, dtype="bf16"), folder


def _save(folder: Path, size: str) -> None:
    """A pipeline with random weights, in bf16 and diffusers' form."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        parts = _sdxl() if size == "sdxl" else _sd15()
    finally:
        torch.set_default_dtype(before)
    kind = diffusers.StableDiffusionXLPipeline if size == "sdxl" else diffusers.StableDiffusionPipeline
    more = (
        {} if size == "sdxl" else {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    )
    kind(**parts, **more).save_pretrained(folder)


def _text(width: int, layers: int, heads: int, projected: bool = False) -> tuple[Any, CLIPTokenizer]:
    tokenizer = CLIPTokenizer.from_pretrained(EMBEDDED / "tokenizer", model_max_length=77)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        projection_dim=width,
        max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    kind = transformers.CLIPTextModelWithProjection if projected else CLIPTextModel
    return kind(config), tokenizer


def _vae() -> Any:
    return diffusers.AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
    )


def _scheduler() -> Any:
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return diffusers.LCMScheduler(**noise, steps_offset=1)


def _sd15() -> dict[str, Any]:
    encoder, tokenizer = _text(768, 12, 12)
    unet = diffusers.UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    return {"unet": unet, "text_encoder": encoder, "tokenizer": tokenizer, "vae": _vae(), "scheduler": _scheduler()}


def _sdxl() -> dict[str, Any]:
    (one, words), (two, more) = _text(768, 12, 12), _text(1280, 32, 20, projected=True)
    unet = diffusers.UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    return {
        "unet": unet,
        "text_encoder": one,
        "text_encoder_2": two,
        "tokenizer": words,
        "tokenizer_2": more,
        "vae": _vae(),
        "scheduler": _scheduler(),
    }


# -------------------------------------------------------------------------------------------------------- the ways


class _Ways:
    """Each way to learn of a concept from a batch of seeds; a call does it once."""

    def __init__(self, model: Model, folder: Path, batch: int) -> None:
        self.model, self.batch, self._folder = model, batch, folder
        unet = (
            {"unet": diffusers.UNet2DConditionModel.from_pretrained(EMBEDDED / EMBEDDED_UNET)}
            if folder == EMBEDDED
            else {}
        )
        self.pipe = diffusers.DiffusionPipeline.from_pretrained(folder, dtype=model.dtype, **unet).to(model.device)
        self.pipe.scheduler = model.new_scheduler()
        self.pipe.set_progress_bar_config(disable=True)
        self.pipe.unet.mid_block.register_forward_hook(lambda module, inputs, output: self._seen.append(output))
        self._seen: list[torch.Tensor] = []
        at = {"device": model.device, "dtype": model.dtype}
        self.judge = CLIPVisionModelWithProjection(CLIPVisionConfig()).to(**at).eval()  # ViT-B/32, as audits use it
        self.pixels = torch.zeros(batch, 3, 224, 224, **at)

    def text(self) -> None:
        """scalex, text reading: one forward that stops at the probe."""
        self._capture(Plan(readings=("text",), guidance=1.0, batch=self.batch))

    def picture(self) -> None:
        """scalex, picture reading of the one-step x0: one whole forward and one that stops."""
        self._capture(Plan(readings=("picture",), steps=1, guidance=1.0, batch=self.batch))

    def hooked(self) -> None:
        """The whole pipeline with a plain hook, one step, without the decoder."""
        self._call(1, 1.0, output="latent")

    def lcm(self) -> None:
        """Generate in four steps, decode, classify."""
        self._call(4, 1.0)
        self._classify()

    def guided(self) -> None:
        """Two guided steps. Of fifty, with decoder and classifier, see `main`."""
        self._call(2, 7.5, output="latent")

    def decoded(self) -> None:
        """The decoder and the classifier alone."""
        latents = torch.zeros(self.batch, *self.model.latent_shape, device=self.model.device, dtype=self.model.dtype)
        with torch.inference_mode():
            self.pipe.vae.decode(latents)
        self._classify()

    def nnsight(self) -> None:
        """nnsight on the U-Net: a whole forward whose middle block is saved."""
        import nnsight

        shape = (self.batch, *self.model.latent_shape)
        noise = torch.zeros(shape, device=self.model.device, dtype=self.model.dtype)
        states = self.model.encode([TEXT]).expand(self.batch)["states"]
        traced = nnsight.NNsight(self.pipe.unet)
        with torch.inference_mode(), traced.trace(noise, 500, states):
            traced.mid_block.output.mean((2, 3)).save()

    def compiled(self) -> None:
        """As `text`, with compiled blocks."""
        self._capture(Plan(readings=("text",), guidance=1.0, batch=self.batch), self._compiled)

    @cached_property
    def _compiled(self) -> Model:
        own = {"unet": EMBEDDED_UNET} if self._folder == EMBEDDED else {}
        return load_model(self._folder, device=self.model.device, dtype=self.model.dtype, compile=True, **own)

    def _capture(self, plan: Plan, model: Model | None = None) -> None:
        samples = [(TEXT, seed) for seed in range(self.batch)]
        capture(model or self.model, samples, plan, lambda reading, batch, values: np.isfinite(values).all())

    def _call(self, steps: int, guidance: float, output: str = "np") -> None:
        self._seen.clear()
        generators = [torch.Generator().manual_seed(seed) for seed in range(self.batch)]
        told = {
            "num_inference_steps": steps,
            "guidance_scale": guidance,
            "output_type": output,
            "generator": generators,
        }
        self.pipe([TEXT] * self.batch, **told)
        assert len(self._seen) == steps

    def _classify(self) -> None:
        with torch.inference_mode():
            self.judge(self.pixels)


def _measure(model: Model, folder: Path, size: str, asked: argparse.Namespace) -> list[Mark]:
    """All ways, interleaved; prints the table and writes it."""
    batch = asked.batch or (BATCHES[size] if model.device.type == "cuda" else 8 if size == "organism" else 1)
    ways = _Ways(model, folder, batch)
    more = [*(["nnsight"] if size != "sdxl" else []), *(["compiled"] if asked.compile else [])]
    names = ["text", "picture", "hooked", "lcm", "guided", "decoded", *more]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(asked.repeats + 1):  # the first warms up
        for name in names:
            took = _timed(getattr(ways, name), model.device)
            if turn:
                seconds[name].append(took / batch)
    each = {name: statistics.median(took) for name, took in seconds.items()}
    each["fifty"] = each["guided"] / 2 * GUIDED + each["decoded"]
    told = _told(model, size, batch, asked.repeats, each) | {"profile": _profile(model, batch)}
    marks = _marks(each, size, model.device.type) + _of_the_device(told)
    rows = {name: {"seconds": took, "times": took / each["text"]} for name, took in each.items()}
    print(f"\n{size}, {model.device}, {model.precision}, batch {batch}, median of {asked.repeats}")
    for name, row in rows.items():
        print(f"  {name:8} {row['seconds']:10.4f} s a sample  {row['times']:8.1f} x the text reading")
    for kind, (stopped, whole) in told["profile"].items():
        print(f"  {kind:12} {stopped:8.4f} s of a stopped forward, {whole:8.4f} s of a whole: {whole / stopped:5.2f} x")
    save(f"speed-{model.device.type}-{size}", told | {"rows": rows}, marks, str(model.device))
    return marks


def _timed(way: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    way()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _marks(each: dict[str, float], size: str, device: str) -> list[Mark]:
    where = f"speed, {size} on {device}"
    text, picture = each["text"], each["picture"]
    asked = [3, 15, 200, 4, 60] if size != "organism" else [None] * 5  # there the classifier outweighs the model
    marks = [
        Mark(f"{where}: text reading against a whole pipeline with a hook", each["hooked"] / text, asked[0]),
        Mark(f"{where}: text reading against four steps, decoded and classified", each["lcm"] / text, asked[1]),
        Mark(f"{where}: text reading against fifty guided steps", each["fifty"] / text, asked[2]),
        Mark(f"{where}: picture reading against four steps, decoded and classified", each["lcm"] / picture, asked[3]),
        Mark(f"{where}: picture reading against fifty guided steps", each["fifty"] / picture, asked[4]),
    ]
    if "compiled" in each:
        marks.append(
            Mark(f"{where}: compiled text reading against a whole pipeline", each["hooked"] / each["compiled"])
        )
    if "nnsight" in each:
        marks.append(Mark(f"{where}: text reading against nnsight", each["nnsight"] / text))
    return marks


def _of_the_device(told: dict[str, Any]) -> list[Mark]:
    """What part of a matrix product's rate the text reading reaches, where that was measured."""
    if "matmul_tflops" not in told:
        return []
    name = f"speed, {told['size']} on cuda: text reading's rate against a matrix product's"
    return [Mark(name, told["tflops"] / told["matmul_tflops"], 0.5 if told["size"] == "sd15" else None)]


def _told(model: Model, size: str, batch: int, repeats: int, each: dict[str, float]) -> dict[str, Any]:
    cuda = model.device.type == "cuda"
    flops = model.flops()
    told = {
        "size": size,
        "precision": model.precision,
        "batch": batch,
        "repeats": repeats,
        "gflop": {name: n / 1e9 for name, n in flops.items()},
        "tflops": flops["stopped"] / min(each["text"], each.get("compiled", math.inf)) / 1e12,
    }
    return told | ({"matmul_tflops": _matmul_rate(model)} if cuda else {})


KINDS = {
    "attention": ("scaled_dot_product", "flash", "softmax", "bmm"),
    "convolution": ("conv", "cudnn"),
    "linear": ("addmm", "aten::mm", "gemm", "matmul", "linear"),
    "norm": ("norm",),
}


def _profile(model: Model, batch: int) -> dict[str, tuple[float, float]]:
    """Seconds a sample that a stopped and a whole forward spend on each kind of operation, by torch's profiler."""
    condition = model.encode([TEXT]).expand(batch)
    noisy, at = torch.zeros(batch, *model.latent_shape, device=model.device), torch.tensor(999)
    spent: list[dict[str, float]] = []
    with Probe(model) as probe, torch.inference_mode():
        for way in (probe.stop, probe.read):
            way(lambda: model.predict(noisy, at, condition))
            activities = [ProfilerActivity.CUDA if model.device.type == "cuda" else ProfilerActivity.CPU]
            with profile(activities=activities) as seen:
                way(lambda: model.predict(noisy, at, condition))
                if model.device.type == "cuda":
                    torch.cuda.synchronize()
            spent.append(_by_kind(seen.key_averages(), model.device.type, batch))
    return {kind: (spent[0][kind], spent[1][kind]) for kind in [*KINDS, "other"]}


def _by_kind(events: Any, device: str, batch: int) -> dict[str, float]:
    found = dict.fromkeys([*KINDS, "other"], 0.0)
    for event in events:
        took = event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
        name = event.key.lower()
        kind = next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "other")
        found[kind] += took / 1e6 / batch
    return found


def _matmul_rate(model: Model) -> float:
    """TFLOP/s of a large matrix product in the model's precision: what this device can do at best."""
    n = 8192
    a = torch.randn(n, n, device=model.device, dtype=model.dtype)
    took = [_timed(lambda: a @ a, model.device) for _ in range(20)]
    return 2 * n**3 / min(took) / 1e12


if __name__ == "__main__":
    sys.exit(main())
