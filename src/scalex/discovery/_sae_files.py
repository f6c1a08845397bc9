"""Files of sparse autoencoders, in the layout of SAELens: `cfg.json` and `sae_weights.safetensors`.

SAELens (version 6) loads them by `SAE.load_from_disk(folder)`. A BatchTopK one is there a "jumprelu" one, as SAELens
itself saves it: with a threshold for each latent, here the same for all. What else scalex knows stands in the metadata.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from scalex.direction_files import Direction, Provenance
from scalex.discovery._sae import Kind, SparseAutoencoder
from scalex.disk import disk_errors, write_atomic
from scalex.errors import ScalexError
from scalex.records import READINGS, Reading, Recipe

__all__ = ["Origin", "load_sae", "save_sae"]

_CONFIG, _WEIGHTS = "cfg.json", "sae_weights.safetensors"
_LAYOUT = "6.0.0"  # of SAELens, from which on `cfg.json` looks as it does here
_ARCHITECTURES: dict[str, Kind] = {"topk": "topk", "jumprelu": "batchtopk"}
_ANOTHER = "Name a folder that `scalex train-sae` made"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the vectors come from that a sparse autoencoder was trained on; empty where it is not known.

    Attributes:
        model: fingerprint. probe, pooling: as in `Recipe`. steps: the denoising steps, from 0.
        recipe: id of the recipe of the latents.
    """

    model: str = ""
    probe: str = ""
    pooling: str = "mean"
    reading: Reading = "text"
    steps: tuple[int, ...] = ()
    recipe: str = ""

    @staticmethod
    def of(recipe: Recipe, step: int | None = None) -> Origin:
        """That of a recipe's latents, at one of its kept steps or at all."""
        steps = recipe.keep if step is None else (recipe.keep[step],)
        return Origin(recipe.model, recipe.probe, recipe.pooling, recipe.reading, steps, recipe.id)

    @property
    def grid(self) -> int | None:
        """Side of the grid that vectors were averaged over, 1 for the whole map; None where each position is one."""
        return None if self.pooling == "full" else int(self.pooling[5:]) if self.pooling.startswith("grid:") else 1

    def direction(self, sae: SparseAutoencoder, latent: int) -> Direction:
        """A latent's row of the decoder, of length 1: what it adds at the probe when it is on.

        Raises:
            ScalexError: there is no such latent.
        """
        (latent,) = sae.check_latents([latent])
        step = self.steps[-1] if self.steps else 0
        name, origin = f"sparse_autoencoder {latent}", "sparse_autoencoder"
        of = Provenance(name, origin, self.reading, step, (), self.model, self.probe, "mean", self.recipe)
        return Direction(sae.decoder[latent].double().cpu().numpy(), of)


def save_sae(sae: SparseAutoencoder, folder: str | Path, of: Origin | None = None, **told: Any) -> Path:
    """Writes a sparse autoencoder, in float32. Returns the folder.

    Args:
        of: where its vectors come from. told: what else is to stand in its metadata, such as figures.

    Raises:
        ScalexError: the disk is full or the folder cannot be written to.
    """
    from safetensors.torch import save

    place = Path(folder)
    tensors = {"W_enc": sae.encoder, "b_enc": sae.encoder_bias, "W_dec": sae.decoder, "b_dec": sae.bias}
    if sae.kind == "batchtopk":
        tensors["threshold"] = torch.full_like(sae.encoder_bias, sae.threshold)
    with disk_errors(place, option="--out"):
        place.mkdir(parents=True, exist_ok=True)
        write_atomic(place / _WEIGHTS, save({name: part.float().cpu().contiguous() for name, part in tensors.items()}))
        write_atomic(place / _CONFIG, json.dumps(_config(sae, of or Origin(), told), indent=1) + "\n")
    return place


def _config(sae: SparseAutoencoder, of: Origin, told: dict[str, Any]) -> dict[str, Any]:
    own = {"origin": asdict(of), "kind": sae.kind, "k": sae.k, "prefixes": list(sae.prefixes), **told}
    metadata = {"sae_lens_version": _LAYOUT, "sae_lens_training_version": None, "hook_name": of.probe, "scalex": own}
    return {
        "architecture": "topk" if sae.kind == "topk" else "jumprelu",
        "d_in": sae.width,
        "d_sae": sae.latents,
        **({"k": sae.k, "rescale_acts_by_decoder_norm": False} if sae.kind == "topk" else {}),
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": metadata,
    }


