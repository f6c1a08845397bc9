"""CLIP and its kind as scorers, from local weights: a picture shows the value whose words lie nearest to it.

CLIP (Radford et al. 2021, arXiv 2103.00020): cosines of a picture with the mean of each value's texts, times the
model's own temperature, through a softmax over the values.

SigLIP (Zhai et al. 2023, arXiv 2303.15343; SigLIP 2, arXiv 2502.14786) gives every pair of picture and text a
probability of its own, a sigmoid of temperature times cosine plus a bias. Of values of which a picture shows one, the
share of each is its odds over the sum of all odds. Odds are the exponential of what the sigmoid is of, so that this is
the same softmax, in which the bias cancels. Its texts are padded to the full length and not masked, as it was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.special import softmax

from scalex.classifiers import load_network, tensors
from scalex.errors import ScalexError
from scalex.scorers import AttributeScorer, Readouts
from scalex.scorers._calling import Remembered

__all__ = ["ZeroShot", "zero_shot", "zero_shot_readouts"]

_AT_ONCE = 32
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model")


class _Pair:
    """A model of pictures and texts, loaded once; the last pictures' embeddings are remembered."""

    def __init__(self, folder: str | Path, device: str) -> None:
        kind, what = "AutoModelForZeroShotImageClassification", "model of pictures and texts"
        self._model, self._processor = load_network(folder, kind, device, what)
        self._tokenizer = _tokenizer(Path(folder).expanduser())
        masked = not self._model.config.model_type.startswith("siglip")
        self._told = ("input_ids", "attention_mask") if masked else ("input_ids",)
        self.name = f"zero-shot {Path(folder).resolve().name}"
        self.temperature = float(self._model.logit_scale.detach().exp())
        self.pictures: Remembered[Float[np.ndarray, "n dim"]] = Remembered(self._pictures)

    def _pictures(self, pictures: UInt8[np.ndarray, "n height width 3"]) -> Float[np.ndarray, "n dim"]:
        parts = [pictures[i : i + _AT_ONCE] for i in range(0, len(pictures), _AT_ONCE)]
        with torch.inference_mode():
            made = [self._model.get_image_features(**tensors(self._processor, p, self._model)) for p in parts]
        return np.concatenate([_unit(one) for one in made])

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "dim"]:
        """The mean of some texts' embeddings, of length one."""
        length = int(self._model.config.text_config.max_position_embeddings)
        told = self._tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        given = {k: v.to(self._model.device) for k, v in told.items() if k in self._told}
        with torch.inference_mode():
            middle = _unit(self._model.get_text_features(**given)).mean(0)
        return np.asarray(middle / np.linalg.norm(middle))


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in _VOCABULARIES):  # else it is made without a word
        lacks = f"{folder} has no tokenizer: none of {', '.join(_VOCABULARIES)}"
        raise ScalexError(lacks, "Save it beside the model, with `save_pretrained`")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except ImportError as error:  # some are read by libraries of their own
        wrong = f"the tokenizer in {folder} needs a library ({' '.join(str(error).split())[:120]})"
        raise ScalexError(wrong, "Install it: pip install 'sentencepiece' 'protobuf'") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        wrong = f"the tokenizer in {folder} cannot be loaded ({' '.join(str(error).split())[:120]})"
        raise ScalexError(wrong, "Save it again beside the model, with `save_pretrained`") from None


def _unit(features: Any) -> Float[np.ndarray, "n dim"]:
    """Features of length one; newer versions of transformers wrap them."""
    rows = getattr(features, "pooler_output", features).float().cpu().numpy().astype(np.float64)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@dataclass(frozen=True, eq=False)
class ZeroShot:
    """A model of pictures and texts that chooses among words.

    Attributes:
        texts: of each choice, normalised. columns: the choices that are values; others are none of them.
    """

    pair: _Pair = field(repr=False)
    attribute: str
    values: tuple[str, ...]
    texts: Float[np.ndarray, "choices dim"] = field(repr=False)
    columns: tuple[int, ...]

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.pair.name

    def score(self, pictures: UInt8[np.ndarray, "n height width 3"]) -> Float[np.ndarray, "n values"]:
        """Shares; they sum to one where all choices are values."""
        shares = softmax(self.pair.temperature * self.pair.pictures.read(pictures) @ self.texts.T, axis=1)
        return np.asarray(shares[:, list(self.columns)])


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
    return _scorer(_Pair(folder, device), attribute, prompts, tuple(prompts))


def zero_shot_readouts(
    folder: str | Path, prompts: Callable[[str, str], Mapping[str, Sequence[str]]], *, device: str = "cpu"
) -> Readouts:
    """Zero-shot scorers for every concept and attribute, of one loaded model.

    Args:
        prompts: the texts of each value of an attribute as they are said of a concept; of the attribute "concept" those
            of all concepts, among which pictures are to show the one.

    Raises:
        ScalexError: the folder holds no such model.
    """
    pair = _Pair(folder, device)

    def of(concept: str, attribute: str, values: tuple[str, ...]) -> AttributeScorer | None:
        choices = prompts(concept, attribute)
        told = len(choices) > 1 and set(values) <= set(choices)
        return _scorer(pair, attribute, choices, values) if told else None

    return of


def _scorer(
    pair: _Pair, attribute: str, prompts: Mapping[str, str | Sequence[str]], values: tuple[str, ...]
) -> ZeroShot:
    texts = {value: [said] if isinstance(said, str) else list(said) for value, said in prompts.items()}
    if len(texts) < 2 or not all(texts.values()):
        raise ScalexError(f"a zero-shot scorer of {attribute!r} needs texts for two values or more", "Give each one")
    rows = np.array([pair.texts(said) for said in texts.values()])
    return ZeroShot(pair, attribute, values, rows, tuple(list(texts).index(value) for value in values))
