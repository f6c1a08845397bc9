"""CLIP and its kind as scorers, from local weights: a picture shows the value whose words lie nearest to it.

Radford et al. (2021, arXiv 2103.00020): cosines of a picture with the mean of each value's texts, times the model's own
temperature, through a softmax over the values. SigLIP (Zhai et al. 2023, arXiv 2303.15343) works alike: the bias that
it adds to every cosine is the same for all values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from scalex.errors import ScalexError
from scalex.scorers._calling import softmax
from scalex.scorers._local import loaded, pixels

__all__ = ["ZeroShot", "zero_shot"]

_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class ZeroShot:
    """A model of pictures and texts that chooses among values.

    Attributes:
        texts: of each value, normalised. temperature: what cosines are multiplied with.
    """

    model: Any = field(repr=False)
    processor: Any = field(repr=False)
    attribute: str
    values: tuple[str, ...]
    texts: Float[np.ndarray, "values width"] = field(repr=False)
    temperature: float
    name: str

    def score(self, pictures: UInt8[np.ndarray, "n height width 3"]) -> Float[np.ndarray, "n values"]:
        """Shares that sum to one."""
        parts = [self._embedded(pictures[i : i + _AT_ONCE]) for i in range(0, len(pictures), _AT_ONCE)]
        return softmax(self.temperature * np.concatenate(parts) @ self.texts.T)

    def _embedded(self, pictures: UInt8[np.ndarray, "n height width 3"]) -> Float[np.ndarray, "n width"]:
        with torch.inference_mode():
            return _unit(self.model.get_image_features(pixel_values=pixels(self.processor, pictures, self.model)))


def zero_shot(
    folder: str | Path, attribute: str, prompts: Mapping[str, str | Sequence[str]], *, device: str = "cpu"
) -> ZeroShot:
    """A zero-shot scorer from the folder of a CLIP or SigLIP model, as `save_pretrained` leaves it.

    Args:
        attribute: that is told. prompts: the texts of each value, such as {"man": ["a photo of a man", "a man"], ...};
            their embeddings are averaged.

    Raises:
        ScalexError: the folder holds no such model, or a value has no text.
    """
    texts = {value: [said] if isinstance(said, str) else list(said) for value, said in prompts.items()}
    if len(texts) < 2 or not all(texts.values()):
        raise ScalexError(f"a zero-shot scorer of {attribute!r} needs texts for two values or more", "Give each one")
    model, processor, tokenizer = loaded(Path(folder), "AutoModel", device, tokenizer=True)
    if not hasattr(model, "get_image_features") or not hasattr(model, "logit_scale"):
        raise ScalexError(f"{folder} holds a {type(model).__name__}, not a model of pictures and texts", "Take a CLIP")
    rows = [_mean(_texts(model, tokenizer, said)) for said in texts.values()]
    temperature, name = float(model.logit_scale.detach().exp()), f"zero-shot {Path(folder).resolve().name}"
    return ZeroShot(model, processor, attribute, tuple(texts), np.array(rows), temperature, name)


def _texts(model: Any, tokenizer: Any, texts: Sequence[str]) -> Float[np.ndarray, "texts width"]:
    length = int(model.config.text_config.max_position_embeddings)
    told = tokenizer(list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    given = {k: v.to(model.device) for k, v in told.items() if k in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        return _unit(model.get_text_features(**given))


def _unit(features: Any) -> Float[np.ndarray, "n width"]:
    """Features of length one; newer versions of transformers wrap them."""
    rows = getattr(features, "pooler_output", features).float().cpu().numpy().astype(np.float64)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _mean(rows: Float[np.ndarray, "texts width"]) -> Float[np.ndarray, "width"]:
    middle = rows.mean(0)
    return np.asarray(middle / np.linalg.norm(middle))
