"""What models made of diffusers' parts have in common: texts in, pictures out, what they recommend, what they cost."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import diffusers
import numpy as np
import torch
import transformers
from jaxtyping import Float, UInt8

from scalex.caches import counted
from scalex.errors import ScalexError
from scalex.models._costs import operations, untouched
from scalex.models._files import quiet, weight_files
from scalex.models._layout import Layout
from scalex.models._parts import fuse_lora, load_part, load_scheduler, load_tokenizer, read_advice, require_peft, stem
from scalex.models._placing import at_first_use, blocks, compile_blocks, place, size, stored_dtype, stream
from scalex.models.base import Condition, Model, Options
from scalex.wording import did_you_mean

__all__ = ["Assembled", "Parts", "load_parts"]


class Parts(NamedTuple):
    """The loaded parts of a model, by role: networks (without the autoencoder) and tokenizers; its scheduler, and the
    pipeline of diffusers that encodes its texts."""

    networks: dict[str, Any]
    tokenizers: dict[str, Any]
    scheduler: Any
    pipeline: Any


def load_parts(layout: Layout, options: Options, pipeline: Any, denoiser: Any, *, flow: bool = False) -> Parts:
    """Loads all parts but the autoencoder, and fuses the LoRA.

    Args:
        pipeline, denoiser: classes of diffusers. flow: whether its schedule is one of flow matching.

    Raises:
        ScalexError: a part is missing, pickled, damaged or of an unknown kind, or the LoRA does not fit,
            or lacks its package.
    """
    if layout.lora:
        require_peft()
    networks = {layout.denoiser: _load_denoiser(layout, denoiser, options)}
    for role in layout.encoders:
        networks[role] = load_part(_kind(layout, role), layout.networks[role], role, dtype=options.dtype)
    tokenizers = {role: load_tokenizer(_kind(layout, role), folder) for role, folder in layout.tokenizers.items()}
    scheduler = load_scheduler(layout.scheduler, options.scheduler, flow)
    with quiet():
        pipe = pipeline(**{role: None for role in _taken(pipeline)} | networks | tokenizers | {"scheduler": scheduler})
    if layout.lora:
        fuse_lora(pipe, layout.lora)
    for role in layout.encoders:
        at_first_use(networks[role], options.device)
    place(networks[layout.denoiser], options.device, _precision(denoiser, options))
    return Parts(networks, tokenizers, scheduler, pipe)


def _load_denoiser(layout: Layout, kind: Any, options: Options) -> Any:
    """In the precision that it is stored in, where it can stay on the disk until it is used; else in the one asked."""
    role = layout.denoiser
    folder = layout.networks[role]
    late = _precision(kind, options) is not None and not layout.lora
    dtype = stored_dtype(weight_files(folder, stem(role))[0]) if late else None
    return load_part(kind, folder, role, torch_dtype=dtype or options.dtype)


def _precision(denoiser: Any, options: Options) -> torch.dtype | None:
    """What all of a denoiser's weights are brought to; None where it keeps some of them in fp32, as diffusers knows."""
    return None if getattr(denoiser, "_keep_in_fp32_modules", None) else options.dtype


def _taken(pipeline: Any) -> list[str]:
    """The parts that a pipeline must be given, though it may be None."""
    required, _ = pipeline._get_signature_keys(pipeline)
    return [role for role in required if role != "self"]


def _kind(layout: Layout, role: str) -> Any:
    """The class of a text encoder or tokenizer, as the model's index names it."""
    name = layout.kinds.get(role, "")
    bases = (transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase)
    kind = getattr(transformers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, bases)):
        wrong = f"{layout.folder / 'model_index.json'} names no {role} that transformers has: {name!r}"
        raise ScalexError(wrong, "Download or save the model again")
    return kind