def load_sae(folder: str | Path) -> tuple[SparseAutoencoder, Origin]:
    """Reads a sparse autoencoder, and where its vectors come from. One that SAELens saved is read, too, where it is a
    TopK or a JumpReLU one with one threshold for all latents.

    Raises:
        ScalexError: the folder holds none, it is damaged, or of a kind or with settings that scalex does not know.
    """
    place = Path(folder)
    config = _read_config(place)
    tensors = _read_weights(place)
    width, latents = int(config["d_in"]), int(config["d_sae"])
    shapes = {"W_enc": (width, latents), "b_enc": (latents,), "W_dec": (latents, width), "b_dec": (width,)}
    kind = _ARCHITECTURES[config["architecture"]]
    if kind == "batchtopk":
        shapes["threshold"] = (latents,)
    for name, shape in shapes.items():
        found = tuple(tensors[name].shape) if name in tensors else "absent"
        if found != shape:
            raise ScalexError(f"{name} in {place / _WEIGHTS} is {found}, and {_CONFIG} says {shape}", _ANOTHER)
        if not bool(torch.isfinite(tensors[name]).all()):
            raise ScalexError(f"{name} in {place / _WEIGHTS} holds values that are not finite", "Train it again")
    own = (config.get("metadata") or {}).get("scalex") or {}
    thresholds = tensors.get("threshold", torch.zeros(1))
    if float(thresholds.max() - thresholds.min()) > 0:
        raise ScalexError(f"{place} has a threshold of its own for each latent", "scalex reads those with one for all")
    parts = [tensors[name].float() for name in ("W_enc", "b_enc", "W_dec", "b_dec")]
    k = int(config.get("k") or own.get("k") or latents)
    sae = SparseAutoencoder(
        parts[0], parts[1], parts[2], parts[3], kind, k, float(thresholds[0]), tuple(own.get("prefixes", ()))
    )
    return sae, _origin(place, own.get("origin", {}))


def _read_config(place: Path) -> dict[str, Any]:
    file = place / _CONFIG
    try:
        config: Any = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ScalexError(f"{place} holds no sparse autoencoder: it has no {_CONFIG}", _ANOTHER) from None
    except (OSError, ValueError) as error:
        raise ScalexError(f"{file} cannot be read ({error})", _ANOTHER) from None
    if not isinstance(config, dict) or not {"architecture", "d_in", "d_sae"} <= set(config):
        raise ScalexError(f"{file} does not say what it configures", _ANOTHER)
    if config["architecture"] not in _ARCHITECTURES:
        wrong = f"{place} holds a sparse autoencoder of architecture {config['architecture']!r}"
        raise ScalexError(wrong, f"scalex reads {', '.join(_ARCHITECTURES)}")
    fixed = {"apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none"}
    for name, value in fixed.items():
        if config.get(name, value) != value:
            raise ScalexError(f"{file} says {name}: {config[name]!r}", f"scalex reads those with {value!r}")
    return config


def _read_weights(place: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(place / _WEIGHTS))
    except FileNotFoundError:
        raise ScalexError(f"{place} holds no sparse autoencoder: it has no {_WEIGHTS}", _ANOTHER) from None
    except (SafetensorError, OSError):
        raise ScalexError(f"{place / _WEIGHTS} is damaged", "Train it again") from None


def _origin(place: Path, told: dict[str, Any]) -> Origin:
    reading = told.get("reading", READINGS[0])
    if reading not in READINGS:
        raise ScalexError(f"{place / _CONFIG} names no reading: {reading!r}", f"Readings: {', '.join(READINGS)}")
    try:
        return Origin(**(told | {"steps": tuple(told.get("steps", ()))}))
    except TypeError:
        raise ScalexError(f"{place / _CONFIG} tells more of its origin than scalex knows", "Update scalex") from None
