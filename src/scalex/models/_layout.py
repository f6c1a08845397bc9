"""Where the parts of a model lie: its own folder, another denoiser's, a LoRA's; and the fingerprint of them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scalex.models._files import config_file, digest, lora_file, read_json, resolve, weight_files
from scalex.models._parts import stem
from scalex.models.base import Options

__all__ = ["Layout", "find_layout"]

_WORDS = ("*.json", "*.txt", "*.model")  # files of a tokenizer


@dataclass(frozen=True)
class Layout:
    """Which folders and files the parts of one model come from.

    Attributes:
        denoiser: the role of its denoiser, "unet" or "transformer". networks: folders by role.
        tokenizers: folders by role. kinds: the classes that the model's index names, by role.
        scheduler: its configuration. advice: the `scalex.json` with recommendations. lora: a file to fuse.
    """

    folder: Path
    denoiser: str
    networks: Mapping[str, Path]
    tokenizers: Mapping[str, Path]
    kinds: Mapping[str, str]
    scheduler: Path
    advice: Path | None
    lora: Path | None

    @property
    def encoders(self) -> list[str]:
        """The roles of its text encoders."""
        return [role for role in self.networks if role.startswith("text_encoder")]

    def config(self, role: str) -> dict[str, Any]:
        """The configuration of a network."""
        return read_json(self.networks[role] / "config.json")

    def fingerprint(self) -> str:
        """Of everything but the scheduler, which the sampler's digest speaks for."""
        files: dict[str, tuple[Path, ...]] = {
            role: (part / "config.json", *weight_files(part, stem(role))[0]) for role, part in self.networks.items()
        }
        for role, part in self.tokenizers.items():
            files[role] = tuple(sorted(p for kind in _WORDS for p in part.glob(kind)))
        files["lora"] = (self.lora,) if self.lora else ()
        return digest(files)


def find_layout(folder: Path, options: Options, denoiser: str, encoders: Sequence[str] = ("",)) -> Layout:
    """The layout of a pipeline's folder.

    Args:
        encoders: the suffixes of its text encoders and tokenizers: "", "_2", "_3". But for the first, those are left
            out that the model's index does not name.
    """
    index = read_json(folder / "model_index.json")
    lora = lora_file(options.lora) if options.lora else None
    own = _find_denoiser(folder, options.unet, denoiser)
    near_lora = [lora.parent] if lora and Path(str(options.lora)).suffix != ".safetensors" else []
    near = [own, own / "scheduler", own.parent / "scheduler"] if options.unet else []
    scheduler = config_file([*near_lora, *near, folder / "scheduler"], "scheduler_config.json")
    advice = config_file([*near_lora, own if options.unet else folder], "scalex.json")
    here = [suffix for suffix in encoders if not suffix or _kind(index, f"text_encoder{suffix}")]
    return Layout(
        folder,
        denoiser,
        {denoiser: own} | {role: folder / role for role in (*(f"text_encoder{s}" for s in here), "vae")},
        {f"tokenizer{suffix}": folder / f"tokenizer{suffix}" for suffix in here},
        {role: kind for role in index if (kind := _kind(index, role))},
        scheduler or folder / "scheduler" / "scheduler_config.json",
        advice,
        lora,
    )


def _kind(index: Mapping[str, Any], role: str) -> str:
    """The class of a part as the index has it; empty where there is none."""
    said = index.get(role)
    return str(said[-1] or "") if isinstance(said, list) and said else ""


def _find_denoiser(folder: Path, name: str | None, denoiser: str) -> Path:
    """The denoiser's own folder: the model's, or that of another by subfolder, folder or hub id."""
    if name is None:
        return folder / denoiser
    found = folder / name if (folder / name).is_dir() else resolve(name)
    return found if (found / "config.json").is_file() else found / denoiser