class Assembled(Model):
    """A model made of diffusers' parts. The autoencoder is loaded at its first use: a capture never needs it."""

    consistent_steps = 4  # of few-step models, where they recommend none
    usual = (25, 7.5)  # steps and guidance of others

    def __init__(self, parts: Parts, layout: Layout, options: Options) -> None:
        self.device, self.dtype = options.device, options.dtype
        self.fingerprint = layout.fingerprint()
        self._parts, self._layout = parts, layout
        self._denoiser = parts.networks[layout.denoiser]
        self._scheduler = parts.scheduler
        self._offload, self._streamed = options.offload, set[str]()
        if options.compile:
            compile_blocks(self._denoiser)
        self._vae_config = layout.config("vae")
        self.latent_shape = self._latent_shape(options.size)
        self.embeds_guidance = self._takes_guidance()
        self._recommend(read_advice(layout.advice))

    # ------------------------------------------------------------------------------------------------ of each family

    @abstractmethod
    def _takes_guidance(self) -> bool:
        """Whether the denoiser takes the guidance as an input."""

    @abstractmethod
    def _read_at(self, probe: str | None) -> None:
        """Sets the probe and its shape; None is the family's own.

        Raises:
            ScalexError: there is no such probe.
        """

    @abstractmethod
    def _limits(self) -> Mapping[str, int]:
        """How many tokens the pipeline takes, by tokenizer."""

    # ---------------------------------------------------------------------------------------------------- common

    @property
    def _scale(self) -> int:
        """How many pixels a latent's cell is wide."""
        levels = self._vae_config.get("block_out_channels") or self._vae_config["encoder_block_out_channels"]
        return int(2 ** (len(levels) - 1))

    @property
    def _multiple(self) -> int:
        """Sides of pictures are multiples of so many pixels."""
        return self._scale

    def _latent_shape(self, size: int | None) -> tuple[int, int, int]:
        height, width = self._trained_size()
        if size is not None:
            if size < 1 or size % self._multiple:
                wrong = f"pictures of {size} pixels are not to be had"
                raise ScalexError(wrong, f"Choose a multiple of {self._multiple}")
            height = width = size // self._scale
        return self._channels(), height, width

    def _trained_size(self) -> tuple[int, int]:
        """Height and width of the latents that the model was trained for."""
        trained = self._denoiser.config.sample_size
        height, width = (trained, trained) if isinstance(trained, int) else trained
        return int(height), int(width)

    def _channels(self) -> int:
        return int(self._denoiser.config.in_channels)

    def _is_consistent(self) -> bool:
        """Whether it makes its pictures in few steps, without guidance."""
        return self.embeds_guidance or isinstance(self._scheduler, diffusers.LCMScheduler)

    def _recommend(self, advice: Mapping[str, float]) -> None:
        """What `scalex.json` says; else guidance 8.5 where it is distilled in (as diffusers' LCM pipeline), none for
        other consistent models."""
        steps, guidance = self.usual
        if self._is_consistent():
            steps, guidance = self.consistent_steps, 8.5 if self.embeds_guidance else 1.0
        self.default_guidance, self.default_steps = (
            float(advice.get("guidance", guidance)),
            int(advice.get("steps", steps)),
        )

    def denoiser(self) -> torch.nn.Module:
        """The U-Net or transformer."""
        module: torch.nn.Module = self._denoiser
        return module

    def submodule(self, probe: str) -> torch.nn.Module:
        """A block of the denoiser."""
        return self._denoiser.get_submodule(probe)

    def at(self, probe: str) -> Assembled:
        """Shares all parts; what forwards cost is counted anew."""
        found = copy(self)
        for cost in ("_operations", "_needed"):
            found.__dict__.pop(cost, None)
        found._read_at(probe)
        if hasattr(self, "source"):
            found.source = replace(self.source, probe=probe)
        return found

    def _choose_probe(self, asked: str | None, usual: str) -> str:
        known = self.probes()
        if asked is not None and asked not in known:
            raise ScalexError(f"{self._layout.folder} has no probe {asked!r}", did_you_mean(asked, known, "Probes"))
        return asked or usual

    def new_scheduler(self) -> Any:
        """A fresh scheduler of the model's (or the chosen) kind."""
        return type(self._scheduler).from_config(self._scheduler.config)

    def check_texts(self, texts: Sequence[str], truncate: bool = False) -> None:
        """The tokenizers' counts alone."""
        if truncate:
            return
        distinct = list(dict.fromkeys(texts))
        for role, most in self._limits().items():
            tokenizer = self._parts.tokenizers[role]
            frame = len(tokenizer("").input_ids)
            for text, ids in zip(distinct, tokenizer(distinct, verbose=False).input_ids):
                if len(ids) > most:
                    wrong = f"a text has {len(ids) - frame} tokens, but the model takes {most - frame}: {text!r}"
                    raise ScalexError(wrong, "Shorten it, or say truncate: true")

    def unknown_words(self, texts: Sequence[str]) -> dict[str, list[str]]:
        """Words with an unknown piece, and words that are spelled out letter by letter: no part of them is known. Where
        there are several tokenizers, words that none of them knows."""
        words = list(dict.fromkeys(w for text in texts for w in re.findall(r"[^\W_]+", text)))
        each = [dict(_unknown(tokenizer, words)) for tokenizer in self._parts.tokenizers.values()]
        return {word: pieces for word, pieces in each[0].items() if all(word in other for other in each)}

    @cached_property
    def _vae(self) -> Any:
        # In fp32 always: its fp16 overflows in some models, and pictures are few.
        folder = self._layout.networks["vae"]
        return load_part(self._vae_kind(), folder, "vae", torch_dtype=torch.float32).to(self.device)

    def _vae_kind(self) -> Any:
        return diffusers.AutoencoderKL

    def decode(self, latents: Float[torch.Tensor, "n c h w"]) -> UInt8[np.ndarray, "n height width 3"]:
        """Pictures, rounded as diffusers' image processor rounds them."""
        config = self._vae.config
        clean = latents.to(self.device, self._vae.dtype) / config.scaling_factor + (config.get("shift_factor") or 0.0)
        with torch.no_grad():
            pictures = (self._vae.decode(clean, return_dict=False)[0] / 2 + 0.5).clamp(0, 1)
        return np.asarray((pictures * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu())

    def encode_images(self, pictures: UInt8[np.ndarray, "n height width 3"]) -> Float[torch.Tensor, "n c h w"]:
        """Clean latents in fp32, scaled as the denoiser knows them."""
        values = torch.from_numpy(np.ascontiguousarray(pictures)).to(self.device, self._vae.dtype)
        with torch.no_grad():
            encoded = self._vae.encode(values.permute(0, 3, 1, 2) / 127.5 - 1)
        latent = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latent
        return (latent - (self._vae.config.get("shift_factor") or 0.0)) * self._vae.config.scaling_factor

    # ---------------------------------------------------------------------------------------------------- what it costs

    def flops(self) -> dict[str, int]:
        """Counted by torch's own counter over one sample; attention as plain matrix products on every device."""
        return dict(self._operations)

    @cached_property
    def _operations(self) -> dict[str, int]:
        return self._counted("operations", self._count_operations)

    def _counted(self, what: str, count: Callable[[], dict[str, int]]) -> dict[str, int]:
        """From the disk, where this model was counted before: counting loads its text encoders."""
        if not self.fingerprint:
            return count()
        made_of = [self.fingerprint, self.probe, self.precision, *map(str, self.latent_shape)]
        return counted("costs", [what, *made_of, diffusers.__version__, transformers.__version__], count)

    def _count_operations(self) -> dict[str, int]:
        twin, forward = self._on_paper()
        with torch.device("meta"):
            decoder, clean = self._vae_kind().from_config(self._vae_config), torch.zeros((1, *self.latent_shape))
        return {
            "full": operations(forward),
            "stopped": operations(forward, twin.probe_module()),
            "decode": operations(lambda: decoder.decode(clean, return_dict=False)[0]),
            "encode": operations(lambda: self.encode([""])),
        }

    def weights(self) -> dict[str, int]:
        """Of a stopped forward, without the blocks that it does not come to."""
        return dict(self._needed)

    @cached_property
    def _needed(self) -> dict[str, int]:
        return self._counted("weights", self._count_weights)

    def _count_weights(self) -> dict[str, int]:
        twin, forward = self._on_paper()
        with torch.device("meta"):
            decoder = self._vae_kind().from_config(self._vae_config)
        whole = size([twin._denoiser], self.dtype)
        return {
            "full": whole,
            "stopped": whole - size(untouched(forward, blocks(twin._denoiser), twin.probe_module()), self.dtype),
            "decode": size([decoder], torch.float32),
            "encode": size([self._parts.networks[role] for role in self._layout.encoders], self.dtype),
        }

    def _on_paper(self) -> tuple[Assembled, Callable[[], Any]]:
        """This model with a denoiser without weights, and its forward, which computes nothing."""
        with quiet(), torch.device("meta"):
            denoiser = type(self._denoiser).from_config(self._denoiser.config).to(self.dtype)
        twin, condition = copy(self), self.encode([""])
        twin._denoiser, twin.device = denoiser, torch.device("meta")
        told = Condition({name: part.to("meta") for name, part in condition.parts.items()})
        noisy = torch.zeros((1, *self.latent_shape), device="meta")
        return twin, lambda: twin.predict(noisy, 1, told, self.default_guidance)

    def make_ready(self, whole: bool) -> None:
        """Weights that do not fit on the device (or should not go there) are streamed: first the encoders', which are
        needed once a text, then the denoiser's."""
        if self._offload is False or (self._offload is None and self.device.type != "cuda"):
            return
        needed = self.weights()
        denoiser = needed["full" if whole else "stopped"]
        if self._offload or not self._fits(needed["encode"] + denoiser):
            self._stream(self._layout.encoders)
        if self._offload or not self._fits(denoiser):
            self._stream([self._layout.denoiser])

    def _stream(self, roles: Sequence[str]) -> None:
        for role in roles:
            if role not in self._streamed:
                stream(self._parts.networks[role], self.device)
                self._streamed.add(role)

    def _fits(self, needed: int) -> bool:
        """Whether so many bytes of weights find room on the GPU, beside a fifth for what is computed with them. What
        lies there already counts as room."""
        free, _ = torch.cuda.mem_get_info(self.device)
        unused = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        there = sum(p.nbytes for n in self._parts.networks.values() for p in n.parameters() if p.device.type == "cuda")
        return bool(needed <= 0.8 * (free + unused + there))


def _unknown(tokenizer: Any, words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    for word in words:
        pieces = tokenizer.tokenize(word)
        spelled = [piece for piece in pieces if piece.strip("▁")]
        if tokenizer.unk_token in pieces or (word.isalpha() and len(spelled) >= len(word) > 1):
            yield word, pieces
