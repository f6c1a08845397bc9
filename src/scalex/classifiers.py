"""Classifiers of images, whoever made them, a callable or a local folder: checked scores of classes for pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, UInt8

from scalex.errors import ScalexError
from scalex.models import quiet
from scalex.models.base import choose_device
from scalex.wording import did_you_mean

__all__ = ["Classifier", "Pictures", "classifier", "load_classifier", "load_network", "of_network", "tensors"]

Pictures: TypeAlias = UInt8[np.ndarray, "n height width 3"]

_BATCH = 32  # pictures that a folder's network sees at once


@dataclass(frozen=True, eq=False)
class Classifier:
    """Gives each picture a score for each class.

    Attributes:
        classes: names in the order of the columns; empty where they are only numbered, from 0.
        unit: what a score is: "probability", or "score" where that is the caller's to know.
    """

    name: str
    score: Callable[[Pictures], Any]
    classes: tuple[str, ...] = ()
    unit: str = "score"

    def __call__(self, pictures: Pictures) -> Float[np.ndarray, "n classes"]:
        """The scores, checked.

        Raises:
            ScalexError: it raises, gives another shape, or numbers that are not finite.
        """
        said = f"classifier {self.name!r}"
        try:
            found = np.asarray(self.score(pictures), dtype=np.float64)
        except ScalexError:
            raise
        except Exception as error:  # whatever a user's code may raise
            wrong = f"{said} failed: {type(error).__name__}: {' '.join(str(error).split())}"
            raise ScalexError(wrong, "Try it alone on an array of pictures, uint8 (n, height, width, 3)") from error
        wanted = f"({len(pictures)}, {len(self.classes) or 'classes'})"
        fits = found.ndim == 2 and len(found) == len(pictures) and found.shape[1] > 0
        if not fits or (self.classes and found.shape[1] != len(self.classes)):
            wrong = f"{said} gave an array of shape {found.shape} for {len(pictures)} pictures"
            raise ScalexError(wrong, f"It must give {wanted}: a row a picture, a column a class")
        if not np.isfinite(found).all():
            raise ScalexError(f"{said} gave scores that are not finite", "Let it give a number for every picture")
        return found

    def column(self, target: str | int, width: int) -> int:
        """The place of a class, by its name or number, among so many.

        Raises:
            ScalexError: there is no such class.
        """
        names = self.classes or tuple(map(str, range(width)))
        if str(target) not in names:
            wrong = f"classifier {self.name!r} has no class {str(target)!r}"
            raise ScalexError(wrong, did_you_mean(str(target), names, "Classes"))
        return names.index(str(target))


def classifier(
    source: Classifier | Callable[[Pictures], Any] | str | Path | object,
    classes: Sequence[str] | None = None,
    device: str | None = None,
) -> Classifier:
    """A classifier from any callable that takes pictures and gives scores (n, classes), or from a folder.

    Args:
        classes: the names of a callable's classes, in the order of its columns; None where it has none.
        device: where a folder's network runs.

    Raises:
        ScalexError: it is neither, or as `load_classifier`.
    """
    if isinstance(source, Classifier):
        return source
    if isinstance(source, str | Path):
        return load_classifier(source, device)
    if not callable(source):
        wrong = f"a {type(source).__name__} is no classifier"
        raise ScalexError(wrong, "Give a function of pictures, or the folder of an image-classification model")
    name = getattr(source, "__name__", type(source).__name__)
    return Classifier(name, source, tuple(classes or ()))


def load_classifier(folder: str | Path, device: str | None = None) -> Classifier:
    """The image-classification model of a local folder in the form of `transformers`; its scores are probabilities.

    Raises:
        ScalexError: the folder is not there, holds another kind of model, or one without a processor or with weights
            that are pickles or damaged.
    """
    network, processor = load_network(folder, "AutoModelForImageClassification", device, "classifier")
    return of_network(Path(folder).expanduser().name, network, processor)


def of_network(name: str, network: Any, processor: Any) -> Classifier:
    """A network of transformers with its processor of images; its scores are probabilities."""

    def score(pictures: Pictures) -> Float[np.ndarray, "n classes"]:
        import torch

        found = []
        with torch.inference_mode():
            for start in range(0, len(pictures), _BATCH):
                given = tensors(processor, pictures[start : start + _BATCH], network)
                found.append(network(**given).logits.float().softmax(-1).cpu().numpy())
        return np.concatenate(found)

    names = network.config.id2label
    return Classifier(name, score, tuple(str(names[i]) for i in range(len(names))), "probability")


def tensors(processor: Any, pictures: Pictures, network: Any) -> dict[str, Any]:
    """What a network's own processor makes of pictures, by argument of the network, on its device."""
    made = processor(images=list(pictures), return_tensors="pt", input_data_format="channels_last")
    on_device = {name: one.to(network.device) for name, one in made.items()}
    return on_device | {"pixel_values": on_device["pixel_values"].to(network.dtype)}


def load_network(folder: str | Path, kind: str, device: str | None, what: str = "model") -> tuple[Any, Any]:
    """A network of transformers from a local folder, and its processor of images. Nothing is fetched.

    Args:
        kind: the class of transformers that loads it. what: it is called in errors.

    Raises:
        ScalexError: as `load_classifier`.
    """
    place = Path(folder).expanduser()
    if not (place / "config.json").is_file():
        absent = "is a file" if place.is_file() else "does not exist"
        lacks = "has no config.json" if place.is_dir() else absent
        wrong = f"the folder of a {what} {place} {lacks}"
        raise ScalexError(wrong, "Give a local folder that `save_pretrained` of transformers wrote")
    with quiet():
        import transformers

        loader = getattr(transformers, kind)
        try:
            config = transformers.AutoConfig.from_pretrained(place, local_files_only=True)
            if type(config) not in loader._model_mapping:
                held = (getattr(config, "architectures", None) or [config.model_type])[0]
                raise ScalexError(f"{place} holds a {held}, which is no {what}", "Give one that is")
            network, loading = loader.from_pretrained(
                place, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
            processor = transformers.AutoImageProcessor.from_pretrained(place, backend="pil", local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            wrong = f"the {what} in {place} cannot be loaded ({str(error).splitlines()[0]})"
            needs = "It needs config.json, model.safetensors and preprocessor_config.json, as `save_pretrained` writes"
            raise ScalexError(wrong, needs) from None
    if loading["missing_keys"]:
        lacks = sorted(loading["missing_keys"])[0]
        raise ScalexError(f"the {what} in {place} lacks weights ({lacks}, ...)", "Save it again once it is trained")
    return network.to(choose_device(device)).eval(), processor
